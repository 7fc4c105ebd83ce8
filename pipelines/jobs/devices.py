"""The devices of this machine: one worker and one model cache per device, and a shared queue of runs.

The first free device takes the next run. A sampling job runs on the device that trains its run, else on the least busy
device.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from bisect import insort
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.jobs.load_lock import LoadLock
from pipelines.jobs.worker import Job, JobQueue, Worker

if TYPE_CHECKING:
    from pipelines.jobs.model_cache import ModelCache

ASK_S = 5.0  # timeout of nvidia-smi


def device_names() -> tuple[str, ...]:
    """Return "cuda:0", "cuda:1", ... for several GPUs, "cuda" for one, "cpu" for none, without importing torch."""
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
    """One device: its name, its worker thread, and its model cache (None until a model is needed)."""

    name: str
    worker: Worker
    model_cache: ModelCache | None = None


class Devices:
    """All devices. ``model_cache`` is given to the first. Raises ValueError unless names are given and all different."""

    def __init__(self, names: Sequence[str], *, model_cache: ModelCache | None = None) -> None:
        if not names or len(set(names)) < len(names):
            raise ValueError(
                f"The devices {', '.join(names) or '(none)'} must be one or more different names."
            )
        self.queue = JobQueue()
        self.all = [Device(name, Worker(name, self.queue)) for name in names]
        self.all[0].model_cache = model_cache
        self.load_lock = LoadLock()

    def close(self) -> None:
        """Stop the running jobs on all devices, then wait for the worker threads."""
        for device in self.all:
            device.worker.close(timeout=0.0)
        for device in self.all:
            device.worker.close()

    def model_cache(self, job: Job | None = None) -> ModelCache:
        """Return the model cache of the device that runs ``job`` (default: the first device)."""
        device = self.device_of(job) or self.all[0]
        if device.model_cache is None:
            with self.load_lock.exclusive():  # the first import of the libraries is not thread-safe either
                from pipelines.jobs.model_cache import ModelCache

                device.model_cache = device.model_cache or ModelCache(device.name, load_lock=self.load_lock)
        return device.model_cache

    def device_of(self, job: Job | None) -> Device | None:
        """Return the device of a job; None while a long job waits in the queue."""
        worker = job.worker if job is not None else None
        return next((device for device in self.all if device.worker is worker), None)

    def submit(
        self,
        name: str,
        work: Callable[[Job], Any],
        *,
        then: Callable[[Job], None],
        after: Sequence[Job] = (),
    ) -> Job:
        """Append a long job to the queue; it starts when the jobs in ``after`` are done."""
        return self.all[0].worker.submit(name, self._inside(work), then=then, after=after)

    def submit_short(self, name: str, work: Callable[[Job], Any], *, beside: Job | None = None) -> Job:
        """Submit a short job to the device of the job ``beside`` if that is running, else to the least busy device."""
        near = (
            self.device_of(beside) if beside is not None and beside.state in ("running", "stopping") else None
        )
        chosen = near or min(self.all, key=lambda device: len(device.worker.jobs()))
        return chosen.worker.submit(name, self._inside(work), short=True)

    def submit_to_all(self, name: str, work: Callable[[Job], Any]) -> None:
        """Submit a short job to every device."""
        for device in self.all:
            device.worker.submit(name, self._inside(work), short=True)

    def serve(self, job: Job) -> None:
        """Between two steps of a long job: let other threads load models, then run its device's waiting short jobs."""
        self.load_lock.pause()
        if job.worker is not None:
            job.worker.serve()

    def _inside(self, work: Callable[[Job], Any]) -> Callable[[Job], Any]:
        def guarded(job: Job) -> Any:
            with self.load_lock.shared():
                return work(job)

        return guarded

    def cancel(self, job: Job, *, keep: bool = True) -> None:
        """Cancel a job: a waiting job at once, a running job after its current step."""
        (job.worker or self.all[0].worker).cancel(job, keep=keep)


def finish_times(
    working: Mapping[str, float],
    waiting: Mapping[str, float],
    *,
    devices: int,
    after: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, float]:
    """Return the estimated finish time of each waiting run by its id, in seconds from now.

    ``working`` gives the seconds left of each running run, ``waiting`` the duration of each waiting run in seconds, in
    queue order. The first free device takes a run as soon as the runs in its ``after`` have ended.
    """
    before = {run: [each for each in (after or {}).get(run, ()) if each in waiting] for run in waiting}
    free = sorted([*working.values(), *[0.0] * max(devices - len(working), 0)])
    done: dict[str, float] = dict(working)
    pending = list(waiting)
    while pending:
        run = next((each for each in pending if not set(before[each]) & set(pending)), pending[0])
        pending.remove(run)
        starts = max([free.pop(0), *(done.get(each, 0.0) for each in (after or {}).get(run, ()))])
        done[run] = round(starts + waiting[run], 1)
        insort(free, done[run])
    return {run: done[run] for run in waiting}
