"""Block-wise LoRA and LoCon (Li et al. 2024, 2403.07500): only the blocks that encode a style or a subject are trained.

The loss is DreamBooth's, with class images as regularization.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.adapters.block_lora import block_lora
from pipelines.adapters.core import Adapter
from pipelines.config import BlockLoRAConfig
from pipelines.methods.dreambooth import views
from pipelines.methods.subject import batches, loss
from pipelines.runs.store import Run

if TYPE_CHECKING:
    from pipelines.models.base import Base

__all__ = ["adapter", "batches", "loss", "views"]


def adapter(base: "Base", config: BlockLoRAConfig, parents: Sequence[Run]) -> Adapter:
    """Return a LoRA with the ranks of the config's plan; blocks of rank 0 have no LoRA modules."""
    return block_lora(
        base,
        config.plan,
        text_encoder_rank=config.text_encoder_rank if config.text_encoder else 0,
        seed=config.seed,
    )
