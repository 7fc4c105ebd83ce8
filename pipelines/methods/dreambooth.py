"""DreamBooth (Ruiz et al. 2022, 2208.12242): a rare word learns one subject, class images keep the class alive."""

from typing import TYPE_CHECKING, Any

from torch import Tensor

from pipelines.adapters.core import Adapter, read_tensors
from pipelines.adapters.full import Full
from pipelines.adapters.lora import LoRA
from pipelines.config import DreamBoothConfig
from pipelines.methods.core import Method, View
from pipelines.methods.subject import batches, loss

if TYPE_CHECKING:
    from pipelines.base import Base

BLOCKS = {
    **{f"down_blocks.{index}": f"In{index}" for index in range(4)},
    "mid_block": "Mid",
    **{f"up_blocks.{index}": f"Out{index}" for index in range(4)},
}


def adapter(base: "Base", config: DreamBoothConfig, runs: Any = None) -> Adapter:
    """Return what is trained: a LoRA, or every weight of the UNet (and of the text encoder on request)."""
    if config.weights == "full":
        return Full(text_encoder=config.text_encoder)
    return LoRA(
        rank=config.rank,
        alpha=config.alpha,
        targets=config.targets,
        text_encoder_rank=config.text_encoder_rank if config.text_encoder else 0,
        seed=config.seed,
    )


def views(run: Any) -> list[View]:
    """Return what the run's adapter shows: how far each block of the UNet moved (LoRA only)."""
    path = run.file("adapter.safetensors")
    if not path.is_file():
        return []
    tensors, header = read_tensors(path)
    if header.get("kind") != "lora":
        return []
    return [
        View(
            title="Where the weights moved",
            kind="bars",
            help="Length of the change, ‖ΔW‖, in each block of the UNet, from input to output.",
            values=block_changes(tensors, alpha=float(header["alpha"])),
        )
    ]


def block_changes(state: dict[str, Tensor], *, alpha: float) -> dict[str, float]:
    """Return ‖ΔW‖_F per UNet block of a LoRA state, from ‖B A‖² = Σ (BᵀB) ∘ (AAᵀ), without forming B A."""
    squares = dict.fromkeys(BLOCKS.values(), 0.0)
    for name, down in state.items():
        key, _, part = name.partition(".lora_A")
        block = next((label for path, label in BLOCKS.items() if key.startswith(f"unet.{path}.")), None)
        if part and block is not None:
            down, up = down.flatten(1), state[f"{key}.lora_B.weight"].flatten(1)
            scale = alpha / len(down) if alpha else 1.0
            squares[block] += scale**2 * float(((up.T @ up) * (down @ down.T)).sum())
    return {label: square**0.5 for label, square in squares.items()}


METHOD = Method(
    name="dreambooth",
    config=DreamBoothConfig,
    adapter=adapter,
    batches=batches,
    loss=loss,
    views=views,
)
