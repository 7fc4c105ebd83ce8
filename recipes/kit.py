"""Drawing primitives of the renderer: soft-shaded shapes on a float canvas (numpy + Pillow only).

A picture is drawn at ``CANVAS_PX`` and downscaled to ``PICTURE_PX`` for smooth edges. All positions and lengths are
canvas pixels; colours are RGB triples in [0, 1]; angles are radians, clockwise on the screen.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

PICTURE_PX = 128
CANVAS_PX = 256

Colour = tuple[float, float, float]
Point = tuple[float, float]


@dataclass(frozen=True)
class Param:
    """One identity parameter: a choice between ``values`` or, without them, a scale in [0, 1].

    ``low`` and ``high`` are the words for the ends of a scale; "" means that captions never name that end.
    """

    name: str
    values: tuple[str, ...] = ()
    low: str = ""
    high: str = ""


Identity = dict[str, float]  # one entry per Param: a scale in [0, 1], or the index of a choice


@dataclass(frozen=True)
class View:
    """How a subject is seen (canvas pixels, radians); contains no identity parameters."""

    x: float = 128.0  # centre of the subject
    base: float = 250.0  # y of the ground line; persons: y of the lower edge of the bust
    height: float = 200.0  # overall height of the subject
    turn: float = 0.0  # -1 (left) .. 1 (right)
    tilt: float = 0.0  # small
    expression: str = "calm"  # persons: calm, smiling, laughing, serious, surprised
    clothing: str = "red sweater"
    wearable: str = ""  # "", "hat" or "scarf"
    wearable_colour: str = "red"
    seed: int = 0  # incidental variation (fur strokes, folds)


COLOURS: dict[str, Colour] = {
    "red": (0.82, 0.17, 0.16),
    "orange": (0.93, 0.50, 0.13),
    "yellow": (0.96, 0.79, 0.24),
    "green": (0.27, 0.57, 0.28),
    "teal": (0.12, 0.56, 0.56),
    "blue": (0.21, 0.46, 0.80),
    "navy": (0.13, 0.19, 0.40),
    "purple": (0.50, 0.29, 0.66),
    "pink": (0.94, 0.58, 0.68),
    "brown": (0.50, 0.32, 0.19),
    "black": (0.13, 0.13, 0.15),
    "white": (0.95, 0.94, 0.91),
    "grey": (0.56, 0.57, 0.60),
}


@dataclass(frozen=True)
class Light:
    """Direction of the light (on the screen, towards the light) and its colour."""

    direction: Point = (-0.6, -0.8)
    colour: Colour = (1.0, 1.0, 1.0)
    strength: float = 1.0  # contrast of the shading; 0 = flat
    ambient: float = 1.0  # overall exposure


@dataclass(frozen=True)
class Mask:
    """Coverage ``alpha`` (h, w) float32 in [0, 1] with its top-left corner at canvas px (``left``, ``top``)."""

    alpha: np.ndarray
    left: int
    top: int

    def blurred(self, radius: float) -> "Mask":
        """Return the mask with its edge blurred by ``radius`` pixels (the array grows accordingly)."""
        pad = math.ceil(radius * 2)
        h, w = self.alpha.shape
        grown = np.zeros((h + 2 * pad, w + 2 * pad), np.float32)
        grown[pad : pad + h, pad : pad + w] = self.alpha
        return Mask(_blur(grown, radius), self.left - pad, self.top - pad)

    def moved(self, dx: float, dy: float) -> "Mask":
        return Mask(self.alpha, self.left + round(dx), self.top + round(dy))

    def cut(self, other: "Mask", *, keep: bool = True) -> "Mask":
        """Return this mask inside ``other`` (``keep=False``: outside it)."""
        inside = np.zeros_like(self.alpha)
        h, w = self.alpha.shape
        oh, ow = other.alpha.shape
        x0, y0 = max(self.left, other.left), max(self.top, other.top)
        x1, y1 = min(self.left + w, other.left + ow), min(self.top + h, other.top + oh)
        if x1 > x0 and y1 > y0:
            inside[y0 - self.top : y1 - self.top, x0 - self.left : x1 - self.left] = other.alpha[
                y0 - other.top : y1 - other.top, x0 - other.left : x1 - other.left
            ]
        return Mask(self.alpha * (inside if keep else 1.0 - inside), self.left, self.top)


def _blur(alpha: np.ndarray, radius: float) -> np.ndarray:
    """Return ``alpha`` blurred; wide blurs are computed at half or a quarter of the size."""
    image = Image.fromarray((alpha * np.float32(255.0)).astype(np.uint8))
    if radius < 2.5:
        return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), np.float32) * np.float32(
            1.0 / 255.0
        )
    part = 2 if radius < 4.5 else 4
    small = image.reduce(part).filter(ImageFilter.GaussianBlur(radius / part))
    h, w = alpha.shape
    back = small.resize((w, h), Image.Resampling.BILINEAR, box=(0, 0, w / part, h / part))
    return np.asarray(back, np.float32) * np.float32(1.0 / 255.0)


def _half_blur(image: Image.Image, radius: float) -> np.ndarray:
    small = image.reduce(2).filter(ImageFilter.GaussianBlur(radius * 0.5))
    return np.asarray(small, np.float32) * (1.0 / 255.0)


@cache
def _neighbours(count: int, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each of ``count`` indices, the indices ``reach`` before and after it, clamped to the ends."""
    places = np.arange(count)
    return np.maximum(places - reach, 0), np.minimum(places + reach, count - 1)


def _doubled(small: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return ``small`` with each pixel repeated 2 x 2, cropped to ``shape``."""
    return small.repeat(2, 0).repeat(2, 1)[: shape[0], : shape[1]]


def polygons(shapes: Sequence[list[Point] | np.ndarray]) -> Mask:
    """Return the union of filled polygons as one mask (much faster than painting each)."""
    paths = [np.asarray(shape, np.float64) for shape in shapes]
    points = paths[0] if len(paths) == 1 else np.concatenate(paths)
    (x0, y0), (x1, y1) = points.min(0), points.max(0)
    left, top = max(math.floor(x0) - 1, -64), max(math.floor(y0) - 1, -64)
    right, bottom = min(math.ceil(x1) + 2, CANVAS_PX + 64), min(math.ceil(y1) + 2, CANVAS_PX + 64)
    image = Image.new("L", (max(right - left, 1), max(bottom - top, 1)))
    pen = ImageDraw.Draw(image)
    for path in paths:
        pen.polygon((path - (left, top)).ravel().tolist(), fill=255)
    return Mask(np.asarray(image, np.float32) * (1.0 / 255.0), left, top)


def polygon(points: list[Point]) -> Mask:
    """Return a filled polygon."""
    return polygons([points])


@cache
def _unit_circle(count: int) -> np.ndarray:
    turn = np.arange(count) * (2.0 * math.pi / count)
    return np.stack([np.cos(turn), np.sin(turn)], 1)


def ellipse_points(
    cx: float, cy: float, rx: float, ry: float, angle: float = 0.0, count: int = 36
) -> list[Point]:
    c, s = math.cos(angle), math.sin(angle)
    path = _unit_circle(count) @ np.array([[rx * c, rx * s], [-ry * s, ry * c]]) + (cx, cy)
    return [(x, y) for x, y in path.tolist()]


def ellipse(cx: float, cy: float, rx: float, ry: float, angle: float = 0.0) -> Mask:
    """Return a filled ellipse."""
    return polygon(ellipse_points(cx, cy, rx, ry, angle))


@cache
def _spline(count: int, closed: bool, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the four point indices of each Catmull-Rom segment, and their weights (steps, 4) along it."""
    if closed:
        picks = (np.arange(count)[:, None] + np.arange(-1, 3)) % count
    else:
        picks = np.clip(np.arange(count - 1)[:, None] + np.arange(-1, 3), 0, count - 1)
    t = np.linspace(0.0, 1.0, steps, endpoint=False)
    weights = [2 * t**2 - t - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2]
    return picks, 0.5 * np.stack(weights, 1)


def _curve(points: list[Point], closed: bool, steps: int) -> np.ndarray:
    p = np.asarray(points, np.float64)
    picks, weights = _spline(len(p), closed, steps)
    path = (weights @ p[picks]).reshape(-1, 2)
    return path if closed else np.concatenate([path, p[-1:]])


def curve_points(points: list[Point], *, closed: bool = True, steps: int = 8) -> list[Point]:
    """Return points of a smooth (Catmull-Rom) curve through ``points``."""
    return [(x, y) for x, y in _curve(points, closed, steps).tolist()]


def blob(points: list[Point], *, steps: int = 8) -> Mask:
    """Return a filled smooth closed shape through ``points``."""
    return polygons([_curve(points, True, steps)])


@cache
def _taper(count: int, end: float) -> np.ndarray:
    return 0.5 * np.maximum(np.sin(np.linspace(0.0, math.pi, count)), end)[:, None]


def lock_points(points: list[Point], width: float, *, end: float = 0.0) -> list[Point]:
    """Return the outline of a smooth line, ``width`` px wide in the middle and ``end`` * ``width`` at its ends."""
    path = _curve(points, False, 5)
    run = np.empty_like(path)
    run[1:-1] = path[2:] - path[:-2]
    run[0], run[-1] = path[1] - path[0], path[-1] - path[-2]
    run *= width / np.maximum(np.hypot(run[:, :1], run[:, 1:]), 1e-6)
    aside = run[:, ::-1] * (-1.0, 1.0) * _taper(len(path), end)
    return [(x, y) for x, y in np.concatenate([path + aside, (path - aside)[::-1]]).tolist()]


def stroke(points: list[Point], width: float, *, smooth: bool = True) -> Mask:
    """Return a line of ``width`` pixels with round ends through ``points``."""
    path = curve_points(points, closed=False) if smooth and len(points) > 2 else points
    xs, ys = [q[0] for q in path], [q[1] for q in path]
    pad = width / 2 + 2
    left, top = math.floor(min(xs) - pad), math.floor(min(ys) - pad)
    size = (math.ceil(max(xs) + pad) - left + 1, math.ceil(max(ys) + pad) - top + 1)
    image = Image.new("L", size)
    pen = ImageDraw.Draw(image)
    local = [(x - left, y - top) for x, y in path]
    pen.line(local, fill=255, width=max(round(width), 1), joint="curve")
    r = width / 2
    for x, y in (local[0], local[-1]):
        pen.ellipse((x - r, y - r, x + r, y + r), fill=255)
    return Mask(np.asarray(image, np.float32) * (1.0 / 255.0), left, top)


def mix(a: Colour, b: Colour, t: float) -> Colour:
    return (a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t)


def scaled(colour: Colour, gain: float) -> Colour:
    return (colour[0] * gain, colour[1] * gain, colour[2] * gain)


@dataclass
class Canvas:
    """A float32 RGB picture (CANVAS_PX, CANVAS_PX, 3) in [0, 1] under one light
    (stored plane by plane, which makes painting faster)."""

    light: Light = field(default_factory=Light)
    rgb: np.ndarray = field(
        default_factory=lambda: np.zeros((3, CANVAS_PX, CANVAS_PX), np.float32).transpose(1, 2, 0)
    )

    def _window(self, mask: Mask) -> tuple[np.ndarray, tuple[slice, slice]] | None:
        h, w = mask.alpha.shape
        x0, y0 = max(mask.left, 0), max(mask.top, 0)
        x1, y1 = min(mask.left + w, CANVAS_PX), min(mask.top + h, CANVAS_PX)
        if x1 <= x0 or y1 <= y0:
            return None
        inner = (slice(y0 - mask.top, y1 - mask.top), slice(x0 - mask.left, x1 - mask.left))
        return self.rgb[y0:y1, x0:x1], inner

    def _relief(self, mask: Mask, relief: float, round_px: float) -> np.ndarray:
        """Return the gain (h, w) that makes ``mask`` look rounded under the canvas's light."""
        height = _half_blur(Image.fromarray((mask.alpha * 255.0).astype(np.uint8)), round_px)
        lx, ly = self.light.direction
        k = max(round(round_px / 7.0), 1)  # a wide stencil hides the quantisation steps of an 8-bit blur
        (up, down), (before, after) = _neighbours(height.shape[0], k), _neighbours(height.shape[1], k)
        slope = (height.take(after, 1) - height.take(before, 1)) * np.float32(lx)
        slope += (height.take(down, 0) - height.take(up, 0)) * np.float32(ly)
        gain = 1.0 - slope * (0.55 / k * round_px * relief * self.light.strength)
        return _doubled(np.clip(gain, 0.25, 1.75), mask.alpha.shape)

    def paint(
        self,
        mask: Mask,
        colour: Colour | np.ndarray,
        *,
        relief: float = 0.0,
        round_px: float = 10.0,
        opacity: float = 1.0,
        texture: np.ndarray | None = None,
    ) -> None:
        """Paint ``colour`` through ``mask``. ``relief`` > 0 shades it like a rounded body (``round_px``: how
        far the rounding extends inwards). ``texture`` (CANVAS_PX, CANVAS_PX) multiplies the colour
        (1 = unchanged). ``colour`` may be an (h, w, 3) array of the mask's size."""
        window = self._window(mask)
        if window is None:
            return
        target, inner = window
        rows, cols = inner
        alpha = mask.alpha[rows, cols] * np.float32(opacity)
        gain = None
        if relief > 0.0:
            gain = self._relief(mask, relief, round_px)[rows, cols]
        if texture is not None:
            x0, y0 = max(mask.left, 0), max(mask.top, 0)
            grain = texture[y0 : y0 + target.shape[0], x0 : x0 + target.shape[1]]
            gain = grain if gain is None else gain * grain
        body = np.asarray(colour, np.float32)
        for channel in range(3):
            plane = target[..., channel]
            tone = body[rows, cols, channel] if body.ndim == 3 else body[channel]
            plane += ((tone if gain is None else tone * gain) - plane) * alpha

    def shadow(
        self, mask: Mask, *, dx: float = 0.0, dy: float = 4.0, blur: float = 5.0, opacity: float = 0.35
    ) -> None:
        """Draw a soft dark copy of ``mask``: a cast or contact shadow."""
        self.paint(mask.moved(dx, dy).blurred(blur), (0.05, 0.05, 0.09), opacity=opacity)

    def glow(self, mask: Mask, colour: Colour, *, blur: float = 6.0, opacity: float = 0.6) -> None:
        """Add light of ``colour`` around ``mask`` (lamps, sun, highlights)."""
        soft = mask.blurred(blur)
        window = self._window(soft)
        if window is not None:
            target, (rows, cols) = window
            target += soft.alpha[rows, cols][..., None] * np.asarray(colour, np.float32) * opacity

    def image(self) -> Image.Image:
        """Return the finished picture, exposed, tinted by the light and downscaled to PICTURE_PX."""
        rows = self.rgb[::2] + self.rgb[1::2]
        lit = (rows[:, ::2] + rows[:, 1::2]) * (
            np.asarray(self.light.colour, np.float32) * (self.light.ambient / 4.0)
        )
        return Image.fromarray((np.clip(lit, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8))


def vertical_gradient(
    top: Colour, bottom: Colour, height: int = CANVAS_PX, width: int = CANVAS_PX
) -> np.ndarray:
    """Return a (height, width, 3) float32 gradient."""
    t = np.linspace(0.0, 1.0, height, dtype=np.float32)[:, None, None]
    ramp = np.asarray(top, np.float32) * (1 - t) + np.asarray(bottom, np.float32) * t
    return np.broadcast_to(ramp, (height, width, 3))


def noise(rng: np.random.Generator, cells: int, *, low: float = 0.9, high: float = 1.1) -> np.ndarray:
    """Return a smooth random texture (CANVAS_PX, CANVAS_PX) from ``low`` to ``high``, with ``cells`` bumps across."""
    grid = Image.fromarray((rng.random((cells, cells)) * 255).astype(np.uint8))
    big = np.asarray(grid.resize((CANVAS_PX, CANVAS_PX), Image.Resampling.BICUBIC), np.float32)
    return low + (high - low) * big * (1.0 / 255.0)
