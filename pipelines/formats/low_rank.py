"""The best rank-r LoRA approximation of spectral shifts and full weights, and its error."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pipelines.adapters.core import Adapter, base_parameter
from pipelines.adapters.spectral import Spectral
from pipelines.formats.lora import LoRAState
from pipelines.formats.lora_keys import with_prefix

if TYPE_CHECKING:
    from pipelines.models.base import Base

Product = tuple[Tensor, Tensor]  # A (r, N) and B (M, r)
Piece = tuple[str, Product | None, float, float]  # layer, its product, ‖ΔW‖², ‖ΔW − BA‖²


@dataclass(frozen=True)
class LowRank:
    """A LoRA that approximates an adapter: A (r, N) and B (M, r) for each "unet.<module>", and its error."""

    factors: dict[str, Product]
    error: float  # ‖ΔW − BA‖ / ‖ΔW‖ over all matrices
    left_out: float  # share of ‖ΔW‖² in norm gains, biases and embeddings, which a LoRA file cannot store

    def told(self, *, rank: int) -> str:
        """Return a text with the approximation error."""
        near = f"a rank-{rank} LoRA (approximation error {self.error:.1%})"
        outside = (
            f"; {self.left_out:.1%} of the change is in parameters that a LoRA cannot store"
            if self.left_out
            else ""
        )
        return near + outside


def nearest_lora(adapter: Adapter, base: "Base", rank: int) -> tuple[LoRAState, LowRank]:
    """Return an adapter's best rank-``rank`` LoRA approximation, as stored in a file, and its error."""
    near = low_rank(adapter, base, rank)
    tensors = {}
    for module, (down, up) in near.factors.items():
        shape = base_parameter(base, f"{module}.weight").shape
        tensors[f"{module}.lora_A.weight"] = down.reshape(len(down), *shape[1:]).contiguous()
        tensors[f"{module}.lora_B.weight"] = up.reshape(*up.shape, *(1 for _ in shape[2:])).contiguous()
    return LoRAState(tensors=tensors), near


def low_rank(adapter: Adapter, base: "Base", rank: int, *, scale: float = 1.0) -> LowRank:
    """Return the best rank-``rank`` LoRA approximation: the largest ``rank`` singular values of every ΔW."""
    pieces = (
        _of_shifts(adapter, rank, scale=scale)
        if isinstance(adapter, Spectral)
        else _of_changes(adapter, base, rank, scale=scale)
    )
    factors: dict[str, Product] = {}
    whole, lost, outside = 0.0, 0.0, 0.0
    for key, product, size, missed in pieces:
        if product is None:
            outside += size
        else:
            down, up = product
            factors[key] = (down.cpu(), up.cpu())
            whole, lost = whole + size, lost + missed
    return LowRank(
        factors,
        error=(lost / whole) ** 0.5 if whole else 0.0,
        left_out=outside / (whole + outside) if whole + outside else 0.0,
    )


def _of_shifts(adapter: Spectral, rank: int, *, scale: float) -> Iterator[Piece]:
    """Yield the pieces of spectral shifts. ΔW = U diag(g) Vᵀ has the singular values |g|, so no SVD is needed."""
    for key, shift in adapter.shifts.items():
        if shift.factors is None:
            yield key, None, _square(scale * shift.parameter.detach()), 0.0
            continue
        gain = shift.change_of_values(scale)
        if shift.form == "rows":
            yield key, None, _square(gain), 0.0
            continue
        by_size = gain.abs().argsort(descending=True)
        order = by_size[:rank]
        vectors, chosen = shift.factors.on(gain.device), gain[order]
        root = chosen.abs().sqrt()
        product = root[:, None] * vectors.right[order], vectors.left[:, order] * root * chosen.sign()
        yield key, product, _square(gain), _square(gain[by_size[rank:]])


@torch.no_grad()
def _of_changes(adapter: Adapter, base: "Base", rank: int, *, scale: float) -> Iterator[Piece]:
    for name, change in adapter.changes(base, scale):
        key = name.removesuffix(".weight")
        if change.dim() < 2 or not with_prefix(key):
            yield key, None, _square(change), 0.0
            continue
        flat = change.flatten(1)
        down, up = nearest_product(flat, rank)
        yield key, (down, up), _square(flat), _square(flat - up @ down)


def nearest_product(change: Tensor, rank: int) -> Product:
    """Return A (r, N) and B (M, r) with B·A the best rank-r approximation of a matrix (M, N), r = min(rank, M, N).

    The magnitude is divided evenly between A and B. The matrix is projected on the leading eigenvectors of its smaller
    Gram matrix, which takes a fraction of the time of an SVD.
    """
    tall = change.shape[0] > change.shape[1]
    wide = change.T if tall else change  # (k, n), k ≤ n
    _, vectors = torch.linalg.eigh((wide @ wide.T).double())  # in ascending order
    basis = vectors.flip(1)[:, :rank].to(wide.dtype)  # (k, r)
    inner = basis.T @ wide  # (r, n)
    root = inner.norm(dim=1).clamp(min=1e-12).sqrt()
    first, second = basis * root, inner / root[:, None]
    return (first.T, second.T) if tall else (second, first)


def _square(values: Tensor) -> float:
    return float(values.square().sum())
