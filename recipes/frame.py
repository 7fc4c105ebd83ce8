"""Design coordinates for objects: a box 200 units tall, independent of its size and position on the canvas.

``x`` increases towards the side the object faces (0 = its middle),
``y`` increases from the ground line (0) to the top (200).
"""

import math
from dataclasses import dataclass, field

import numpy as np

from recipes.kit import (
    COLOURS,
    Canvas,
    Colour,
    Mask,
    Point,
    View,
    curve_points,
    mix,
    noise,
    polygons,
    scaled,
)

DESIGN_HEIGHT = 200.0
INK: Colour = (0.11, 0.09, 0.11)
WHITE: Colour = (0.96, 0.95, 0.93)
PINK: Colour = (0.90, 0.50, 0.53)
_ARC = np.stack([np.cos(np.linspace(-1.3, 1.3, 6)), -np.sin(np.linspace(-1.3, 1.3, 6))], 1)
_CIRCLE = np.stack([np.cos(np.arange(30) * math.pi / 15), np.sin(np.arange(30) * math.pi / 15)], 1)


def colour_of(name: str) -> Colour:
    """Return a named colour of the kit as a float triple in [0, 1]."""
    red, green, blue = COLOURS[name]
    return (float(red), float(green), float(blue))


@dataclass
class Frame:
    """Draws shapes given in design units with the position, size, mirroring and tilt of one view."""

    canvas: Canvas
    view: View
    slope: float = 0.0  # rise of the ground per unit of x (bridges seen from one side)
    rng: np.random.Generator = field(init=False)
    scale: float = field(init=False)
    mirror: float = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.view.seed)
        self.scale = self.view.height / DESIGN_HEIGHT
        self.mirror = -1.0 if self.view.turn < 0 else 1.0
        c, s = math.cos(self.view.tilt), math.sin(self.view.tilt)
        to_screen = np.array([[self.mirror, -self.slope], [0.0, -1.0]]) * self.scale
        self._turned = to_screen @ np.array([[c, s], [-s, c]])
        self._textures: dict[tuple[int, float], np.ndarray] = {}

    @property
    def turn(self) -> float:
        """How far the object is turned sideways, 0..1 (towards positive ``x``)."""
        return abs(self.view.turn)

    def points(self, points: list[Point] | np.ndarray) -> np.ndarray:
        """Convert design points to (n, 2) canvas points."""
        return np.asarray(points, np.float64) @ self._turned + (self.view.x, self.view.base)

    def polygon(self, points: list[Point] | np.ndarray) -> Mask:
        return polygons([self.points(points)])

    def blob(self, points: list[Point], *, tuft: float = 0.0) -> Mask:
        """Return a smooth closed shape; ``tuft`` > 0 gives it a furry outline with tufts of this length in units."""
        path = curve_points(points, steps=4 if tuft else 6)
        if tuft:
            ring = np.asarray(path)
            out = ring[1::2] - ring.mean(axis=0)
            length = tuft * (0.7 + 0.6 * self.rng.random(len(out)))
            ring[1::2] += out * (length / np.hypot(out[:, 0], out[:, 1]))[:, None]
            return self.polygon(ring)
        return self.polygon(path)

    def ellipse(self, x: float, y: float, rx: float, ry: float, angle: float = 0.0) -> Mask:
        along, across = _CIRCLE[:, 0] * rx, _CIRCLE[:, 1] * ry
        c, s = math.cos(angle), math.sin(angle)
        return self.polygon(np.stack([x + along * c - across * s, y + along * s + across * c], 1))

    def box(self, left: float, bottom: float, right: float, top: float) -> Mask:
        return self.polygon([(left, bottom), (left, top), (right, top), (right, bottom)])

    def stroke(self, points: list[Point], width: float) -> Mask:
        """Return a smooth line with round ends, at least 3 canvas pixels wide."""
        width = max(width, 3.0 / self.scale)
        return self.tube(points, (width, width, width))

    def lines(self, segments: list[tuple[Point, Point]], width: float) -> Mask:
        """Return many straight lines as one shape (faster than separate strokes), at least 3 canvas pixels wide."""
        half = max(width * self.scale, 3.0) / 2
        quads = []
        for start, end in segments:
            (ax, ay), (bx, by) = self.points([start, end]).tolist()
            length = math.hypot(bx - ax, by - ay) or 1.0
            nx, ny = (ay - by) / length * half, (bx - ax) / length * half
            quads.append([(ax + nx, ay + ny), (bx + nx, by + ny), (bx - nx, by - ny), (ax - nx, ay - ny)])
        return polygons(quads)

    def tube(self, points: list[Point], widths: tuple[float, float, float]) -> Mask:
        """Return a limb along ``points`` with round ends; ``widths`` are at the root, the middle and the tip."""
        path = np.asarray(
            curve_points(points, closed=False, steps=6) if len(points) > 2 else points, np.float64
        )
        along = np.empty_like(path)
        along[1:-1] = path[2:] - path[:-2]
        along[0], along[-1] = path[1] - path[0], path[-1] - path[-2]
        along /= np.hypot(along[:, 0], along[:, 1])[:, None]
        half = np.interp(np.linspace(0.0, 1.0, len(path)), [0.0, 0.55, 1.0], widths)[:, None] * 0.5
        along *= half
        aside = along[:, ::-1] * (-1.0, 1.0)
        tip = path[-1] + _ARC @ np.stack([along[-1], aside[-1]])
        root = path[0] - _ARC @ np.stack([along[0], aside[0]])
        return self.polygon(np.concatenate([path + aside, tip, (path - aside)[::-1], root]))

    def paint(
        self,
        mask: Mask,
        colour: Colour | np.ndarray,
        relief: float = 0.0,
        rounding: float = 12.0,
        *,
        opacity: float = 1.0,
        texture: np.ndarray | None = None,
    ) -> None:
        """Like ``Canvas.paint``, but with the rounding in design units."""
        self.canvas.paint(
            mask,
            colour,
            relief=relief,
            round_px=max(rounding * self.scale, 2.0),
            opacity=opacity,
            texture=texture,
        )

    def shade(
        self, caster: Mask, onto: Mask, *, dx: float = 0.0, drop: float = 8.0, opacity: float = 0.35
    ) -> None:
        """Draw the soft shadow that ``caster`` casts on ``onto``."""
        soft = caster.moved(dx * self.scale, drop * self.scale).blurred(max(4.0 * self.scale, 1.5))
        self.canvas.paint(onto.cut(soft), (0.07, 0.05, 0.10), opacity=opacity)

    def ground_shadow(self, half_width: float, *, x: float = 0.0, depth: float = 11.0) -> None:
        """Draw a contact shadow on the ground, longer on the side away from the light."""
        lean = -self.canvas.light.direction[0] * self.mirror * half_width * 0.25
        wide = self.ellipse(x + lean, 0.0, half_width * 1.15, depth)
        self.canvas.shadow(wide, dy=0.0, blur=max(6.0 * self.scale, 2.0), opacity=0.34)
        self.canvas.shadow(
            self.ellipse(x, 1.0, half_width * 0.9, depth * 0.5), dy=0.0, blur=3.0, opacity=0.34
        )

    def fuzz(self, cells: int = 56, depth: float = 0.2) -> np.ndarray:
        """Return a fur or fabric texture for ``paint``; the same one in every call."""
        key = (cells, depth)
        if key not in self._textures:
            self._textures[key] = noise(self.rng, cells, low=1.0 - depth * 0.5, high=1.0 + depth * 0.5)
        return self._textures[key]

    def lit_side(self) -> float:
        """-1..1: the design ``x`` direction the light comes from."""
        return self.canvas.light.direction[0] * self.mirror

    def is_dark(self) -> bool:
        """Whether windows and lamps should be lit."""
        return self.canvas.light.ambient < 0.75


def draw_hat(frame: Frame, x: float, y: float, width: float) -> None:
    """Draw a brimmed hat with its brim at (x, y)."""
    colour = colour_of(frame.view.wearable_colour)
    half = width / 2
    crown = frame.blob(
        [
            (x - half * 0.62, y),
            (x - half * 0.58, y + half * 0.62),
            (x - half * 0.34, y + half * 0.86),
            (x + half * 0.34, y + half * 0.86),
            (x + half * 0.58, y + half * 0.62),
            (x + half * 0.62, y),
            (x, y - half * 0.12),
        ]
    )
    frame.paint(frame.ellipse(x, y, half, half * 0.24), scaled(colour, 0.85), 0.5, 5)
    frame.paint(crown, colour, 0.55, 9)
    band = frame.stroke(
        [(x - half * 0.56, y + half * 0.2), (x, y + half * 0.08), (x + half * 0.56, y + half * 0.2)], 7
    )
    frame.paint(band, mix(colour, INK, 0.6) if sum(colour) > 0.9 else WHITE)


def draw_scarf(frame: Frame, x: float, y: float, width: float) -> None:
    """Draw a scarf around a neck whose front is at (x, y)."""
    colour = colour_of(frame.view.wearable_colour)
    half = width / 2
    tail = frame.polygon(
        [
            (x + half * 0.22, y),
            (x + half * 0.3, y - 46),
            (x + half * 0.3 + 19, y - 44),
            (x + half * 0.3 + 14, y),
        ]
    )
    stripe = frame.stroke([(x + half * 0.3, y - 36), (x + half * 0.3 + 19, y - 35)], 6)
    frame.paint(tail, scaled(colour, 0.92), 0.4, 6)
    frame.paint(stripe.cut(tail), mix(colour, WHITE, 0.65))
    wrap = frame.stroke(
        [(x - half, y + 8), (x - half * 0.5, y - 4), (x + half * 0.5, y - 4), (x + half, y + 8)], 17
    )
    frame.paint(wrap, colour, 0.55, 6)
