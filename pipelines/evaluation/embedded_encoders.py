"""The evaluation models for the embedded base model: a small CLIP, an identity encoder and a parameter reader.

They were trained on the illustrated world (`recipes/train_instruments.py`), including pictures encoded and decoded by
the base model's VAE, and were never used to train the base model. Their scores are comparable with each other, but not
with those of OpenAI's CLIP or DINO.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn
from transformers import CLIPTokenizer

WIDTHS = (32, 64, 112, 160)
STEM = 16
EMBEDDING = 128
TEXT_LAYERS = 2
INSTRUMENTS_FOLDER = Path(__file__).resolve().parents[2] / "assets" / "instruments"


def _convolution(before: int, width: int, *, stride: int = 1) -> list[nn.Module]:
    """Return a 3x3 convolution and its batch norm."""
    return [nn.Conv2d(before, width, 3, stride, padding=1, bias=False), nn.BatchNorm2d(width)]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm and a residual connection; (B, C, h, w) in and out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_convolution(width, width), nn.SiLU(), *_convolution(width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.silu(x + self.body(x))


class Trunk(nn.Module):
    """Maps pictures (B, 3, 128, 128) in [-1, 1] to four feature maps of width 32, 16, 8 and 4."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_convolution(3, STEM, stride=2), nn.SiLU())
        self.stages = nn.ModuleList(
            nn.Sequential(*_convolution(before, width, stride=2), nn.SiLU(), ResidualBlock(width))
            for before, width in pairwise((STEM, *WIDTHS))
        )

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        maps = [self.stem(pixels)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps[1:]


def pooled(last: torch.Tensor) -> torch.Tensor:
    """Pool (B, C, 4, 4) to (B, 17 C): the mean and all 16 cells, so that position matters too."""
    return torch.cat([last.mean((2, 3)), last.flatten(1)], dim=1)


class ImageTower(nn.Module):
    """The trunk and one projection to a unit vector."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk()
        self.project = nn.Linear(17 * WIDTHS[-1], EMBEDDING)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.project(pooled(self.trunk(pixels)[-1])), dim=-1)


class TextTower(nn.Module):
    """Maps token ids (B, T) to unit vectors: a small transformer, averaged over non-padding tokens."""

    def __init__(self, vocabulary: int, context: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, EMBEDDING)
        self.places = nn.Parameter(torch.randn(context, EMBEDDING) * 0.02)
        layer = nn.TransformerEncoderLayer(
            EMBEDDING, 4, 4 * EMBEDDING, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, TEXT_LAYERS, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(EMBEDDING)

    def forward(self, ids: torch.Tensor, end_id: int) -> torch.Tensor:
        padding = (ids == end_id).cumsum(1) > 1  # all tokens after the first end token are padding
        states = self.layers(self.tokens(ids) + self.places[: ids.shape[1]], src_key_padding_mask=padding)
        kept = (~padding).unsqueeze(-1).float()
        return F.normalize(self.norm((states * kept).sum(1) / kept.sum(1)), dim=-1)


class SmallCLIP(nn.Module):
    """Encodes pictures and captions into one embedding space."""

    def __init__(self, vocabulary: int, context: int) -> None:
        super().__init__()
        self.image = ImageTower()
        self.text = TextTower(vocabulary, context)
        self.log_scale = nn.Parameter(torch.tensor(2.5))


class Reader(nn.Module):
    """Maps a picture to ``outputs`` numbers: logits of every choice and values of every scale (see ``Layout``)."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.trunk = Trunk()
        self.head = nn.Sequential(nn.Linear(17 * WIDTHS[-1], 256), nn.SiLU(), nn.Linear(256, outputs))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.head(pooled(self.trunk(pixels)[-1]))


@dataclass(frozen=True)
class Field:
    """One output of the reader: a choice (``values``) or a scale in [0, 1] with names for both ends."""

    group: str  # a kind ("person", "dog", ...) or "picture"
    name: str
    values: tuple[str, ...]
    low: str
    high: str
    start: int

    @property
    def size(self) -> int:
        return max(len(self.values), 1)


class Layout:
    """The position of each field in the reader's output. The ``picture`` group has kind, scene, style and wearable."""

    def __init__(self, groups: dict[str, list[dict]]) -> None:
        self.groups = groups
        self.fields: list[Field] = []
        start = 0
        for group, entries in groups.items():
            for entry in entries:
                field = Field(
                    group, entry["name"], tuple(entry["values"]), entry["low"], entry["high"], start
                )
                self.fields.append(field)
                start += field.size
        self.size = start

    def of(self, group: str) -> Iterator[Field]:
        return (field for field in self.fields if field.group == group)


class Instruments:
    """All three models, loaded for evaluation. Pictures are (B, 3, 128, 128) float32 in [-1, 1]."""

    def __init__(self, folder: Path = INSTRUMENTS_FOLDER) -> None:
        self.tokenizer = CLIPTokenizer.from_pretrained(folder.parent / "base" / "tokenizer")
        facts = json.loads((folder / "instruments.json").read_text())
        self.layout = Layout(facts["groups"])
        self.clip = SmallCLIP(facts["vocabulary"], facts["context"])
        self.identity_encoder = ImageTower()
        self.reader = Reader(self.layout.size)
        for name, module in (
            ("clip", self.clip),
            ("identity", self.identity_encoder),
            ("reader", self.reader),
        ):
            state = load_file(folder / f"{name}.safetensors")
            module.load_state_dict(
                {key: t.float() if t.is_floating_point() else t for key, t in state.items()}
            )
            module.eval().requires_grad_(False)

    def clip_image(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, EMBEDDING) unit vectors."""
        return self.clip.image(pixels)

    def clip_text(self, texts: list[str]) -> torch.Tensor:
        """(B, EMBEDDING) unit vectors."""
        context = self.clip.text.places.shape[0]
        ids = self.tokenizer(
            texts, padding="max_length", max_length=context, truncation=True, return_tensors="pt"
        ).input_ids
        return self.clip.text(ids, self.tokenizer.eos_token_id)

    def identity(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return (B, EMBEDDING) unit vectors that are trained to be invariant to scene, pose and light."""
        return self.identity_encoder(pixels)

    def features(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """Return the identity encoder's four feature maps (B, C, h, w), for perceptual distances."""
        return self.identity_encoder.trunk(pixels)

    def read(self, pixels: torch.Tensor, group: str) -> list[dict[str, float | str]]:
        """Return for each picture {field name: value}, the name of a choice or the number of a scale in [0, 1]."""
        found = []
        for row in self.reader(pixels):
            values = {}
            for field in self.layout.of(group):
                part = row[field.start : field.start + field.size]
                values[field.name] = (
                    field.values[int(part.argmax())] if field.values else float(part[0].clamp(0, 1))
                )
            found.append(values)
        return found
