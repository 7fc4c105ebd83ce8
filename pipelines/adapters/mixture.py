"""Two adapters of one kind in changeable proportions; only layers whose proportions changed are computed again.

One formula covers the combinations of SVDiff (Han et al. 2023, sec. 3.3): addition, interpolation, and style mixing by
layers. For spectral shifts ΔW = U diag(ReLU(σ + g δ₁ + h δ₂) − σ) Vᵀ, for a LoRA ΔW = g s₁B₁A₁ + h s₂B₂A₂.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pipelines.adapters.core import Adapter, injected
from pipelines.adapters.lora import LoRA
from pipelines.adapters.spectral import Spectral
from pipelines.config import MixConfig
from pipelines.unet_blocks import Strength

if TYPE_CHECKING:
    from pipelines.models.base import Base

KEPT_BYTES = (
    2**29
)  # computed changes are kept up to this size: all of the embedded base's, none of SD 1.x's UNet


class Mixture:
    """Two adapters on one base; ``set`` changes their proportions. Merged like an adapter, never trained."""

    base: None = None

    def __init__(self, first: Adapter, second: Adapter, base: "Base") -> None:
        self.pair = (first, second)
        self.parts: SpectralParts | LoRAParts
        if isinstance(first, Spectral) and isinstance(second, Spectral):
            self.parts = SpectralParts(first, second, base)
        elif isinstance(first, LoRA) and isinstance(second, LoRA):
            self.parts = LoRAParts(first, second)
        else:
            raise ValueError("A mix takes two runs of SVDiff or two LoRAs; choose two runs of one kind.")
        self.mix = MixConfig()
        self.computed = 0  # layers, since it was made
        self._made: dict[str, tuple[tuple[float, float], Tensor]] = {}

    def set(self, mix: MixConfig) -> None:
        """Use other proportions from now on."""
        self.mix = mix

    @torch.no_grad()
    def changes(self, base: "Base", scale: Strength = 1.0) -> Iterator[tuple[str, Tensor]]:
        """Yield ("unet.<module>.weight", ΔW); layers that get nothing of either run are left out."""
        kept = sum(4 * change.numel() for _, change in self._made.values())
        for key in self.parts.keys:
            weights = self.mix.at(key)
            if not any(weights):
                continue
            known = self._made.get(key)
            if known is None or known[0] != weights:
                self.computed += 1
                known = (weights, self.parts.change(base, key, *weights))
                kept += 4 * known[1].numel() if key not in self._made else 0
                if kept <= KEPT_BYTES:
                    self._made[key] = known
                else:
                    self._made.pop(key, None)
            yield f"{key}.weight", known[1].clone()

    def whole(self, base: "Base") -> Adapter:
        """Return one adapter that changes the base as the mix does; not injected."""
        weights = {key: self.mix.at(key) for key in self.parts.keys}
        return self.parts.whole(base, weights)


class SpectralParts:
    """The shifts of two runs, and an adapter that holds their sum."""

    def __init__(self, first: Spectral, second: Spectral, base: "Base") -> None:
        subsets = {first.subset, second.subset}
        self.holder = Spectral(
            subset=subsets.pop() if len(subsets) == 1 else "UNet",
            text_encoder=first.text_encoder or second.text_encoder,
        )
        with injected(self.holder, base):
            self.keys = list(self.holder.shifts)
        self.states = (first.state_dict(), second.state_dict())

    def _delta(self, key: str, weights: tuple[float, float]) -> Tensor:
        """Return g δ₁ + h δ₂ for one weight; missing and truncated shifts are zeros."""
        total = torch.zeros_like(self.holder.shifts[key].parameter)
        for state, weight in zip(self.states, weights, strict=True):
            if (delta := state.get(f"{key}.delta")) is not None:
                total[: len(delta)] += weight * delta.to(total.device)
        return total

    def change(self, base: "Base", key: str, first: float, second: float) -> Tensor:
        """Return ΔW of one layer."""
        self.holder.shifts[key].parameter.data = self._delta(key, (first, second))
        return self.holder.change(base, key)

    def whole(self, base: "Base", weights: dict[str, tuple[float, float]]) -> Spectral:
        """Return spectral shifts that hold the sum."""
        made = Spectral(subset=self.holder.subset, text_encoder=self.holder.text_encoder)
        with injected(made, base):
            made.load_state_dict(
                {f"{key}.delta": self._delta(key, each).cpu() for key, each in weights.items()}
            )
        return made


class LoRAParts:
    """The factors of two LoRAs, with the scale folded into B."""

    def __init__(self, first: LoRA, second: LoRA) -> None:
        self.factors = [_folded(lora) for lora in (first, second)]
        self.keys = sorted({*self.factors[0], *self.factors[1]})

    def change(self, base: "Base", key: str, first: float, second: float) -> Tensor:
        """Return ΔW of one layer."""
        total: Tensor | None = None
        for factors, weight in zip(self.factors, (first, second), strict=True):
            if key in factors:
                down, up = factors[key]
                part = weight * (up.flatten(1) @ down.flatten(1)).view(up.shape[0], *down.shape[1:])
                total = part if total is None else total + part
        assert total is not None, "every key belongs to one of the two"
        return total.to(base.device)

    def whole(self, base: "Base", weights: dict[str, tuple[float, float]]) -> LoRA:
        """Return a LoRA whose rank at each layer is the sum of both: [gB₁ hB₂] [A₁; A₂]."""
        state: dict[str, Tensor] = {}
        for key, each in weights.items():
            pairs = [
                (*factors[key], weight)
                for factors, weight in zip(self.factors, each, strict=True)
                if key in factors
            ]
            state[f"{key}.lora_A.weight"] = torch.cat([down for down, _, _ in pairs])
            state[f"{key}.lora_B.weight"] = torch.cat([weight * up for _, up, weight in pairs], dim=1)
        made = LoRA(ranks={key: len(state[f"{key}.lora_A.weight"]) for key in weights})
        with injected(made, base):
            made.load_state_dict(state)
        return made


def _folded(lora: LoRA) -> dict[str, tuple[Tensor, Tensor]]:
    """Return {"unet.<module>": (A, s·B)}."""
    factors, scales = lora.factors(), lora.scales()
    return {
        key: (factors[f"{key}.lora_A.weight"], scale * factors[f"{key}.lora_B.weight"])
        for key, scale in scales.items()
    }
