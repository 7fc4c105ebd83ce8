"""Textual inversion (Gal et al. 2022, 2208.01618): the rare word's embedding is all that learns.

The classic comparison: same photographs, same loss, no prior term, for a class that does not contain the word cannot
drift. The word begins as its class word.
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
    """Return the rare word's embedding, begun at the config's initializer, or else at the class word."""
    return Words(words=config.identifier, initializer=config.initializer or config.class_noun)


def views(run: Run) -> list[View]:
    """Return []: a vector shows nothing by itself."""
    return []
