"""Cross-attention maps of chosen layers, recorded during the forward pass and differentiable (for attention losses)."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

LEAST = 1e-12  # a token that no place attends to has no share anywhere, instead of 0 / 0


def cross_attention_layers(unet: nn.Module) -> list[str]:
    """Return the module names of the UNet's cross-attention layers."""
    return [name for name, _ in unet.named_modules() if name.endswith(".attn2")]


@contextmanager
def recorded_attention(unet: nn.Module, layers: Collection[str]) -> Iterator[dict[str, Tensor]]:
    """Record the attention maps of ``layers``: name -> softmax(QKᵀ/√d), (B, heads, places, T) float32, in the graph.

    Keep the context open until the backward pass is done: gradient checkpointing repeats the forward pass of the
    layers and needs the same operations. On exit, even after an exception, the original attention processors are
    restored. Without ``layers`` nothing is changed. Raises ValueError for a name that is not a cross-attention layer.
    """
    maps: dict[str, Tensor] = {}
    unknown = sorted(set(layers) - set(cross_attention_layers(unet))) if layers else []
    if unknown:
        raise ValueError(f"The UNet has no cross-attention layer {unknown[0]!r}; its layers end in '.attn2'.")
    found: dict[str, Any] = {name: unet.get_submodule(name) for name in layers}
    before = {name: layer.processor for name, layer in found.items()}
    try:
        for name, layer in found.items():
            layer.processor = _RecordingProcessor(name, maps)
        yield maps
    finally:
        for name, layer in found.items():
            layer.processor = before[name]


@dataclass(frozen=True)
class _RecordingProcessor:
    """The attention of a Stable Diffusion 1.x cross-attention layer as in diffusers, which also records its map."""

    name: str
    maps: dict[str, Tensor]

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, attention_mask: None = None
    ) -> Tensor:
        assert attention_mask is None, "Stable Diffusion 1.x masks no tokens"
        query, key, value = (
            projected.unflatten(-1, (attn.heads, -1)).transpose(1, 2)  # (B, heads, places or T, d)
            for projected in (
                attn.to_q(hidden_states),
                attn.to_k(encoder_hidden_states),
                attn.to_v(encoder_hidden_states),
            )
        )
        weights = (attn.scale * query.float() @ key.float().mT).softmax(-1)
        # If the name exists already, this is the second forward pass of gradient checkpointing. It only recomputes
        # activations for the backward pass; the loss has used the map of the first forward pass.
        self.maps.setdefault(self.name, weights)
        answer = (weights.to(value.dtype) @ value).transpose(1, 2).flatten(2)
        return attn.to_out[1](attn.to_out[0](answer))


def attention_in_regions(attention: Mapping[str, Tensor], regions: Tensor) -> tuple[Tensor, Tensor]:
    """Return (inside, whole): each token's attention within each region (B, R, T), and everywhere (B, T).

    The maps (B, heads, places, T) of square layers of any size are averaged over heads, places and layers; ``regions``
    (B, R, h, w) are 1 inside. inside / whole is the share of a token's attention in a region; it does not change if the
    attention decreases everywhere.
    """
    inside = whole = regions.new_zeros(())
    for looks in attention.values():
        mean = looks.mean(dim=1)  # (B, places, T)
        side = round(mean.shape[1] ** 0.5)
        cells = F.adaptive_avg_pool2d(regions, (side, side)).flatten(2)  # (B, R, places)
        inside = inside + cells @ mean / (side**2 * len(attention))
        whole = whole + mean.mean(dim=1) / len(attention)
    return inside, whole


def unmix_loss(attention: Mapping[str, Tensor], *, regions: Tensor, tokens: Tensor) -> Tensor:
    """mean over rows, subjects i and their tokens t of m², m = token t's share of mass in the other's region.

    The Unmix term of SVDiff (Han et al. 2023, section 3.3), computed on shares, so that lower attention everywhere does
    not reduce it. ``regions`` (B, 2, h, w) are 1 in the region of each subject, ``tokens`` (B, 2, T) are 1 at the words
    of each; rows without tokens are ignored.
    """
    inside, whole = attention_in_regions(attention, regions)
    astray = (inside / whole.unsqueeze(1).clamp(min=LEAST)).flip(1)  # (B, 2, T): in the other's region
    counted = tokens.sum(dim=(1, 2))
    penalties = (astray.square() * tokens).sum(dim=(1, 2)) / counted.clamp(min=1)
    return penalties.sum() / (counted > 0).sum().clamp(min=1)
