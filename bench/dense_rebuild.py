"""Spectral shifts as svdiff-pytorch's layers compute them: the baseline of ``bench.svdiff``.

Every layer recomputes U @ diag(ReLU(σ + δ)) @ Vᵀ in every forward pass, with the diagonal as a dense matrix. The
weight of a norm is treated as one row, which has one singular value. Based on svdiff_pytorch/layers.py, adapted to
the current diffusers.
"""

from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.adapters.core import ParameterGroup, check_state
from pipelines.adapters.spectral import Spectral
from pipelines.adapters.svd_cache import Factors, Spectra, cache_folder, decompose
from pipelines.models.base import Base


def rebuilt(factors: Factors, delta: Tensor, like: Tensor) -> Tensor:
    """Return W_δ in the shape of ``like``, computed with two dense matrix products."""
    return (factors.left @ torch.diag(F.relu(factors.values + delta)) @ factors.right).view(like.shape)


def forward(layer: nn.Module, factors: Factors, delta: nn.Parameter, x: Tensor) -> Tensor:
    """Run a layer with its weight recomputed from the shifts."""
    weight = rebuilt(factors, delta, layer.get_parameter("weight"))
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight, layer.bias)
    if isinstance(layer, nn.Conv2d):
        return layer._conv_forward(x, weight, layer.bias)
    if isinstance(layer, nn.GroupNorm):
        return F.group_norm(x, layer.num_groups, weight, layer.bias, layer.eps)
    assert isinstance(layer, nn.LayerNorm)
    return F.layer_norm(x, layer.normalized_shape, weight, layer.bias, layer.eps)


class DenseRebuild:
    """A spectral-shift adapter for the UNet that computes like svdiff-pytorch; for benchmarks only."""

    kind = "dense rebuild"
    note = ""

    def __init__(self, *, subset: str = "UNet") -> None:
        self.subset = subset
        self.base: Base | None = None
        self.base_hash = ""
        self.shifts: dict[str, tuple[nn.Module, Callable[[Tensor], Tensor], nn.Parameter]] = {}

    @classmethod
    def from_header(cls, header: Mapping[str, str]) -> "DenseRebuild":
        """Build the adapter that :meth:`header` describes."""
        return cls(subset=header["subset"])

    def header(self) -> dict[str, str]:
        """Return the header that :meth:`from_header` reads."""
        return {"subset": self.subset}

    def inject(self, base: Base) -> "DenseRebuild":
        """Patch every layer of the subset so that its forward pass recomputes the weight."""
        spectra = Spectra(base, cache_folder())
        for key, weight in {} if self.shifts else Spectral(subset=self.subset).weights(base).items():
            layer = base.unet.get_submodule(key.removeprefix("unet."))
            found = spectra.factors(key, weight) if weight.dim() > 1 else decompose(weight[None])
            factors = found.on(weight.device)
            delta = nn.Parameter(torch.zeros_like(factors.values))
            self.shifts[key] = (layer, partial(forward, layer, factors, delta), delta)
        spectra.keep()
        for layer, own, _ in self.shifts.values():
            layer.__dict__["forward"] = own
        self.base, self.base_hash = base, base.hash
        return self

    def remove(self) -> None:
        """Restore every layer's original forward method."""
        for layer, _, _ in self.shifts.values():
            layer.__dict__.pop("forward")
        self.base = None

    def parameters(self) -> list[nn.Parameter]:
        """Return one vector of shifts per weight."""
        return [delta for _, _, delta in self.shifts.values()]

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return all shifts as one group."""
        return [ParameterGroup(self.parameters())]

    def materialise(self) -> None:
        """Do nothing: the weights are computed in the forward pass."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of the shifts."""
        return {key: delta.detach().clone() for key, (_, _, delta) in self.shifts.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load the shifts returned by :meth:`state_dict`."""
        check_state(state, {key: delta.shape for key, (_, _, delta) in self.shifts.items()})
        with torch.no_grad():
            for key, (_, _, delta) in self.shifts.items():
                delta.copy_(state[key])

    def changes(self, base: Base, scale: float = 1.0) -> list[tuple[str, Tensor]]:
        """Return (weight name, change) for every weight that changed."""
        assert self.shifts, "inject it first"
        found = []
        for key, (layer, own, delta) in self.shifts.items():
            weight = layer.get_parameter("weight").detach()
            assert isinstance(own, partial)
            found.append((f"{key}.weight", rebuilt(own.args[1], scale * delta.detach(), weight) - weight))
        return found
