"""The smallest real run (two generated photographs, two steps) and helpers shared by the tests."""

from pathlib import Path

import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file

from pipelines.adapters import LoRA
from pipelines.adapters.spectral import shifted_weights
from pipelines.config import DreamBoothConfig
from pipelines.jobs.model_cache import ModelCache
from pipelines.models.base import Base
from pipelines.models.targets import shift_size
from pipelines.studio import Studio

PATIENCE_S = 300
TINY = DreamBoothConfig(
    steps=2,
    learning_rate=1e-2,
    identifier="zwx",
    class_noun="dog",
    rank=2,
    prior_preservation=False,
    sample_prompts=("a photo of a {identifier} {class_noun}",),
    sample_steps=2,
    measure=False,
)


def draw_photos(folder: Path) -> list[Path]:
    """Generate two photographs, 160 x 140 px."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, colour in enumerate(("firebrick", "seagreen")):
        picture = Image.new("RGB", (160, 140), "wheat")
        ImageDraw.Draw(picture).ellipse((20 + 10 * index, 20, 110, 120), fill=colour)
        picture.save(folder / f"photo-{index}.png")
    return sorted(folder.iterdir())


def visible_lora(base: Base) -> LoRA:
    """Return a LoRA on attention, convolutions and text encoder, scale 1/2, with a visible effect; it is not live."""
    adapter = LoRA(rank=2, alpha=1.0, targets="attention+conv", text_encoder_rank=1, seed=5)
    adapter.inject(base).remove()
    generator = torch.Generator().manual_seed(6)
    for parameter in adapter.parameters():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return adapter


def shop_with(base: Base) -> ModelCache:
    """Return a model cache that already contains the session's base."""
    shop = ModelCache()
    shop._bases["embedded"] = base
    return shop


def finish(studio: Studio, run_id: str) -> str:
    """Wait for a run and return its state; a failed run fails the test."""
    state = studio.training.wait(run_id, PATIENCE_S)
    assert state != "failed", studio.training.status(run_id)["error"]
    return state


def pixels(path: Path) -> bytes:
    """Return the exact pixels of a picture file."""
    with Image.open(path) as picture:
        return picture.convert("RGB").tobytes()


def same_tensors(first: Path, second: Path) -> bool:
    """Return whether two safetensors files contain exactly the same tensors."""
    one, two = load_file(first), load_file(second)
    return one.keys() == two.keys() and all(one[name].equal(two[name]) for name in one)


def float_count(module: torch.nn.Module, subset: str = "UNet", rank: int = 0) -> int:
    """Return the number of values that spectral shifts of a subset store for a module."""
    return sum(shift_size(weight.shape, rank) for weight in shifted_weights(module, subset).values())
