"""Every adapter fulfils the contract of adapters/core.py. A new adapter adds one row to the table."""

import dataclasses
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest
import torch

from pipelines.adapters import Concept, Continual, Full, LoRA, Spectral, Subspace, Words
from pipelines.adapters.core import Adapter, base_parameter, injected, merged, save_adapter, suspended
from pipelines.adapters.registry import load_adapter
from pipelines.models.base import Base, load_base
from pipelines.weightspace.space import Space
from tests.tolerances import assert_close
from tests.weightspace.synthetic import synthetic_space

ROWS: dict[str, Callable[[], Adapter]] = {
    "lora": lambda: LoRA(rank=2, seed=1),
    "lora-conv-text": lambda: LoRA(rank=3, alpha=6, targets="attention+conv", text_encoder_rank=2),
    "lora-chosen": lambda: LoRA(
        ranks={"unet.mid_block.resnets.0.conv1": 2, "unet.down_blocks.0.attentions.1.proj_in": 5}
    ),
    "lora-dense": lambda: LoRA(dense=True),
    "full": lambda: Full(),
    "full-text": lambda: Full(text_encoder=True),
    "spectral": lambda: Spectral(),
    "spectral-text": lambda: Spectral(text_encoder=True),
    "words": lambda: Words(words="dog cat"),
    "continual": lambda: Continual(concepts=[Concept("zwx", rank=2)]),
    "spectral-part": lambda: Spectral(subset="UNet-2D", rank=4),
    "subspace": lambda: Subspace.of(_space()),
    "subspace-part": lambda: Subspace.of(_space(), components=4),
}


@cache
def _space() -> Space:
    return synthetic_space(load_base("embedded", device="cpu"))


LATENTS = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
TIMESTEPS = torch.tensor([40, 700])

every_adapter = pytest.mark.parametrize("make", ROWS.values(), ids=ROWS.keys())


def predict(base: Base) -> torch.Tensor:
    """Return the base's noise prediction for one fixed input; the text encoder is included."""
    contexts = base.encode_prompts(["a dog", "a photo of a cat"], grad=torch.is_grad_enabled())
    return base.unet(LATENTS.to(base.dtype), TIMESTEPS, contexts, return_dict=False)[0]


def disturb(adapter: Adapter, *, seed: int = 0) -> None:
    """Add small noise to every parameter, as training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))


def trained(make: Callable[[], Adapter], base: Base, *, seed: int = 0) -> Adapter:
    adapter = make()
    with injected(adapter, base):
        disturb(adapter, seed=seed)
    return adapter


def names(base: Base) -> list[str]:
    return [name for part in (base.unet, base.text_encoder) for name, _ in part.named_modules()]


@pytest.fixture(scope="module")
def untouched(base: Base) -> torch.Tensor:
    with torch.no_grad():
        return predict(base)


@every_adapter
@torch.no_grad()
def test_starts_as_a_no_op_and_leaves_no_trace(make, base, untouched):
    modules, weights = names(base), {name: value.clone() for name, value in base.unet.state_dict().items()}
    adapter = make().inject(base)
    assert torch.equal(predict(base), untouched)
    disturb(adapter)
    adapter.materialise()
    assert not torch.equal(predict(base), untouched)
    adapter.remove()
    assert torch.equal(predict(base), untouched)
    assert names(base) == modules
    assert all(torch.equal(value, weights[name]) for name, value in base.unet.state_dict().items())
    assert not hasattr(base.unet, "peft_config")
    assert not hasattr(base.text_encoder, "peft_config")


@every_adapter
@torch.no_grad()
def test_merged_equals_live(make, base, untouched):
    adapter = trained(make, base)
    with injected(adapter, base):
        live = predict(base)
    with merged(base, [(adapter, 1.0)]):
        assert_close(predict(base), live)
    assert torch.equal(predict(base), untouched)
    with merged(base, [(adapter, 0.0)]):
        assert torch.equal(predict(base), untouched)


def rms(values: torch.Tensor) -> float:
    return float(values.float().square().mean().sqrt())


@pytest.fixture(scope="module", params=[torch.float16, torch.bfloat16], ids=str)
def half(request: pytest.FixtureRequest) -> tuple[Base, float]:
    """Return a base in half precision and its rounding error (RMS).

    The error is the difference between the untouched base and the same weights computed in float32. It depends on
    the dtype, the magnitude of the values, the number of roundings and the processor, so it is measured here.
    """
    base, exact = (
        load_base("embedded", device="cpu", dtype=request.param),
        load_base("embedded", device="cpu"),
    )
    with torch.no_grad():
        for part in (exact.unet, exact.text_encoder):
            for parameter in part.parameters():
                parameter.copy_(parameter.to(request.param))
        return base, rms(predict(base).float() - predict(exact))


@pytest.mark.parametrize(
    "make", [ROWS[name] for name in ("lora", "full", "spectral-text")], ids=["lora", "full", "spectral"]
)
@torch.no_grad()
def test_half_precision_keeps_the_promises(make, half):
    base, rounding = half
    before = predict(base)
    adapter = make().inject(base)
    assert all(parameter.dtype == torch.float32 for parameter in adapter.parameters())
    assert torch.equal(predict(base), before)
    disturb(adapter)
    adapter.materialise()
    live = predict(base)
    adapter.remove()
    with merged(base, [(adapter, 1.0)]):
        found = predict(base)
    # The untouched base rounds once per layer (output), a merged layer twice (weight, output), and a live layer three
    # times (output, branch, sum). Variances of independent roundings add up, so the difference has five of them.
    bound = 5**0.5 * rounding
    assert rms(found.float() - live.float()) < bound
    assert (
        float((found.float() - live.float()).abs().max()) < 6 * bound
    )  # maximum of 512 nearly normal values
    assert rms(live.float() - before.float()) > bound, "or the adapter would be lost in the rounding"
    assert torch.equal(predict(base), before)


@every_adapter
@torch.no_grad()
def test_a_live_stack_equals_its_merged_sum_in_any_order(make, base, untouched):
    first, second = trained(make, base, seed=1), trained(ROWS["lora"], base, seed=2)
    with injected(first, base), injected(second, base):
        live = predict(base)
    first.inject(base)
    second.inject(base)
    first.remove()  # the lower of the two is removed first
    second.remove()
    with merged(base, [(first, 1.0), (second, 1.0)]):
        assert_close(predict(base), live)
    with merged(base, [(second, 1.0), (first, 1.0)]):
        assert_close(predict(base), live)
    assert torch.equal(predict(base), untouched)


@pytest.mark.parametrize(
    "words", [("dog", "cat"), ("dog cat", "photo"), ("dog", "dog cat")], ids=["two", "several", "one in both"]
)
@pytest.mark.parametrize("first_out", [0, 1])
@torch.no_grad()
def test_two_live_words_equal_their_merged_sum_and_leave_no_trace(words, first_out, base, untouched):
    table = base.text_encoder.get_input_embeddings()
    rows, vocabulary = table.weight.detach().clone(), base.tokenizer.get_vocab()
    one, other = (trained(lambda own=own: Words(words=own), base, seed=len(own)) for own in words)
    for below, above in ((one, other), (other, one)):
        below.inject(base)
        above.inject(base)
        live = predict(base)
        first, last = ((one, other), (other, one))[first_out]
        first.remove()
        with injected(first, base):
            assert_close(predict(base), live)
        alone = predict(base)
        last.remove()
        with injected(last, base):
            assert torch.equal(predict(base), alone)
        assert torch.equal(predict(base), untouched)
        for stack in ([(one, 1.0), (other, 1.0)], [(other, 1.0), (one, 1.0)]):
            with merged(base, stack):
                assert_close(predict(base), live)
    assert torch.equal(table.weight, rows)
    assert "forward" not in table.__dict__
    assert base.tokenizer.get_vocab() == vocabulary


@every_adapter
@torch.no_grad()
def test_an_adapter_built_while_another_is_live_touches_only_the_base_layers(make, base, untouched):
    below = trained(ROWS["lora-conv-text"], base)
    with injected(below, base):
        with_below = predict(base)
        with injected(make(), base) as above:
            assert torch.equal(predict(base), with_below)
            assert sum(parameter.numel() for parameter in above.parameters()) > 0
        assert torch.equal(predict(base), with_below)
    assert torch.equal(predict(base), untouched)


@every_adapter
@torch.no_grad()
def test_state_and_file_round_trip(make, base, tmp_path: Path):
    adapter = trained(make, base)
    path = tmp_path / "adapter.safetensors"
    save_adapter(path, adapter, extra={"seed": 7, "config": {"prompt": "ä"}})
    again = load_adapter(path, base)
    assert (again.kind, again.base_hash, again.note, again.base) == (adapter.kind, base.hash, "", None)
    state = again.state_dict()
    assert all(torch.equal(state[name], value) for name, value in adapter.state_dict().items())
    with injected(adapter, base):
        expected = predict(base)
    with injected(again, base):
        assert torch.equal(predict(base), expected)
    assert [found.name for found in tmp_path.iterdir() if found.suffix] == ["adapter.safetensors"]


@every_adapter
def test_loading_is_strict(make, base):
    adapter = trained(make, base)
    state = adapter.state_dict()
    first = next(iter(state))
    with pytest.raises(ValueError, match=r"1 tensors are missing"):
        adapter.load_state_dict({name: value for name, value in state.items() if name != first})
    with pytest.raises(ValueError, match=r"stranger"):
        adapter.load_state_dict({**state, "stranger": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"has shape \(3, 3, 3\)"):
        adapter.load_state_dict({**state, first: torch.zeros(3, 3, 3)})


@every_adapter
def test_only_its_parameters_get_gradients(make, base):
    with injected(make(), base) as adapter:
        predict(base).square().mean().backward()
        assert all(parameter.grad is not None for parameter in adapter.parameters())
        own = {id(parameter) for parameter in adapter.parameters()}
        others = [*base.unet.parameters(), *base.text_encoder.parameters(), *base.vae.parameters()]
        assert all(parameter.grad is None for parameter in others if id(parameter) not in own)


@every_adapter
def test_gradients_are_the_same_under_checkpointing(make, base):
    adapter = trained(make, base)

    def gradients() -> list[torch.Tensor]:
        for parameter in adapter.parameters():
            parameter.grad = None
        adapter.materialise()
        predict(base).square().mean().backward()
        return [parameter.grad for parameter in adapter.parameters() if parameter.grad is not None]

    with injected(adapter, base):
        plain = gradients()
        base.unet.enable_gradient_checkpointing()
        try:
            checkpointed = gradients()
        finally:
            base.unet.disable_gradient_checkpointing()
    assert len(plain) == len(adapter.parameters())
    for one, other in zip(plain, checkpointed, strict=True):
        assert_close(other, one)


@every_adapter
def test_another_base_is_refused_or_warned_about(make, base, tmp_path: Path, caplog):
    adapter = trained(make, base)
    path = tmp_path / "adapter.safetensors"
    save_adapter(path, adapter, extra={})
    other = dataclasses.replace(base, hash="0" * 64)
    if adapter.kind == "lora":
        with caplog.at_level(logging.WARNING):
            loaded = load_adapter(path, other)
        assert "another base" in loaded.note
        assert loaded.note in caplog.text
    else:
        with pytest.raises(ValueError, match="was trained on another base"):
            load_adapter(path, other)


@every_adapter
@torch.no_grad()
def test_suspended_is_exact(make, base, untouched):
    adapter = trained(make, base)
    with injected(adapter, base):
        live, before = predict(base), [id(parameter) for parameter in adapter.parameters()]
        with suppress(RuntimeError), suspended(adapter) as bare:
            assert torch.equal(predict(bare), untouched)
            with merged(bare, [(adapter, 1.0)]):
                assert_close(predict(bare), live)
            raise RuntimeError("in between")
        assert torch.equal(predict(base), live)
        assert [id(parameter) for parameter in adapter.parameters()] == before


def test_merged_comes_back_exactly_after_an_exception(base):
    adapter = trained(ROWS["lora-conv-text"], base)
    parameter = base_parameter(base, "unet.mid_block.resnets.0.conv1.weight")
    tensor, bits = parameter.data_ptr(), parameter.detach().clone()
    with suppress(RuntimeError), merged(base, [(adapter, 0.5)]):
        assert not torch.equal(parameter, bits)
        raise RuntimeError("inside")
    assert parameter.data_ptr() == tensor
    assert torch.equal(parameter, bits)


def test_a_file_that_is_no_adapter_is_refused(base, tmp_path: Path):
    path = tmp_path / "adapter.safetensors"
    path.write_bytes(b"not safetensors")
    with pytest.raises(ValueError, match="cannot be read as safetensors"):
        load_adapter(path, base)
    save_adapter(path, trained(ROWS["lora"], base), extra={"kind": "ignored"})
    assert load_adapter(path, base).kind == "lora"
