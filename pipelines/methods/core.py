"""What a method states: its adapter, its batches, its loss terms, and what it can show about itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch import Tensor

from pipelines.adapters.core import Adapter
from pipelines.runs.store import Run
from pipelines.training.loop import Batches, Denoising

if TYPE_CHECKING:
    from pipelines.data.subject import Subject
    from pipelines.models.base import Base


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


class Method(Protocol):
    """What a method's module holds; ``config`` is of the class that its spec names."""

    def adapter(self, base: "Base", config: Any, parents: Sequence[Run]) -> Adapter:
        """Return what learns, not live yet. ``parents`` are the finished runs it stands on."""
        ...

    def batches(self, base: "Base", subjects: Sequence["Subject"], config: Any) -> Batches:
        """Return what each update sees; ``subjects`` is empty for a method that needs no photographs."""
        ...

    def loss(self, denoising: Denoising, adapter: Any, config: Any) -> dict[str, Tensor]:
        """Return named, weighted terms; their sum is minimised, and the names are the lines of the plot."""
        ...

    def views(self, run: Run) -> list[View]:
        """Return what can be shown about a run; [] before its adapter is finished."""
        ...


@runtime_checkable
class Prepares(Protocol):
    """A method with long work before the first injection."""

    def prepare(self, adapter: Any, base: "Base", on_progress: Callable[[int, int], None]) -> None:
        """Do it; ``on_progress(done, total)`` may raise to stop between two parts."""
        ...


@runtime_checkable
class RecordsAttention(Protocol):
    """A method whose loss looks at cross-attention maps."""

    def attention_layers(self, config: Any, update: int) -> Sequence[str]:
        """Return the layers whose maps the loss needs at an update (from 0); () for none."""
        ...


@runtime_checkable
class Observes(Protocol):
    """A method that tells more about a run at work than its terms and samples."""

    def observer(
        self, base: "Base", subjects: Sequence["Subject"], config: Any, run: Run
    ) -> Callable[[int, Adapter], None]:
        """Return what is called with the step and the live adapter after each row of samples; it adds to the run."""
        ...
