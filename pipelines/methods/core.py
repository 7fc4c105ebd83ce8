"""What a method states: its adapter, its batches, its loss terms, and what it can show about itself."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pipelines.adapters.core import Adapter
from pipelines.config import SubjectConfig
from pipelines.training.loop import AttentionLayers, Batches, Loss


@dataclass(frozen=True)
class View:
    """Something a method can show about a run; the page lays it out.

    ``kind`` "bars": ``values`` maps a label to a number, in the order to draw. "unet": the same for the nine blocks
    (In0 to In3, Mid, Out0 to Out3), to be drawn in the UNet's own shape. "heat": ``cells`` are ``rows`` by ``columns``,
    None where there is nothing. "curves": ``lines`` maps a name to values over 0, 1, 2, ..., ``axis`` says of what.
    """

    title: str
    kind: str
    help: str
    values: dict[str, float] = field(default_factory=dict)
    rows: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    cells: list[list[float | None]] = field(default_factory=list)
    lines: dict[str, list[float]] = field(default_factory=dict)
    axis: str = ""


@dataclass(frozen=True)
class Method:
    """One row of ``METHODS``."""

    name: str
    config: type[SubjectConfig]
    adapter: Callable[..., Adapter]  # (base, config, runs): not live yet
    batches: Callable[..., Batches]  # (base, photos, config, class_moments=None)
    loss: Loss  # (denoising, adapter, config) -> named, weighted terms
    views: Callable[[Any], list[View]]  # (run)
    prepare: Callable[..., None] | None = (
        None  # (adapter, base, on_progress): long work before the first inject
    )
    preparing: str = ""  # what the page says meanwhile
    attention_layers: AttentionLayers | None = None  # (config, update): layers whose maps the loss needs
