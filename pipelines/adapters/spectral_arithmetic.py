"""Arithmetic on spectral shifts: add, interpolate, mix layer by layer, truncate, compare.

This is possible because all runs on one base model share the same U and V (SVDiff, 2303.11305, sec. 3.3). States are
those of :class:`~pipelines.adapters.spectral.Spectral`: {"unet.<module>.delta": δ}.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from pipelines.unet_blocks import GEOMETRY_LAYERS

State = Mapping[str, Tensor]


def _fitting(first: Tensor | None, second: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return two shifts of one weight at equal length; missing or truncated values become zeros."""
    size = max(len(part) for part in (first, second) if part is not None)
    filled = [
        torch.zeros(size) if part is None else torch.nn.functional.pad(part, (0, size - len(part)))
        for part in (first, second)
    ]
    return filled[0], filled[1]


def added(states: Iterable[tuple[State, float]]) -> dict[str, Tensor]:
    """Return Σ s_i δ_i, the paper's commutative addition, for use as ReLU(σ + Σ s_i δ_i)."""
    total: dict[str, Tensor] = {}
    for state, scale in states:
        for name, delta in state.items():
            before, more = _fitting(total.get(name), delta)
            total[name] = before + scale * more
    return total


def interpolated(first: State, second: State, share: float) -> dict[str, Tensor]:
    """Return a δ_1 + (1 − a) δ_2 with a = ``share``; exactly δ_1 at 1 and exactly δ_2 at 0."""
    if share in (0.0, 1.0):
        return {name: delta.clone() for name, delta in (first if share else second).items()}
    return added([(first, share), (second, 1.0 - share)])


def style_mixed(geometry: State, appearance: State) -> dict[str, Tensor]:
    """Combine the shifts of ``GEOMETRY_LAYERS`` from one run with those of all other layers from another."""
    return {
        **{name: delta.clone() for name, delta in appearance.items() if not name.startswith(GEOMETRY_LAYERS)},
        **{name: delta.clone() for name, delta in geometry.items() if name.startswith(GEOMETRY_LAYERS)},
    }


def truncated(state: State, rank: int, *, norms: Iterable[str] = ()) -> dict[str, Tensor]:
    """Set all but the first ``rank`` shifts of every matrix to zero; weights named in ``norms`` are kept in full."""
    whole = set(norms)
    cut = {}
    for name, delta in state.items():
        kept = delta.clone()
        if name not in whole:
            kept[rank:] = 0.0
        cut[name] = kept
    return cut


def correlation(states: list[State]) -> Tensor:
    """Return the paper's correlation matrix (R, R): the mean over layers of the cosine between two runs' δ.

    It is symmetric with 1 on the diagonal. Layers that either run did not change are skipped.
    """
    found = torch.eye(len(states))
    for i, first in enumerate(states):
        for j in range(i):
            cosines = []
            for name in first.keys() & states[j].keys():
                one, other = _fitting(first[name], states[j][name])
                if one.any() and other.any():
                    cosines.append(torch.nn.functional.cosine_similarity(one, other, dim=0))
            found[i, j] = found[j, i] = torch.stack(cosines).mean() if cosines else 0.0
    return found
