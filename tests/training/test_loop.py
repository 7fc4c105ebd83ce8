"""The training loop: it learns, is reproducible, stops, resumes, and can be paused without changing the result."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from pipelines.adapters import Full, LoRA
from pipelines.adapters.core import Adapter, ParameterGroup, injected, merged, suspended
from pipelines.config import LoopConfig
from pipelines.models.base import Base, load_base
from pipelines.training.loop import Batch, Denoising, Step, TrainState, learning_rate_at, train
from pipelines.training.losses import prior_preservation_terms
from tests.tolerances import assert_close

CONFIG = LoopConfig(steps=4, learning_rate=1e-3, seed=5)
PICTURES = torch.randn(8, 4, 8, 8, generator=torch.Generator().manual_seed(1))


def batches_of(base: Base, config: LoopConfig, *, token_ids: bool = False) -> Callable:
    """Photographs and class images in equal parts; the loop's generator selects them and adds a little noise."""
    prompts = ["a photo of a sks dog", "a photo of a dog"]
    table = base.token_ids(prompts) if token_ids else base.encode_prompts(prompts)
    count = config.batch_size * config.accumulation

    def draw(index: int, generator: torch.Generator) -> Batch:
        rows = torch.randint(len(PICTURES), (2 * count,), generator=generator)
        latents = PICTURES[rows] + 0.01 * torch.randn(2 * count, 4, 8, 8, generator=generator)
        groups = {"instance": slice(0, count), "prior": slice(count, 2 * count)}
        return Batch(latents=latents, prompts=table[[0] * count + [1] * count], groups=groups)

    return draw


def loss(denoising: Denoising, adapter: Adapter, config: LoopConfig) -> dict[str, torch.Tensor]:
    return prior_preservation_terms(
        denoising.noise_pred, denoising.noise, groups=denoising.groups, prior_weight=0.5
    )


def small() -> LoRA:
    return LoRA(rank=2, targets="attention", seed=5)


def run(
    base: Base, config: LoopConfig = CONFIG, *, adapter: Adapter | None = None, **options
) -> Iterator[Step]:
    adapter = adapter or small()
    with injected(adapter, base):
        yield from train(base, adapter, batches_of(base, config), loss, config, **options)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_loss_falls_on_one_batch(base):
    config = LoopConfig(steps=12, learning_rate=1e-2, weight_decay=0.0)
    adapter = small()
    fixed = batches_of(base, config)(0, torch.Generator().manual_seed(0))

    def constant(denoising, adapter, config):
        return {"instance": (denoising.noise_pred - denoising.latents).square().mean()}

    with injected(adapter, base):
        steps = list(train(base, adapter, lambda index, generator: fixed, constant, config))
    assert [step.index for step in steps] == list(range(1, 13))
    assert steps[-1].terms["instance"] < 0.97 * steps[0].terms["instance"]
    assert all(step.grad_norm > 0 and step.seconds > 0 and step.total == 12 for step in steps)


def test_the_same_seed_gives_the_same_run(base):
    one, other = ([(step.terms, step.grad_norm) for step in run(base)] for _ in range(2))
    third = [step.terms for step in run(base, dataclasses.replace(CONFIG, seed=6))]
    assert one == other
    assert third != [terms for terms, _ in one]
    assert list(one[0][0]) == ["instance", "prior"]


def test_the_global_generator_is_not_touched(base):
    state = torch.random.get_rng_state()
    list(run(base))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_accumulating_two_times_one_equals_one_times_two(base):
    states = []
    for batch_size, accumulation in ((1, 2), (2, 1)):
        config = dataclasses.replace(CONFIG, batch_size=batch_size, accumulation=accumulation, steps=2)
        adapter = small()
        terms = [step.terms for step in run(base, config, adapter=adapter)]
        states.append((terms, adapter.state_dict()))
    (terms, state), (other_terms, other_state) = states
    for one, other in zip(terms, other_terms, strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    for name, value in state.items():
        # Adam divides by the gradient's size, so a gradient of rounding noise can move a value by the full rate
        torch.testing.assert_close(other_state[name], value, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("term", ["instance", "prior"])
def test_a_non_finite_loss_names_step_and_term_and_keeps_the_last_good_weights(base, term):
    adapter, kept = small(), {}

    def poisoned(denoising, adapter, config):
        terms = loss(denoising, adapter, config)
        return {**terms, term: terms[term] * float("nan")} if kept else terms

    with injected(adapter, base):
        steps = train(base, adapter, batches_of(base, CONFIG), poisoned, CONFIG)
        next(steps)
        kept = adapter.state_dict()
        with pytest.raises(ValueError, match=f"step 2: the {term} loss became nan"):
            next(steps)
        assert same(adapter.state_dict(), kept)


def test_a_non_finite_gradient_is_named(base):
    def infinite_slope(denoising, adapter, config):
        error = denoising.noise_pred - denoising.noise
        return {"instance": (error - error.detach()).square().sum().sqrt()}  # value 0, gradient 0 / 0

    adapter = small()
    with (
        injected(adapter, base),
        pytest.raises(ValueError, match="step 1: the gradient became nan"),
    ):
        list(train(base, adapter, batches_of(base, CONFIG), infinite_slope, CONFIG))


def test_it_stops_between_two_steps(base):
    adapter = small()
    with injected(adapter, base):
        steps = train(base, adapter, batches_of(base, CONFIG), loss, CONFIG)
        next(steps)
        kept = adapter.state_dict()
        steps.close()
        assert same(adapter.state_dict(), kept)
        assert all(parameter.grad is None for parameter in adapter.parameters())


@pytest.mark.parametrize("make", [small, Full], ids=["lora", "full"])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(base, tmp_path: Path, make):
    config = dataclasses.replace(CONFIG, schedule="cosine", warmup_steps=2)
    whole = make()
    expected = [(step.terms, step.learning_rate) for step in run(base, config, adapter=whole)]

    path = tmp_path / "checkpoint.safetensors"
    first = run(base, config, adapter=make())
    told = [(step.terms, step.learning_rate) for step in (next(first), next(first))]
    first.close()
    second = run(base, config, adapter=make())
    state = next(second).state()
    second.close()
    assert state.meta["step"] == 1
    state.save(path)

    resumed = make()
    told = told[:1] + [
        (step.terms, step.learning_rate)
        for step in run(base, config, adapter=resumed, resume=TrainState.load(path))
    ]
    assert told == expected
    assert same(resumed.state_dict(), whole.state_dict())


def test_train_more_continues_after_the_last_step(base):
    adapter = small()
    *_, last = run(base, adapter=adapter)
    state = last.state()
    more = list(run(base, dataclasses.replace(CONFIG, steps=6), adapter=small(), resume=state))
    assert [step.index for step in more] == [5, 6]
    assert list(run(base, adapter=small(), resume=state)) == []


def test_train_more_begins_the_cosine_anew_and_a_resumed_part_goes_on_with_it(base):
    cosine = dataclasses.replace(CONFIG, schedule="cosine", warmup_steps=2)
    *_, last = run(base, cosine, adapter=small())
    longer = dataclasses.replace(cosine, steps=12)
    more, states = [], []
    for step in run(base, longer, adapter=small(), resume=last.state()):
        more.append(step.learning_rate)
        states.append(step.state())
    assert more[:3] == pytest.approx([0.5e-3, 1e-3, 1e-3])
    assert sorted(more[2:], reverse=True) == more[2:]
    assert more[-1] < 0.2e-3
    resumed = [
        step.learning_rate for step in run(base, longer, adapter=small(), resume=states[2])
    ]  # resumed after the process died
    assert resumed == more[3:]


def test_a_checkpoint_of_something_else_is_refused(base, tmp_path: Path):
    state = next(run(base)).state()
    with pytest.raises(ValueError, match="another adapter or on another base"):
        next(run(base, adapter=LoRA(rank=3), resume=state))
    foreign = dataclasses.replace(state, meta={**state.meta, "base_hash": "other"})
    with pytest.raises(ValueError, match="another adapter or on another base"):
        next(run(base, resume=foreign))
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(b"torn")
    with pytest.raises(ValueError, match="cannot be read"):
        TrainState.load(path)


@pytest.mark.parametrize("make", [small, Full], ids=["lora", "full"])
def test_stepping_aside_between_steps_changes_nothing(base, make):
    question = (torch.ones(1, 4, 8, 8), torch.tensor([300]), base.encode_prompts(["a dog"]))
    with torch.no_grad():
        untouched = base.unet(*question, return_dict=False)[0]
    plain, interrupted = make(), make()
    list(run(base, adapter=plain))
    for _ in run(base, adapter=interrupted):
        with torch.no_grad(), suspended(interrupted) as bare:
            assert torch.equal(bare.unet(*question, return_dict=False)[0], untouched)
            with merged(bare, [(interrupted, 0.7)]):
                bare.unet(*question, return_dict=False)
    assert same(plain.state_dict(), interrupted.state_dict())


def test_gradient_checkpointing_changes_no_result_and_is_switched_off_again(base):
    one, other = small(), small()
    list(run(base, adapter=one))
    list(run(base, dataclasses.replace(CONFIG, gradient_checkpointing=True), adapter=other))
    assert not base.unet.is_gradient_checkpointing
    assert same(one.state_dict(), other.state_dict())


def test_the_text_encoder_trains_from_token_ids(base):
    adapter = LoRA(rank=2, text_encoder_rank=2)
    with injected(adapter, base):
        list(train(base, adapter, batches_of(base, CONFIG, token_ids=True), loss, CONFIG))
    moved = [value.abs().sum() for name, value in adapter.state_dict().items() if "lora_B" in name]
    assert all(amount > 0 for amount in moved)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_trains_float32_parameters(dtype):
    base = load_base("embedded", device="cpu", dtype=dtype)
    reference = [step.terms for step in run(load_base("embedded", device="cpu"))]
    steps = list(run(base))
    assert steps[-1].state().meta["loss_scale"] > (1 if dtype == torch.float16 else 0)
    for step, terms in zip(steps, reference, strict=True):
        assert step.terms == pytest.approx(terms, rel=0.05)


def test_clipping_bounds_the_gradient_but_reports_the_true_norm(base):
    """Adam's first step does not depend on the gradient's scale, so the clipping is checked on the first moment."""
    free, clipped = (
        next(run(base, dataclasses.replace(CONFIG, max_grad_norm=limit))) for limit in (0.0, 0.01)
    )
    assert free.grad_norm == clipped.grad_norm > 0.01
    moments = [step.state().tensors["optimizer.exp_avg"] for step in (free, clipped)]
    assert float(moments[0].norm()) == pytest.approx(0.1 * free.grad_norm, rel=1e-4)
    assert float(moments[1].norm()) == pytest.approx(0.1 * 0.01, rel=1e-3)


def test_one_step_is_adamw_by_hand(base):
    """θ ← θ (1 − η λ) − η m̂ / (√v̂ + ε), with m̂ = g and v̂ = g² on the first step."""
    config = dataclasses.replace(CONFIG, max_grad_norm=0.0, weight_decay=1.0)
    adapter = small()
    with injected(adapter, base):
        before = adapter.state_dict()
        step = next(train(base, adapter, batches_of(base, config), loss, config))
        after, gradient = adapter.state_dict(), step.state().tensors["optimizer.exp_avg"] / 0.1
    old, new = (torch.cat([value.flatten() for value in state.values()]) for state in (before, after))
    rate = config.learning_rate
    assert_close(new, old * (1 - rate * 1.0) - rate * gradient / (gradient.abs() + 1e-8))


def test_each_group_has_its_own_rate_and_weight_decay(base, monkeypatch: pytest.MonkeyPatch):
    """The first half of the LoRA has a tenth of the rate and no weight decay, the second half the run's own values."""
    config = dataclasses.replace(CONFIG, steps=3, max_grad_norm=0.0, weight_decay=0.1)
    adapter = small()
    with injected(adapter, base):
        parameters = adapter.parameters()
        groups = [
            ParameterGroup(parameters[::2], rate=0.1, weight_decay=0.0),
            ParameterGroup(parameters[1::2]),
        ]
        monkeypatch.setattr(adapter, "parameter_groups", lambda: groups)
        with torch.no_grad():
            for parameter in parameters:
                parameter.fill_(1.0)

        def linear(denoising, adapter, config):
            return {"linear": sum(parameter.sum() for parameter in adapter.parameters())}

        steps = train(base, adapter, batches_of(base, config), linear, config)
        assert [step.learning_rate for step in steps] == [1e-3] * 3
        decayed = 1.0
        for _ in range(3):
            decayed = decayed * (1 - 1e-3 * 0.1) - 1e-3
        for parameter, value in [(parameters[0], 1 - 3e-4), (parameters[1], decayed)]:
            assert_close(parameter.detach(), torch.full_like(parameter, value))


def test_schedules():
    constant = LoopConfig(steps=10, learning_rate=1.0e-3, warmup_steps=4)
    cosine = dataclasses.replace(constant, schedule="cosine")
    rates = [learning_rate_at(index, constant) for index in range(10)]
    assert rates == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3] + [1e-3] * 6)
    rates = [learning_rate_at(index, cosine) for index in range(10)]
    assert rates[:5] == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3, 1e-3])
    assert rates[7] == pytest.approx(0.5e-3)
    assert sorted(rates[4:], reverse=True) == rates[4:]
    assert learning_rate_at(25, cosine) == pytest.approx(0.0)
    short = [
        learning_rate_at(index, dataclasses.replace(cosine, steps=14), since=10) for index in range(10, 14)
    ]
    assert short == pytest.approx([0.5e-3, 1e-3, 1e-3, 0.5e-3])
    assert learning_rate_at(12, dataclasses.replace(constant, steps=14), since=10) == pytest.approx(1e-3)


def test_a_failing_consumer_leaves_the_base_clean(base):
    with suppress(RuntimeError), injected(small(), base) as adapter:
        for _ in train(base, adapter, batches_of(base, CONFIG), loss, CONFIG):
            raise RuntimeError("the page went away")
    assert adapter.base is None
    assert not any("lora" in name for name, _ in base.unet.named_modules())
