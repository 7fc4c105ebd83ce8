"""Filters and orders of the runs in the Library and in Compare."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import gradio as gr

from pipelines.runs.status import Card
from ui.run import cards

ORDERS = (
    ("Newest first", "newest"),
    ("Oldest first", "oldest"),
    ("Name", "name"),
    ("Method", "method"),
    ("Base model", "base"),
    ("Largest first", "largest"),
)
KEYS: dict[str, Callable[[Card], Any]] = {
    # shipped examples stay in their own order, after the user's own runs
    "newest": lambda row: (row.shipped, 0.0 if row.shipped else -row.created),
    "oldest": lambda row: (row.shipped, 0.0 if row.shipped else row.created),
    "name": lambda row: row.name.casefold(),
    "method": lambda row: (method_of(row).casefold(), -row.created),
    "base": lambda row: (base_of(row).casefold(), -row.created),
    "largest": lambda row: -row.bytes,
}
ALL = ""


def method_of(row: Card) -> str:
    """Return a run's method as the page calls it."""
    return cards.method_of(row.method, row.source)


def base_of(row: Card) -> str:
    """Return the name of a run's base model."""
    return row.base_name or row.base


def chosen(rows: Iterable[Card], *, method: str | None, base: str | None, order: str | None) -> list[Card]:
    """Return the runs of one method and one base ("" or None: of all), in an order of ``ORDERS``."""
    found = [
        row for row in rows if method in (ALL, None, method_of(row)) and base in (ALL, None, base_of(row))
    ]
    return sorted(found, key=KEYS[order or "newest"])


def methods(rows: Sequence[Card]) -> list[tuple[str, str]]:
    """Return the methods of some runs as choices, with how many runs each has."""
    return _choices("All methods", [method_of(row) for row in rows])


def bases(rows: Sequence[Card]) -> list[tuple[str, str]]:
    """Return the bases of some runs as choices, with how many runs each has."""
    return _choices("All base models", [base_of(row) for row in rows])


def _choices(whole: str, names: Sequence[str]) -> list[tuple[str, str]]:
    return [
        (whole, ALL),
        *((f"{name} ({count})", name) for name, count in sorted(Counter(names).items()) if name),
    ]


def lay_out(rows: Sequence[Card], *, prefix: str) -> dict[str, Any]:
    """Create the three dropdowns in the current Blocks context: ``<prefix>method``, ``<prefix>base``, ``<prefix>order``."""
    small: dict[str, Any] = {"min_width": 150}
    return {
        f"{prefix}method": gr.Dropdown(methods(rows), value=ALL, label="Method", **small),
        f"{prefix}base": gr.Dropdown(bases(rows), value=ALL, label="Base model", **small),
        f"{prefix}order": gr.Dropdown(list(ORDERS), value=ORDERS[0][1], label="Sort by", **small),
    }


def offered(rows: Sequence[Card], *, prefix: str, method: str | None, base: str | None) -> dict[str, Any]:
    """Return updates of the choices; a choice without runs is given up."""
    values = {}
    for name, choices, value in (("method", methods(rows), method), ("base", bases(rows), base)):
        known = value in [each for _, each in choices]
        values[f"{prefix}{name}"] = gr.update(choices=choices, value=value if known else ALL)
    return values
