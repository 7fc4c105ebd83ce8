"""Stage 5: the measuring models. The reader is trained first; CLIP and the identity encoder start from its trunk.

Training data: renders, the same pictures after an autoencoder round trip, and crops around one of two subjects, of
all kinds. The identity encoder learns from the two pictures of each individual.
"""

import json
import logging
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTokenizer

from pipelines.evaluation.embedded_encoders import ImageTower, Layout, Reader, SmallCLIP
from recipes.dataset import CAPTIONS, SHARD, Pictures, picture_of
from recipes.kit import COLOURS
from recipes.models import CONTEXT_TOKENS
from recipes.parallel import generator_of, members, rank, share_gradients, wait_for_all
from recipes.people import CLOTHING
from recipes.steps import Checkpoint, Log, MovingAverage, learning_rate
from recipes.train_vae import load_vae
from recipes.world import (
    EXPRESSIONS,
    KINDS,
    LIGHTS,
    PARAMS,
    SCENES,
    TRAINING_STYLES,
    WEARABLES,
    Picture,
    Placed,
)

logger = logging.getLogger(__name__)

ROUND_TRIP_SHARE = 0.7  # of the pictures that have one


def layout_groups() -> dict[str, list[dict]]:
    """Return the reader's outputs as plain data: identity parameters per kind, and fields of the whole picture."""

    def choice(name: str, values: tuple[str, ...]) -> dict:
        return {"name": name, "values": list(values), "low": "", "high": ""}

    picture = [
        choice("kind", KINDS), choice("scene", SCENES), choice("light", LIGHTS), choice("style", TRAINING_STYLES),
        choice("wearable", ("none", *WEARABLES)), choice("wearable colour", tuple(COLOURS)),
        choice("expression", EXPRESSIONS), choice("clothing", tuple(CLOTHING)),
    ]  # fmt: skip
    groups = {"picture": picture}
    for kind, params in PARAMS.items():
        groups[kind] = [
            {"name": p.name, "values": list(p.values), "low": p.low, "high": p.high} for p in params
        ]
    return groups


def truth(layout: Layout, picture: Picture, placed: Placed | None) -> np.ndarray:
    """Return (fields,) float32: the index of a choice or the value of a scale; NaN where unknown."""
    known: dict[tuple[str, str], float] = {("picture", "scene"): SCENES.index(picture.scene)}
    known["picture", "light"] = LIGHTS.index(picture.light)
    if picture.style in TRAINING_STYLES:
        known["picture", "style"] = TRAINING_STYLES.index(picture.style)
    if placed:
        kind, view = placed.subject.kind, placed.view
        known["picture", "kind"] = KINDS.index(kind)
        known["picture", "wearable"] = ("none", *WEARABLES).index(view.wearable or "none")
        if view.wearable:
            known["picture", "wearable colour"] = list(COLOURS).index(view.wearable_colour)
        if kind == "person":
            known["picture", "expression"] = EXPRESSIONS.index(view.expression)
            known["picture", "clothing"] = CLOTHING.index(view.clothing)
        known |= {(kind, name): value for name, value in placed.subject.identity.items()}
    return np.asarray([known.get((f.group, f.name), math.nan) for f in layout.fields], np.float32)


def cache_labels(layout: Layout, path: Path, count: int) -> dict[str, np.ndarray]:
    """Return the labels of the whole picture (for one subject, its own) and of each half of a two-subject picture."""
    if not path.exists():
        rows = {"whole": [], "left": [], "right": [], "subjects": []}
        for index in range(count):
            picture = picture_of(index)
            one = picture.placed[0] if len(picture.placed) == 1 else None
            rows["whole"].append(truth(layout, picture, one))
            rows["left"].append(truth(layout, picture, picture.placed[0] if picture.placed else None))
            rows["right"].append(truth(layout, picture, picture.placed[-1] if picture.placed else None))
            rows["subjects"].append(len(picture.placed))
        np.savez(path, **{name: np.stack(row) for name, row in rows.items()})
    return dict(np.load(path))


@torch.no_grad()
def cache_round_trips(pictures: Pictures, latents: torch.Tensor, folder: Path, count: int) -> Pictures:
    """Decode the first ``count`` pictures from their latents into shards of uint8 pixels."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{shard:04d}.npy" for shard in range(count // SHARD)]
    missing = [shard for shard, path in enumerate(paths) if not path.exists()]
    if missing:
        vae = load_vae(folder.parent).to(memory_format=torch.channels_last)
    for shard in missing[rank() :: members()]:
        parts = []
        for part in latents[shard * SHARD : (shard + 1) * SHARD].split(50):
            with torch.autocast("cpu", torch.bfloat16):
                decoded = vae.decode(part.float()).sample.float()
            parts.append(((decoded.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8))
        temporary = paths[shard].with_suffix(".tmp.npy")
        np.save(temporary, torch.cat(parts).permute(0, 2, 3, 1).contiguous().numpy())
        temporary.rename(paths[shard])
        logger.info("round trips: shard %d of %d", shard + 1, len(paths))
    wait_for_all()
    return Pictures(folder)


class Views:
    """Pixel batches for the measuring models: slightly shifted renders and round trips; crops around one of two."""

    def __init__(self, pictures: Pictures, round_trips: Pictures, generator: torch.Generator) -> None:
        self.sources = (pictures, round_trips)
        self.generator = generator

    def random(self) -> float:
        return float(torch.rand((), generator=self.generator))

    def pixels(self, index: int, side: str) -> torch.Tensor:
        """Return (3, 128, 128) float32 in [-1, 1]. ``side``: whole, left or right."""
        passed = index < len(self.sources[1]) and self.random() < ROUND_TRIP_SHARE
        picture = self.sources[passed].pixels([index])[0].float() / 127.5 - 1.0
        if side == "whole":
            size = int(128 * (0.86 + 0.14 * self.random()))
            left, top = int((128 - size) * self.random()), int((128 - size) * self.random())
        else:
            size = 72 + int(10 * self.random())
            left = int(6 * self.random()) if side == "left" else 128 - size - int(6 * self.random())
            top = 128 - size - int((56 - 10) * 0.6 * self.random())
        crop = picture[None, :, top : top + size, left : left + size]
        return F.interpolate(crop, (128, 128), mode="bilinear", align_corners=False, antialias=False)[0]

    def batch(self, indices: list[int], sides: list[str]) -> torch.Tensor:
        pixels = torch.stack([self.pixels(i, side) for i, side in zip(indices, sides, strict=True)])
        return pixels.contiguous(memory_format=torch.channels_last)


def reader_loss(layout: Layout, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of the choices plus 8 x squared error of the scales, over the known fields."""
    total = outputs.new_zeros(())
    for column, field in enumerate(layout.fields):
        known = ~labels[:, column].isnan()
        if not known.any():
            continue
        part, target = outputs[known, field.start : field.start + field.size], labels[known, column]
        loss = F.cross_entropy(part, target.long()) if field.values else 8.0 * F.mse_loss(part[:, 0], target)
        total = total + loss * (known.sum() / len(labels)) ** 0.5
    return total


def contrastive_loss(a: torch.Tensor, b: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Return the symmetric InfoNCE loss of two (B, D) batches of unit vectors."""
    logits = a @ b.T * scale
    truth = torch.arange(len(a))
    return 0.5 * (F.cross_entropy(logits, truth) + F.cross_entropy(logits.T, truth))


def _fast(module: nn.Module, *inputs: torch.Tensor | int) -> torch.Tensor:
    """Return the module's output in float32, computed in bfloat16; with channels_last, twice as fast on a CPU core."""
    with torch.autocast("cpu", torch.bfloat16):
        return module(*inputs).float()


def _fit(
    name: str, modules: dict[str, nn.Module], loss_of, folder: Path, *, steps: int, peak: float, batch: int
) -> None:
    """Train ``modules`` for ``steps`` steps on ``loss_of(generator)`` (resumable); leave averaged weights in them."""
    for module in modules.values():
        module.to(memory_format=torch.channels_last)
    parameters = [p for module in modules.values() for p in module.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=peak, weight_decay=0.02, fused=True)
    average = MovingAverage(parameters, 0.995)
    checkpoint = Checkpoint(folder / f"{name}.pt", modules=modules, optimizer=optimizer, average=average)
    log = Log(name, total=steps)
    for step in range(checkpoint.load(), steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, peak=peak, total=steps, warmup=100, decay_from=0.2)
        loss = loss_of(generator_of(len(name), step))
        loss.backward()
        share_gradients(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 2.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update(step)
        log(step, pictures=batch, loss=float(loss.detach()))
        if (step + 1) % 200 == 0 or step + 1 == steps:
            checkpoint.save(step + 1)
    average.swap()


def train_reader(
    layout: Layout, labels, pictures, round_trips, folder: Path, *, steps: int, batch: int = 48
) -> Reader:
    """Train the reader to predict every identity parameter and the fields of the whole picture."""
    torch.manual_seed(4)
    reader = Reader(layout.size)

    def loss_of(generator: torch.Generator) -> torch.Tensor:
        views = Views(pictures, round_trips, generator)
        indices = torch.randint(0, len(labels["subjects"]), (batch,), generator=generator).tolist()
        sides = [_side(labels, i, views) for i in indices]
        rows = torch.from_numpy(np.stack([labels[side][i] for i, side in zip(indices, sides, strict=True)]))
        return reader_loss(layout, _fast(reader, views.batch(indices, sides)), rows)

    _fit("reader", {"reader": reader}, loss_of, folder, steps=steps, peak=2e-3, batch=batch)
    return reader.eval()


def _side(labels, index: int, views: Views) -> str:
    if labels["subjects"][index] != 2 or views.random() < 0.3:
        return "whole"
    return "left" if views.random() < 0.5 else "right"


def train_identity(
    reader: Reader, labels, pictures, round_trips, folder: Path, *, steps: int, pairs: int = 40
) -> ImageTower:
    """Train contrastively: two pictures of one individual against the batch, which is mostly of one kind."""
    torch.manual_seed(5)
    tower = ImageTower()
    tower.trunk.load_state_dict(reader.trunk.state_dict())
    alone = labels["subjects"] == 1
    both = np.flatnonzero(alone[0::2] & alone[1::2])
    kinds = labels["whole"][2 * both, 0]

    def loss_of(generator: torch.Generator) -> torch.Tensor:
        views = Views(pictures, round_trips, generator)
        kind = kinds[int(torch.randint(0, len(kinds), (), generator=generator))]
        pool = both[kinds == kind] if views.random() < 0.8 else both
        chosen = pool[torch.randint(0, len(pool), (pairs,), generator=generator).numpy()]
        chosen = np.unique(chosen)
        indices = np.concatenate([2 * chosen, 2 * chosen + 1]).tolist()
        first, second = _fast(tower, views.batch(indices, ["whole"] * len(indices))).chunk(2)
        return contrastive_loss(first, second, torch.tensor(12.0))

    _fit("identity", {"identity": tower}, loss_of, folder, steps=steps, peak=1e-3, batch=2 * pairs)
    return tower.eval()


def train_clip(reader: Reader, tokens: np.ndarray, tokenizer: CLIPTokenizer, pictures, round_trips, folder: Path, *, steps: int,
               batch: int = 96) -> SmallCLIP:  # fmt: skip
    """Train the small CLIP on pictures and their captions."""
    torch.manual_seed(6)
    clip = SmallCLIP(len(tokenizer), CONTEXT_TOKENS)
    clip.image.trunk.load_state_dict(reader.trunk.state_dict())

    def loss_of(generator: torch.Generator) -> torch.Tensor:
        views = Views(pictures, round_trips, generator)
        indices = torch.randint(0, len(tokens), (batch,), generator=generator)
        which = torch.randint(0, CAPTIONS, (batch,), generator=generator)
        ids = torch.from_numpy(tokens[indices.numpy(), which.numpy()].astype(np.int64))
        seen = _fast(clip.image, views.batch(indices.tolist(), ["whole"] * batch))
        return contrastive_loss(
            seen, clip.text(ids, tokenizer.eos_token_id), clip.log_scale.exp().clamp(max=50.0)
        )

    _fit("clip", {"clip": clip}, loss_of, folder, steps=steps, peak=1e-3, batch=batch)
    return clip.eval()


def save_instruments(
    folder: Path, *, clip: SmallCLIP, identity: ImageTower, reader: Reader, vocabulary: int
) -> None:
    """Save float16 safetensors and the reader's layout."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, module in (("clip", clip), ("identity", identity), ("reader", reader)):
        state = {k: t.half() if t.is_floating_point() else t for k, t in module.state_dict().items()}
        save_file({k: t.contiguous() for k, t in state.items()}, folder / f"{name}.safetensors")
    facts = {"vocabulary": vocabulary, "context": CONTEXT_TOKENS, "groups": layout_groups()}
    (folder / "instruments.json").write_text(json.dumps(facts, indent=1) + "\n")
