"""Muon (Jordan 2024, kellerjordan.github.io/posts/muon): momentum whose update of a matrix is orthogonalised.

``torch.optim.Muon`` takes matrices only and one at a time; here convolution kernels count as matrices, and matrices of
one shape are computed together.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

COEFFICIENTS = 3.4445, -4.7750, 2.0315
ITERATIONS = 5
UPDATE_RMS = 0.2  # AdamW's typical root mean square of an update (Liu et al. 2025, 2502.16982), so learning rates agree


def orthogonalise(matrices: torch.Tensor) -> torch.Tensor:
    """Return (N, R, C) matrices with the same singular vectors and singular values near 1, in bfloat16
    (Newton-Schulz iteration).
    """
    states = matrices.to(torch.bfloat16)
    tall = states.shape[1] > states.shape[2]
    states = states.mT if tall else states
    states = states / (torch.linalg.matrix_norm(states.float(), keepdim=True) + 1e-7).to(states.dtype)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = states @ states.mT
        states = torch.baddbmm(states, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), states, beta=a)
    return states.mT if tall else states


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised and scaled to AdamW's usual size, with decoupled weight decay.

    Every parameter has at least two dimensions; all but the first are flattened.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            same_shape = defaultdict(list)
            for parameter in group["params"]:
                same_shape[parameter.shape].append(parameter)
            for parameters in same_shape.values():
                self._update(parameters, group)

    def _update(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        for parameter in parameters:
            self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
        gradients = [parameter.grad for parameter in parameters]
        momenta = [self.state[parameter]["momentum"] for parameter in parameters]
        torch._foreach_lerp_(momenta, gradients, 1.0 - group["momentum"])
        ahead = torch.stack(torch._foreach_lerp(gradients, momenta, group["momentum"])).flatten(2)
        size = UPDATE_RMS * max(ahead.shape[1:]) ** 0.5
        updates = orthogonalise(ahead).float().view(-1, *parameters[0].shape)
        torch._foreach_mul_(parameters, 1.0 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, list(updates.unbind()), alpha=-group["lr"] * size)


class MuonWithAdamW:
    """Muon for the matrices of a UNet, AdamW for all else (first and last layer, norms, biases, text encoder).

    ``rate``: learning rate of both, Muon's multiplied by ``MUON_FACTOR``. Measured from one checkpoint over 500 steps
    of 64 pictures: the held-out loss of the averaged weights fell by 0.0029 (AdamW alone: 0.0020), for 7 % more time.
    """

    MUON_FACTOR = 2.0

    def __init__(self, unet: nn.Module, others: Iterable[nn.Parameter], *, rate: float) -> None:
        named = list(unet.named_parameters())
        inner = [p for name, p in named if p.ndim >= 2 and not name.startswith(("conv_in", "conv_out"))]
        known = {id(parameter) for parameter in inner}
        rest = [*(p for _, p in named if id(p) not in known), *others]
        self.muon = Muon(inner, lr=rate * self.MUON_FACTOR)
        self.adamw = torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.99), weight_decay=1e-3, fused=True)

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of both."""
        for optimizer, factor in ((self.muon, self.MUON_FACTOR), (self.adamw, 1.0)):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor

    def step(self) -> None:
        """Update all parameters and forget their gradients."""
        for optimizer in (self.muon, self.adamw):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        return {"muon": self.muon.state_dict(), "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.muon.load_state_dict(state["muon"])
        self.adamw.load_state_dict(state["adamw"])
