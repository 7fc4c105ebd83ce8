"""What is no LoRA, leaving as one: the nearest of a chosen rank, and in words how near it comes.

What can leave so is told without torch; the rest imports it when it is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.runs.library import kind_of
from pipelines.runs.store import Run

if TYPE_CHECKING:
    from pipelines.formats.lora import LoRAState
    from pipelines.formats.low_rank import LowRank
    from pipelines.jobs.model_cache import ModelCache

NEAR_KINDS = {
    "spectral": "spectral shifts",
    "full": "fully trained weights",
}  # kind of an adapter -> in words
LOW_RANK = 16  # where nobody asks for another


def nearest_lora(run: Run, *, rank: int, shop: ModelCache) -> tuple[LoRAState, LowRank]:
    """Return the best LoRA of a rank for a run's adapter, as a file holds it, and how near it comes."""
    from pipelines.adapters.core import base_parameter
    from pipelines.formats.lora import LoRAState
    from pipelines.formats.low_rank import low_rank

    base = shop.base(run.base["spec"])
    near = low_rank(shop.adapter(run.file("adapter.safetensors"), base), base, rank)
    tensors = {}
    for module, (down, up) in near.factors.items():
        shape = base_parameter(base, f"{module}.weight").shape
        tensors[f"{module}.lora_A.weight"] = down.reshape(len(down), *shape[1:]).contiguous()
        tensors[f"{module}.lora_B.weight"] = up.reshape(*up.shape, *(1 for _ in shape[2:])).contiguous()
    return LoRAState(tensors=tensors), near


def nearness(near: LowRank, *, rank: int) -> str:
    """Return in words how near a LoRA comes."""
    told = f"a LoRA of rank {rank}, off by {near.error:.1%} of the matrices' change"
    return told + (
        f"; {near.left_out:.1%} of the whole is in parts that no LoRA holds" if near.left_out else ""
    )


def stands_for(run: Run, near: LowRank, *, rank: int) -> str:
    """Return the sentence for a file's own description."""
    return f"It stands for {NEAR_KINDS[kind_of(run)]}: {nearness(near, rank=rank)}."
