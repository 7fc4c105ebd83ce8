"""Shared by all training stages: learning-rate schedule, weight averaging, resumable checkpoints, logging."""

import logging
import math
import os
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from recipes.parallel import members, rank

logger = logging.getLogger(__name__)


def learning_rate(step: int, *, peak: float, total: int, warmup: int = 300, decay_from: float = 0.5) -> float:
    """Linear warm-up, constant until the fraction ``decay_from`` of all steps, then cosine decay to 2 % of ``peak``."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = max(step / max(total, 1) - decay_from, 0.0) / (1.0 - decay_from)
    return peak * (0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0))))


class MovingAverage:
    """Exponential moving average of parameters; its decay is lower at first, so that initial weights fade quickly."""

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float) -> None:
        self.parameters = list(parameters)
        self.decay = decay
        self.shadow = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.shadow, [p.detach() for p in self.parameters], 1.0 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Swap the averaged and the current values (a second call undoes it)."""
        for shadow, parameter in zip(self.shadow, self.parameters, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(shadow)
            shadow.copy_(kept)


class Checkpoint:
    """One file with everything a stage needs to resume: modules, optimizer, average, step."""

    def __init__(
        self, path: Path, *, modules: dict[str, nn.Module], optimizer, average: MovingAverage | None
    ) -> None:
        self.path, self.modules, self.optimizer, self.average = path, modules, optimizer, average

    def save(self, step: int) -> None:
        """Write the file atomically; only rank 0 of parallel processes writes it."""
        if rank() != 0:
            return
        state = {
            "step": step,
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.shadow if self.average else None,
        }
        temporary = self.path.with_suffix(".tmp")
        torch.save(state, temporary)
        os.replace(temporary, self.path)

    def load(self) -> int:
        """Restore everything and return the next step; return 0 if there is no checkpoint."""
        if not self.path.exists():
            return 0
        state = torch.load(self.path, weights_only=True)
        for name, module in self.modules.items():
            module.load_state_dict(state["modules"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average:
            self.average.shadow = list(state["average"])
        logger.info("%s: resumed at step %d", self.path.stem, state["step"])
        return state["step"]


class Log:
    """Prints one line every ``every`` steps: smoothed values and speed."""

    def __init__(self, name: str, *, total: int, every: int = 50) -> None:
        self.name, self.total, self.every = name, total, every
        self.smooth: dict[str, float] = {}
        self.started, self.pictures = time.monotonic(), 0

    def __call__(self, step: int, *, pictures: int, **values: float) -> None:
        if rank() != 0:
            return
        self.pictures += pictures * members()
        for key, value in values.items():
            self.smooth[key] = 0.97 * self.smooth.get(key, value) + 0.03 * value
        if step % self.every == 0:
            speed = self.pictures / (time.monotonic() - self.started)
            terms = "  ".join(f"{key} {value:.4f}" for key, value in self.smooth.items())
            logger.info("%s %d/%d  %s  %.0f pictures/s", self.name, step, self.total, terms, speed)
            self.started, self.pictures = time.monotonic(), 0
