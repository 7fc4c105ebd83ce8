"""A population: many identities in one forward pass give what each gives alone; the authors' layout holds."""

import json
import math
from dataclasses import replace

import pytest
import torch
from accelerate import init_empty_weights
from diffusers import UNet2DConditionModel

from pipelines.adapters import LoRA
from pipelines.adapters.core import injected
from pipelines.config import ASSETS, DreamBoothConfig, LoopConfig, to_dict
from pipelines.data.photographs import Moments
from pipelines.methods import subject
from pipelines.models.base import Base
from pipelines.training.loop import Batch, train
from pipelines.weightspace.population import (
    Identities,
    PopulationConfig,
    draw,
    initial_weights,
    space_keys,
    train_identities,
)

SMALL = PopulationConfig(
    loop=LoopConfig(
        steps=3, batch_size=1, learning_rate=1e-3, schedule="cosine", warmup_steps=1, snr_gamma=5.0
    ),
    targets="attention+conv",
    alpha=2.0,
    initialisation="normal",
    prior_weight=0.5,
)
PROMPTS = ("a photo of a sks person on the beach", "a photo of a sks person in the forest")
# AdamW divides each gradient by its own size: rounding of 1e-7 in a small gradient moves an entry by up to a full step.
# So the whole update is compared, not each entry.
TOLERANCE = 2e-3


def random_moments(count: int, seed: int) -> Moments:
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(count, 4, 16, 16, generator=generator) * 4.0
    return Moments(mean=mean, logvar=torch.full_like(mean, -6.0))


def trained_alone(
    base: Base, identities: Identities, row: int, config: PopulationConfig, prior: Moments
) -> torch.Tensor:
    """Return θ (d,) of one identity, trained by the app's own loop, adapter and loss."""
    size = len(identities.prompts)
    own = Moments(
        *(
            each[row * size : (row + 1) * size]
            for each in (identities.moments.mean, identities.moments.logvar)
        )
    )
    contexts = base.encode_prompts([*identities.prompts, "person"])

    def batches(index: int, generator: torch.Generator) -> Batch:
        ahead = torch.Generator()
        ahead.set_state(generator.get_state())  # the loop draws the noise and the timesteps itself
        drawn = draw(
            index,
            ahead,
            photographs=size,
            class_images=len(prior),
            batch=1,
            latent=(4, 16, 16),
            timesteps=1000,
        )
        pictures = [
            moments.mean[place] + (0.5 * moments.logvar[place]).exp() * noise
            for moments, place, noise in zip(
                (own, prior), (*drawn.photographs, *drawn.class_images), drawn.posterior, strict=True
            )
        ]
        torch.randn(drawn.posterior.shape, generator=generator)
        return Batch(
            torch.stack(pictures) * base.scaling_factor, contexts[[*drawn.photographs, size]],
            {"instance": slice(0, 1), "prior": slice(1, 2)},
        )  # fmt: skip

    settings = DreamBoothConfig(
        **{
            **to_dict(config.loop),
            "prior_weight": config.prior_weight,
            "identifier": "sks",
            "class_noun": "person",
        }
    )
    lora = LoRA(rank=1, alpha=config.alpha, targets=config.targets, seed=config.loop.seed)
    with injected(lora, base):
        for _ in train(base, lora, batches, subject.loss, settings):
            pass
    state = lora.state_dict()
    return torch.cat([state[key.name].flatten() for key in space_keys(base.unet, config)])


def test_each_identity_equals_its_own_run_of_the_training_loop(base: Base) -> None:
    prior = random_moments(3, seed=9)
    identities = Identities(random_moments(6, seed=1), PROMPTS)
    start = initial_weights(space_keys(base.unet, SMALL), SMALL)
    together = train_identities(base, identities, SMALL, prior=prior) - start
    for row in (0, 2):
        alone = trained_alone(base, identities, row, SMALL, prior) - start
        assert float((together[row] - alone).norm() / alone.norm()) < TOLERANCE
    # identities differ, so that the comparison above could fail
    assert float((together[0] - together[2]).norm() / together[0].norm()) > 0.2


def test_the_base_is_itself_afterwards(base: Base) -> None:
    before = {name: value.clone() for name, value in base.unet.state_dict().items()}
    train_identities(
        base,
        Identities(random_moments(2, seed=1), PROMPTS[:1]),
        replace(SMALL, prior_weight=0.0, loop=LoopConfig(steps=1)),
    )
    after = base.unet.state_dict()
    assert all(value.equal(after[name]) for name, value in before.items())
    assert not any("forward" in module.__dict__ for module in base.unet.modules())


def test_the_authors_layout_on_stable_diffusion_1_5() -> None:
    """METHODS of the authors' files: 64 modules, d = 99,648, these offsets."""
    config = json.loads((ASSETS / "sd1_config" / "unet" / "config.json").read_text())
    with init_empty_weights():
        unet = UNet2DConditionModel.from_config(config)
    keys = space_keys(unet, PopulationConfig())
    assert len(keys) == 128
    assert keys[-1].offset + keys[-1].size == 99_648
    first: dict[str, int] = {}
    for key in keys:
        first.setdefault(key.name.partition(".transformer_blocks")[0].removeprefix("unet."), key.offset)
    assert list(first.values()) == [
        0, 3_008, 6_016, 11_264, 16_512, 26_240, 35_968, 45_696, 55_424, 65_152, 74_880, 80_128, 85_376, 90_624, 93_632,
        96_640,
    ]  # fmt: skip
    assert next(iter(first)) == "down_blocks.0.attentions.0"
    assert list(first)[6:8] == ["mid_block.attentions.0", "up_blocks.1.attentions.0"]
    inside = {
        key.name.partition(".transformer_blocks.0.")[2].removesuffix(".weight"): key for key in keys[:8]
    }
    assert [(name, key.offset, key.size) for name, key in inside.items()] == [
        ("attn1.to_q.lora_A", 0, 320), ("attn1.to_q.lora_B", 320, 320), ("attn1.to_v.lora_A", 640, 320),
        ("attn1.to_v.lora_B", 960, 320), ("attn2.to_q.lora_A", 1280, 320), ("attn2.to_q.lora_B", 1600, 320),
        ("attn2.to_v.lora_A", 1920, 768), ("attn2.to_v.lora_B", 2688, 320),
    ]  # fmt: skip


def test_the_authors_settings() -> None:
    config = PopulationConfig()
    assert (config.rank, config.alpha, config.scale, config.prior_weight) == (1, 27.0, 27.0, 1.0)
    assert (config.loop.steps, config.loop.learning_rate, config.loop.weight_decay, config.loop.max_grad_norm) == (
        800, 1e-4, 1e-2, 1.0,
    )  # fmt: skip


@pytest.mark.parametrize("initialisation", ["uniform", "normal"])
def test_the_initialisation_is_that_of_the_seed(base: Base, initialisation: str) -> None:
    config = replace(SMALL, initialisation=initialisation)
    keys = space_keys(base.unet, config)
    start = initial_weights(keys, config)
    assert start.equal(initial_weights(keys, config))
    assert not start.equal(initial_weights(keys, replace(config, loop=replace(config.loop, seed=1))))
    for key in keys:
        part = start[key.offset : key.offset + key.size]
        if ".lora_B." in key.name:
            assert not part.any()
        elif initialisation == "uniform":
            assert float(part.abs().max()) <= math.prod(key.shape[1:]) ** -0.5


def test_unequal_numbers_of_photographs_are_refused() -> None:
    with pytest.raises(ValueError, match="3 photographs are not 2 for each identity"):
        Identities(random_moments(3, seed=1), PROMPTS)


def test_an_unknown_target_is_refused() -> None:
    with pytest.raises(ValueError, match=r"targets must be one of .*query\+value, not .everything."):
        PopulationConfig(targets="everything")
