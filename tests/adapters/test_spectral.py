"""Spectral shifts: the paper's counts on SD 1.5, every form equal to the dense formula, exact zeros, exact limits."""

import json

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from pipelines.adapters import spectral
from pipelines.adapters.core import injected, merged
from pipelines.adapters.spectral import SUBSETS, Shift, Spectral, float_count, shifted_weights
from pipelines.adapters.spectrum import Spectra, decompose, matrix
from pipelines.config import ASSETS
from tests.tolerances import assert_close

PAPER = {  # tensors, floats: METHODS 4.7, the paper's table of subsets
    "UNet": (391, 322_856),
    "UNet-CA": (64, 43_776),
    "UNet-CA-KV": (32, 18_816),
    "UNet-1D": (109, 100_160),
    "UNet-2D": (184, 140_416),
    "UNet-4D": (98, 82_280),
    "Up-Blocks": (219, 181_568),
    "Down-Blocks": (141, 107_072),
    "Mid-Block": (26, 32_256),
    "Up-CA": (36, 23_808),
    "Down-CA": (24, 15_872),
    "Mid-CA": (4, 4_096),
}


@pytest.fixture(scope="module")
def sd15_unet() -> nn.Module:
    config = json.loads((ASSETS / "sd1_config" / "unet" / "config.json").read_text())
    with torch.device("meta"):
        return UNet2DConditionModel.from_config(config)


@pytest.mark.parametrize("subset", SUBSETS)
def test_the_papers_counts_on_sd15(sd15_unet, subset):
    found = shifted_weights(sd15_unet, subset)
    assert (len(found), float_count(sd15_unet, subset)) == PAPER[subset]


def test_the_text_encoders_count_on_sd15():
    with torch.device("meta"):
        text_encoder = CLIPTextModel(CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
                                                    num_attention_heads=12, vocab_size=49_408))  # fmt: skip
    assert float_count(text_encoder) == 75_341


def layers() -> dict[str, tuple[nn.Module, torch.Tensor, tuple[str, ...]]]:
    """A layer, an input, and the forms that are exact for it."""
    generator = torch.Generator().manual_seed(3)
    wide, tall = nn.Linear(24, 10), nn.Linear(10, 24, bias=False)
    kernel, pointwise, strided = nn.Conv2d(6, 8, 3, padding=1), nn.Conv2d(12, 5, 1), nn.Conv2d(4, 6, 3, 2, 1)
    tokens = torch.randn(2, 7, 24, generator=generator)
    return {
        "wide": (wide, tokens, ("output", "branch")),
        "tall": (tall, tokens[..., :10], ("input", "branch")),
        "kernel": (kernel, torch.randn(2, 6, 5, 5, generator=generator), ("output", "branch")),
        "pointwise": (pointwise, torch.randn(2, 12, 4, 4, generator=generator), ("output", "branch")),
        "strided": (strided, torch.randn(2, 4, 6, 6, generator=generator), ("output", "branch")),
        "rows": (nn.Embedding(30, 9), torch.tensor([[1, 5, 5], [29, 0, 3]]), ("rows",)),
    }


def shift_of(layer: nn.Module, form: str, delta: torch.Tensor) -> Shift:
    factors = decompose(layer.get_parameter("weight"))
    found = Shift(layer, nn.Parameter(delta), form, factors)
    gain = spectral._gain(factors.values, found.parameter)
    found.gain = gain / factors.values if form in ("output", "input") else gain
    return found


@pytest.mark.parametrize("name", layers())
def test_every_form_is_the_dense_formula_with_the_same_gradient(name):
    layer, x, forms = layers()[name]
    for parameter in layer.parameters():
        parameter.requires_grad_(False)
    weight = layer.get_parameter("weight")
    factors = decompose(weight)
    delta = torch.randn(len(factors.values), generator=torch.Generator().manual_seed(1))
    dense_delta = nn.Parameter(delta.clone())
    built = (factors.left * torch.relu(factors.values + dense_delta)) @ factors.right
    state = dict(layer.named_parameters()) | {"weight": built.view(weight.shape)}
    expected = torch.func.functional_call(layer, state, (x,))
    expected.square().sum().backward()
    for form in forms:
        shift = shift_of(layer, form, delta.clone())
        actual = spectral.FORWARDS[form](shift, x)
        assert_close(actual, expected.detach())
        actual.square().sum().backward()
        assert_close(shift.parameter.grad, dense_delta.grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", layers())
@torch.no_grad()
def test_zero_shift_is_the_layer_itself_bit_for_bit(name, dtype):
    layer, x, forms = layers()[name]
    layer.to(dtype)
    x = x.to(dtype) if x.is_floating_point() else x
    expected = layer(x)
    for form in forms:
        shift = shift_of(layer, form, torch.zeros(min(matrix(layer.get_parameter("weight")).shape)))
        actual = spectral.FORWARDS[form](shift, x)
        assert torch.equal(actual, expected)
        assert not shift.gain.any()


@torch.no_grad()
def test_limits_of_the_shift(base):
    key = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    adapter = Spectral(subset="UNet-2D")
    with injected(adapter, base):
        shift = adapter._shifts[key]
        values = shift.factors.values
        own = shift.layer._parameters["weight"]
        shift.parameter.copy_(-values)
        adapter.materialise()
        assert shift.layer.weight.abs().max() < 1e-5
        gone = shift.layer.weight.clone()
        shift.parameter.copy_(-3 * values)
        adapter.materialise()
        assert torch.equal(shift.layer.weight, gone)
        shift.parameter.copy_(0.5 * values)
        adapter.materialise()
        assert_close(shift.layer.weight, 1.5 * own)
    assert "weight" not in shift.layer.__dict__


@torch.no_grad()
def test_strength_scales_the_shift_inside_the_relu(base):
    adapter = Spectral(subset="Mid-CA")
    with injected(adapter, base):
        for shift in adapter._shifts.values():
            shift.parameter.copy_(-2 * shift.factors.values)
    key = next(iter(adapter._shifts))
    factors = adapter._shifts[key].factors
    half = dict(adapter.changes(base, 0.25))[f"{key}.weight"]
    assert_close(half, -0.5 * (factors.left * factors.values) @ factors.right)
    full = dict(adapter.changes(base, 1.0))[f"{key}.weight"]
    assert_close(full, -((factors.left * factors.values) @ factors.right))


def test_a_truncated_rank_moves_only_the_first_values(base):
    adapter = Spectral(subset="UNet-4D", rank=3)
    with injected(adapter, base):
        assert {len(parameter) for parameter in adapter.parameters()} <= {3}


def test_decompositions_are_kept_and_read_again(base, tmp_path, monkeypatch):
    key = "unet.mid_block.resnets.0.conv1"
    first = Spectra(base, tmp_path).factors(key)
    monkeypatch.setattr(spectral, "decompose", None, raising=False)
    monkeypatch.setattr("pipelines.adapters.spectrum.decompose", lambda weight: pytest.fail("was kept"))
    again = Spectra(base, tmp_path).factors(key)
    assert torch.equal(first.left, again.left)
    assert torch.equal(first.values, again.values)


@torch.no_grad()
def test_a_spectral_run_and_a_lora_together_equal_their_merged_sum(base):
    from tests.adapters.test_contract import ROWS, predict, trained

    shifts, low = trained(ROWS["spectral"], base, seed=1), trained(ROWS["lora-conv-text"], base, seed=2)
    with injected(low, base), injected(shifts, base):
        live = predict(base)
    with injected(shifts, base), injected(low, base):
        assert_close(predict(base), live)
    with merged(base, [(shifts, 1.0), (low, 1.0)]):
        assert_close(predict(base), live)
