"""Pairs of held-out subjects of one class, and whether a picture shows both of them, one on each side."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bench.dreambooth import embedding, render
from pipelines.data.photographs import to_tensor
from pipelines.data.subject import SubjectPhotos
from pipelines.evaluation.embedded_encoders import Instruments
from pipelines.evaluation.metrics import Encoders, pairwise
from recipes import world
from recipes.picture import PARAMS, distance

WORDS = ("zwx", "qev")
PHOTOS = 4
STRANGERS = 10
Box = tuple[int, int, int, int]
# Where the renderer places each of two subjects, in a picture of 128 px.
SQUARES: dict[str, tuple[Box, Box]] = {"person": ((0, 40, 88, 128), (40, 40, 128, 128))}
SQUARES_OF_OTHERS: tuple[Box, Box] = ((0, 40, 80, 120), (48, 40, 128, 120))


@dataclass(frozen=True)
class Pair:
    """Two subjects with photographs; ``members`` and ``lineup`` (2 + STRANGERS, D) begin with the two subjects."""

    name: str
    kind: str
    photographs: tuple[SubjectPhotos, ...]
    members: tuple[world.Subject, ...]
    lineup: torch.Tensor

    @property
    def prompt(self) -> str:
        """A prompt for both subjects that differs from all training prompts."""
        return f"a photo of a {WORDS[0]} {self.kind} beside a {WORDS[1]} {self.kind}"

    @property
    def prompts_alone(self) -> tuple[str, ...]:
        return tuple(f"a photo of a {word} {self.kind}" for word in WORDS)


def make_pair(kind: str, seed: int, *, folder: Path, encoders: Encoders) -> Pair:
    """Return a pair and write its photographs; deterministic for a seed."""
    rng = np.random.default_rng(seed)
    members = [world.sample_subject(rng, kind) for _ in WORDS]
    scenes = [str(scene) for scene in rng.permutation(world.SCENES)]
    photographs = []
    for word, member in zip(WORDS, members, strict=True):
        (folder / word).mkdir(parents=True, exist_ok=True)
        paths = [folder / word / f"{index:02d}.png" for index in range(PHOTOS)]
        for path, scene in zip(paths, scenes, strict=False):
            render(member, scene, rng).save(path)
        photographs.append(SubjectPhotos(word, kind, paths))
    members += [world.sample_subject(rng, kind) for _ in range(STRANGERS)]
    lineup = torch.stack([embedding(one, scenes, rng, encoders) for one in members])
    return Pair(f"{kind} {seed}", kind, tuple(photographs), tuple(members), lineup)


def true_pictures(pair: Pair, count: int) -> list[Image.Image]:
    """Return renders of both subjects in one picture: what a perfect model would generate."""
    rng = np.random.default_rng(0)
    found = []
    for index in range(count):
        first, second = pair.members[:2] if index % 2 else pair.members[1::-1]
        choice = world.Choice(subject=first, companion=second, style="photo", wearable="")
        found.append(world.draw(world.sample_picture(rng, choice)))
    return found


def both_found(
    pictures: Sequence[Image.Image], pair: Pair, *, encoders: Encoders, reader: Instruments
) -> tuple[list[bool], list[bool]]:
    """Return for each picture whether each subject is found on one side, by identity encoder and by parameter reader."""
    boxes = SQUARES.get(pair.kind, SQUARES_OF_OTHERS)
    sides = [
        [picture.crop(box).resize((128, 128), Image.Resampling.BICUBIC) for picture in pictures]
        for box in boxes
    ]
    by_encoder = [pairwise(encoders.identity.image_features(side), pair.lineup).argmax(1) for side in sides]
    by_reader = [_read(side, pair, reader) for side in sides]
    return _one_each(*(each.tolist() for each in by_encoder)), _one_each(*by_reader)


def alone_right(pictures: Sequence[Sequence[Image.Image]], pair: Pair, *, encoders: Encoders) -> list[bool]:
    """Return for each picture of one subject, given by subject, whether it shows this subject."""
    found = [
        pairwise(encoders.identity.image_features(list(shown)), pair.lineup).argmax(1) for shown in pictures
    ]
    return [int(nearest) == place for place, row in enumerate(found) for nearest in row]


def _one_each(left: Sequence[int], right: Sequence[int]) -> list[bool]:
    return [{one, other} == {0, 1} for one, other in zip(left, right, strict=True)]


@torch.no_grad()
def _read(pictures: Sequence[Image.Image], pair: Pair, reader: Instruments) -> list[int]:
    """Return for each picture the member of the line-up with the nearest parameters, -1 for another kind."""
    pixels = to_tensor(list(pictures))
    kinds = [row["kind"] for row in reader.read(pixels, "picture")]
    found = []
    for kind, row in zip(kinds, reader.read(pixels, pair.kind), strict=True):
        identity = {
            param.name: float(param.values.index(str(row[param.name])) if param.values else row[param.name])
            for param in PARAMS[pair.kind]
        }
        seen = world.Subject(pair.kind, identity)
        nearest = int(np.argmin([distance(seen, member) for member in pair.members]))
        found.append(nearest if kind == pair.kind else -1)
    return found
