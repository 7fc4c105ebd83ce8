"""What the concepts of a sequence changed: the occupancy of the blocks, the overlap of concepts, a map of one layer."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch
from PIL import Image
from torch import Tensor

from pipelines.adapters.core import read_tensors
from pipelines.evaluation.forgetting import ForgettingMatrix
from pipelines.methods.core import View
from pipelines.runs.library import check_finished
from pipelines.runs.sequences import ConceptPictures, Task
from pipelines.runs.store import Run
from pipelines.unet_blocks import BLOCKS, block

OCCUPIED = 0.1  # the share of a layer's entries, its largest changes, that a concept occupies in the map
COLOURS = (
    (214, 96, 77), (67, 147, 195), (90, 174, 97), (244, 165, 60), (153, 112, 171), (79, 190, 190), (200, 130, 90),
    (120, 120, 220), (190, 190, 60), (220, 130, 180),
)  # fmt: skip
SHARED, FREE = (
    (20, 20, 20),
    (243, 240, 234),
)  # of an entry that several concepts occupy, and of one that none does


@dataclass(frozen=True)
class Changes:
    """ΔW (M, N) of each concept by "unet.<module>", float32, and the concepts' words in order."""

    words: list[str]
    deltas: list[dict[str, Tensor]]


@dataclass(frozen=True)
class EntryMap:
    """The entries of one layer's weight (M, N) that each concept moved: a picture, one pixel per entry.

    ``shared`` is the share of entries that two or more concepts occupy, ``chance`` what independent ones would share.
    """

    layer: str
    words: list[str]
    image: Image.Image
    shared: float
    chance: float


def views(run: Run) -> list[View]:
    """Return the charts of the concepts' changes; [] before the adapter is finished."""
    if not run.file("adapter.safetensors").is_file():
        return []
    changes = read_changes(run)
    return [overlap_view(changes), occupancy_view(changes)] if any(changes.deltas) else []


def read_changes(run: Run) -> Changes:
    """Return the changes of all concepts in a run's adapter, computed without the base model."""
    check_finished(run)
    tensors, header = read_tensors(run.file("adapter.safetensors"))
    words = [str(concept["word"]) for concept in json.loads(header["concepts"])]
    deltas: list[dict[str, Tensor]] = []
    for place in range(1, len(words) + 1):
        start, end = f"{place}.", ".lora_B.weight"
        ups = sorted(name for name in tensors if name.startswith(f"{start}unet.") and name.endswith(end))
        deltas.append({name[len(start) : -len(end)]: _product(tensors, name) for name in ups})
    return Changes(words, deltas)


def forgetting_views(tasks: Sequence[Task], rows: Sequence[Sequence[ConceptPictures]]) -> list[View]:
    """Return the forgetting matrix of a sequence: concept j after task t, and how each concept went on; [] unmeasured.

    ``rows`` holds the pictures of the concepts after each task; a row may be empty.
    """
    found = [{cell.word: cell.score for cell in row} for row in rows]
    scores = [[known.get(task.word) for task in tasks] for known in found]
    if not any(value is not None for row in scores for value in row):
        return []
    names = [task.name for task in tasks]
    matrix = ForgettingMatrix(tuple(names), tuple(tuple(row) for row in scores))
    try:
        told = f" Average forgetting: {matrix.average_forgetting:.3f}; lower is better."
    except ValueError:
        told = ""
    heat = View(
        title="Forgetting matrix",
        kind="heat",
        help="Similarity of each concept's pictures (columns) to its photographs after each task (rows); 1 is the most. "
        f"Read a column downwards: a falling number is forgetting.{told if len(tasks) > 1 else ''}",
        rows=[f"after {task.index}: {task.name}" for task in tasks],
        columns=names,
        cells=[[None if value is None else round(value, 3) for value in row] for row in scores],
        most=1.0,
    )
    return [heat]


def overlap(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """Return ‖Δ ∘ Δ'‖² / √(‖Δ ∘ Δ‖² ‖Δ' ∘ Δ'‖²) over all layers: 1 if they move the same entries, 0 if none in common."""
    shared = sum(float((one[key] * other[key]).square().sum()) for key in one.keys() & other.keys())
    norms = prod(
        sum(float(value.square().square().sum()) for value in each.values()) for each in (one, other)
    )
    return shared / norms**0.5 if norms else 0.0


def overlap_view(changes: Changes) -> View:
    """Return the overlap of every pair of concepts."""
    return View(
        title="Overlap of the concepts",
        kind="heat",
        help="How far two concepts moved the same entries of the weights: 1 is the same entries, 0 none in common. The "
        "self-regularization lowers it.",
        rows=changes.words,
        columns=changes.words,
        cells=[[round(overlap(one, other), 4) for other in changes.deltas] for one in changes.deltas],
    )


def occupancy_view(changes: Changes) -> View:
    """Return how the size of each concept's change is spread over the blocks of the UNet, in percent."""
    cells: list[list[float | None]] = []
    for deltas in changes.deltas:
        energy = dict.fromkeys(BLOCKS, 0.0)
        for key, value in deltas.items():
            name = block(key.removeprefix("unet."))
            if name in energy:
                energy[name] += float(value.square().sum())
        total = sum(energy.values()) or 1.0
        cells.append([round(100 * energy[name] / total, 1) for name in BLOCKS])
    return View(
        title="Where each concept is stored",
        kind="heat",
        help="Share of a concept's change, its squared entries, in each block of the UNet, in percent.",
        rows=changes.words,
        columns=list(BLOCKS),
        cells=cells,
    )


def entry_map(changes: Changes, layer: str = "") -> EntryMap:
    """Return the entries of a layer that each concept occupies; "" is the layer with the largest changes.

    A concept occupies the tenth of the entries that it changed most. An entry is drawn in its concept's colour, and
    dark if several concepts occupy it.
    """
    layers = sorted(set().union(*changes.deltas))
    if not layers:
        raise ValueError("These concepts are tokens only and changed no weights; choose another sequence.")
    chosen = layer or max(layers, key=lambda key: _energy(changes, key))
    if chosen not in layers:
        raise ValueError(f"No concept changed the layer {chosen[:80]!r}; choose one of the trained layers.")
    masks = [_occupied(deltas[chosen]) for deltas in changes.deltas if chosen in deltas]
    count = torch.stack(masks).sum(0)
    pixels = torch.tensor(FREE, dtype=torch.uint8).expand(*count.shape, 3).clone()
    for place, mask in enumerate(masks):
        pixels[mask] = torch.tensor(COLOURS[place % len(COLOURS)], dtype=torch.uint8)
    pixels[count > 1] = torch.tensor(SHARED, dtype=torch.uint8)
    free, own = (1 - OCCUPIED) ** len(masks), len(masks) * OCCUPIED * (1 - OCCUPIED) ** (len(masks) - 1)
    return EntryMap(
        layer=chosen,
        words=[word for word, deltas in zip(changes.words, changes.deltas, strict=True) if chosen in deltas],
        image=Image.fromarray(pixels.numpy(), mode="RGB"),
        shared=float((count > 1).double().mean()),
        chance=1 - free - own,
    )


def _energy(changes: Changes, key: str) -> float:
    return sum(float(deltas[key].square().mean()) for deltas in changes.deltas if key in deltas)


def _occupied(change: Tensor) -> Tensor:
    """Return the entries (M, N) bool of the largest absolute changes, the share ``OCCUPIED`` of all."""
    size = change.abs()
    most = max(1, round(OCCUPIED * size.numel()))
    return (size >= size.flatten().topk(most).values[-1]) & (size > 0)


def _product(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    """Return B A (M, N) for the name of a B; a dense change stores no A."""
    up = tensors[name].float().flatten(1)
    down = tensors.get(name.replace(".lora_B.", ".lora_A."))
    return up if down is None else up @ down.float().flatten(1)
