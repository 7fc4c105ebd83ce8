"""Experiments have a room of their own, :attr:`pipelines.studio.Studio.experiments`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pipelines.experiments.manager import Experiments
from pipelines.models.inspection import EMBEDDED
from pipelines.services.core import Core

if TYPE_CHECKING:
    from pipelines.jobs.model_cache import ModelCache
    from pipelines.studio import Studio


class Laboratory(Core):
    """Several runs on the same photographs, and one evaluation of all of them."""

    def __init__(
        self,
        root: Path | None = None,
        base: str = EMBEDDED,
        *,
        devices: Sequence[str] | None = None,
        model_cache: ModelCache | None = None,
    ) -> None:
        super().__init__(root, base, devices=devices, model_cache=model_cache)
        self._experiments = Experiments(cast("Studio", self))
        self.trainings.ended = self._experiments.run_ended

    @property
    def experiments(self) -> Experiments:
        """Start, watch, stop and keep experiments."""
        return self._experiments
