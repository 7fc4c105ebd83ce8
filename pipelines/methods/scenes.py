"""Backgrounds for composites: pictures of scenes without the subject, drawn by the untouched base and kept."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pipelines.config import ASSETS, PhotosConfig, SampleConfig
from pipelines.data.composites import composite
from pipelines.files import write_atomic
from pipelines.sampling.sample import sample

if TYPE_CHECKING:
    from pipelines.models.base import Base

SHIPPED_SCENES = ASSETS / "scenes"
PER_PROMPT = 2  # pictures of each scene
SEED = 2_000_000  # picture i of a scene is drawn with this seed + i, so that runs share them
STEPS = 20

Scene = tuple[str, Image.Image]  # its prompt, "on the beach", and the picture


def scene_pictures(
    base: "Base", config: PhotosConfig, cache_dir: Path, on_progress: Callable[[int, int], None]
) -> list[Scene]:
    """Return ``PER_PROMPT`` pictures of each of the config's scenes, of the training size.

    They are looked up among the shipped ones and in ``cache_dir`` under everything that decides how they look, and
    drawn where they are missing. ``on_progress(done, total)`` may raise to stop between two of them.
    """
    wanted = [(prompt, index) for prompt in config.scene_prompts for index in range(PER_PROMPT)]
    found = []
    for done, (prompt, index) in enumerate(wanted):
        name = _file_name(base, prompt, index=index, size_px=config.size_px)
        path = next(
            (folder / name for folder in (SHIPPED_SCENES, cache_dir) if (folder / name).is_file()), None
        )
        if path is None:
            on_progress(done, len(wanted))
            path = cache_dir / name
            _draw(base, prompt, path, index=index, size_px=config.size_px)
        with Image.open(path) as picture:
            found.append((prompt, picture.convert("RGB")))
    return found


def composites(
    photos: Sequence[Image.Image], masks: Sequence[Image.Image], scenes: Sequence[Scene], config: PhotosConfig
) -> list[tuple[Image.Image, Image.Image, str]]:
    """Return ``config.scenes`` composites of each photo: (picture, mask, caption template), the same for one seed."""
    rng = np.random.default_rng(config.seed)
    made = []
    for photo, mask in zip(photos, masks, strict=True):
        for place in rng.permutation(max(len(scenes), config.scenes))[: config.scenes]:
            prompt, background = scenes[place % len(scenes)]
            picture, where = composite(photo, mask, background, rng)
            made.append((picture, where, f"{config.instance_prompt} {prompt}"))
    return made


def _file_name(base: "Base", prompt: str, *, index: int, size_px: int) -> str:
    facts = [base.hash, prompt, SEED + index, STEPS, base.guidance_scale, size_px or base.size_px]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24] + ".png"


def _draw(base: "Base", prompt: str, path: Path, *, index: int, size_px: int) -> None:
    import io

    wanted = SampleConfig(
        prompt=prompt, steps=STEPS, guidance_scale=base.guidance_scale, seed=SEED + index, size_px=size_px
    )
    content = io.BytesIO()
    sample(base, [], wanted).images[0].save(content, format="PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, content.getvalue())
