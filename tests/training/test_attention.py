"""Recorded cross-attention: the same output, maps in the autograd graph, also with checkpointing, and full cleanup."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from pipelines.adapters import LoRA, Spectral
from pipelines.adapters.core import Adapter, injected
from pipelines.config import LoopConfig
from pipelines.models.base import Base
from pipelines.training.attention import (
    attention_in_regions,
    cross_attention_layers,
    recorded_attention,
    unmix_loss,
)
from pipelines.training.loop import Batch, Denoising, Step, train

MIDDLE = "mid_block.attentions.0.transformer_blocks.0.attn2"
LAYERS = (MIDDLE, "up_blocks.1.attentions.0.transformer_blocks.0.attn2")
CONFIG = LoopConfig(steps=2, seed=5, batch_size=2, accumulation=1)
LATENTS = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(1))
MASKS = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(2))

ADAPTERS: dict[str, Callable[[], Adapter]] = {
    "lora": lambda: LoRA(rank=2, targets="attention", seed=5),
    "spectral": lambda: Spectral(subset="UNet-CA"),
    "spectral-all": lambda: Spectral(),
}


@pytest.fixture(autouse=True)
def processors(base: Base) -> Iterator[dict[str, object]]:
    """Every test must leave the attention processors unchanged."""
    before = dict(base.unet.attn_processors)
    yield before
    assert all(base.unet.attn_processors[name] is processor for name, processor in before.items())


@contextmanager
def checkpointed(base: Base, *, on: bool) -> Iterator[None]:
    if on:
        base.unet.enable_gradient_checkpointing()
    try:
        yield
    finally:
        base.unet.disable_gradient_checkpointing()


def predict(base: Base) -> Tensor:
    contexts = base.encode_prompts(["a dog", "a photo of a cat", "a", "b"])
    return base.unet(LATENTS, torch.tensor([40, 700, 3, 500]), contexts, return_dict=False)[0]


def disturbed(make: Callable[[], Adapter], base: Base) -> Adapter:
    adapter, generator = make(), torch.Generator().manual_seed(0)
    with injected(adapter, base), torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return adapter


def batches(index: int, generator: torch.Generator) -> Batch:
    groups = {"instance": slice(0, 2), "prior": slice(2, 4)}
    return Batch(LATENTS, torch.zeros(4, 77, 0), groups, extra={"mask": MASKS, "row": torch.arange(4)})


@torch.no_grad()
@pytest.mark.parametrize("make", ADAPTERS.values(), ids=ADAPTERS)
def test_the_output_equals_the_fused_attention(make: Callable[[], Adapter], base: Base) -> None:
    with injected(disturbed(make, base), base):
        fused = predict(base)
        with recorded_attention(base.unet, cross_attention_layers(base.unet)) as maps:
            recorded = predict(base)
    torch.testing.assert_close(recorded, fused, rtol=1e-5, atol=1e-5)
    assert sorted(maps) == sorted(cross_attention_layers(base.unet))
    assert len(maps) == 16
    heads = base.unet.get_submodule(MIDDLE).heads
    assert maps[MIDDLE].shape == (4, heads, 1, base.context)
    for found in maps.values():
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.sum(-1), torch.ones(found.shape[:-1]))


@torch.no_grad()
def test_a_map_is_the_softmax_of_queries_and_keys(base: Base) -> None:
    layer = base.unet.get_submodule(MIDDLE)
    seen: dict[str, Tensor] = {}
    hooks = [
        part.register_forward_hook(lambda module, args, out, name=name: seen.update({name: out}))
        for name, part in (("q", layer.to_q), ("k", layer.to_k))
    ]
    with recorded_attention(base.unet, [MIDDLE]) as maps:
        predict(base)
    for hook in hooks:
        hook.remove()
    width = seen["q"].shape[-1] // layer.heads
    for head in range(layer.heads):
        part = slice(head * width, (head + 1) * width)
        scores = seen["q"][..., part] @ seen["k"][..., part].mT / width**0.5
        torch.testing.assert_close(maps[MIDDLE][:, head], scores.softmax(-1))


def backward(base: Base) -> None:
    """Backpropagate a loss on the maps and the prediction, so that both use the same checkpointed block."""
    with recorded_attention(base.unet, LAYERS) as maps:
        noise_pred = predict(base)
        weights = torch.linspace(0, 1, base.context)
        (
            noise_pred.square().mean() + sum(each.mean((0, 1, 2)) @ weights for each in maps.values())
        ).backward()


@pytest.mark.parametrize("make", ADAPTERS.values(), ids=ADAPTERS)
def test_gradients_reach_the_adapter_alike_with_and_without_checkpointing(
    make: Callable[[], Adapter], base: Base
) -> None:
    adapter = disturbed(make, base)
    forwards = []

    def gradients(*, checkpointing: bool) -> list[Tensor]:
        for parameter in adapter.parameters():
            parameter.grad = None
        adapter.materialise()
        layer = base.unet.get_submodule(MIDDLE)
        counted = layer.register_forward_pre_hook(lambda *call: forwards.append(checkpointing))
        with checkpointed(base, on=checkpointing):
            backward(base)
        counted.remove()
        return [parameter.grad.clone() for parameter in adapter.parameters() if parameter.grad is not None]

    with injected(adapter, base):
        plain, again = gradients(checkpointing=False), gradients(checkpointing=True)
    assert forwards == [False, True, True], "checkpointing runs the layer's forward twice"
    assert len(plain) == len(again) == len(adapter.parameters())
    for one, other in zip(plain, again, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_loss_on_maps_alone_moves_the_queries_and_keys_before_it(base: Base, checkpointing: bool) -> None:
    adapter = disturbed(ADAPTERS["lora"], base)
    with injected(adapter, base), checkpointed(base, on=checkpointing):
        with recorded_attention(base.unet, [MIDDLE]) as maps:
            predict(base)
            (maps[MIDDLE][..., 1].mean()).backward()
        moved = {
            name
            for name, parameter in adapter._named_parameters().items()
            if parameter.grad is not None and parameter.grad.any()
        }
    assert f"unet.{MIDDLE}.to_k.lora_A.weight" in moved
    assert f"unet.{MIDDLE}.to_q.lora_B.weight" in moved
    assert "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_v.lora_A.weight" in moved
    assert not any(".to_v." in name and MIDDLE in name for name in moved)


@torch.no_grad()
def test_processors_come_back_after_an_exception(base: Base) -> None:
    with pytest.raises(RuntimeError, match="inside"), recorded_attention(base.unet, [MIDDLE]):
        raise RuntimeError("inside")
    with pytest.raises(ValueError, match=r"no cross-attention layer 'mid_block\.attn9'"):
        recorded_attention(base.unet, [MIDDLE, "mid_block.attn9"]).__enter__()


# ---- in the training loop -----------------------------------------------------------------------------------------


def steps(
    base: Base, config: LoopConfig, loss: Callable, adapter: Adapter, **options: Callable
) -> list[Step]:
    prompts = base.encode_prompts(["a dog", "a photo of a cat", "a", "b"])
    with injected(adapter, base):
        return list(
            train(
                base,
                adapter,
                lambda index, generator: dataclasses.replace(batches(index, generator), prompts=prompts),
                loss,
                config,
                **options,
            )
        )


def attention_loss(denoising: Denoising, adapter: Adapter, config: LoopConfig) -> dict[str, Tensor]:
    """A loss that aligns attention with the mask; ``extra`` and the maps have the rows of the micro-batch."""
    rows = denoising.extra["row"]
    assert torch.equal(denoising.extra["mask"], MASKS[rows])
    assert torch.equal(denoising.latents, LATENTS[rows])
    terms = {"noise": (denoising.noise_pred - denoising.noise).square().mean()}
    if denoising.attention:
        assert list(denoising.attention) == [LAYERS[1]]
        maps = denoising.attention[LAYERS[1]]
        assert len(maps) == len(rows)
        terms["attention"] = (maps[..., 1].mean((1, 2)) * denoising.extra["mask"].mean((1, 2, 3))).mean()
    return terms


def test_extra_and_maps_are_split_with_the_micro_batches(base: Base) -> None:
    told = []
    for batch_size, accumulation in ((2, 1), (1, 2)):
        config = dataclasses.replace(CONFIG, batch_size=batch_size, accumulation=accumulation)
        done = steps(
            base,
            config,
            attention_loss,
            ADAPTERS["lora"](),
            attention_layers=lambda config, index: LAYERS[1:],
        )
        told.append([step.terms for step in done])
        assert all(step.terms.keys() == {"noise", "attention"} for step in done)
    for whole, split in zip(*told, strict=True):
        assert split == pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize("make", [ADAPTERS["lora"], ADAPTERS["spectral"]], ids=["lora", "spectral"])
def test_a_run_with_an_attention_loss_is_the_same_under_checkpointing(
    make: Callable[[], Adapter], base: Base
) -> None:
    states = []
    for checkpointing in (False, True):
        adapter = make()
        config = dataclasses.replace(CONFIG, gradient_checkpointing=checkpointing)
        steps(base, config, attention_loss, adapter, attention_layers=lambda config, index: LAYERS[1:])
        states.append(adapter.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-4, atol=1e-6)


def test_only_the_steps_that_ask_for_maps_change_a_processor(
    base: Base, processors: dict[str, object]
) -> None:
    seen = []

    def watching(denoising: Denoising, adapter: Adapter, config: LoopConfig) -> dict[str, Tensor]:
        seen.append([name for name, own in base.unet.attn_processors.items() if own is not processors[name]])
        return attention_loss(denoising, adapter, config)

    def second_step(config: LoopConfig, index: int) -> tuple[str, ...]:
        assert config is CONFIG
        return LAYERS[1:] if index == 1 else ()

    steps(base, CONFIG, watching, ADAPTERS["lora"](), attention_layers=second_step)
    steps(base, CONFIG, watching, ADAPTERS["lora"]())
    assert seen == [[], [f"{LAYERS[1]}.processor"], [], []]


def test_a_failing_loss_gives_the_processors_back(base: Base) -> None:
    def failing(denoising: Denoising, adapter: Adapter, config: LoopConfig) -> dict[str, Tensor]:
        raise RuntimeError("the loss failed")

    with pytest.raises(RuntimeError, match="the loss failed"):
        steps(base, CONFIG, failing, ADAPTERS["lora"](), attention_layers=lambda config, index: LAYERS)


def halves(count: int) -> Tensor:
    regions = torch.zeros(count, 2, 8, 8)
    regions[:, 0, :, :4] = regions[:, 1, :, 4:] = 1
    return regions


def looking(left: list[float], right: list[float]) -> dict[str, Tensor]:
    """Maps of two layers, (1, 2, positions, 3): token t has attention left[t] (left half) and right[t] (right half)."""
    maps = {}
    for side in (2, 8):
        across = torch.tensor([left, right]).repeat_interleave(side // 2, dim=0)  # (side, T)
        maps[f"layer-{side}"] = across.repeat(side, 1).expand(1, 2, -1, -1)
    return maps


def test_the_share_of_a_region_is_the_same_for_layers_of_every_size() -> None:
    inside, whole = attention_in_regions(looking([0.3, 0.1, 0.0], [0.1, 0.1, 0.2]), halves(1))
    assert whole[0].tolist() == pytest.approx([0.2, 0.1, 0.1])
    assert (inside / whole.unsqueeze(1))[0].T.flatten().tolist() == pytest.approx(
        [0.75, 0.25, 0.5, 0.5, 0, 1]
    )


def test_the_unmix_term_asks_for_the_own_half_and_not_for_attending_nowhere() -> None:
    tokens = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]])

    def penalty(left: list[float], right: list[float]) -> float:
        return float(unmix_loss(looking(left, right), regions=halves(1), tokens=tokens))

    assert penalty([0.4, 0.9, 0.1], [0.4, 0.0, 0.1]) == pytest.approx(0.25), "undecided: half is astray"
    assert penalty([0.04, 0.9, 0.01], [0.04, 0.0, 0.01]) == pytest.approx(0.25), (
        "attending less gains nothing"
    )
    assert penalty([0.3, 0.9, 0.05], [0.1, 0.0, 0.15]) == pytest.approx(0.0625)
    assert penalty([0.4, 0.0, 0.0], [0.0, 0.9, 0.1]) == 0
    assert penalty([0.0, 0.0, 0.1], [0.4, 0.9, 0.0]) == pytest.approx(1)


def test_pictures_without_tokens_do_not_count_in_the_unmix_term() -> None:
    maps = looking([0.3, 0.1, 0.1], [0.1, 0.1, 0.1])
    maps = {name: looks.repeat(2, 1, 1, 1) for name, looks in maps.items()}
    tokens = torch.zeros(2, 2, 3)
    tokens[0, 0, 0] = 1
    assert float(unmix_loss(maps, regions=halves(2), tokens=tokens)) == pytest.approx(0.0625)
    assert float(unmix_loss(maps, regions=halves(2), tokens=torch.zeros(2, 2, 3))) == 0
