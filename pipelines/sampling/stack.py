"""Stacks: several adapters applied together, such as a character and a style, each with its own strength.

This module does not import torch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.config import real_number
from pipelines.runs.store import Run
from pipelines.sampling.image_metadata import Layer, checked_step, whole_list

MOST_LAYERS = 4
MAX_STRENGTH = 2.0


def asked_stack(
    entries: Sequence[Mapping[str, Any]] | None, *, run_id: str | None = None, strength: Any = 1.0
) -> list[Layer]:
    """Validate a client's stack and return its layers: from ``entries``, or one run at ``strength``, or none.

    An entry is {"run": id, "strength": 0 to 2, "blocks": a list of 9, 17, 25 or 26 block weights or "", "step": the
    step of a snapshot of the run, None for its finished adapter}. Raises ValueError for invalid entries.
    """
    if entries is None:
        checked = checked_strength(strength)
        return [Layer(run=run_id, name="", strength=checked)] if run_id else []
    if not isinstance(entries, (list, tuple)) or not all(isinstance(entry, Mapping) for entry in entries):
        raise ValueError('A stack is a list of tables such as {"run": id, "strength": 1}; correct it.')
    if len(entries) > MOST_LAYERS:
        raise ValueError(f"{len(entries)} runs are too many for one picture; stack at most {MOST_LAYERS}.")
    known = {"run", "strength", "blocks", "step"}
    unknown = sorted({str(key) for entry in entries for key in entry} - known)
    if unknown or not all(isinstance(entry.get("run"), str) for entry in entries):
        what = f"has {unknown[0]!r}" if unknown else "names no run"
        raise ValueError(f"An entry of the stack {what}; an entry has run, strength, blocks and step.")
    layers = [
        Layer(
            run=entry["run"],
            name="",
            strength=checked_strength(entry.get("strength", 1.0)),
            step=checked_step(entry.get("step")),
            blocks=whole_list(str(entry.get("blocks") or "")),
        )
        for entry in entries
    ]
    if len({layer.run for layer in layers}) < len(layers):
        raise ValueError("The same run is in the stack twice; give it one strength.")
    return layers


def checked_strength(value: Any) -> float:
    """Return a strength as a float. Raises ValueError if it is not a number between 0 and 2."""
    strength = real_number(value, label="Strength")
    if not 0.0 <= strength <= MAX_STRENGTH:
        raise ValueError(f"Strength is {strength:g}; it must lie between 0 and {MAX_STRENGTH:g}.")
    return strength


def common_base(runs: Sequence[Run]) -> str | None:
    """Return the spec of the common base of all runs, None for no runs. Raises ValueError for different bases."""
    if not runs:
        return None
    first = runs[0]
    for run in runs[1:]:
        same = first.base.get("hash") and first.base.get("hash") == run.base.get("hash")
        if not same and first.base["spec"] != run.base["spec"]:
            raise ValueError(
                f"{first.name!r} and {run.name!r} were made on different bases and cannot be used together; "
                "choose runs of one base."
            )
    return str(runs[0].base["spec"])
