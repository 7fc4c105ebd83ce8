"""Delayed injection (weights2weights, 2406.09413, section 3.3): an edit takes part only in the later denoising steps.

The early steps use the weights before the edit. They are the same for every amount of the edit, so they are computed
once and continued from the recorded state.
"""

import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from pipelines.adapters.core import Adapter, merged
from pipelines.config import SampleConfig
from pipelines.models.base import Base
from pipelines.sampling.sample import Samples, cut_words, decoded
from pipelines.unet_blocks import Strength

Stack = Sequence[tuple[Adapter, Strength]]


@dataclass(frozen=True)
class State:
    """The state before one denoising step: latents (1, 4, h, w), the scheduler and the random generator."""

    latents: Tensor
    scheduler: Any
    generator: Tensor


@dataclass
class EarlySteps:
    """The states of one picture without the edit, as far as they were needed; ``of`` names the picture and weights."""

    of: tuple[Any, ...]
    states: list[State] = field(default_factory=list)


def first_edited_step(timesteps: Sequence[int], start_noise: int) -> int:
    """Return the index of the first step that uses the edit: the first with t ≤ ``start_noise``; their number if none."""
    return next((index for index, t in enumerate(timesteps) if t <= start_noise), len(timesteps))


@torch.no_grad()
def sample_delayed(
    base: Base,
    before: Stack,
    after: Stack,
    config: SampleConfig,
    *,
    start_noise: int,
    early: EarlySteps,
    stop: Callable[[], bool] | None = None,
) -> tuple[Samples, int]:
    """Generate one picture with the stack ``after`` from the first step with t ≤ ``start_noise`` on, else ``before``.

    ``early`` is extended by the steps before that are not recorded yet. Returns the picture and the number of denoising
    steps that were computed. Equals :func:`pipelines.sampling.sample.sample` with ``after`` if ``start_noise`` is at
    least the first timestep, and with ``before`` if it is below the last one.
    """
    started = time.perf_counter()
    used = replace(config, size_px=config.size_px or base.size_px, count=1)
    if not early.states:
        early.states.append(_first(base, used))
    timesteps = early.states[0].scheduler.timesteps.tolist()
    turn = first_edited_step(timesteps, start_noise)
    recorded = len(early.states) - 1
    if turn > recorded:
        with merged(base, list(before)):
            contexts = base.encode_prompts([used.negative_prompt, used.prompt])
            for index in range(recorded, turn):
                early.states.append(_next(base, early.states[-1], contexts, used, index))
    state, images = early.states[turn], []
    with merged(base, list(after) if turn < len(timesteps) else []):
        contexts = base.encode_prompts([used.negative_prompt, used.prompt])
        for index in range(turn, len(timesteps)):
            if stop is not None and stop():
                break
            state = _next(base, state, contexts, used, index)
        else:
            images.append(decoded(base, state.latents))
    computed = max(0, turn - recorded) + len(timesteps) - turn
    samples = Samples(
        images=images,
        config=used,
        seconds=time.perf_counter() - started,
        interrupted=not images,
        notes=cut_words(base, used),
    )
    return samples, computed


def _first(base: Base, config: SampleConfig) -> State:
    """Return the state before the first step, as diffusers' pipeline prepares it."""
    pipe: Any = base.pipeline(config.scheduler)
    scheduler = deepcopy(pipe.scheduler)
    scheduler.set_timesteps(config.steps, device=base.device)
    generator = torch.Generator().manual_seed(config.seed)
    side = config.size_px // base.vae_factor
    shape = (1, base.unet.config.in_channels, side, side)
    noise = torch.randn(shape, generator=generator, dtype=base.dtype).to(base.device)
    return State(noise * scheduler.init_noise_sigma, scheduler, generator.get_state())


def _next(base: Base, state: State, contexts: Tensor, config: SampleConfig, index: int) -> State:
    """Return the state after step ``index``; the given state is not changed."""
    scheduler = deepcopy(state.scheduler)
    generator = torch.Generator()
    generator.set_state(state.generator)
    t = scheduler.timesteps[index]
    guided = config.guidance_scale > 1
    latents = torch.cat([state.latents] * 2) if guided else state.latents
    noisy = scheduler.scale_model_input(latents, t)
    answer = base.unet(
        noisy, t, encoder_hidden_states=contexts if guided else contexts[1:], return_dict=False
    )[0]
    if guided:
        without, with_prompt = answer.chunk(2)
        answer = without + config.guidance_scale * (with_prompt - without)
    further = base.pipeline(config.scheduler).prepare_extra_step_kwargs(generator, 0.0)
    stepped = scheduler.step(answer, t, state.latents, **further, return_dict=False)[0]
    return State(stepped, scheduler, generator.get_state())
