"""Comparison grids: one row per run, stack of runs or base model, one column per prompt, seed or strength.

All pictures in a column start from the same noise. The caller generates the pictures, so this module does not import
torch.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from pipelines.config import SampleConfig, clean_text, fill_words, real_number, to_dict, whole_number
from pipelines.files import write_atomic, write_json
from pipelines.runs.library import seconds_at_work, trained_parameters
from pipelines.runs.store import Run
from pipelines.sampling.image_metadata import Layer, read_png_settings
from pipelines.sampling.stack import MAX_STRENGTH, common_base

ACROSS = ("prompts", "seeds", "strengths", "second")  # "second": only the strength of a row's second run
MOST = 8  # maximum number of rows and of columns
BASE_NAME = "Untouched base"
STACK = "stack"  # shown instead of a method in the table
INK, PAPER = "#1d1b19", "#ffffff"
MARGIN_PX, LABEL_PX, HEAD_PX, CELL_PX = 16, 190, 64, 192
FONT_PX = 17


@dataclass(frozen=True)
class Cell:
    """One picture to generate; without layers it uses the base model."""

    layers: tuple[Layer, ...]
    config: SampleConfig


@dataclass(frozen=True)
class Row:
    """One row: the requested layers and their runs; without layers it uses the base model."""

    layers: tuple[Layer, ...] = ()
    runs: tuple[Run, ...] = ()

    @property
    def name(self) -> str:
        """The display name, such as "Rex" or "Rex + Pixels at 0.5"."""
        return row_name([(run.name, layer) for run, layer in zip(self.runs, self.layers, strict=True)])


def row_name(parts: Sequence[tuple[str, Layer]]) -> str:
    """Return the display name of a row from its runs' names, with strengths other than 1 and block weights marked."""
    told = []
    for name, layer in parts:
        strength = "" if layer.strength == 1 else f" at {layer.strength:g}"
        told.append(f"{name}{strength}{', by blocks' if layer.blocks else ''}")
    return " + ".join(told) or BASE_NAME


def check_rows(rows: Sequence[Row]) -> None:
    """Raise ValueError for no rows, too many, duplicate rows, unfinished runs, or incompatible bases."""
    if not 1 <= len(rows) <= MOST:
        raise ValueError(f"{len(rows)} runs were chosen to compare; choose 1 to {MOST}.")
    if len({row.layers for row in rows}) < len(rows):
        raise ValueError("The same row was chosen twice; choose each only once.")
    for row in rows:
        common_base(row.runs)
    runs = [run for row in rows for run in row.runs]
    for run in runs:
        if not run.file("adapter.safetensors").is_file():
            raise ValueError(
                f"The run {run.name!r} has no finished adapter yet; wait for it, or leave it out."
            )
    families = sorted({str(run.base["family"]) for run in runs})
    if len(families) > 1:
        raise ValueError(
            f"These runs belong to bases of different families ({', '.join(families)}), which cannot start from the "
            "same noise; compare those of one."
        )


def plan(
    rows: Sequence[Row], *, across: str, values: Sequence[Any], config: SampleConfig
) -> list[list[Cell]]:
    """Return the cells, row by row. Raises ValueError for an unknown ``across`` or an invalid value.

    {identifier} and {class_noun} in a prompt are replaced by each run's words; for the base model, {identifier} by ""
    and {class_noun} by that of the first run.
    """
    if across not in ACROSS:
        raise ValueError(f"There is no comparison across {str(across)[:40]!r}; choose {', '.join(ACROSS)}.")
    columns = [_column(value, across=across, config=config) for value in values]
    if not 1 <= len(columns) <= MOST:
        raise ValueError(f"{len(columns)} {across} were given to compare; give 1 to {MOST}.")
    if across == "second" and all(len(row.layers) < 2 for row in rows):
        raise ValueError("No row has a second run whose strength could change; add a stack of two runs.")
    first = next((row.runs[0] for row in rows if row.runs), None)
    nouns = str(first.config.get("class_noun", "")) if first is not None else ""
    return [
        [
            Cell(layers=_scaled(row, factor, across=across), config=_worded(asked, row=row, nouns=nouns))
            for asked, factor in columns
        ]
        for row in rows
    ]


def _column(value: Any, *, across: str, config: SampleConfig) -> tuple[SampleConfig, float]:
    """Return the sampling config of a column, and the strength that it multiplies or sets."""
    single, strength = replace(config, count=1), 1.0
    if across == "prompts":
        if not isinstance(value, str) or not clean_text(value):
            raise ValueError(f"A prompt to compare is {str(value)[:40]!r}; enter a prompt for each column.")
        single = replace(single, prompt=value)
    elif across == "seeds":
        single = replace(single, seed=whole_number(value, label="A seed to compare"))
    else:
        strength = real_number(value, label="A strength to compare")
        if not 0.0 <= strength <= MAX_STRENGTH:
            raise ValueError(
                f"A strength to compare is {strength:g}; it must lie between 0 and {MAX_STRENGTH:g}."
            )
    if not single.prompt:
        raise ValueError("The prompt is empty; describe the pictures.")
    return single, strength


def _scaled(row: Row, factor: float, *, across: str) -> tuple[Layer, ...]:
    """Return the layers of a cell: all strengths multiplied by ``factor``, or the second layer's set to ``factor``."""
    if across == "second":
        return tuple(
            replace(layer, strength=factor) if place == 1 else layer for place, layer in enumerate(row.layers)
        )
    scaled = tuple(replace(layer, strength=layer.strength * factor) for layer in row.layers)
    for layer in scaled:
        if layer.strength > MAX_STRENGTH:
            raise ValueError(
                f"{row.name!r} times {factor:g} exceeds strength {MAX_STRENGTH:g}; lower its own strengths or "
                "the column's."
            )
    return scaled


def _worded(config: SampleConfig, *, row: Row, nouns: str) -> SampleConfig:
    words = {"identifier": "", "class_noun": nouns}
    if row.runs:
        words = {name: str(row.runs[0].config.get(name, "")) for name in words}
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
    """Generate all cells; return ``grid`` and ``json`` (files below ``folder``), ``cells`` (files) and ``rows``.

    Identical cells (such as the base model at different strengths) are generated once.
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
            if cell not in drawn:
                drawn[cell] = draw(cell)
            cells[-1].append(drawn[cell])
            done += 1
    if progress is not None:
        progress(done, total)
    facts = [row_facts(row) for row in rows]
    heads = [column_head(value, across=across) for value in values]
    folder.mkdir(parents=True, exist_ok=True)
    grid = _save(grid_picture(facts, heads, cells), folder / "comparison.png")
    table = folder / "comparison.json"
    told = [[{"file": path.name, **read_png_settings(path)} for path in line] for line in cells]
    asked = {"across": across, "values": list(values), "config": to_dict(config)}
    write_json(table, {"atelier": 1, **asked, "rows": facts, "cells": told})
    return {"grid": grid, "json": table, "cells": cells, "rows": facts}


def row_facts(row: Row) -> dict[str, Any]:
    """Return a row of the table: ``bytes`` is the size of the adapter files, ``seconds`` the training time.

    ``metrics`` maps a name to ``value``, ``low`` and ``high``; the bounds are None if only a value was measured. For a
    stack, the numbers are sums over its runs, and ``metrics`` is empty, because they were measured for each run alone.
    """
    runs, alone = row.runs, row.runs[0] if len(row.runs) == 1 else None
    return {
        "run": row.layers[0].run if alone is not None else None,
        "name": row.name,
        "method": alone.method if alone is not None else STACK if runs else "",
        "trainable": sum(trained_parameters(run) or 0 for run in runs),
        "bytes": sum(run.file("adapter.safetensors").stat().st_size for run in runs),
        "seconds": sum(seconds_at_work(run.events()) for run in runs),
        "metrics": _metrics(alone, alone.events()) if alone is not None else {},
        "stack": [replace(layer, name=run.name).told() for run, layer in zip(runs, row.layers, strict=True)],
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


def column_head(value: Any, *, across: str) -> str:
    """Return the heading of a column; ``value`` must be valid."""
    return {
        "prompts": "{}",
        "seeds": "seed {:.0f}",
        "strengths": "strength {:g}",
        "second": "second run at {:g}",
    }[across].format(value)


def grid_picture(
    rows: Sequence[dict[str, Any]], heads: Sequence[str], cells: Sequence[Sequence[Path]]
) -> Image.Image:
    """Return the labelled figure: row names on the left, headings above; small pictures are scaled by an integer."""
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
    """Wrap a text to at most ``lines`` lines of ``width`` pixels; a longer text ends in an ellipsis."""
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
