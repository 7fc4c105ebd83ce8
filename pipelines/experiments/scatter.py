"""The layout of a scatter plot in pixels: axes, points, the path of each series, labels without overlaps.

The layout is used for the SVG on the page and for the PNG file.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MARGIN = (64, 22, 26, 56)  # left, top, right, bottom
LETTER_PX, LINE_PX = 7.6, 18  # size of a label
TICKS = 5
APART_PX = 11  # distance of a label from its point
ABOVE_PX, BELOW_PX = 7, 9
LOOKS = 6  # number of different styles

Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Mark:
    """One point. ``whiskers`` are its confidence intervals (x low, x high, y low, y high), if known."""

    x: float
    y: float
    last: bool
    text: str
    whiskers: tuple[float, float, float, float] | None


@dataclass(frozen=True)
class Series:
    """The points of one row in order of steps, with its label; ``look`` is the index of its colour and shape."""

    label: str
    look: int
    marks: tuple[Mark, ...]
    text_x: float
    text_y: float
    anchor: str  # text anchor: start, middle or end


@dataclass(frozen=True)
class Layout:
    """The layout of a chart; ticks are (pixel, text)."""

    title: str
    width: int
    height: int
    x: str
    y: str
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    frame: Box
    series: tuple[Series, ...]


def laid_out(chart: Mapping[str, Any], *, width: int, height: int) -> Layout | None:
    """Lay out a chart of :func:`pipelines.experiments.report.chart`; None while it has no points."""
    points = [point for series in chart["series"] for point in series["points"]]
    if not points:
        return None
    frame = (MARGIN[0], MARGIN[1], width - MARGIN[2], height - MARGIN[3])
    across = _Axis([_edges(point["x"]) for point in points], low_px=frame[0], high_px=frame[2])
    upwards = _Axis([_edges(point["y"]) for point in points], low_px=frame[3], high_px=frame[1])
    drawn = [
        tuple(_mark(point, across=across, upwards=upwards, chart=chart) for point in series["points"])
        for series in chart["series"]
    ]
    taken: list[Box] = [
        (mark.x - 7, mark.y - 7, mark.x + 7, mark.y + 7) for marks in drawn for mark in marks if mark.last
    ]
    series = []
    for look, (entry, marks) in enumerate(zip(chart["series"], drawn, strict=True)):
        x, y, anchor, box = _placed(str(entry["label"]), marks[-1], taken=taken, frame=frame)
        taken.append(box)
        series.append(Series(str(entry["label"]), look % LOOKS, marks, text_x=x, text_y=y, anchor=anchor))
    return Layout(
        title=str(chart["title"]), width=width, height=height, x=str(chart["x"]), y=str(chart["y"]),
        x_ticks=tuple(across.ticks()), y_ticks=tuple(upwards.ticks()), frame=frame, series=tuple(series),
    )  # fmt: skip


class _Axis:
    """Maps numbers to pixels, over a range that contains all intervals plus a margin."""

    def __init__(self, edges: Sequence[tuple[float, float]], *, low_px: float, high_px: float) -> None:
        low, high = min(edge[0] for edge in edges), max(edge[1] for edge in edges)
        air = 0.06 * (high - low) or 0.05 * max(abs(high), 1e-3)
        self.low, self.high, self.low_px, self.high_px = low - air, high + air, low_px, high_px

    def at(self, value: float) -> float:
        """Return the pixel of a value."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.low_px + share * (self.high_px - self.low_px), 1)

    def ticks(self) -> Iterator[tuple[float, str]]:
        """Yield (pixel, text) for round numbers within the range."""
        rough = (self.high - self.low) / TICKS
        size = 10.0 ** math.floor(math.log10(rough))
        step = next(size * times for times in (1, 2, 5, 10) if size * times >= rough)
        digits = max(0, -math.floor(math.log10(step)))
        first = math.ceil(self.low / step)
        for count in range(first, math.floor(self.high / step) + 1):
            yield self.at(count * step), f"{count * step:.{digits}f}"


def _edges(measured: Mapping[str, Any]) -> tuple[float, float]:
    low, high = measured.get("low"), measured.get("high")
    value = measured["value"]
    return (value if low is None else low), (value if high is None else high)


def _mark(point: Mapping[str, Any], *, across: _Axis, upwards: _Axis, chart: Mapping[str, Any]) -> Mark:
    x, y = point["x"], point["y"]
    known = None not in (x.get("low"), x.get("high"), y.get("low"), y.get("high"))
    whiskers = (
        (across.at(x["low"]), across.at(x["high"]), upwards.at(y["low"]), upwards.at(y["high"]))
        if known
        else None
    )
    when = f"step {point['step']}, " if point["step"] else ""
    names = [str(chart[axis]).partition(":")[0] for axis in ("x", "y")]
    text = f"{when}{names[0]} {x['value']:.3f}, {names[1]} {y['value']:.3f}"
    return Mark(
        across.at(x["value"]), upwards.at(y["value"]), last=bool(point["last"]), text=text, whiskers=whiskers
    )


def _placed(label: str, mark: Mark, *, taken: Sequence[Box], frame: Box) -> tuple[float, float, str, Box]:
    """Return x, baseline y, anchor and box of a label: the first position around its point without an overlap."""
    width = LETTER_PX * len(label)
    tried = []
    for lines in (0, 1, -1, 2, -2, 3, -3):
        y = mark.y - ABOVE_PX + lines * LINE_PX + (BELOW_PX if lines > 0 else 0)  # keeps the whisker visible
        tried.append((mark.x + APART_PX, y, "start"))
        tried.append((mark.x - APART_PX, y, "end"))
    boxes = [(x, y, anchor, _box(x, y, anchor, width)) for x, y, anchor in tried]
    free = (
        each
        for each in boxes
        if _inside(each[3], frame) and not any(_meet(each[3], other) for other in taken)
    )
    return next(free, next((each for each in boxes if _inside(each[3], frame)), boxes[0]))


def _box(x: float, y: float, anchor: str, width: float) -> Box:
    left = x if anchor == "start" else x - width
    return (left, y - 14, left + width, y + 4)


def _inside(box: Box, frame: Box) -> bool:
    return box[0] >= frame[0] and box[2] <= frame[2] and box[1] >= frame[1] and box[3] <= frame[3]


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
