"""Single-image editing (SVDiff, Han et al. 2023, 2303.11305, section 3.5): one photograph is learned, then edited by words.

The spectral shifts learn the photograph with a plain caption, without identifier and without class images (λ = 0). The
edit itself is sampling: :mod:`pipelines.sampling.ddim_inversion`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from pipelines.adapters.core import Adapter
from pipelines.adapters.spectral import Spectral
from pipelines.config import ImageEditConfig
from pipelines.data.subject import Subject
from pipelines.methods.subject import loss
from pipelines.methods.svdiff import prepare, views
from pipelines.runs.store import Run
from pipelines.training.loop import Batch, Batches

if TYPE_CHECKING:
    from pipelines.models.base import Base

__all__ = ["adapter", "batches", "loss", "prepare", "views"]


def adapter(base: "Base", config: ImageEditConfig, parents: Sequence[Run]) -> Adapter:
    """Return the spectral shifts of the chosen subset, and optionally of the text encoder; not injected."""
    return Spectral(
        subset=config.subset,
        text_encoder=config.text_encoder,
        batch=config.pictures_per_forward,
        norm_rate=config.norm_learning_rate / config.learning_rate,
    )


def batches(base: "Base", subjects: Sequence[Subject], config: ImageEditConfig) -> Batches:
    """Return the batches of a run: the one photograph with its caption, each time with other noise."""
    (subject,) = subjects
    caption = [config.caption]
    words = base.token_ids(caption) if config.text_encoder_is_live else base.encode_prompts(caption)
    count, scaling = config.batch_size * config.accumulation, base.scaling_factor

    def draw(index: int, generator: torch.Generator) -> Batch:
        latents = subject.moments.sample(generator, [0] * count) * scaling
        return Batch(latents, words.repeat_interleave(count, dim=0), {"instance": slice(0, count)})

    return draw
