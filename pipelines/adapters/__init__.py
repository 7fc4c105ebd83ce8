"""Changes of a base's weights: injected and removed again without a trace, merged, stacked, saved and loaded."""

from pipelines.adapters.full import Full
from pipelines.adapters.lora import LoRA
from pipelines.adapters.registry import KINDS, load_adapter
from pipelines.adapters.spectral import Spectral
from pipelines.adapters.textual_inversion import Words

__all__ = ["KINDS", "Full", "LoRA", "Spectral", "Words", "load_adapter"]
