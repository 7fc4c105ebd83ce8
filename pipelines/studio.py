"""The entry point to all services, used by the user interface, the API and the command line.

Heavy libraries such as torch are imported by the first job that needs them, not by this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.models.inspection import EMBEDDED
from pipelines.services.activity import ActivityService
from pipelines.services.editing import EditingService
from pipelines.services.experiments import ExperimentService
from pipelines.services.generation import GenerationService
from pipelines.services.identity_space import IdentityService
from pipelines.services.import_export import ImportExportService
from pipelines.services.inspection import InspectionService
from pipelines.services.library import LibraryService
from pipelines.services.mixing import MixingService
from pipelines.services.presets import PresetService
from pipelines.services.resources import Resources
from pipelines.services.sequences import SequenceService
from pipelines.services.training import TrainingService

if TYPE_CHECKING:
    from pipelines.jobs.model_cache import ModelCache


class Studio:
    """All services for the runs below ``root`` (default: the user's data folder), with one worker thread per device.

    ``base`` is the default base model. ``devices`` are names such as "cuda:0" (default: all CUDA devices, or the CPU if
    there are none). ``model_cache`` is the cache of a closed Studio with its loaded bases; the first device reuses it.
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
        self.editing = EditingService(resources)
        self.mixing = MixingService(resources)
        self.inspection = InspectionService(resources)
        self.presets = PresetService(resources)
        self.import_export = ImportExportService(resources)
        self.sequences = SequenceService(resources, training=self.training)
        self.identities = IdentityService(resources, training=self.training)
        self.experiments = ExperimentService(resources, training=self.training, tags=self.inspection.tags)
        self.activity = ActivityService(resources, experiments=self.experiments)

    def for_owner(self, owner: str) -> Studio:
        """Return the services for the runs of one owner ("": the local user), with the same devices and queue.

        A hosted app has one owner per visitor; runs and experiments of other owners are treated as missing.
        """
        if owner not in self._by_owner:
            view = copy(self)
            view._compose(self.resources.for_owner(owner))
            self._by_owner.setdefault(owner, view)
        return self._by_owner[owner]

    def warm(self) -> None:
        """Load the heavy libraries and the base in the background, so that the first action is fast."""
        self.resources.warm()

    def close(self) -> None:
        """Stop all running jobs (their checkpoints are kept) and remove the temporary copies made for browsers."""
        self.resources.close()
