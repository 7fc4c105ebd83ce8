"""Cross-attention maps of a prompt's words in a finished picture, at a moderate noise level, as overlays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from pipelines.adapters.core import Adapter, merged
from pipelines.data.photographs import to_tensor
from pipelines.models.tokens import positions
from pipelines.training.attention import cross_attention_layers, recorded_attention
from pipelines.training.losses import add_noise

if TYPE_CHECKING:
    from pipelines.models.base import Base

TIMESTEPS = (250, 500)
SMALLEST = 4  # layers with a side more than 4 times smaller than the latents' are too coarse
GLOW = np.array([255.0, 96.0, 32.0])


@torch.no_grad()
def overlays(
    base: Base,
    stack: Sequence[tuple[Adapter, float]],
    picture: Image.Image,
    *,
    prompt: str,
    words: Sequence[str],
    layers: Sequence[str] = (),
) -> list[Image.Image]:
    """Return one copy of the picture for each of ``words``, dimmed where the attention to its tokens is low.

    Noise is added to the picture (timesteps 250 and 500 of 1000, seed 0), followed by one forward pass of the UNet with
    the adapters of ``stack``. The maps are averaged over timesteps, heads and ``layers`` (default: all cross-attention
    layers that are fine enough). Raises ValueError for words that the prompt does not contain.
    """
    layers = layers or cross_attention_layers(base.unet)
    with merged(base, list(stack)):
        places = [positions(base.tokenizer, prompt, each, context=base.context) for each in words]
        context = base.encode_prompts([prompt]).expand(len(TIMESTEPS), -1, -1)
        latents = base.encode_images(to_tensor([picture])).mean * base.scaling_factor
        times = torch.tensor(TIMESTEPS)
        noise = torch.randn(len(TIMESTEPS), *latents.shape[1:], generator=torch.Generator().manual_seed(0))
        noisy = add_noise(latents, noise, base.alphas_cumprod[times])
        with recorded_attention(base.unet, layers) as attention:
            base.unet(noisy.to(base.device, base.dtype), times.to(base.device), context, return_dict=False)
    side = latents.shape[-1]
    fine = [looks.mean(dim=(0, 1)).cpu() for looks in attention.values()]
    fine = [looks for looks in fine if len(looks) * SMALLEST**2 >= side**2]
    maps = [_joined([looks[:, tokens].sum(dim=1) for looks in fine], side=side) for tokens in places]
    return [_over(picture, each) for each in maps]


def _joined(maps: Sequence[torch.Tensor], *, side: int) -> torch.Tensor:
    """Return the mean of flat maps of several sizes as one map (side, side), scaled to [0, 1]."""
    squares = [each.view(1, 1, round(len(each) ** 0.5), -1) / each.mean() for each in maps]
    grown = [F.interpolate(each, size=(side, side), mode="bilinear")[0, 0] for each in squares]
    mean = torch.stack(grown).mean(dim=0)
    return (mean - mean.min()) / (mean.max() - mean.min()).clamp(min=1e-8)


def _over(picture: Image.Image, attended: torch.Tensor) -> Image.Image:
    strength = Image.fromarray((attended.numpy() * 255).astype(np.uint8)).resize(
        picture.size, Image.Resampling.BICUBIC
    )
    share = np.asarray(strength, dtype=np.float64)[..., None] / 255
    pixels = np.asarray(picture.convert("RGB"), dtype=np.float64)
    shown = pixels * (0.35 + 0.5 * share) + GLOW * 0.25 * share
    return Image.fromarray(shown.clip(0, 255).astype(np.uint8))
