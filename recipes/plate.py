"""Backgrounds: fast flat and gradient-filled shapes on a Pillow image, for everything behind a subject.

Positions and lengths are canvas pixels (``CANVAS_PX`` square), colours RGB triples in [0, 1], opacities in [0, 1].
"""

import math
from functools import lru_cache
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from recipes.kit import CANVAS_PX, Colour, Point, mix, scaled


def _radial(power: float) -> Image.Image:
    """Return a round mask (128, 128), opaque in the middle and transparent at its edge."""
    axis = np.linspace(-1.0, 1.0, 128)
    distance = np.hypot(axis[:, None], axis[None, :])
    return Image.fromarray((np.clip(1.0 - distance, 0.0, 1.0) ** power * 255.0).astype(np.uint8))


_SOFT = _radial(1.6)
_PUFF = _radial(0.6)


@lru_cache(maxsize=256)
def _patch(opacity: float, *, puff: bool) -> Image.Image:
    """Return a round mask with ``opacity`` in the middle."""
    return (_PUFF if puff else _SOFT).point([int(value * opacity) for value in range(256)])


def vary(colour: Colour, rng: np.random.Generator, amount: float = 0.05) -> Colour:
    """Return ``colour`` varied by up to ``amount`` in brightness and half as much in each channel."""
    red, green, blue, gain = rng.uniform(-amount, amount, 4).tolist()
    return (
        min(max(colour[0] * (1.0 + gain + red / 2), 0.0), 1.0),
        min(max(colour[1] * (1.0 + gain + green / 2), 0.0), 1.0),
        min(max(colour[2] * (1.0 + gain + blue / 2), 0.0), 1.0),
    )


def _ink(colour: Colour, opacity: float = 1.0) -> tuple[int, int, int, int]:
    red, green, blue = (min(max(int(c * 255.0 + 0.5), 0), 255) for c in colour)
    return red, green, blue, int(opacity * 255.0 + 0.5)


def _ramp(top: Colour, bottom: Colour, size: tuple[int, int]) -> Image.Image:
    """Return a vertical gradient of ``size`` (width, height)."""
    t = np.linspace(0.0, 1.0, size[1], dtype=np.float32)[:, None, None]
    low, high = np.asarray(_ink(top)[:3], np.float32), np.asarray(_ink(bottom)[:3], np.float32)
    column = Image.fromarray((low + (high - low) * t).astype(np.uint8))
    return column.resize(size, Image.Resampling.NEAREST)


class Plate:
    """A Pillow image with drawing methods. ``side`` is -1 or 1: the side the light comes from."""

    def __init__(self, side: float = -1.0) -> None:
        self.side = side
        self._adopt(Image.new("RGB", (CANVAS_PX, CANVAS_PX)))

    def _adopt(self, image: Image.Image) -> None:
        self.image = image
        self.pen = ImageDraw.Draw(image, "RGBA")

    def shape(self, points: list[Point], colour: Colour, opacity: float = 1.0) -> None:
        self.pen.polygon(points, fill=_ink(colour, opacity))

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour, opacity: float = 1.0) -> None:
        self.pen.rectangle((x0, y0, x1, y1), fill=_ink(colour, opacity))

    def rounded(self, x0: float, y0: float, x1: float, y1: float, radius: float, colour: Colour) -> None:
        self.pen.rounded_rectangle((x0, y0, x1, y1), radius, fill=_ink(colour))

    def disc(self, x: float, y: float, rx: float, ry: float, colour: Colour, opacity: float = 1.0) -> None:
        self.pen.ellipse((x - rx, y - ry, x + rx, y + ry), fill=_ink(colour, opacity))

    def line(self, points: list[Point], width: float, colour: Colour, opacity: float = 1.0) -> None:
        self.pen.line(points, fill=_ink(colour, opacity), width=round(width), joint="curve")

    def fade(self, points: list[Point], top: Colour, bottom: Colour) -> None:
        """Draw a polygon filled with a vertical gradient over its own height."""
        xs, ys = [p[0] for p in points], [p[1] for p in points]
        left, upper = math.floor(min(xs)), math.floor(min(ys))
        size = (max(math.ceil(max(xs)) - left, 1), max(math.ceil(max(ys)) - upper, 1))
        mask = Image.new("L", size)
        ImageDraw.Draw(mask).polygon([(x - left, y - upper) for x, y in points], fill=255)
        self.image.paste(_ramp(top, bottom, size), (left, upper), mask)

    def fade_box(self, x0: float, y0: float, x1: float, y1: float, top: Colour, bottom: Colour) -> None:
        size = (max(round(x1) - round(x0), 1), max(round(y1) - round(y0), 1))
        self.image.paste(_ramp(top, bottom, size), (round(x0), round(y0)))

    def glow(
        self, x: float, y: float, rx: float, ry: float, colour: Colour, opacity: float, *, puff: bool = False
    ) -> None:
        """Draw a soft round patch of ``colour``; ``puff`` keeps it opaque almost to its edge."""
        size = (max(round(rx * 2), 2), max(round(ry * 2), 2))
        mask = _patch(opacity, puff=puff).resize(size, Image.Resampling.BILINEAR)
        self.image.paste(_ink(colour)[:3], (round(x - rx), round(y - ry)), mask)

    def soften(self, radius: float) -> None:
        """Blur everything drawn so far, as if it were far away."""
        half = self.image.reduce(2).filter(ImageFilter.BoxBlur(radius / 2.0))
        self._adopt(half.resize((CANVAS_PX, CANVAS_PX), Image.Resampling.BILINEAR))


def foliage(
    plate: Plate, x: float, y: float, rx: float, ry: float, colour: Colour, rng: np.random.Generator
) -> None:
    """Draw foliage: round shapes in three tones, the light ones towards the light."""
    spots = rng.uniform(-0.75, 0.75, (9, 2)).tolist()
    for tone, scale, shift in ((0.66, 0.62, 0.0), (0.95, 0.46, 0.14), (1.22, 0.27, 0.28)):
        ink = scaled(colour, tone)
        for dx, dy in spots:
            cx, cy = x + rx * (dx + plate.side * shift), y + ry * (dy - shift)
            plate.disc(cx, cy, rx * scale, ry * scale, ink)


def broadleaf(
    plate: Plate, x: float, base: float, height: float, colour: Colour, rng: np.random.Generator
) -> None:
    """Draw a round-topped tree standing at ``base``."""
    wide = height * 0.05
    bark = (0.38, 0.26, 0.18)
    top = base - height * 0.6
    plate.shape([(x - wide * 1.5, base), (x - wide, top), (x + wide, top), (x + wide * 1.5, base)], bark)
    dark = x if plate.side < 0 else x - wide
    plate.shape([(dark, base), (dark, top), (dark + wide, top), (dark + wide * 1.3, base)], scaled(bark, 0.7))
    foliage(plate, x, base - height * 0.68, height * 0.27, height * 0.3, colour, rng)


def pine(plate: Plate, x: float, base: float, height: float, colour: Colour, *, snow: bool = False) -> None:
    """Draw a fir of four tiers, one side in shade; ``snow`` adds snow to the tiers."""
    plate.box(x - height * 0.03, base - height * 0.12, x + height * 0.03, base, (0.30, 0.20, 0.15))
    for tier in range(4):
        wide = height * (0.27 - 0.05 * tier)
        low, top = base - height * (0.08 + 0.2 * tier), base - height * (0.46 + 0.18 * tier)
        plate.shape([(x - wide, low), (x, top), (x + wide, low), (x, low + height * 0.05)], colour)
        plate.shape([(x, low + height * 0.05), (x, top), (x - plate.side * wide, low)], scaled(colour, 0.72))
        if snow:
            half, middle = wide * 0.62, (low * 0.62 + top * 0.38)
            white = (0.93, 0.96, 1.0)
            plate.shape(
                [(x - half, middle), (x, top), (x + half, middle), (x, middle - height * 0.04)], white
            )


def cloud(plate: Plate, x: float, y: float, size: float, colour: Colour, rng: np.random.Generator) -> None:
    """Draw a cloud of soft round patches, ``size`` pixels from its middle to its end, shaded underneath."""
    plate.glow(x, y + size * 0.12, size, size * 0.28, scaled(colour, 0.86), 0.7, puff=True)
    for dx, scale in zip(
        rng.uniform(-0.6, 0.6, 4).tolist(), rng.uniform(0.25, 0.42, 4).tolist(), strict=True
    ):
        plate.glow(
            x + dx * size, y - scale * size * 0.35, scale * size, scale * size * 0.85, colour, 0.9, puff=True
        )


def ridge(
    rng: np.random.Generator, level: float, swing: float, count: int = 7, *, bottom: float = CANVAS_PX
) -> list[Point]:
    """Return a wavy outline across the canvas at about ``level``, closed along ``bottom``."""
    heights = level + rng.uniform(-swing, swing, count)
    xs = np.linspace(-4.0, CANVAS_PX + 4.0, 40)
    knots = np.linspace(-4.0, CANVAS_PX + 4.0, count)
    place = np.clip(np.searchsorted(knots, xs) - 1, 0, count - 2)
    t = (xs - knots[place]) / (knots[1] - knots[0])
    eased = t * t * (3.0 - 2.0 * t)
    ys = heights[place] * (1.0 - eased) + heights[place + 1] * eased
    outline = list(zip(xs.tolist(), ys.tolist(), strict=True))
    return [*outline, (CANVAS_PX + 4.0, bottom), (-4.0, bottom)]


def between(a: Point, b: Point, t: float) -> Point:
    return a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t


def panel(corners: list[Point], u0: float, v0: float, u1: float, v1: float) -> list[Point]:
    """Return the part [u0, u1] x [v0, v1] of a four-cornered wall (corners clockwise from the upper left)."""
    a, b, c, d = corners
    return [
        between(between(a, b, u), between(d, c, u), v) for u, v in ((u0, v0), (u1, v0), (u1, v1), (u0, v1))
    ]


def planks(
    plate: Plate, horizon: float, colour: Colour, rng: np.random.Generator, *, count: int = 11
) -> None:
    """Draw a wooden floor from ``horizon`` down, with boards converging to a point above the horizon."""
    vanish = (CANVAS_PX / 2 + float(rng.uniform(-20, 20)), horizon - 70.0)
    xs = np.linspace(-260.0, CANVAS_PX + 260.0, count + 1).tolist()
    reach = (horizon - vanish[1]) / (CANVAS_PX - vanish[1])
    for x0, x1 in pairwise(xs):
        far0, far1 = vanish[0] + (x0 - vanish[0]) * reach, vanish[0] + (x1 - vanish[0]) * reach
        near, far = vary(colour, rng, 0.07), vary(mix(colour, (1.0, 0.95, 0.85), 0.12), rng, 0.05)
        plate.shape([(far0, horizon), (far1, horizon), (x1, CANVAS_PX), (x0, CANVAS_PX)], mix(near, far, 0.5))


def checker(
    plate: Plate, horizon: float, light: Colour, dark: Colour, *, columns: int = 10, rows: int = 6
) -> None:
    """Draw a chequered floor in perspective from ``horizon`` down."""
    plate.fade_box(0, horizon, CANVAS_PX, CANVAS_PX, scaled(light, 0.9), light)
    depth = [horizon + (CANVAS_PX - horizon) * (i / rows) ** 1.5 for i in range(rows + 1)]
    vanish = horizon - 60.0
    middle = CANVAS_PX / 2

    def across(step: int, y: float) -> float:
        return middle + (step - columns / 2) * 58.0 * (y - vanish) / (CANVAS_PX - vanish)

    for row in range(rows):
        for step in range(row % 2, columns, 2):
            y0, y1 = depth[row], depth[row + 1]
            corners = [
                (across(step, y0), y0),
                (across(step + 1, y0), y0),
                (across(step + 1, y1), y1),
                (across(step, y1), y1),
            ]
            plate.shape(corners, dark)
