"""Spectral shifts as vectors: add them, interpolate, mix them layer by layer, truncate, compare.

All of it works because every run on one base shares the same U and V (SVDiff, 2303.11305, sec. 3.3). States are those
of :class:`~pipelines.adapters.spectral.Spectral`: "unet.<module>.delta" to δ.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

GEOMETRY_LAYERS = (  # P+/XTI's (16, down, 1) to (8, down, 0): these give the geometry, all others the appearance
    "unet.down_blocks.2.attentions.1.",
    "unet.mid_block.attentions.0.",
)

State = Mapping[str, Tensor]


def _fitting(first: Tensor | None, second: Tensor | None) -> tuple[Tensor, Tensor]:
    """Two shifts of one weight, an absent one as zeros, a truncated one filled up with zeros."""
    size = max(len(part) for part in (first, second) if part is not None)
    filled = [
        torch.zeros(size) if part is None else torch.nn.functional.pad(part, (0, size - len(part)))
        for part in (first, second)
    ]
    return filled[0], filled[1]


def added(states: Iterable[tuple[State, float]]) -> dict[str, Tensor]:
    """Σ s_i δ_i, to be used as ReLU(σ + Σ s_i δ_i): the paper's addition, commutative."""
    total: dict[str, Tensor] = {}
    for state, scale in states:
        for name, delta in state.items():
            before, more = _fitting(total.get(name), delta)
            total[name] = before + scale * more
    return total


def interpolated(first: State, second: State, share: float) -> dict[str, Tensor]:
    """a δ_1 + (1 − a) δ_2 with a = ``share``; exactly the one or the other at 1 and 0."""
    if share in (0.0, 1.0):
        return {name: delta.clone() for name, delta in (first if share else second).items()}
    return added([(first, share), (second, 1.0 - share)])


def style_mixed(geometry: State, appearance: State) -> dict[str, Tensor]:
    """The shifts of ``GEOMETRY_LAYERS`` from one run, those of all other layers from another."""
    return {
        **{name: delta.clone() for name, delta in appearance.items() if not name.startswith(GEOMETRY_LAYERS)},
        **{name: delta.clone() for name, delta in geometry.items() if name.startswith(GEOMETRY_LAYERS)},
    }


def truncated(state: State, rank: int, *, norms: Iterable[str] = ()) -> dict[str, Tensor]:
    """Only the first ``rank`` shifts of every matrix, the others zero; ``norms`` are names that stay whole."""
    whole = set(norms)
    cut = {}
    for name, delta in state.items():
        kept = delta.clone()
        if name not in whole:
            kept[rank:] = 0.0
        cut[name] = kept
    return cut


def correlation(states: list[State]) -> Tensor:
    """(R, R) mean over layers of the cosine between two runs' δ (the paper's correlation matrix). Symmetric, 1 on the
    diagonal; layers that one of the two did not move are left out."""
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
