"""Starts, controls and monitors runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from pipelines.config import (
    PhotosConfig,
    TrainConfig,
    check_words,
    clean_text,
    from_dict,
    to_dict,
    whole_number,
)
from pipelines.data.subject import SubjectPhotos, named_together, read_subject, stored_subjects
from pipelines.jobs.worker import Job
from pipelines.methods.specs import MethodSpec, method_config, method_spec
from pipelines.models.inspection import BaseFacts, describe_base, portable_spec, read_header
from pipelines.runs.costs import SIZES, Cost
from pipelines.runs.library import EXAMPLE_PREFIX, check_finished, kind_of
from pipelines.runs.sequences import sequence_of
from pipelines.runs.status import QueueRow
from pipelines.runs.store import LIVE_STATES, Run
from pipelines.services.resources import Resources

if TYPE_CHECKING:
    from pipelines.jobs.model_cache import ModelCache, TrainingSession

STOPS = ("now", "checkpoint")
MOST_SAMPLE_PROMPTS = 6
SUBJECTS = {  # minimum and maximum number of subjects, by a method's inputs
    "one subject": (1, 1),
    "several subjects": (2, 3),
    "a sequence": (1, 16),
    "one image": (1, 1),
    "none": (0, 0),
}


class TrainingService:
    """Starts, controls and monitors runs."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources

    def start(
        self,
        method: str,
        config: TrainConfig | Mapping[str, Any],
        photo_paths: Sequence[Path] = (),
        *,
        base: str | None = None,
        crops: dict[str, tuple[float, float]] | None = None,
        captions: Mapping[str, str] | None = None,
        repeats: Mapping[str, int] | None = None,
        masks: Mapping[str, Path] | None = None,
        subjects: Sequence[SubjectPhotos] = (),
        parents: Sequence[str] = (),
        name: str = "",
        after: Sequence[str] = (),
    ) -> str:
        """Validate the input, copy the processed photographs into a new run, queue it, and return its id immediately.

        For one subject, pass ``photo_paths``, with its words in the config; ``crops``, ``captions``, ``repeats`` and
        ``masks`` are those of :class:`SubjectPhotos`. For several subjects, pass ``subjects`` instead. ``parents`` are
        the ids of finished runs that the run builds on. The run starts when the runs with the ids ``after`` are done.
        Raises ValueError with one sentence for invalid input.
        """
        spec, checked = self._checked(method, config)
        facts = describe_base(base or self.resources.base)
        if facts.problem:
            raise ValueError(facts.problem)
        earlier = self._jobs_of(after)
        one = SubjectPhotos(
            identifier=str(getattr(checked, "identifier", "")),
            class_noun=str(getattr(checked, "class_noun", "")),
            photo_paths=photo_paths,
            crops=crops or {},
            captions=captions or {},
            repeats=repeats or {},
            masks=masks or {},
        )
        taught = [*subjects] or ([one] if photo_paths or SUBJECTS[spec.inputs][0] == 1 else [])
        _check_inputs(spec, checked, taught)
        if spec.inputs == "several subjects":
            words = [clean_text(f"{one.identifier} {one.class_noun}") for one in taught]
            checked = replace(checked, sample_prompts=named_together(checked.sample_prompts, words))
        if spec.inputs == "a sequence" and len(taught) > 1:
            checked = _together(checked, [clean_text(one.identifier) for one in taught])
        self._check_parents(spec, parents, taught, base=facts, after=after)
        photos = sum(len(subject.photo_paths) for subject in taught)
        self.resources.store.check_space(self.cost(method, checked, photos, base=base).disk_mb + 50)
        size_px = checked.size_px or SIZES[facts.family].side_px
        find_masks = masks_background(checked)
        found = [read_subject(subject, size_px=size_px, mask_background=find_masks) for subject in taught]
        about = {"spec": facts.spec, "family": facts.family, "hash": ""}
        _check_one_image(spec, sum(len(read.photos) for read in found))  # an archive may hold several
        named = " and ".join(" ".join(read.words).strip() for read in found)
        title = clean_text(name) or named or checked.usage_prompt
        with self.resources.store.draft(method, to_dict(checked), about, name=title) as run:
            run.parents = list(parents)
            run.save()
            for index, read in enumerate(found, start=1):
                read.write(run.path / "photos" / f"{index:02d}")
            count = sum(len(read.photos) for read in found)
            run.append("created", method=method, base=about, config=run.config, photos=count)
        self.resources.queue.begin(run, after=earlier)
        return run.id

    def again(self, run_id: str, *, name: str = "", **changes: Any) -> str:
        """Start a new run on the photographs and with the settings of a run, except for ``changes``; return its id."""
        run = self.resources.library.find(run_id)
        config = replace(from_dict(method_config(run.method), run.config), **changes)
        subjects = [one.as_photos() for one in stored_subjects(run.path, run.config)]
        return self.start(run.method, config, subjects=subjects, base=run.base["spec"], name=name)

    def _checked(
        self, method: str, config: TrainConfig | Mapping[str, Any]
    ) -> tuple[MethodSpec, TrainConfig]:
        spec = method_spec(method)
        checked = from_dict(spec.config, config) if isinstance(config, Mapping) else config
        if not isinstance(checked, spec.config):
            raise ValueError(f"The settings are not those of {method}; reset them to a preset.")
        return spec, checked

    def _check_parents(
        self,
        spec: MethodSpec,
        parents: Sequence[str],
        taught: Sequence[SubjectPhotos],
        *,
        base: BaseFacts,
        after: Sequence[str],
    ) -> None:
        """Raise ValueError unless all parent runs exist, use this base, and are finished or among ``after``.

        The trigger words of ``taught`` must be new in the sequence.
        """
        if parents and spec.inputs != "a sequence":
            raise ValueError(f"{spec.title} does not build on other runs; leave the parents out.")
        for run_id in parents:
            parent = self.resources.library.find(run_id)
            if run_id not in after:
                check_finished(parent)
                if kind_of(parent) not in spec.adapter_kinds:
                    raise ValueError(
                        f"The run {parent.name!r} holds no concepts; choose a run of {spec.title} to build on."
                    )
                if parent.state in LIVE_STATES:
                    raise ValueError(
                        f"The run {parent.name!r} is still running; build on it when it has finished."
                    )
            if parent.base["spec"] != base.spec:
                raise ValueError(
                    f"The run {parent.name!r} was trained on another base ({portable_spec(parent.base['spec'])}); "
                    "choose that base to build on it."
                )
        for task in sequence_of(parents[-1], self.resources.library.find) if parents else ():
            for subject in taught:
                if task.word and task.word.lower() in clean_text(subject.identifier).lower().split():
                    raise ValueError(
                        f"The trigger word {task.word!r} already names {task.name!r} in this sequence; choose another."
                    )

    def cost(
        self,
        method: str,
        config: TrainConfig | Mapping[str, Any],
        n_photos: int,
        *,
        base: str | None = None,
    ) -> Cost:
        """Return the estimated cost of a run."""
        wanted = method_config(method)
        checked = from_dict(wanted, config) if isinstance(config, Mapping) else config
        facts = describe_base(base or self.resources.base)
        told = self.resources.costs.estimate(checked, spec=facts.spec, family=facts.family)
        return replace(told, disk_mb=told.disk_mb + 0.1 * n_photos)

    def stop(self, run_id: str, keep: bool = True, when: str = "now") -> None:
        """Stop a run after its current step (``when`` "now") or after its next checkpoint ("checkpoint").

        With ``keep`` the current adapter is saved; otherwise the run is stopped at once and deleted.
        """
        run = self.resources.library.find(run_id)
        job = self.resources.queue.alive(run_id)
        if when not in STOPS:
            raise ValueError(f"A run is stopped {' or at the next '.join(STOPS)}, not {when!r}; choose one.")
        if job is None:
            raise ValueError(f"The run {run.name!r} is not running, so it cannot be stopped.")
        if not keep:
            self.discard(run_id)
        elif when == "checkpoint" and job.state != "queued":
            job.stop_at_checkpoint()
        else:
            self.resources.devices.cancel(job)

    def discard(self, run_id: str) -> bool:
        """Delete a run; a running run is stopped first. A run that is trained further reverts to its finished state.

        Returns whether the run still exists.
        """
        run = self.resources.library.own(run_id)
        extended = run.extended
        job = self.resources.queue.alive(run_id)
        if job is not None:
            self.resources.devices.cancel(job, keep=False)
            if job.state in LIVE_STATES:
                return extended  # completed when the job reacts to the stop request
            job.wait()
            if extended or not (self.resources.store.folder / run_id).exists():
                return extended
        if extended:
            with run.hold():
                run.go_back()
        else:
            try:
                self.resources.store.delete(run_id)
            except ValueError:
                if (self.resources.store.folder / run_id).exists():
                    raise  # otherwise its cancelled job has deleted it meanwhile
        return extended

    def train_more(self, run_id: str, steps: int) -> None:
        """Train a run for ``steps`` more steps from its last checkpoint, including the optimizer state."""
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
        run.set_aside()
        run.config = to_dict(more)
        run.save()
        self.resources.queue.begin(run, lock=lock)

    def resume(self, run_id: str, *, after: Sequence[str] = ()) -> None:
        """Resume an interrupted, stopped or failed run from its last checkpoint, or restart it if there is none.

        ``after`` are the ids of runs that must be done first.
        """
        run = self.resources.library.own(run_id)
        if run.state == "done":
            raise ValueError(f"The run {run.name!r} is finished; use “Train more” to continue it.")
        self.resources.queue.begin(run, after=self._jobs_of(after))

    def _jobs_of(self, run_ids: Sequence[str]) -> list[Job]:
        return self.resources.queue.unfinished([self.resources.library.find(each) for each in run_ids])

    def sample_now(self, run_id: str) -> list[Path]:
        """Generate the sample prompts with the current adapter of a running run, between two steps."""

        def work(run: Run, session: TrainingSession, model_cache: ModelCache) -> list[Path]:
            from pipelines.jobs.train_job import draw_row

            step = session.step.index if session.step else 0
            row = draw_row(run, session, model_cache=model_cache, step=step, label="now")
            return [run.copy_out(name, self.resources.outbox) for name in row.files]

        return self._between_steps(run_id, "sample now", work)

    def save_now(self, run_id: str) -> int:
        """Save a checkpoint and the current adapter of a running run, between two steps; return their step."""

        def work(run: Run, session: TrainingSession, model_cache: ModelCache) -> int:
            from pipelines.jobs.train_job import keep, save_checkpoint

            if session.step is None:
                raise ValueError(f"The run {run.name!r} has no finished step yet; try again in a moment.")
            save_checkpoint(run, session.step)
            keep(run, session.adapter, step=session.step.index)
            return session.step.index

        return self._between_steps(run_id, "save now", work)

    def _between_steps(
        self, run_id: str, name: str, work: Callable[[Run, TrainingSession, ModelCache], Any]
    ) -> Any:
        """Call ``work`` with the training session of a running run, on its device, between two steps."""
        run = self.resources.library.own(run_id)
        training = self.resources.queue.alive(run_id)
        if training is None:
            raise ValueError(f"The run {run.name!r} is not running; use the playground instead.")
        if training.state == "queued":
            raise ValueError(f"The run {run.name!r} is in the queue; try again when it has started.")

        def short(job: Job) -> Any:
            model_cache = self.resources.model_cache(job)
            if model_cache.session is None or model_cache.session.run_id != run_id:
                raise ValueError("The run has not started training yet; try again in a moment.")
            return work(run, model_cache.session, model_cache)

        return self.resources.run_short(name, short, beside=run_id)

    def queue(self) -> list[QueueRow]:
        """Return the running and waiting runs in queue order."""
        return self.resources.queue.rows(owner=self.resources.owner)

    def move(self, run_id: str, position: int) -> None:
        """Move a waiting run to a position in the queue: 1 is next, a number beyond the end is last."""
        self.resources.queue.move(self.resources.library.own(run_id), position)

    def status(self, run_id: str, since: int = 0) -> dict[str, Any]:
        """Return the status of a run; ``events`` start at index ``since``, and ``next`` is the index after the last."""
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
        """Wait until a run of this process has ended and return its state. TimeoutError after ``timeout_s`` seconds."""
        run = self.resources.store.get(run_id)
        job = self.resources.queue.jobs.get(run_id)
        if job is not None and not job.wait(timeout_s):
            raise TimeoutError(f"The run {run_id} is still at work after {timeout_s:g} seconds.")
        return self.resources.store.get(run.id).state


def _check_inputs(spec: MethodSpec, config: TrainConfig, subjects: Sequence[SubjectPhotos]) -> None:
    """Raise ValueError for a number of subjects that the method does not support, or for invalid words of a subject."""
    least, most = SUBJECTS[spec.inputs]
    if len(subjects) > most:
        what = "no photographs" if not most else f"at most {most} subjects" if most > 1 else spec.inputs
        raise ValueError(
            f"{spec.title} learns from {what}; {len(subjects)} subjects were given, take some out."
        )
    if len(subjects) < least:
        what = f"at least {least} subjects" if least > 1 else "photographs"
        raise ValueError(f"{spec.title} learns from {what}; add them.")
    for subject in subjects if spec.inputs != "one image" else ():  # its words, if any, are settings
        words = clean_text(subject.identifier), clean_text(subject.class_noun)
        check_words(*words, class_images=bool(config.class_images_needed))
    if len(subjects) > 1:
        _check_told_apart(subjects)
    _check_one_image(spec, len(subjects[0].photo_paths) if subjects else 0)


def _check_one_image(spec: MethodSpec, photos: int) -> None:
    """Raise ValueError for another number of photographs than 1, if the method learns from one image."""
    if spec.inputs == "one image" and photos != 1:
        raise ValueError(f"{spec.title} learns from one image, not {photos}; keep one.")


def _together(config: TrainConfig, words: Sequence[str]) -> TrainConfig:
    """Return the settings of several subjects of a sequence that are trained at once, with the trigger words of all.

    A sample prompt with {identifier} becomes one prompt for each subject, as far as there is room.
    """
    prompts = [
        prompt.replace("{identifier}", word)
        for prompt in config.sample_prompts
        for word in (words if "{identifier}" in prompt else words[:1])
    ]
    told = {"identifier": " ".join(words), "sample_prompts": prompts[:MOST_SAMPLE_PROMPTS]}
    return from_dict(type(config), {**to_dict(config), **told})


def _check_told_apart(subjects: Sequence[SubjectPhotos]) -> None:
    """Raise ValueError unless each of several subjects has a class noun and a unique identifier."""
    for place, subject in enumerate(subjects, start=1):
        for word, label in ((subject.class_noun, "class word"), (subject.identifier, "trigger word")):
            if not clean_text(word):
                raise ValueError(
                    f"Subject {place} has no {label}; in one picture each subject needs its own."
                )
    words = [clean_text(subject.identifier).lower() for subject in subjects]
    for word in words:
        if words.count(word) > 1:
            raise ValueError(f"Two subjects have the trigger word {word!r}; give each its own.")


def masks_background(config: TrainConfig) -> bool:
    """Return whether a run creates automatic masks for photographs without one."""
    return isinstance(config, PhotosConfig) and config.uses_masks
