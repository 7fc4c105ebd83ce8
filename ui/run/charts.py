"""Line charts as SVG, in the page's colours and without a chart library."""

from dataclasses import dataclass

from ui.html import Html, element
from ui.run.state import RunView

MAX_POINTS = 300
TERMS = {"instance": "photographs", "prior": "class images", "unmix": "Unmix"}
SIMILARITY = (
    "To the photographs: 0 is the base before the training, 1 the photographs. To the prompt: cosine by CLIP. Higher is "
    "better."
)
Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """One curve; ``look`` is its CSS class (raw, smooth, prior, identity, prompt)."""

    name: str
    look: str
    points: list[Point]
    in_legend: bool = True


def smoothed(points: list[Point], *, window: float) -> list[Point]:
    """Return the bias-corrected exponential moving average over about ``window`` points."""
    keep = max(0.0, 1.0 - 1.0 / max(window, 1.0))
    mean, weight, result = 0.0, 0.0, []
    for step, value in points:
        mean, weight = keep * mean + (1 - keep) * value, keep * weight + (1 - keep)
        result.append((step, mean / weight))
    return result


def thinned(points: list[Point], *, most: int = MAX_POINTS) -> list[Point]:
    """Return at most about ``most`` evenly spaced points, always including the last one."""
    stride = max(1, -(-len(points) // most))
    return points[::stride] if (len(points) - 1) % stride == 0 else [*points[::stride], points[-1]]


def loss_chart(view: RunView) -> Html:
    """Return the loss curves: each term raw and smoothed, in its own colour."""
    lines = []
    for order, (name, points) in enumerate(view.terms.items()):
        look = "smooth" if order == 0 else "prior"
        raw = [(float(step), value) for step, value in points]
        lines.append(Line("each step", f"raw {look}", thinned(raw), in_legend=order == 0))
        average = smoothed(raw, window=max(8.0, view.total / 16))
        lines.append(Line(TERMS.get(name, name), look, thinned(average)))
    return chart(
        lines,
        title="Loss",
        x_max=view.total,
        empty="The curve begins with the first step.",
        ceiling=_ceiling(lines),
    )


def similarity_chart(view: RunView) -> Html:
    """Return the similarity of the samples to the photographs and to the prompt; 0 is the base model."""
    names = {"identity": "to the photographs", "prompt": "to the prompt"}
    lines = [
        Line(names[name], name, [(float(step), value) for step, value in points])
        for name, points in view.similarity.items()
    ]
    band = [(float(step), low, high) for step, low, high in view.band]
    return chart(
        lines,
        title="Similarity",
        x_max=view.total,
        empty="Measured on each row of samples.",
        floor=0.0,
        band=band,
        note=SIMILARITY,
    )


def chart(
    lines: list[Line],
    *,
    title: str,
    x_max: float,
    empty: str,
    floor: float | None = None,
    ceiling: float | None = None,
    band: list[tuple[float, float, float]] | None = None,
    axis: str = "step",
    note: str = "",
) -> Html:
    """Return a titled chart with legend and a ``note`` below it, or the text ``empty`` while there are no points."""
    drawn = [line for line in lines if line.points]
    legend = [
        element("span", element("i", class_=f"key {line.look}"), line.name, class_="legend-entry")
        for line in drawn
        if line.in_legend
    ]
    head = element("div", element("h3", title), element("div", *legend, class_="legend"), class_="chart-head")
    if not drawn:
        return element("figure", head, element("div", empty, class_="chart-empty"), class_="chart")
    values = [value for line in drawn for _, value in line.points]
    values += [edge for _, low, high in band or [] for edge in (low, high)]
    low = min(values) if floor is None else min(floor, min(values))
    high = max(values) if ceiling is None else ceiling
    frame = _Frame(x_max=max(x_max, 1.0), low=low, high=max(high, low + 1e-6))
    last = "; ".join(f"{line.name} {line.points[-1][1]:.3g}" for line in drawn if line.in_legend)
    return element(
        "figure",
        head,
        element(
            "div",
            _drawing(drawn, frame=frame, band=band or []),
            *_axis_words(frame, axis=axis),
            class_="chart-field",
            role="img",
            aria_label=f"{title}, over the {axis}s, latest: {last}",
        ),
        *([element("figcaption", note, class_="hint")] if note else []),
        class_="chart",
    )


@dataclass(frozen=True)
class _Frame:
    x_max: float
    low: float
    high: float

    def at(self, point: Point) -> str:
        x = 1000 * point[0] / self.x_max
        share = min(max((point[1] - self.low) / (self.high - self.low), 0.0), 1.0)
        return f"{x:.1f},{1000 * (1 - share):.1f}"


def _drawing(lines: list[Line], *, frame: _Frame, band: list[tuple[float, float, float]]) -> Html:
    marks = [element("line", x1=0, x2=1000, y1=y, y2=y, class_="grid") for y in (0, 333, 667, 1000)]
    if len(band) > 1:
        outline = [(step, high) for step, _, high in band] + [(step, low) for step, low, _ in reversed(band)]
        marks.append(element("polygon", points=" ".join(map(frame.at, outline)), class_="band"))
    for line in lines:
        ends = line.points if len(line.points) > 1 else line.points * 2
        marks.append(element("polyline", points=" ".join(map(frame.at, ends)), class_=f"curve {line.look}"))
    return element("svg", *marks, viewBox="0 0 1000 1000", preserveAspectRatio="none", aria_hidden="true")


def _axis_words(frame: _Frame, *, axis: str) -> list[Html]:
    return [
        element("span", f"{frame.high:.2g}", class_="tick top"),
        element("span", f"{frame.low:.2g}", class_="tick bottom"),
        element("span", f"{axis} 0", class_="tick left"),
        element("span", f"{frame.x_max:g}", class_="tick right"),
    ]


def _ceiling(lines: list[Line]) -> float | None:
    """Return the upper limit of the axis without the highest 2 %, so that one spike does not flatten the curves."""
    values = sorted(value for line in lines for _, value in line.points)
    if len(values) < 2:
        return None
    top = values[int(0.98 * (len(values) - 1))]
    return max([top, *(value for line in lines if "raw" not in line.look for _, value in line.points)])
