"""The devices of this machine: a worker and a model_cache for each, and one line of runs that they share.

A run goes to the device that is free first; a picture to the device where its run is learning, else to the least busy.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.jobs.load_lock import LoadLock
from pipelines.jobs.worker import Job, Line, Worker

if TYPE_CHECKING:
    from pipelines.jobs.model_cache import ModelCache

ASK_S = 5.0  # for the driver to say how many GPUs there are


def device_names() -> tuple[str, ...]:
    """Return "cuda:0", "cuda:1", ... where a driver shows several GPUs, else the one device there is; needs no torch."""
    driver = shutil.which("nvidia-smi")
    if driver is None:
        return ("cpu",)
    try:
        told = subprocess.run(
            [driver, "-L"], capture_output=True, text=True, timeout=ASK_S, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ("cuda",)
    present = sum(line.startswith("GPU ") for line in told.splitlines())
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        present = min(present, len([one for one in visible.split(",") if one.strip() not in ("", "-1")]))
    if present == 0:
        return ("cpu",)
    return tuple(f"cuda:{index}" for index in range(present)) if present > 1 else ("cuda",)


@dataclass
class Device:
    """One device: its name, its thread, and what stands on it (made at the first need)."""

    name: str
    worker: Worker
    shop: ModelCache | None = None


class Devices:
    """All devices. ``model_cache`` stands ready on the first of them."""

    def __init__(self, names: Sequence[str], *, model_cache: ModelCache | None = None) -> None:
        if not names or len(set(names)) < len(names):
            raise ValueError(
                f"The devices {', '.join(names) or '(none)'} must be one or more different names."
            )
        self.line = Line()
        self.all = [Device(name, Worker(name, self.line)) for name in names]
        self.all[0].shop = model_cache
        self.gate = LoadLock()

    def close(self) -> None:
        """Stop what runs on every device, then wait for each."""
        for device in self.all:
            device.worker.close(timeout=0.0)
        for device in self.all:
            device.worker.close()

    def model_cache(self, job: Job | None = None) -> ModelCache:
        """Return what stands on the device where ``job`` is being done (default: the first)."""
        device = self.of(job) or self.all[0]
        if device.shop is None:
            with self.gate.alone():  # the libraries' first import, too, does not like company
                from pipelines.jobs.model_cache import ModelCache

                device.shop = device.shop or ModelCache(device.name, gate=self.gate)
        return device.shop

    def of(self, job: Job | None) -> Device | None:
        """Return the device of a job, None while a long one waits."""
        worker = job.worker if job is not None else None
        return next((device for device in self.all if device.worker is worker), None)

    def submit(self, name: str, work: Callable[[Job], Any], *, then: Callable[[Job], None]) -> Job:
        """Put a long job at the end of the line."""
        return self.all[0].worker.submit(name, self._inside(work), then=then)

    def soon(self, name: str, work: Callable[[Job], Any], *, beside: Job | None = None) -> Job:
        """Submit a short job to the device of ``beside`` while that runs, else to the least busy device."""
        near = self.of(beside) if beside is not None and beside.state in ("running", "stopping") else None
        chosen = near or min(self.all, key=lambda device: len(device.worker.queue()))
        return chosen.worker.submit(name, self._inside(work), short=True)

    def everywhere(self, name: str, work: Callable[[Job], Any]) -> None:
        """Submit a short job to every device."""
        for device in self.all:
            device.worker.submit(name, self._inside(work), short=True)

    def serve(self, job: Job) -> None:
        """Between two steps of a long job: let others load, then do the short jobs that wait on its device."""
        self.gate.pause()
        if job.worker is not None:
            job.worker.serve()

    def _inside(self, work: Callable[[Job], Any]) -> Callable[[Job], Any]:
        def guarded(job: Job) -> Any:
            with self.gate.shared():
                return work(job)

        return guarded

    def cancel(self, job: Job, *, keep: bool = True) -> None:
        """End a job: a waiting one at once, a running one at its next look."""
        (job.worker or self.all[0].worker).cancel(job, keep=keep)


def finish_times(working: dict[str, float], waiting: Sequence[float], *, names: Sequence[str]) -> list[float]:
    """Return when each waiting run will be done, in seconds from now, each taken by the device that is free first.

    ``working`` holds the seconds left on devices that are busy, ``waiting`` what each run takes by itself.
    """
    free = {name: working.get(name, 0.0) for name in names}
    done = []
    for seconds in waiting:
        first = min(free, key=free.__getitem__)
        free[first] += seconds
        done.append(round(free[first], 1))
    return done
