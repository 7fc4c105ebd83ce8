"""A base whose UNet answers at once, so that runs and pictures take little time; everything around it is real.

The tests of the page use it. The Studio, the queue, the training loop, losses, adapters, files, events, encoders and
the sampler are the real ones. Only what the pictures show, and how long a step takes, is made up.
"""

import time
from typing import Any

import torch
from torch import Tensor

from pipelines.jobs.model_cache import ModelCache
from pipelines.models.base import Base

LOOK_S = 0.01  # seconds between two looks at ``step_s``, so that a test can end a long step


class FakeModelCache(ModelCache):
    """A model cache whose bases have their real weights and a pretended forward pass of the UNet."""

    def __init__(self) -> None:
        super().__init__("cpu")
        self.step_s = 0.0  # the least seconds of a training step
        self.fail_at = 0  # the step (from 1) at which the loss of a run is not a number; 0: never
        self.fail_kind = ""  # of adapters that fail; "": any

    def base(self, spec: str) -> Base:
        """Return a base, loaded on first use."""
        base = super().base(spec)

        def forward(sample: Tensor, timestep: Any, encoder_hidden_states: Tensor, **_: Any) -> tuple[Tensor]:
            shown = sample / 2 + encoder_hidden_states.mean((1, 2))[:, None, None, None]
            return (shown + (self._learned() if torch.is_grad_enabled() else _fingerprint(base)),)

        base.unet.forward = forward
        return base

    def _learned(self) -> Tensor:
        """Return a number that depends on an eighth of the trained tensors, after the time that a step takes."""
        began, session = time.monotonic(), self.session
        assert session is not None
        while time.monotonic() - began < self.step_s:
            time.sleep(LOOK_S)
        step = session.step.index if session.step else 0
        if step + 1 == self.fail_at and self.fail_kind in ("", session.adapter.kind):
            return session.adapter.parameters()[0].mean() * torch.nan
        return torch.stack([parameter.mean() for parameter in session.adapter.parameters()[::8]]).sum()


def _fingerprint(base: Base) -> Tensor:
    """Return a number that changes with the attention weights, so that an adapter can be seen in a picture."""
    names = ("attn2.to_q.weight", "attn2.to_out.0.weight")
    return torch.stack(
        [each.sum() for name, each in base.unet.named_parameters() if name.endswith(names)]
    ).sum()
