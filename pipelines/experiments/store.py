"""An experiment's folder: its settings, its runs and the scores of each row; readable without torch.

``experiments/<id>`` contains ``experiment.json``, the square photographs, a score file for every row (and for each
earlier state of a row), and the scored pictures. The status is computed from these files and from the states of the
runs, so it is the same after a restart.
"""

import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from pipelines.config import ASSETS, clean_text
from pipelines.files import disk_sentences, write_json
from pipelines.runs.store import DRAFT, RUN_ID

FORMAT = 1  # of experiment.json and of the score files
SHIPPED = ASSETS / "experiments"  # recorded experiments, each in a folder <SHIPPED_PREFIX><kind>
SHIPPED_PREFIX = "example-"
LAST = 0  # the step number that stands for the final adapter


@dataclass
class PlannedRun:
    """One run of an experiment: ``photos`` is its set of photographs; ``run`` is its id once it is started.

    ``after`` contains the keys of planned runs that must finish before it starts.
    """

    key: str
    label: str
    method: str
    config: dict[str, Any]
    photos: str
    run: str = ""
    problem: str = ""  # why it could not be started
    after: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Part:
    """One adapter of a row: the key of its run, its strength, and its block weights or ""."""

    run: str
    strength: float = 1.0
    blocks: str = ""


@dataclass(frozen=True)
class PlannedRow:
    """One row of the tables: its adapters, their words, and the earlier steps to measure.

    ``said`` describes the subject in ordinary words, so that text alignment is comparable across rows.
    """

    key: str
    label: str
    parts: tuple[Part, ...]
    subject: str
    said: str
    style: str = ""
    steps: tuple[int, ...] = ()

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """Build a row from the output of :func:`dataclasses.asdict`."""
        parts = tuple(Part(**part) for part in data["parts"])
        return cls(**{**data, "parts": parts, "steps": tuple(data["steps"])})


@dataclass
class Experiment:
    """One experiment; ``photos`` maps a set ("character", "style") to its file names."""

    path: Path
    kind: str
    name: str
    config: dict[str, Any]
    base: dict[str, Any]
    words: dict[str, str]
    runs: list[PlannedRun]
    rows: list[PlannedRow]
    captions: dict[str, dict[str, str]] = field(default_factory=dict)
    created: float = 0.0  # unix seconds
    owner: str = ""  # same format as a run's owner

    @property
    def id(self) -> str:
        """The folder's name, an unguessable id."""
        return self.path.name.removeprefix(DRAFT)

    @property
    def shipped(self) -> bool:
        """Whether this is a recording that ships with the program; its runs and photographs do not."""
        return self.path.name.startswith(SHIPPED_PREFIX)

    def run_of(self, key: str) -> PlannedRun:
        """Return a run by its key."""
        return next(run for run in self.runs if run.key == key)

    def points(self) -> Iterator[tuple[PlannedRow, int]]:
        """Yield every point to measure: each row's earlier steps, then its final adapter (``LAST``)."""
        for row in self.rows:
            for step in (*row.steps, LAST):
                yield row, step

    def photos(self, kind: str) -> list[Path]:
        """Return the square crops of a set of photographs."""
        return sorted((self.path / "photos" / kind).glob("*.png"))

    def folder_of(self, row: str, step: int) -> Path:
        """Return the folder of a row's pictures."""
        return self.path / "pictures" / f"{row}-{step:06d}"

    def scores(self, row: str, step: int = LAST) -> dict[str, Any] | None:
        """Return the results of a row: ``scores``, ``pictures``, facts, or ``error``; None if not measured yet."""
        path = self.path / "scores" / f"{row}-{step:06d}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def keep_scores(self, row: str, step: int, found: Mapping[str, Any]) -> None:
        """Write the results of a row."""
        write_json(self.path / "scores" / f"{row}-{step:06d}.json", {"format": FORMAT, **found})

    def forget_errors(self) -> None:
        """Delete the results of failed measurements, so that they are repeated."""
        for row, step in self.points():
            if "error" in (self.scores(row.key, step) or {}):
                (self.path / "scores" / f"{row.key}-{step:06d}.json").unlink()

    def save(self) -> None:
        """Write experiment.json."""
        data = {
            "format": FORMAT,
            "kind": self.kind,
            "name": self.name,
            "config": self.config,
            "base": self.base,
            "words": self.words,
            "created": self.created,
            "owner": self.owner,
            "captions": self.captions,
            "runs": [asdict(run) for run in self.runs],
            "rows": [asdict(row) for row in self.rows],
        }
        write_json(self.path / "experiment.json", data)


def read_experiment(path: Path) -> Experiment:
    """Read an experiment's folder. Raises ValueError for another format or a damaged file."""
    try:
        data = json.loads((path / "experiment.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"There is no experiment {path.name!r}; it may have been deleted.") from None
    except (OSError, ValueError) as error:
        raise ValueError(
            f"The experiment {path.name} cannot be read; its experiment.json is damaged ({error})."
        ) from None
    if data.pop("format", None) != FORMAT:
        raise ValueError(f"The experiment {path.name} has another format; this program reads {FORMAT}.")
    runs = [PlannedRun(**run) for run in data.pop("runs")]
    rows = [PlannedRow.of(row) for row in data.pop("rows")]
    return Experiment(path=path, runs=runs, rows=rows, **data)


def shipped_experiments() -> list[Experiment]:
    """Return the recorded experiments that ship with the program."""
    return [
        read_experiment(path.parent) for path in sorted(SHIPPED.glob(f"{SHIPPED_PREFIX}*/experiment.json"))
    ]


class ExperimentStore:
    """All experiments of an owner in one folder; other owners' experiments are treated as nonexistent."""

    def __init__(self, root: Path, *, owner: str = "") -> None:
        self.owner = owner
        self.folder = root / "experiments"

    @contextmanager
    def draft(
        self,
        kind: str,
        *,
        name: str,
        config: dict[str, Any],
        base: dict[str, Any],
        words: dict[str, str],
        runs: Sequence[PlannedRun],
        rows: Sequence[PlannedRow],
    ) -> Iterator[Experiment]:
        """Create a new experiment in the block. It becomes visible when the block ends, or is discarded on an error."""
        with disk_sentences():
            now = time.time()
            new_id = time.strftime("%Y%m%d-%H%M%S-", time.gmtime(now)) + secrets.token_hex(6)
            path = self.folder / f"{DRAFT}{new_id}"
            path.mkdir(parents=True, mode=0o700)
            made = Experiment(
                path=path, kind=kind, name=clean_text(name) or kind, config=config, base=base, words=words,
                runs=list(runs), rows=list(rows), created=now, owner=self.owner,
            )  # fmt: skip
            try:
                yield made
                made.save()
                os.replace(path, self.folder / new_id)
                made.path = self.folder / new_id
            finally:
                shutil.rmtree(path, ignore_errors=True)

    def get(self, experiment_id: str) -> Experiment:
        """Return an experiment or a recorded one. Raises ValueError when this owner has none with that id."""
        if str(experiment_id).startswith(SHIPPED_PREFIX):
            recorded = next((each for each in shipped_experiments() if each.id == experiment_id), None)
            if recorded is not None:
                return recorded
        if RUN_ID.fullmatch(str(experiment_id)):
            found = read_experiment(self.folder / experiment_id)
            if found.owner == self.owner:
                return found
        raise ValueError(f"There is no experiment {str(experiment_id)[:60]!r}; it may have been deleted.")

    def own(self, experiment_id: str) -> Experiment:
        """Return an experiment that may be changed. Raises ValueError for a recorded one."""
        found = self.get(experiment_id)
        if found.shipped:
            raise ValueError(
                "A recorded experiment cannot be changed; run your own, on the same photographs if you like."
            )
        return found

    def list(self) -> list[Experiment]:
        """Return all readable experiments, newest first."""
        found = []
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if RUN_ID.fullmatch(path.name):
                try:
                    found.append(read_experiment(path))
                except ValueError:
                    continue
        owned = [each for each in found if each.owner == self.owner]
        return sorted(owned, key=lambda each: each.created, reverse=True)

    def delete(self, experiment_id: str) -> None:
        """Delete an experiment; its runs stay in the Library."""
        path = self.own(experiment_id).path
        doomed = path.with_name(f".deleted-{path.name}")
        os.replace(path, doomed)
        shutil.rmtree(doomed, ignore_errors=True)
