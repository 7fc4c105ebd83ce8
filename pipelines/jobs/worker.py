"""Long work off the page: one worker thread per device, which is also the only lock on that device.

Long jobs run one after another, and several workers may take them from one queue. A long job may wait ``after`` others:
it starts when they are done, and fails when one of them did not finish. A short job (one picture, say) starts at once
while nothing runs; while a long job runs, it is done inside that job's next :meth:`Worker.serve`, between two steps, so
nobody waits for a training to end.
"""

import logging
import threading
import traceback
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from pipelines.files import disk_error

log = logging.getLogger(__name__)

FINISHED = ("done", "stopped", "failed")


class Job:
    """One piece of work. ``state``: queued, running, stopping, done, stopped or failed."""

    def __init__(
        self,
        name: str,
        work: "Callable[[Job], Any]",
        then: "Callable[[Job], None] | None" = None,
        *,
        after: "Sequence[Job]" = (),
    ) -> None:
        self.id = uuid.uuid4().hex
        self.name = name
        self.state = "queued"
        self.error = ""
        self.exception: Exception | None = None
        self.result: Any = None
        self.keep = True
        self.after = tuple(after)
        self.worker: Worker | None = None  # whose turn it is or was; a short job's from the start
        self._work = work
        self._then = then
        self._begun = False
        self._stop = threading.Event()
        self._stop_at_checkpoint = threading.Event()
        self._finished = threading.Event()
        self._change = threading.Lock()

    @property
    def stop_requested(self) -> bool:
        """True once somebody asked this job to end; the work checks it between two steps."""
        return self._stop.is_set()

    def stop(self, keep: bool = True) -> None:
        """Ask the work to end after its current step; ``keep`` says whether what it made so far is kept."""
        self.keep = keep
        self._stop.set()
        with self._change:
            if self.state == "running":
                self.state = "stopping"

    @property
    def checkpoint_stop_requested(self) -> bool:
        """True once somebody asked this job to end at its next checkpoint."""
        return self._stop_at_checkpoint.is_set()

    def stop_at_checkpoint(self) -> None:
        """Ask the work to end at its next checkpoint, with what it made so far kept."""
        self._stop_at_checkpoint.set()
        with self._change:
            if self.state == "running":
                self.state = "stopping"

    def waits_for(self) -> "list[Job]":
        """Return the jobs before this one that have not ended yet."""
        return [job for job in self.after if not job.wait(0)]

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the job has ended (seconds; None waits for ever) and return whether it has."""
        return self._finished.wait(timeout)

    def outcome(self, timeout: float | None = None) -> Any:
        """Wait and return the work's result; raises the work's own error, or TimeoutError.

        Raises ValueError for a job that was cancelled before its turn came.
        """
        if not self.wait(timeout):
            raise TimeoutError(f"{self.name} has not finished after {timeout:g} seconds.")
        if self.exception is not None:
            raise self.exception
        if not self._begun:
            raise ValueError(f"The job “{self.name}” was cancelled before it started; try again.")
        return self.result

    def _run(self) -> None:
        with self._change:
            self.state = "stopping" if self.stop_requested else "running"
            self._begun = True
        if self._guarded(_check_order) and self._guarded(self._work):
            self._end("stopped" if self.stop_requested else "done")
        else:
            self._end("failed")

    def _end(self, state: str) -> None:
        with self._change:
            self.state = state
        if self._then is not None:
            self._guarded(self._then)
        self._finished.set()

    def _guarded(self, work: "Callable[[Job], Any]") -> bool:
        """Do ``work`` and keep its result, or its error; return whether it went well."""
        try:
            result = work(self)
        except Exception as raised:
            error = disk_error(raised) or raised
            self.error = str(error) or type(error).__name__
            if not isinstance(error, ValueError):
                log.exception("Job %s failed", self.id)
            _let_go(raised)
            self.exception = error
            return False
        if work is self._work:
            self.result = result
        return True


def _check_order(job: Job) -> None:
    """ValueError when a job that this one was to follow did not finish."""
    for before in job.after:
        if before.state != "done":
            ended = "failed" if before.state == "failed" else "was stopped"
            raise ValueError(
                f"“{before.name}” {ended}, and “{job.name}” was to start when it was done; finish that one first, "
                "then resume this one."
            )


def _let_go(error: BaseException | None) -> None:
    """Free what the frames of an error hold: after running out of memory, the very tensors that filled it."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


class JobQueue:
    """Long jobs in order: the first that waits for no other is taken by whichever worker is free first."""

    def __init__(self) -> None:
        self.jobs: deque[Job] = deque()
        self.changed = threading.Condition()

    def waiting(self) -> list[Job]:
        """Return the jobs that have not begun, the next one first."""
        with self.changed:
            return list(self.jobs)

    def next_ready(self) -> Job | None:
        """Return the first job that waits for no other; the caller holds ``changed``."""
        return next((job for job in self.jobs if not job.waits_for()), None)

    def move(self, job: Job, place: int) -> bool:
        """Put a waiting job at ``place`` (0 is next; beyond the end is last); False when it no longer waits."""
        with self.changed:
            if job not in self.jobs:
                return False
            self.jobs.remove(job)
            self.jobs.insert(place, job)
            return True


class Worker:
    """A thread that owns one device and runs the short jobs submitted to it and the long ones of its queue."""

    def __init__(self, name: str, queue: JobQueue | None = None) -> None:
        self.name = name
        self.queue = queue if queue is not None else JobQueue()
        self._long = self.queue.jobs
        self._short: deque[Job] = deque()
        self._current: Job | None = None
        self._closed = False
        self._serving = False
        self._changed = self.queue.changed
        self._thread = threading.Thread(target=self._loop, name=f"worker-{name}", daemon=True)
        self._thread.start()

    def submit(
        self,
        name: str,
        work: Callable[[Job], Any],
        *,
        short: bool = False,
        then: Callable[[Job], None] | None = None,
        after: Sequence[Job] = (),
    ) -> Job:
        """Queue ``work`` and return its job at once. Raises ValueError once the worker is closed.

        ``then`` is called exactly once when the job has its final state, even if it never ran, and before anyone
        who waits for the job is woken. A long job starts when those it comes ``after`` are done; when one of them
        failed or was stopped it fails without having begun.
        """
        job = Job(name, work, then, after=after)
        with self._changed:
            if self._closed:
                raise ValueError("The program is shutting down and accepts no new jobs; start it again.")
            if short:
                job.worker = self
            (self._short if short else self._long).append(job)
            self._changed.notify_all()
        return job

    def serve(self) -> None:
        """Run the short jobs that wait now. Only for the running long job, between two of its steps."""
        if threading.current_thread() is not self._thread:
            raise RuntimeError("serve() belongs to the worker's own thread")
        if self._serving:
            return
        self._serving = True
        try:
            while (job := self._take(self._short)) is not None:
                job._run()
        finally:
            self._serving = False

    @property
    def current(self) -> Job | None:
        """The job that is being done; a short one inside a long one does not show."""
        with self._changed:
            return self._current

    def jobs(self) -> list[Job]:
        """Return the jobs in running order: the running one, then short ones, then long ones of the queue."""
        with self._changed:
            return [*([self._current] if self._current else []), *self._short, *self._long]

    def cancel(self, job: Job, *, keep: bool = True) -> None:
        """End a job: a queued one at once, a running one after its current step."""
        with self._changed:
            queued = next((waiting for waiting in (self._short, self._long) if job in waiting), None)
            if queued is not None:
                queued.remove(job)
        job.stop(keep)
        if queued is not None:
            job._end("stopped")
            with self._changed:
                self._changed.notify_all()

    def close(self, timeout: float | None = 30.0) -> None:
        """Take no new work, stop what runs, drop what waits, and wait for the thread (seconds)."""
        with self._changed:
            self._closed = True
            waiting = [*self._short, *self._long]
            running = self._current
            self._changed.notify_all()
        for job in waiting:
            self.cancel(job)
        if running is not None and not running.stop_requested:
            running.stop()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def _take(self, waiting: deque[Job]) -> Job | None:
        with self._changed:
            return waiting.popleft() if waiting else None

    def _next(self) -> Job | None:
        """Return the job to do now, None while there is none; the caller holds the lock."""
        return self._short[0] if self._short else self.queue.next_ready()

    def _loop(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._next() is not None or self._closed)
                job = self._next()
                if job is None:
                    return
                (self._short if job in self._short else self._long).remove(job)
                job.worker = self
                self._current = job
            job._run()
            with self._changed:
                self._current = None
                self._changed.notify_all()  # others may have waited for it
