"""Resources shared by the services: the runs, the devices, short jobs, and a folder of copies for browsers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.files import TemporaryFolder, data_root
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


class Resources:
    """The runs below ``root``, one worker thread per device, and the outbox: a folder of copies for browsers.

    ``store`` and ``library`` contain the runs of one owner; all owners share the queue and the devices.
    """

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
        self.owner = ""
        self.store = RunStore(self.root)
        self.library = Library(self.store)
        self.costs = Costs(self.root)
        self.devices = Devices(devices if devices is not None else device_names(), model_cache=model_cache)
        self.queue = TrainingQueue(RunStore(self.root, owner=None), devices=self.devices, costs=self.costs)
        self.opened_spaces: dict[str, Any] = {}  # weight spaces in memory, by name; for the first worker
        self._outbox = TemporaryFolder(prefix="atelier-outbox-")
        self.outbox = self._outbox.path

    def for_owner(self, owner: str) -> Resources:
        """Return the same resources with the runs of another owner."""
        view = copy(self)
        view.owner = owner
        view.store = RunStore(self.root, owner=owner)
        view.library = Library(view.store)
        return view

    @property
    def worker(self) -> Worker:
        """The worker of the first device."""
        return self.devices.all[0].worker

    def close(self) -> None:
        """Stop all running jobs (their checkpoints are kept) and remove the temporary copies made for browsers."""
        self.devices.close()
        self._outbox.close()

    def warm(self) -> None:
        """Load the heavy libraries and the base in the background, so that the first action is fast."""
        self.devices.submit_to_all("warm up", lambda job: self.model_cache(job).base(self.base))

    def run_short(
        self,
        name: str,
        work: Callable[[Job], Any],
        *,
        among: set[Job] | None = None,
        beside: str | None = None,
    ) -> Any:
        """Run a short job and return its result.

        It runs on the device of the run ``beside`` if that is running. While it is pending, ``among`` contains the job.
        Raises ValueError if the device runs out of memory.
        """
        self._outbox.sweep()
        job = self.devices.submit_short(name, work, beside=self.queue.jobs.get(beside or ""))
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

    def model_cache(self, job: Job | None = None) -> ModelCache:
        """Return the model cache of a job's device (default: the first device), created on first use."""
        return self.devices.model_cache(job)
