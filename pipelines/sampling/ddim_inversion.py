"""DDIM inversion and the start of an edit: from a photograph's latents to noise, and between that noise and fresh noise.

SVDiff (Han et al. 2023, 2303.11305, sec. 3.5) starts an edit that keeps the structure of a photograph from its inverted
noise. Edits of the structure itself start from noise between that and fresh noise. The caller merges the adapters.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMInverseScheduler
from PIL import Image
from torch import Tensor

from pipelines.adapters.core import Adapter, merged
from pipelines.config import INVERTED_WITH, EditConfig, SampleConfig
from pipelines.data.photographs import encode
from pipelines.models.base import SCHEDULER_CLASSES, Base
from pipelines.sampling.sample import Preview, cut_words, decoded, denoise
from pipelines.unet_blocks import Strength

PARALLEL = (
    1e-4  # radians; below this angle, and as close to opposite, the spherical formula divides by about 0
)


@torch.no_grad()
def invert(base: Base, latents: Tensor, prompt: Tensor, *, steps: int) -> Tensor:
    """Return the noise z_T (B, 4, h, w), float32, from which DDIM with η = 0 and guidance 1 returns to the latents.

    x_{t+1} = √ᾱ_{t+1} x̂_0 + √(1 − ᾱ_{t+1}) ε_θ(x_t, t, c) with x̂_0 = (x_t − √(1 − ᾱ_t) ε_θ) / √ᾱ_t, over all
    ``steps`` timesteps of the sampler. ``latents`` are scaled, ``prompt`` is (1, T, C).
    """
    scheduler = inverse_scheduler(base)
    scheduler.set_timesteps(steps)
    found = latents.float()
    words = prompt.to(base.device, base.dtype).expand(len(latents), -1, -1)
    for timestep in scheduler.timesteps:
        noise = base.unet(found.to(base.device, base.dtype), timestep, words, return_dict=False)[0]
        found = scheduler.step(noise.float().cpu(), timestep, found, return_dict=False)[0]
    return found


def inverse_scheduler(base: Base) -> Any:
    """Return the inverse of the base's DDIM sampler: the same timesteps; the predicted x̂_0 is not clipped.

    ``DDIMInverseScheduler`` clips by default, which is wrong for latents, so the sampler's own options are passed.
    """
    _, options = SCHEDULER_CLASSES["DDIM"]
    return DDIMInverseScheduler.from_config(base.scheduler_config, timestep_spacing="leading", **options)


def slerp(start: Tensor, end: Tensor, share: float) -> Tensor:
    """sin((1 − a)φ)/sin φ · start + sin(aφ)/sin φ · end, with the angle φ between the two of each item (B, ...).

    Returns exactly ``start`` for a = 0 and exactly ``end`` for a = 1. For nearly parallel or opposite tensors, where
    sin φ vanishes and the formula is undefined, the interpolation is linear.
    """
    if share in (0.0, 1.0):
        return (end if share else start).clone()
    first, second = start.flatten(1).double(), end.flatten(1).double()
    cosine = torch.nn.functional.cosine_similarity(first, second, dim=1).clamp(-1, 1)
    angle = cosine.acos()[:, None]
    near = (angle < PARALLEL) | (angle > torch.pi - PARALLEL)
    sine = torch.where(near, 1.0, angle.sin())
    left = torch.where(near, 1.0 - share, ((1.0 - share) * angle).sin() / sine)
    right = torch.where(near, share, (share * angle).sin() / sine)
    return (left * first + right * second).view(start.shape).to(start.dtype)


@dataclass(frozen=True)
class Photograph:
    """A photograph as latents: (1, 4, h, w), scaled, float32 on the CPU; ``side_px`` is the picture's side."""

    latents: Tensor
    side_px: int


def photograph(base: Base, path: Path) -> Photograph:
    """Return a square picture file as latents: the mean of the VAE's Gaussian."""
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    moments = encode(base, {path.name: picture})
    return Photograph(moments.mean * base.scaling_factor, side_px=picture.width)


@dataclass(frozen=True)
class Edited:
    """An edited picture, the sampler's settings, and the inverted noise (1, 4, h, w) to reuse for the same prompt."""

    image: Image.Image
    settings: SampleConfig
    inverted: Tensor | None
    notes: tuple[str, ...] = ()


@torch.no_grad()
def edit(
    base: Base,
    stack: Sequence[tuple[Adapter, Strength]],
    photo: Photograph,
    config: EditConfig,
    *,
    caption: str = "",
    inverted: Tensor | None = None,
    on_preview: Preview | None = None,
    stop: Callable[[], bool] | None = None,
) -> Edited | None:
    """Edit a photograph with adapters; return None after ``stop``. The base is restored afterwards.

    The photograph is inverted with the edited caption, as in the paper, or with ``caption``, its own (or ``inverted`` is
    used), and sampled with guidance from noise between its own and fresh noise, ``config.change``. At 1 nothing is
    inverted: the picture is that of the sampler.
    """
    settings = SampleConfig(
        prompt=config.prompt,
        negative_prompt=config.negative_prompt,
        steps=config.steps,
        guidance_scale=config.guidance_scale,
        seed=config.seed,
        scheduler="DDIM",
        size_px=photo.side_px,
    )
    with merged(base, list(stack)):
        prompts = base.encode_prompts([config.prompt, config.negative_prompt, caption])
        if inverted is None and config.change < 1.0:
            own = config.inverted_with == INVERTED_WITH[1]
            inverted = invert(base, photo.latents, prompts[2:] if own else prompts[:1], steps=config.steps)
        start = fresh_noise(photo.latents.shape, seed=config.seed)
        if inverted is not None:
            start = slerp(inverted, start, config.change)
        latents = denoise(
            base,
            settings,
            prompts=prompts[:2],
            seeds=[config.seed],
            start=start.to(base.device, base.dtype),
            on_preview=on_preview,
            stop=stop,
        )
        image = decoded(base, latents) if latents is not None else None
    return Edited(image, settings, inverted, cut_words(base, settings)) if image is not None else None


def fresh_noise(shape: Sequence[int], *, seed: int) -> Tensor:
    """Return the noise that the sampler draws for a seed, (1, 4, h, w) float32 on the CPU."""
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed))
