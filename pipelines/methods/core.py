"""What a method states: its adapter, its batches, its loss terms, and what it can show about itself."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipelines.adapters.core import Adapter
from pipelines.config import SubjectConfig
from pipelines.train import Batches, Loss


@dataclass(frozen=True)
class View:
    """Something a method can show about a run; the page lays it out.

    ``kind`` "bars": ``values`` maps a label to a number, in the order to draw. "unet": the same for the nine blocks
    (In0 to In3, Mid, Out0 to Out3), to be drawn in the UNet's own shape.
    """

    title: str
    kind: str
    help: str
    values: dict[str, float]


@dataclass(frozen=True)
class Method:
    """One row of ``METHODS``."""

    name: str
    config: type[SubjectConfig]
    adapter: Callable[..., Adapter]  # (base, config, runs): not live yet
    batches: Callable[..., Batches]  # (base, photos, config, class_moments=None)
    loss: Loss  # (denoising, adapter, config) -> named, weighted terms
    views: Callable[[Any], list[View]]  # (run)
