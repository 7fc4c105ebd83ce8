"""Runs are started, steered and watched."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from pipelines.config import SubjectConfig, clean_text, from_dict, method_config, to_dict, whole_number
from pipelines.data.captions import checked_repeats
from pipelines.data.photographs import read_photos
from pipelines.jobs.worker import Job
from pipelines.models.inspection import describe_base, read_header
from pipelines.runs.costs import SIZES
from pipelines.runs.library import EXAMPLE_PREFIX
from pipelines.runs.store import LIVE_STATES, Run
from pipelines.services.resources import Resources

if TYPE_CHECKING:
    from pipelines.jobs.model_cache import Learning, ModelCache

STOPS = ("now", "checkpoint")


class TrainingService:
    """Runs are started, steered and watched."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources

    def start(
        self,
        method: str,
        config: SubjectConfig | Mapping[str, Any],
        photo_paths: Sequence[Path],
        *,
        base: str | None = None,
        crops: dict[str, tuple[float, float]] | None = None,
        captions: Mapping[str, str] | None = None,
        repeats: Mapping[str, int] | None = None,
        name: str = "",
    ) -> str:
        """Check everything, copy the photographs clean into a new run, queue it, and return its id at once.

        ``crops`` nudges a photo's square by (dx, dy), by file name; ``captions`` are by file name, too, and so are
        ``repeats``: how often a photo is shown while the others are shown once. Raises ValueError, in one sentence, for
        whatever the user can mend.
        """
        wanted = method_config(method)
        checked = from_dict(wanted, config) if isinstance(config, Mapping) else config
        if not isinstance(checked, wanted):
            raise ValueError(f"The settings are not those of {method}; reset them to a preset.")
        facts = describe_base(base or self.resources.base)
        if facts["problem"]:
            raise ValueError(facts["problem"])
        shown_often = checked_repeats(repeats)
        self.resources.store.check_space(
            self.cost(method, checked, len(photo_paths), base=base)["disk_mb"] + 50
        )
        photos = read_photos(
            photo_paths, size_px=checked.size_px or SIZES[facts["family"]].side_px, crops=crops
        )
        about = {"spec": facts["spec"], "family": facts["family"], "hash": ""}
        title = clean_text(name) or f"{checked.identifier} {checked.class_noun}".strip()
        with self.resources.store.draft(method, to_dict(checked), about, name=title) as run:
            (run.path / "photos").mkdir()
            texts, times = {}, {}
            for index, photo in enumerate(photos):
                place = f"{index:02d}.png"
                photo.image.save(run.path / "photos" / place)
                texts[place] = clean_text(str((captions or {}).get(photo.name, photo.caption)))
                times[place] = shown_often.get(photo.name, 1)
            run.write_json("captions.json", texts)
            if set(times.values()) != {1}:
                run.write_json("repeats.json", times)
            run.append("created", method=method, base=about, config=run.config, photos=len(photos))
        self.resources.queue.begin(run)
        return run.id

    def cost(
        self,
        method: str,
        config: SubjectConfig | Mapping[str, Any],
        n_photos: int,
        *,
        base: str | None = None,
    ) -> dict[str, Any]:
        """Return what a run will take: seconds, of which class_seconds for class images; memory_mb; disk_mb; file_mb."""
        wanted = method_config(method)
        checked = from_dict(wanted, config) if isinstance(config, Mapping) else config
        facts = describe_base(base or self.resources.base)
        told = self.resources.costs.estimate(checked, spec=facts["spec"], family=facts["family"])
        told["disk_mb"] += 0.1 * n_photos
        return told

    def stop(self, run_id: str, keep: bool = True, when: str = "now") -> None:
        """Stop a run after its current step, or ``when`` it has written its next "checkpoint".

        ``keep`` writes what it has learned, else the run is deleted, at once.
        """
        run = self.resources.library.find(run_id)
        job = self.resources.queue.alive(run_id)
        if when not in STOPS:
            raise ValueError(f"A run is stopped {' or at the next '.join(STOPS)}, not {when!r}; choose one.")
        if job is None:
            raise ValueError(f"The run {run.name!r} is not at work, so there is nothing to stop.")
        if not keep:
            self.discard(run_id)
        elif when == "checkpoint" and job.state != "queued":
            job.stop_at_rest()
        else:
            self.resources.devices.cancel(job)

    def discard(self, run_id: str) -> None:
        """Delete a run and all that belongs to it, stopping it first when it is at work."""
        job = self.resources.queue.alive(run_id)
        if job is not None:
            self.resources.devices.cancel(job, keep=False)
            if job.state in LIVE_STATES:
                return  # it deletes itself when it has seen the word
            job.wait()
            if not (self.resources.store.folder / run_id).exists():
                return
        self.resources.library.own(run_id)
        self.resources.store.delete(run_id)

    def train_more(self, run_id: str, steps: int) -> None:
        """Continue a run for ``steps`` more than it has done, with its optimizer as it was at the last checkpoint."""
        run = self.resources.library.own(run_id)
        checkpoint = run.file("checkpoint.safetensors")
        if not checkpoint.is_file():
            raise ValueError(f"The run {run.name!r} has no checkpoint to continue from; start a new one.")
        more_steps = whole_number(steps, label="More steps")
        if more_steps < 1:
            raise ValueError(f"More steps is {more_steps}; ask for at least 1.")
        reached = json.loads(read_header(checkpoint)["__metadata__"]["state"])["step"]
        config = from_dict(method_config(run.method), run.config)
        total = reached + more_steps
        more = replace(config, steps=total, warmup_steps=min(config.warmup_steps, total))
        lock = run.acquire()
        run.config = to_dict(more)
        run.save()
        self.resources.queue.begin(run, lock=lock)

    def resume(self, run_id: str) -> None:
        """Continue an interrupted, stopped or failed run from its last checkpoint, or from its photographs."""
        run = self.resources.library.own(run_id)
        if run.state == "done":
            raise ValueError(f"The run {run.name!r} is finished; use “train more” to go on.")
        self.resources.queue.begin(run)

    def sample_now(self, run_id: str) -> list[Path]:
        """Draw the run's sample prompts with what it has learned by now, between two of its steps."""

        def work(run: Run, learning: Learning, shop: ModelCache) -> list[Path]:
            from pipelines.jobs.train_job import draw_row

            step = learning.step.index if learning.step else 0
            row = draw_row(run, learning, model_cache=shop, step=step, label="now")
            return [run.copy_out(name, self.resources.outbox) for name in row.files]

        return self._between_steps(run_id, "sample now", work)

    def save_now(self, run_id: str) -> int:
        """Write a checkpoint and the adapter as it is now, between two steps, and return the step they are of."""

        def work(run: Run, learning: Learning, shop: ModelCache) -> int:
            from pipelines.jobs.train_job import keep, save_checkpoint

            if learning.step is None:
                raise ValueError(f"The run {run.name!r} has made no step yet; ask again in a moment.")
            save_checkpoint(run, learning.step)
            keep(run, learning.adapter, step=learning.step.index)
            return learning.step.index

        return self._between_steps(run_id, "save now", work)

    def _between_steps(self, run_id: str, name: str, work: Callable[[Run, Learning, ModelCache], Any]) -> Any:
        """Do something with what a run at work has learned so far, on its own device."""
        run = self.resources.library.own(run_id)
        training = self.resources.queue.alive(run_id)
        if training is None:
            raise ValueError(f"The run {run.name!r} is not at work; use the playground instead.")
        if training.state == "queued":
            raise ValueError(f"The run {run.name!r} waits for its turn; ask again when it has begun.")

        def short(job: Job) -> Any:
            shop = self.resources.model_cache(job)
            if shop.learning is None or shop.learning.run_id != run_id:
                raise ValueError("The run has not begun to learn yet; ask again in a moment.")
            return work(run, shop.learning, shop)

        return self.resources.run_short(name, short, beside=run_id)

    def queue(self) -> list[dict[str, Any]]:
        """Return the runs at work (position 0, each on its ``device``) and those that wait (1 is next), in order.

        ``seconds_left`` is the time until a run will be done, with what stands before it.
        """
        return self.resources.queue.rows()

    def move(self, run_id: str, position: int) -> None:
        """Give a waiting run another place in the queue: 1 is next, a number beyond the end is last."""
        self.resources.queue.move(self.resources.library.own(run_id), position)

    def status(self, run_id: str, since: int = 0) -> dict[str, Any]:
        """Return all a page shows about a run; ``events`` are those from number ``since`` on, ``next`` the next."""
        run = self.resources.library.find(run_id)
        events = run.events()
        state = "done" if run_id.startswith(EXAMPLE_PREFIX) else run.state
        steps = [event for event in events if event["kind"] == "step"]
        recent = [event["seconds"] for event in steps[-20:]]
        if state == "running" and self.resources.queue.ends(run_id):
            state = "stopping"
        failed = run.last_state() if state == "failed" else {}
        return {
            "id": run_id,
            "name": run.name,
            "method": run.method,
            "state": state,
            "error": failed.get("message", ""),
            "config": run.config,
            "base": run.base,
            "path": str(run.path),
            "created": run.created,
            "step": steps[-1]["step"] if steps else 0,
            "total": run.config.get("steps", 0),
            "seconds_per_step": median(recent) if recent else None,
            "eta_s": self.resources.costs.seconds_left(run, events) if state in LIVE_STATES else None,
            "queue_position": self.resources.queue.place(run_id),
            "note": run.note,
            "events": events[since:],
            "next": len(events),
        }

    def wait(self, run_id: str, timeout_s: float | None = None) -> str:
        """Wait until a run of this program has ended and return its state. TimeoutError after ``timeout_s``."""
        job = self.resources.queue.jobs.get(run_id)
        if job is not None and not job.wait(timeout_s):
            raise TimeoutError(f"The run {run_id} is still at work after {timeout_s:g} seconds.")
        return self.resources.store.get(run_id).state
