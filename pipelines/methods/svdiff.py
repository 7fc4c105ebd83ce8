"""SVDiff (Han et al. 2023, 2303.11305): trains the singular values of the base's weights on one subject."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pipelines.adapters.core import Adapter, read_tensors
from pipelines.adapters.spectral import Spectral
from pipelines.adapters.svd_cache import Spectra, cache_folder
from pipelines.config import SVDiffConfig
from pipelines.methods.core import View
from pipelines.methods.spectral_views import by_group, by_layer, heat_map
from pipelines.methods.subject import batches, loss
from pipelines.runs.store import Run

if TYPE_CHECKING:
    from pipelines.models.base import Base

__all__ = ["adapter", "batches", "loss", "prepare", "views"]


def adapter(base: "Base", config: SVDiffConfig, parents: Sequence[Run]) -> Adapter:
    """Return the spectral shifts of the chosen subset, and optionally of the text encoder; not injected."""
    return Spectral(
        subset=config.subset,
        text_encoder=config.text_encoder,
        rank=config.rank,
        batch=config.pictures_per_forward,
        norm_rate=config.norm_learning_rate / config.learning_rate,
    )


def prepare(adapter: Spectral, base: "Base", on_progress: Callable[[int, int], None]) -> None:
    """Compute the SVD of the base's weights, cached per base; ``on_progress`` may raise to stop between two weights."""
    Spectra(base, cache_folder()).prepare(adapter.weights(base), on_progress)


def views(run: Run) -> list[View]:
    """Return the charts of the run's shifts: by singular value, by part of the model, and by layer."""
    path = run.file("adapter.safetensors")
    if not path.is_file():
        return []
    state, header = read_tensors(path)
    kind = header.get("kind")
    return [heat_map(state), by_group(state), by_layer(state)] if kind == Spectral.kind else []
