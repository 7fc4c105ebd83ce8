"""Dogs and cats: whole bodies, sitting or standing, with large readable heads."""

from dataclasses import dataclass

import numpy as np

from recipes.frame import INK, PINK, WHITE, Frame, colour_of, draw_hat, draw_scarf
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


def word(params: tuple[Param, ...], identity: Identity, name: str) -> str:
    """The chosen value of a choice parameter."""
    return next(p for p in params if p.name == name).values[int(identity[name])]


@dataclass(frozen=True)
class Animal:
    """One animal being drawn: its frame, colours and where its head is (design units)."""

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
        """The colour of an extremity: the markings for the patterns named, else the coat."""
        return self.mark if self.pattern in patterns else self.coat

    def fur(self, mask: Mask, colour: Colour, relief: float = 0.5, rounding: float = 14.0) -> None:
        self.frame.paint(mask, colour, relief, rounding, texture=self.texture)

    def marking(self, mask: Mask, onto: Mask) -> None:
        """A soft-edged marking on one part of the body, keeping some of the shading below it."""
        soft = mask.blurred(1.2)
        self.frame.paint(soft.cut(onto), self.mark, opacity=0.9, texture=self.texture)


def _prepare(canvas: Canvas, identity: Identity, view: View, params: tuple[Param, ...], cat: bool) -> Animal:
    frame = Frame(canvas, view)
    standing = frame.turn > 0.6 or view.seed % 4 == 0
    return Animal(
        frame=frame,
        cat=cat,
        words={p.name: p.values[int(identity[p.name])] for p in params if p.values},
        scales={p.name: float(identity[p.name]) for p in params if not p.values},
        texture=frame.fuzz(),
        standing=standing,
        head=(46.0, 132.0) if standing else (frame.turn * 10.0, 138.0),
    )


def draw_dog(canvas: Canvas, identity: Identity, view: View) -> None:
    """A dog; ``view.turn`` beyond 0.6 (or every fourth seed) has it stand sideways, else it sits."""
    animal = _prepare(canvas, identity, view, DOG_PARAMS, cat=False)
    _draw_body(animal)
    _draw_ears(animal, behind=True)
    head = _dog_head(animal)
    _draw_ears(animal, behind=False)
    _dog_face(animal, head)
    _wear_hat(animal)


def draw_cat(canvas: Canvas, identity: Identity, view: View) -> None:
    """A cat; its pose follows the same rule as a dog's."""
    animal = _prepare(canvas, identity, view, CAT_PARAMS, cat=True)
    _draw_body(animal)
    _cat_ears(animal)
    head = _cat_head(animal)
    _cat_face(animal, head)
    _wear_hat(animal)


def _draw_body(animal: Animal) -> None:
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
        for (ax, ay), (bx, by) in zip(points[1:], points[2:], strict=False):
            x, y = (ax + bx) / 2, (ay + by) / 2
            ring = animal.frame.ellipse(x, y, 7, 14, float(np.arctan2(by - ay, bx - ax)))
            colour = animal.mark if animal.pattern != "plain" else scaled(animal.coat, 0.55)
            animal.frame.paint(ring.cut(tail), colour, opacity=0.9)
    elif animal.pattern in ("socks", "blaze", "tuxedo", "spots", "patches"):
        animal.frame.paint(animal.frame.ellipse(*points[-1], width * 0.8, width * 0.8).cut(tail), animal.mark, 0.3, 6)


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
    chest = frame.blob([(0, 110), (21 * wide, 92), (17 * wide, 60), (0, 40), (-17 * wide, 60), (-21 * wide, 92)])
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


def _draw_leg(animal: Animal, x: float, top: float, half: float, shaded: Mask | None, far: bool = False) -> None:
    """A straight leg with its paw, its middle at ``x``; a ``far`` leg is darker."""
    frame, gain = animal.frame, 0.72 if far else 1.0
    leg = frame.blob([(x - half, top), (x - half * 0.95, 30), (x - half, 6), (x + half, 6), (x + half * 0.95, 30), (x + half, top)])
    if shaded is not None:
        frame.shade(leg, shaded, drop=2, opacity=0.22)
    animal.fur(leg, scaled(animal.coat, gain), 0.45, 9)
    if animal.pattern in ("socks", "points", "tuxedo"):
        animal.frame.paint(frame.box(x - 30, 0, x + 30, 30).cut(leg), scaled(animal.mark, gain), 0.0, opacity=0.92)
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
        [(-64, 92), (-40, high), (0, high - 2), (34, high + 12), (58, high), (58, 70), (36, low - 2), (0, low + 3), (-40, low + 4), (-64, 68)],
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
                    animal.marking(frame.stroke([(side * 52 * wide, y + 2), (side * 22 * wide, y - 5)], 7), body)


def _draw_ears(animal: Animal, *, behind: bool) -> None:
    """A dog's ears: pointed and folded ones stand behind the head, floppy ones hang before it."""
    kind = animal.words["ears"]
    if (kind == "floppy") is behind:
        return
    frame, (hx, hy) = animal.frame, animal.head
    size = 0.75 + 0.5 * animal.scales["ear size"]
    dark = mix(animal.coat, INK, 0.3) if sum(animal.coat) > 0.8 else mix(animal.coat, (0.5, 0.45, 0.45), 0.2)
    for side in (-1, 1):
        marked = animal.pattern == "saddle" or (animal.pattern in ("eye patch", "spots") and side == 1)
        colour = animal.mark if marked else dark
        if kind == "floppy":
            path = [(24, 36), (40, 34), (50 + 7 * size, 8), (48 + 6 * size, -22 * size - 10), (38, -24 * size - 6), (34, 0)]
            ear = frame.blob([(hx + side * x, hy + y) for x, y in path], tuft=animal.tuft * 0.6)
            frame.canvas.shadow(ear, dy=3 * frame.scale, blur=3, opacity=0.2)
            animal.fur(ear, colour, 0.5, 9)
            continue
        tip = 34 + 28 * size
        path = [(12, 30), (27, tip - 4), (36, tip), (41, tip - 10), (45, 14)]
        animal.fur(frame.blob([(hx + side * x, hy + y) for x, y in path]), colour, 0.5, 9)
        if kind == "pointed":
            inner = [(22, 30), (32, tip - 12), (36, tip - 12), (40, 20)]
            frame.paint(frame.blob([(hx + side * x, hy + y) for x, y in inner]), mix(PINK, colour, 0.35))
        else:
            flap = [(17, tip - 16), (35, tip + 1), (48, tip - 8), (56 + 4 * size, 20), (38, 26)]
            animal.fur(frame.blob([(hx + side * x, hy + y) for x, y in flap]), scaled(colour, 0.84), 0.5, 8)


def _dog_head(animal: Animal) -> Mask:
    frame, (hx, hy) = animal.frame, animal.head
    half = [(20, 40), (40, 26), (47, 0), (40, -22), (22, -38)]
    path = [(hx + x, hy + y) for x, y in half] + [(hx - x, hy + y) for x, y in reversed(half)]
    head = frame.blob(path, tuft=animal.tuft * 0.8)
    animal.fur(head, animal.coat, 0.48, 15)
    shift = frame.turn * 6
    if animal.pattern == "saddle":
        animal.marking(frame.ellipse(hx + shift, hy + 36, 36, 22), head)
    if animal.pattern == "eye patch":
        animal.marking(frame.ellipse(hx + 22 + shift, hy + 12, 20, 23, -0.3), head)
    if animal.pattern == "spots":
        animal.marking(frame.ellipse(hx - 28 + shift, hy + 24, 14, 12), head)
        animal.marking(frame.ellipse(hx + 34, hy - 10, 11, 12), head)
    if animal.pattern == "blaze":
        animal.marking(frame.blob([(hx + shift, hy + 46), (hx + shift + 10, hy + 30), (hx + shift + 8, hy), (hx + shift - 8, hy), (hx + shift - 10, hy + 30)]), head)
    return head


def _dog_face(animal: Animal, head: Mask) -> None:
    frame, (hx, hy) = animal.frame, animal.head
    long = animal.scales["snout"]
    x = hx + frame.turn * 9
    for side in (-1, 1):
        _round_eye(animal, hx + side * 21 + frame.turn * 6, hy + 10, 9.5)
    y = hy - 17 - 5 * long
    width, height = 21 + 5 * long, 16 + 9 * long
    colour = animal.mark if animal.pattern in ("blaze", "saddle") else mix(animal.coat, WHITE, 0.3)
    open_mouth = frame.view.expression in ("smiling", "laughing", "surprised")
    muzzle = frame.ellipse(x, y, width, height)
    if open_mouth:
        jaw = frame.ellipse(x, y - height + 1, 13, 13)
        frame.paint(jaw, (0.42, 0.12, 0.13))
        frame.paint(frame.ellipse(x, y - height - 5, 9.5, 10), PINK, 0.5, 5)
    frame.shade(muzzle, head, drop=4, opacity=0.25)
    animal.fur(muzzle, colour, 0.5, 9)
    nose_y = y + height * 0.48
    line = mix(colour, INK, 0.75)
    frame.paint(frame.stroke([(x, nose_y - 4), (x, y - height * 0.42)], 3.4), line)
    for side in (-1, 1):
        smile = [(x, y - height * 0.42), (x + side * 8, y - height * 0.62), (x + side * 15, y - height * 0.36)]
        frame.paint(frame.stroke(smile, 3.4), line)
    frame.paint(frame.ellipse(x, nose_y, 11.5, 8.5), INK, 0.6, 5)
    frame.paint(frame.ellipse(x - 3, nose_y + 3, 3.6, 2.2), (0.72, 0.72, 0.76))


def _round_eye(animal: Animal, x: float, y: float, radius: float) -> None:
    frame = animal.frame
    rim = mix(animal.coat, WHITE, 0.75) if sum(animal.coat) < 1.0 else mix(animal.coat, INK, 0.65)
    frame.paint(frame.ellipse(x, y, radius + 2.4, radius + 3.0), rim)
    frame.paint(frame.ellipse(x, y, radius, radius + 0.8), EYES[animal.words["eyes"]])
    frame.paint(frame.ellipse(x, y, radius * 0.62, radius * 0.68), (0.06, 0.05, 0.06))
    frame.paint(frame.ellipse(x - radius * 0.32 * frame.mirror, y + radius * 0.38, 3.4, 3.4), (1.0, 1.0, 1.0))


def _cat_ears(animal: Animal) -> None:
    frame, (hx, hy) = animal.frame, animal.head
    tip = 48 + 17 * animal.scales["ear size"]
    for side in (-1, 1):
        marked = animal.pattern == "points" or (animal.pattern == "patches" and side == 1)
        colour = animal.mark if marked else animal.coat
        path = [(8, 28), (28, tip - 6), (38, tip), (44, tip - 10), (48, 6), (28, 12)]
        animal.fur(frame.blob([(hx + side * x, hy + y) for x, y in path]), colour, 0.45, 8)
        inner = [(20, 30), (33, tip - 13), (37, tip - 13), (42, 16)]
        frame.paint(frame.blob([(hx + side * x, hy + y) for x, y in inner]), mix(PINK, colour, 0.2))


def _cat_head(animal: Animal) -> Mask:
    frame, (hx, hy) = animal.frame, animal.head
    wide = 0.88 + 0.22 * animal.scales["face"]
    half = [(20, 36), (42 * wide, 23), (51 * wide, -5), (40 * wide, -26), (18, -36)]
    path = [(hx + x, hy + y) for x, y in half] + [(hx - x, hy + y) for x, y in reversed(half)]
    head = frame.blob(path, tuft=animal.tuft)
    animal.fur(head, animal.coat, 0.48, 15)
    shift = frame.turn * 6
    if animal.pattern == "points":
        animal.marking(frame.ellipse(hx + shift, hy - 8, 30, 26).blurred(4), head)
    if animal.pattern == "patches":
        animal.marking(frame.ellipse(hx + 26, hy + 20, 24, 22), head)
    if animal.pattern == "tuxedo":
        white = [(0, 14), (14, -8), (34, -18), (24, -40), (-24, -40), (-34, -18), (-14, -8)]
        animal.marking(frame.blob([(hx + shift + x, hy + y) for x, y in white]), head)
    if animal.pattern == "stripes":
        for x in (-15, 0, 15):
            animal.marking(frame.stroke([(hx + shift + x, hy + 38), (hx + shift + x * 0.7, hy + 20)], 6.5), head)
        for side in (-1, 1):
            for y in (-6, -18):
                animal.marking(frame.stroke([(hx + side * 54 * wide, hy + y), (hx + side * 38 * wide, hy + y - 1)], 6), head)
    return head


def _cat_face(animal: Animal, head: Mask) -> None:
    frame, (hx, hy) = animal.frame, animal.head
    x = hx + frame.turn * 8
    size = 0.85 + 0.3 * animal.scales["eye size"]
    for side in (-1, 1):
        _cat_eye(animal, hx + side * 22 + frame.turn * 6, hy + 3, size, side)
    marked = animal.pattern in ("tuxedo", "points")
    base = animal.mark if marked else animal.coat
    colour = mix(base, WHITE, 0.25)
    if frame.view.expression in ("smiling", "laughing", "surprised"):
        frame.paint(frame.ellipse(x, hy - 28, 8, 9), (0.55, 0.16, 0.18))
        frame.paint(frame.ellipse(x, hy - 32, 6, 5), PINK)
    for side in (-1, 1):
        animal.fur(frame.ellipse(x + side * 9, hy - 20, 11.5, 9.5), colour, 0.4, 6)
    whisker = mix(base, WHITE, 0.8) if sum(base) < 1.9 else mix(base, INK, 0.5)
    for side in (-1, 1):
        for rise in (-5, 4):
            line = frame.stroke([(x + side * 20, hy - 18 + rise * 0.4), (x + side * 56, hy - 18 + rise * 2)], 2.6)
            frame.paint(line, whisker, opacity=0.6)
    nose = frame.blob([(x - 8, hy - 9), (x, hy - 8), (x + 8, hy - 9), (x, hy - 18)])
    frame.paint(nose, PINK if sum(base) > 0.75 else (0.62, 0.36, 0.38), 0.4, 4)
    mouth = [(x - 12, hy - 26), (x - 6, hy - 28), (x, hy - 20), (x + 6, hy - 28), (x + 12, hy - 26)]
    frame.paint(frame.stroke(mouth, 3.0), mix(colour, INK, 0.7))


def _cat_eye(animal: Animal, x: float, y: float, size: float, side: int) -> None:
    frame = animal.frame
    rim = mix(animal.coat, WHITE, 0.55) if sum(animal.coat) < 0.9 else mix(animal.coat, INK, 0.75)
    frame.paint(frame.ellipse(x, y, 14.2 * size, 12.6 * size, side * 0.3), rim)
    eye = frame.ellipse(x, y, 12 * size, 10.6 * size, side * 0.3)
    frame.paint(eye, EYES[animal.words["eyes"]], 0.25, 5)
    frame.paint(frame.ellipse(x, y, 4.4 * size, 9.6 * size), (0.05, 0.05, 0.06))
    frame.paint(frame.ellipse(x - 3.5 * frame.mirror, y + 4.5, 3.2, 3.2), (1.0, 1.0, 1.0))


def _wear_hat(animal: Animal) -> None:
    if animal.frame.view.wearable == "hat":
        draw_hat(animal.frame, animal.head[0] + animal.frame.turn * 3, animal.head[1] + 31, 70)
