"""DDIM inversion: it is undone by sampling, covers all timesteps, and the noise between two noises keeps its norm."""

from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from pipelines.config import INVERTED_WITH, EditConfig, SampleConfig
from pipelines.models.base import Base
from pipelines.sampling.ddim_inversion import (
    Photograph,
    edit,
    fresh_noise,
    inverse_scheduler,
    invert,
    slerp,
)
from pipelines.sampling.sample import denoise, sample
from tests.tiny import visible_lora
from tests.tolerances import assert_close


def photograph(base: Base) -> Photograph:
    """Return a smooth picture of 64 px as latents."""
    generator = torch.Generator().manual_seed(3)
    small = torch.rand(1, 3, 4, 4, generator=generator) * 2 - 1
    pixels = torch.nn.functional.interpolate(small, size=64, mode="bilinear")
    return Photograph(base.encode_images(pixels).mean * base.scaling_factor, side_px=64)


def sampled(base: Base, start: Tensor, prompt: str, *, steps: int) -> Tensor:
    """Return DDIM's latents without guidance from the given noise."""
    config = SampleConfig(prompt=prompt, steps=steps, guidance_scale=1.0, scheduler="DDIM", size_px=64)
    with torch.no_grad():
        prompts = base.encode_prompts([prompt, ""])
        found = denoise(base, config, prompts=prompts, seeds=[0], start=start)
    assert found is not None
    return found


def test_inversion_then_sampling_reconstructs_the_latents_better_with_more_steps(base: Base) -> None:
    photo, prompt = photograph(base), "a photo of a teapot"
    embedded = base.encode_prompts([prompt])
    errors = []
    for steps in (4, 12, 36):
        start = invert(base, photo.latents, embedded, steps=steps)
        errors.append(
            float((sampled(base, start, prompt, steps=steps) - photo.latents).square().mean().sqrt())
        )
    assert errors[0] > 1.5 * errors[1] > 1.5 * 1.5 * errors[2]
    assert errors[2] < 0.1 * float(photo.latents.std())


def test_the_inverse_takes_every_timestep_of_the_sampler_and_clips_nothing(base: Base) -> None:
    sampler: DDIMScheduler = base.pipeline("DDIM").scheduler
    inverse = inverse_scheduler(base)
    for steps in (7, 50):
        sampler.set_timesteps(steps)
        inverse.set_timesteps(steps)
        assert inverse.timesteps.tolist() == sampler.timesteps.tolist()[::-1]
    assert inverse.config.clip_sample is False
    assert inverse.config.prediction_type == "epsilon"
    assert inverse.initial_alpha_cumprod == sampler.final_alpha_cumprod


def test_one_step_of_the_inverse_is_the_equation(base: Base) -> None:
    inverse = inverse_scheduler(base)
    inverse.set_timesteps(10)
    x, noise = fresh_noise((1, 4, 4, 4), seed=1), fresh_noise((1, 4, 4, 4), seed=2)
    now, later = inverse.timesteps[3:5].tolist()
    found = inverse.step(noise, later, x, return_dict=False)[0]
    alpha, alpha_later = base.alphas_cumprod[now].sqrt(), base.alphas_cumprod[later]
    clean = (x - (1 - alpha**2).sqrt() * noise) / alpha
    assert_close(found, alpha_later.sqrt() * clean + (1 - alpha_later).sqrt() * noise)


def test_slerp_keeps_the_norm_and_its_ends_are_exact() -> None:
    one, other = fresh_noise((2, 4, 8, 8), seed=1), fresh_noise((2, 4, 8, 8), seed=2)
    other = other * (one.flatten(1).norm(dim=1) / other.flatten(1).norm(dim=1)).view(-1, 1, 1, 1)
    assert slerp(one, other, 0.0).equal(one)
    assert slerp(one, other, 1.0).equal(other)
    for share in (0.1, 0.5, 0.8):
        found = slerp(one, other, share)
        assert_close(found.flatten(1).norm(dim=1), one.flatten(1).norm(dim=1))
        assert_close(found, slerp(other, one, 1 - share))


@pytest.mark.parametrize("factor", [1.0, 1.0 + 1e-7, 1.5, -1.0], ids=["same", "nearly", "longer", "opposite"])
def test_slerp_of_parallel_noise_is_linear_and_finite(factor: float) -> None:
    one = fresh_noise((1, 4, 8, 8), seed=1)
    for share in (0.25, 0.5, 0.9):
        found = slerp(one, factor * one, share)
        assert found.isfinite().all()
        assert_close(found, (1 - share + share * factor) * one)


def test_an_edit_without_words_or_guidance_is_the_photograph(base: Base) -> None:
    photo = photograph(base)
    shown = base.decode(photo.latents)
    keep = EditConfig(prompt="a photo of a teapot", guidance_scale=1.0, steps=20)
    found = edit(base, [(visible_lora(base), 1.0)], photo, keep)
    assert found is not None
    error = (torch.tensor(list(found.image.tobytes())).float() / 127.5 - 1).view(64, 64, 3).permute(
        2, 0, 1
    ) - shown[0]
    assert float(error.square().mean().sqrt()) < 0.06, "also with an adapter, as it inverts with it"


def test_the_words_of_the_inversion_are_those_that_were_asked_for(base: Base) -> None:
    photo = photograph(base)
    asked = EditConfig(prompt="a photo of a dog", steps=3)
    own = replace(asked, inverted_with=INVERTED_WITH[1])
    found = [edit(base, [], photo, config, caption="a photo of a teapot") for config in (asked, own)]
    prompts = base.encode_prompts(["a photo of a dog", "a photo of a teapot"])
    for place, one in enumerate(found):
        assert one is not None
        assert one.inverted is not None
        assert one.inverted.equal(invert(base, photo.latents, prompts[place : place + 1], steps=3))


def test_full_change_is_the_sampler_itself_and_the_inverted_noise_is_reused(base: Base) -> None:
    photo = photograph(base)
    asked = EditConfig(prompt="a photo of a dog", steps=3, change=1.0, guidance_scale=3.0, seed=5)
    plain = SampleConfig(
        prompt="a photo of a dog", steps=3, guidance_scale=3.0, seed=5, scheduler="DDIM", size_px=64
    )
    whole = edit(base, [], photo, asked)
    assert whole is not None
    assert whole.inverted is None
    assert whole.image.tobytes() == sample(base, [], plain).images[0].tobytes()
    half = EditConfig(prompt="a photo of a dog", steps=3, change=0.5, guidance_scale=3.0, seed=5)
    first = edit(base, [], photo, half)
    assert first is not None
    again = edit(base, [], photo, half, inverted=first.inverted)
    assert again is not None
    assert again.image.tobytes() == first.image.tobytes()
    assert edit(base, [], photo, half, stop=lambda: True) is None
