"""Stage 0: pictures, captions and labels on disk. All depend only on the picture's index, so any part can be redone.

Two consecutive pictures (2k, 2k + 1) show the same individual in different scenes, lights and views. Two pictures are
too few for the base to learn an individual, but they train the identity encoder to ignore scene, light and view.
"""

import logging
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

from recipes.kit import PICTURE_PX
from recipes.world import (
    EMPTY_SHARE,
    PAIR_SHARE,
    Choice,
    Picture,
    caption,
    draw,
    sample_companion,
    sample_picture,
    sample_subject,
)  # fmt: skip

logger = logging.getLogger(__name__)

SHARD = 1_000
CAPTIONS = 4  # per picture
_INDIVIDUALS, _PICTURES, _WORDS = 11, 12, 13  # seeds of the random streams


def picture_of(index: int) -> Picture:
    """Return picture ``index`` of the training world."""
    rng = np.random.default_rng((_PICTURES, index))
    lot = rng.random()
    if lot < EMPTY_SHARE:
        picture = sample_picture(rng, Choice())
        return Picture((), picture.scene, picture.light, picture.style, picture.seed)
    subject = sample_subject(np.random.default_rng((_INDIVIDUALS, index // 2)))
    companion = sample_companion(rng) if lot < EMPTY_SHARE + PAIR_SHARE else None
    return sample_picture(rng, Choice(subject=subject, companion=companion))


def captions_of(index: int) -> list[str]:
    """Return ``CAPTIONS`` different captions of picture ``index``."""
    rng = np.random.default_rng((_WORDS, index))
    picture = picture_of(index)
    return [caption(picture, rng) for _ in range(CAPTIONS)]


def _render_shard(first: int, path: Path) -> None:
    pixels = np.stack([np.asarray(draw(picture_of(i))) for i in range(first, first + SHARD)])
    temporary = path.with_suffix(".tmp.npy")
    np.save(temporary, pixels)
    temporary.rename(path)


def render(folder: Path, count: int, *, processes: int) -> None:
    """Render the first ``count`` pictures into shards of ``SHARD``; existing shards are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [(s * SHARD, folder / f"{s:04d}.npy") for s in range(count // SHARD)]
    missing = [(first, path) for first, path in missing if not path.exists()]
    with ProcessPoolExecutor(processes) as pool:
        for done, _ in enumerate(pool.map(_render_shard, *zip(*missing, strict=True)) if missing else []):
            logger.info("rendered %d of %d missing shards", done + 1, len(missing))


class Pictures:
    """The existing shards, memory-mapped; uint8 pixels."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shards: list[np.ndarray] = []
        self.refresh()

    def refresh(self) -> None:
        """Load shards written since the last call; shards after a missing one are ignored."""
        while (path := self.folder / f"{len(self.shards):04d}.npy").exists():
            self.shards.append(np.load(path, mmap_mode="r"))

    def __len__(self) -> int:
        return len(self.shards) * SHARD

    def pixels(self, indices: list[int]) -> torch.Tensor:
        """Return (B, 3, H, W) uint8."""
        return torch.from_numpy(np.stack([self.shards[i // SHARD][i % SHARD] for i in indices])).permute(
            0, 3, 1, 2
        )

    def random_crops(self, count: int, size_px: int, generator: torch.Generator) -> torch.Tensor:
        """Return (count, 3, size_px, size_px) uint8 crops from random pictures."""
        self.refresh()
        whole = self.pixels(torch.randint(0, len(self), (count,), generator=generator).tolist())
        room = PICTURE_PX - size_px
        corners = torch.randint(0, room + 1, (count, 2), generator=generator).tolist()
        return torch.stack(
            [p[:, y : y + size_px, x : x + size_px] for p, (y, x) in zip(whole, corners, strict=True)]
        )
