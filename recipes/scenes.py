"""Ten scenes and five lights. A scene fills the whole canvas and leaves room for a subject in the middle.

A scene depends only on the random generator, never on the subject, and no two are the same.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from recipes.kit import CANVAS_PX, Canvas, Colour, Light, Point, mix, noise, scaled
from recipes.plate import (
    Plate,
    broadleaf,
    checker,
    cloud,
    foliage,
    panel,
    pine,
    planks,
    ridge,
    vary,
)

WHITE: Colour = (1.0, 1.0, 1.0)
OUT_OF_FOCUS_PX = 4.0  # the camera focuses on the subject
LIGHTS: tuple[str, ...] = ("day", "sunset", "overcast", "night", "studio")

_LIGHTS: dict[str, Light] = {
    "day": Light((-0.6, -0.8), (1.03, 1.0, 0.96), 1.0, 1.0),
    "sunset": Light((-0.86, -0.5), (1.12, 0.95, 0.80), 1.2, 0.98),
    "overcast": Light((-0.2, -0.98), (0.94, 0.98, 1.02), 0.65, 0.93),
    "night": Light((-0.6, -0.8), (1.12, 1.24, 1.50), 1.0, 0.73),
    "studio": Light((-0.75, -0.66), (1.0, 1.0, 1.0), 1.25, 1.03),
}


@dataclass(frozen=True)
class Air:
    """The sky for one light: colours from the zenith to the horizon, clouds, sun or moon, and lamps on or off."""

    top: Colour
    horizon: Colour
    cloud: Colour
    sun: Colour | None
    lamps: bool = False


_AIRS: dict[str, Air] = {
    "day": Air((0.30, 0.58, 0.93), (0.80, 0.92, 0.99), WHITE, (1.0, 0.97, 0.78)),
    "sunset": Air((0.43, 0.42, 0.75), (1.0, 0.72, 0.48), (1.0, 0.78, 0.68), (1.0, 0.88, 0.55)),
    "overcast": Air((0.60, 0.66, 0.73), (0.84, 0.87, 0.90), (0.90, 0.92, 0.94), None),
    "night": Air((0.07, 0.11, 0.32), (0.27, 0.34, 0.60), (0.33, 0.38, 0.60), (0.97, 0.96, 0.86), lamps=True),
    "studio": Air((0.42, 0.60, 0.84), (0.86, 0.91, 0.96), (0.96, 0.97, 1.0), None),
}


def _shade(colour: Colour, air: Air) -> Colour:
    """Return an outdoor colour under this sky: darker at night, warmer at sunset."""
    if air.lamps:
        return mix((colour[0] * 0.58, colour[1] * 0.64, colour[2] * 0.74), air.horizon, 0.26)
    return mix(colour, air.horizon, 0.10)


def _sky(plate: Plate, air: Air, rng: np.random.Generator, horizon: float, clouds: int = 3) -> float:
    """Draw sky, sun or moon and clouds down to ``horizon``; return the x of the sun (the middle if there is none)."""
    sun_x = 128.0
    plate.fade_box(0, 0, CANVAS_PX, horizon + 2, air.top, air.horizon)
    if air.sun is not None:
        sun_x = 128 + plate.side * float(rng.uniform(62, 108))
        y = (
            float(rng.uniform(22, 50))
            if air.top[2] > 0.8 or air.lamps
            else horizon - float(rng.uniform(22, 40))
        )
        plate.glow(sun_x, y, 78, 70, air.sun, 0.3 if air.lamps else 0.7)
        plate.disc(sun_x, y, 13, 13, air.sun)
    for _ in range(clouds + (2 if air.sun is None else 0)):
        x, y = rng.uniform(0, CANVAS_PX), rng.uniform(12, max(horizon * 0.62, 40))
        cloud(plate, float(x), float(y), float(rng.uniform(28, 58)), air.cloud, rng)
    return sun_x


def _palm(plate: Plate, x: float, base: float, height: float, air: Air, rng: np.random.Generator) -> None:
    lean = -18.0 if x > 128 else 18.0
    bark = _shade((0.55, 0.38, 0.24), air)
    spine: list[Point] = [(x + lean * t * t, base - height * t) for t in np.linspace(0, 1, 7).tolist()]
    plate.line(spine, 11, scaled(bark, 0.75))
    plate.line([(px + plate.side * 2, py) for px, py in spine], 6, bark)
    cx, cy = spine[-1]
    for angle in np.linspace(-0.45, 3.6, 8).tolist():
        reach = height * float(rng.uniform(0.36, 0.46))
        dx, dy = np.cos(angle) * reach, -np.sin(angle) * reach * 0.62
        green = _shade(vary((0.20, 0.55, 0.25), rng, 0.15), air)
        tip = (cx + dx, cy + dy + reach * 0.38)
        plate.shape(
            [(cx, cy), (cx + dx * 0.5, cy + dy - 10), tip, (cx + dx * 0.45, cy + dy * 0.9 + 8)], green
        )


def _parasol(plate: Plate, x: float, base: float, air: Air, rng: np.random.Generator) -> None:
    red = _shade([(0.90, 0.25, 0.22), (0.98, 0.65, 0.15), (0.15, 0.60, 0.70)][int(rng.integers(3))], air)
    pale = _shade((0.98, 0.96, 0.90), air)
    plate.line([(x, base), (x + 3, base - 88)], 4, scaled(pale, 0.8))
    edges = np.linspace(-42, 42, 7).tolist()
    for i, (a, b) in enumerate(pairwise(edges)):
        sag = [abs(a) * 0.16, abs(b) * 0.16]
        plate.shape(
            [(x + 3, base - 98), (x + a, base - 66 + sag[0]), (x + b, base - 66 + sag[1])],
            red if i % 2 else pale,
        )
    plate.glow(x, base + 4, 44, 9, (0.35, 0.25, 0.15), 0.35)


def _beach(plate: Plate, air: Air, rng: np.random.Generator) -> None:
    horizon, shore = float(rng.uniform(98, 116)), float(rng.uniform(150, 166))
    sun_x = _sky(plate, air, rng, horizon)
    deep, shallow = _shade(vary((0.06, 0.42, 0.66), rng), air), _shade((0.38, 0.82, 0.82), air)
    plate.fade_box(0, horizon, CANVAS_PX, shore + 12, deep, shallow)
    for y in np.linspace(horizon + 8, shore - 8, 5).tolist():
        x, half = float(rng.uniform(0, CANVAS_PX)), float(rng.uniform(20, 60))
        plate.disc(x, y, half, 1.6 + (y - horizon) * 0.03, mix(shallow, WHITE, 0.5), 0.55)
    if air.sun is not None:
        for y in np.linspace(horizon + 4, shore - 2, 6).tolist():
            plate.disc(sun_x + float(rng.uniform(-5, 5)), y, 9 + (y - horizon) * 0.25, 2.6, air.sun, 0.6)
    plate.soften(1.6)
    sand = _shade(vary((0.95, 0.82, 0.58), rng), air)
    outline = ridge(rng, shore, 5.0, 6)
    plate.shape([(x, y - 7) for x, y in outline[:-2]] + outline[-2:], mix(shallow, WHITE, 0.85))
    plate.shape(outline, scaled(sand, 0.84))
    plate.fade(
        [(x, y + 8) for x, y in outline[:-2]] + outline[-2:], mix(sand, WHITE, 0.12), scaled(sand, 0.90)
    )
    side = 1.0 if rng.random() < 0.5 else -1.0
    _palm(plate, 128 + side * float(rng.uniform(92, 114)), 196, float(rng.uniform(138, 164)), air, rng)
    if rng.random() < 0.75:
        _parasol(plate, 128 - side * float(rng.uniform(84, 104)), float(rng.uniform(180, 196)), air, rng)


def _forest(plate: Plate, air: Air, rng: np.random.Generator) -> None:
    green = vary((0.28, 0.55, 0.24) if rng.random() < 0.75 else (0.55, 0.50, 0.18), rng, 0.08)
    mist = mix(air.horizon, _shade((0.80, 0.92, 0.62), air), 0.65)
    plate.fade_box(0, 0, CANVAS_PX, 180, mix(mist, _shade(green, air), 0.35), mist)
    for depth, count, wide in ((0.68, 7, 7.0), (0.38, 6, 12.0)):
        bark = mix(_shade((0.36, 0.26, 0.18), air), mist, depth)
        for x in (np.linspace(0, CANVAS_PX, count) + rng.uniform(-16, 16, count)).tolist():
            plate.fade_box(x - wide / 2, 0, x + wide / 2, 178, scaled(bark, 0.85), bark)
        for x in rng.uniform(0, CANVAS_PX, 5).tolist():
            foliage(plate, x, float(rng.uniform(0, 40)), 46, 26, mix(_shade(green, air), mist, depth), rng)
    plate.glow(128 + plate.side * 70, 40, 110, 150, mix(mist, WHITE, 0.4), 0.0 if air.lamps else 0.6)
    plate.soften(3.0)
    floor = _shade(mix(green, (0.45, 0.36, 0.20), 0.35), air)
    plate.fade(ridge(rng, 172, 6.0), mix(floor, mist, 0.35), scaled(floor, 0.72))
    for x in rng.uniform(0, CANVAS_PX, 5).tolist():
        plate.glow(x, float(rng.uniform(185, 240)), 34, 9, mix(floor, mist, 0.6), 0.5)
    _near_trunks(plate, air, rng, _shade(green, air))


def _near_trunks(plate: Plate, air: Air, rng: np.random.Generator, green: Colour) -> None:
    """Draw two thick trunks that frame the forest, with ferns at their base and leaves above."""
    for side in (-1.0, 1.0):
        x, wide = 128 + side * float(rng.uniform(98, 122)), float(rng.uniform(15, 22))
        bark = _shade(vary((0.42, 0.29, 0.19), rng, 0.1), air)
        foot = float(rng.uniform(205, 228))
        plate.shape(
            [
                (x - wide * 1.7, foot),
                (x - wide, 150),
                (x - wide, 0),
                (x + wide, 0),
                (x + wide, 150),
                (x + wide * 1.7, foot),
            ],
            bark,
        )
        dark = x - plate.side * wide
        plate.shape(
            [(x, foot), (x, 0), (dark, 0), (dark, 150), (x - plate.side * wide * 1.7, foot)],
            scaled(bark, 0.66),
        )
        foliage(plate, x, foot - 4, 34, 16, scaled(green, 0.9), rng)
        foliage(plate, x - side * 20, 2, 52, 22, scaled(green, 0.85), rng)


def _peak(
    plate: Plate,
    x: float,
    top: float,
    base: float,
    wide: float,
    rock: Colour,
    air: Air,
    rng: np.random.Generator,
) -> None:
    """Draw one mountain: a lit side, a shaded side and a ragged snow cap."""
    snow, dark = _shade((0.97, 0.98, 1.0), air), _shade((0.66, 0.75, 0.90), air)
    away = -plate.side
    plate.shape([(x - wide, base), (x, top), (x + wide, base)], rock)
    plate.shape([(x, top), (x + away * wide, base), (x + away * wide * 0.12, base)], scaled(rock, 0.72))
    cap = (base - top) * float(rng.uniform(0.50, 0.62))

    def edge(t: float, depth: float) -> Point:
        return x + wide * t * depth * cap / (base - top), top + cap * depth

    for side, colour in ((plate.side, snow), (away, dark)):
        plate.shape(
            [
                (x, top),
                edge(side, 1.0),
                edge(side * 0.62, 0.74),
                edge(side * 0.5, 1.06),
                edge(side * 0.22, 0.78),
                (x, top + cap),
            ],
            colour,
        )


def _mountains(plate: Plate, air: Air, rng: np.random.Generator) -> None:
    _sky(plate, air, rng, 175, clouds=2)
    rock = _shade(vary((0.45, 0.50, 0.62), rng), air)
    for x in rng.permutation(np.asarray([10.0, 128.0, 235.0])).tolist():
        _peak(
            plate,
            x + float(rng.uniform(-14, 14)),
            float(rng.uniform(44, 78)),
            178,
            104,
            mix(rock, air.horizon, 0.45),
            air,
            rng,
        )
    for x in (36.0, 222.0):
        _peak(plate, x + float(rng.uniform(-16, 16)), float(rng.uniform(18, 60)), 182, 92, rock, air, rng)
    plate.glow(128, 178, 190, 34, mix(air.horizon, WHITE, 0.4), 0.65)
    plate.soften(1.8)
    snow = _shade((0.95, 0.97, 1.0), air)
    plate.fade(ridge(rng, 168, 8.0, 5), mix(snow, air.top, 0.22), snow)
    tree = _shade((0.14, 0.36, 0.30), air)
    for side in (-1.0, 1.0):
        for step in range(3):
            x = 128 + side * (78 + 18 * step + float(rng.uniform(-7, 7)))
            pine(plate, x, 186 + 9.0 * step, 62 + 22.0 * step * float(rng.uniform(0.7, 1.1)), tree, snow=True)
    plate.fade(ridge(rng, 208, 7.0, 5), mix(snow, air.top, 0.10), mix(snow, air.top, 0.30))


def _facade(plate: Plate, corners: list[Point], wall: Colour, air: Air, rng: np.random.Generator) -> None:
    """Draw a house front with rows of windows and an awning over its shop."""
    plate.shape(corners, wall)
    glass = mix(scaled(wall, 0.55), air.top, 0.45)
    columns, rows = 3, int(rng.integers(4, 6))
    for row in range(rows):
        for column in range(columns):
            u, v = (column + 0.22) / columns, 0.05 + row * 0.72 / rows
            lit = rng.random() < (0.6 if air.lamps else 0.12)
            plate.shape(panel(corners, u, v, u + 0.18, v + 0.46 / rows), (1.0, 0.86, 0.52) if lit else glass)
    plate.shape(
        panel(corners, 0.06, 0.84, 0.94, 1.0), (1.0, 0.84, 0.55) if air.lamps else mix(glass, WHITE, 0.15)
    )
    awning = [(0.85, 0.28, 0.25), (0.20, 0.52, 0.45), (0.92, 0.66, 0.22), (0.25, 0.42, 0.70)][
        int(rng.integers(4))
    ]
    for stripe in range(6):
        colour = _shade(awning if stripe % 2 else (0.97, 0.95, 0.90), air)
        plate.shape(panel(corners, stripe / 6, 0.79, (stripe + 1) / 6, 0.87), colour)


def _street(plate: Plate, air: Air, rng: np.random.Generator) -> None:
    horizon, vanish = 150.0, 128 + float(rng.uniform(-16, 16))
    _sky(plate, air, rng, horizon, clouds=2)
    for x in np.arange(60, 200, 18).tolist():
        wall = mix(_shade(vary((0.62, 0.62, 0.70), rng, 0.2), air), air.horizon, 0.5)
        plate.box(x, float(rng.uniform(62, 112)), x + 18, horizon + 4, wall)
    plate.soften(2.0)
    road = _shade((0.42, 0.43, 0.47), air)
    pave = _shade(vary((0.74, 0.70, 0.65), rng), air)
    plate.fade_box(0, horizon, CANVAS_PX, CANVAS_PX, mix(pave, air.horizon, 0.25), pave)
    plate.fade(
        [(vanish - 8, horizon), (vanish + 8, horizon), (256, 256), (0, 256)],
        mix(road, air.horizon, 0.25),
        road,
    )
    for t0, t1 in ((0.05, 0.16), (0.26, 0.46), (0.64, 0.95)):
        y0, y1 = horizon + 106 * t0, horizon + 106 * t1
        plate.shape(
            [(vanish - 7 * t0, y0), (vanish + 7 * t0, y0), (vanish + 7 * t1, y1), (vanish - 7 * t1, y1)],
            mix(road, WHITE, 0.7),
        )
    _street_sides(plate, air, rng, horizon, vanish)


def _street_sides(plate: Plate, air: Air, rng: np.random.Generator, horizon: float, vanish: float) -> None:
    """Draw two house fronts on either side of the street, and a lamp."""
    tones = [
        (0.86, 0.55, 0.42),
        (0.93, 0.80, 0.58),
        (0.62, 0.72, 0.80),
        (0.80, 0.48, 0.45),
        (0.72, 0.78, 0.62),
        (0.88, 0.84, 0.78),
    ]
    for side in (-1.0, 1.0):
        reach = (vanish + 8) if side < 0 else (CANVAS_PX - vanish + 8)
        gain = 1.04 if side != plate.side else 0.86
        far, middle, near = 0.38, 0.62, 1.04
        for a, b in ((far, middle), (middle, near)):
            rise = float(rng.uniform(128, 205))
            wall = _shade(scaled(vary(tones[int(rng.integers(len(tones)))], rng), gain), air)
            xa, xb = vanish + side * reach * a, vanish + side * reach * b
            ends = [
                (xa, horizon - rise * a),
                (xb, horizon - rise * b),
                (xb, horizon + 62 * b),
                (xa, horizon + 62 * a),
            ]
            _facade(plate, ends if side > 0 else [ends[1], ends[0], ends[3], ends[2]], wall, air, rng)
    paint = _shade([(0.95, 0.72, 0.15), (0.82, 0.22, 0.20), (0.22, 0.50, 0.72)][int(rng.integers(3))], air)
    _car(plate, 128 + plate.side * float(rng.uniform(74, 88)), float(rng.uniform(196, 206)), paint, air)
    x = 128 - plate.side * float(rng.uniform(74, 90))
    plate.line([(x, 216), (x, 96)], 5, (0.16, 0.17, 0.20))
    plate.disc(x, 92, 9, 10, (1.0, 0.93, 0.70) if air.lamps else (0.93, 0.93, 0.90))
    plate.glow(x, 92, 40, 40, (1.0, 0.85, 0.5), 0.6 if air.lamps else 0.0)


def _car(plate: Plate, x: float, base: float, paint: Colour, air: Air) -> None:
    """Draw a car seen from the front, 56 pixels wide."""
    plate.glow(x, base + 2, 40, 8, (0.05, 0.05, 0.08), 0.7)
    for side in (-1, 1):
        plate.rounded(x + side * 19 - 6, base - 12, x + side * 19 + 6, base + 2, 3, (0.13, 0.13, 0.15))
    plate.rounded(x - 20, base - 42, x + 20, base - 14, 9, scaled(paint, 0.85))
    plate.rounded(x - 16, base - 38, x + 16, base - 24, 5, mix(air.horizon, (0.20, 0.28, 0.36), 0.5))
    plate.rounded(x - 28, base - 26, x + 28, base - 5, 8, paint)
    plate.rounded(x - 11, base - 17, x + 11, base - 10, 3, scaled(paint, 0.5))
    for side in (-1, 1):
        plate.disc(x + side * 20, base - 16, 5, 5, (1.0, 0.95, 0.75))
        plate.glow(x + side * 20, base - 16, 20, 16, (1.0, 0.92, 0.6), 0.6 if air.lamps else 0.0)


def _window(
    plate: Plate, x: float, y: float, half: float, height: float, air: Air, rng: np.random.Generator
) -> None:
    """Draw a window in a wall, with the sky and a bush behind the glass."""
    plate.rounded(x - half - 6, y - 6, x + half + 6, y + height + 6, 4, (0.96, 0.94, 0.90))
    plate.fade_box(x - half, y, x + half, y + height, air.top, air.horizon)
    hill = _shade(vary((0.35, 0.58, 0.32), rng, 0.1), air)
    plate.shape(
        [
            (x - half, y + height),
            (x - half, y + height * 0.72),
            (x + half, y + height * 0.6),
            (x + half, y + height),
        ],
        hill,
    )
    plate.box(x - 2, y, x + 2, y + height, (0.96, 0.94, 0.90))
    plate.box(x - half, y + height * 0.45, x + half, y + height * 0.45 + 4, (0.96, 0.94, 0.90))


def _wall(plate: Plate, air: Air, colour: Colour, floor: float) -> None:
    tone = mix(scaled(colour, 0.62), (1.0, 0.84, 0.58), 0.10) if air.lamps else colour
    plate.fade_box(0, 0, CANVAS_PX, floor, scaled(tone, 0.92), tone)
    plate.glow(128 + plate.side * 60, 70, 190, 150, mix(tone, WHITE, 0.5), 0.2 if air.lamps else 0.5)


def _living_room(plate: Plate, air: Air, rng: np.random.Generator) -> None:
    walls = [
        (0.62, 0.75, 0.72),
        (0.93, 0.84, 0.70),
        (0.72, 0.74, 0.86),
        (0.90, 0.74, 0.68),
        (0.70, 0.79, 0.62),
    ]
    sofas = [
        (0.85, 0.48, 0.30),
        (0.28, 0.48, 0.56),
        (0.70, 0.34, 0.36),
        (0.45, 0.52, 0.34),
        (0.90, 0.72, 0.36),
    ]
    floor, side = float(rng.uniform(184, 194)), 1.0 if rng.random() < 0.5 else -1.0
    _wall(plate, air, vary(walls[int(rng.integers(5))], rng), floor)
    x = 128 + side * float(rng.uniform(78, 88))
    _window(plate, x, 22, 30, 88, air, rng)
    drape = vary(sofas[int(rng.integers(5))], rng)
    for edge in (-1, 1):
        plate.fade_box(
            x + edge * 36 - 9, 12, x + edge * 36 + 9, 160, mix(drape, WHITE, 0.15), scaled(drape, 0.75)
        )
    for dx, y in ((-66, 34), (-104, 52)):
        px = 128 + side * dx
        plate.box(px - 17, y, px + 17, y + 40, (0.35, 0.24, 0.16))
        plate.fade_box(
            px - 13,
            y + 4,
            px + 13,
            y + 36,
            vary((0.95, 0.80, 0.55), rng, 0.2),
            vary((0.40, 0.60, 0.66), rng, 0.25),
        )
    plate.box(0, floor - 10, CANVAS_PX, floor, (0.95, 0.92, 0.87))
    plate.soften(1.4)
    planks(plate, floor, (0.68, 0.46, 0.29), rng)
    _sofa(plate, 128 + side * -8, floor + 8, vary(sofas[int(rng.integers(5))], rng))
    _floor_lamp(plate, 128 - side * float(rng.uniform(100, 108)), floor + 16, air)
    rug = vary(sofas[int(rng.integers(5))], rng)
    plate.disc(128, 234, 132, 27, mix(rug, WHITE, 0.55))
    plate.disc(128, 234, 118, 22, mix(rug, WHITE, 0.2))
    plate.rounded(x + side * 16 - 13, floor - 2, x + side * 16 + 13, floor + 26, 5, (0.80, 0.45, 0.30))
    foliage(plate, x + side * 16, floor - 24, 26, 26, (0.25, 0.52, 0.30), rng)


def _sofa(plate: Plate, x: float, base: float, colour: Colour) -> None:
    plate.glow(x, base, 120, 12, (0.12, 0.07, 0.05), 0.5)
    plate.rounded(x - 92, base - 66, x + 92, base - 8, 16, scaled(colour, 0.84))
    for left in (-78.0, 2.0):
        plate.rounded(x + left, base - 60, x + left + 76, base - 24, 10, mix(colour, WHITE, 0.10))
    plate.rounded(x - 84, base - 30, x + 84, base - 4, 8, colour)
    for side in (-1.0, 1.0):
        plate.rounded(
            x + side * 94 - 15,
            base - 46,
            x + side * 94 + 15,
            base,
            12,
            scaled(mix(colour, WHITE, 0.06), 0.95),
        )


def _floor_lamp(plate: Plate, x: float, base: float, air: Air) -> None:
    plate.line([(x, base), (x, base - 96)], 4, (0.30, 0.24, 0.20))
    plate.disc(x, base, 14, 4, (0.26, 0.21, 0.18))
    plate.shape(
        [(x - 13, base - 128), (x + 13, base - 128), (x + 22, base - 94), (x - 22, base - 94)],
        (1.0, 0.90, 0.66),
    )
    plate.glow(x, base - 108, 84, 84, (1.0, 0.86, 0.52), 0.8 if air.lamps else 0.2)


def _kitchen(plate: Plate, air: Air, rng: np.random.Generator) -> None:
    tones = [
        (0.36, 0.60, 0.62),
        (0.93, 0.90, 0.82),
        (0.55, 0.66, 0.48),
        (0.88, 0.62, 0.42),
        (0.44, 0.56, 0.74),
    ]
    cupboard = vary(tones[int(rng.integers(5))], rng)
    floor, counter = float(rng.uniform(198, 206)), float(rng.uniform(140, 148))
    tile = vary((0.92, 0.93, 0.90), rng, 0.04)
    _wall(plate, air, tile, floor)
    plate.box(0, 62, CANVAS_PX, counter, scaled(tile, 0.80), 0.8)
    for row, y in enumerate(range(62, int(counter), 20)):
        for x in range(-20 * (row % 2) // 2, CANVAS_PX, 20):
            plate.box(x + 1, y + 1, x + 18, y + 18, vary(tile, rng, 0.05), 0.9)
    side = 1.0 if rng.random() < 0.5 else -1.0
    for x in (128 - side * 112, 128 - side * 66):
        plate.box(x - 24, 0, x + 24, 66, scaled(cupboard, 0.72))
        plate.fade_box(x - 21, 0, x + 21, 62, cupboard, scaled(cupboard, 0.9))
        plate.disc(x + side * 14, 54, 4, 4, (0.95, 0.85, 0.55))
    _window(plate, 128 + side * 82, 20, 30, 70, air, rng)
    _jars(plate, 128 - side * 90, 104, rng)
    plate.soften(1.2)
    plate.box(0, counter + 10, CANVAS_PX, floor + 4, scaled(cupboard, 0.70))
    for x in range(-14, CANVAS_PX, 46):
        plate.fade_box(x + 3, counter + 14, x + 43, floor, cupboard, scaled(cupboard, 0.82))
        plate.disc(x + 23, counter + 22, 8, 3, (0.95, 0.85, 0.55))
    plate.box(0, counter, CANVAS_PX, counter + 11, vary((0.80, 0.62, 0.42), rng))
    plate.box(0, counter + 11, CANVAS_PX, counter + 15, (0.15, 0.10, 0.08), 0.35)
    _stove(plate, 128 + side * 88, counter, floor, air)
    checker(plate, floor, (0.94, 0.91, 0.85), vary((0.45, 0.50, 0.55), rng, 0.15))
    for x in (52.0, 204.0):
        _pendant(plate, x + float(rng.uniform(-10, 10)), air, rng)


def _jars(plate: Plate, x: float, y: float, rng: np.random.Generator) -> None:
    plate.box(x - 36, y + 12, x + 36, y + 17, (0.58, 0.38, 0.24))
    for dx in (-26, -8, 10, 27):
        tone = vary(
            [(0.85, 0.35, 0.28), (0.95, 0.75, 0.35), (0.45, 0.60, 0.40), (0.55, 0.45, 0.40)][
                int(rng.integers(4))
            ],
            rng,
        )
        plate.rounded(x + dx - 7, y - 12, x + dx + 7, y + 12, 3, tone)
        plate.box(x + dx - 6, y - 17, x + dx + 6, y - 12, (0.62, 0.45, 0.30))


def _stove(plate: Plate, x: float, counter: float, floor: float, air: Air) -> None:
    plate.rounded(x - 32, counter - 3, x + 32, floor, 4, (0.24, 0.25, 0.28))
    plate.rounded(
        x - 23, counter + 22, x + 23, floor - 8, 4, (0.55, 0.33, 0.18) if air.lamps else (0.38, 0.37, 0.38)
    )
    for dx in (-20, 0, 20):
        plate.disc(x + dx, counter + 10, 4, 4, (0.88, 0.86, 0.82))
    plate.rounded(x - 18, counter - 27, x + 14, counter - 2, 5, (0.82, 0.30, 0.24))
    plate.box(x + 14, counter - 22, x + 30, counter - 18, (0.22, 0.18, 0.17))
    plate.box(x - 19, counter - 30, x + 15, counter - 26, (0.92, 0.50, 0.42))


def _pendant(plate: Plate, x: float, air: Air, rng: np.random.Generator) -> None:
    shade = vary((0.90, 0.62, 0.22), rng, 0.15)
    plate.line([(x, 0), (x, 22)], 3, (0.25, 0.22, 0.20))
    plate.glow(x, 46, 62, 54, (1.0, 0.88, 0.58), 0.85 if air.lamps else 0.25)
    plate.shape([(x - 5, 20), (x + 5, 20), (x + 19, 42), (x - 19, 42)], shade)
    plate.disc(x, 43, 10, 5, (1.0, 0.95, 0.78))


def _cactus(plate: Plate, x: float, base: float, height: float, air: Air) -> None:
    green = _shade((0.28, 0.55, 0.32), air)
    wide = height * 0.11
    for shift, gain in ((0.0, 0.68), (plate.side * wide * 0.45, 1.08)):
        ink, w = scaled(green, gain), wide if shift == 0.0 else wide * 0.5
        plate.rounded(x + shift - w, base - height, x + shift + w, base, w, ink)
        for arm, rise in ((-1, 0.40), (1, 0.55)):
            ax, ay = x + arm * wide * 2.6, base - height * rise
            left, right = sorted((x, ax + arm * w * 0.75))
            plate.rounded(left, ay - w * 0.75, right, ay + w * 0.75, w * 0.7, ink)
            plate.rounded(
                ax + shift - w * 0.75, ay - height * 0.32, ax + shift + w * 0.75, ay + w * 0.75, w * 0.7, ink
            )
    plate.glow(x - plate.side * 14, base, height * 0.4, 7, (0.30, 0.16, 0.10), 0.45)


def _desert(plate: Plate, air: Air, rng: np.random.Generator) -> None:
    horizon = float(rng.uniform(128, 142))
    _sky(plate, air, rng, horizon + 10, clouds=1)
    clay = _shade(vary((0.82, 0.46, 0.30), rng), air)
    for side in (-1.0, 1.0):
        x, wide, top = (
            128 + side * float(rng.uniform(72, 108)),
            float(rng.uniform(30, 46)),
            float(rng.uniform(58, 96)),
        )
        foot = horizon + 14
        plate.fade(
            [(x - wide * 1.5, foot), (x - wide, top), (x + wide, top), (x + wide * 1.5, foot)],
            mix(clay, WHITE, 0.1),
            scaled(clay, 0.9),
        )
        edge = x - plate.side * wide
        plate.shape(
            [
                (edge, top),
                (x - plate.side * wide * 0.4, top),
                (x - plate.side * wide * 0.6, foot),
                (edge - plate.side * wide * 0.5, foot),
            ],
            scaled(clay, 0.72),
        )
        for band in (0.25, 0.55):
            y = top + (foot - top) * band
            plate.box(x - wide * 1.05, y, x + wide * 1.05, y + 5, scaled(clay, 0.8), 0.5)
    plate.soften(1.6)
    sand = _shade(vary((0.95, 0.74, 0.44), rng), air)
    for level, gain in ((horizon + 8, 0.90), (horizon + 34, 1.0), (horizon + 66, 0.93)):
        outline = ridge(rng, level, 9.0, 4)
        tone = scaled(sand, gain)
        plate.fade(
            [(x, y - 4) for x, y in outline[:-2]] + outline[-2:],
            mix(tone, WHITE, 0.12 if air.lamps else 0.35),
            scaled(tone, 0.86),
        )
        plate.fade(outline, tone, scaled(tone, 0.88))
    side = 1.0 if rng.random() < 0.5 else -1.0
    _cactus(
        plate,
        128 + side * float(rng.uniform(92, 104)),
        float(rng.uniform(206, 222)),
        float(rng.uniform(96, 124)),
        air,
    )
    _cactus(
        plate,
        128 - side * float(rng.uniform(84, 106)),
        float(rng.uniform(182, 196)),
        float(rng.uniform(50, 76)),
        air,
    )


def _blossom(plate: Plate, x: float, y: float, size: float, colour: Colour, air: Air) -> None:
    plate.line([(x, y), (x, y + size * 3.2)], max(size * 0.35, 2), _shade((0.22, 0.50, 0.22), air))
    for turn in range(6):
        angle = turn * np.pi / 3
        tone = mix(colour, WHITE, 0.22) if np.cos(angle) * plate.side > 0.3 else colour
        plate.disc(
            x + np.cos(angle) * size * 0.62, y + np.sin(angle) * size * 0.62, size * 0.5, size * 0.5, tone
        )
    plate.disc(x, y, size * 0.4, size * 0.4, _shade((0.99, 0.80, 0.25), air))


def _garden(plate: Plate, air: Air, rng: np.random.Generator) -> None:
    _sky(plate, air, rng, 130, clouds=2)
    leaf = vary((0.32, 0.60, 0.28), rng, 0.08)
    for side in (-1.0, 1.0):
        broadleaf(
            plate,
            128 + side * float(rng.uniform(84, 112)),
            150,
            float(rng.uniform(110, 140)),
            _shade(leaf, air),
            rng,
        )
    for x in range(0, CANVAS_PX + 30, 34):
        foliage(
            plate, x + float(rng.uniform(-8, 8)), 134, 26, 20, _shade(vary(scaled(leaf, 0.82), rng), air), rng
        )
    plate.soften(1.8)
    fence = _shade((0.97, 0.96, 0.92), air)
    for y in (136, 156):
        plate.box(0, y, CANVAS_PX, y + 6, scaled(fence, 0.86))
    for x in range(int(rng.integers(-8, 8)), CANVAS_PX, 22):
        plate.shape([(x, 172), (x, 128), (x + 6, 120), (x + 12, 128), (x + 12, 172)], fence)
    grass = _shade(vary((0.48, 0.72, 0.30), rng), air)
    plate.fade(ridge(rng, 168, 4.0), mix(grass, WHITE, 0.12), scaled(grass, 0.72))
    palette = [
        (0.92, 0.25, 0.32),
        (0.97, 0.55, 0.70),
        (0.98, 0.80, 0.22),
        (0.62, 0.40, 0.82),
        (0.97, 0.96, 0.94),
        (0.96, 0.50, 0.20),
    ]
    chosen = [palette[i] for i in rng.permutation(6)[:3].tolist()]
    for step in range(22):
        side = 1.0 if step % 2 else -1.0
        depth = step / 22
        x = 128 + side * float(rng.uniform(58 + 14 * depth, 128))
        tone = _shade(vary(chosen[int(rng.integers(3))], rng, 0.08), air)
        _blossom(plate, x, 164 + 62 * depth + float(rng.uniform(-6, 6)), 7 + 6 * depth, tone, air)


def _starry(plate: Plate, air: Air, rng: np.random.Generator) -> None:
    tops = [(0.05, 0.07, 0.26), (0.12, 0.06, 0.30), (0.03, 0.12, 0.28)]
    lows = [(0.25, 0.32, 0.66), (0.46, 0.30, 0.62), (0.16, 0.44, 0.62)]
    pick = int(rng.integers(3))
    plate.fade_box(0, 0, CANVAS_PX, 190, tops[pick], lows[pick])
    slope = float(rng.uniform(-0.6, 0.6))
    for t in np.linspace(-1, 1, 9).tolist():
        plate.glow(128 + 140 * t, 66 + 140 * t * slope, 52, 34, mix(lows[pick], (0.85, 0.75, 1.0), 0.5), 0.28)
    plate.soften(2.0)
    for x, y, size in zip(
        rng.uniform(0, 256, 46), rng.uniform(0, 160, 46), rng.uniform(1.2, 3.0, 46), strict=True
    ):
        plate.disc(float(x), float(y), float(size), float(size), (1.0, 0.98, 0.88))
    side = 1.0 if rng.random() < 0.5 else -1.0
    for x, y in (
        (128 - side * float(rng.uniform(70, 105)), float(rng.uniform(24, 70))),
        (128 + side * 98, float(rng.uniform(84, 120))),
    ):
        plate.glow(x, y, 16, 16, (0.80, 0.88, 1.0), 0.8)
        plate.shape(
            [
                (x, y - 11),
                (x + 3, y - 3),
                (x + 11, y),
                (x + 3, y + 3),
                (x, y + 11),
                (x - 3, y + 3),
                (x - 11, y),
                (x - 3, y - 3),
            ],
            WHITE,
        )
    moon = (128 + side * float(rng.uniform(66, 96)), float(rng.uniform(30, 46)))
    plate.glow(*moon, 66, 66, (0.75, 0.78, 0.98), 0.5)
    plate.disc(*moon, 20, 20, (1.0, 0.96, 0.80))
    plate.disc(moon[0] - 9, moon[1] - 4, 17, 17, mix(tops[pick], lows[pick], 0.28))
    for level, gain in ((158, 0.60), (184, 0.42), (208, 0.62)):
        hill = mix(scaled(lows[pick], gain), (0.10, 0.22, 0.24), 0.45)
        plate.fade(
            ridge(rng, level, 12.0 if level < 200 else 4.0, 5), mix(hill, lows[pick], 0.22), scaled(hill, 0.7)
        )
        if level == 184:
            for x in (20, 44, 214, 238):
                pine(
                    plate, x + float(rng.uniform(-8, 8)), 206, float(rng.uniform(44, 74)), scaled(hill, 0.62)
                )


_BOOKS: list[Colour] = [
    (0.66, 0.22, 0.20), (0.20, 0.36, 0.52), (0.26, 0.46, 0.34), (0.82, 0.62, 0.28), (0.48, 0.28, 0.42), (0.86, 0.78, 0.64), (0.34, 0.24, 0.20),
]  # fmt: skip


def _shelves(
    plate: Plate, left: float, right: float, floor: float, wood: Colour, rng: np.random.Generator
) -> None:
    """Draw a bookcase from ceiling to floor between two columns."""
    plate.box(left, 0, right, floor, scaled(wood, 0.42))
    for y in np.arange(36.0, floor + 1, 38.0).tolist():
        x = left + 6
        while x < right - 8:
            wide, tall = float(rng.uniform(6, 12)), float(rng.uniform(22, 32))
            book = vary(_BOOKS[int(rng.integers(len(_BOOKS)))], rng, 0.12)
            plate.box(x, y - tall, x + wide - 1, y, book)
            plate.box(x, y - tall + 5, x + wide - 1, y - tall + 8, mix(book, (1.0, 0.9, 0.6), 0.45))
            x += wide
        plate.box(left, y, right, y + 6, wood)
        plate.box(left, y + 6, right, y + 11, (0.05, 0.03, 0.02), 0.4)
    for x in (left, right - 6):
        plate.fade_box(x, 0, x + 6, floor, mix(wood, WHITE, 0.12), wood)


def _library(plate: Plate, air: Air, rng: np.random.Generator) -> None:
    wood, floor = vary((0.52, 0.32, 0.19), rng, 0.1), float(rng.uniform(186, 196))
    middle, half = 128 + float(rng.uniform(-14, 14)), float(rng.uniform(30, 38))
    plate.fade_box(0, 0, CANVAS_PX, floor, scaled(wood, 0.6), wood)
    plate.disc(middle, 46, half + 7, 40, mix(wood, WHITE, 0.3))
    plate.box(middle - half - 7, 46, middle + half + 7, 168, mix(wood, WHITE, 0.3))
    plate.disc(middle, 46, half, 33, air.top)
    plate.fade_box(middle - half, 46, middle + half, 162, air.top, air.horizon)
    for x in (-half / 3, half / 3):
        plate.box(middle + x - 2, 14, middle + x + 2, 162, mix(wood, WHITE, 0.3))
    plate.glow(middle, 90, 110, 110, mix(air.horizon, WHITE, 0.3), 0.0 if air.lamps else 0.35)
    _shelves(plate, -4, middle - half - 10, floor, wood, rng)
    _shelves(plate, middle + half + 10, 260, floor, wood, rng)
    plate.soften(1.3)
    planks(plate, floor, scaled(wood, 1.2), rng)
    rug = vary([(0.62, 0.18, 0.18), (0.16, 0.36, 0.34), (0.24, 0.26, 0.50)][int(rng.integers(3))], rng)
    plate.shape([(84, floor), (172, floor), (226, 256), (30, 256)], (0.86, 0.70, 0.40))
    plate.shape([(90, floor), (166, floor), (212, 256), (44, 256)], rug)
    for x in (26.0, 230.0):
        lamp = x + float(rng.uniform(-6, 6))
        plate.box(lamp - 30, floor - 4, lamp + 30, floor + 4, mix(wood, WHITE, 0.15))
        plate.box(lamp - 26, floor + 4, lamp + 26, floor + 34, scaled(wood, 0.62))
        plate.line([(lamp, floor - 4), (lamp, floor - 32)], 4, (0.85, 0.68, 0.34))
        plate.glow(lamp, floor - 30, 70, 58, (1.0, 0.84, 0.48), 0.85 if air.lamps else 0.35)
        plate.shape(
            [
                (lamp - 20, floor - 28),
                (lamp - 12, floor - 42),
                (lamp + 12, floor - 42),
                (lamp + 20, floor - 28),
            ],
            (0.18, 0.52, 0.36),
        )


_PAINTERS: dict[str, Callable[[Plate, Air, np.random.Generator], None]] = {
    "beach": _beach,
    "forest": _forest,
    "snowy mountains": _mountains,
    "city street": _street,
    "living room": _living_room,
    "kitchen": _kitchen,
    "desert": _desert,
    "flower garden": _garden,
    "starry night": _starry,
    "library": _library,
}
SCENES: tuple[str, ...] = tuple(_PAINTERS)
OUTDOOR: frozenset[str] = frozenset(
    {"beach", "forest", "snowy mountains", "city street", "desert", "flower garden", "starry night"}
)


def lights_of(scene: str) -> tuple[str, ...]:
    """Return the lights that suit a scene: a starry night has no daylight."""
    return ("night", "studio") if scene == "starry night" else LIGHTS


def _vignette() -> np.ndarray:
    axis = np.linspace(-1.0, 1.0, CANVAS_PX, dtype=np.float32)
    return np.hypot(axis[:, None] * 0.9, axis[None, :]) ** 2


_CORNERS = _vignette()
_GRAIN = noise(np.random.default_rng(0), 40, low=0.975, high=1.025)


def paint_scene(canvas: Canvas, name: str, light: str, rng: np.random.Generator) -> None:
    """Fill ``canvas`` with a scene and set its light; the light comes from the left or the right."""
    base = _LIGHTS[light]
    side = -1.0 if rng.random() < 0.65 else 1.0
    canvas.light = Light(
        (-side * base.direction[0], base.direction[1]), base.colour, base.strength, base.ambient
    )
    plate = Plate(side)
    _PAINTERS[name](plate, _AIRS[light], rng)
    plate.soften(OUT_OF_FOCUS_PX)
    if light == "studio":
        plate.glow(128, 110, 150, 150, (1.0, 0.99, 0.95), 0.28)
    dimming = 0.34 if light == "studio" else 0.13
    gain = (
        (1.0 - dimming * _CORNERS)
        * np.roll(_GRAIN, int(rng.integers(CANVAS_PX)), axis=1)
        * np.float32(1.0 / 255.0)
    )
    for channel, plane in enumerate(plate.image.split()):
        canvas.rgb[..., channel] = np.asarray(plane) * gain
