"""Block ablation: the same picture with one block of the adapter disabled at a time.

The caller generates the pictures, so this module does not import torch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops, ImageStat

from pipelines.models.inspection import read_header
from pipelines.unet_blocks import BLOCKS, BlockStrengths, block

FILE = "contributions.json"


@dataclass(frozen=True)
class Contributions:
    """The effect of each block of an adapter.

    ``values``: the mean change of a pixel, 0 to 1, if the block is disabled. ``pictures``: "" is the picture with the
    whole adapter, the other keys are the disabled blocks that the adapter changes.
    """

    values: dict[str, float]
    pictures: dict[str, Path]

    def told(self, *, prompt: str, seed: int) -> dict[str, Any]:
        """Return the JSON content that is saved in the run."""
        return {"values": self.values, "prompt": prompt, "seed": seed}


def touched_blocks(adapter: Path) -> list[str]:
    """Return the blocks that the adapter in a file changes; reads only the header."""
    found = {block(key) for key in read_header(adapter) if key.startswith("unet.")}
    return [name for name in BLOCKS if name in found]


def measure_blocks(
    touched: Sequence[str],
    *,
    draw: Callable[[str], Path],
    progress: Callable[[int, int], None] | None = None,
) -> Contributions:
    """Generate a picture with the whole adapter, then one with each touched block disabled.

    ``draw`` takes a list of block weights ("": all 1). Blocks that the adapter does not change are skipped.
    """
    total = 1 + len(touched)
    pictures = {"": draw("")}
    for done, name in enumerate(touched, start=1):
        if progress is not None:
            progress(done, total)
        pictures[name] = draw(BlockStrengths.of_blocks({name: 0.0}).format(26))
    if progress is not None:
        progress(total, total)
    values = {name: _difference(pictures[""], pictures[name]) if name in pictures else 0.0 for name in BLOCKS}
    return Contributions(values=values, pictures=pictures)


def _difference(first: Path, second: Path) -> float:
    """Return the mean absolute difference of two pictures of the same size over pixels and channels, 0 to 1."""
    with Image.open(first) as one, Image.open(second) as other:
        apart = ImageChops.difference(one.convert("RGB"), other.convert("RGB"))
    means = ImageStat.Stat(apart).mean
    return round(sum(means) / len(means) / 255, 6)
