"""Photographs in, pictures out: the only place where pixel ranges change (PIL 0..255 <-> float32 [-1, 1])."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

if TYPE_CHECKING:
    pass


@dataclass
class Moments:
    """What the VAE says about N pictures: a Gaussian per latent cell, float32 on the CPU, not yet scaled."""

    mean: torch.Tensor  # (N, 4, h, w)
    logvar: torch.Tensor  # (N, 4, h, w)

    def __len__(self) -> int:
        return len(self.mean)

    def sample(self, generator: torch.Generator, indices: Sequence[int] | torch.Tensor) -> torch.Tensor:
        """Draw latents (B, 4, h, w) of the pictures ``indices``, unscaled; ``generator`` lives on the CPU."""
        chosen = torch.as_tensor(indices, dtype=torch.long)
        mean = self.mean[chosen]
        noise = torch.randn(mean.shape, generator=generator)
        return mean + torch.exp(0.5 * self.logvar[chosen]) * noise


def to_tensor(images: Sequence[Image.Image]) -> torch.Tensor:
    """Return RGB pictures of one size as float32 (B, 3, H, W) in [-1, 1]."""
    arrays = np.stack([np.asarray(image.convert("RGB"), dtype=np.float32) for image in images])
    return torch.from_numpy(arrays).permute(0, 3, 1, 2).contiguous() / 127.5 - 1.0


def to_images(pixels: torch.Tensor) -> list[Image.Image]:
    """Return (B, 3, H, W) in [-1, 1] as RGB pictures; values outside are clipped."""
    levels = ((pixels.detach().float().cpu().clamp(-1.0, 1.0) + 1.0) * 127.5).round().to(torch.uint8)
    return [Image.fromarray(picture) for picture in levels.permute(0, 2, 3, 1).contiguous().numpy()]
