"""The rows of a comparison as values of a dropdown: a run by its id, a stack of two runs as JSON."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.sampling.grid import row_name
from pipelines.sampling.stack import asked_stack
from pipelines.unet_blocks import BLOCKS, PARTS


def stacked(
    first: str | None, first_strength: float, second: str | None, second_strength: float, part: str
) -> str:
    """Return two runs as one row; ``part`` is the part of the UNet in which the second is applied.

    Raises ValueError when one is missing.
    """
    if not first or not second:
        raise ValueError("A stack is made of two runs; choose both.")
    weights = "" if part == "all" else ",".join(str(int(name in PARTS[part])) for name in BLOCKS)
    layers = [
        {"run": first, "strength": float(first_strength), "blocks": ""},
        {"run": second, "strength": float(second_strength), "blocks": weights},
    ]
    asked_stack(layers)
    return json.dumps(layers)


def asked(row: str) -> str | list[dict[str, Any]] | None:
    """Return a row for ``Studio.generation.compare``: a run's id, a stack, or None for the base model."""
    return json.loads(row) if row.startswith("[") else row or None


def choices(
    names: Mapping[str, str], rows: Sequence[str], *, of: Mapping[str, str] | None = None
) -> list[tuple[str, str]]:
    """Return the choices: the runs by name, and the stacks among ``rows`` whose runs exist (in ``of``)."""
    known = names if of is None else of
    return [
        *((name, run) for run, name in names.items()),
        *((_called(row, known), row) for row in kept(known, rows) if row.startswith("[")),
    ]


def kept(names: Mapping[str, str], rows: Sequence[str]) -> list[str]:
    """Return the rows whose runs still exist."""
    return [row for row in rows if all(run in names for run in _runs(row))]


def _runs(row: str) -> list[str]:
    return [layer["run"] for layer in json.loads(row)] if row.startswith("[") else [row]


def _called(row: str, names: Mapping[str, str]) -> str:
    return row_name([(names[layer.run], layer) for layer in asked_stack(json.loads(row))])
