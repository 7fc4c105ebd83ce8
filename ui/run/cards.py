"""HTML components of the Library and Compare tabs; each function returns escaped HTML."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.runs.names import method_title
from pipelines.runs.status import Card
from pipelines.sampling.grid import STACK
from ui.html import BrowserCopies, Html, element
from ui.run.measures import measure
from ui.run.panels import duration, size_of
from ui.run.state import WORDS

BASE_FORMATS = (
    ("A diffusers folder (zip)", "diffusers"),
    ("One checkpoint (.safetensors), for A1111 and ComfyUI", "checkpoint"),
)
MIXES = (
    ("Add", "add"),
    ("Interpolate", "interpolate"),
    ("Geometry of this run, style of the other", "style"),
    ("Keep fewer singular values", "truncate"),
)
Row = Mapping[str, Any]


def count_of(count: int | None) -> str:
    """Return a parameter count in readable form: "797 k"."""
    if count is None:
        return "–"
    if count < 10_000:
        return str(count)
    return f"{count / 1000:.0f} k" if count < 1_000_000 else f"{count / 1e6:.1f} M"


def day_of(moment: float) -> str:
    """Return the date of a unix time: "3 Nov 2026"."""
    local = time.localtime(moment)
    return f"{local.tm_mday} {time.strftime('%b %Y', local)}"


def method_of(method: str, source: str = "") -> str:
    """Return the display name of the method of a run, or of a row of a comparison."""
    return "Stack" if method == STACK else method_title(method, source)


def run_cards(rows: Sequence[Card], *, chosen: str, copies: BrowserCopies, filtered: bool = False) -> Html:
    """Return the runs as cards with the ``chosen`` one highlighted; ``filtered``: there may be others."""
    if not rows:
        text = (
            "No run matches; change the search or the filters."
            if filtered
            else "No runs yet; personalize a subject first."
        )
        return element("p", text, class_="library-empty", role="status")
    return element(
        "div",
        *[_card(row, chosen=row.id == chosen, copies=copies) for row in rows],
        class_="library-cards",
    )


def _card(row: Card, *, chosen: bool, copies: BrowserCopies) -> Html:
    state = "example" if row.shipped else WORDS.get(row.state, row.state)
    return element(
        "button",
        element(
            "span",
            picture(row, copies=copies, side_px=256),
            element("span", method_of(row.method, row.source), class_="badge"),
            class_="library-picture",
        ),
        element(
            "span",
            element("strong", row.name),
            element(
                "span",
                element("span", class_=f"dot {row.state}", aria_hidden="true"),
                state,
                class_="library-state",
            ),
            *([element("span", row.origin, class_="origin")] if row.origin else []),
            element("span", row.base_name or row.base),
            element("span", row.broken or f"{size_of(row.bytes)} · {day_of(row.created)}"),
            *([element("code", row.trigger)] if row.trigger else []),
            class_="library-facts",
        ),
        type="button",
        class_="library-card chosen" if chosen else "library-card",
        data_act="choose",
        data_value=row.id,
        aria_pressed="true" if chosen else "false",
    )


def picture(row: Card, *, copies: BrowserCopies, side_px: int) -> Html:
    """Return the best sample of a run, or the first letter of its name."""
    if row.thumbnail and Path(row.thumbnail).is_file():
        address = copies.enlarged(Path(row.thumbnail), side_px=side_px)
        return element("img", src=address, alt=f"A picture made with {row.name}", loading="lazy")
    return element("span", row.name[:1].upper() or "?", class_="letter", aria_hidden="true")


def facts(row: Card, *, copies: BrowserCopies) -> Html:
    """Return the details of one run: its picture and a list of facts."""
    items = [
        ("State", "Shipped example" if row.shipped else WORDS.get(row.state, row.state)),
        ("Trigger word", row.trigger or "–"),
        ("Method", method_of(row.method, row.source)),
        *([("Made from", row.origin)] if row.origin else []),
        ("Base", row.base_name or row.base),
        ("Trained", f"{count_of(row.trainable)} parameters" if row.trainable else "–"),
        ("On disk", size_of(row.bytes)),
        ("Training time", duration(row.seconds) if row.seconds else "–"),
        ("Created", day_of(row.created) if row.created else "–"),
        *([("Problem", row.broken)] if row.broken else []),
    ]
    terms = [element("div", element("dt", name), element("dd", value)) for name, value in items]
    return element(
        "div", element("div", picture(row, copies=copies, side_px=512), class_="facts-picture"),
        element("dl", *terms), class_="facts",
    )  # fmt: skip


def header_of(header: Row, *, name: str) -> Html:
    """Return the header of a LoRA file as HTML; ``header`` is the result of ``Studio.import_export.inspect_lora``."""
    rows = [
        ("Format", header["format"]),
        ("Keys", header["keys"]),
        *([("Rank", header["rank"])] if header["rank"] else []),
        ("Base", header.get("base") or "unknown"),
        ("Parameters", count_of(header.get("parameters"))),
        ("Trigger word", header.get("trigger") or "none"),
    ]
    terms = [element("div", element("dt", label), element("dd", str(value))) for label, value in rows]
    entries = [
        element("li", element("code", key), " ", str(value)[:120])
        for key, value in header["metadata"].items()
    ]
    listed = [
        element("details", element("summary", f"{len(entries)} metadata entries"), element("ul", *entries))
    ] if entries else []  # fmt: skip
    trouble = [element("p", header["problem"], class_="trouble")] if header.get("problem") else []
    return element(
        "div", element("h3", name), element("dl", *terms), *listed, *trouble, class_="facts header-of"
    )


def confirm(row: Card) -> Html:
    """Return the confirmation question for deleting a run."""
    return element(
        "p",
        f"Delete “{row.name}” with its photographs, pictures and adapter? This frees {size_of(row.bytes)} and cannot be undone.",
        class_="trouble",
        role="alert",
    )


# Compare


def grid(
    cells: Sequence[Sequence[Path]],
    *,
    names: Sequence[str],
    heads: Sequence[str],
    alts: Sequence[Sequence[str]],
    copies: BrowserCopies,
) -> Html:
    """Return pictures as a table with a row per run and a column per prompt, seed or strength."""
    top = element("tr", element("td"), *[element("th", head, scope="col") for head in heads])
    rows = [
        element(
            "tr",
            element("th", name, scope="row"),
            *[_pictured(path, alt=alt, copies=copies) for path, alt in zip(line, texts, strict=True)],
        )
        for name, line, texts in zip(names, cells, alts, strict=True)
    ]
    table = element("table", element("thead", top), element("tbody", *rows))
    return element("div", table, class_="grid-scroll", tabindex=0, role="region", aria_label="Comparison")


def _pictured(path: Path, *, alt: str, copies: BrowserCopies) -> Html:
    image = element("img", src=copies.enlarged(path, side_px=384), alt=alt, title=alt)
    return element("td", element("a", image, href=copies.url(path), target="_blank"))


def metrics(rows: Sequence[Row]) -> Html:
    """Return the table of a comparison: the cost of each run and its metrics with confidence intervals."""
    names = list(dict.fromkeys(name for row in rows for name in row["metrics"]))
    heads = [*map(Html, ("Run", "Method")), *map(measure, ("trainable", "bytes", "seconds", *names))]
    lines = [
        element(
            "tr",
            element("th", row["name"], scope="row"),
            element("td", method_of(row["method"]) if row.get("method") else "–"),
            element("td", count_of(row.get("trainable") or None)),
            element("td", size_of(row.get("bytes") or None)),
            element("td", duration(row["seconds"]) if row.get("seconds") else "–"),
            *[element("td", *_interval(row["metrics"].get(name))) for name in names],
        )
        for row in rows
    ]
    head = element("tr", *[element("th", word, scope="col") for word in heads])
    table = element("table", element("thead", head), element("tbody", *lines))
    return element("div", element("div", table, class_="grid-scroll"), class_="table")


def _interval(measured: Mapping[str, float] | None) -> list[str]:
    if not measured or measured.get("value") is None:
        return ["–"]
    low, high = measured.get("low"), measured.get("high")
    value = element("strong", f"{measured['value']:.2f}")
    return [value] if low is None or high is None else [value, element("small", f" {low:.2f} to {high:.2f}")]
