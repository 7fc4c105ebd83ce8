"""Charts of spectral shifts: their size per layer, a layer's spectrum before and after, the similarity of runs."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from pipelines.adapters.spectral import Spectral
from pipelines.adapters.spectral_arithmetic import correlation
from pipelines.methods.core import View

BINS = 12
ENDING = ".delta"
PLACES = {
    **{f"unet.down_blocks.{index}.": f"In{index}" for index in range(4)},
    "unet.mid_block.": "Mid",
    **{f"unet.up_blocks.{index}.": f"Out{index}" for index in range(4)},
    "text_encoder.": "Text encoder",
    "unet.": "Ends and time",  # conv_in, conv_out, time_embedding
}
PARTS = {
    ".attn1.": "self-attention",
    ".attn2.": "cross-attention",
    ".self_attn.": "attention",
    ".ff.": "feed-forward",
    ".mlp.": "feed-forward",
    ".proj_": "projections",
    ".embeddings.": "embeddings",
}


def group_of(key: str) -> str:
    """Return the layer group of "unet.<module>", such as "Mid, cross-attention"."""
    place = next(label for start, label in PLACES.items() if key.startswith(start))
    part = next((label for mark, label in PARTS.items() if mark in key), "convolutions")
    return place if place == "Ends and time" else f"{place}, {part}"


def is_norm(key: str) -> bool:
    """Return whether "unet.<module>" is a norm layer, whose shifts are not ordered."""
    return "norm" in key.rpartition(".")[2]


def matrices(names: Sequence[str]) -> list[str]:
    """Return "unet.<module>" of each weight matrix among the names of a state dict."""
    return [key for key in (name.removesuffix(ENDING) for name in names) if not is_norm(key)]


def heat_map(state: Mapping[str, Tensor]) -> View:
    """Return SVDiff's heat map of the mean |δ|, with the layers averaged by group.

    Rows are layer groups; columns are ``BINS`` equal ranges of the index of the singular value, the largest first.
    """
    found: dict[str, list[Tensor]] = {}
    for key in matrices(list(state)):
        found.setdefault(group_of(key), []).append(_binned(state[f"{key}{ENDING}"].abs()))
    rows = _in_order(found)
    return _heat(
        {group: torch.stack(found[group]).nanmean(dim=0) for group in rows},
        title="Which singular values moved",
        told="Mean size of the shifts, |δ|, of the layers of a kind",
    )


def _in_order(groups: Iterable[str]) -> list[str]:
    """Return layer groups in the order of the model: "In0", "In0, norms", ..., from input to output."""
    order = {label: place for place, label in enumerate(dict.fromkeys(PLACES.values()))}
    return sorted(groups, key=lambda group: (order[group.partition(",")[0]], group))


def by_layer(state: Mapping[str, Tensor]) -> View:
    """Return the paper's heat map, with one row per layer; see :func:`heat_map`."""
    return _heat(
        {key: _binned(state[f"{key}{ENDING}"].abs()) for key in matrices(list(state))},
        title="Layer by layer",
        told="Size of the shifts, |δ|, of each layer",
    )


def _heat(rows: Mapping[str, Tensor], *, title: str, told: str) -> View:
    return View(
        title=title,
        kind="heat",
        help=f"{told}; the largest of the singular values that move are on the left.",
        rows=list(rows),
        columns=[f"{100 * bin // BINS} %" for bin in range(BINS)],
        cells=[[None if value != value else value for value in row.tolist()] for row in rows.values()],
    )


def _binned(values: Tensor) -> Tensor:
    """Return the means over ``BINS`` equal ranges of the index; NaN for empty bins of a short spectrum."""
    shares = (torch.arange(len(values)) * BINS) // len(values)
    sums = torch.zeros(BINS).index_add_(0, shares, values.float())
    counts = torch.zeros(BINS).index_add_(0, shares, torch.ones(len(values)))
    return torch.where(counts > 0, sums / counts.clamp(min=1), torch.nan)


def by_group(state: Mapping[str, Tensor]) -> View:
    """Return the root mean square shift of each part of the model, separately for matrices and norms."""
    squares: dict[str, list[Tensor]] = {}
    for name, delta in state.items():
        key = name.removesuffix(ENDING)
        place = group_of(key).partition(",")[0]
        squares.setdefault(f"{place}, norms" if is_norm(key) else place, []).append(delta.float().square())
    return View(
        title="How far they moved",
        kind="bars",
        help="Root mean square of the shifts in each part of the model, of its matrices and of its norms.",
        values={label: float(torch.cat(squares[label]).mean().sqrt()) for label in _in_order(squares)},
    )


def spectrum(adapter: Spectral, layer: str, *, scale: float = 1.0) -> View:
    """Return σ and ReLU(σ + sδ) of one layer, "unet.<module>". ValueError if it has no trained singular values."""
    shift = adapter.shifts.get(layer)
    if shift is None or shift.factors is None:
        raise ValueError(f"{layer!r} has no trained singular values; choose another layer.")
    before = shift.factors.values.detach().cpu()
    after = before + shift.change_of_values(scale).cpu()
    return View(
        title=f"Spectrum of {layer}",
        kind="curves",
        help=f"Singular values of the base, and with the shifts at strength {scale:g}.",
        lines={"before": before.tolist(), "after": after.tolist()},
        axis="singular value",
    )


def likeness(
    names: Sequence[str], states: Sequence[Mapping[str, Tensor]], subjects: Sequence[Sequence[int]] = ()
) -> View:
    """Return the paper's correlation matrix: the cosine similarity between the δ of two runs, averaged over the layers.

    ``subjects`` groups the indices of runs by subject: a row is then a subject, and its diagonal cell is the mean
    similarity between its different runs.
    """
    alike, groups = (
        correlation([dict(state) for state in states]),
        subjects or [[i] for i in range(len(names))],
    )
    rows = [" / ".join(names[place] for place in group) for group in groups]
    own = (
        "on the diagonal between two runs of one subject at different learning rates, or 1"
        if subjects
        else "1 on the diagonal"
    )
    return View(
        title="How alike the runs are",
        kind="heat",
        help=f"Cosine between the shifts of two runs, averaged over their layers; {own}.",
        rows=rows,
        columns=rows,
        cells=[[_between(alike, one, other) for other in groups] for one in groups],
        most=1.0,
    )


def _between(alike: Tensor, one: Sequence[int], other: Sequence[int]) -> float:
    """Return the mean over all pairs of different runs; 1 if there are none."""
    found = [float(alike[i, j]) for i in one for j in other if i != j]
    return sum(found) / len(found) if found else 1.0
