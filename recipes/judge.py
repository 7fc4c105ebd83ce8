"""Stage 3b: an attribute classifier on noisy latents (the judge), so that the base learns captions from fewer pictures.

A beard affects only a few of a picture's 1,024 latent values, so it contributes little to the noise-prediction loss,
and the base learns the word late. The judge predicts from noisy latents the same attributes that the reader predicts
from pictures. While the base trains, its predicted clean latents are noised again and passed to the judge, and the
loss requires that the judge finds the attributes *named* in the caption. The judge is a different network from the
reader, which is only used for evaluation, and is trained on different inputs.
"""

import logging
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from pipelines.evaluation.embedded_encoders import Field, Layout, ResidualBlock
from recipes.captions import LIGHT_PHRASES, SCENE_PHRASES
from recipes.dataset import SHARD, captions_of, picture_of
from recipes.evaluate import named_attributes
from recipes.models import build_scheduler
from recipes.parallel import generator_of, members, share_gradients
from recipes.picture import Picture
from recipes.steps import Checkpoint, Log, MovingAverage, learning_rate

logger = logging.getLogger(__name__)

WIDTHS = (40, 80, 128)
LEVELS = 8  # pairs of sine and cosine that encode the noise level


def named_fields(layout: Layout, picture: Picture, text: str) -> np.ndarray:
    """Return (fields,) bool: the fields ``text`` names if the picture has exactly one subject, else all False."""
    if len(picture.placed) != 1:
        return np.zeros(len(layout.fields), bool)
    placed = picture.placed[0]
    said = {(placed.subject.kind, name) for name in named_attributes(picture, text)}
    words = {
        "kind": (placed.subject.kind,),
        "scene": (picture.scene, *SCENE_PHRASES[picture.scene]),
        "light": LIGHT_PHRASES[picture.light],
        "style": (picture.style,) if picture.style != "photo" else (),
        "wearable": (f"{placed.view.wearable_colour} {placed.view.wearable}",)
        if placed.view.wearable
        else (),
        "expression": (placed.view.expression,) if placed.subject.kind == "person" else (),
        "clothing": (placed.view.clothing,) if placed.subject.kind == "person" else (),
    }
    said |= {
        ("picture", name) for name, phrases in words.items() if any(phrase in text for phrase in phrases)
    }
    if ("picture", "wearable") in said:
        said.add(("picture", "wearable colour"))
    return np.asarray([(field.group, field.name) in said for field in layout.fields])


def _named_shard(layout: Layout, first: int) -> np.ndarray:
    rows = []
    for index in range(first, first + SHARD):
        picture = picture_of(index)
        rows.append([named_fields(layout, picture, text) for text in captions_of(index)])
    return np.asarray(rows)


def cache_named(layout: Layout, path: Path, count: int, *, processes: int) -> np.ndarray:
    """Return (count, CAPTIONS, fields) bool: which fields each caption names."""
    if not path.exists():
        firsts = range(0, count, SHARD)
        with ProcessPoolExecutor(processes) as pool:
            named = np.concatenate(list(pool.map(_named_shard, [layout] * len(firsts), firsts)))
        np.save(path, named)
    return np.load(path)[:count]


class Judge(nn.Module):
    """Maps noisy latents (B, 4, 16, 16) and ᾱ of their noise level (B,) to the reader's outputs."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.level = nn.Sequential(
            nn.Linear(2 * LEVELS, WIDTHS[0]), nn.SiLU(), nn.Linear(WIDTHS[0], WIDTHS[0])
        )
        self.stem = nn.Conv2d(4, WIDTHS[0], 3, padding=1)
        self.stages = nn.Sequential(
            ResidualBlock(WIDTHS[0]), nn.Conv2d(WIDTHS[0], WIDTHS[1], 3, stride=2, padding=1), nn.SiLU(),
            ResidualBlock(WIDTHS[1]), nn.Conv2d(WIDTHS[1], WIDTHS[2], 3, stride=2, padding=1), nn.SiLU(),
            ResidualBlock(WIDTHS[2]),
        )  # fmt: skip
        self.head = nn.Sequential(nn.Linear(16 * WIDTHS[2], 256), nn.SiLU(), nn.Linear(256, outputs))

    def forward(self, noisy: torch.Tensor, signal: torch.Tensor) -> torch.Tensor:
        turns = signal[:, None].sqrt() * 2.0 ** torch.arange(LEVELS)
        level = self.level(torch.cat([turns.sin(), turns.cos()], dim=1))
        return self.head(
            self.stages(
                self.stem(noisy.contiguous(memory_format=torch.channels_last)) + level[:, :, None, None]
            ).flatten(1)
        )


def field_losses(
    fields: list[Field], outputs: torch.Tensor, labels: torch.Tensor, counted: torch.Tensor
) -> torch.Tensor:
    """Return (B,): per row, the sum of cross-entropy (choices) or 8 x squared error (scales) over counted fields."""
    total = outputs.new_zeros(len(outputs))
    for column, field in enumerate(fields):
        rows = counted[:, column].nonzero()[:, 0]
        if not len(rows):
            continue
        part, target = outputs[rows, field.start : field.start + field.size], labels[rows, column]
        if field.values:
            loss = F.cross_entropy(part, target.long(), reduction="none")
        else:
            loss = 8.0 * (part[:, 0] - target).square()
        total = total.index_add(0, rows, loss)
    return total


def train_judge(
    layout: Layout,
    latents: torch.Tensor,
    labels: np.ndarray,
    folder: Path,
    *,
    steps: int,
    scaling: float,
    batch: int = 64,
) -> Judge:
    """Train the judge (resumable) and return its averaged weights. ``labels``: (count, fields), NaN where unknown."""
    torch.manual_seed(0)
    judge = Judge(layout.size).to(memory_format=torch.channels_last)
    parameters = list(judge.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=0.02, fused=True)
    average = MovingAverage(parameters, 0.995)
    checkpoint = Checkpoint(
        folder / "judge.pt", modules={"judge": judge}, optimizer=optimizer, average=average
    )
    truth = torch.from_numpy(labels)
    alphas = build_scheduler().alphas_cumprod
    batch //= members()
    log = Log("judge", total=steps)
    for step in range(checkpoint.load(), steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, peak=2e-3, total=steps, warmup=100, decay_from=0.3)
        generator = generator_of(3, step)
        rows = torch.randint(0, len(latents), (batch,), generator=generator)
        signal = alphas[torch.randint(0, 800, (batch,), generator=generator)]
        with torch.autocast("cpu", torch.bfloat16):
            outputs = judge(noised(latents[rows].float() * scaling, signal, generator), signal).float()
        loss = field_losses(layout.fields, outputs, truth[rows], ~truth[rows].isnan()).mean()
        loss.backward()
        share_gradients(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update(step)
        log(step, pictures=batch, loss=float(loss.detach()))
        if (step + 1) % 500 == 0 or step + 1 == steps:
            checkpoint.save(step + 1)
    average.swap()
    return judge.eval().requires_grad_(False)


def noised(clean: torch.Tensor, signal: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return sqrt(ᾱ) clean + sqrt(1 - ᾱ) noise; ``clean`` (B, 4, h, w) has unit variance, ``signal`` is ᾱ (B,)."""
    kept = signal.view(-1, 1, 1, 1)
    return kept.sqrt() * clean + (1.0 - kept).sqrt() * torch.randn(clean.shape, generator=generator)


class Lesson:
    """A loss on the predicted clean latents of a batch, for the attributes that its captions name."""

    def __init__(self, judge: Judge, fields: list[Field], labels: np.ndarray, named: np.ndarray) -> None:
        """``labels``: (count, fields); ``named``: (count, CAPTIONS, fields) bool."""
        self.judge, self.fields = judge, fields
        self.labels = torch.from_numpy(labels)
        self.named = torch.from_numpy(named)
        self.alphas = build_scheduler().alphas_cumprod

    def __call__(
        self, clean: torch.Tensor, rows: torch.Tensor, captions: torch.Tensor, timesteps: torch.Tensor,
        generator: torch.Generator,
    ) -> torch.Tensor:  # fmt: skip
        """Return the mean over the batch of the named fields' losses, with each picture weighted by sqrt(ᾱ).

        ``clean`` (B, 4, 16, 16), scaled. It is noised again to a level below that of ``timesteps``: a prediction from
        a high noise level is blurred, and details hidden by the noise are not required. ``captions`` < 0: no caption.
        """
        share = 0.1 + 0.6 * torch.rand(len(clean), generator=generator)
        below = (timesteps * share).long().clamp(max=799)
        signal = self.alphas[below]
        counted = self.named[rows, captions.clamp(min=0)] & (captions >= 0)[:, None]
        with torch.autocast("cpu", torch.bfloat16):
            outputs = self.judge(noised(clean, signal, generator), signal).float()
        losses = field_losses(self.fields, outputs, self.labels[rows], counted)
        return (losses * self.alphas[timesteps].sqrt()).mean()
