"""Export of an experiment's results: all data as JSON, the pictures and the scatter plot each as a PNG."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from pipelines.experiments.scatter import Layout, Mark, Series, laid_out
from pipelines.experiments.settings import filled
from pipelines.files import write_atomic, write_json
from pipelines.models.inspection import portable_spec
from pipelines.sampling.grid import INK, PAPER, grid_picture

CHART_PX = (880, 620)
FINER = 2  # supersampling factor for smooth edges
EXPORTED = (
    "id", "name", "kind", "created", "state", "words", "config", "encoders", "tables", "charts", "sentences", "rows",
)  # fmt: skip
GREY, PALE = "#8a8178", "#e4ded6"
COLOURS = ("#c2552d", "#2b7a78", "#6b4fa3", "#b8860b", "#3366aa", "#7a7a2a")
SHAPES = ("circle", "square", "diamond", "triangle", "circle", "square")


def write_files(status: Mapping[str, Any], folder: Path) -> dict[str, Path]:
    """Write an experiment's files from its status; pictures and chart are only written if there are any."""
    exported = {name: status[name] for name in EXPORTED}
    base = status["base"] | {"spec": portable_spec(status["base"]["spec"])}  # local paths are not exported
    found = {"json": folder / "experiment.json"}
    write_json(found["json"], {"atelier": 1, **exported, "base": base})
    drawn = status["pictures"]
    if drawn["rows"]:
        heads = [filled(head, subject=status["words"]["class_noun"]) for head in drawn["heads"]]
        rows = [{"name": row["label"], "method": ""} for row in drawn["rows"]]
        sheet = grid_picture(rows, heads, [row["files"] for row in drawn["rows"]])
        found["pictures"] = _save(sheet, folder / "pictures.png")
    layouts = [laid_out(chart, width=CHART_PX[0], height=CHART_PX[1]) for chart in status["charts"]]
    if shown := [layout for layout in layouts if layout is not None]:
        found["chart"] = _save(chart_picture(shown[0]), folder / "chart.png")
    return found


def chart_picture(layout: Layout) -> Image.Image:
    """Render a scatter plot as a picture."""
    large = Image.new("RGB", (layout.width * FINER, layout.height * FINER), PAPER)
    pen = ImageDraw.Draw(large)
    small = ImageFont.load_default(14 * FINER)
    left, top, right, bottom = (edge * FINER for edge in layout.frame)
    for x, text in layout.x_ticks:
        pen.line((x * FINER, top, x * FINER, bottom), fill=PALE, width=FINER)
        pen.text((x * FINER, bottom + 8 * FINER), text, fill=GREY, font=small, anchor="mt")
    for y, text in layout.y_ticks:
        pen.line((left, y * FINER, right, y * FINER), fill=PALE, width=FINER)
        pen.text((left - 8 * FINER, y * FINER), text, fill=GREY, font=small, anchor="rm")
    pen.text(((left + right) / 2, bottom + 32 * FINER), layout.x, fill=INK, font=small, anchor="mt")
    pen.text((left, 3 * FINER), layout.y, fill=INK, font=small, anchor="lt")
    for series in layout.series:
        _draw_path(pen, series)
    for series in layout.series:
        _draw_last(pen, series)
    return large.resize((layout.width, layout.height), Image.Resampling.LANCZOS)


def _draw_path(pen: ImageDraw.ImageDraw, series: Series) -> None:
    colour = COLOURS[series.look]
    places = [(mark.x * FINER, mark.y * FINER) for mark in series.marks]
    if len(places) > 1:
        pen.line(places, fill=colour, width=FINER)
    for mark in series.marks[:-1]:
        _shape(pen, mark, "circle", radius=3.5, colour=colour)
    last = series.marks[-1]
    if last.whiskers is not None:
        low_x, high_x, low_y, high_y = (edge * FINER for edge in last.whiskers)
        pen.line((low_x, last.y * FINER, high_x, last.y * FINER), fill=colour, width=FINER)
        pen.line((last.x * FINER, low_y, last.x * FINER, high_y), fill=colour, width=FINER)


def _draw_last(pen: ImageDraw.ImageDraw, series: Series) -> None:
    last = series.marks[-1]
    shape, radius = (SHAPES[series.look], 7.0) if last.last else ("circle", 3.5)
    _shape(pen, last, shape, radius=radius, colour=COLOURS[series.look])
    anchor = {"start": "ls", "end": "rs"}[series.anchor]
    place = (series.text_x * FINER, series.text_y * FINER)
    font = ImageFont.load_default(15 * FINER)
    pen.text(
        place, series.label, fill=INK, font=font, anchor=anchor, stroke_width=2 * FINER, stroke_fill=PAPER
    )


def _shape(pen: ImageDraw.ImageDraw, mark: Mark, shape: str, *, radius: float, colour: str) -> None:
    x, y, r = mark.x * FINER, mark.y * FINER, radius * FINER
    corners = {
        "square": [(x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)],
        "diamond": [(x, y - 1.3 * r), (x + 1.3 * r, y), (x, y + 1.3 * r), (x - 1.3 * r, y)],
        "triangle": [(x, y - 1.2 * r), (x + 1.15 * r, y + 0.9 * r), (x - 1.15 * r, y + 0.9 * r)],
    }
    if shape == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=colour, outline=PAPER, width=FINER)
    else:
        pen.polygon(corners[shape], fill=colour, outline=PAPER)


def _save(picture: Image.Image, path: Path) -> Path:
    stream = io.BytesIO()
    picture.save(stream, format="PNG")
    write_atomic(path, stream.getvalue())
    return path
