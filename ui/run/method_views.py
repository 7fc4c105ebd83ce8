"""A method's views of a run as HTML: bars, heat maps, curves."""

from collections.abc import Mapping, Sequence
from typing import Any

from ui.html import Html, element
from ui.run import charts as plots
from ui.run.unet_diagram import unet_map

View = Mapping[str, Any]
REFERENCE_FIRST = ("raw", "smooth", "prior", "identity", "prompt")  # the first line is pale
SUBJECTS = ("look0", "look1", "look2", "look3", "look4", "look5")  # all lines are equally important


def drawn(views: Sequence[View]) -> Html:
    """Return all views of a run, one below the other; an empty string when there are none."""
    if not views:
        return Html("")
    return element("div", *[KINDS[view["kind"]](view) for view in views], class_="views")


def bars(view: View) -> Html:
    """Return a bar for each value, with its label and number; all bars have one scale, drawn below them."""
    most = max((abs(value) for value in view["values"].values()), default=0.0) or 1.0
    rows = [
        element(
            "div",
            element("dt", label),
            element("dd", element("i", style=f"width: {100 * abs(value) / most:.1f}%"), f"{value:.3g}"),
        )
        for label, value in view["values"].items()
    ]
    ticks = [element("span", f"{number:.3g}") for number in (0.0, most / 2, most)]
    scale = element("p", element("span", *ticks, class_="ruler"), class_="bars-scale", aria_hidden="true")
    return _figure(view, element("dl", *rows, class_="bars"), scale, wide=len(rows) > MOST_BARS)


def heat(view: View) -> Html:
    """Return a table whose cells are darker for larger numbers, with the scale of the colour above it.

    In a small table every cell shows its number; in a large one the number is in the cell's title.
    """
    numbers = [cell for row in view["cells"] for cell in row if cell is not None]
    low, high = min(0.0, *numbers, 0.0), max([*numbers, view.get("most") or 0.0], default=0.0)
    small = len(view["columns"]) <= MOST_COLUMNS and len(view["rows"]) <= MOST_ROWS
    head = element("tr", element("td"), *[element("th", name, scope="col") for name in view["columns"]])
    body = [
        element(
            "tr",
            element("th", name, scope="row"),
            *[_cell(cell, low=low, high=high, written=small) for cell in cells],
        )
        for name, cells in zip(view["rows"], view["cells"], strict=True)
    ]
    table = element("table", element("thead", head), element("tbody", *body))
    scroll = element("div", table, class_="heat", tabindex=0, role="region", aria_label=view["title"])
    empty = any(cell is None for row in view["cells"] for cell in row)
    wide = len(view["columns"]) > NARROW_COLUMNS or len(view["rows"]) > MOST_ROWS
    return _figure(view, ramp(low, high, empty=empty), scroll, wide=wide)


NARROW_COLUMNS = 8  # a table with more columns takes the whole width
MOST_BARS = 12  # a chart with more bars takes the whole width
MOST_COLUMNS, MOST_ROWS = 12, 60  # up to this size, every cell shows its number


def ramp(low: float, high: float, *, empty: bool = False) -> Html:
    """Return the scale of a heat map: its smallest and its largest number, and the colours between them."""
    parts = [
        element("span", f"{low:.3g}"),
        element("i", aria_hidden="true"),
        element("span", f"{high:.3g}"),
        element(
            "span", "the stronger the colour, the larger the number" + ("; –: no value" if empty else "")
        ),
    ]
    return element("p", *parts, class_="ramp")


def _cell(value: float | None, *, low: float, high: float, written: bool) -> Html:
    if value is None:
        return element("td", "–")
    share = (value - low) / (high - low) if high > low else 0.0
    number = f"{value:.3g}"
    return element(
        "td",
        number if written else element("span", number),
        title=number,
        style=f"--share: {100 * share:.0f}%",
    )


def curves(view: View) -> Html:
    """Return the lines of a view as a chart over its positions."""
    looks = SUBJECTS if view["at"] else REFERENCE_FIRST
    lines = [
        plots.Line(name, looks[place % len(looks)], [(float(x), y) for x, y in zip(at, values, strict=False)])
        for place, (name, values) in enumerate(view["lines"].items())
        for at in [view["at"] or range(len(values))]
    ]
    furthest = max((line.points[-1][0] for line in lines if line.points), default=1.0)
    drawn = plots.chart(
        lines, title=view["title"], x_max=furthest, empty="No data.", floor=0.0, axis=view["axis"]
    )
    return element("div", drawn, element("p", view["help"], class_="hint"), class_="view")


def _figure(view: View, *parts: Html, wide: bool = False) -> Html:
    caption = element("figcaption", element("h3", view["title"]), element("p", view["help"], class_="hint"))
    return element("figure", caption, *parts, class_="view wide" if wide else "view")


def unet(view: View) -> Html:
    """Return the blocks of the UNet with their numbers."""
    return unet_map(view["values"], title=view["title"], text=view["help"])


KINDS = {"bars": bars, "heat": heat, "curves": curves, "unet": unet}
