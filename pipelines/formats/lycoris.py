"""Exact conversion of the factors that kohya's scripts and LyCORIS store for one layer to plain (A, B) with ΔW = B·A.

LoRA and LoCon: B·A. Tucker: ΔW[o,i] = Σ_pq up[o,p] mid[p,q] down[q,i]. LoHa (FedPara, 2108.06098):
ΔW = (W1a·W1b) ∘ (W2a·W2b), each half optionally with a Tucker core t[p,q].
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from pipelines.formats.lora_keys import MAX_RANK
from pipelines.unet_blocks import kernel

HADAMARD = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")


def plain_factors(name: str, module: str, parts: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, int]:
    """Return (A, B, rank) of one layer in float32: A (r, in[, kh, kw]), B (out, r[, 1, 1]), and the divisor of alpha.

    ``parts`` are the file's tensors by the part names of :func:`pipelines.formats.lora_keys.parse_key`. Raises
    ValueError with the file's ``name`` for incomplete pairs, inconsistent shapes and ranks above the widest layer.
    """
    hadamard = any(part.startswith("hada_") for part in parts)
    needed = HADAMARD if hadamard else ("down", "up")
    if not set(needed) <= parts.keys():
        raise ValueError(
            f"{name} has only one of the two factors of {module}, so the file is incomplete; download it again."
        )
    values = {part: tensor.float() for part, tensor in parts.items() if part != "alpha"}
    found = _hadamard(module, values) if hadamard else _lora(values)
    if found is None:
        shapes = " and ".join(str(tuple(values[part].shape)) for part in needed)
        raise ValueError(
            f"{name} has factors of shapes {shapes} for {module}, which do not fit together; choose another."
        )
    down, up, rank = found
    if not 1 <= len(down) <= MAX_RANK:
        raise ValueError(f"{name} has rank {len(down)} for {module}; ranks from 1 to {MAX_RANK} can be read.")
    return down, up, rank


def _lora(parts: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, int] | None:
    """Return (A, B, r); a Tucker kernel is contracted into A, which keeps the rank. None for inconsistent shapes."""
    down, up, mid = parts["down"], parts["up"], parts.get("mid")
    if mid is not None:
        if mid.dim() != 4 or down.dim() != 4 or mid.shape[1] != len(down) or down.shape[2:].numel() != 1:
            return None
        down = torch.einsum("pqhw,qi->pihw", mid, down.flatten(1))
    fits = down.dim() == up.dim() and down.dim() in (2, 4) and up.shape[1] == down.shape[0]
    return (down, up, len(down)) if fits and up.shape[2:].numel() == 1 else None


def _hadamard(module: str, parts: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, int] | None:
    """Return (A, B, r) for a LoHa of rank r; B·A has rank min(r², out, in·kh·kw). None for inconsistent shapes."""
    first, second = (
        _half(parts[f"hada_w{i}_a"], parts[f"hada_w{i}_b"], core=parts.get(f"hada_t{i}"), side=kernel(module))
        for i in (1, 2)
    )
    if first is None or second is None:
        return None
    (up, down), (up2, down2) = first, second
    if up.shape != up2.shape or down.shape != down2.shape:
        return None
    rank, rows, shape = len(down), len(up), down.shape[1:]
    if rank**2 <= min(rows, shape.numel()):
        # (B1·A1) ∘ (B2·A2) = Σ_pq (B1[:,p] ∘ B2[:,q]) (A1[p] ∘ A2[q])
        up = (up[:, :, None] * up2[:, None, :]).flatten(1)
        down = (down[:, None] * down2[None]).flatten(0, 1)
    else:  # fewer values: one factor is ΔW itself
        change = (up @ down.flatten(1)) * (up2 @ down2.flatten(1))
        wide = rows <= shape.numel()
        up = torch.eye(rows) if wide else change
        down = (change if wide else torch.eye(shape.numel())).reshape(-1, *shape)
    return down, up.reshape(*up.shape, *([1] * (down.dim() - 2))), rank


def _half(first: Tensor, second: Tensor, *, core: Tensor | None, side: int) -> tuple[Tensor, Tensor] | None:
    """Return (B (out, r), A (r, in[, kh, kw])) of one half; with a core the file has (r, out) and (r, in)."""
    if first.dim() != 2 or second.dim() != 2:
        return None
    if core is not None:
        if core.dim() != 4 or core.shape[:2] != (len(first), len(second)) or len(first) != len(second):
            return None
        return first.T, torch.einsum("pqhw,qi->pihw", core, second)
    cells = max(side, 1) ** 2
    if first.shape[1] != len(second) or second.shape[1] % cells:
        return None
    return first, second.reshape(len(second), -1, side, side) if side else second
