"""Block-wise LoRA and LoCon (Li et al. 2024, 2403.07500): each block of the UNet has its own rank, or none.

h = W·x + B·A·x in the blocks that a plan names, h = W·x in the others: no module, no key, no gradient there.
"""

import re
from typing import TYPE_CHECKING

from torch import nn

from pipelines.adapters.core import parent_of, unwrapped
from pipelines.adapters.lora import TEXT_TARGETS, LoRA
from pipelines.unet_blocks import BlockPlan, unet_modules

if TYPE_CHECKING:
    from pipelines.models.base import Base


def block_lora(base: "Base", plan: BlockPlan, *, text_encoder_rank: int = 0, seed: int = 0) -> LoRA:
    """Return the LoRA of a plan on this base, not live yet; its scale is 1 in every block, whatever the ranks."""
    return LoRA(ranks=planned_ranks(base, plan, text_encoder_rank=text_encoder_rank), seed=seed)


def planned_ranks(base: "Base", plan: BlockPlan, *, text_encoder_rank: int = 0) -> dict[str, int]:
    """Return ("unet.<module>" to rank) for every layer that a plan changes, those of rank 0 left out."""
    ranks = {f"unet.{name}": plan.rank_of(name) for name in unet_modules() if _exists(base, f"unet.{name}")}
    if text_encoder_rank:
        ranks |= {f"text_encoder.{name}": text_encoder_rank for name in _text_layers(base)}
    return {key: rank for key, rank in ranks.items() if rank}


def _text_layers(base: "Base") -> list[str]:
    names = {
        re.sub(r"(\.base_layer)+$", "", name)  # under other live adapters
        for name, module in base.module("text_encoder").named_modules()
        if isinstance(module, nn.Linear)
    }
    return sorted(name for name in names if re.fullmatch(TEXT_TARGETS, name))


def _exists(base: "Base", key: str) -> bool:
    """Whether this base has the layer: a shortcut is there only where the width changes."""
    parent, name = parent_of(base, key)
    layer = getattr(parent, name, None)
    return isinstance(layer, nn.Module) and isinstance(unwrapped(layer), (nn.Linear, nn.Conv2d))
