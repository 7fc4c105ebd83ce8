"""Which cross-attention layers of a base look at the subject that a word names: the layers for the Unmix term.

    python -m bench.attention_layers --pictures 6

Renders of two subjects of different kinds, with a prompt that names both and their sides. For every layer: the share of
the attention of each kind's word inside its own half, at three noise levels (0.5 is no preference), and the word's mean
attention. Then the time of a training step of Multi-subject whose maps are recorded, compared with one without.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from pipelines.adapters.core import injected
from pipelines.config import UNMIX_LAYERS
from pipelines.data.cut_mix import regions
from pipelines.data.photographs import to_tensor
from pipelines.data.subject import Subject
from pipelines.methods import cut_mix_unmix as method
from pipelines.methods.leakage import word_masks
from pipelines.methods.specs import preset
from pipelines.models.base import Base, load_base
from pipelines.training.attention import attention_in_regions, cross_attention_layers, recorded_attention
from pipelines.training.loop import train
from pipelines.training.losses import add_noise
from recipes import world

TIMESTEPS = (200, 500, 800)
KINDS = (("person", "dog"), ("dog", "cat"), ("cat", "person"), ("plush toy", "person"), ("teapot", "dog"))
WARM_UP = 2


@torch.no_grad()
def shares(base: Base, pictures: int) -> dict[str, tuple[list[float], float]]:
    """Return for each layer the mean share inside the own half at each timestep, and the mean attention of a word."""
    layers = [name for name in cross_attention_layers(base.unet) if not name.startswith("mid_block")]
    found: dict[str, list[tuple[torch.Tensor, float]]] = {name: [] for name in layers}
    times = torch.tensor(TIMESTEPS)
    for index in range(pictures):
        kinds = KINDS[index % len(KINDS)]
        rng = world.held_out(21, index)
        first, second = (world.sample_subject(rng, kind) for kind in kinds)
        choice = world.Choice(subject=first, companion=second, style="photo", wearable="")
        pixels = to_tensor([world.draw(world.sample_picture(rng, choice))])
        prompt = f"a photo of a {kinds[0]} on the left and a {kinds[1]} on the right"
        latents = base.encode_images(pixels).mean * base.scaling_factor
        noise = torch.randn(len(times), *latents.shape[1:], generator=torch.Generator().manual_seed(index))
        noisy = add_noise(latents, noise, base.alphas_cumprod[times])
        context = base.encode_prompts([prompt]).expand(len(times), -1, -1)
        words = word_masks(base, prompt, kinds)
        halves = regions(*latents.shape[-2:]).expand(len(times), -1, -1, -1)
        with recorded_attention(base.unet, layers) as attention:
            base.unet(noisy, times, context, return_dict=False)
        for name, looks in attention.items():
            inside, whole = attention_in_regions({name: looks}, halves)
            share = (inside / whole.unsqueeze(1) * words).sum(2) / words.sum(1)  # (timesteps, 2)
            found[name].append((share.mean(1), float((whole * words.sum(0)).sum(1).mean() / words.sum())))
    return {
        name: (
            torch.stack([share for share, _ in rows]).mean(0).tolist(),
            statistics.mean(m for _, m in rows),
        )
        for name, rows in found.items()
    }


def step_times(base: Base, rounds: int) -> dict[str, float]:
    """Return the median processor time (s) of a step with mixes, without and with recorded maps, in turns."""
    config = replace(preset("cut_mix_unmix", "embedded"), mix_probability=1.0, alone_first=0.0, steps=20_000)
    generator = torch.Generator().manual_seed(0)
    subjects = [_subject(base, word, generator) for word in ("zwx", "qev")]
    choices: dict[str, Sequence[str]] = {name: method.unmix_layers(name) for name in UNMIX_LAYERS}
    choices["none"] = ()
    names, took = list(choices), {name: [] for name in choices}
    adapter = method.adapter(base, config, ())
    method.prepare(adapter, base, lambda done, total: None)
    with injected(adapter, base):
        steps = train(
            base,
            adapter,
            method.batches(base, subjects, config),
            method.loss,
            config,
            attention_layers=lambda config, index: choices[names[index % len(names)]],
        )
        for index in range((rounds + WARM_UP) * len(names)):
            started = time.process_time()
            next(steps)
            took[names[index % len(names)]].append(time.process_time() - started)
    return {name: statistics.median(seconds[WARM_UP:]) for name, seconds in took.items()}


def _subject(base: Base, word: str, generator: torch.Generator) -> Subject:
    pixels = torch.rand(2, 3, base.size_px, base.size_px, generator=generator) * 2 - 1
    return Subject(
        identifier=word,
        class_noun="person",
        names=("0.png", "1.png"),
        captions=("", ""),
        moments=base.encode_images(pixels),
        pixels=pixels,
    )


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pictures", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=10, help="timed steps of each kind")
    parser.add_argument("--base", default="embedded")
    args = parser.parse_args()
    base = load_base(args.base)
    print(f"{'layer':<24}  share in the own half at timestep {TIMESTEPS}   mean attention")
    for name, (share, mass) in shares(base, args.pictures).items():
        short = name.removesuffix(".transformer_blocks.0.attn2")
        print(f"{short:<24}  {'  '.join(f'{each:.2f}' for each in share)}   {mass:.4f}")
    times = step_times(base, args.rounds)
    for name, seconds in times.items():
        print(f"step, maps of {name:<18}  {1000 * seconds:.0f} ms, {seconds / times['none']:.2f} x")


if __name__ == "__main__":
    main()
