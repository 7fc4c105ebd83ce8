"""Sequences of concepts: each run of a sequence was built on the run of the concept before. Does not import torch.

A run's ``parents`` name the run before it, so a sequence is read back from its last run, and two sequences may share
their beginning. The adapter of a run contains all its concepts, so that a missing earlier run only loses its pictures.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.models.inspection import read_header
from pipelines.runs.store import Run

Find = Callable[[str], Run]
CONCEPTS = "concepts.json"  # of a run: the pictures of its concepts, drawn when it was finished


@dataclass(frozen=True)
class Task:
    """One concept of a sequence. ``index`` counts from 1; ``run`` is "" if the run was deleted.

    ``weight`` is the self-regularization that it was trained with, ``noun`` its class word.
    """

    index: int
    word: str
    name: str
    run: str = ""
    weight: float = 0.0
    noun: str = ""


@dataclass(frozen=True)
class ConceptPictures:
    """The pictures of one concept by the model after some task, with consecutive seeds from ``seed``.

    ``score`` is their mean similarity to the concept's photographs, None where it was not measured.
    """

    word: str
    prompt: str
    seed: int
    files: tuple[Path, ...]
    score: float | None


def sequence_of(run_id: str, find: Find) -> list[Task]:
    """Return the concepts up to the one that a run has learned, in order. Raises ValueError for an unknown run."""
    chain: list[tuple[str, Run]] = []
    next_id = run_id
    while next_id and next_id not in [known for known, _ in chain]:
        try:
            run = find(next_id)
        except ValueError:
            if not chain:
                raise
            break
        chain.append((next_id, run))
        next_id = run.parents[-1] if run.parents else ""
    chain.reverse()
    stored = _stored(chain[-1][1])
    missing = stored[: max(0, len(stored) - len(chain))]
    tasks = [Task(place, word, name or word) for place, (word, name) in enumerate(missing, start=1)]
    for place, (known, run) in enumerate(chain, start=len(missing) + 1):
        words = {name: str(run.config.get(name, "")) for name in ("identifier", "class_noun")}
        weight = float(run.config.get("forgetting_weight") or 0.0)
        tasks.append(
            Task(place, words["identifier"], run.name, known, weight=weight, noun=words["class_noun"])
        )
    return tasks


def heads(runs: Sequence[Run]) -> list[Run]:
    """Return the runs that no other run was built on, in the given order."""
    parents = {parent for run in runs for parent in run.parents}
    return [run for run in runs if run.id not in parents]


def concept_tables(run: Run) -> list[dict[str, Any]]:
    """Return the content of a run's ``concepts.json``, see :mod:`pipelines.methods.concept_pictures`; [] without one."""
    with suppress(ValueError):
        return list(run.read_json(CONCEPTS) or [])
    return []


def pictures_of(run: Run) -> list[ConceptPictures]:
    """Return the pictures of a run's concepts, in order; [] before it is finished."""
    return [
        ConceptPictures(
            word=each["word"],
            prompt=each["prompt"],
            seed=each["seed"],
            files=tuple(run.file(name) for name in each["files"]),
            score=each["score"],
        )
        for each in concept_tables(run)
    ]


def _stored(run: Run) -> list[tuple[str, str]]:
    """Return the (word, name) of each concept in a run's adapter, in order; [] before it is finished."""
    with suppress(OSError, ValueError, KeyError):
        told = json.loads(read_header(run.file("adapter.safetensors"))["__metadata__"]["concepts"])
        return [(str(concept["word"]), str(concept["name"])) for concept in told]
    return []
