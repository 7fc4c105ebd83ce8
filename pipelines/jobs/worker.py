"""Background jobs: one worker thread per device. Only this thread uses the device, so the device needs no lock.

Long jobs run one after another; several workers may share one queue. A long job starts when the jobs in its ``after``
are done, and fails if one of them failed or was stopped. A short job (such as one picture) starts at once if the worker
is idle. While a long job is running, short jobs run between two of its steps, when it calls :meth:`Worker.serve`.
"""

import logging
import threading
import time
import traceback
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from pipelines.files import disk_error

log = logging.getLogger(__name__)

FINISHED = ("done", "stopped", "failed")


class Job:
    """One job. ``state``: queued, running, stopping, done, stopped or failed."""

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
        self.began = 0.0  # of time.monotonic(), in seconds; 0 before the start
        self.after = tuple(after)
        self.worker: Worker | None = None  # set when the job starts; for a short job, when it is submitted
        self._work = work
        self._then = then
        self._stop = threading.Event()
        self._stop_at_checkpoint = threading.Event()
        self._finished = threading.Event()
        self._change = threading.Lock()

    @property
    def stop_requested(self) -> bool:
        """Whether this job was requested to stop; the work checks it between two steps."""
        return self._stop.is_set()

    def stop(self, keep: bool = True) -> None:
        """Request the job to stop after its current step; ``keep``: whether its results so far are kept."""
        self.keep = keep
        self._stop.set()
        with self._change:
            if self.state == "running":
                self.state = "stopping"

    @property
    def checkpoint_stop_requested(self) -> bool:
        """Whether this job was requested to stop at its next checkpoint."""
        return self._stop_at_checkpoint.is_set()

    def stop_at_checkpoint(self) -> None:
        """Request the job to stop at its next checkpoint; its results so far are kept."""
        self._stop_at_checkpoint.set()
        with self._change:
            if self.state == "running":
                self.state = "stopping"

    def waits_for(self) -> "list[Job]":
        """Return the jobs in ``after`` that have not ended yet."""
        return [job for job in self.after if not job.wait(0)]

    def wait(self, timeout: float | None = None) -> bool:
        """Wait up to ``timeout`` seconds (None: without limit) and return whether the job has ended."""
        return self._finished.wait(timeout)

    def outcome(self, timeout: float | None = None) -> Any:
        """Wait for the job and return its result; ``timeout`` is in seconds.

        Raises the exception of the work, TimeoutError, or ValueError if the job was cancelled before it started.
        """
        if not self.wait(timeout):
            raise TimeoutError(f"{self.name} has not finished after {timeout:g} seconds.")
        if self.exception is not None:
            raise self.exception
        if not self.began:
            raise ValueError(f"The job “{self.name}” was cancelled before it started; try again.")
        return self.result

    def _run(self) -> None:
        with self._change:
            self.state = "stopping" if self.stop_requested else "running"
            self.began = time.monotonic()
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
        """Call ``work``, store its result or its error, and return whether it succeeded."""
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
    """Raise ValueError if a job in ``after`` failed or was stopped."""
    for before in job.after:
        if before.state != "done":
            ended = "failed" if before.state == "failed" else "was stopped"
            raise ValueError(
                f"“{before.name}” {ended}, and “{job.name}” was to start when it was done; finish that one first, "
                "then resume this one."
            )


def _let_go(error: BaseException | None) -> None:
    """Release the objects referenced by an error's frames; after out-of-memory errors, these are large tensors."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


class JobQueue:
    """An ordered queue of long jobs; a free worker takes the first one that waits for no other job."""

    def __init__(self) -> None:
        self.jobs: deque[Job] = deque()
        self.changed = threading.Condition()

    def waiting(self) -> list[Job]:
        """Return the jobs that have not started, in queue order."""
        with self.changed:
            return list(self.jobs)

    def next_ready(self) -> Job | None:
        """Return the first job that waits for no other job; the caller must hold ``changed``."""
        return next((job for job in self.jobs if not job.waits_for()), None)

    def move(self, job: Job, place: int) -> bool:
        """Move a waiting job to index ``place`` (0 is next, beyond the end is last); False if it has started or ended."""
        with self.changed:
            if job not in self.jobs:
                return False
            self.jobs.remove(job)
            self.jobs.insert(place, job)
            return True


class Worker:
    """The thread of one device; it runs the short jobs submitted to it and the long jobs of its queue."""

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
        """Queue ``work`` and return its job immediately. Raises ValueError if the worker is closed.

        ``then`` is called exactly once, when the job has its final state, even if it never ran, and before
        :meth:`Job.wait` returns. A long job starts when the jobs in ``after`` are done; it fails without calling
        ``work`` if one of them failed or was stopped.
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
        """Run the waiting short jobs. Only the running long job may call this, between two steps.

        Raises RuntimeError on any thread other than the worker's.
        """
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
        """The running job; while a long job serves a short one, this is the long job."""
        with self._changed:
            return self._current

    def jobs(self) -> list[Job]:
        """Return all jobs in execution order: the running job, the short jobs, the long jobs of the queue."""
        with self._changed:
            return [*([self._current] if self._current else []), *self._short, *self._long]

    def cancel(self, job: Job, *, keep: bool = True) -> None:
        """Cancel a job: a queued job at once, a running job after its current step."""
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
        """Reject new jobs, stop the running job, cancel waiting jobs, and join the thread (``timeout`` in seconds)."""
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
        """Return the job to run next, or None; the caller must hold the lock."""
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
                self._changed.notify_all()  # jobs in the queue may have waited for this one
