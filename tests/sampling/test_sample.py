"""The sampler: seeds, strengths, previews, interruption, and pictures that store their settings."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.adapters.lora import LoRA
from pipelines.config import SCHEDULERS, SampleConfig
from pipelines.models.base import Base
from pipelines.sampling.sample import cut_words, sample

QUICK = SampleConfig(prompt="a dog in the rain", steps=2, guidance_scale=3.0, seed=5, size_px=64)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_the_same_seed_gives_the_same_bytes(base: Base, scheduler: str) -> None:
    config = replace(QUICK, scheduler=scheduler)
    first, again, other = (
        sample(base, [], used).images[0] for used in (config, config, replace(config, seed=6))
    )
    assert first.size == (64, 64)
    assert first.tobytes() == again.tobytes() != other.tobytes()


def test_a_scheduler_keeps_nothing_from_the_picture_before(base: Base) -> None:
    alone = sample(base, [], QUICK).images[0]
    sample(base, [], replace(QUICK, steps=5, seed=9))
    assert sample(base, [], QUICK).images[0].tobytes() == alone.tobytes()


@pytest.mark.parametrize("scheduler", ["DPM++ 2M Karras", "Euler a"])
def test_count_does_not_change_a_picture(base: Base, scheduler: str) -> None:
    config = replace(QUICK, scheduler=scheduler)
    three = sample(base, [], replace(config, count=3)).images
    for index, image in enumerate(three):
        assert (
            sample(base, [], replace(config, seed=config.seed + index)).images[0].tobytes() == image.tobytes()
        )


def test_it_is_diffusers_own_picture(base: Base) -> None:
    noise = torch.Generator().manual_seed(QUICK.seed)
    theirs = base.pipeline(QUICK.scheduler)(
        QUICK.prompt,
        num_inference_steps=QUICK.steps,
        guidance_scale=QUICK.guidance_scale,
        height=64,
        width=64,
        generator=noise,
    ).images[0]
    ours = sample(base, [], QUICK).images[0]
    assert np.abs(np.asarray(ours).astype(int) - np.asarray(theirs).astype(int)).max() <= 1


def test_settings_change_the_picture(base: Base) -> None:
    plain = sample(base, [], QUICK).images[0].tobytes()
    changes = ({"negative_prompt": "grass"}, {"guidance_scale": 6.0}, {"prompt": "a cat"}, {"steps": 3})
    assert all(sample(base, [], replace(QUICK, **change)).images[0].tobytes() != plain for change in changes)


def test_zero_means_the_size_of_the_base(base: Base) -> None:
    made = sample(base, [], replace(QUICK, size_px=0, steps=1))
    assert made.images[0].size == (base.size_px, base.size_px)
    assert made.config.size_px == base.size_px
    assert made.seconds > 0


def test_an_adapter_acts_by_its_strength_and_leaves_no_trace(base: Base) -> None:
    adapter = LoRA(rank=2, alpha=2, targets="attention", seed=0).inject(base)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.3)
    adapter.remove()
    before = {name: value.clone() for name, value in base.unet.state_dict().items()}
    plain, none, half, full = (
        sample(base, stack, QUICK).images[0].tobytes()
        for stack in ([], [(adapter, 0.0)], [(adapter, 0.5)], [(adapter, 1.0)])
    )
    assert plain == none
    assert len({plain, half, full}) == 3
    assert all(torch.equal(value, before[name]) for name, value in base.unet.state_dict().items())
    assert sample(base, [], QUICK).images[0].tobytes() == plain


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_previews_count_all_steps_and_do_not_disturb(base: Base, scheduler: str) -> None:
    config = replace(QUICK, scheduler=scheduler, count=2)
    seen: list[tuple[int, int, tuple[int, int]]] = []

    def watch(step: int, total: int, pictures: list[Image.Image]) -> None:
        seen.append((step, total, pictures[0].size))

    made = sample(base, [], config, on_preview=watch)
    assert seen == [(step, 4, (32, 32)) for step in range(1, 5)]
    assert made.images[0].tobytes() == sample(base, [], config).images[0].tobytes()


def test_previews_show_the_colours_of_smooth_pictures(base: Base) -> None:
    assert base.latent_colours.shape == (5, 3)
    assert base.latent_colours.isfinite().all()


def test_stopping_keeps_the_finished_pictures_and_the_sampler_goes_on(base: Base) -> None:
    steps = iter(range(100))
    stopped = sample(base, [], replace(QUICK, count=3), stop=lambda: next(steps) >= 4)
    assert stopped.interrupted
    assert len(stopped.images) == 1
    at_once = sample(base, [], QUICK, stop=lambda: True)
    assert (at_once.images, at_once.interrupted) == ([], True)
    whole = sample(base, [], QUICK)
    assert not whole.interrupted
    assert whole.images[0].tobytes() == stopped.images[0].tobytes()


def test_words_that_do_not_fit_are_reported(base: Base) -> None:
    long = replace(QUICK, prompt=" ".join(["dog"] * 38 + ["tower"]))
    assert cut_words(base, QUICK) == ()
    (note,) = sample(base, [], replace(long, steps=1)).notes
    assert "38 tokens" in note
    assert "tower" in note
