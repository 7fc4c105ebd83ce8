"""Adapters of a base model's weights: inject, remove exactly, merge, stack, save and load."""

from pipelines.adapters.continual import Concept, Continual
from pipelines.adapters.full import Full
from pipelines.adapters.lora import LoRA
from pipelines.adapters.registry import KINDS, load_adapter
from pipelines.adapters.spectral import Spectral
from pipelines.adapters.subspace import Subspace
from pipelines.adapters.textual_inversion import Words

__all__ = [
    "KINDS", "Concept", "Continual", "Full", "LoRA", "Spectral", "Subspace", "Words", "load_adapter",
]  # fmt: skip
