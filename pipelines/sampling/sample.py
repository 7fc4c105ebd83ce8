"""The sampler: generates pictures from adapters, a prompt and a seed with the pipeline and schedulers of diffusers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image

from pipelines.adapters.core import Adapter, merged
from pipelines.config import SampleConfig
from pipelines.data.photographs import to_images
from pipelines.models.base import Base
from pipelines.unet_blocks import Strength

Preview = Callable[[int, int, list[Image.Image]], None]  # (step, total, small pictures)
PICTURES_AT_ONCE = 4  # on a GPU


@dataclass(frozen=True)
class Samples:
    """Generated pictures and their settings; picture i has the seed ``config.seed + i``."""

    images: list[Image.Image]
    config: SampleConfig  # with the size that was used
    seconds: float
    interrupted: bool  # if True, ``images`` has only the finished pictures
    notes: tuple[str, ...] = ()  # sentences for the user, such as words that did not fit


@torch.no_grad()
def sample(
    base: Base,
    stack: Sequence[tuple[Adapter, Strength]],
    config: SampleConfig,
    *,
    on_preview: Preview | None = None,
    stop: Callable[[], bool] | None = None,
) -> Samples:
    """Generate ``config.count`` pictures with the adapters of ``stack``; the base is restored afterwards.

    A strength applies to the whole adapter or to each block position. On a CPU, pictures are generated one by one, so
    that picture i is bit-exact for any ``count``. After every denoising step ``on_preview`` is called, with the steps
    of all batches counted together, and ``stop`` is checked. Raises ValueError if float16 overflows.
    """
    started = time.perf_counter()
    used = replace(config, size_px=config.size_px or base.size_px)
    at_once = 1 if base.device.type == "cpu" else PICTURES_AT_ONCE
    seeds = range(used.seed, used.seed + used.count)
    batches = [seeds[first : first + at_once] for first in range(0, used.count, at_once)]
    images: list[Image.Image] = []
    with merged(base, list(stack)):
        prompts = base.encode_prompts([used.prompt, used.negative_prompt])
        for index, batch in enumerate(batches):
            preview = _shifted(on_preview, before=index * used.steps, total=len(batches) * used.steps)
            latents = denoise(base, used, prompts=prompts, seeds=batch, on_preview=preview, stop=stop)
            if latents is None:
                break
            images += [decoded(base, one) for one in latents.split(1)]
    return Samples(
        images=images,
        config=used,
        seconds=time.perf_counter() - started,
        interrupted=len(images) < used.count,
        notes=cut_words(base, used),
    )


def cut_words(base: Base, config: SampleConfig) -> tuple[str, ...]:
    """Return a sentence for each prompt that is longer than the text encoder's context."""
    prompts = {"The prompt": config.prompt, "The negative prompt": config.negative_prompt}
    room = base.context - 2
    return tuple(
        f"{name} is longer than the {room} tokens that this base model can read; ignored: {cut}."
        for name, text in prompts.items()
        if (cut := base.overflow(text))
    )


def denoise(
    base: Base,
    config: SampleConfig,
    *,
    prompts: torch.Tensor,
    seeds: Sequence[int],
    start: torch.Tensor | None = None,
    on_preview: Preview | None = None,
    stop: Callable[[], bool] | None = None,
) -> torch.Tensor | None:
    """Return scaled latents (B, 4, h, w), one per seed, or None after ``stop``. ``prompts``: (2, T, C).

    ``start`` is the noise to begin with, (B, 4, h, w) of unit variance; by default it is drawn from the seeds.
    """
    pipe: Any = base.pipeline(config.scheduler)
    interrupted = stop is not None and stop()

    def watch(pipeline: Any, step: int, _: int, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        nonlocal interrupted
        if on_preview is not None:
            on_preview(step + 1, config.steps, _previews(base, pipeline.scheduler, tensors["latents"]))
        if stop is not None and stop():
            interrupted = pipeline._interrupt = True
        return tensors

    if interrupted:
        return None
    latents = pipe(
        prompt_embeds=prompts[:1].expand(len(seeds), -1, -1),
        negative_prompt_embeds=prompts[1:].expand(len(seeds), -1, -1),
        num_inference_steps=config.steps,
        guidance_scale=config.guidance_scale,
        height=config.size_px,
        width=config.size_px,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        latents=start,
        output_type="latent",
        callback_on_step_end=watch,
    ).images
    return None if interrupted else latents


def decoded(base: Base, latents: torch.Tensor) -> Image.Image:
    """Decode latents (1, 4, h, w) to a picture. Raises ValueError if half precision overflowed."""
    pixels = base.decode(latents)
    if not pixels.isfinite().all():
        raise ValueError(f"{base.name} overflows in {base.dtype}; please load it in float32.")
    return to_images(pixels)[0]


def _previews(base: Base, scheduler: Any, latents: torch.Tensor) -> list[Image.Image]:
    """Return previews of intermediate latents at half the final size, without the VAE.

    Uses a multistep solver's latest estimate of the clean latents if there is one; otherwise the noisy latents, which
    are scaled to unit variance if the scheduler's sigmas exceed 1.
    """
    estimates = getattr(scheduler, "model_outputs", None)
    if estimates and estimates[-1] is not None:
        shown = estimates[-1]
    elif float(scheduler.init_noise_sigma) > 1.0:
        shown = latents / (scheduler.sigmas[scheduler.step_index].item() ** 2 + 1.0) ** 0.5
    else:
        shown = latents
    cells = torch.nn.functional.pad(shown.float().cpu().movedim(1, -1), (0, 1), value=1.0)  # (B, h, w, 5)
    pixels = (cells @ base.latent_colours).movedim(-1, 1)
    return to_images(
        torch.nn.functional.interpolate(pixels, scale_factor=base.vae_factor / 2, mode="bilinear")
    )


def _shifted(on_preview: Preview | None, *, before: int, total: int) -> Preview | None:
    """Return a preview callback that counts the steps of all batches together."""
    if on_preview is None:
        return None
    return lambda step, _, pictures: on_preview(before + step, total, pictures)
