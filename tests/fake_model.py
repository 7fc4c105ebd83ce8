"""A base with a fake UNet that returns at once, so that runs and pictures take little time. Everything else is real.

The UI tests use it with the real Studio, queue, training loop, losses, adapters, files, events, encoders and sampler.
Only the content of the pictures and the duration of a step are simulated.
"""

import time
from typing import Any

import torch
from torch import Tensor

from pipelines.adapters.spectral import token_count
from pipelines.jobs.model_cache import ModelCache
from pipelines.models.base import Base

LOOK_S = 0.01  # seconds between two reads of ``step_s``, so that a test can end a long step


class FakeModelCache(ModelCache):
    """A model cache whose bases have real weights but a fake forward pass of the UNet."""

    def __init__(self) -> None:
        super().__init__("cpu")
        self.step_s = 0.0  # the minimum duration of a training step, in seconds
        self.fail_at = 0  # the step (from 1) at which the loss becomes NaN; 0: never
        self.fail_kind = ""  # the adapter kind whose runs fail; "": any
        self._usual: dict[str, dict[str, Any]] = {}  # the attention processors of each base

    def base(self, spec: str) -> Base:
        """Return a base, loaded on first use."""
        base = super().base(spec)
        usual = self._usual.setdefault(base.hash, dict(base.unet.attn_processors))

        def forward(sample: Tensor, timestep: Any, encoder_hidden_states: Tensor, **_: Any) -> tuple[Tensor]:
            _record(base, encoder_hidden_states, usual)
            shown = sample / 2 + encoder_hidden_states.mean((1, 2))[:, None, None, None]
            return (shown + (self._learned() if torch.is_grad_enabled() else _fingerprint(base)),)

        base.unet.forward = forward
        return base

    def _learned(self) -> Tensor:
        """Wait for ``step_s``, then return a number that depends on an eighth of the trained tensors."""
        began, session = time.monotonic(), self.session
        assert session is not None
        while time.monotonic() - began < self.step_s:
            time.sleep(LOOK_S)
        step = session.step.index if session.step else 0
        if step + 1 == self.fail_at and self.fail_kind in ("", session.adapter.kind):
            return session.adapter.parameters()[0].mean() * torch.nan
        return torch.stack([parameter.mean() for parameter in session.adapter.parameters()[::8]]).sum()


def _record(base: Base, contexts: Tensor, usual: dict[str, Any]) -> None:
    """Run the cross-attention layers whose processor was replaced, on zeros, so that their maps are recorded."""
    for name, processor in base.unet.attn_processors.items():
        if processor is not usual[name]:
            layer = base.unet.get_submodule(name.removesuffix(".processor"))
            places = token_count(f"unet.{name}", base)
            layer(torch.zeros(len(contexts), places, layer.query_dim), encoder_hidden_states=contexts)


def _fingerprint(base: Base) -> Tensor:
    """Return a number that depends on the attention weights, so that an adapter changes the picture."""
    layers = ("attn2.to_q", "attn2.to_out.0")
    names = tuple(
        f"{each}{part}.weight" for each in layers for part in ("", ".base_layer")
    )  # wrapped by a LoRA
    return torch.stack(
        [each.sum() for name, each in base.unet.named_parameters() if name.endswith(names)]
    ).sum()
