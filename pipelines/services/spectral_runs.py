"""Load, compare and combine finished runs with spectral shifts.

Headers are read without torch; the other functions import torch when called.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pipelines.config import SPECTRAL, clean_text
from pipelines.data.subject import stored_photos
from pipelines.formats.core import Models
from pipelines.formats.svdiff import ENDING
from pipelines.models.inspection import read_header
from pipelines.runs.library import kind_of
from pipelines.runs.origin import combined_words
from pipelines.runs.store import MIXED, Run, RunStore

if TYPE_CHECKING:
    from torch import Tensor

    from pipelines.adapters.spectral import Spectral
    from pipelines.methods.core import View
    from pipelines.models.base import Base

MIXES = {
    "add": (2, 8),
    "interpolate": (2, 2),
    "style": (2, 2),
    "truncate": (1, 1),
}  # operation -> minimum and maximum number of runs


def shifts_of(run: Run, models: Models) -> tuple[Spectral, Base]:
    """Return a run's spectral shifts and its base. Raises ValueError if the run has another kind of adapter."""
    from pipelines.adapters.spectral import Spectral

    loaded = models.base(run.base["spec"])
    adapter = models.adapter(run.file("adapter.safetensors"), loaded)
    if not isinstance(adapter, Spectral):
        raise ValueError(f"The run {run.name!r} holds no spectral shifts; export it as a LoRA.")
    return adapter, loaded


def shifted_layers(run: Run) -> list[str]:
    """Return the layers with trained singular values in a run's adapter; [] if it has no spectral shifts."""
    if kind_of(run) != SPECTRAL:
        return []
    from pipelines.methods.spectral_views import matrices

    return matrices([name for name in read_header(run.file("adapter.safetensors")) if name != "__metadata__"])


def correlation_of(runs: Sequence[Run]) -> View:
    """Return the similarity chart of the shifts of several runs. ValueError unless two or more runs share one base."""
    from pipelines.adapters.core import read_tensors
    from pipelines.methods.spectral_views import likeness

    for run in runs:
        if kind_of(run) != SPECTRAL:
            raise ValueError(f"The run {run.name!r} holds no spectral shifts; choose runs of SVDiff.")
    if len(runs) < 2:
        raise ValueError("A single run cannot be compared; choose at least two SVDiff runs.")
    told = [read_tensors(run.file("adapter.safetensors")) for run in runs]
    if len({header["base_hash"] for _, header in told}) > 1:
        raise ValueError("These runs are of different bases, whose singular values differ; choose one base.")
    return likeness([run.name for run in runs], [state for state, _ in told], _subjects(runs))


def _subjects(runs: Sequence[Run]) -> list[list[int]]:
    """Return the indices of the runs grouped by subject, if the runs of each subject differ in the learning rate.

    Runs with the same photographs have the same subject. Returns [] if there is nothing to group.
    """
    found: dict[object, list[int]] = {}
    for place, run in enumerate(runs):
        photos = stored_photos(run.path)
        seen = tuple(hashlib.sha256(photo.read_bytes()).hexdigest() for photo in photos)
        found.setdefault(seen or place, []).append(place)
    groups = list(found.values())
    rates = [[runs[place].config.get("learning_rate") for place in group] for group in groups]
    apart = all(len(set(group)) == len(group) for group in rates)
    return groups if apart and 1 < len(groups) < len(runs) else []


def combine(
    runs: Sequence[Run], *, how: str, share: float, rank: int, name: str, models: Models, store: RunStore
) -> str:
    """Create a finished run by combining the shifts of other runs; return its id.

    ``how``: "add" sums two or more; "interpolate" mixes two, with weight ``share`` for the first; "style" takes the
    geometry of the first and the appearance of the second; "truncate" keeps the first ``rank`` singular values of one
    run. Raises ValueError if the runs cannot be combined.
    """
    check_mix(runs, how=how, share=share, rank=rank)
    found = [shifts_of(run, models) for run in runs]
    if len({loaded.hash for _, loaded in found}) > 1:
        raise ValueError("These runs are of different bases, whose singular values differ; choose one base.")
    base, adapters = found[0][1], [adapter for adapter, _ in found]
    with models.aside(base):
        mixed = _holding(_mixed(adapters, how=how, share=share, rank=rank), adapters, base)
    words = [
        str(run.config.get("identifier", "")) + " " + str(run.config.get("class_noun", "")) for run in runs
    ]
    config = {
        "identifier": clean_text(" and ".join(word.strip() for word in words if word.strip())),
        "class_noun": "",
        "source": MIXED,
        "file": clean_text(f"{how}: {', '.join(run.name for run in runs)}"),
        "origin": combined_words(runs, how=how, share=share, rank=rank),
    }
    title = clean_text(name) or f"{' + '.join(run.name for run in runs)} ({how})"
    return store.keep_adapter(mixed, base, config=config, name=title)


def check_mix(runs: Sequence[Run], *, how: str, share: float, rank: int) -> None:
    """Raise ValueError for an unknown operation, a wrong number of runs, or an invalid ``share`` or ``rank``."""
    if how not in MIXES:
        raise ValueError(f"Shifts are combined by {', '.join(MIXES)}, not by {str(how)[:40]!r}; choose one.")
    fewest, most = MIXES[how]
    if not fewest <= len(runs) <= most:
        raise ValueError(
            f"To {how} takes {fewest if fewest == most else f'{fewest} to {most}'} runs, not {len(runs)}."
        )
    if how == "interpolate" and not 0.0 <= share <= 1.0:
        raise ValueError(f"The share of the first run is {share:g}; it must lie between 0 and 1.")
    if how == "truncate" and rank < 1:
        raise ValueError(f"The rank to keep is {rank}; it must be at least 1.")


def _mixed(adapters: Sequence[Spectral], *, how: str, share: float, rank: int) -> dict[str, Tensor]:
    from pipelines.adapters import spectral_arithmetic as mixing

    states = [adapter.state_dict() for adapter in adapters]
    if how == "add":
        return mixing.added([(state, 1.0) for state in states])
    if how == "interpolate":
        return mixing.interpolated(states[0], states[1], share)
    if how == "style":
        return mixing.style_mixed(states[0], states[1])
    norms = [f"{key}{ENDING}" for key, shift in adapters[0].shifts.items() if shift.factors is None]
    return mixing.truncated(states[0], rank, norms=norms)


def _holding(state: Mapping[str, Tensor], adapters: Sequence[Spectral], base: Base) -> Spectral:
    """Return an adapter with the given state dict, for the adapters' common subset or else the whole UNet."""
    from torch.nn.functional import pad

    from pipelines.adapters.core import injected
    from pipelines.adapters.spectral import Spectral

    subsets = {adapter.subset for adapter in adapters}
    whole = Spectral(
        subset=subsets.pop() if len(subsets) == 1 else "UNet",
        text_encoder=any(adapter.text_encoder for adapter in adapters),
    )
    with injected(whole, base):
        own = whole.state_dict()
        given = {name: pad(delta, (0, len(own[name]) - len(delta))) for name, delta in state.items()}
        whole.load_state_dict({**own, **given})
    return whole
