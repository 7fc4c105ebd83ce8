"""The protocol of a training method: its adapter, batches, loss terms and views of a run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch import Tensor

from pipelines.adapters.core import Adapter
from pipelines.runs.store import Run
from pipelines.training.loop import Batches, Denoising

if TYPE_CHECKING:
    from PIL import Image

    from pipelines.config import SampleConfig
    from pipelines.data.subject import Subject
    from pipelines.evaluation.metrics import Encoders
    from pipelines.models.base import Base


@dataclass(frozen=True)
class View:
    """The data of a chart about a run; the user interface renders it.

    ``kind`` is one of:

    - "bars": ``values`` maps labels to numbers, in display order.
    - "unet": ``values`` maps the nine blocks (In0 to In3, Mid, Out0 to Out3) to numbers, shown in the shape of the UNet.
    - "heat": ``cells`` has the shape ``rows`` by ``columns``; None is an empty cell. ``most`` is the number of the
      strongest colour, so that several tables can be compared (None: the largest number).
    - "curves": ``lines`` maps names to values at the positions ``at`` (empty: 0, 1, 2, ...); ``axis`` is the label of
      the x axis.
    """

    title: str
    kind: str
    help: str
    values: dict[str, float] = field(default_factory=dict)
    rows: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    cells: list[list[float | None]] = field(default_factory=list)
    most: float | None = None
    lines: dict[str, list[float]] = field(default_factory=dict)
    at: list[float] = field(default_factory=list)
    axis: str = ""


class Method(Protocol):
    """The functions that a method's module defines; ``config`` is an instance of the config class in its spec."""

    def adapter(self, base: "Base", config: Any, parents: Sequence[Run]) -> Adapter:
        """Return the adapter to train, not yet injected. ``parents`` are the finished runs that it builds on."""
        ...

    def batches(self, base: "Base", subjects: Sequence["Subject"], config: Any) -> Batches:
        """Return the batch of each update; ``subjects`` is empty for a method without photographs."""
        ...

    def loss(self, denoising: Denoising, adapter: Any, config: Any) -> dict[str, Tensor]:
        """Return the weighted loss terms by name; their sum is minimized, and each term is one line in the loss plot."""
        ...

    def views(self, run: Run) -> list[View]:
        """Return the charts about a run; [] before its adapter is finished."""
        ...


@runtime_checkable
class Prepares(Protocol):
    """A method with slow preparation before the adapter is first injected."""

    def prepare(self, adapter: Any, base: "Base", on_progress: Callable[[int, int], None]) -> None:
        """Run the preparation; ``on_progress(done, total)`` may raise to stop it."""
        ...


@runtime_checkable
class Replays(Protocol):
    """A method that can also train on pictures that the earlier model draws before the training starts."""

    def replayed(
        self, adapter: Any, base: "Base", config: Any, on_progress: Callable[[int, int], None]
    ) -> "Sequence[Subject]":
        """Return further subjects, drawn now; ``adapter`` is not injected. ``on_progress(done, total)`` may raise."""
        ...


@runtime_checkable
class RecordsAttention(Protocol):
    """A method whose loss uses cross-attention maps."""

    def attention_layers(self, config: Any, update: int) -> Sequence[str]:
        """Return the layers whose maps the loss needs at an update (from 0); () for none."""
        ...


@runtime_checkable
class Observes(Protocol):
    """A method that records more about a running run than loss terms and samples."""

    def observer(
        self, base: "Base", subjects: Sequence["Subject"], config: Any, run: Run
    ) -> Callable[[int, Adapter], None]:
        """Return a callback(step, injected adapter), called after each row of samples; it appends events to the run."""
        ...


@runtime_checkable
class Concludes(Protocol):
    """A method that draws more than samples when a run is finished."""

    def conclude(
        self,
        run: Run,
        adapter: Any,
        base: "Base",
        config: Any,
        *,
        draw: "Callable[[SampleConfig], list[Image.Image]]",
        encoders: "Encoders | None",
        photos: "Sequence[Image.Image]",
        parents: Sequence[Run],
    ) -> None:
        """Write files into the run; ``adapter`` is finished and not injected, ``draw`` generates pictures with it."""
        ...
