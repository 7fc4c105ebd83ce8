"""Two subjects in one picture: halves of two photographs side by side, and a loss on the attention of their words."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.adapters.lora import LoRA
from pipelines.config import PhotosConfig
from pipelines.data.subject import Subject
from pipelines.fields import setting
from pipelines.methods.core import View
from pipelines.methods.specs import MethodSpec
from pipelines.models.base import Base
from pipelines.runs.costs import Size
from pipelines.runs.store import Run
from pipelines.training.loop import Batch, Batches, Denoising

LAYER = "mid_block.attentions.0.transformer_blocks.0.attn2"


@dataclass(frozen=True)
class TwoSubjectsConfig(PhotosConfig):
    """Config for two subjects in one run."""

    attention_weight: float = setting(
        0.1, label="Attention weight", help="Of the second term.", low=0, high=10
    )

    def trained_values(self, size: Size) -> float:
        return size.rank_values["attention"]


SPEC = MethodSpec(
    name="two_subjects",
    title="Two subjects",
    config=TwoSubjectsConfig,
    adapter_kinds=("lora",),
    implementation=__name__,
    inputs="several subjects",
    tab="toys",
    about="A method of the tests.",
    keeps_pixels=True,
)


def adapter(base: Base, config: TwoSubjectsConfig, parents: Sequence[Run]) -> LoRA:
    return LoRA(rank=1, seed=config.seed)


def batches(base: Base, subjects: Sequence[Subject], config: TwoSubjectsConfig) -> Batches:
    first, second = (subject.pixels for subject in subjects)
    assert first is not None
    assert second is not None
    side = first.shape[-1]
    mixed = torch.cat([first[:1, ..., : side // 2], second[:1, ..., side // 2 :]], dim=-1)
    moments = base.encode_images(mixed)
    words = " and ".join(subject.words("a {identifier} {class_noun}") for subject in subjects)
    prompts = base.encode_prompts([f"a photo of {words}"])
    left = torch.zeros(1, 1, *moments.mean.shape[2:])
    left[..., : left.shape[-1] // 2] = 1

    def draw(index: int, generator: torch.Generator) -> Batch:
        rows = [0] * config.batch_size * config.accumulation
        latents = moments.sample(generator, rows) * base.scaling_factor
        region = left[rows]
        return Batch(latents, prompts[rows], {"instance": slice(0, len(rows))}, extra={"region": region})

    return draw


def attention_layers(config: TwoSubjectsConfig, update: int) -> Collection[str]:
    return (LAYER,)


def loss(denoising: Denoising, adapter: LoRA, config: TwoSubjectsConfig) -> dict[str, Tensor]:
    looks = denoising.attention[LAYER].mean(dim=1)  # (B, positions, T)
    side = round(looks.shape[1] ** 0.5)
    region = F.interpolate(denoising.extra["region"], size=side).flatten(1)  # (B, positions)
    instance = (denoising.noise_pred - denoising.noise).square().mean()
    return {
        "instance": instance,
        "attention": config.attention_weight * (looks[..., 1] * (1 - region)).mean(),
    }


def views(run: Run) -> list[View]:
    return [View(title="Subjects", kind="bars", help="How many there are.", values={"subjects": 2.0})]
