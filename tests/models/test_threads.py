"""How many threads a base computes on."""

import pytest
import torch

from pipelines.jobs import model_cache as model_cache
from pipelines.jobs.model_cache import ModelCache
from pipelines.models import threads
from pipelines.models.base import Base
from pipelines.models.threads import fastest, threads_for


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


def test_a_base_settles_on_what_is_faster(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_seconds", lambda base, count: {1: 1.0, 2: 3.0}[count])
    before = torch.get_num_threads()
    assert threads_for(base, most=2) == 1
    assert torch.get_num_threads() == before


def test_the_trial_is_a_real_step_and_leaves_no_trace(base: Base) -> None:
    assert threads._seconds(base, 1) > 0
    assert all(parameter.grad is None for parameter in base.unet.parameters())


def test_a_large_base_keeps_every_core(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "LARGE", 0)
    assert threads_for(base, most=2) == 2


def test_every_base_has_its_own_threads(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small base on one thread does not take the cores from a large one that is used next."""
    before = torch.get_num_threads()
    monkeypatch.setattr(model_cache, "load_base", lambda spec, device: base)
    monkeypatch.setattr(model_cache, "threads_for", lambda base, most: chosen.pop(0))
    chosen = [1, 2]
    shop = ModelCache("cpu")
    try:
        for spec, count in (("small", 1), ("large", 2), ("small", 1), ("large", 2)):
            shop.base(spec)
            assert torch.get_num_threads() == count, spec
    finally:
        torch.set_num_threads(before)
