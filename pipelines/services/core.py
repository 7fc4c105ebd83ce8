"""What every room of the Studio stands on: the runs, the devices, and work that waits for its turn on one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.files import data_root
from pipelines.jobs.devices import Devices, device_names
from pipelines.jobs.queue import OUT_OF_MEMORY, TrainingQueue, ran_out_of_memory
from pipelines.jobs.worker import Job, Worker
from pipelines.models.inspection import EMBEDDED
from pipelines.runs.costs import Costs
from pipelines.runs.library import Library
from pipelines.runs.store import RunStore

if TYPE_CHECKING:
    from pipelines.jobs.model_cache import ModelCache


KNOWN_BASES = (EMBEDDED, "stable-diffusion-v1-5/stable-diffusion-v1-5", "CompVis/stable-diffusion-v1-4")


class Core:
    """The runs below ``root`` and one worker thread per device; the rooms that build on it name the rest."""

    def __init__(
        self,
        root: Path | None = None,
        base: str = EMBEDDED,
        *,
        devices: Sequence[str] | None = None,
        model_cache: ModelCache | None = None,
    ) -> None:
        self.root = root if root is not None else data_root()
        self.base = base
        self.store = RunStore(self.root)
        self.library = Library(self.store)
        self.costs = Costs(self.root)
        self.devices = Devices(devices if devices is not None else device_names(), model_cache=model_cache)
        self.trainings = TrainingQueue(self.store, devices=self.devices, costs=self.costs)
        self._pictures: set[Job] = set()
        self._outbox = Path(tempfile.mkdtemp(prefix="atelier-"))

    @property
    def worker(self) -> Worker:
        """The thread of the first device."""
        return self.devices.all[0].worker

    def close(self) -> None:
        """Stop what runs (its checkpoint is kept), and remove the copies made for browsers."""
        self.devices.close()
        shutil.rmtree(self._outbox, ignore_errors=True)

    def warm(self) -> None:
        """Load the heavy libraries and the base in the background, so that the first click need not wait."""
        self.devices.everywhere("warm up", lambda job: self._workshop(job).base(self.base))

    def _soon(
        self,
        name: str,
        work: Callable[[Job], Any],
        *,
        among: set[Job] | None = None,
        beside: str | None = None,
    ) -> Any:
        """Do a short job, where the run ``beside`` is at work, and wait for its result; it is one of ``among``."""
        job = self.devices.soon(name, work, beside=self.trainings.jobs.get(beside or ""))
        kept = among if among is not None else set()
        kept.add(job)
        try:
            return job.outcome()
        except (MemoryError, RuntimeError) as error:
            if ran_out_of_memory(error):
                raise ValueError(OUT_OF_MEMORY) from error
            raise
        finally:
            kept.discard(job)

    def _workshop(self, job: Job | None = None) -> ModelCache:
        """What stands on the device of a job, made on its worker's thread at the first need."""
        return self.devices.model_cache(job)

    def _read_photos(
        self, paths: Sequence[Path], *, size_px: int, crops: dict[str, tuple[float, float]] | None
    ) -> list[Any]:
        from pipelines.data.photographs import read_photos

        return read_photos([Path(path) for path in paths], size_px=size_px, crops=crops)
