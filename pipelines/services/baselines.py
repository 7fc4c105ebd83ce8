"""Trains the concepts of a sequence again by another method, to compare it with C-LoRA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipelines.config import CLoRAConfig, from_dict, to_dict
from pipelines.data.subject import SubjectPhotos, stored_subjects
from pipelines.methods.baselines import METHOD, Baseline, baseline_config, without_past
from pipelines.runs.library import EXAMPLE_PREFIX
from pipelines.runs.sequences import Task
from pipelines.runs.store import LIVE_STATES, Run
from pipelines.services.concept_merge import MERGED_RUNS
from pipelines.services.resources import Resources
from pipelines.services.training import TrainingService

QUIET = ("sample_", "measure", "snapshots")  # settings that change nothing that is learned


def start_baseline(
    tasks: Sequence[Task],
    chosen: Baseline,
    *,
    resources: Resources,
    training: TrainingService,
    merge: Callable[[Sequence[str]], str],
) -> list[str]:
    """Train what is missing and return the baseline's runs, in the order of the concepts; see the service's method."""
    gone = next((task for task in tasks if not task.run), None)
    if gone is not None:
        raise ValueError(
            f"The run of {gone.name!r} was deleted, so its concept cannot be trained again; compare another sequence."
        )
    runs = [resources.library.find(task.run) for task in tasks]
    subjects = [subject_of(run) for run in runs]
    spec, family = runs[0].base["spec"], runs[0].base["family"]
    configs = [
        baseline_config(chosen, from_dict(CLoRAConfig, run.config), family=family, concepts=len(runs))
        for run in runs
    ]
    names = [f"{run.name} ({chosen.label})" for run in runs]
    if chosen.order == "joint":
        name = f"{' and '.join(run.name for run in runs)} ({chosen.label})"
        return [_run(configs[0], subjects, None, name, base=spec, resources=resources, training=training)]
    found: list[str] = []
    for config, subject, name in zip(configs, subjects, names, strict=True):
        parent = found[-1] if found and chosen.order == "sequence" else None
        found.append(_run(config, [subject], parent, name, base=spec, resources=resources, training=training))
    finished = all(
        each.startswith(EXAMPLE_PREFIX) or resources.library.find(each).state == "done" for each in found
    )
    if chosen.order == "merged" and finished:
        ids = [resources.library.find(each).id for each in found]
        made = [run.id for run in resources.store.list() if run.config.get(MERGED_RUNS) == ids]
        return [*found, made[0] if made else merge(found)]
    return found


def _run(
    config: CLoRAConfig,
    subjects: Sequence[SubjectPhotos],
    parent: str | None,
    name: str,
    *,
    base: str,
    resources: Resources,
    training: TrainingService,
) -> str:
    """Return the run of these settings on this parent: an existing one that has not failed, or a new one."""
    known = _same(config, subjects, parent, resources)
    if known:
        return known
    parents = [parent] if parent else []
    after = [each for each in parents if not each.startswith(EXAMPLE_PREFIX)]
    return training.start(
        METHOD, config, subjects=subjects, base=base, parents=parents, after=after, name=name
    )


def _same(
    config: CLoRAConfig, subjects: Sequence[SubjectPhotos], parent: str | None, resources: Resources
) -> str:
    """Return the usable run that has learned the same in the same place, or ""."""
    word = " ".join(one.identifier for one in subjects)
    wanted = _told(config, parent) | {"identifier": word}
    seen = [Path(photo).read_bytes() for one in subjects for photo in one.photo_paths]
    shipped = {EXAMPLE_PREFIX + name: run for name, run in resources.library.shipped_steps().items()}
    own = {run.id: run for run in resources.store.list() if run.method == METHOD}
    for known, run in {**own, **shipped}.items():
        usable = run.state in ("done", *LIVE_STATES) or known in shipped
        if not usable or run.parents != ([parent] if parent else []):
            continue
        if _told(from_dict(CLoRAConfig, run.config), parent) == wanted and seen == _photos(run):
            return known
    return ""


def _told(config: CLoRAConfig, parent: str | None) -> dict[str, Any]:
    """Return the settings that decide what a run learns."""
    whole = to_dict(config) if parent else without_past(config)
    return {name: value for name, value in whole.items() if not name.startswith(QUIET)}


def _photos(run: Run) -> list[bytes]:
    return [photo.read_bytes() for one in stored_subjects(run.path, run.config) for photo in one.photos]


def subject_of(run: Run) -> SubjectPhotos:
    """Return the subject of a run as a client would pass it: its processed photographs with captions and masks."""
    found = stored_subjects(run.path, run.config)
    if len(found) != 1:
        raise ValueError(
            f"The run {run.name!r} has learned {len(found)} concepts at once, so it is not one step of a sequence; "
            "compare another sequence."
        )
    (stored,) = found
    return SubjectPhotos(
        identifier=stored.identifier,
        class_noun=stored.class_noun,
        photo_paths=stored.photos,
        captions=stored.captions,
        repeats=stored.repeats,
        masks={photo.name: mask for photo, mask in zip(stored.photos, stored.masks, strict=False)},
    )
