"""Block-wise LoRA and LoCon (Li et al. 2024, 2403.07500): each block of the UNet has its own rank, which may be 0.

h = W·x + B·A·x in blocks of rank > 0. In all others h = W·x: no adapter module, no state key, no gradient.
"""

import re
from typing import TYPE_CHECKING

from torch import nn

from pipelines.adapters.core import parent_of, unwrapped
from pipelines.adapters.lora import LoRA
from pipelines.models.targets import LORA_TEXT_TARGETS
from pipelines.unet_blocks import BlockPlan, unet_modules

if TYPE_CHECKING:
    from pipelines.models.base import Base


def block_lora(base: "Base", plan: BlockPlan, *, text_encoder_rank: int = 0, seed: int = 0) -> LoRA:
    """Return the plan's LoRA for this base, not injected yet. Its scale is 1 in every block, independent of rank."""
    return LoRA(ranks=planned_ranks(base, plan, text_encoder_rank=text_encoder_rank), seed=seed)


def planned_ranks(base: "Base", plan: BlockPlan, *, text_encoder_rank: int = 0) -> dict[str, int]:
    """Return {"unet.<module>": rank} for every layer that the plan adapts; layers of rank 0 are omitted."""
    ranks = {f"unet.{name}": plan.rank_of(name) for name in unet_modules() if _exists(base, f"unet.{name}")}
    if text_encoder_rank:
        ranks |= {f"text_encoder.{name}": text_encoder_rank for name in _text_layers(base)}
    return {key: rank for key, rank in ranks.items() if rank}


def _text_layers(base: "Base") -> list[str]:
    names = {
        re.sub(r"(\.base_layer)+$", "", name)  # strip the wrappers of other injected adapters
        for name, module in base.module("text_encoder").named_modules()
        if isinstance(module, nn.Linear)
    }
    return sorted(name for name in names if re.fullmatch(LORA_TEXT_TARGETS, name))


def _exists(base: "Base", key: str) -> bool:
    """Whether this base has the layer: a resnet has a shortcut only where the number of channels changes."""
    parent, name = parent_of(base, key)
    layer = getattr(parent, name, None)
    return isinstance(layer, nn.Module) and isinstance(unwrapped(layer), (nn.Linear, nn.Conv2d))
