"""Chooses the seed of an example's picture: both the base model's and the adapter's picture must be easy to read."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image

from pipelines.config import SampleConfig
from pipelines.data.photographs import to_tensor
from pipelines.evaluation.embedded_encoders import Instruments
from pipelines.studio import Studio
from recipes.evaluate import best_text, kind_prompts, scene_prompts
from recipes.world import KINDS, SCENES

SEEDS = tuple(range(24))


@dataclass(frozen=True)
class Candidate:
    """One seed's two pictures: how many kinds and scenes are right (0 to 4), and the likeness that the adapter gains."""

    seed: int
    right: int
    gain: float


def choose_seed(
    studio: Studio,
    run_id: str,
    config: SampleConfig,
    *,
    kind: str,
    scene: str,
    photos: Sequence[Path],
    seeds: Sequence[int],
) -> int:
    """Return the seed whose pictures without and with the adapter both show ``kind`` in ``scene``, as far as the small
    CLIP tells, and differ most in their likeness to the ``photos``.
    """
    instruments = Instruments()
    real = instruments.identity(to_tensor([Image.open(path).convert("RGB") for path in photos]))
    candidates = []
    for seed in seeds:
        pair = studio.generation.generate(replace(config, seed=seed), run_id=run_id, before_after=True)
        pixels = to_tensor([Image.open(path).convert("RGB") for path in pair])
        without, with_adapter = (instruments.identity(pixels) @ real.T).mean(1).tolist()
        right = count_right(instruments, pixels, kind=kind, scene=scene)
        candidates.append(Candidate(seed, right, with_adapter - without))
    return best(candidates)


@torch.no_grad()
def count_right(instruments: Instruments, pixels: torch.Tensor, *, kind: str, scene: str) -> int:
    """Return how often the small CLIP finds the right kind and the right scene in (N, 3, H, W) pictures: 0 to 2 N."""
    seen = instruments.clip_image(pixels)
    kinds = [KINDS[index] == kind for index in best_text(instruments, seen, kind_prompts())]
    scenes = [SCENES[index] == scene for index in best_text(instruments, seen, scene_prompts(kind))]
    return sum(kinds) + sum(scenes)


def best(candidates: Sequence[Candidate]) -> int:
    """Return the seed with the most right kinds and scenes; among those, the one that gains the most likeness."""
    return max(candidates, key=lambda each: (each.right, each.gain)).seed
