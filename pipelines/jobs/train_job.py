"""One training run, from the photographs to the finished adapter, on the worker's thread, recorded in the run's events.

The order: base, photographs, class images, adapter, samples before the first step, the training loop with checkpoints
and samples, the adapter's file. Between two steps the worker runs waiting short jobs.
"""

import json
import logging
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import cast

from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from pipelines.adapters.core import Adapter, injected, save_adapter, save_tensors
from pipelines.config import PhotosConfig, SampleConfig, TrainConfig, from_dict
from pipelines.data.photographs import Moments, encode, to_tensor
from pipelines.data.subject import SCENES, StoredSubject, Subject, stored_subjects
from pipelines.evaluation.metrics import Similarity, measure
from pipelines.evaluation.tagging import described, vocabulary
from pipelines.files import write_atomic, write_json
from pipelines.jobs.model_cache import ModelCache, TrainingSession
from pipelines.jobs.worker import Job
from pipelines.methods.core import Concludes, Method, Observes, Prepares, RecordsAttention, Replays
from pipelines.methods.scenes import composites, scene_pictures
from pipelines.methods.specs import MethodSpec, method_config, method_spec
from pipelines.methods.subject import prior_moments
from pipelines.models.base import Base
from pipelines.runs.costs import MEASURED_PICTURES, Costs, Speed, sample_every
from pipelines.runs.library import check_finished
from pipelines.runs.model_card import card
from pipelines.runs.shipped import find_beside
from pipelines.runs.store import Run, read_run, snapshot_name
from pipelines.sampling.image_metadata import Layer, save_pictures
from pipelines.training.loop import Batches, Step, TrainState, train
from pipelines.unet_blocks import Strength

log = logging.getLogger(__name__)

CHECKPOINT_S = 10.0  # minimum seconds between two checkpoints ...
CHECKPOINT_SHARE = 10.0  # ... and minimum multiple of the time that writing one takes


UNMEASURED = (
    "The result is not measured, because CLIP and DINO for {base} are not on this machine; connect to the "
    "internet once so that they can be stored, or switch 'Measure the result' off."
)


class StoppedEarlyError(Exception):
    """The run was stopped before its first step, so there is no adapter to save."""


@dataclass
class TrainJob:
    """Executes one run. ``serve`` runs waiting short jobs; ``cache`` is the folder of class images."""

    run: Run
    job: Job
    model_cache: ModelCache
    serve: Callable[[], None]
    cache: Path
    costs: Costs
    spec: MethodSpec = field(init=False)
    config: TrainConfig = field(init=False)
    base: Base = field(init=False)
    subjects: list[Subject] = field(default_factory=list)
    photos: list[Image.Image] = field(default_factory=list)  # of all subjects
    similarity: Similarity | None = None
    last_row: "Row | None" = None
    observe: Callable[[int, Adapter], None] | None = None
    sample_seconds: list[float] = field(default_factory=list)  # per picture and denoising step
    step_seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.spec = method_spec(self.run.method)
        self.config = from_dict(self.spec.config, self.run.config)

    def perform(self) -> None:
        """Execute the run, or resume it from its checkpoint after an interruption."""
        started = time.monotonic()
        self.run.append("state", state="running", message="")
        for cut_off in self.run.path.glob(".*.part"):  # an incomplete file of a killed process
            cut_off.unlink()
        try:
            self._stage("Loading the base", done=0, total=1)
            self.base = self._load_base()
            self.subjects = self._read_subjects()
            class_started = time.monotonic()
            self.subjects = [self._with_class_images(subject) for subject in self.subjects]
            method = self.spec.load()
            adapter = method.adapter(self.base, self.config, self._parents())
            if isinstance(method, Prepares):
                method.prepare(adapter, self.base, self._progress_callback(self.spec.preparing))
            if isinstance(method, Replays):
                drawing = self._progress_callback("Drawing earlier concepts")
                self.subjects += method.replayed(adapter, self.base, self.config, drawing)
        except StoppedEarlyError:
            return
        now = time.monotonic()
        start_s = class_started - started
        log.info("run %s prepared in %.1f s, class images %.1f s", self.run.id, start_s, now - class_started)
        batches = method.batches(self.base, self.subjects, self.config)
        if isinstance(method, Observes):
            self.observe = method.observer(self.base, self.subjects, self.config, self.run)
        session = TrainingSession(run_id=self.run.id, base=self.base, adapter=adapter)
        with injected(adapter, self.base), self.model_cache.training(session):
            note(self.run, adapter.note)
            finished = self._learn(session, batches=batches, method=method)
            if finished and self.job.keep:
                keep(self.run, adapter, step=finished)
        if finished == self.config.steps:
            self._measure(adapter)
            if isinstance(method, Concludes):
                self._conclude(method, adapter)
            self._record_speed(start_s)

    def _stage(self, name: str, *, done: int, total: int) -> None:
        """Record the progress of the preparation and run waiting short jobs.

        Raises StoppedEarlyError if a stop was requested.
        """
        self.run.append("stage", name=name, done=done, total=total)
        self.serve()
        if self.job.stop_requested:
            raise StoppedEarlyError

    def _load_base(self) -> Base:
        base = self.model_cache.base(self.run.base["spec"])
        known = self.run.base.get("hash")
        if known and known != base.hash:
            raise ValueError(
                f"The base {base.name} is not the one this run was started on (its weights have changed); "
                "start a new run."
            )
        reread(self.run)
        self.run.base = {"spec": base.spec, "family": base.family, "hash": base.hash, "name": base.name}
        self.run.save()
        return base

    def _parents(self) -> list[Run]:
        """Return the parent runs. Raises ValueError if one is missing, unfinished, or was trained on another base."""
        found = [find_beside(self.run, run_id) for run_id in self.run.parents]
        for parent in found:
            check_finished(parent)
            if parent.base["hash"] != self.base.hash:
                raise ValueError(
                    f"The run {parent.name!r} was trained on another base than {self.base.name}, so nothing can "
                    "build on it here; choose its own base."
                )
        return found

    def _read_subjects(self) -> list[Subject]:
        """Return the subjects with their photographs as VAE moments, from the run's processed copies."""
        stored = stored_subjects(self.run.path, self.run.config)
        total, done = sum(len(subject.photos) for subject in stored), 0
        found = []
        for subject in stored:
            self._stage("Reading the photographs", done=done, total=total)
            found.append(self._encode(subject))
            done += len(subject.photos)
        return found

    def _encode(self, stored: StoredSubject) -> Subject:
        """Return one subject; its photographs are encoded once per run and the moments are cached."""
        names = tuple(path.name for path in stored.photos)
        pictures = {path.name: open_picture(path) for path in stored.photos}
        self.photos += pictures.values()
        subject = Subject(
            identifier=stored.identifier,
            class_noun=stored.class_noun,
            names=names,
            captions=self._captions(stored, pictures),
            moments=self._moments(stored, pictures),
            repeats=tuple(int(stored.repeats.get(name, 1)) for name in names),
            pixels=to_tensor(list(pictures.values())) if self.spec.keeps_pixels else None,
            masks=mask_tensor([open_picture(path) for path in stored.masks]) if stored.masks else None,
        )
        in_scenes = isinstance(self.config, PhotosConfig) and self.config.scenes > 0 and stored.masks
        return self._in_scenes(subject, stored, pictures) if in_scenes else subject

    def _moments(self, stored: StoredSubject, pictures: Mapping[str, Image.Image]) -> Moments:
        cached = stored.folder / "moments.safetensors"
        if cached.is_file():
            return Moments(**load_file(cached))
        moments = encode(self.base, pictures)
        save_tensors(cached, {"mean": moments.mean, "logvar": moments.logvar}, metadata={})
        return moments

    def _in_scenes(
        self, subject: Subject, stored: StoredSubject, pictures: Mapping[str, Image.Image]
    ) -> Subject:
        """Return the subject with composites instead of its photographs; each caption includes the scene."""
        config = self.config
        assert isinstance(config, PhotosConfig), "scenes are a setting of methods that learn from photographs"
        scenes = scene_pictures(
            self.base, config, self.cache.with_name("scenes"), self._progress_callback("Drawing scenes")
        )
        masks = [open_picture(path).convert("L") for path in stored.masks]
        made = composites(list(pictures.values()), masks, scenes, config)
        shown = stored.folder / SCENES
        shown.mkdir(exist_ok=True)
        for name, (picture, _, _) in zip(subject.names, made[:: config.scenes], strict=True):
            picture.save(shown / name)
        names = tuple(f"{name}#{index}" for name in subject.names for index in range(config.scenes))
        images = {name: picture for name, (picture, _, _) in zip(names, made, strict=True)}
        return replace(
            subject,
            names=names,
            captions=tuple(caption for _, _, caption in made),
            moments=encode(self.base, images),
            repeats=tuple(times for times in subject.repeats for _ in range(config.scenes)),
            pixels=to_tensor(list(images.values())) if self.spec.keeps_pixels else None,
            masks=mask_tensor([mask for _, mask, _ in made]),
        )

    def _captions(self, stored: StoredSubject, pictures: Mapping[str, Image.Image]) -> tuple[str, ...]:
        """Return the caption of each photograph: its own, or CLIP's with ``auto_captions``, cached for a resumed run."""
        config = self.config
        if not isinstance(config, PhotosConfig):
            return ("",) * len(pictures)
        own = stored.captions if config.use_captions else {}
        texts = {name: str(own.get(name, "")) for name in pictures}
        if config.auto_captions and not all(texts.values()):
            kept = stored.folder / "described.json"
            if not kept.is_file():
                write_json(
                    kept, self._describe(pictures, prompt=config.instance_prompt, kind=stored.class_noun)
                )
            told = json.loads(kept.read_text(encoding="utf-8"))
            texts = {name: text or told[name] for name, text in texts.items()}
        return tuple(texts.values())

    def _describe(self, pictures: Mapping[str, Image.Image], *, prompt: str, kind: str) -> dict[str, str]:
        encoders = self.model_cache.encoders(self.base.family)
        if encoders is None:
            raise ValueError(
                f"There is no CLIP on this machine to describe the photographs for {self.base.name}; "
                "write the captions by hand, or switch 'Describe the photos' off."
            )
        words = vocabulary(self.base.family)
        captions = described(list(pictures.values()), encoders.clip, words, prompt=prompt, kind=kind)
        return dict(zip(pictures, captions, strict=True))

    def _with_class_images(self, subject: Subject) -> Subject:
        config = self.config
        if not config.class_images_needed or not isinstance(config, PhotosConfig):
            return subject
        prompt, teller = subject.words(config.class_prompt), self._progress_callback("Drawing class images")
        return replace(
            subject, class_moments=prior_moments(self.base, config, self.cache, teller, prompt=prompt)
        )

    def _progress_callback(self, name: str) -> Callable[[int, int], None]:
        return lambda done, total: self._stage(name, done=done, total=total)

    def _learn(self, session: TrainingSession, *, batches: Batches, method: Method) -> int:
        """Run the training loop with events, samples and checkpoints; return the last finished step (0: none)."""
        resume = self._checkpoint()
        finished = resume.meta["step"] if resume else 0
        if resume:
            self.run.append("resumed", step=finished)
        else:
            self._sample_row(session, step=0, label="before")
        every, kept_on_the_way = sample_every(self.config), self.config.snapshot_steps
        clock = CheckpointClock()
        steps = train(
            self.base,
            session.adapter,
            batches,
            method.loss,
            self.config,
            resume=resume,
            attention_layers=method.attention_layers if isinstance(method, RecordsAttention) else None,
        )
        with closing(cast("Generator[Step, None, None]", steps)):
            for step in steps:
                session.step, finished = step, step.index
                self._tell(step)
                last = step.index == step.total
                if step.index in kept_on_the_way:
                    keep_snapshot(self.run, session.adapter, step=step.index)
                if last or step.index % every == 0:
                    self._sample_row(session, step=step.index, label="after" if last else "")
                if last or clock.due() or (self.job.stop_requested and self.job.keep):
                    clock.wrote(save_checkpoint(self.run, step))
                    if self.job.checkpoint_stop_requested and not last:
                        self.job.stop()
                self.serve()
                if self.job.stop_requested:
                    break
        return finished

    def _checkpoint(self) -> TrainState | None:
        path = self.run.file("checkpoint.safetensors")
        return TrainState.load(path) if path.is_file() else None

    def _tell(self, step: Step) -> None:
        self.step_seconds.append(step.seconds)
        self.run.append(
            "step",
            step=step.index,
            total=step.total,
            seconds=round(step.seconds, 5),
            learning_rate=step.learning_rate,
            grad_norm=round(step.grad_norm, 6),
            terms={name: round(value, 6) for name, value in step.terms.items()},
        )

    def _sample_row(self, session: TrainingSession, *, step: int, label: str) -> None:
        drawn = draw_row(self.run, session, model_cache=self.model_cache, step=step, label=label)
        pictures = len(drawn.pictures) * self.config.sample_steps
        self.sample_seconds.append(drawn.seconds / pictures)
        self.last_row = drawn
        if self.similarity is None:
            self.similarity = self._similarity(drawn.pictures if step == 0 else self._first_pictures())
        if self.observe is not None:
            self.observe(step, session.adapter)
        if self.similarity is not None:
            self.run.append("similarity", step=step, **self.similarity.event(drawn.pictures, drawn.prompts))

    def _first_pictures(self) -> list[Image.Image]:
        return [open_picture(path) for path in sorted((self.run.path / "samples").glob("000000-*.png"))]

    def _similarity(self, base_pictures: list[Image.Image]) -> Similarity | None:
        encoders = self.model_cache.encoders(self.base.family)
        if encoders is None:
            note(self.run, UNMEASURED.format(base=self.base.name) if self.config.measure else "")
        if encoders is None or not base_pictures or not self.photos:
            return None
        identifier = self.subjects[0].identifier if len(self.subjects) == 1 else ""
        return Similarity(encoders, photos=self.photos, base_pictures=base_pictures, identifier=identifier)

    def _measure(self, adapter: Adapter) -> None:
        """Evaluate the finished adapter on its last samples, pictures of the class, and several of one prompt."""
        config = self.config
        if not config.measure or self.last_row is None or len(self.subjects) != 1:
            return
        encoders = self.model_cache.encoders(self.base.family)
        if encoders is None or not isinstance(config, PhotosConfig):
            return
        self.run.append("stage", name="Measuring", done=0, total=1)
        asked = SampleConfig(
            steps=self.config.sample_steps,
            guidance_scale=self.base.guidance_scale,
            seed=self.config.sample_seed,
            count=MEASURED_PICTURES,
            size_px=self.config.size_px,
        )
        of_class = replace(asked, prompt=self.subjects[0].words(config.class_prompt))
        of_subject = replace(asked, prompt=self.last_row.prompts[0])
        stack: list[tuple[Adapter, Strength]] = [(adapter, 1.0)]
        scores = measure(
            encoders,
            photos=self.photos,
            generated=self.last_row.pictures,
            prompts=self.last_row.prompts,
            class_pictures=self.model_cache.draw(self.base, stack, of_class).images,
            same_prompt=self.model_cache.draw(self.base, stack, of_subject).images,
            identifier=self.subjects[0].identifier,
        )
        self.run.write_json("metrics.json", scores)
        self.run.append("metrics", **scores)

    def _conclude(self, method: Concludes, adapter: Adapter) -> None:
        self.run.append("stage", name="Drawing every concept", done=0, total=1)
        stack: list[tuple[Adapter, Strength]] = [(adapter, 1.0)]
        method.conclude(
            self.run,
            adapter,
            self.base,
            self.config,
            draw=lambda asked: self.model_cache.draw(self.base, stack, asked).images,
            encoders=self.model_cache.encoders(self.base.family),
            photos=self.photos,
            parents=self._parents(),
        )

    def _record_speed(self, start_s: float) -> None:
        pictures = self.config.pictures_per_forward * self.config.accumulation
        if not self.step_seconds:
            return
        measured = Speed(
            train_s=median(self.step_seconds) / pictures,
            sample_s=median(self.sample_seconds),
            start_s=start_s,
        )
        self.costs.record(
            self.base.spec, device=self.base.device.type, family=self.base.family, measured=measured
        )


def note(run: Run, text: str) -> None:
    """Append a note for the user to the run's events, unless it is empty or already there."""
    told = [event["text"] for event in run.events() if event["kind"] == "note"]
    if text and text not in told:
        run.append("note", text=text)


def reread(run: Run) -> None:
    """Reload the run's name and note, which the user may have edited meanwhile."""
    now = read_run(run.path)
    run.name, run.note = now.name, now.note


def save_checkpoint(run: Run, step: Step) -> float:
    """Write a checkpoint to resume after ``step``; return the seconds it took."""
    started = time.monotonic()
    step.state().save(run.file("checkpoint.safetensors"))
    run.append("checkpoint", step=step.index)
    return time.monotonic() - started


def keep(run: Run, adapter: Adapter, *, step: int) -> None:
    """Save the adapter with its metadata, and the run's model card."""
    reread(run)
    save_adapter(run.file("adapter.safetensors"), adapter, extra=adapter_facts(run, step=step))
    write_atomic(run.file("card.md"), card(run, step=step).encode())


def keep_snapshot(run: Run, adapter: Adapter, *, step: int) -> None:
    """Save a snapshot of the adapter after ``step`` in addition to the final adapter, and append an event."""
    name = snapshot_name(step)
    run.file(name).parent.mkdir(exist_ok=True)
    save_adapter(run.file(name), adapter, extra=adapter_facts(run, step=step))
    run.append("snapshot", step=step, file=name)


def adapter_facts(run: Run, *, step: int) -> dict[str, object]:
    """Return the metadata about the run that is stored in an adapter's file."""
    config = from_dict(method_config(run.method), run.config)
    return {
        "run": run.id,
        "name": run.name,
        "method": run.method,
        "config": run.config,
        "base": {name: value for name, value in run.base.items() if name != "spec"},  # may be a local path
        "step": step,
        "seed": config.seed,
        "versions": run.versions,
        "prompt": config.usage_prompt,
    }


class CheckpointClock:
    """Decides when to write a checkpoint: after ``CHECKPOINT_S`` seconds, or later if writing is slow."""

    def __init__(self) -> None:
        self.last = time.monotonic()
        self.pause_s = CHECKPOINT_S

    def due(self) -> bool:
        """Return whether enough time has passed since the last checkpoint."""
        return time.monotonic() - self.last >= self.pause_s

    def wrote(self, seconds: float) -> None:
        """Record that a checkpoint was just written and took ``seconds``."""
        self.last = time.monotonic()
        self.pause_s = max(CHECKPOINT_S, CHECKPOINT_SHARE * seconds)


@dataclass(frozen=True)
class Row:
    """One picture for each sample prompt of a run, and the total seconds."""

    prompts: list[str]
    pictures: list[Image.Image]
    files: list[str]  # relative to the run's folder
    seconds: float


def draw_row(run: Run, session: TrainingSession, *, model_cache: ModelCache, step: int, label: str) -> Row:
    """Generate one picture per sample prompt with the current adapter, save them and append events to the run."""
    config = from_dict(method_config(run.method), run.config)
    row = Row(
        prompts=[config.words(prompt) for prompt in config.sample_prompts], pictures=[], files=[], seconds=0.0
    )
    (run.path / "samples").mkdir(exist_ok=True)
    total = 0.0
    for index, prompt in enumerate(row.prompts):
        asked = SampleConfig(
            prompt=prompt,
            negative_prompt=config.sample_negative_prompt,
            steps=config.sample_steps,
            seed=config.sample_seed,
            guidance_scale=session.base.guidance_scale,
            size_px=config.size_px,
        )
        drawn = model_cache.draw(session.base, [(session.adapter, 1.0)], asked)
        name = f"samples/{'now-' if label == 'now' else ''}{step:06d}-{index}.png"
        stack = [Layer(run=run.id, name=run.name, strength=1.0, step=step)] if step else []
        save_pictures(
            drawn.images, asked, stack=stack, base=session.base, path=lambda _, name=name: run.file(name)
        )
        run.append(
            "sample",
            step=step,
            prompt=prompt,
            seed=asked.seed,
            files=[name],
            label=label,
            seconds=round(drawn.seconds, 3),
        )
        for text in drawn.notes:
            note(run, text)
        row.pictures.append(drawn.images[0])
        row.files.append(name)
        total += drawn.seconds
    return replace(row, seconds=total)


def mask_tensor(masks: Sequence[Image.Image]) -> Tensor:
    """Return masks as (N, 1, H, W) float32 in [0, 1]."""
    return (to_tensor(masks)[:, :1] + 1) / 2


def open_picture(path: Path) -> Image.Image:
    """Open a PNG file that Atelier wrote, as RGB."""
    with Image.open(path) as picture:
        return picture.convert("RGB")
