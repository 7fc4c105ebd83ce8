"""Shared by dogs and cats: colours, parameters and bodies, sitting or standing."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from recipes.frame import WHITE, Frame, colour_of, draw_scarf
from recipes.kit import Canvas, Colour, Identity, Mask, Param, Point, View, mix, scaled

FUR: dict[str, Colour] = {
    "black": (0.15, 0.14, 0.17),
    "brown": (0.47, 0.29, 0.17),
    "golden": (0.90, 0.66, 0.31),
    "russet": (0.74, 0.28, 0.10),
    "cream": (0.93, 0.83, 0.64),
    "slate": (0.44, 0.48, 0.56),
    "silver": (0.70, 0.71, 0.75),
    "ginger": (0.97, 0.60, 0.23),
    "white": (0.95, 0.94, 0.91),
    "caramel": (0.70, 0.42, 0.18),
    "dark brown": (0.31, 0.17, 0.10),
}
EYES: dict[str, Colour] = {
    "brown": (0.40, 0.21, 0.09),
    "amber": (0.88, 0.55, 0.12),
    "blue": (0.27, 0.56, 0.86),
    "green": (0.42, 0.70, 0.28),
    "yellow": (0.93, 0.78, 0.20),
    "copper": (0.80, 0.38, 0.12),
}
MARKINGS = ("white", "caramel", "dark brown")
COLLARS = ("none", "red", "blue", "green", "yellow")

DOG_PARAMS = (
    Param("coat", ("black", "brown", "golden", "russet", "cream", "slate")),
    Param("markings", MARKINGS),
    Param("pattern", ("plain", "spots", "eye patch", "saddle", "socks", "blaze")),
    Param("ears", ("floppy", "pointed", "folded")),
    Param("ear size", low="small", high="large"),
    Param("snout", low="short", high="long"),
    Param("tail", ("curled", "straight", "bushy")),
    Param("fur", ("smooth", "fluffy")),
    Param("build", low="slim", high="stout"),
    Param("eyes", ("brown", "amber", "blue")),
    Param("collar", COLLARS),
)
CAT_PARAMS = (
    Param("coat", ("black", "brown", "ginger", "silver", "cream", "slate")),
    Param("markings", MARKINGS),
    Param("pattern", ("plain", "stripes", "tuxedo", "points", "patches")),
    Param("ear size", low="small", high="large"),
    Param("face", low="narrow", high="round"),
    Param("tail", ("thin", "bushy", "ringed")),
    Param("fur", ("smooth", "fluffy")),
    Param("build", low="slim", high="stout"),
    Param("eyes", ("green", "yellow", "blue", "copper")),
    Param("eye size", low="small", high="large"),
    Param("collar", COLLARS),
)


@dataclass(frozen=True)
class Animal:
    """One animal being drawn: its frame, its colours and the position of its head (design units)."""

    frame: Frame
    cat: bool
    words: dict[str, str]
    scales: dict[str, float]
    texture: np.ndarray
    standing: bool
    head: Point

    @property
    def coat(self) -> Colour:
        return FUR[self.words["coat"]]

    @property
    def mark(self) -> Colour:
        return FUR[self.words["markings"]]

    @property
    def pattern(self) -> str:
        return self.words["pattern"]

    @property
    def tuft(self) -> float:
        return 6.5 if self.words["fur"] == "fluffy" else 0.0

    def limb(self, *patterns: str) -> Colour:
        """Return the colour of an extremity: the marking colour for the named patterns, else the coat."""
        return self.mark if self.pattern in patterns else self.coat

    def fur(self, mask: Mask, colour: Colour, relief: float = 0.5, rounding: float = 14.0) -> None:
        self.frame.paint(mask, colour, relief, rounding, texture=self.texture)

    def marking(self, mask: Mask, onto: Mask) -> None:
        """Draw a soft-edged marking on one part of the body, keeping some of the shading below it."""
        soft = mask.blurred(1.2)
        self.frame.paint(soft.cut(onto), self.mark, opacity=0.9, texture=self.texture)


def prepare(canvas: Canvas, identity: Identity, view: View, params: tuple[Param, ...], cat: bool) -> Animal:
    frame = Frame(canvas, view)
    standing = frame.turn > 0.6 or view.seed % 4 == 0
    return Animal(
        frame=frame,
        cat=cat,
        words={p.name: p.values[int(identity[p.name])] for p in params if p.values},
        scales={p.name: float(identity[p.name]) for p in params if not p.values},
        texture=frame.fuzz(56, 0.15),
        standing=standing,
        head=(46.0, 132.0) if standing else (frame.turn * 10.0, 138.0),
    )


def draw_body(animal: Animal) -> None:
    body = _standing_body(animal) if animal.standing else _sitting_body(animal)
    x, y = animal.head
    neck = (x - 4, y - 40) if animal.standing else (x * 0.4, y - 39)
    if animal.frame.view.wearable == "scarf":
        draw_scarf(animal.frame, *neck, 74)
    elif animal.words["collar"] != "none":
        _draw_collar(animal, *neck)
    head = animal.frame.ellipse(x, y, 44, 38)
    animal.frame.shade(head, body, drop=9, opacity=0.3)


def _draw_collar(animal: Animal, x: float, y: float) -> None:
    frame, colour = animal.frame, colour_of(animal.words["collar"])
    band = frame.stroke([(x - 31, y + 7), (x - 14, y - 2), (x + 14, y - 2), (x + 31, y + 7)], 10)
    frame.paint(band, colour, 0.5, 4)
    frame.paint(frame.ellipse(x, y - 9, 6.5, 6.5), (0.95, 0.77, 0.25), 0.6, 4)


def _tail_points(animal: Animal) -> list[Point]:
    if animal.cat:
        if animal.standing:
            return [(-58, 84), (-78, 100), (-82, 130), (-70, 156), (-76, 176)]
        return [(-36, 14), (-66, 12), (-78, 34), (-70, 60), (-78, 80)]
    curled = animal.words["tail"] == "curled"
    if animal.standing:
        if curled:
            return [(-58, 92), (-76, 112), (-68, 134), (-50, 132), (-50, 118)]
        return [(-58, 88), (-74, 104), (-86, 134)]
    if curled:
        return [(-40, 20), (-64, 22), (-76, 42), (-66, 60), (-52, 52)]
    return [(-38, 16), (-64, 24), (-82, 56)]


def _draw_tail(animal: Animal) -> None:
    points, kind = _tail_points(animal), animal.words["tail"]
    colour = animal.limb("points", "saddle")
    width = 25.0 if kind == "bushy" else 14.0
    tail = animal.frame.tube(points, (13.0, width, width * 0.6 if kind == "bushy" else 11.0))
    animal.fur(tail, colour, 0.5, 7)
    if kind == "ringed" or animal.pattern == "stripes":
        for (ax, ay), (bx, by) in pairwise(points[1:]):
            x, y = (ax + bx) / 2, (ay + by) / 2
            ring = animal.frame.ellipse(x, y, 7, 14, float(np.arctan2(by - ay, bx - ax)))
            colour = animal.mark if animal.pattern != "plain" else scaled(animal.coat, 0.55)
            animal.frame.paint(ring.cut(tail), colour, opacity=0.9)
    elif animal.pattern in ("socks", "blaze", "tuxedo", "spots", "patches"):
        animal.frame.paint(
            animal.frame.ellipse(*points[-1], width * 0.8, width * 0.8).cut(tail), animal.mark, 0.3, 6
        )


def _sitting_body(animal: Animal) -> Mask:
    frame = animal.frame
    wide = (0.8 if animal.cat else 0.84) + 0.34 * animal.scales["build"]
    frame.ground_shadow(66 * wide)
    _draw_tail(animal)
    half = [(26 * wide, 116), (36 * wide, 84), (46 * wide, 44), (46 * wide, 12), (28 * wide, 2)]
    body = frame.blob([*half, *[(-x, y) for x, y in reversed(half)]], tuft=animal.tuft)
    animal.fur(body, animal.coat, 0.5, 16)
    _body_pattern(animal, body, [(-30, 92, 15), (30, 70, 17), (-26, 54, 13), (4, 100, 11)], wide)
    for side in (-1, 1):
        haunch = frame.ellipse(side * 40 * wide, 25, 22 * wide, 26, side * 0.25)
        animal.fur(haunch, animal.coat, 0.5, 12)
        _haunch_pattern(animal, haunch, side, wide)
        foot = frame.ellipse(side * 45 * wide, 8, 20, 9)
        animal.fur(foot, animal.limb("socks", "tuxedo", "points"), 0.5, 6)
    chest = frame.blob(
        [(0, 110), (21 * wide, 92), (17 * wide, 60), (0, 40), (-17 * wide, 60), (-21 * wide, 92)]
    )
    if animal.pattern in ("blaze", "tuxedo"):
        animal.marking(chest, body)
    else:
        frame.paint(chest.blurred(5), mix(animal.coat, WHITE, 0.35), opacity=0.4)
    for side in (-1, 1):
        _draw_leg(animal, side * 17 * wide, 72, 13 + 2.5 * animal.scales["build"], body)
    return body


def _haunch_pattern(animal: Animal, haunch: Mask, side: int, wide: float) -> None:
    frame = animal.frame
    if animal.pattern in ("spots", "patches") and side == 1:
        animal.marking(frame.ellipse(44 * wide, 36, 13, 14), haunch)
    if animal.pattern == "stripes":
        for y in (18, 34):
            stripe = frame.stroke([(side * 66 * wide, y), (side * 36 * wide, y + 6)], 6)
            animal.marking(stripe, haunch)


def _draw_leg(
    animal: Animal, x: float, top: float, half: float, shaded: Mask | None, far: bool = False
) -> None:
    """Draw a straight leg with its paw, centred on ``x``; a ``far`` leg is darker."""
    frame, gain = animal.frame, 0.72 if far else 1.0
    leg = frame.blob(
        [
            (x - half, top),
            (x - half * 0.95, 30),
            (x - half, 6),
            (x + half, 6),
            (x + half * 0.95, 30),
            (x + half, top),
        ]
    )
    if shaded is not None:
        frame.shade(leg, shaded, drop=2, opacity=0.22)
    animal.fur(leg, scaled(animal.coat, gain), 0.45, 9)
    if animal.pattern in ("socks", "points", "tuxedo"):
        animal.frame.paint(
            frame.box(x - 30, 0, x + 30, 30).cut(leg), scaled(animal.mark, gain), 0.0, opacity=0.92
        )
    elif animal.pattern == "stripes" and not far:
        for y in (28, 48):
            animal.marking(frame.stroke([(x - 20, y), (x + 20, y)], 6), leg)
    paw = frame.ellipse(x, 8, half * 1.25, 9)
    animal.fur(paw, scaled(animal.limb("socks", "points", "tuxedo"), gain), 0.5, 6)


def _standing_body(animal: Animal) -> Mask:
    frame = animal.frame
    deep = (0.84 if animal.cat else 0.88) + 0.34 * animal.scales["build"]
    frame.ground_shadow(72)
    _draw_tail(animal)
    half = 11 + 2.5 * animal.scales["build"]
    for x in (-34, 24):
        _draw_leg(animal, x, 66, half, None, far=True)
    low, high = 84 - 32 * deep, 84 + 24 * deep
    body = frame.blob(
        [
            (-64, 92),
            (-40, high),
            (0, high - 2),
            (34, high + 12),
            (58, high),
            (58, 70),
            (36, low - 2),
            (0, low + 3),
            (-40, low + 4),
            (-64, 68),
        ],
        tuft=animal.tuft,
    )
    animal.fur(body, animal.coat, 0.5, 18)
    _body_pattern(animal, body, [(-42, 92, 17), (-6, 76, 14), (-14, 106, 13), (22, 98, 14)], 1.0)
    for x in (-50, 42):
        _draw_leg(animal, x, 70, half + 1, None)
    if animal.pattern in ("blaze", "tuxedo"):
        animal.marking(frame.ellipse(54, 78, 18, 28), body)
    return body


def _body_pattern(animal: Animal, body: Mask, spots: list[tuple[float, float, float]], wide: float) -> None:
    frame = animal.frame
    if animal.pattern in ("spots", "patches"):
        stretch = 1.5 if animal.pattern == "patches" else 1.0
        for x, y, radius in spots:
            animal.marking(frame.ellipse(x * wide, y, radius * stretch, radius * 0.95), body)
    elif animal.pattern == "saddle":
        if animal.standing:
            animal.marking(frame.ellipse(-12, 112, 46, 26), body)
        else:
            for side in (-1, 1):
                animal.marking(frame.ellipse(side * 42 * wide, 74, 20, 42, side * 0.2), body)
    elif animal.pattern == "stripes":
        if animal.standing:
            for x in (-44, -22, 0, 22):
                animal.marking(frame.stroke([(x, 120), (x - 5, 98), (x, 78)], 8), body)
        else:
            for y in (62, 80, 98):
                for side in (-1, 1):
                    animal.marking(
                        frame.stroke([(side * 52 * wide, y + 2), (side * 22 * wide, y - 5)], 7), body
                    )
