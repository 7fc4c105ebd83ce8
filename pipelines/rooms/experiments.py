"""Experiments have a room of their own, :attr:`pipelines.studio.Studio.experiments`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from pipelines.experiments.door import Experiments
from pipelines.rooms.core import Core

if TYPE_CHECKING:
    from pipelines.studio import Studio


class Laboratory(Core):
    """Several runs on the same photographs, and one evaluation of all of them."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._experiments = Experiments(cast("Studio", self))
        self.trainings.ended = self._experiments.run_ended

    @property
    def experiments(self) -> Experiments:
        """Start, watch, stop and keep experiments."""
        return self._experiments
