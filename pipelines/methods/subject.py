"""What every method that learns one subject shares: prompts, batches, loss terms and class images.

DreamBooth's objective (Ruiz et al. 2022, 2208.12242): the photographs under the rare word, and, beside them, pictures
of the class drawn by the untouched base, so that the class keeps its meaning.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pipelines.adapters.core import Adapter, read_tensors, save_tensors
from pipelines.config import ASSETS, PhotosConfig, PriorConfig, SampleConfig
from pipelines.data.photographs import Moments, to_tensor
from pipelines.data.subject import Subject
from pipelines.sampling.sample import PICTURES_AT_ONCE, sample
from pipelines.training.loop import Batch, Batches, Denoising
from pipelines.training.losses import cell_weights, min_snr_weights, prior_preservation_terms

if TYPE_CHECKING:
    from pipelines.models.base import Base

logger = logging.getLogger(__name__)

SHIPPED_CLASS_MOMENTS = ASSETS / "class_moments"
CLASS_SEED = (
    1_000_000  # class image i is drawn with this seed + i, whatever the run's seed, so that runs share them
)
CLASS_STEPS = 25
CLASS_SCHEDULER = "DPM++ 2M Karras"
CLASS_BATCH = PICTURES_AT_ONCE  # between two of them a run may be stopped, and others get their pictures


def photo_prompts(subject: Subject, config: PhotosConfig) -> list[str]:
    """Return one prompt per photo: its caption when the run uses captions and it has one."""
    captioned = config.use_captions or config.auto_captions or config.scenes > 0
    templates = [caption if captioned and caption else config.instance_prompt for caption in subject.captions]
    return [subject.words(template) for template in templates]


def batches(base: "Base", subjects: Sequence[Subject], config: PhotosConfig) -> Batches:
    """Return the batches of a run: photos first ("instance"), as many class images after them ("prior").

    Prompts are embedded once, unless the text encoder trains; then their token ids are kept.
    """
    (subject,) = subjects
    class_moments = subject.class_moments
    assert (class_moments is not None) == bool(config.class_images_needed), "they go with prior preservation"
    prompts = [*photo_prompts(subject, config), subject.words(config.class_prompt)]
    table = base.token_ids(prompts) if config.text_encoder_is_live else base.encode_prompts(prompts)
    count = config.batch_size * config.accumulation
    scaling = base.scaling_factor
    deck = subject.deck
    cells = cells_of(subject.masks, subject.moments, config)

    def draw(index: int, generator: torch.Generator) -> Batch:
        dealt = deal(len(deck), start=index * count, count=count, seed=config.seed)
        chosen = [deck[place] for place in dealt]
        latents = subject.moments.sample(generator, chosen)
        groups = {"instance": slice(0, count)}
        extra = {"cells": cells[chosen]} if cells is not None else {}
        if class_moments is not None:
            pictures = deal(len(class_moments), start=index * count, count=count, seed=config.seed + 1)
            latents = torch.cat([latents, class_moments.sample(generator, pictures)])
            chosen = [*chosen, *[len(prompts) - 1] * count]
            groups["prior"] = slice(count, 2 * count)
            extra = {name: torch.cat([rows, torch.ones_like(rows)]) for name, rows in extra.items()}
        return Batch(latents=latents * scaling, prompts=table[chosen], groups=groups, extra=extra)

    return draw


def cells_of(masks: Tensor | None, moments: Moments, config: PhotosConfig) -> Tensor | None:
    """Return the loss's weight of every latent cell of N pictures, (N, 1, h, w); None without masks (N, 1, H, W)."""
    if masks is None:
        return None
    height, width = moments.mean.shape[-2:]
    shares = torch.nn.functional.adaptive_avg_pool2d(masks, (height, width))
    return cell_weights(shares, config.background_weight)


def loss(denoising: Denoising, adapter: Adapter, config: PhotosConfig) -> dict[str, Tensor]:
    """Instance and prior term, each half with the Min-SNR weights of its own timesteps when they are on.

    Photos with masks weight their latent cells by them; class images count whole.
    """
    weights = None
    if config.snr_gamma:
        weights = min_snr_weights(denoising.alphas_cumprod, denoising.timesteps, config.snr_gamma)
    return prior_preservation_terms(
        denoising.noise_pred,
        denoising.noise,
        groups=denoising.groups,
        prior_weight=config.prior_weight if isinstance(config, PriorConfig) else 0.0,
        weights=weights,
        cells=denoising.extra.get("cells"),
    )


def deal(size: int, *, start: int, count: int, seed: int) -> list[int]:
    """Return ``count`` of ``size`` items, from position ``start`` of an endless row of shuffled decks.

    Every item comes once per deck, and the row needs no state: a resumed run deals on where it stopped.
    """
    chosen: list[int] = []
    while len(chosen) < count:
        deck, offset = divmod(start + len(chosen), size)
        generator = torch.Generator().manual_seed((seed * 1_000_003 + deck) % 2**63)
        order = torch.randperm(size, generator=generator).tolist()
        chosen += order[offset : offset + count - len(chosen)]
    return chosen


def prior_moments(
    base: "Base",
    config: PhotosConfig,
    cache_dir: Path,
    on_progress: Callable[[int, int], None] | None = None,
    *,
    prompt: str = "",
) -> Moments:
    """Return the VAE moments of the class images that ``config`` needs, drawn by the untouched base.

    ``prompt`` is what they are drawn with, "" the config's class prompt.

    They are looked up among the shipped ones and in ``cache_dir`` under everything that decides how they look;
    only what is missing is drawn, and kept after every few pictures. ``on_progress(done, total)`` is called before,
    between and after; an exception it raises stops the drawing and loses nothing.
    """
    key = _class_key(base, config, prompt=prompt or config.words(config.class_prompt))
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24] + ".safetensors"
    known = [_read_moments(folder / name) for folder in (SHIPPED_CLASS_MOMENTS, cache_dir)]
    stored = max((moments for moments in known if moments is not None), key=len, default=None)
    total = config.class_images_needed
    while (done := len(stored) if stored is not None else 0) < total:
        if on_progress is not None:
            on_progress(done, total)
        fresh = _draw_class(base, key, first=done, count=min(CLASS_BATCH, total - done))
        stored = fresh if stored is None else _joined(stored, fresh)
        cache_dir.mkdir(parents=True, exist_ok=True)
        halves = {"mean": stored.mean.half(), "logvar": stored.logvar.half()}
        save_tensors(cache_dir / name, halves, metadata={"key": json.dumps(key)})
    assert stored is not None
    if on_progress is not None:
        on_progress(total, total)
    return Moments(mean=stored.mean[:total], logvar=stored.logvar[:total])


def _class_key(base: "Base", config: PhotosConfig, *, prompt: str) -> dict[str, Any]:
    return {
        "base": base.hash,
        "prompt": prompt,
        "scheduler": CLASS_SCHEDULER,
        "steps": CLASS_STEPS,
        "guidance_scale": base.guidance_scale,
        "seed": CLASS_SEED,
        "size_px": config.size_px or base.size_px,
    }


def _draw_class(base: "Base", key: dict[str, Any], *, first: int, count: int) -> Moments:
    wanted = SampleConfig(
        prompt=key["prompt"],
        scheduler=key["scheduler"],
        steps=key["steps"],
        guidance_scale=key["guidance_scale"],
        seed=key["seed"] + first,
        count=count,
        size_px=key["size_px"],
    )
    moments = base.encode_images(to_tensor(sample(base, [], wanted).images))
    if not moments.mean.isfinite().all():
        raise ValueError(
            f"The VAE of {base.name} overflows on pictures of the class; load the base in float32."
        )
    # rounded as the file is, so that a run with fresh class images equals one that found them in the cache
    return Moments(mean=moments.mean.half().float(), logvar=moments.logvar.half().float())


def _joined(first: Moments, second: Moments) -> Moments:
    return Moments(mean=torch.cat([first.mean, second.mean]), logvar=torch.cat([first.logvar, second.logvar]))


def _read_moments(path: Path) -> Moments | None:
    """Return cached moments; a damaged file counts as absent, for it can be drawn again."""
    if not path.is_file():
        return None
    try:
        tensors, _ = read_tensors(path)
        return Moments(mean=tensors["mean"].float(), logvar=tensors["logvar"].float())
    except (ValueError, KeyError) as error:
        logger.warning("The class images in %s are drawn again: %s", path.name, error)
        return None
