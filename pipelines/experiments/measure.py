"""Generates and scores the pictures of an experiment's rows; the only part of an experiment that needs torch.

All rows use the same prompts and the same noise. The pictures are stored in the experiment's folder and contain their
settings as metadata, like all generated pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from pipelines.config import SampleConfig, from_dict
from pipelines.evaluation.metrics import (
    Encoders,
    Interval,
    among,
    div,
    interval,
    normalised_score,
    pairwise,
    prompt_scores,
)
from pipelines.evaluation.style import StyleScale
from pipelines.experiments import method_comparison as methods
from pipelines.experiments.settings import ExperimentConfig, config_class, filled
from pipelines.experiments.store import LAST, Experiment, PlannedRow
from pipelines.jobs.model_cache import ModelCache
from pipelines.runs.library import seconds_at_work, trained_parameters
from pipelines.runs.store import Run, snapshot_name
from pipelines.sampling.image_metadata import Layer, save_pictures

CLASS_PICTURES = 4  # pictures of the class without the identifier, to measure drift


class CalledOffError(Exception):
    """The experiment was stopped while a row was being measured."""


@dataclass(frozen=True)
class Bench:
    """The context of a measurement: the device's model cache, the runs, and ``pause``, called between two pictures."""

    experiment: Experiment
    model_cache: ModelCache
    find: Callable[[str], Run]
    pause: Callable[[int, int], None]

    @property
    def config(self) -> ExperimentConfig:
        """The settings of the experiment."""
        return from_dict(config_class(self.experiment.kind), self.experiment.config)

    @property
    def encoders(self) -> Encoders:
        """The encoders for the scores. Raises ValueError when they are not available."""
        found = self.model_cache.encoders(self.experiment.base["family"])
        if found is None:
            raise ValueError(
                "The encoders that measure this base are not on this machine; connect to the internet once so that they can be downloaded."
            )
        return found

    def photos(self, kind: str) -> list[Image.Image]:
        """The square crops of a set of photographs."""
        return [_opened(path) for path in self.experiment.photos(kind)]


def measure_row(bench: Bench, row: PlannedRow, step: int) -> None:
    """Generate and score one row at one step, and write its scores. Raises ValueError if it cannot be measured."""
    drawn = _draw(bench, row, step)
    measured = method_scores if bench.experiment.kind == "methods" else block_scores
    found = measured(bench, row, step, drawn)
    bench.pause(len(drawn), len(drawn))  # the experiment may have been deleted meanwhile
    found = {
        "step": step,
        "pictures": [[path.relative_to(bench.experiment.path).as_posix() for path in line] for line in drawn],
        "facts": _facts(bench, row) if step == LAST else {},
        "encoders": bench.encoders.names,
        **found,
    }
    bench.experiment.keep_scores(row.key, step, found)


# ---- pictures -------------------------------------------------------------------------------------------------------


def _draw(bench: Bench, row: PlannedRow, step: int) -> list[list[Path]]:
    """Generate every prompt with every seed; return one list of files per prompt."""
    config, drawn = bench.config, []
    for index, prompt in enumerate(config.prompts):
        bench.pause(index, len(config.prompts))
        words = filled(prompt, subject=row.subject, style=row.style)
        drawn.append(_pictures(bench, row, step, words, count=config.seeds, name=f"{index}"))
    return drawn


def _pictures(bench: Bench, row: PlannedRow, step: int, prompt: str, *, count: int, name: str) -> list[Path]:
    """Generate one prompt with ``count`` consecutive seeds and save the pictures."""
    experiment, config = bench.experiment, bench.config
    base = bench.model_cache.base(experiment.base["spec"])
    asked = SampleConfig(
        prompt=prompt,
        steps=config.sample_steps,
        guidance_scale=base.guidance_scale,
        seed=config.seed,
        count=count,
    )
    stack, layers = [], []
    for part in row.parts:
        run = bench.find(experiment.run_of(part.run).run)
        layer = Layer(
            run=run.id, name=run.name, strength=part.strength, step=step or None, blocks=part.blocks
        )
        stack.append((bench.model_cache.adapter(adapter_file(run, step), base), layer.applied))
        layers.append(layer)
    folder = experiment.folder_of(row.key, step)
    folder.mkdir(parents=True, exist_ok=True)
    images = bench.model_cache.draw(base, stack, asked).images
    return save_pictures(
        images, asked, stack=layers, base=base, path=lambda seed: folder / f"{name}-{seed}.png"
    )


def adapter_file(run: Run, step: int) -> Path:
    """Return the file of a run's adapter after a step. ValueError when it does not exist."""
    path = run.file("adapter.safetensors" if step == LAST else snapshot_name(step))
    if not path.is_file():
        when = "finished" if step == LAST else f"saved after step {step}"
        raise ValueError(f"The run {run.name!r} has no adapter {when}; train it again.")
    return path


def _facts(bench: Bench, row: PlannedRow) -> dict[str, Any]:
    """Return the total cost of a row's runs and the time of training steps for each set of photographs."""
    facts: dict[str, Any] = {}
    for part in row.parts:
        planned = bench.experiment.run_of(part.run)
        run = bench.find(planned.run)
        events = run.events()
        steps = sum(event["seconds"] for event in events if event["kind"] == "step")
        for name, value in (
            ("trainable", trained_parameters(run) or 0),
            ("bytes", run.file("adapter.safetensors").stat().st_size),
            ("seconds", seconds_at_work(events)),
            ("train_seconds", steps),
            (f"{planned.photos}_seconds", steps),
        ):
            facts[name] = round(facts.get(name, 0) + value, 3)
    return facts


# ---- scores ---------------------------------------------------------------------------------------------------------


def _rounded(found: Interval | None) -> dict[str, float] | None:
    return None if found is None else {name: round(value, 6) for name, value in asdict(found).items()}


def _plain_prompts(bench: Bench, row: PlannedRow) -> list[str]:
    """Return the prompt of each picture, without identifiers."""
    prompts = [filled(prompt, subject=row.said) for prompt in bench.config.prompts]
    return [prompt for prompt in prompts for _ in range(bench.config.seeds)]


def method_scores(bench: Bench, row: PlannedRow, step: int, drawn: list[list[Path]]) -> dict[str, Any]:
    """Score a row of "Which method?"; PRES and DIV are only computed for the final adapter."""
    encoders, photos = bench.encoders, bench.photos(methods.PHOTOS)
    groups = [[_opened(path) for path in line] for line in drawn]
    flat = [picture for group in groups for picture in group]
    scores = {
        "dino": interval(_likeness(encoders.identity, flat, photos)),
        "clip_i": interval(_likeness(encoders.clip, flat, photos)),
        "clip_t": interval(prompt_scores(encoders, flat, _plain_prompts(bench, row))),
    }
    if step != LAST:
        return {"scores": {name: _rounded(found) for name, found in scores.items()}}
    if bench.config.seeds > 1:
        scores["div"] = interval(torch.tensor([div(encoders, group) for group in groups]))
    class_files = _pictures(bench, row, step, f"a photo of a {row.said}", count=CLASS_PICTURES, name="class")
    pres = _likeness(encoders.identity, [_opened(path) for path in class_files], photos)
    base = bench.experiment.scores(methods.BASE) if row.parts else None
    zero = torch.tensor(base["class_likeness"]) if base and "class_likeness" in base else pres
    scores |= {"pres": interval(pres), "drift": interval(pres - zero)}
    return {
        "scores": {name: _rounded(found) for name, found in scores.items()},
        "class_likeness": pres.tolist(),
        "reference": _reference(encoders, photos),
    }


def _reference(encoders: Encoders, photos: Sequence[Image.Image]) -> dict[str, Any]:
    """Return the scores of the photographs against each other; {} for a single photograph."""
    if len(photos) < 2:
        return {}
    return {
        "dino": _rounded(interval(among(encoders.identity.image_features(photos)))),
        "clip_i": _rounded(interval(among(encoders.clip.image_features(photos)))),
    }


def block_scores(bench: Bench, row: PlannedRow, step: int, drawn: list[list[Path]]) -> dict[str, Any]:
    """Score a combination of character and style on scales from the base model (0) to the real pictures (1)."""
    encoders = bench.encoders
    photos, style = bench.photos("character"), bench.photos("style")
    flat = [_opened(path) for line in drawn for path in line]
    base = flat if not row.parts else _base_pictures(bench)
    scale = StyleScale(encoders.clip, style=style, plain=(base, photos))
    raw = {
        "identity": (_likeness(encoders.identity, flat, photos), _likeness(encoders.identity, base, photos)),
        "style": (scale.scores(flat), scale.scores(base)),
    }
    references = {
        "identity": among(encoders.identity.image_features(photos)) if len(photos) > 1 else torch.ones(1),
        "style": scale.style,
    }
    scores: dict[str, Any] = {
        name: _rounded(normalised_score(ours, base=zero, reference=references[name]))
        for name, (ours, zero) in raw.items()
    }
    scores |= {f"{name}_raw": _rounded(interval(ours)) for name, (ours, _) in raw.items()}
    scores["clip_t"] = _rounded(interval(prompt_scores(encoders, flat, _plain_prompts(bench, row))))
    return {"scores": {name: found for name, found in scores.items() if found is not None}}


def _base_pictures(bench: Bench) -> list[Image.Image]:
    found = bench.experiment.scores(methods.BASE)
    if found is None or "pictures" not in found:
        raise ValueError("The untouched base has not been measured, so the scale has no zero; try again.")
    return [_opened(bench.experiment.path / name) for line in found["pictures"] for name in line]


def _likeness(encoder: Any, pictures: Sequence[Image.Image], photos: Sequence[Image.Image]) -> torch.Tensor:
    """Return (N,): the mean cosine of each picture with the photographs."""
    return pairwise(encoder.image_features(pictures), encoder.image_features(photos)).mean(1)


def _opened(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB")
