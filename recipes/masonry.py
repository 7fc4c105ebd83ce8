"""Walls, windows, flags and greenery shared by towers and bridges (design units unless stated)."""

import numpy as np

from recipes.frame import WHITE, Frame, colour_of
from recipes.kit import Colour, Mask, scaled

WALLS: dict[str, Colour] = {
    "white": (0.93, 0.91, 0.87),
    "grey stone": (0.62, 0.62, 0.64),
    "red brick": (0.71, 0.33, 0.25),
    "sandstone": (0.88, 0.73, 0.48),
    "dark stone": (0.36, 0.38, 0.44),
}
TRIMS: dict[str, Colour] = {"white": WHITE, "gold": (0.93, 0.72, 0.22), "brown": (0.42, 0.25, 0.14)}
GLASS: Colour = (0.22, 0.34, 0.48)
LAMPLIGHT: Colour = (1.0, 0.84, 0.45)
_TONES = np.random.default_rng(7).uniform(0.9, 1.1, (16, 16)).astype(np.float32)
FLAGS = ("none", "red", "blue", "yellow", "green")


def courses(frame: Frame, mask: Mask, material: str) -> np.ndarray:
    """Return the (h, w) brightness of a wall in ``material``: blocks with soft joints; uniform for white."""
    h, w = mask.alpha.shape
    if material == "white":
        return np.ones((h, w), np.float32)
    tall = max((9.0 if material == "red brick" else 13.0) * frame.scale, 5.0)
    long = tall * 2.0
    y, x = np.arange(h) / tall, np.arange(w) / long
    row = y.astype(int)
    along = x[None] + 0.5 * (row[:, None] % 2)
    tone = _TONES[row[:, None] % 16, along.astype(int) % 16]
    joint = ((y % 1.0) * tall < 2.0)[:, None] | ((along % 1.0) * long < 2.0)
    return np.where(joint, np.float32(0.8), tone)


def round_wall(frame: Frame, mask: Mask, colour: Colour, material: str = "white") -> np.ndarray:
    """Return the (h, w, 3) colours of an upright round wall that fills ``mask`` from side to side."""
    w = mask.alpha.shape[1]
    across = np.linspace(-1.0, 1.0, w, dtype=np.float32)
    towards = frame.canvas.light.direction[0]
    facing = across * towards + np.sqrt(1.0 - np.minimum(across**2, 1.0)) * 0.8
    gain = 1.0 + (0.48 + 0.62 * np.clip(facing, 0.0, 1.0) - 1.0) * min(frame.canvas.light.strength, 1.3)
    return (courses(frame, mask, material) * gain)[..., None] * np.asarray(colour, np.float32)


def flat_wall(
    frame: Frame, mask: Mask, colour: Colour, material: str = "white", gain: float = 1.0
) -> np.ndarray:
    """Return the (h, w, 3) colours of a flat wall, slightly darker towards the ground."""
    fall = np.linspace(1.08, 0.88, mask.alpha.shape[0], dtype=np.float32)[:, None] * gain
    return (courses(frame, mask, material) * fall)[..., None] * np.asarray(colour, np.float32)


def side_gains(frame: Frame) -> tuple[float, float]:
    """Return the brightness of the front face and of the side face towards positive x."""
    lit = frame.lit_side() * frame.canvas.light.strength
    return 1.0 - 0.06 * lit, 0.78 + 0.3 * lit


def draw_window(
    frame: Frame, x: float, y: float, width: float, height: float, shape: str, trim: Colour
) -> None:
    """Draw a window of ``shape`` (arched, square or round) centred on (x, y), lit when it is dark outside."""
    glass = LAMPLIGHT if frame.is_dark() else GLASS
    rim = 3.0
    if shape == "round":
        radius = max(width, height * 0.75) / 2
        frame.paint(frame.ellipse(x, y, radius + rim, radius + rim), trim)
        frame.paint(frame.ellipse(x, y, radius, radius), glass)
        return
    for colour, grow in ((trim, rim), (glass, 0.0)):
        left, right, low, high = (
            x - width / 2 - grow,
            x + width / 2 + grow,
            y - height / 2 - grow,
            y + height / 2 + grow,
        )
        if shape == "arched":
            shoulder = high - width / 2
            arc = [
                (x + (right - x) * np.cos(a), shoulder + (high - shoulder) * np.sin(a))
                for a in np.linspace(0, np.pi, 9)
            ]
            frame.paint(frame.polygon([(right, low), *arc, (left, low)]), colour)
        else:
            frame.paint(frame.box(left, low, right, high), colour)


def draw_door(frame: Frame, x: float, width: float, height: float, colour: Colour, trim: Colour) -> None:
    """Draw an arched door on the ground."""
    for tone, grow in ((trim, 4.0), (colour, 0.0)):
        half, shoulder = width / 2 + grow, height - width / 2
        arc = [(x + half * np.cos(a), shoulder + half * np.sin(a)) for a in np.linspace(0, np.pi, 11)]
        frame.paint(frame.polygon([(x + half, 0), *arc, (x - half, 0)]), tone)


def draw_flag(frame: Frame, x: float, y: float, colour_name: str, height: float = 32.0) -> None:
    """Draw a pole at (x, y) with a waving flag; "none" draws nothing."""
    if colour_name == "none":
        return
    frame.paint(frame.stroke([(x, y), (x, y + height)], 3.6), (0.36, 0.30, 0.28))
    top, low = y + height, y + height - 19
    wave = [(x + t * 33, 3.4 * np.sin(t * 6.0)) for t in np.linspace(0, 1, 9)]
    upper, lower = [(wx, top + dy) for wx, dy in wave], [(wx, low + dy) for wx, dy in reversed(wave)]
    flag = frame.polygon([*upper, *lower])
    frame.paint(flag, colour_of(colour_name), 0.45, 6)


def draw_bushes(frame: Frame, half_width: float) -> None:
    """Draw round shrubs on both sides of a base of this half width."""
    for side in (-1, 1):
        for dx, radius, tone in ((14, 15, 0.85), (-4, 18, 1.0)):
            bush = frame.ellipse(side * (half_width + dx), radius * 0.75, radius * 1.15, radius)
            frame.paint(bush, scaled((0.30, 0.53, 0.24), tone), 0.55, 9, texture=frame.fuzz(40, 0.5))


def draw_rocks(frame: Frame, half_width: float) -> None:
    """Draw boulders along a base of this half width."""
    for x, radius in ((-1.15, 17), (1.12, 19), (-0.62, 14), (0.6, 13)):
        cx = x * half_width
        rock = [
            (cx - radius * 1.3, 0),
            (cx - radius, radius * 0.9),
            (cx - radius * 0.1, radius * 1.2),
            (cx + radius, radius * 0.8),
            (cx + radius * 1.3, 0),
        ]
        frame.paint(frame.blob(rock), (0.50, 0.48, 0.47), 0.6, 8)
