"""A method without photographs: it trains on noise, as a method on a space of adapters would."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.adapters.lora import LoRA
from pipelines.config import TrainConfig
from pipelines.data.subject import Subject
from pipelines.methods.core import View
from pipelines.methods.specs import MethodSpec
from pipelines.models.base import Base
from pipelines.runs.costs import Size
from pipelines.runs.store import Run
from pipelines.training.loop import Batch, Batches, Denoising


@dataclass(frozen=True)
class NoPhotosConfig(TrainConfig):
    """A config without photographs."""

    def trained_values(self, size: Size) -> float:
        return size.rank_values["attention"]


SPEC = MethodSpec(
    name="no_photos",
    title="No photographs",
    config=NoPhotosConfig,
    adapter_kinds=("lora",),
    implementation=__name__,
    inputs="none",
    tab="toys",
    about="A method of the tests.",
)


def adapter(base: Base, config: NoPhotosConfig, parents: Sequence[Run]) -> LoRA:
    return LoRA(rank=1, seed=config.seed)


def batches(base: Base, subjects: Sequence[Subject], config: NoPhotosConfig) -> Batches:
    assert not subjects
    prompts = base.encode_prompts(["a photo"])

    def draw(index: int, generator: torch.Generator) -> Batch:
        latents = torch.randn(1, 4, 16, 16, generator=generator)
        return Batch(latents, prompts, {"noise": slice(0, 1)})

    return draw


def loss(denoising: Denoising, adapter: LoRA, config: NoPhotosConfig) -> dict[str, Tensor]:
    return {"noise": (denoising.noise_pred - denoising.noise).square().mean()}


def views(run: Run) -> list[View]:
    return []
