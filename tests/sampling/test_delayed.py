"""Delayed injection: its two ends, and the early steps that are computed once."""

from dataclasses import replace

import pytest
import torch

from pipelines.adapters import Subspace
from pipelines.config import SampleConfig
from pipelines.models.base import Base
from pipelines.sampling.delayed import EarlySteps, first_edited_step, sample_delayed
from pipelines.sampling.sample import sample
from tests.weightspace.synthetic import synthetic_space

CONFIG = SampleConfig(prompt="sks person", steps=4, seed=2)


@pytest.fixture(scope="module")
def stacks(base: Base) -> tuple[list, list]:
    space = synthetic_space(base)
    beta = 40 * torch.ones(6)
    return [(Subspace.of(space, beta=beta), 1.0)], [(Subspace.of(space, beta=-beta), 1.0)]


@pytest.mark.parametrize("scheduler", ["DPM++ 2M Karras", "DDIM", "Euler a"])
def test_the_ends_are_the_full_edit_and_no_edit(base: Base, stacks: tuple, scheduler: str) -> None:
    before, after = stacks
    config = replace(CONFIG, scheduler=scheduler)
    early = EarlySteps(())
    full, steps = sample_delayed(base, before, after, config, start_noise=1000, early=early)
    assert (full.images[0].tobytes(), steps) == (sample(base, after, config).images[0].tobytes(), 4)
    none, steps = sample_delayed(base, before, after, config, start_noise=-1, early=early)
    assert (none.images[0].tobytes(), steps) == (sample(base, before, config).images[0].tobytes(), 4)


def test_recorded_steps_are_used_again_and_change_nothing(base: Base, stacks: tuple) -> None:
    before, after = stacks
    early = EarlySteps(())
    first, computed = sample_delayed(base, before, after, CONFIG, start_noise=600, early=early)
    timesteps = early.states[0].scheduler.timesteps.tolist()
    turn = first_edited_step(timesteps, 600)
    assert 0 < turn < 4
    assert computed == 4
    again, computed = sample_delayed(base, before, after, CONFIG, start_noise=600, early=early)
    assert computed == 4 - turn
    assert again.images[0].tobytes() == first.images[0].tobytes()
    other, computed = sample_delayed(base, before, before, CONFIG, start_noise=600, early=early)
    assert computed == 4 - turn
    assert other.images[0].tobytes() == sample(base, before, CONFIG).images[0].tobytes(), (
        "an edit of strength 0"
    )


def test_stopping_gives_no_picture(base: Base, stacks: tuple) -> None:
    before, after = stacks
    stopped, _ = sample_delayed(
        base, before, after, CONFIG, start_noise=1000, early=EarlySteps(()), stop=lambda: True
    )
    assert (stopped.images, stopped.interrupted) == ([], True)
