"""LoRA: the layers it targets, its parameter count on Stable Diffusion 1.5, and its initial state."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from pipelines.adapters import LoRA
from pipelines.adapters.core import injected


class MetaBase:
    """The layer shapes of Stable Diffusion 1.5 on the meta device (no weights are allocated)."""

    hash = "meta"

    def __init__(self) -> None:
        with torch.device("meta"):
            self.unet = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8, sample_size=64)
            self.text_encoder = CLIPTextModel(
                CLIPTextConfig(
                    hidden_size=768,
                    intermediate_size=3072,
                    num_hidden_layers=12,
                    num_attention_heads=12,
                    bos_token_id=0,
                    eos_token_id=1,
                    pad_token_id=1,
                )
            )

    def module(self, prefix: str) -> torch.nn.Module:
        return getattr(self, prefix)


@pytest.fixture(scope="module")
def sd15() -> MetaBase:
    return MetaBase()


@pytest.mark.parametrize(
    ("lora", "layers", "numbers"),
    [
        (LoRA(rank=1), 128, 199_296),
        (LoRA(rank=4), 128, 797_184),
        (LoRA(rank=1, targets="attention+conv"), 278, 1_050_816),
        (LoRA(rank=1, text_encoder_rank=1), 128 + 48, 199_296 + 73_728),
    ],
    ids=["attention", "attention rank 4", "attention+conv", "with text encoder"],
)
def test_counts_on_stable_diffusion(sd15, lora, layers, numbers):
    lora.inject(sd15).remove()
    assert len(lora.scales()) == layers
    assert sum(parameter.numel() for parameter in lora.parameters()) == numbers


def test_the_embedded_base_is_reached_in_the_same_places(base, sd15):
    for targets in ("attention", "attention+conv"):
        small, large = LoRA(rank=1, targets=targets), LoRA(rank=1, targets=targets)
        small.inject(base).remove()
        large.inject(sd15).remove()
        assert list(small.scales()) == list(large.scales())


def test_the_start_is_gaussian_and_owned_by_the_seed(base):
    state = torch.random.get_rng_state()
    one, same, other = (LoRA(rank=4, targets="attention+conv", seed=seed) for seed in (3, 3, 4))
    for lora in (one, same, other):
        lora.inject(base).remove()
    assert torch.equal(torch.random.get_rng_state(), state), "the global generator was read"
    first, again, another = (lora.state_dict() for lora in (one, same, other))
    downs = torch.cat([value.flatten() for name, value in first.items() if "lora_A" in name])
    assert float(downs.std()) == pytest.approx(1 / 4, rel=0.02)
    assert all(not value.any() for name, value in first.items() if "lora_B" in name)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert any(not torch.equal(value, another[name]) for name, value in first.items())


def test_alpha_scales_by_the_layers_own_rank(base):
    ranks = {"unet.mid_block.resnets.0.conv1": 2, "unet.conv_out": 8}
    lora = LoRA(ranks=ranks, alpha=4)
    lora.inject(base).remove()
    assert lora.scales() == {"unet.mid_block.resnets.0.conv1": 2.0, "unet.conv_out": 0.5}
    plain = LoRA(rank=2)
    plain.inject(base).remove()
    assert set(plain.scales().values()) == {1.0}


def test_a_convolutions_change_is_the_product_over_the_rank(base):
    lora = LoRA(ranks={"unet.conv_in": 3}, alpha=6)
    with injected(lora, base), torch.no_grad():
        down, up = lora.parameters()
        up.normal_(generator=torch.Generator().manual_seed(0))
    ((name, change),) = lora.changes(base)
    assert name == "unet.conv_in.weight"
    torch.testing.assert_close(change, 2.0 * torch.einsum("orxy,rikl->oikl", up, down))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"rank": 0}, "rank must lie"),
        ({"rank": 5000}, "rank must lie"),
        ({"targets": "all"}, "targets must be"),
    ],
)
def test_impossible_settings_are_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        LoRA(**settings)


def test_a_broken_header_is_refused():
    with pytest.raises(ValueError, match="does not describe a LoRA"):
        LoRA.from_header({"rank": "4"})


@torch.no_grad()
def test_a_dense_lora_is_the_whole_change(base):
    """B is ΔW itself, so it moves every entry, and only B is trained and stored."""
    dense = LoRA(targets="attention", dense=True)
    with injected(dense, base):
        for seed, parameter in enumerate(dense.parameters()):
            parameter.normal_(generator=torch.Generator().manual_seed(seed))
    state, changes = dense.state_dict(), dict(dense.changes(base))
    assert all(name.endswith("lora_B.weight") for name in state)
    assert {name: value.shape for name, value in changes.items()} == {
        name: base.unet.get_parameter(name.removeprefix("unet.")).shape for name in changes
    }
    for name, value in state.items():
        assert torch.equal(changes[name.replace(".lora_B", "")], value)
    assert sum(value.numel() for value in state.values()) == sum(value.numel() for value in changes.values())
