"""Textual inversion (Gal et al. 2022, 2208.01618): only the embedding of the identifier is trained.

It uses the same photographs and the same loss as DreamBooth, without a prior term, because prompts without the
identifier are not affected. The embedding is initialized from the class noun by default.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.adapters.core import Adapter
from pipelines.adapters.textual_inversion import Words
from pipelines.config import TextualInversionConfig
from pipelines.methods.core import View
from pipelines.methods.subject import batches, loss
from pipelines.runs.store import Run

if TYPE_CHECKING:
    from pipelines.models.base import Base

__all__ = ["adapter", "batches", "loss", "views"]


def adapter(base: "Base", config: TextualInversionConfig, parents: Sequence[Run]) -> Adapter:
    """Return the embedding of the identifier, initialized from the config's initializer or else the class noun."""
    return Words(words=config.identifier, initializer=config.initializer or config.class_noun)


def views(run: Run) -> list[View]:
    """Return []: there is no chart for an embedding."""
    return []
