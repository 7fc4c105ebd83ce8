"""Training in bfloat16 with float32 master weights, for CPUs with native bfloat16 support.

Measured on one core with AVX512-BF16, this UNet, 64 pictures per step: float32 50 pictures/s, autocast 40, plain
PyTorch bfloat16 40, with the two changes below 76; torch.compile 50. First, PyTorch's fused attention is slow in
bfloat16 on a CPU (31 of 76 ms of ten steps), so attention is computed with explicit matrix products. Second, group
normalisation computes in float32.
"""

import copy
import types

import torch
import torch.nn.functional as F
from torch import nn


class WrittenOutAttention:
    """A diffusers attention processor: two batched matrix products and a softmax, (B·heads, T, T) in memory."""

    def __call__(
        self, attn, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor | None = None, **_
    ) -> torch.Tensor:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = self._split(attn.to_q(hidden_states), attn.heads)
        key, value = (self._split(layer(context), attn.heads) for layer in (attn.to_k, attn.to_v))
        weights = torch.bmm(query * attn.scale, key.transpose(1, 2)).softmax(-1)
        mixed = torch.bmm(weights, value).unflatten(0, (-1, attn.heads)).transpose(1, 2).flatten(2)
        return attn.to_out[0](mixed)

    @staticmethod
    def _split(states: torch.Tensor, heads: int) -> torch.Tensor:
        """Reshape (B, T, heads·d) to (B·heads, T, d)."""
        return states.unflatten(-1, (heads, -1)).transpose(1, 2).flatten(0, 1)


def _float_group_norm(self: nn.GroupNorm, states: torch.Tensor) -> torch.Tensor:
    weight, bias = self.weight.float(), self.bias.float()
    return F.group_norm(states.float(), self.num_groups, weight, bias, self.eps).to(states.dtype)


def bfloat16_copy(module: nn.Module) -> nn.Module:
    """Return a copy that computes in bfloat16."""
    half = copy.deepcopy(module).to(torch.bfloat16)
    if hasattr(half, "set_attn_processor"):
        half.set_attn_processor(WrittenOutAttention())
    for part in half.modules():
        if isinstance(part, nn.GroupNorm):
            part.forward = types.MethodType(_float_group_norm, part)
    return half


class HalfCopies:
    """bfloat16 copies compute; their gradients update the float32 master weights, which are then copied back."""

    def __init__(self, **masters: nn.Module) -> None:
        self.copies = {name: bfloat16_copy(module) for name, module in masters.items()}
        self.masters = [p for module in masters.values() for p in module.parameters()]
        self.halves = [p for module in self.copies.values() for p in module.parameters()]

    @torch.no_grad()
    def pull_gradients(self) -> None:
        """Copy the gradients to the master weights."""
        for master, half in zip(self.masters, self.halves, strict=True):
            master.grad = None if half.grad is None else half.grad.float()
            half.grad = None

    @torch.no_grad()
    def push_values(self) -> None:
        """Copy the values of the master weights to the copies."""
        torch._foreach_copy_(self.halves, self.masters)
