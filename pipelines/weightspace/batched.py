"""Several LoRAs in one forward pass: each group of rows has its own factors over the shared, frozen base.

y = W x + s·B_g (A_g x) for the rows of identity g (Hu et al. 2021, eq. 3). A pass over G identities costs one pass of
the base over all their rows and a few batched matrix products, instead of G passes over few rows.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pipelines.adapters.core import own_forward
from pipelines.weightspace.index import Key

if TYPE_CHECKING:
    from pipelines.models.base import Base


class BatchedLoRA:
    """The weights θ (G, d) of G LoRAs with the same keys; rows g·b to (g + 1)·b of every input belong to identity g.

    θ is the one tensor for an optimizer: :meth:`collect` fills its gradient from the factors, :meth:`distribute` copies
    it to them. Factors, and the low-rank part of a layer, are in float32 for any dtype of the base, as in PEFT.
    """

    def __init__(self, theta: Tensor, keys: Sequence[Key], *, scale: float) -> None:
        self.theta = nn.Parameter(theta.detach().clone())
        self.scale = scale
        self._sizes = [key.size for key in keys]
        self._factors = {
            key.name: nn.Parameter(torch.empty(len(theta), *key.shape, device=theta.device)) for key in keys
        }
        self.distribute()

    @torch.no_grad()
    def distribute(self) -> None:
        """Copy θ to the factors and clear their gradients."""
        parts = self.theta.split(self._sizes, 1)
        factors: list[Tensor] = list(self._factors.values())
        torch._foreach_copy_(
            factors, [part.view_as(factor) for part, factor in zip(parts, factors, strict=True)]
        )
        for factor in factors:
            factor.grad = None

    @torch.no_grad()
    def collect(self) -> Tensor:
        """Set and return the gradient of θ, (G, d)."""
        grads = [
            torch.zeros_like(factor) if factor.grad is None else factor.grad
            for factor in self._factors.values()
        ]
        self.theta.grad = torch.cat([grad.flatten(1) for grad in grads], 1)
        return self.theta.grad

    @contextmanager
    def injected(self, base: "Base") -> Iterator[None]:
        """Apply the factors inside the block; afterwards the base has its own forward functions again."""
        changed: list[nn.Module] = []
        try:
            for name, down in self._factors.items():
                layer, is_down, _ = name.partition(".lora_A.")
                if not is_down:
                    continue
                up = self._factors[f"{layer}.lora_B.weight"]
                module = base.unet.get_submodule(layer.removeprefix("unet."))
                assert "forward" not in module.__dict__, f"{layer} has an adapter"
                forward = _conv_forward if isinstance(module, nn.Conv2d) else _linear_forward
                module.forward = partial(forward, module, down, up, self.scale)
                changed.append(module)
            yield
        finally:
            for module in changed:
                del module.__dict__["forward"]


def _linear_forward(layer: nn.Linear, down: Tensor, up: Tensor, scale: float, x: Tensor) -> Tensor:
    """Return (R, ..., out) for x (R, ..., in); ``down`` is (G, r, in) and ``up`` (G, out, r)."""
    answer = own_forward(layer, x)
    count = len(down)
    low = torch.bmm(x.reshape(count, -1, x.shape[-1]).to(down.dtype), down.mT)  # (G, n, r)
    whole = answer.reshape(count, -1, answer.shape[-1])
    return torch.baddbmm(whole.to(low.dtype), low, up.mT, alpha=scale).to(x.dtype).view(answer.shape)


def _conv_forward(layer: nn.Conv2d, down: Tensor, up: Tensor, scale: float, x: Tensor) -> Tensor:
    """Return (R, out, H', W') for x (R, in, H, W); ``down`` is (G, r, in, kh, kw) and ``up`` (G, out, r, 1, 1).

    The r channels of A x are few, so each tap of the kernel is a product over channels, and the taps are then shifted
    and added: this needs no grouped convolution, which is slow for few output channels.
    """
    answer = own_forward(layer, x)
    count, rank, _, *kernel = down.shape
    taps = (
        down.flip(-2, -1).permute(0, 1, 3, 4, 2).reshape(count, 1, -1, down.shape[2])
    )  # (G, 1, r·kh·kw, in)
    rows = x.reshape(count, -1, x.shape[1], x.shape[2] * x.shape[3])  # (G, b, in, H·W)
    low = torch.matmul(taps, rows.to(down.dtype)).flatten(0, 1)  # (R, r·kh·kw, H·W)
    if kernel != [1, 1]:
        low = nn.functional.fold(low, x.shape[-2:], (kernel[0], kernel[1]), padding=layer.padding)  # type: ignore[arg-type]
    else:
        low = low.view(len(x), rank, *x.shape[-2:])
    low = low[:, :, :: layer.stride[0], :: layer.stride[1]].flatten(2)  # (R, r, H'·W')
    wide = up.flatten(2).repeat_interleave(len(x) // count, 0)  # (R, out, r)
    return (
        torch.baddbmm(answer.flatten(2).to(low.dtype), wide, low, alpha=scale).to(x.dtype).view(answer.shape)
    )
