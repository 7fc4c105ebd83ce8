"""The pretended Studio's experiments: real folders, plans and reports, numbers made up, a row finished every few steps."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from pipelines.config import SampleConfig, to_dict
from pipelines.experiments.export import write_files
from pipelines.experiments.settings import filled
from pipelines.experiments.status import status_of
from pipelines.experiments.store import LAST, Experiment, ExperimentStore, PlannedRow
from pipelines.runs.store import Run, read_run
from pipelines.services.experiments import checked_config, planned

if TYPE_CHECKING:
    from fake_studio import FakeStudio

ROW_STEPS = 40  # pretended steps until the next row is measured


class FakeExperiments:
    """See :class:`pipelines.services.experiments.ExperimentService`."""

    def __init__(self, studio: "FakeStudio") -> None:
        self.studio = studio
        self.store = ExperimentStore(studio.root)
        self.began: dict[str, float] = {}
        self.broken = ""  # the key of a row that fails

    def start(
        self,
        kind: str,
        config: Any,
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
        checked = checked_config(kind, config)
        if not photo_paths or (kind == "blocks" and not style_paths):
            raise ValueError("There is no picture yet; choose an example or add between 1 and 20.")
        facts = (class_noun, identifier, len(photo_paths), len(style_paths), dict(style_captions or {}))
        self.studio.calls.append(("experiment", (kind, checked, *facts)))
        words = {"class_noun": class_noun, "identifier": identifier, "style_word": style_word or "sks"}
        plan, rows = planned(checked, family="embedded", words=words, captioned={})
        base_facts = {"spec": "embedded", "family": "embedded"}
        with self.store.draft(
            kind, name=name, config=to_dict(checked), base=base_facts, words=words, runs=plan, rows=rows
        ) as made:
            for run in made.runs:
                run.run = self.studio.examples()[0]["run"]
        self.began[made.id] = time.monotonic()
        return made.id

    def _catch_up(self, experiment: Experiment) -> int:
        """Write the scores that are due by now; return the place of the point at work."""
        began = self.began.get(experiment.id)
        points = list(experiment.points())
        if began is None:
            return len(points)
        due = int((time.monotonic() - began) / (ROW_STEPS * self.studio.step_s))
        for place, (row, step) in enumerate(points[:due]):
            if experiment.scores(row.key, step) is None:
                self._score(experiment, row, step, place=place)
        if due >= len(points):
            self.began.pop(experiment.id, None)  # the page and a program may both see the end
        return due

    def _score(self, experiment: Experiment, row: PlannedRow, step: int, *, place: int) -> None:
        if row.key == self.broken:
            told: dict[str, Any] = {
                "error": "The device ran out of memory; train fewer blocks.",
                "scores": {},
            }
            return experiment.keep_scores(row.key, step, told)
        share = (0.2 + 0.14 * (len(row.key) % 6)) if row.parts else 0.05
        share *= 1.0 if step == LAST else 0.35 + 0.5 * row.steps.index(step) / len(row.steps)
        values = {
            "dino": share, "clip_i": 0.5 + share / 3, "clip_t": 0.34 - 0.12 * share**2, "div": 0.3 - share / 8,
            "pres": 0.1 + share / 5, "drift": share / 5, "identity": share, "style": 1.0 - share,
        }  # fmt: skip
        scores = {
            name: {"value": value, "low": value - 0.02, "high": value + 0.03}
            for name, value in values.items()
        }
        facts = {
            "trainable": 1000 * (1 + 7 * place), "bytes": 4500 * (1 + 7 * place), "seconds": 20.0 + 3 * place,
            "character_seconds": 12.0, "style_seconds": 8.0 + place,
        }  # fmt: skip
        pictures = []
        for index, prompt in enumerate(experiment.config["prompts"] if step == LAST else ()):
            words = filled(prompt, subject=row.subject, style=row.style)
            asked = SampleConfig(prompt=words, seed=40 + index)
            run_id = self.studio.examples()[0]["run"] if row.parts else None
            drawn = self.studio.draw(asked, run_id=run_id, strength=min(1.0, 0.4 + share))
            target = experiment.folder_of(row.key, step) / f"{index}-40.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            with Image.open(drawn) as picture:
                picture.save(target)
            pictures.append([target.relative_to(experiment.path).as_posix()])
        reference = (
            {"dino": scores["dino"] | {"value": 0.85, "low": 0.8, "high": 0.9}} if not row.parts else {}
        )
        told = {
            "scores": scores,
            "facts": facts if row.parts else {},
            "pictures": pictures,
            "reference": reference,
        }
        return experiment.keep_scores(row.key, step, told)

    def status(self, experiment_id: str) -> dict[str, Any]:
        experiment = self.store.get(experiment_id)
        place = self._catch_up(experiment)
        points = list(experiment.points())
        alive = experiment.id in self.began
        doing = {(points[place][0].key, points[place][1]): (1, 4)} if alive else {}
        doing |= {(row.key, step): None for row, step in points[place + 1 :]} if alive else {}
        return status_of(experiment, find=self._find, measuring=doing, at_work=alive)

    def _find(self, run_id: str) -> Run:
        return read_run(self.studio.store.folder / run_id)

    def list(self) -> list[dict[str, Any]]:
        return [
            {name: status[name] for name in ("id", "name", "kind", "state", "created")}
            for status in (self.status(experiment.id) for experiment in self.store.list())
        ]

    def stop(self, experiment_id: str) -> None:
        self.studio.calls.append(("stop_experiment", experiment_id))
        self.began.pop(experiment_id, None)

    def resume(self, experiment_id: str) -> None:
        self.studio.calls.append(("resume_experiment", experiment_id))
        experiment = self.store.get(experiment_id)
        experiment.forget_errors()
        done = sum(experiment.scores(row.key, step) is not None for row, step in experiment.points())
        self.began[experiment_id] = time.monotonic() - done * ROW_STEPS * self.studio.step_s

    def delete(self, experiment_id: str) -> None:
        self.stop(experiment_id)
        self.store.delete(experiment_id)

    def files(self, experiment_id: str) -> dict[str, Path]:
        return write_files(self.status(experiment_id), self.studio.root / "results" / str(time.time_ns()))

    def cost(self, kind: str, config: Any, *, base: str | None = None) -> dict[str, float]:
        words = {"class_noun": "person", "identifier": "sks", "style_word": "qev"}
        runs, rows = planned(checked_config(kind, config), family="embedded", words=words, captioned={})
        return {"runs": len(runs), "pictures": 8 * len(rows), "seconds": 30.0 * len(runs), "disk_mb": 20.0}
