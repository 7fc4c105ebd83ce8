"""The only thing that pages and API clients use: runs are started, watched, stopped and used through here.

Heavy libraries are imported when the first piece of work needs them, never when this module is.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.models.inspection import EMBEDDED
from pipelines.services.experiments import ExperimentService
from pipelines.services.generation import GenerationService
from pipelines.services.import_export import ImportExportService
from pipelines.services.inspection import InspectionService
from pipelines.services.library import LibraryService
from pipelines.services.resources import Resources
from pipelines.services.training import TrainingService

if TYPE_CHECKING:
    from pipelines.jobs.model_cache import ModelCache


class Studio:
    """The services over the runs below ``root`` (default: the user's data folder), one worker thread per device.

    ``base`` is what is used where nothing else is named. ``devices`` are names such as "cuda:0" (default: every CUDA
    device, else the processor). ``model_cache`` hands over bases that are loaded already, from a Studio that has been
    closed, to the first of them.
    """

    def __init__(
        self,
        root: Path | None = None,
        base: str = EMBEDDED,
        *,
        devices: Sequence[str] | None = None,
        model_cache: ModelCache | None = None,
    ) -> None:
        self._by_owner: dict[str, Studio] = {"": self}
        self._compose(Resources(root, base, devices=devices, model_cache=model_cache))

    def _compose(self, resources: Resources) -> None:
        self.resources = resources
        self.training = TrainingService(resources)
        self.library = LibraryService(resources)
        self.generation = GenerationService(resources)
        self.inspection = InspectionService(resources)
        self.import_export = ImportExportService(resources)
        self.experiments = ExperimentService(resources, training=self.training, tags=self.inspection.tags)

    def for_owner(self, owner: str) -> Studio:
        """Return the services for the runs of one owner ("": the machine's own), over the same devices and queue.

        A hosted copy asks through its visitor's; another owner's run or experiment is refused as if it did not exist.
        """
        if owner not in self._by_owner:
            view = copy(self)
            view._compose(self.resources.for_owner(owner))
            self._by_owner.setdefault(owner, view)
        return self._by_owner[owner]

    def warm(self) -> None:
        """Load the heavy libraries and the base in the background, so that the first click need not wait."""
        self.resources.warm()

    def close(self) -> None:
        """Stop what runs (its checkpoint is kept), and remove the copies made for browsers."""
        self.resources.close()
