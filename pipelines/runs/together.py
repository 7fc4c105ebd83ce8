"""Pictures that show what a run of several subjects learned, kept in the run's folder. Does not import torch."""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from pipelines.data.subject import stored_photos, trigger_words
from pipelines.runs.store import Run

FOLDER = "together"
Kind = Literal["together", "attention", "alone", "without"]


@dataclass(frozen=True)
class Shown:
    """One picture. ``kind``: all subjects "together"; the "attention" of one subject's words in that picture; one subject
    "alone"; or the picture of a run "without" the Unmix term, with the same prompt and seed.
    """

    kind: Kind
    title: str
    file: Path
    prompt: str
    seed: int


def keep(run: Run, shown: Iterable[Shown]) -> None:
    """Replace the kept pictures of a run."""
    folder, unfinished = run.file(FOLDER), run.file(f"{FOLDER}.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    rows = []
    for place, each in enumerate(shown):
        name = f"{place:02d}.png"
        shutil.copyfile(each.file, unfinished / name)
        rows.append({**vars(each), "file": name})
    told = {"steps": run.config.get("steps"), "pictures": rows}
    (unfinished / "pictures.json").write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def kept(run: Run) -> list[Shown]:
    """Return the kept pictures of a run; [] without pictures, or if it was trained further since."""
    folder = run.file(FOLDER)
    with suppress(OSError, ValueError, KeyError, TypeError):
        told = json.loads((folder / "pictures.json").read_text(encoding="utf-8"))
        if told["steps"] == run.config.get("steps"):
            found = [Shown(**{**row, "file": folder / row["file"]}) for row in told["pictures"]]
            return [each for each in found if each.file.is_file()]
    return []


def same_but(run: Run, others: Sequence[Run], **changes: Any) -> Run | None:
    """Return the first of the runs with an adapter that differs from ``run`` only in these settings, or None.

    Base model, photographs, words and all other settings must be equal.
    """
    wanted = _settings(run.config | changes)
    for other in others:
        if (
            other.id != run.id
            and other.method == run.method
            and other.base["spec"] == run.base["spec"]
            and _settings(other.config) == wanted
            and other.file("adapter.safetensors").is_file()
            and _lessons(other) == _lessons(run)
        ):
            return other
    return None


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in config.items()}


def _lessons(run: Run) -> tuple[str, list[bytes]]:
    """Return the words and the pixels that a run learned from."""
    pixels = []
    for path in stored_photos(run.path):
        with Image.open(path) as opened:
            pixels.append(opened.convert("RGB").tobytes())
    return trigger_words(run.path, run.config), pixels
