"""Leakage: the attention that the words of one subject spend on another subject's half of a mixed picture."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pipelines.data.cut_mix import Mix, regions
from pipelines.data.photographs import Moments
from pipelines.methods.core import View
from pipelines.models.tokens import positions
from pipelines.training.attention import attention_in_regions, recorded_attention
from pipelines.training.losses import add_noise

if TYPE_CHECKING:
    from pipelines.models.base import Base

PROBED_TIMESTEPS = (200, 500, 800)  # of 1000, at which leakage is measured on the held-out mixes


def word_masks(base: "Base", prompt: str, words: Sequence[str]) -> Tensor:
    """Return a float32 mask (S, T): for each of S subjects, 1 at the tokens of its words in the prompt, else 0."""
    masks = torch.zeros(len(words), base.context)
    for row, text in zip(masks, words, strict=True):
        row[positions(base.tokenizer, prompt, text, context=base.context)] = 1
    return masks


@torch.no_grad()
def leakage(
    base: "Base", mixes: Sequence[Mix], moments: Moments, words: Sequence[str], *, layers: Sequence[str]
) -> tuple[list[list[float]], list[float]]:
    """Return (matrix, own) of the injected adapter, see :func:`observer`. The noise is the same in every call."""
    generator = torch.Generator().manual_seed(0)
    times = torch.tensor(PROBED_TIMESTEPS)
    halves = regions(*moments.mean.shape[-2:]).expand(len(times), -1, -1, -1).to(base.device)
    shares, counts = torch.zeros(len(words), len(words)), torch.zeros(len(words), len(words))
    own = torch.zeros(len(words))
    for mix, mean in zip(mixes, moments.mean, strict=True):
        prompt = mix.prompt(words, explicit=False, turned=False)
        contexts = base.encode_prompts([prompt]).expand(len(times), -1, -1)
        tokens = word_masks(base, prompt, [words[one] for one in mix.subjects])
        noise = torch.randn(len(times), *mean.shape, generator=generator)
        noisy = add_noise(mean * base.scaling_factor, noise, base.alphas_cumprod[times])
        with recorded_attention(base.unet, layers) as attention:
            base.unet(noisy.to(base.device, base.dtype), times.to(base.device), contexts, return_dict=False)
        inside, whole = (each.mean(dim=0).cpu() for each in attention_in_regions(attention, halves))
        mass = tokens / tokens.sum(dim=1, keepdim=True)
        for i, row in zip(mix.subjects, mass, strict=True):
            for j, within in zip(mix.subjects, inside, strict=True):
                shares[i, j] += (within / whole * row).sum()
                counts[i, j] += 1
                own[i] += 2 * (within * row).sum() if i == j else 0  # each half is half of the positions
    matrix = (shares / counts.clamp(min=1)).tolist()
    return _rounded(matrix), _rounded([(own / counts.diagonal().clamp(min=1)).tolist()])[0]


def _rounded(rows: list[list[float]]) -> list[list[float]]:
    return [[round(value, 5) for value in row] for row in rows]


def leakage_views(told: Sequence[dict[str, Any]]) -> list[View]:
    """Return the first and the latest leakage matrix of a run's events, and the leakage over the steps."""
    names = told[-1]["subjects"]
    others = len(names) - 1
    first, last = told[0], told[-1]
    return [
        View(
            title=f"Where each subject's words look, after step {event['step']}",
            kind="heat",
            help="Share of the attention of a subject's words (rows) inside each subject's half (columns) of mixed "
            "pictures that the run has not learned from. 0.5: no preference; 1 on the diagonal: no leakage.",
            rows=list(names),
            columns=[f"half of {name}" for name in names],
            cells=[list(row) for row in event["matrix"]],
            most=1.0,
        )
        for event in ([first, last] if len(told) > 1 else [last])
    ] + [
        View(
            title="Leakage over the steps",
            kind="curves",
            help="Share of the attention of a subject's words in the half of another subject (mean over the others).",
            lines={
                f"{name} outside its half": [
                    (sum(event["matrix"][i]) - event["matrix"][i][i]) / others for event in told
                ]
                for i, name in enumerate(names)
            },
            at=[float(event["step"]) for event in told],
            axis="step",
        ),
    ]
