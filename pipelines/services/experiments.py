"""Experiments: start, status, stop, resume, export.

The runs of an experiment use the common training queue. When all runs of a row are finished, the row's measurement is
queued first. A failed run marks its row as failed; the other rows continue. The status is computed from the
experiment's folder and the states of its runs, so it survives a restart of the program.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipelines.config import from_dict, to_dict
from pipelines.experiments import block_comparison as blocks
from pipelines.experiments import method_comparison as methods
from pipelines.experiments.photos import Tags, squares, style_squares
from pipelines.experiments.settings import BlocksConfig, ExperimentConfig, MethodsConfig, config_class
from pipelines.experiments.status import status_of
from pipelines.experiments.store import (
    Experiment,
    ExperimentStore,
    PlannedRow,
    PlannedRun,
    shipped_experiments,
)
from pipelines.jobs.queue import OUT_OF_MEMORY, ran_out_of_memory
from pipelines.jobs.worker import Job
from pipelines.methods.specs import method_config
from pipelines.models.inspection import describe_base
from pipelines.runs.status import Measurement
from pipelines.services.resources import Resources
from pipelines.services.training import TrainingService

log = logging.getLogger(__name__)

CARD = ("id", "name", "kind", "state", "created", "shipped")
GO_ON = ("interrupted", "stopped", "failed")  # states of a run that an experiment resumes
RARE = ("sks", "qev")  # default identifiers of a style: the first that differs from the character's
Key = tuple[str, str, int]  # experiment, row, step


class ExperimentService:
    """Several runs on the same photographs, and one evaluation of all of them."""

    def __init__(self, resources: Resources, *, training: TrainingService, tags: Tags) -> None:
        """``tags`` returns CLIP's tags of pictures, such as :meth:`InspectionService.tags`."""
        self.resources = resources
        self.training = training
        self.tags = tags
        self.store = ExperimentStore(resources.root, owner=resources.owner)
        self._measuring: dict[Key, Job] = {}
        self._told: dict[Key, tuple[int, int]] = {}
        self._halted: set[str] = set()
        self._guard = threading.RLock()
        resources.queue.end_listeners.append(self.run_ended)

    def start(
        self,
        kind: str,
        config: ExperimentConfig | Mapping[str, Any],
        photo_paths: Sequence[Path],
        *,
        class_noun: str,
        identifier: str,
        base: str | None = None,
        crops: dict[str, tuple[float, float]] | None = None,
        captions: Mapping[str, str] | None = None,
        style_paths: Sequence[Path] = (),
        style_captions: Mapping[str, str] | None = None,
        style_word: str = "",
        runs: Mapping[str, str] | None = None,
        name: str = "",
    ) -> str:
        """Validate the input, copy the photographs, queue all runs, and return the experiment's id immediately.

        ``kind``: "methods" (which method) or "blocks" (character and style; ``style_paths`` are pictures in the style,
        captioned with CLIP's tags or with ``style_captions``). Captions and crops are by file name. ``runs`` maps the
        keys of planned runs to the ids of finished runs that replace them. Raises ValueError with one sentence for
        invalid input.
        """
        checked = checked_config(kind, config)
        facts = describe_base(base or self.resources.base)
        if facts.problem:
            raise ValueError(facts.problem)
        sets = {methods.PHOTOS: squares(photo_paths, facts, crops=crops, captions=captions)}
        if kind == "blocks":
            sets[blocks.STYLE] = style_squares(style_paths, facts, captions=style_captions, tags=self.tags)
        told = {
            label: {f"{place:02d}.png": text for place, (_, text) in enumerate(found)}
            for label, found in sets.items()
        }
        rare = style_word or next(word for word in RARE if word != identifier)
        words = {
            "class_noun": class_noun,
            "identifier": identifier,
            "style_word": rare if kind == "blocks" else "",
        }
        captioned = {label: any(texts.values()) for label, texts in told.items()}
        plan, rows = planned(checked, family=facts.family, words=words, captioned=captioned)
        self._take(runs or {}, plan, spec=facts.spec)
        self._check_space(plan, base=facts.spec)
        with self.store.draft(
            kind, name=name or f"{identifier} {class_noun}".strip(), config=to_dict(checked),
            base={"spec": facts.spec, "family": facts.family}, words=words, runs=plan, rows=rows,
        ) as made:  # fmt: skip
            made.captions = {label: texts for label, texts in told.items() if captioned[label]}
            for label, found in sets.items():
                folder = made.path / "photos" / label
                folder.mkdir(parents=True)
                for place, (image, _) in enumerate(found):
                    image.save(folder / f"{place:02d}.png")
        self._launch(made)
        return made.id

    def cost(
        self, kind: str, config: ExperimentConfig | Mapping[str, Any], *, base: str | None = None
    ) -> dict[str, float]:
        """Return the estimated cost of an experiment: ``seconds``, ``runs``, ``pictures``, ``disk_mb``."""
        checked = checked_config(kind, config)
        facts = describe_base(base or self.resources.base)
        words = {"class_noun": "person", "identifier": "sks", "style_word": "qev"}
        runs, rows = planned(checked, family=facts.family, words=words, captioned={})
        estimates = [self.training.cost(run.method, run.config, 1, base=facts.spec) for run in runs]
        each = len(checked.prompts) * checked.seeds
        pictures = sum((1 + len(row.steps)) * each for row in rows)
        picture_s = self.resources.costs.seconds_per_picture(
            facts.spec, facts.family, steps=checked.sample_steps
        )
        return {
            "runs": len(runs),
            "pictures": pictures,
            "seconds": round(sum(told.seconds for told in estimates) + pictures * picture_s, 1),
            "disk_mb": round(sum(told.disk_mb for told in estimates) + 0.05 * pictures, 1),
        }

    def list(self, *, shipped: bool = False) -> list[dict[str, Any]]:
        """Return every experiment, the newest first, as id, name, kind, state, created, shipped.

        With ``shipped`` the recorded ones follow.
        """
        recorded = shipped_experiments() if shipped else []
        found = [self._status(experiment) for experiment in (*self.store.list(), *recorded)]
        return [{name: status[name] for name in CARD} for status in found]

    def status(self, experiment_id: str) -> dict[str, Any]:
        """Return the status of an experiment.

        Keys: ``state``, ``rows``, ``tables``, ``charts``, ``sentences``, ``pictures`` (``heads``, and for each row the
        files of its first seed), ``done`` of ``total`` and ``doing``.
        """
        return self._status(self.store.get(experiment_id))

    def stop(self, experiment_id: str) -> None:
        """Stop an experiment's runs and measurements; the adapters so far are kept for :meth:`resume`."""
        experiment = self.store.own(experiment_id)
        self._halted.add(experiment.id)
        with self._guard:
            waiting = [job for key, job in self._measuring.items() if key[0] == experiment.id]
            for planned_run in reversed(experiment.runs):
                if planned_run.run and self.resources.queue.alive(planned_run.run):
                    self.training.stop(planned_run.run)
            for job in waiting:
                self.resources.devices.cancel(job)

    def resume(self, experiment_id: str) -> None:
        """Resume interrupted, stopped or failed runs from their last checkpoints, and the missing measurements."""
        experiment = self.store.own(experiment_id)
        self._halted.discard(experiment.id)
        experiment.forget_errors()
        self._launch(experiment)

    def delete(self, experiment_id: str) -> None:
        """Delete an experiment, stopping it first; its runs stay in the Library."""
        self.stop(experiment_id)
        self.store.delete(experiment_id)

    def files(self, experiment_id: str) -> dict[str, Path]:
        """Export the current results and return the files: ``json``, ``pictures`` and ``chart`` (PNG)."""
        from pipelines.experiments.export import write_files

        folder = self.resources.outbox / secrets.token_hex(6)
        return write_files(self.status(experiment_id), folder)

    def run_ended(self, run_id: str) -> None:
        """Submit the measurements that are ready after the end of a run. Called on the worker's thread."""
        for experiment in self.store.list():
            if experiment.id not in self._halted and any(run.run == run_id for run in experiment.runs):
                with self._guard:
                    self._measure_ready(experiment)

    # Internal

    def _take(self, ready: Mapping[str, str], runs: Sequence[PlannedRun], *, spec: str) -> None:
        """Replace planned runs by finished runs. Raises ValueError for a run that does not fit."""
        by_key = {each.key: each for each in runs}
        for key, run_id in ready.items():
            run = self.resources.library.find(run_id)
            if key not in by_key or run.state != "done" or run.base["spec"] != spec:
                raise ValueError(
                    f"The run {run.name!r} cannot replace {key!r}; give a finished run on the same base, under one "
                    f"of {', '.join(by_key)}."
                )
            by_key[key].run = run_id

    def _check_space(self, runs: Sequence[PlannedRun], *, base: str) -> None:
        needed = sum(
            self.training.cost(run.method, run.config, 1, base=base).disk_mb for run in runs if not run.run
        )
        self.resources.store.check_space(needed + 50)

    def _launch(self, experiment: Experiment) -> None:
        """Start or resume all runs; measurements that are ready, such as the base model's, are submitted first."""
        with self._guard:
            self._measure_ready(experiment)
            for each in experiment.runs:
                self._begin(experiment, each)
                experiment.save()

    def _begin(self, experiment: Experiment, planned_run: PlannedRun) -> None:
        try:
            known = self.resources.library.find(planned_run.run) if planned_run.run else None
        except ValueError:  # deleted meanwhile
            known = None
        planned_run.problem = ""
        after = [experiment.run_of(key).run for key in planned_run.after]
        try:
            if known is None:
                planned_run.run = self.training.start(
                    planned_run.method,
                    from_dict(method_config(planned_run.method), planned_run.config),
                    experiment.photos(planned_run.photos),
                    base=experiment.base["spec"],
                    captions=experiment.captions.get(planned_run.photos),
                    name=f"{experiment.name} · {planned_run.label}",
                    after=after,
                )
            elif known.state in GO_ON:
                self.training.resume(planned_run.run, after=after)
        except ValueError as error:
            planned_run.problem = str(error)

    def _measure_ready(self, experiment: Experiment) -> None:
        """Submit the measurement of each row whose runs are finished and that has no scores yet."""
        place = 0
        for row, step in experiment.points():
            key = (experiment.id, row.key, step)
            if key in self._measuring or experiment.scores(row.key, step) is not None:
                continue
            if all(self._finished(experiment.run_of(part.run)) for part in row.parts):
                try:
                    self._submit(experiment, row, step, place=place)
                except ValueError as error:  # the program is shutting down; it continues after a restart
                    log.info("Not measured now: %s", error)
                    return
                place += 1

    def _finished(self, planned_run: PlannedRun) -> bool:
        try:
            return bool(planned_run.run) and self.resources.library.find(planned_run.run).state == "done"
        except ValueError:
            return False

    def _submit(self, experiment: Experiment, row: PlannedRow, step: int, *, place: int) -> None:
        key = (experiment.id, row.key, step)
        devices = self.resources.devices

        def work(job: Job) -> None:
            model_cache = devices.model_cache(job)
            from pipelines.experiments.measure import Bench, CalledOffError, measure_row

            def pause(done: int, total: int) -> None:
                self._told[key] = (done, total)
                devices.serve(job)
                if job.stop_requested:
                    raise CalledOffError

            try:
                bench = Bench(
                    experiment=experiment,
                    model_cache=model_cache,
                    find=self.resources.library.find,
                    pause=pause,
                )
                measure_row(bench, row, step)
            except CalledOffError:
                return

        def settle(job: Job) -> None:
            with self._guard:  # held by the submitting thread until the job is registered
                if job.exception is not None and experiment.path.is_dir():
                    failed = {"step": step, "error": sentence_of(job), "scores": {}}
                    experiment.keep_scores(row.key, step, failed)
                self._told.pop(key, None)
                self._measuring.pop(key, None)

        job = devices.submit(f"measure {row.label}", work, then=settle)
        self._measuring[key] = job
        devices.queue.move(job, place)

    def _status(self, experiment: Experiment) -> dict[str, Any]:
        jobs = [self.resources.queue.jobs.get(each.run) for each in experiment.runs]
        # wait() returns only after the end listeners ran, so the rows of an ended job have been submitted.
        at_work = any(job is not None and not job.wait(0) for job in jobs)
        return status_of(
            experiment, find=self.resources.library.find, measuring=self._doing(experiment), at_work=at_work
        )

    def measuring(self) -> list[Measurement]:
        """Return the measurements that a device is making now."""
        found = []
        for (experiment_id, key, step), job in list(self._measuring.items()):
            if job.state not in ("running", "stopping"):
                continue
            with suppress(ValueError):  # deleted meanwhile
                experiment = self.store.get(experiment_id)
                label = next(row.label for row in experiment.rows if row.key == key)
                done, total = self._told.get((experiment_id, key, step), (0, 0))
                found.append(Measurement(experiment_id, experiment.name, label, done, total))
        return found

    def _doing(self, experiment: Experiment) -> dict[tuple[str, int], tuple[int, int] | None]:
        """Return the queued and running measurements: (row, step) -> (prompts done, total), None while queued."""
        return {key[1:]: self._told.get(key) for key in list(self._measuring) if key[0] == experiment.id}


def checked_config(kind: str, config: ExperimentConfig | Mapping[str, Any]) -> ExperimentConfig:
    """Return the validated settings of an experiment. Raises ValueError for invalid settings or another kind's."""
    wanted = config_class(kind)
    checked = from_dict(wanted, config) if isinstance(config, Mapping) else config
    if not isinstance(checked, wanted):
        raise ValueError(f"These are not the settings of the experiment {kind!r}; begin from its own.")
    return checked


def planned(
    config: ExperimentConfig, *, family: str, words: Mapping[str, str], captioned: Mapping[str, bool]
) -> tuple[list[PlannedRun], list[PlannedRow]]:
    """Return the planned runs and rows of an experiment of either kind."""
    known = {"class_noun": words["class_noun"], "identifier": words["identifier"]}
    mine = captioned.get(methods.PHOTOS, False)
    if isinstance(config, MethodsConfig):
        return methods.plan(config, family=family, **known, captioned=mine)
    assert isinstance(config, BlocksConfig)
    return blocks.plan(
        config, family=family, **known, style_word=words["style_word"], captioned=mine,
        style_captioned=captioned.get(blocks.STYLE, False),
    )  # fmt: skip


def sentence_of(job: Job) -> str:
    """Return the error message for the user of a failed measurement."""
    assert job.exception is not None
    if ran_out_of_memory(job.exception):
        return OUT_OF_MEMORY
    if isinstance(job.exception, ValueError):
        return job.error
    return f"Something went wrong ({type(job.exception).__name__}); see the log."
