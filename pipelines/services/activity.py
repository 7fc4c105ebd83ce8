"""What the devices are doing, for pages that ask every second; cheap, and independent of the run that a page shows."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pipelines.jobs.worker import Job
from pipelines.runs.names import method_title
from pipelines.runs.status import Activity, Ended, QueueRow, Working
from pipelines.services.experiments import ExperimentService
from pipelines.services.resources import Resources

ENDED_S = 20.0  # for how long the end of a run is told
SHORT_S = 1.5  # a short job that is done sooner is not worth mentioning
WATCHED = ("", "events.jsonl", "scores")  # what changes inside a run's or an experiment's folder


class ActivityService:
    """The work of all devices, as far as it belongs to one owner."""

    def __init__(self, resources: Resources, *, experiments: ExperimentService) -> None:
        self.resources = resources
        self.experiments = experiments
        self._ended: tuple[float, str] | None = None  # moment (of the monotonic clock) and run
        resources.queue.end_listeners.append(self._run_ended)

    def now(self) -> Activity:
        """Return what is running, how many runs are queued, and which run has just ended."""
        rows = self.resources.queue.rows(owner=self.resources.owner)
        running = [self._run(row) for row in rows if row.state != "queued"]
        running += self._measurements()
        running += [] if running else self._short_jobs()
        queued = sum(row.state == "queued" for row in rows)
        return Activity(
            running=tuple(running),
            queued=queued,
            ended=self._last_end(),
            version=self._version(rows, running),
        )

    def _run_ended(self, run_id: str) -> None:
        self._ended = (time.monotonic(), run_id)

    def _last_end(self) -> Ended | None:
        if self._ended is None or time.monotonic() - self._ended[0] > ENDED_S:
            return None
        try:
            run = self.resources.store.get(self._ended[1])
        except ValueError:  # discarded, or another owner's
            return None
        return Ended(id=run.id, name=run.name, method=method_title(run.method), state=run.state)

    def _run(self, row: QueueRow) -> Working:
        run = self.resources.store.get(row.run)
        last = next((each for each in reversed(run.events()) if each["kind"] in ("step", "stage")), {})
        staged = last.get("kind") == "stage"
        done, total = (last["done"], last["total"]) if staged else (last.get("step", 0), run.config["steps"])
        return Working(
            kind="run",
            id=row.run,
            name=row.name,
            method=method_title(run.method),
            state=row.state,
            doing=str(last["name"]) if staged else "",
            share=done / total if total else 0.0,
            seconds_left=row.seconds_left,
        )

    def _measurements(self) -> Iterator[Working]:
        for told in self.experiments.measuring():
            share = told.done / told.total if told.total else 0.0
            yield Working(
                kind="experiment", id=told.experiment, name=told.name, doing=f"measuring {told.row}", share=share
            )  # fmt: skip

    def _short_jobs(self) -> Iterator[Working]:
        for device in self.resources.devices.all:
            job = device.worker.current
            if job is not None and _takes_long(job):
                yield Working(kind="job", id=job.id, name=job.name)

    def _version(self, rows: list[QueueRow], running: list[Working]) -> str:
        """Return a text that changes whenever something changes that a page may show."""
        queue = [(row.run, row.state, row.position) for row in rows]
        doing = [(each.id, each.doing, round(each.share or 0.0, 3)) for each in running if each.kind != "run"]
        return f"{hash((tuple(queue), tuple(doing))):x}-{self._newest():x}"

    def _newest(self) -> int:
        """Return the time of the newest change of a run or an experiment, also by another program, in nanoseconds."""
        newest = 0
        for folder in (self.resources.store.folder, self.experiments.store.folder):
            for path in _below(folder):
                with suppress(OSError):
                    newest = max(newest, path.stat().st_mtime_ns)
        return newest


def _below(folder: Path) -> Iterator[Path]:
    yield folder
    with suppress(FileNotFoundError), os.scandir(folder) as found:
        for entry in found:
            yield from (Path(entry.path, name) for name in WATCHED)


def _takes_long(job: Job) -> bool:
    return job.began > 0 and time.monotonic() - job.began > SHORT_S
