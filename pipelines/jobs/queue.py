"""The training queue: the queued, running and finished runs of this process, their order and their final states.

torch is imported only when a run starts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from filelock import BaseFileLock

from pipelines.config import whole_number
from pipelines.jobs.devices import Devices, finish_times
from pipelines.jobs.worker import Job
from pipelines.runs.costs import Costs
from pipelines.runs.status import QueueRow
from pipelines.runs.store import LIVE_STATES, Run, RunStore

log = logging.getLogger(__name__)

OUT_OF_MEMORY = (
    "The device ran out of memory; ask for fewer or smaller pictures at once, or train with gradient checkpointing, "
    "fewer photos per step or a smaller training size."
)
MEMORY_SIGNS = (
    "OutOfMemory",
    "MemoryError",
    "can't allocate memory",
)  # raised by torch on CUDA, Python, torch on a CPU


class TrainingQueue:
    """The long jobs, by the id of their run."""

    def __init__(self, store: RunStore, *, devices: Devices, costs: Costs) -> None:
        self.store = store
        self.devices = devices
        self.costs = costs
        self.jobs: dict[str, Job] = {}
        self.end_listeners: list[Callable[[str], None]] = []  # called with the id of each run that has ended

    def alive(self, run_id: str) -> Job | None:
        """Return the job of a run that is queued or running, else None."""
        job = self.jobs.get(run_id)
        return job if job is not None and job.state in LIVE_STATES else None

    def place(self, run_id: str) -> int | None:
        """Return the position of a run: 0 if it is running, 1 if it is next, and so on; None if it has ended."""
        job, runs = self.alive(run_id), set(self.jobs.values())
        if job is None:
            return None
        waiting = [each for each in self.devices.queue.waiting() if each in runs]
        return waiting.index(job) + 1 if job in waiting else 0

    def begin(self, run: Run, *, lock: BaseFileLock | None = None, after: Sequence[Job] = ()) -> None:
        """Queue a run. ``lock`` is the run's lock if the caller holds it already. ValueError if the run is in use.

        The run starts when the jobs in ``after`` are done. If one of them fails or is stopped, the run fails with a
        sentence.
        """
        held = lock if lock is not None else run.acquire()
        run.append("state", state="queued", message="")

        def work(job: Job) -> None:
            model_cache = self.devices.model_cache(job)
            from pipelines.jobs.train_job import TrainJob

            TrainJob(
                run=run,
                job=job,
                model_cache=model_cache,
                serve=lambda: self.devices.serve(job),
                cache=self.store.root / "class_images",
                costs=self.costs,
            ).perform()

        def settle(job: Job) -> None:
            goes_back = not job.keep and run.extended
            try:
                _settle(run, job)
                if goes_back:
                    run.go_back()
                elif job.state in ("done", "stopped"):
                    run.keep_extension()
                held.release()
                if not job.keep and not goes_back:
                    self.store.delete(run.id)
            finally:
                held.release()
                self._announce(run.id)

        try:
            self.jobs[run.id] = self.devices.submit(run.name, work, then=settle, after=after)
        except ValueError:
            held.release()
            raise

    def rows(self, *, owner: str = "") -> list[QueueRow]:
        """Return an owner's running and waiting runs in queue order; positions and times include all owners' runs."""
        ids = {job: run_id for run_id, job in self.jobs.items()}
        current = [device.worker.current for device in self.devices.all]
        waiting = [job for job in self.devices.queue.waiting() if job in ids]
        placed = [(job, 0) for job in current if job is not None and job in ids]
        placed += [(job, place) for place, job in enumerate(waiting, start=1)]
        rows = []
        for job, place in placed:
            with suppress(ValueError):  # a run that is being deleted
                rows.append(self._queue_row(ids[job], position=place))
        working = {row.run: row.seconds_left for row in rows if row.position == 0}
        alone = {row.run: row.seconds_left for row in rows if row.position}
        after = {
            run_id: [ids[job] for job in self.jobs[run_id].waits_for() if job in ids] for run_id in alone
        }
        done = finish_times(working, alone, devices=len(self.devices.all), after=after)
        return [
            replace(row, seconds_left=done.get(row.run, row.seconds_left))
            for row in rows
            if row.owner == owner
        ]

    def move(self, run: Run, position: int) -> None:
        """Move a waiting run to a position in the queue: 1 is next, a number beyond the end is last.

        Raises ValueError for a position below 1 or a run that is not in the queue.
        """
        place = whole_number(position, label="The place in the queue")
        if place < 1:
            raise ValueError(f"The place in the queue is {place}; 1 is the next run, larger ones come later.")
        job = self.jobs.get(run.id)
        if job is None or not self.devices.queue.move(job, place - 1):
            raise ValueError(f"The run {run.name!r} is not in the queue, so it cannot be moved.")

    def unfinished(self, runs: Sequence[Run]) -> list[Job]:
        """Return the jobs of the runs that are queued or running. ValueError for a run that failed or was stopped."""
        jobs = []
        for run in runs:
            job = self.alive(run.id)
            if job is not None:
                jobs.append(job)
            elif run.state != "done":
                raise ValueError(
                    f"The run {run.name!r} is {run.state}, so no run can be started after it; finish it first, or leave it out."
                )
        return jobs

    def _announce(self, run_id: str) -> None:
        for listener in list(self.end_listeners):
            try:
                listener(run_id)
            except Exception:  # the other listeners and the worker must continue
                log.exception("A listener failed at the end of run %s", run_id)

    def _queue_row(self, run_id: str, *, position: int) -> QueueRow:
        """Return the row of a run; ``seconds_left`` excludes its waiting time."""
        run = self.store.get(run_id)
        job = self.jobs[run_id]
        device = self.devices.device_of(job)
        state = "stopping" if self.ends(run_id) else run.state
        return QueueRow(
            run=run_id,
            owner=run.owner,
            name=run.name,
            state=state if position == 0 else "queued",
            position=position,
            waits_for=tuple(before.name for before in job.waits_for()),
            device=device.name if device is not None and position == 0 else "",
            seconds_left=self.costs.seconds_left(run, run.events()),
        )

    def ends(self, run_id: str) -> bool:
        """Return whether a queued or running run was requested to stop."""
        job = self.jobs.get(run_id)
        return (
            job is not None
            and job.state in LIVE_STATES
            and (job.stop_requested or job.checkpoint_stop_requested)
        )


def _settle(run: Run, job: Job) -> None:
    """Append the final state of a run, and its error message, to its events."""
    message = ""
    if job.exception is not None:
        message = job.error
        if ran_out_of_memory(job.exception):
            message = OUT_OF_MEMORY
        elif not isinstance(job.exception, ValueError):
            message = f"Something went wrong ({type(job.exception).__name__}); see the log."
    run.append("state", state=job.state, message=message)


def ran_out_of_memory(error: Exception) -> bool:
    """Return whether an error means that the device or the machine is out of memory."""
    return any(sign in f"{type(error).__name__}: {error}" for sign in MEMORY_SIGNS)
