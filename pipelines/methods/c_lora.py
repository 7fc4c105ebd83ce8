"""C-LoRA (Smith et al. 2023, 2304.06027): concepts learned one after another, without the earlier photographs.

A run learns one concept on top of its parent, the run of the concept before. The loss is DreamBooth's and the
self-regularization λ ‖S ∘ B_t A_t‖², which keeps the new change off the entries that the earlier ones changed.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from pipelines.adapters.continual import Concept, Continual
from pipelines.adapters.registry import load_adapter
from pipelines.config import CLoRAConfig
from pipelines.methods.core import View
from pipelines.methods.subject import batches
from pipelines.methods.subject import loss as denoising_terms
from pipelines.runs.store import Run
from pipelines.training.loop import Denoising

if TYPE_CHECKING:
    from pipelines.models.base import Base

__all__ = ["adapter", "batches", "loss", "views"]


def adapter(base: "Base", config: CLoRAConfig, parents: Sequence[Run]) -> Continual:
    """Return the parent's concepts, frozen, and a new one to train; not injected.

    The last of ``parents`` contains all earlier concepts. Raises ValueError if it is not a run of this method, or if
    the trigger word already names one of its concepts.
    """
    concept = Concept(word=config.identifier, rank=config.rank, targets=config.targets)
    settings = {
        "seed": config.seed,
        "initializer": config.initializer,
        "token_rate": config.token_learning_rate / config.learning_rate,
        "detach_start": config.detach_start,
    }
    if not parents:
        return Continual(concepts=[concept], **settings)
    earlier = load_adapter(parents[-1].file("adapter.safetensors"), base)
    if not isinstance(earlier, Continual):
        raise ValueError(
            f"The run {parents[-1].name!r} is not a concept of a sequence; choose a run of C-LoRA."
        )
    return earlier.append(concept, base, **settings)


def loss(denoising: Denoising, adapter: Continual, config: CLoRAConfig) -> dict[str, Tensor]:
    """Return DreamBooth's loss terms and, from the second concept on, the self-regularization."""
    terms = denoising_terms(denoising, adapter, config)
    if config.forgetting_weight and adapter.past():
        weight = config.forgetting_weight * adapter.forgetting_scale
        terms["forgetting"] = weight * adapter.forgetting()
    return terms


def views(run: Run) -> list[View]:
    """Return []."""
    return []
