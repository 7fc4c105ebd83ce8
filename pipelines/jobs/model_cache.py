"""The models loaded on one device: bases, adapters, the encoders that measure, and the adapter in training.

Only the worker's thread uses it, so nothing needs a lock.
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

BASES_KEPT = 2  # a run's own base and the one of a picture asked for meanwhile
ADAPTERS_KEPT = 3
ADAPTERS_KEPT_BYTES = 2 * 2**30  # in their files; fully trained models are large


@dataclass
class TrainingSession:
    """The run that trains right now. ``step`` is its last finished update."""

    run_id: str
    base: Base
    adapter: Adapter
    step: Step | None = None


class ModelCache:
    """Loaded bases, adapters and encoders; the least recently used are dropped."""

    def __init__(self, device: str | None = None, *, load_lock: LoadLock | None = None) -> None:
        """``device``: "cpu", "cuda:1", ... (default: CUDA where there is one); ``load_lock`` is shared by all of them."""
        self.device = device
        self.session: TrainingSession | None = None
        self._load_lock = load_lock if load_lock is not None else LoadLock()
        self._bases: dict[str, Base] = {}
        self._most_threads = torch.get_num_threads()
        self._threads: dict[str, int] = {}  # by base
        self._adapters: dict[tuple[Path, int, int, str], Adapter] = {}
        self._encoders: dict[str, Encoders | None] = {}

    def base(self, spec: str) -> Base:
        """Return a base, loaded on first use. ValueError when it cannot be one."""
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
        """Return the adapter in a file, not live; the live one of a base in training is put aside while loading."""
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
        """Return the measuring instruments of a base family, loaded on first use; None when they are not here."""
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
        """Mark an injected adapter as the one that learns, for the length of the block."""
        self.session = session
        self._bases[session.base.spec] = session.base  # pictures meanwhile may have crowded it out
        try:
            yield
        finally:
            self.session = None

    @contextmanager
    def aside(self, base: Base) -> Iterator[None]:
        """Take the learning adapter out of ``base`` for the length of the block, and put it back exactly."""
        session = self.session
        inside = session is not None and session.base is base and session.adapter.base is not None
        with suspended(session.adapter) if inside and session is not None else nullcontext():
            yield

    def draw(
        self, base: Base, stack: list[tuple[Adapter, Strength]], config: SampleConfig, **watch: object
    ) -> Samples:
        """Draw pictures with a stack of adapters; ``watch`` is the sampler's ``on_preview`` and ``stop``."""
        with self.aside(base):
            return sample(base, stack, config, **watch)  # type: ignore[arg-type]  # passed through


def usable(device: str | None) -> str | None:
    """Return the device as torch takes it: any "cpu:N" is the one processor, CUDA without a driver is left to torch."""
    if device is not None and device.startswith("cpu"):
        return "cpu"
    return device if device is None or torch.cuda.is_available() else None
