"""DreamBooth (Ruiz et al. 2022, 2208.12242): binds an identifier to one subject; class images preserve the class."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from pipelines.adapters.core import Adapter, read_tensors
from pipelines.adapters.full import Full
from pipelines.adapters.lora import LoRA
from pipelines.config import DreamBoothConfig
from pipelines.methods.core import View
from pipelines.methods.subject import batches, loss
from pipelines.runs.store import Run
from pipelines.sampling.block_ablation import FILE as CONTRIBUTIONS
from pipelines.unet_blocks import BLOCKS, block

if TYPE_CHECKING:
    from pipelines.models.base import Base

__all__ = ["adapter", "batches", "loss", "views"]


def adapter(base: "Base", config: DreamBoothConfig, parents: Sequence[Run]) -> Adapter:
    """Return the adapter to train: a LoRA, or all weights of the UNet (and optionally of the text encoder)."""
    if config.weights == "full":
        return Full(text_encoder=config.text_encoder)
    return LoRA(
        rank=config.rank,
        alpha=config.alpha,
        targets=config.targets,
        text_encoder_rank=config.text_encoder_rank if config.text_encoder else 0,
        seed=config.seed,
    )


def views(run: Run) -> list[View]:
    """Return the charts of a run: the norm of each block's LoRA update, and each block's effect on the picture."""
    path = run.file("adapter.safetensors")
    if not path.is_file():
        return []
    tensors, header = read_tensors(path)
    if header.get("kind") != "lora":
        return contribution_views(run)
    moved = View(
        title="Where the weights moved",
        kind="bars",
        help="Length of the change, ‖ΔW‖, in each block of the UNet, from input to output.",
        values=block_changes(tensors, alpha=float(header["alpha"])),
    )
    return [moved, *contribution_views(run)]


def contribution_views(run: Run) -> list[View]:
    """Return the chart of the blocks' contributions; [] if they were not measured."""
    path = run.file(CONTRIBUTIONS)
    if not path.is_file():
        return []
    told = json.loads(path.read_text(encoding="utf-8"))
    return [
        View(
            title="Which blocks make the picture",
            kind="unet",
            help="Mean change of a pixel, of 1, when a block of the adapter is silenced: "
            f"{told['prompt']!r}, seed {told['seed']}.",
            values=told["values"],
        )
    ]


def block_changes(state: dict[str, Tensor], *, alpha: float) -> dict[str, float]:
    """Return ‖ΔW‖_F per UNet block of a LoRA state dict, from ‖B A‖² = Σ (BᵀB) ∘ (AAᵀ), without computing B A."""
    squares: dict[str, float] = dict.fromkeys(BLOCKS, 0.0)
    for name, down in state.items():
        key, _, part = name.partition(".lora_A")
        if part and (place := block(key)):
            down, up = down.flatten(1), state[f"{key}.lora_B.weight"].flatten(1)
            scale = alpha / len(down) if alpha else 1.0
            squares[place] += scale**2 * float(((up.T @ up) * (down @ down.T)).sum())
    return {label: square**0.5 for label, square in squares.items()}
