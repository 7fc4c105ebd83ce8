"""Inversion into a weight space (weights2weights, Dravid et al. 2024, 2406.09413, section 3.4).

One photograph, optionally with a mask, becomes a point of the space: β minimises the masked denoising loss with the
prompt that the population was trained with. There is no prior term, and nothing but β is trained.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from pipelines.adapters.core import Adapter
from pipelines.adapters.subspace import Subspace
from pipelines.config import W2WInversionConfig
from pipelines.data.subject import Subject
from pipelines.methods.core import View
from pipelines.methods.subject import batches
from pipelines.methods.subject import loss as denoising_terms
from pipelines.runs.store import Run
from pipelines.training.loop import Denoising
from pipelines.weightspace.explore import nearest
from pipelines.weightspace.index import find_space
from pipelines.weightspace.space import Space

if TYPE_CHECKING:
    from pipelines.models.base import Base

__all__ = ["adapter", "batches", "loss", "observer", "views"]


def adapter(base: "Base", config: W2WInversionConfig, parents: Sequence[Run]) -> Subspace:
    """Return the coordinates of the config's space at 0, the mean identity. Raises ValueError if it does not fit."""
    space = Space.open(find_space(config.space), components=config.components or None)
    space.check_base(base)
    told = space.manifest
    if (config.identifier, config.class_noun) != (told.identifier, told.class_noun):
        raise ValueError(
            f"The weight space {told.name!r} was trained with the words '{told.identifier} {told.class_noun}', not "
            f"'{config.identifier} {config.class_noun}'; use its words."
        )
    return Subspace.of(space)


def loss(denoising: Denoising, adapter: Adapter, config: W2WInversionConfig) -> dict[str, Tensor]:
    """Return the masked denoising loss and, if it has a weight, the squared distance from the population."""
    terms = denoising_terms(denoising, adapter, config)
    if config.distance_weight:
        assert isinstance(adapter, Subspace)
        terms["distance"] = config.distance_weight * adapter.distance().square()
    return terms


def observer(
    base: "Base", subjects: Sequence[Subject], config: W2WInversionConfig, run: Run
) -> Callable[[int, Adapter], None]:
    """Return a callback that records the distance from the population and the nearest member of it."""

    def observe(step: int, adapter: Adapter) -> None:
        assert isinstance(adapter, Subspace)
        assert adapter.axes is not None
        closest = nearest(adapter.axes, adapter.beta, count=1)
        run.append(
            "distance",
            step=step,
            value=round(float(adapter.distance().detach()), 5),
            nearest=closest[0].name if closest else "",
            cosine=round(closest[0].cosine, 5) if closest else 0.0,
        )

    return observe


def views(run: Run) -> list[View]:
    """Return the distance from the population during training."""
    told = [event for event in run.events() if event["kind"] == "distance"]
    if not told:
        return []
    steps = ", ".join(str(event["step"]) for event in told)
    return [
        View(
            title="Distance from the population",
            kind="curves",
            help="In standard deviations: 0 is the mean identity, members are at about 1. The cosine is that of the "
            f"nearest member's coordinates. At the rows of samples (steps {steps}).",
            lines={
                "distance": [event["value"] for event in told],
                "cosine with the nearest member": [event["cosine"] for event in told],
            },
            axis="row of samples",
        )
    ]
