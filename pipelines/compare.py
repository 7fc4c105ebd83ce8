"""Runs and the untouched base side by side: a row for each, a column for each prompt, seed or strength.

Within a column every picture begins from the same noise. Drawing is the caller's; nothing here needs torch.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from pipelines.config import SampleConfig, clean_text, fill_words, real_number, to_dict, whole_number
from pipelines.library import seconds_at_work, trained_parameters
from pipelines.recall import read_png_settings
from pipelines.runs import Run, write_atomic, write_json

ACROSS = ("prompts", "seeds", "strengths")
MOST = 8  # rows, and columns
BASE_NAME = "Untouched base"
INK, PAPER = "#1d1b19", "#ffffff"
MARGIN_PX, LABEL_PX, HEAD_PX, CELL_PX = 16, 190, 64, 192
FONT_PX = 17


@dataclass(frozen=True)
class Cell:
    """One picture to draw; ``run_id`` None is the base alone."""

    run_id: str | None
    config: SampleConfig
    strength: float


@dataclass(frozen=True)
class Row:
    """One run, by the id under which it was asked for, or None: the base."""

    run_id: str | None
    run: Run | None

    @property
    def name(self) -> str:
        """What a person calls it."""
        return self.run.name if self.run is not None else BASE_NAME


def check_rows(rows: Sequence[Row]) -> None:
    """Raise ValueError for none, too many, the same one twice, an unfinished one, or bases of different families."""
    if not 1 <= len(rows) <= MOST:
        raise ValueError(f"{len(rows)} runs were chosen to compare; choose 1 to {MOST}.")
    if len({row.run_id for row in rows}) < len(rows):
        raise ValueError("The same run was chosen twice; choose each only once.")
    runs = [row.run for row in rows if row.run is not None]
    for run in runs:
        if not run.file("adapter.safetensors").is_file():
            raise ValueError(
                f"The run {run.name!r} has no finished adapter yet; wait for it, or leave it out."
            )
    families = sorted({str(run.base["family"]) for run in runs})
    if len(families) > 1:
        raise ValueError(
            f"These runs belong to bases of different families ({', '.join(families)}), which cannot begin from the "
            "same noise; compare those of one."
        )


def plan(
    rows: Sequence[Row], *, across: str, values: Sequence[Any], config: SampleConfig
) -> list[list[Cell]]:
    """Return the cells, row by row. ValueError for a kind of column or a value that cannot be used.

    {identifier} and {class_noun} in a prompt become each run's own words; for the base, the class word of the first run.
    """
    if across not in ACROSS:
        raise ValueError(f"There is no comparison across {str(across)[:40]!r}; choose {', '.join(ACROSS)}.")
    columns = [_column(value, across=across, config=config) for value in values]
    if not 1 <= len(columns) <= MOST:
        raise ValueError(f"{len(columns)} {across} were given to compare; give 1 to {MOST}.")
    first = next((row.run for row in rows if row.run is not None), None)
    nouns = str(first.config.get("class_noun", "")) if first is not None else ""
    return [
        [
            Cell(run_id=row.run_id, config=_worded(asked, row=row, nouns=nouns), strength=strength)
            for asked, strength in columns
        ]
        for row in rows
    ]


def _column(value: Any, *, across: str, config: SampleConfig) -> tuple[SampleConfig, float]:
    single, strength = replace(config, count=1), 1.0
    if across == "prompts":
        if not isinstance(value, str) or not clean_text(value):
            raise ValueError(f"A prompt to compare is {str(value)[:40]!r}; give each column some words.")
        single = replace(single, prompt=value)
    elif across == "seeds":
        single = replace(single, seed=whole_number(value, label="A seed to compare"))
    else:
        strength = real_number(value, label="A strength to compare")
        if not 0.0 <= strength <= 2.0:
            raise ValueError(f"A strength to compare is {strength:g}; it must lie between 0 and 2.")
    if not single.prompt:
        raise ValueError("The prompt is empty; say what the pictures should show.")
    return single, strength


def _worded(config: SampleConfig, *, row: Row, nouns: str) -> SampleConfig:
    run = row.run
    words = {"identifier": "", "class_noun": nouns}
    if run is not None:
        words = {name: str(run.config.get(name, "")) for name in words}
    return replace(config, prompt=fill_words(config.prompt, **words))


def compare(
    rows: Sequence[Row],
    *,
    across: str,
    values: Sequence[Any],
    config: SampleConfig,
    draw: Callable[[Cell], Path],
    folder: Path,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Draw every cell, and return ``grid`` and ``json`` (files below ``folder``), ``cells`` (files) and ``rows``.

    A picture that two cells would share (the base at another strength) is drawn once.
    """
    check_rows(rows)
    planned = plan(rows, across=across, values=values, config=config)
    total, done = len(planned) * len(values), 0
    drawn: dict[Cell, Path] = {}
    cells: list[list[Path]] = []
    for line in planned:
        cells.append([])
        for cell in line:
            if progress is not None:
                progress(done, total)
            same = cell if cell.run_id is not None else replace(cell, strength=1.0)
            if same not in drawn:
                drawn[same] = draw(same)
            cells[-1].append(drawn[same])
            done += 1
    if progress is not None:
        progress(done, total)
    facts = [row_facts(row) for row in rows]
    heads = [_head(value, across=across, cell=cell) for value, cell in zip(values, planned[0], strict=True)]
    folder.mkdir(parents=True, exist_ok=True)
    grid = _save(grid_picture(facts, heads, cells), folder / "comparison.png")
    table = folder / "comparison.json"
    told = [[{"file": path.name, **read_png_settings(path)} for path in line] for line in cells]
    asked = {"across": across, "values": list(values), "config": to_dict(config)}
    write_json(table, {"atelier": 1, **asked, "rows": facts, "cells": told})
    return {"grid": grid, "json": table, "cells": cells, "rows": facts}


def row_facts(row: Row) -> dict[str, Any]:
    """Return a row of the table: ``bytes`` is the adapter's file, ``seconds`` the time the run was at work.

    ``metrics`` maps a name to ``value``, ``low`` and ``high``; the bounds are None where only a value was measured.
    """
    run = row.run
    facts = {"run": row.run_id, "name": row.name, "method": "", "trainable": 0, "bytes": 0, "seconds": 0.0}
    if run is None:
        return facts | {"metrics": {}}
    events = run.events()
    return facts | {
        "method": run.method,
        "trainable": trained_parameters(run) or 0,
        "bytes": run.file("adapter.safetensors").stat().st_size,
        "seconds": seconds_at_work(events),
        "metrics": _metrics(run, events),
    }


def _metrics(run: Run, events: Sequence[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    found: dict[str, dict[str, float | None]] = {}
    for name, value in (run.read_json("metrics.json") or {}).items():
        if isinstance(value, float | int):
            found[name] = {"value": float(value), "low": None, "high": None}
    last = next((event for event in reversed(events) if event["kind"] == "similarity"), {})
    for name, value in last.items():
        if isinstance(value, dict) and "value" in value:
            found[name] = {bound: value.get(bound) for bound in ("value", "low", "high")}
    return found


def _head(value: Any, *, across: str, cell: Cell) -> str:
    """What stands above a column."""
    return {
        "prompts": str(value),
        "seeds": f"seed {cell.config.seed}",
        "strengths": f"strength {cell.strength:g}",
    }[across]


def grid_picture(
    rows: Sequence[dict[str, Any]], heads: Sequence[str], cells: Sequence[Sequence[Path]]
) -> Image.Image:
    """Return the labelled figure: names at the left, values above, small pictures enlarged by a whole factor."""
    pictures = [[_opened(path) for path in line] for line in cells]
    side = max(picture.width for line in pictures for picture in line)
    side *= max(1, -(-CELL_PX // side))
    font = ImageFont.load_default(FONT_PX)
    size = (
        LABEL_PX + len(heads) * (side + MARGIN_PX) + MARGIN_PX,
        HEAD_PX + len(rows) * (side + MARGIN_PX) + MARGIN_PX,
    )
    figure = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(figure)
    for column, head in enumerate(heads):
        x = LABEL_PX + column * (side + MARGIN_PX)
        pen.multiline_text((x, MARGIN_PX), _wrapped(head, font, width=side, lines=2), fill=INK, font=font)
    for line, (row, drawn) in enumerate(zip(rows, pictures, strict=True)):
        y = HEAD_PX + line * (side + MARGIN_PX)
        label = _wrapped(row["name"], font, width=LABEL_PX - 2 * MARGIN_PX, lines=4)
        pen.multiline_text((MARGIN_PX, y), f"{label}\n{row['method']}", fill=INK, font=font)
        for column, picture in enumerate(drawn):
            figure.paste(picture.resize((side, side)), (LABEL_PX + column * (side + MARGIN_PX), y))
    return figure


def _wrapped(text: str, font: Any, *, width: int, lines: int) -> str:
    """Break a text into at most ``lines`` lines that fit; what is left over ends in an ellipsis."""
    rows: list[str] = [""]
    for word in text.split():
        longer = f"{rows[-1]} {word}".strip()
        if not rows[-1] or font.getlength(longer) <= width:
            rows[-1] = longer
        else:
            rows.append(word)
    if len(rows) > lines:
        rows = [*rows[: lines - 1], rows[lines - 1] + " ..."]
    return "\n".join(_shortened(row, font, width=width) for row in rows)


def _shortened(text: str, font: Any, *, width: int) -> str:
    while len(text) > 4 and font.getlength(text) > width:
        text = text.removesuffix("...").rstrip()[:-1] + "..."
    return text


def _opened(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB")


def _save(figure: Image.Image, path: Path) -> Path:
    stream = io.BytesIO()
    figure.save(stream, format="PNG")
    write_atomic(path, stream.getvalue())
    return path
