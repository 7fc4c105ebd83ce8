"""The names under which runs are told apart, wherever one is chosen or shown. Does not import torch."""

import time
from collections import Counter
from collections.abc import Callable, Sequence

from pipelines.methods.specs import METHODS
from pipelines.runs.status import Card
from pipelines.runs.store import IMPORTED, MIXED


def method_title(method: str, source: str = "") -> str:
    """Return the display name of a run's method; ``source`` is the origin of its adapter."""
    if source == MIXED:
        return "Combined"
    if method == IMPORTED:
        return "From a file"
    return METHODS[method].title if method in METHODS else method


def run_names(runs: Sequence[Card], *, mark_examples: bool = False) -> dict[str, str]:
    """Return a different name for every run, by its id.

    A run has its own name alone where that is unique. Otherwise "example", its method, its preset and its time follow,
    as far as they tell the runs of the same name apart. With ``mark_examples`` every shipped run is called an example.
    """
    names = {run.id: run.name for run in runs}
    if mark_examples:
        names |= {run.id: f"{run.name} · example" for run in runs if run.shipped}
    for part in (_origin, _method, _preset):
        names = _longer(names, runs, part)
    minutes = _longer(names, runs, lambda run: moment(run.created))
    alike = {names[run.id] for run in runs if [*minutes.values()].count(minutes[run.id]) > 1}
    names = _longer(names, runs, lambda run: moment(run.created, seconds=names[run.id] in alike))
    return _numbered(names, runs)


def _longer(names: dict[str, str], runs: Sequence[Card], part: Callable[[Card], str]) -> dict[str, str]:
    """Append ``part`` to names that several runs have, if it differs among them."""
    told: dict[str, set[str]] = {}
    for run in runs:
        told.setdefault(names[run.id], set()).add(part(run))
    return {
        run.id: f"{names[run.id]} · {part(run)}"
        if part(run) and len(told[names[run.id]]) > 1
        else names[run.id]
        for run in runs
    }


def _numbered(names: dict[str, str], runs: Sequence[Card]) -> dict[str, str]:
    often, seen, numbered = Counter(names.values()), Counter[str](), {}
    for run in sorted(runs, key=lambda run: run.created):
        name = names[run.id]
        seen[name] += 1
        numbered[run.id] = f"{name} ({seen[name]})" if often[name] > 1 else name
    return {run.id: numbered[run.id] for run in runs}


def _origin(run: Card) -> str:
    return "example" if run.shipped else ""


def _method(run: Card) -> str:
    return method_title(run.method, run.source)


def _preset(run: Card) -> str:
    return run.preset


def moment(created: float, *, seconds: bool = False) -> str:
    """Return a unix time for a list: "14:02" (or "14:02:31") today, else "3 Nov, 14:02"."""
    local, today = time.localtime(created), time.localtime()
    clock = time.strftime("%H:%M:%S" if seconds else "%H:%M", local)
    if (local.tm_year, local.tm_yday) == (today.tm_year, today.tm_yday):
        return clock
    return f"{local.tm_mday} {time.strftime('%b', local)}, {clock}"
