"""The building blocks of an experiment's results: columns, cells, a chart, and formatted numbers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from pipelines.evaluation.measures import MEASURES

Row = Mapping[
    str, Any
]  # of ``Experiments.status``: key, label, state, message, scores, facts, points, pictures
DONE = "done"


@dataclass(frozen=True)
class Column:
    """One column of a table. ``unit`` "count", "bytes", "seconds" or "score"; ``better`` "high", "low" or ""."""

    key: str
    label: str
    unit: str
    better: str = ""
    help: str = ""

    @classmethod
    def of(cls, key: str, unit: str, *, better: bool = True) -> Self:
        """Return the column of a measure; ``better`` False if its best value is not worth marking."""
        told = MEASURES[key]
        return cls(key, told.short, unit, told.better if better else "", told.help)

    def as_json(self) -> dict[str, str]:
        """Return the column as JSON-ready values."""
        return {
            "key": self.key,
            "label": self.label,
            "unit": self.unit,
            "better": self.better,
            "help": self.help,
        }


def table(title: str, columns: Sequence[Column], rows: Sequence[Row], *, told: str = "") -> dict[str, Any]:
    """Return one table as JSON-ready values: a cell is {"value", "low", "high"}, with None for missing bounds."""
    return {
        "title": title,
        "told": told,
        "columns": [column.as_json() for column in columns],
        "rows": [
            {name: row[name] for name in ("key", "label", "state", "message")}
            | {"cells": {column.key: cell(row, column.key) for column in columns}}
            for row in rows
        ],
    }


def cell(row: Row, key: str) -> dict[str, float | None] | None:
    """Return the cell of a row for a score or fact; None if it has none."""
    found = row["scores"].get(key, row["facts"].get(key))
    if found is None:
        return None
    return dict(found) if isinstance(found, Mapping) else {"value": found, "low": None, "high": None}


def number(row: Row, key: str) -> float | None:
    """Return the value of a cell."""
    found = cell(row, key)
    return None if found is None else found["value"]


def chart(x: Column, y: Column, rows: Sequence[Row], *, title: str) -> dict[str, Any]:
    """Return a scatter plot as JSON-ready values: one series per row, with its points in order of steps.

    The last point of a series is the final adapter.
    """
    series = []
    for row in rows:
        points = [point for point in row["points"] if x.key in point["scores"] and y.key in point["scores"]]
        found = [
            {
                "step": point["step"],
                "last": point["last"],
                "x": point["scores"][x.key],
                "y": point["scores"][y.key],
            }
            for point in points
        ]
        if found:
            series.append({"key": row["key"], "label": row["label"], "points": found})
    axes = {name: f"{column.label}: {MEASURES[column.key].axis}" for name, column in (("x", x), ("y", y))}
    return {"title": title, **axes, "series": series}


def measured(rows: Sequence[Row]) -> list[Row]:
    """Return the measured rows."""
    return [row for row in rows if row["state"] == DONE]


def best(rows: Sequence[Row], of: Callable[[Row], float | None], *, lowest: bool = False) -> Row | None:
    """Return the row with the largest (or lowest) number; None if no row has that number."""
    known = [(value, row) for row in rows if (value := of(row)) is not None]
    if not known:
        return None
    return (min if lowest else max)(known, key=lambda entry: entry[0])[1]


def rivals(row: Row, rows: Sequence[Row], key: str) -> list[str]:
    """Return the labels of other rows whose confidence interval overlaps this row's."""
    mine = cell(row, key)
    found = []
    for other in rows:
        theirs = cell(other, key)
        if other is row or mine is None or theirs is None or None in (*mine.values(), *theirs.values()):
            continue
        if theirs["high"] >= mine["low"] and mine["high"] >= theirs["low"]:  # type: ignore[operator]  # never None here
            found.append(str(other["label"]))
    return found


def listed(words: Sequence[str]) -> str:
    """Return "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def size_words(count: float) -> str:
    """Return a number of bytes in readable form: "3.2 MB"."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
