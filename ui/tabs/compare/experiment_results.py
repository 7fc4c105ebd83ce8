"""An experiment's results as HTML: progress, summary sentences, scatter plot, tables and pictures."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.experiments.scatter import Layout, Mark, Series, laid_out
from pipelines.experiments.settings import filled
from ui.html import BrowserCopies, Html, element
from ui.run import cards
from ui.run.measures import explained
from ui.run.panels import duration, heading, size_of

WIDE, NARROW = (880, 520), (400, 420)  # size of the scatter plot in px, on a wide screen and on a phone
WORDS = {"running": "Running", "done": "Finished", "interrupted": "Not finished"}
ROW_WORDS = {
    "queued": "queued",
    "running": "training",
    "stopping": "stopping",
    "measuring": "measuring",
    "interrupted": "interrupted",
    "stopped": "stopped",
}
RECORDED = (
    "This recording ships with Atelier; “Run the experiment” measures your photographs in the same way."
)
Status = Mapping[str, Any]


def shown(status: Status, *, copies: BrowserCopies) -> Html:
    """Return all results of an experiment so far."""
    parts = [
        progress(status),
        sentences(status),
        *[scatter(chart) for chart in status["charts"]],
        *[table(each) for each in status["tables"]],
        pictures(status, copies=copies),
    ]
    return element("div", *[part for part in parts if part], class_="experiment")


def state_of(status: Status) -> str:
    """Return the state of an experiment in a word."""
    return "Recorded" if status["shipped"] else WORDS[status["state"]]


def recorded(status: Status, *, copies: BrowserCopies) -> Html:
    """Return the pictures and the figures of a recorded experiment, for a page without a comparison of one's own."""
    return element(
        "div",
        heading(
            "",
            f"Recorded: “{status['name']}” by every method",
            f"Choose your rows and press Compare. This is a recording, {words_of(status)}.",
        ),
        pictures(status, copies=copies),
        *[table(each) for each in status["tables"]],
        class_="experiment recorded",
    )


def progress(status: Status) -> Html:
    """Return the progress: state, bar, and the current activity."""
    share = 100 * status["done"] / max(status["total"], 1)
    doing = status["doing"] or ("Queued." if status["state"] == "running" else "")
    text = f"{status['done']} of {status['total']} measured" + (f" · {doing}" if doing else "")
    if status["state"] == "interrupted":
        text += " · “Resume” continues where it stopped."
    bar = element(
        "div",
        element("div", style=f"width:{share:.1f}%", class_="bar-fill"),
        class_="bar",
        role="progressbar",
        aria_label="Progress of the experiment",
        aria_valuemin=0,
        aria_valuemax=100,
        aria_valuenow=round(share),
    )
    over = status["state"] == "done"
    return element(
        "div",
        element(
            "div",
            element("span", class_=f"dot {status['state']}", aria_hidden="true"),
            element("strong", state_of(status)),
            element("span", status["name"], class_="run-name"),
            class_="run-title",
            role="status",
        ),
        *([element("p", RECORDED, class_="hint")] if status["shipped"] else []),
        *([] if over else [bar]),
        element("p", f"{text}, {words_of(status)}" if over else text, class_="hint"),
        class_="run-progress",
    )


def words_of(status: Status) -> str:
    """Return the settings common to all rows: "4 prompts, 2 seeds, 20 steps", and the training steps if they are given."""
    asked, encoders = status["config"], status["encoders"]
    by = (
        f"; image similarity by {encoders['identity']}, prompt similarity by {encoders['clip']}"
        if encoders
        else ""
    )
    trained = f", after {asked['steps']} training steps" if asked["steps"] else ""
    prompts, seeds = len(asked["prompts"]), asked["seeds"]
    return (
        f"each from {prompts} {'prompt' if prompts == 1 else 'prompts'} and {seeds} "
        f"{'seed' if seeds == 1 else 'seeds'} of {asked['sample_steps']} steps{trained}{by}"
    )


def sentences(status: Status) -> Html:
    """Return the summary in sentences; an empty string before there is one."""
    if not status["sentences"]:
        return Html("")
    return element("div", *[element("p", text) for text in status["sentences"]], class_="verdict")


# ---- the table ------------------------------------------------------------------------------------------------------


def table(data: Mapping[str, Any]) -> Html:
    """Return one table; the best measured value of each column is highlighted."""
    columns = data["columns"]
    leaders = {column["key"]: _leader(data["rows"], column) for column in columns}
    head = element(
        "tr",
        element("th", "", scope="col"),
        *[
            element("th", explained(column["label"], column["help"], better=column["better"]), scope="col")
            for column in columns
        ],
    )
    lines = [
        element(
            "tr",
            element("th", *_row_head(row), scope="row"),
            *[_cell(row, column, best=leaders[column["key"]] == row["key"]) for column in columns],
        )
        for row in data["rows"]
    ]
    parts = [element("h3", data["title"])] if data["title"] else []
    parts += [element("p", data["told"], class_="hint")] if data["told"] else []
    inside = element("table", element("thead", head), element("tbody", *lines))
    scroll = element(
        "div", inside, class_="grid-scroll", tabindex=0, role="region", aria_label=data["title"] or "Figures"
    )
    return element("div", *parts, scroll, class_="table")


def _row_head(row: Mapping[str, Any]) -> list[Html]:
    name = element("span", row["label"])
    if row["state"] == "failed":
        return [name, element("small", f"failed: {row['message']}", class_="trouble")]
    if row["state"] != "done":
        return [name, element("small", ROW_WORDS[row["state"]])]
    return [name]


def _leader(rows: Sequence[Mapping[str, Any]], column: Mapping[str, Any]) -> str:
    """The key of the row with the best value; "" if no value is better, or if only references have one."""
    if not column["better"]:
        return ""
    known = [
        (row["cells"][column["key"]]["value"], row["key"])
        for row in rows
        if row["cells"][column["key"]] and row["key"] not in ("base", "photographs")
    ]
    if len(known) < 2:
        return ""
    return (max if column["better"] == "high" else min)(known)[1]


def _cell(row: Mapping[str, Any], column: Mapping[str, Any], *, best: bool) -> Html:
    found = row["cells"][column["key"]]
    if not found or found["value"] is None:
        return element("td", "–")
    value = figure(found["value"], unit=column["unit"])
    parts = [element("strong", value, class_="best", title="best in this column") if best else Html(value)]
    if found.get("low") is not None and found["low"] != found["high"]:
        parts.append(element("small", f"{found['low']:.2f} to {found['high']:.2f}"))
    return element("td", *parts)


def figure(value: float, *, unit: str) -> str:
    """Return a number with its unit in readable form."""
    if unit == "count":
        return cards.count_of(round(value))
    if unit == "bytes":
        return size_of(value)
    return duration(value) if unit == "seconds" else f"{value:.2f}"


# ---- the scatter ----------------------------------------------------------------------------------------------------


def scatter(chart: Mapping[str, Any]) -> Html:
    """Return a scatter plot for wide and one for narrow screens; an empty string while there are no points."""
    drawn = [
        _svg(layout, class_=name)
        for name, (width, height) in (("wide", WIDE), ("narrow", NARROW))
        if (layout := laid_out(chart, width=width, height=height)) is not None
    ]
    if not drawn:
        return Html("")
    small = any(len(series["points"]) > 1 for series in chart["series"])
    text = "Large marks: the finished adapter, with confidence intervals." + (
        " Small marks: earlier training steps." if small else ""
    )
    return element(
        "figure",
        element("h3", chart["title"]),
        *drawn,
        element("figcaption", text, class_="hint"),
        class_="scatter",
    )


def _svg(layout: Layout, *, class_: str) -> Html:
    left, top, right, bottom = layout.frame
    marks = []
    for x, text in layout.x_ticks:
        marks.append(element("line", x1=x, x2=x, y1=top, y2=bottom, class_="grid"))
        marks.append(element("text", text, x=x, y=bottom + 20, text_anchor="middle", class_="tick-text"))
    for y, text in layout.y_ticks:
        marks.append(element("line", x1=left, x2=right, y1=y, y2=y, class_="grid"))
        marks.append(element("text", text, x=left - 8, y=y + 5, text_anchor="end", class_="tick-text"))
    middle = (left + right) / 2
    marks.append(element("text", layout.x, x=middle, y=bottom + 44, text_anchor="middle", class_="axis-text"))
    marks.append(element("text", layout.y, x=left, y=top - 7, class_="axis-text"))
    marks += [_path(series) for series in layout.series]
    marks += [_last(series) for series in layout.series]
    spoken = "; ".join(f"{series.label}: {series.marks[-1].text}" for series in layout.series)
    return element(
        "svg",
        *marks,
        viewBox=f"0 0 {layout.width} {layout.height}",
        class_=class_,
        role="img",
        aria_label=f"{layout.title}. {spoken}",
    )


def _path(series: Series) -> Html:
    points = " ".join(f"{mark.x},{mark.y}" for mark in series.marks)
    *earlier, last = series.marks
    parts = [element("polyline", points=points, class_="way")] if earlier else []
    parts += [
        element("circle", element("title", f"{series.label}, {mark.text}"), cx=mark.x, cy=mark.y, r=3.5)
        for mark in earlier
    ]
    if last.whiskers is not None:
        low_x, high_x, low_y, high_y = last.whiskers
        parts.append(element("line", x1=low_x, x2=high_x, y1=last.y, y2=last.y, class_="whisker"))
        parts.append(element("line", x1=last.x, x2=last.x, y1=low_y, y2=high_y, class_="whisker"))
    return element("g", *parts, class_=f"look{series.look}")


def _last(series: Series) -> Html:
    mark = series.marks[-1]
    title = element("title", f"{series.label}, {mark.text}")
    small = element("circle", title, cx=mark.x, cy=mark.y, r=3.5)  # the run is not finished yet
    shape = element("path", title, d=_shape(mark, series.look)) if mark.last else small
    label = element(
        "text", series.label, x=series.text_x, y=series.text_y, text_anchor=series.anchor, class_="label"
    )
    return element("g", shape, label, class_=f"look{series.look}")


def _shape(mark: Mark, look: int) -> str:
    """A circle, square, diamond or triangle around a point as an SVG path."""
    x, y = mark.x, mark.y
    return (
        f"M{x - 7},{y} a7,7 0 1,0 14,0 a7,7 0 1,0 -14,0 Z",
        f"M{x - 6.5},{y - 6.5} h13 v13 h-13 Z",
        f"M{x},{y - 9} L{x + 9},{y} L{x},{y + 9} L{x - 9},{y} Z",
        f"M{x},{y - 8.5} L{x + 8.5},{y + 6.5} L{x - 8.5},{y + 6.5} Z",
    )[look % 4]


# ---- the pictures ---------------------------------------------------------------------------------------------------


def pictures(status: Status, *, copies: BrowserCopies) -> Html:
    """Return the first seed of every prompt with a row per run; an empty string before the first measurement."""
    found = status["pictures"]
    if not found["rows"]:
        return Html("")
    heads = [filled(head, subject=f"⟨{status['words']['class_noun']}⟩") for head in found["heads"]]
    names = [row["label"] for row in found["rows"]]
    alts = [[f"{name}, {head}" for head in heads] for name in names]
    drawn = cards.grid(
        [row["files"] for row in found["rows"]], names=names, heads=heads, alts=alts, copies=copies
    )
    return element(
        "div", element("h3", "Pictures (each column starts from the same noise)"), drawn, class_="pictures"
    )
