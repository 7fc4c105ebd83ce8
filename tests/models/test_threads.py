"""The number of CPU threads of a base."""

import dataclasses
import threading
import time
from collections.abc import Callable

import pytest
import torch

from pipelines.jobs import model_cache as model_cache
from pipelines.jobs.model_cache import ModelCache
from pipelines.models import threads
from pipelines.models.base import Base
from pipelines.models.threads import threads_for


@pytest.mark.parametrize("most", [1, 2, 8])
def test_a_small_base_computes_on_one_thread_on_every_machine(base: Base, most: int) -> None:
    assert threads_for(base, most=most) == 1


def test_a_large_base_and_another_device_keep_every_core(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    assert threads_for(dataclasses.replace(base, device=torch.device("meta")), most=2) == 2
    monkeypatch.setattr(threads, "LARGE", 0)
    assert threads_for(base, most=2) == 2


def test_the_choice_reads_no_clock(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread count chosen by timing gave different adapters for the same seed in two processes."""
    here = threading.get_ident()  # servers of other tests may be running in threads of their own

    def forbid(clock: Callable[[], float]) -> Callable[[], float]:
        return lambda: pytest.fail("a clock was read") if threading.get_ident() == here else clock()

    for name in ("time", "monotonic", "perf_counter"):
        monkeypatch.setattr(time, name, forbid(getattr(time, name)))
    assert threads_for(base, most=2) == 1


def test_every_base_has_its_own_threads(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small base on one thread does not reduce the threads of a large base that is used next."""
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
