"""Run one of diffusers' example training scripts and record when each of its steps ended.

The scripts import torchvision for five image transforms. If torchvision is not installed, a stub module with only
these five is registered in its place, in this process only.
"""

import importlib.util
import itertools
import json
import random
import runpy
import sys
import time
import types
from enum import Enum
from importlib.machinery import ModuleSpec
from pathlib import Path

import diffusers  # noqa: F401  # the libraries must look for the real torchvision before the stub exists
import numpy as np
import torch
import tqdm.auto
import transformers  # noqa: F401
from PIL import Image


class InterpolationMode(Enum):
    NEAREST = Image.Resampling.NEAREST
    BILINEAR = Image.Resampling.BILINEAR
    BICUBIC = Image.Resampling.BICUBIC
    LANCZOS = Image.Resampling.LANCZOS


class Compose:
    def __init__(self, transforms: list) -> None:
        self.transforms = transforms

    def __call__(self, image):
        for transform in self.transforms:
            image = transform(image)
        return image


class Resize:
    def __init__(self, size: int, interpolation: InterpolationMode = InterpolationMode.BILINEAR) -> None:
        self.size, self.interpolation = size, interpolation

    def __call__(self, image: Image.Image) -> Image.Image:
        factor = self.size / min(image.size)
        width, height = (max(self.size, round(side * factor)) for side in image.size)
        return (
            image
            if image.size == (width, height)
            else image.resize((width, height), self.interpolation.value)
        )


class RandomCrop:
    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, image: Image.Image) -> Image.Image:
        left, top = (random.randint(0, side - self.size) for side in image.size)
        return image.crop((left, top, left + self.size, top + self.size))


class CenterCrop(RandomCrop):
    def __call__(self, image: Image.Image) -> Image.Image:
        left, top = ((side - self.size) // 2 for side in image.size)
        return image.crop((left, top, left + self.size, top + self.size))


class ToTensor:
    def __call__(self, image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


class Normalize:
    def __init__(self, mean: list[float], std: list[float]) -> None:
        self.mean, self.std = mean[0], std[0]

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        return (pixels - self.mean) / self.std


def stand_in_for_torchvision() -> bool:
    """Register the stub as torchvision unless the real one is installed; return whether the stub was needed."""
    if importlib.util.find_spec("torchvision") is not None:
        return False
    package, transforms = types.ModuleType("torchvision"), types.ModuleType("torchvision.transforms")
    package.__spec__, transforms.__spec__ = (
        ModuleSpec("torchvision", None),
        ModuleSpec("torchvision.transforms", None),
    )
    for item in (InterpolationMode, Compose, Resize, RandomCrop, CenterCrop, ToTensor, Normalize):
        setattr(transforms, item.__name__, item)
    package.transforms = transforms  # type: ignore[attr-defined]
    sys.modules.update({"torchvision": package, "torchvision.transforms": transforms})
    return True


def main() -> None:
    """Command line: the script, the result file, then the script's own arguments."""
    script, result, *arguments = sys.argv[1:]
    stood_in = stand_in_for_torchvision()
    ends: list[float] = []

    class Clock(tqdm.auto.tqdm):
        def update(self, n: float = 1) -> bool | None:
            if self.desc.startswith("Steps"):
                ends.append(time.perf_counter())
            return super().update(n)

    tqdm.auto.tqdm = Clock
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")
    seconds = [later - earlier for earlier, later in itertools.pairwise(ends)]
    Path(result).write_text(json.dumps({"seconds": seconds, "stand_in": stood_in}), encoding="utf-8")


if __name__ == "__main__":
    main()
