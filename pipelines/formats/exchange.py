"""Import, inspection and export of adapter files in all supported formats. Inspection does not need torch."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.config import MAX_TEXT, clean_text
from pipelines.formats.core import PARTS, Imported, Models, Shapes, base_of, opened, shown
from pipelines.formats.table import KINDS, format_of, recognise
from pipelines.models.inspection import read_header, weight_shapes
from pipelines.runs.library import kind_of
from pipelines.runs.model_card import file_facts
from pipelines.runs.store import Run, RunStore

if TYPE_CHECKING:
    from pipelines.models.base import Base

LOW_RANK = 16  # default rank of an approximation


@dataclass(frozen=True)
class Inspection:
    """Information from a file's headers; ``problem`` is "" or the reason why it does not fit the base model."""

    format: str
    keys: int  # number of tensors
    rank: int  # the most common rank; 0 if there is none
    ranks: list[int]
    parameters: int
    base: str  # the base model named in the file
    trigger: str
    problem: str
    metadata: dict[str, str]  # shortened


def inspect_file(path: Path, *, base: str) -> dict[str, object]:
    """Return an :class:`Inspection` of a file, folder or zip as a dictionary; only headers are read.

    Raises ValueError for files that contain no adapter for Stable Diffusion 1.x.
    """
    with opened(path) as source:
        row = recognise(source)
        told = row.examine(source, weight_shapes(base))
        ranks = Counter(told.ranks)
        return asdict(
            Inspection(
                format=row.shown,
                keys=len(source.entries),
                rank=ranks.most_common(1)[0][0] if ranks else 0,
                ranks=sorted(ranks),
                parameters=source.parameters,
                base=base_of(source.metadata),
                trigger=told.trigger,
                problem=told.problem,
                metadata=shown(source.metadata),
            )
        )


def read_adapter(path: Path, base: Base, *, taken: frozenset[str] = frozenset()) -> Imported:
    """Return the adapter in a file, folder or zip of any format, for a base model without injected adapters.

    ``taken`` are identifiers already used by runs. Raises ValueError for files that cannot be read or do not fit this
    base model.
    """
    with opened(path) as source:
        row = recognise(source)
        if problem := row.examine(source, _shapes_of(base)).problem:
            raise ValueError(problem)
        return row.read(source, base, taken)


def _shapes_of(base: Base) -> Shapes:
    return {
        f"{part}.{name.removeprefix('text_model.')}": tuple(value.shape)
        for part in PARTS
        for name, value in base.module(part).named_parameters()
    }


def import_run(path: Path, *, spec: str, name: str, models: Models, store: RunStore) -> str:
    """Create a finished run from a file and return its id. Raises ValueError if it does not fit the base ``spec``."""
    taken = frozenset(word for run in store.list() for word in str(run.config.get("identifier", "")).split())
    base = models.base(spec)
    with models.aside(base):
        read = read_adapter(path, base, taken=taken)
    config = {"identifier": "", "class_noun": "", "file": clean_text(path.name[:MAX_TEXT]), **read.facts}
    title = name or (read.title or path.stem)[:MAX_TEXT]
    return store.keep_adapter(read.adapter, base, config=config, name=title)


def export_run(
    run: Run, *, format: str, run_id: str, folder: Path, models: Models, rank: int = LOW_RANK
) -> tuple[Path, str]:
    """Write a run's adapter to a file below ``folder``, read the file back, and report the difference.

    Returns the file (peft and svdiff: a folder) and a text such as "128/128 keys, largest difference 0". If the format
    can only store the best rank-``rank`` LoRA approximation, the text includes the approximation error. Raises
    ValueError, and removes the file, when the format cannot store the adapter or the file read back is incomplete.
    """
    kind = kind_of(run)
    if kind not in KINDS:
        raise ValueError(
            f"The adapter of {run.name!r} is damaged or truncated, so it cannot be exported; resume the run from "
            "its checkpoint, or train it again."
        )
    row = format_of(kind, format)
    content, facts = row.content(run, models, rank), file_facts(run)
    if content.nearness:
        facts["modelspec.description"] += f" It stands for {KINDS[kind]}: {content.nearness}."
    written = row.write(content, folder / f"{run_id}-{format}", facts)
    try:
        for file in written.rglob("*.safetensors") if written.is_dir() else (written,):
            read_header(file)
        told = row.check(content, written)
    except ValueError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    if written.is_dir() and run.file("card.md").is_file():
        shutil.copyfile(run.file("card.md"), written / "README.md")
    return written, told + (f"; {content.nearness}" if content.nearness else "")
