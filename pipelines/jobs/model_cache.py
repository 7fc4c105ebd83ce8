"""The models loaded on one device: bases, adapters, evaluation encoders, and the adapter in training.

Only the device's worker thread uses the cache, so it needs no lock.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from pipelines.adapters.core import Adapter, suspended
from pipelines.adapters.registry import load_adapter
from pipelines.config import SampleConfig
from pipelines.evaluation.metrics import Encoders, load_encoders
from pipelines.jobs.load_lock import LoadLock
from pipelines.models.base import Base, load_base
from pipelines.models.threads import threads_for
from pipelines.sampling.sample import Samples, sample
from pipelines.training.loop import Step
from pipelines.unet_blocks import Strength

log = logging.getLogger(__name__)

BASES_KEPT = 2  # the base in training, and one for pictures generated meanwhile
ADAPTERS_KEPT = 3
ADAPTERS_KEPT_BYTES = 2 * 2**30  # total file size; fully fine-tuned models are large


@dataclass
class TrainingSession:
    """The run that is being trained. ``step`` is its last finished training step."""

    run_id: str
    base: Base
    adapter: Adapter
    step: Step | None = None


class ModelCache:
    """A cache of bases, adapters and encoders; the least recently used bases and adapters are evicted."""

    def __init__(self, device: str | None = None, *, load_lock: LoadLock | None = None) -> None:
        """``device``: "cpu", "cuda:1", ... (default: CUDA if available). All devices share one ``load_lock``."""
        self.device = device
        self.session: TrainingSession | None = None
        self._load_lock = load_lock if load_lock is not None else LoadLock()
        self._bases: dict[str, Base] = {}
        self._most_threads = torch.get_num_threads()
        self._threads: dict[str, int] = {}  # by base spec
        self._adapters: dict[tuple[Path, int, int, str], Adapter] = {}
        self._encoders: dict[str, Encoders | None] = {}

    def base(self, spec: str) -> Base:
        """Return a base, loaded on first use. Raises ValueError if it is not a usable base."""
        base = self._bases.pop(spec, None)
        if base is None:
            in_use = self.session.base.spec if self.session else ""
            idle = [name for name in self._bases if name != in_use]
            if len(self._bases) >= BASES_KEPT and idle:
                del self._bases[idle[0]]
            with self._load_lock.exclusive():
                base = load_base(spec, device=usable(self.device))
                self._threads[spec] = threads_for(base, most=self._most_threads)
        self._bases[spec] = base
        torch.set_num_threads(self._threads.get(spec, self._most_threads))
        return base

    def adapter(self, path: Path, base: Base) -> Adapter:
        """Load an adapter from a file without injecting it.

        If ``base`` is in training, its injected adapter is suspended while loading.
        """
        facts = path.stat()
        key = (path, facts.st_mtime_ns, facts.st_size, base.hash)
        adapter = self._adapters.pop(key, None)
        if adapter is None:
            with self.aside(base):
                adapter = load_adapter(path, base)
            while self._adapters and self._crowded(facts.st_size):
                del self._adapters[next(iter(self._adapters))]
        self._adapters[key] = adapter
        return adapter

    def _crowded(self, more_bytes: int) -> bool:
        kept = sum(size for _, _, size, _ in self._adapters)
        return len(self._adapters) >= ADAPTERS_KEPT or kept + more_bytes > ADAPTERS_KEPT_BYTES

    def encoders(self, family: str) -> Encoders | None:
        """Return the CLIP and DINO encoders of a base family, loaded on first use; None if they are not available."""
        if family not in self._encoders:
            try:
                with self._load_lock.exclusive():
                    self._encoders[family] = load_encoders(family)
            except (ValueError, OSError) as error:
                log.warning("Runs go unmeasured: %s", error)
                self._encoders[family] = None
        return self._encoders[family]

    @contextmanager
    def training(self, session: TrainingSession) -> Iterator[None]:
        """Register an injected adapter as the one in training for the duration of the block."""
        self.session = session
        self._bases[session.base.spec] = (
            session.base
        )  # it may have been evicted meanwhile by bases for pictures
        try:
            yield
        finally:
            self.session = None

    @contextmanager
    def aside(self, base: Base) -> Iterator[None]:
        """Remove the adapter in training from ``base`` for the duration of the block, then restore it exactly."""
        session = self.session
        inside = session is not None and session.base is base and session.adapter.base is not None
        with suspended(session.adapter) if inside and session is not None else nullcontext():
            yield

    def draw(
        self, base: Base, stack: list[tuple[Adapter, Strength]], config: SampleConfig, **watch: object
    ) -> Samples:
        """Generate pictures with a stack of adapters; ``watch`` is passed to the sampler: ``on_preview`` and ``stop``."""
        with self.aside(base):
            return sample(base, stack, config, **watch)  # type: ignore[arg-type]  # passed through


def usable(device: str | None) -> str | None:
    """Return the device name for torch: "cpu" for any "cpu:N"; None, torch's default, for CUDA if it is unavailable."""
    if device is not None and device.startswith("cpu"):
        return "cpu"
    return device if device is None or torch.cuda.is_available() else None
