"""How many threads a base computes on."""

from collections.abc import Iterator

import pytest
import torch

from pipelines import threads
from pipelines.base import Base
from pipelines.threads import fastest, settle_threads


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("times", "chosen"),
    [
        ({1: 1.0, 2: 4.0}, 1),  # a machine that wakes threads slowly
        ({1: 1.0, 2: 0.95}, 1),  # not worth a core
        ({1: 1.0, 2: 0.55}, 2),
        ({1: 1.0, 2: 0.6, 4: 0.35, 6: 0.34}, 4),
        ({1: 1.0, 2: 0.6, 3: 0.4}, 3),
    ],
)
def test_as_few_threads_as_are_fast(times: dict[int, float], chosen: int) -> None:
    assert fastest(times.__getitem__, most=max(times)) == chosen


def test_one_thread_is_not_tried_out() -> None:
    assert fastest({1: 1.0}.__getitem__, most=1) == 1


def test_a_base_settles_on_what_is_faster(
    base: Base, two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "_seconds", lambda base, count: {1: 1.0, 2: 3.0}[count])
    assert settle_threads(base) == 1
    assert torch.get_num_threads() == 1


def test_the_trial_is_a_real_step_and_leaves_no_trace(base: Base, two_threads: None) -> None:
    assert threads._seconds(base, 1) > 0
    assert all(parameter.grad is None for parameter in base.unet.parameters())


def test_a_large_base_keeps_every_core(
    base: Base, two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "LARGE", 0)
    assert settle_threads(base) == 2
