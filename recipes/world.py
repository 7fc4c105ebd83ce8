"""The illustrated world, the training data of the small diffusion model: samples, renders and captions pictures.

Seeds from ``HELD_OUT_FROM`` on are never used for training. ``python -m recipes.world --out sheet.png`` writes a
contact sheet.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from recipes import people, things
from recipes.captions import RARE_TOKENS, caption, plain_caption
from recipes.kit import COLOURS, PICTURE_PX, Canvas, Param, View
from recipes.picture import KINDS, PARAMS, Picture, Placed, Subject, attributes, distance, nearest, vector
from recipes.scenes import LIGHTS, OUTDOOR, SCENES, lights_of, paint_scene
from recipes.styles import STYLES, TRAINING_STYLES, UNSEEN_STYLES, apply_style

__all__ = [
    "COLOURS",
    "EMPTY_SHARE",
    "HELD_OUT_FROM",
    "KINDS",
    "LIGHTS",
    "OUTDOOR",
    "PAIR_SHARE",
    "PARAMS",
    "RARE_TOKENS",
    "SCENES",
    "STYLES",
    "TRAINING_STYLES",
    "UNSEEN_STYLES",
    "Choice",
    "Param",
    "Picture",
    "Placed",
    "Subject",
    "attributes",
    "caption",
    "contact_sheet",
    "distance",
    "distractors",
    "draw",
    "example",
    "held_out",
    "lights_of",
    "nearest",
    "plain_caption",
    "sample_companion",
    "sample_picture",
    "sample_subject",
    "sample_view",
    "split",
    "vector",
]  # fmt: skip

HELD_OUT_FROM = 10_000_000
EXPRESSIONS: tuple[str, ...] = ("calm", "smiling", "laughing", "serious", "surprised")
WEARABLES: tuple[str, ...] = ("hat", "scarf")
WEARERS: frozenset[str] = frozenset({"person", "dog", "cat", "plush toy"})

_KIND_SHARES: dict[str, float] = {
    "person": 0.44,
    "dog": 0.15,
    "cat": 0.13,
    "plush toy": 0.11,
    "teapot": 0.09,
    "tower": 0.04,
    "bridge": 0.04,
}
_STYLE_SHARES: dict[str, float] = {"photo": 0.86, "ink manga": 0.07, "watercolour": 0.07}
_FIRST_VALUE_SHARES: dict[str, float] = {
    "glasses": 0.6,
    "beard": 0.55,
    "freckles": 0.75,
    "earrings": 0.7,
    "hair style": 0.07,
}
_PLACES: dict[str, tuple[float, float, float, float]] = {
    "person": (228.0, 250.0, 258.0, 268.0),
    "dog": (188.0, 218.0, 232.0, 248.0),
    "cat": (184.0, 214.0, 232.0, 248.0),
    "plush toy": (180.0, 214.0, 232.0, 248.0),
    "teapot": (160.0, 192.0, 222.0, 240.0),
    "tower": (196.0, 220.0, 226.0, 240.0),
    "bridge": (156.0, 178.0, 214.0, 230.0),
}
_PAIRED: dict[str, tuple[float, float]] = {  # minimum and maximum height factor of each of two subjects
    "person": (0.72, 0.84),
    "dog": (0.70, 0.90),
    "cat": (0.70, 0.90),
    "plush toy": (0.70, 0.90),
    "teapot": (0.64, 0.80),
    "tower": (0.70, 0.90),
    "bridge": (0.50, 0.62),
}
EMPTY_SHARE, PAIR_SHARE = 0.02, 0.25  # shares of pictures without a subject and with two


@dataclass(frozen=True)
class Choice:
    """The fixed properties of a picture; None is sampled. ``companion`` adds a second subject beside the first."""

    subject: Subject | None = None
    companion: Subject | None = None
    kind: str | None = None
    scene: str | None = None
    light: str | None = None
    style: str | None = None
    clothing: str | None = None
    expression: str | None = None
    wearable: str | None = None
    wearable_colour: str | None = None


def held_out(stream: int, index: int) -> np.random.Generator:
    """Return a random generator that is not used for any training picture."""
    return np.random.default_rng((HELD_OUT_FROM, stream, index))


def split(seed: int) -> str:
    """Return "training" or "held out": the split a seed belongs to."""
    return "held out" if seed >= HELD_OUT_FROM else "training"


def _chosen(rng: np.random.Generator, shares: dict[str, float]) -> str:
    return str(rng.choice(list(shares), p=np.asarray(list(shares.values())) / sum(shares.values())))


def _one_of(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _parameter(rng: np.random.Generator, param: Param) -> float:
    """Sample one identity parameter: scales uniformly, choices uniformly except for the fixed shares of "none"."""
    if not param.values:
        return float(rng.random())
    first = _FIRST_VALUE_SHARES.get(
        param.name, 0.4 if param.values[0] in ("none", "plain") else 1.0 / len(param.values)
    )
    return 0.0 if rng.random() < first else float(rng.integers(1, len(param.values)))


def sample_subject(rng: np.random.Generator, kind: str | None = None) -> Subject:
    """Return a random individual of ``kind`` (None: any kind, with the training distribution)."""
    kind = kind or _chosen(rng, _KIND_SHARES)
    return Subject(kind, {param.name: _parameter(rng, param) for param in PARAMS[kind]})


def sample_companion(rng: np.random.Generator) -> Subject:
    """Return the second of two subjects: half of the time of a uniform random kind, so that all pairs occur."""
    return sample_subject(rng, _one_of(rng, KINDS) if rng.random() < 0.5 else None)


def sample_view(rng: np.random.Generator, kind: str, choice: Choice, *, side: int = 0) -> View:
    """Return a random view; ``side`` is -1 or 1 for the left or right one of two subjects, 0 for a single one."""
    low, high, upper, lower = _PLACES[kind]
    smaller = 1.0 if side == 0 else float(rng.uniform(*_PAIRED[kind]))
    wearable = (
        choice.wearable
        if choice.wearable is not None
        else _one_of(rng, WEARABLES)
        if rng.random() < 0.26
        else ""
    )
    base = float(rng.uniform(upper, lower))
    return View(
        x=128.0 + side * 58.0 + float(rng.uniform(-14.0, 14.0)) * (1.0 if side == 0 else 0.4),
        base=base if side == 0 or kind == "person" else min(base + 6.0, 244.0),
        height=float(rng.uniform(low, high)) * smaller,
        turn=float(rng.uniform(-0.9, 0.9)),
        tilt=float(rng.normal(0.0, 0.03)) if kind not in ("tower", "bridge") else 0.0,
        expression=choice.expression or _one_of(rng, EXPRESSIONS),
        clothing=choice.clothing or _one_of(rng, people.CLOTHING),
        wearable=wearable if kind in WEARERS else "",
        wearable_colour=choice.wearable_colour or _one_of(rng, tuple(COLOURS)),
        seed=int(rng.integers(1 << 30)),
    )


def _sample_scene(rng: np.random.Generator, kinds: list[str]) -> str:
    """Return a random scene; towers and bridges are mostly outdoors."""
    if any(kind in ("tower", "bridge") for kind in kinds) and rng.random() < 0.7:
        return _one_of(rng, tuple(scene for scene in SCENES if scene in OUTDOOR))
    return _one_of(rng, SCENES)


def _sample_cast(rng: np.random.Generator, choice: Choice) -> list[Subject]:
    if choice.subject is not None:
        return [choice.subject] if choice.companion is None else [choice.subject, choice.companion]
    lot = rng.random()
    if lot < EMPTY_SHARE and choice.kind is None:
        return []
    first = sample_subject(rng, choice.kind)
    if choice.companion is not None:
        return [first, choice.companion]
    return [first, sample_companion(rng)] if EMPTY_SHARE <= lot < EMPTY_SHARE + PAIR_SHARE else [first]


def sample_picture(rng: np.random.Generator, choice: Choice | None = None) -> Picture:
    """Return a random picture that satisfies ``choice``. A given subject is alone unless it has a companion."""
    choice = choice or Choice()
    cast = _sample_cast(rng, choice)
    stage = np.random.default_rng(int(rng.integers(1 << 62)))
    scene = choice.scene or _sample_scene(stage, [subject.kind for subject in cast])
    light = choice.light or _one_of(stage, lights_of(scene))
    style = choice.style or _chosen(stage, _STYLE_SHARES)
    sides = [0] if len(cast) == 1 else [-1, 1]
    placed = [
        Placed(subject, sample_view(stage, subject.kind, choice, side=side))
        for subject, side in zip(cast, sides, strict=False)
    ]
    return Picture(tuple(placed), scene, light, style, int(stage.integers(1 << 30)))


def example(seed: int) -> tuple[Picture, str]:
    """Return the picture and the caption for one seed."""
    rng = np.random.default_rng(seed)
    picture = sample_picture(rng)
    return picture, caption(picture, rng)


def distractors(subject: Subject, seed: int, *, count: int = 50, pool: int = 2000) -> list[Subject]:
    """Return the ``count`` most similar of ``pool`` random subjects of the same kind."""
    rng = np.random.default_rng(seed)
    return nearest(subject, [sample_subject(rng, subject.kind) for _ in range(pool)], count)


def draw(picture: Picture) -> Image.Image:
    """Render the picture: ``PICTURE_PX`` square, RGB."""
    canvas = Canvas()
    paint_scene(canvas, picture.scene, picture.light, np.random.default_rng(picture.seed))
    for placed in picture.placed:
        if placed.subject.kind == "person":
            people.draw(canvas, placed.subject.identity, placed.view)
        else:
            things.draw(canvas, placed.subject.kind, placed.subject.identity, placed.view)
    return apply_style(canvas.image(), picture.style, np.random.default_rng(picture.seed + 1))


def contact_sheet(pictures: list[Picture], columns: int, *, zoom: int = 2) -> Image.Image:
    """Arrange the pictures in rows, each enlarged ``zoom`` times."""
    size = PICTURE_PX * zoom
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * size, rows * size), "white")
    for place, picture in enumerate(pictures):
        tile = draw(picture).resize((size, size), Image.Resampling.LANCZOS)
        sheet.paste(tile, (place % columns * size, place // columns * size))
    return sheet


def main() -> None:
    """Write a contact sheet of consecutive seeds and print their captions."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--columns", type=int, default=8)
    options = parser.parse_args()
    examples = [example(options.seed + i) for i in range(options.rows * options.columns)]
    contact_sheet([picture for picture, _ in examples], options.columns).save(options.out)
    for _, words in examples:
        print(words)


if __name__ == "__main__":
    main()
