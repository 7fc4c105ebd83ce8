"""Teapots: glazed bodies of five shapes with motifs, spouts, handles and lids."""

from dataclasses import dataclass

import numpy as np

from recipes.frame import WHITE, Frame, colour_of
from recipes.kit import Canvas, Colour, Identity, Mask, Param, Point, View, curve_points, mix, scaled

TEAPOT_PARAMS = (
    Param("glaze", ("red", "orange", "green", "teal", "blue", "purple", "pink", "brown")),
    Param("accent", ("white", "gold", "navy")),
    Param("body", ("round", "tall", "squat", "pear", "angular")),
    Param("motif", ("none", "band", "dots", "flower", "stripes", "star")),
    Param("handle", ("loop", "square", "hoop")),
    Param("spout", ("curved", "straight", "short")),
    Param("setting", ("ball", "pointed", "ring")),
    Param("lid", ("matching", "contrasting")),
    Param("foot", ("none", "ring", "three feet")),
    Param("width", low="narrow", high="wide"),
    Param("gloss", low="matte", high="glossy"),
)
GOLD: Colour = (0.90, 0.70, 0.22)
PROFILES: dict[str, list[Point]] = {
    "round": [(34, 8), (60, 30), (69, 66), (57, 104), (34, 124)],
    "tall": [(44, 8), (52, 34), (51, 80), (45, 118), (32, 142)],
    "squat": [(44, 8), (72, 26), (82, 52), (68, 80), (40, 98)],
    "pear": [(38, 8), (66, 24), (70, 54), (46, 96), (31, 130)],
    "angular": [(42, 8), (72, 62), (72, 70), (36, 118), (34, 122)],
}


@dataclass(frozen=True)
class Teapot:
    """One teapot being drawn (design units)."""

    frame: Frame
    words: dict[str, str]
    glaze: Colour
    accent: Colour
    gloss: float
    half: list[Point]  # the right half of the outline, from the foot up

    @property
    def top(self) -> float:
        return self.half[-1][1]

    def width_at(self, y: float) -> float:
        """Return half the body's width at the height ``y``."""
        return float(np.interp(y, [p[1] for p in self.half], [p[0] for p in self.half]))


def draw_teapot(canvas: Canvas, identity: Identity, view: View) -> None:
    """Draw a teapot whose spout points to the side given by ``view.turn``."""
    words = {p.name: p.values[int(identity[p.name])] for p in TEAPOT_PARAMS if p.values}
    wide = 0.88 + 0.22 * float(identity["width"])
    profile = [(x * wide, y) for x, y in PROFILES[words["body"]]]
    half = profile if words["body"] == "angular" else curve_points(profile, closed=False, steps=6)
    teapot = Teapot(
        frame=Frame(canvas, view),
        words=words,
        glaze=colour_of(words["glaze"]),
        accent=GOLD if words["accent"] == "gold" else colour_of(words["accent"]),
        gloss=float(identity["gloss"]),
        half=half,
    )
    teapot.frame.ground_shadow(half[0][0] + 22, depth=10)
    _draw_handle(teapot)
    _draw_spout(teapot)
    _draw_foot(teapot)
    body = _draw_body(teapot)
    _draw_lid(teapot, body)


def _draw_handle(teapot: Teapot) -> None:
    frame, kind = teapot.frame, teapot.words["handle"]
    reach = 0.8 + 0.2 * frame.turn
    high, low = teapot.top * 0.8, teapot.top * 0.34
    x_high, x_low = -teapot.width_at(high) + 6, -teapot.width_at(low) + 6
    colour = teapot.accent if teapot.words["lid"] == "contrasting" else scaled(teapot.glaze, 0.9)
    if kind == "hoop":
        x, rise = teapot.width_at(teapot.top * 0.84), min(teapot.top + 62, 196)
        path = [
            (-x, teapot.top * 0.84),
            (-x * 0.95, rise - 26),
            (0, rise),
            (x * 0.95, rise - 26),
            (x, teapot.top * 0.84),
        ]
        frame.paint(frame.stroke(path, 10), colour, 0.5, 5)
        return
    out = max(x_low - 42 * reach, -108.0)
    if kind == "loop":
        path = [
            (x_high, high),
            (out + 14, high + 8),
            (out, (high + low) / 2 + 8),
            (out + 16, low + 2),
            (x_low, low),
        ]
        frame.paint(frame.stroke(path, 13), colour, 0.5, 6)
        return
    path = [(x_high, high + 6), (out, high + 6), (out, low - 4), (x_low, low - 4)]
    frame.paint(frame.stroke(path[:2], 12), colour, 0.5, 6)
    frame.paint(frame.stroke(path[2:], 12), colour, 0.5, 6)
    frame.paint(frame.stroke(path[1:3], 13), colour, 0.5, 6)


def _draw_spout(teapot: Teapot) -> None:
    frame, kind, top = teapot.frame, teapot.words["spout"], teapot.top
    root = teapot.width_at(top * 0.36)
    reach = min(0.82 + 0.18 * frame.turn, (108.0 - root) / 50.0)
    path = {
        "curved": [
            (root - 14, top * 0.34),
            (root + 20, top * 0.42),
            (root + 30, top * 0.74),
            (root + 50, top * 0.98),
        ],
        "straight": [(root - 14, top * 0.36), (root + 16, top * 0.64), (root + 46, top * 0.94)],
        "short": [(root - 12, top * 0.58), (root + 10, top * 0.72), (root + 28, top * 0.88)],
    }[kind]
    path = [(root + (x - root) * reach, y) for x, y in path]
    frame.paint(frame.tube(path, (36, 21, 16)), teapot.glaze, 0.5, 9)
    x, y = path[-1]
    frame.paint(frame.ellipse(x + 2, y + 5, 11, 6, -0.5), teapot.accent, 0.4, 3)
    frame.paint(frame.ellipse(x + 2, y + 6, 6.5, 3.4, -0.5), mix(teapot.glaze, (0.05, 0.04, 0.05), 0.75))


def _draw_foot(teapot: Teapot) -> None:
    frame, x = teapot.frame, teapot.half[0][0]
    if teapot.words["foot"] == "ring":
        frame.paint(
            frame.polygon([(-x - 5, 0), (-x + 4, 14), (x - 4, 14), (x + 5, 0)]), teapot.accent, 0.4, 6
        )
    elif teapot.words["foot"] == "three feet":
        for dx in (-x, 0, x):
            frame.paint(frame.ellipse(dx, 6, 12, 10), teapot.accent, 0.5, 5)
    else:
        frame.paint(frame.ellipse(0, 9, x + 3, 8), scaled(teapot.glaze, 0.7), 0.3, 4)


def _draw_body(teapot: Teapot) -> Mask:
    frame = teapot.frame
    outline = [*teapot.half, *[(-x, y) for x, y in reversed(teapot.half)]]
    body = frame.polygon(outline)
    frame.paint(body, teapot.glaze, 0.62, 24)
    _draw_motif(teapot, body)
    shade = frame.ellipse(-frame.lit_side() * 70, 24, 62, 66).blurred(12 * frame.scale)
    frame.paint(body.cut(shade), (0.05, 0.03, 0.10), opacity=0.26)
    glow = frame.ellipse(
        frame.lit_side() * teapot.width_at(70) * 0.75, teapot.top * 0.66, 13, 20, -frame.lit_side() * 0.4
    )
    soft = glow.blurred((10 - 6 * teapot.gloss) * frame.scale)
    frame.paint(soft.cut(body), (1.0, 1.0, 1.0), opacity=0.25 + 0.6 * teapot.gloss)
    return body


def _draw_motif(teapot: Teapot, body: Mask) -> None:
    frame, kind, ink, mid = teapot.frame, teapot.words["motif"], teapot.accent, teapot.top * 0.5
    shift = frame.turn * 6
    if kind == "band":
        band = frame.stroke([(-100, mid + 4), (0, mid - 7), (100, mid + 4)], 22)
        frame.paint(band.cut(body), ink, 0.2, 20)
    elif kind == "dots":
        for row, y in enumerate((mid - 30, mid, mid + 30)):
            for k in range(-2, 3):
                x = (k + 0.5 * (row % 2)) * 33 + shift
                squeeze = max(0.5, 1.0 - (x / 90) ** 2)
                frame.paint(frame.ellipse(x * (0.6 + 0.4 * squeeze), y, 9 * squeeze, 9).cut(body), ink)
    elif kind == "flower":
        for k in range(6):
            angle = k * np.pi / 3
            petal = frame.ellipse(shift + 19 * np.cos(angle), mid + 19 * np.sin(angle), 13, 10, angle)
            frame.paint(petal.cut(body), ink, 0.25, 6)
        frame.paint(frame.ellipse(shift, mid, 10, 10), (0.97, 0.80, 0.25), 0.4, 5)
    elif kind == "stripes":
        for x in (-44, -15, 15, 44):
            line = [(x * 0.75, 0), (x * 1.2, mid), (x * 0.7, teapot.top + 4)]
            frame.paint(frame.stroke(line, 11).cut(body), ink)
    elif kind == "star":
        angles = np.pi / 2 + np.arange(10) * np.pi / 5
        radii = np.where(np.arange(10) % 2 == 0, 35.0, 15.0)
        star = frame.polygon(np.stack([shift + radii * np.cos(angles), mid + radii * np.sin(angles)], 1))
        frame.paint(star.cut(body), ink)


def _draw_lid(teapot: Teapot, body: Mask) -> None:
    frame, top, rim = teapot.frame, teapot.top, teapot.half[-1][0]
    colour = teapot.accent if teapot.words["lid"] == "contrasting" else teapot.glaze
    knob_colour = teapot.glaze if teapot.words["lid"] == "contrasting" else teapot.accent
    dome = frame.blob(
        [
            (-rim - 5, top - 2),
            (-rim * 0.8, top + 12),
            (0, top + 20),
            (rim * 0.8, top + 12),
            (rim + 5, top - 2),
            (0, top - 9),
        ]
    )
    frame.shade(dome, body, drop=4, opacity=0.3)
    kind, y = teapot.words["setting"], top + 26
    if kind == "ball":
        frame.paint(frame.ellipse(0, y, 11, 11), knob_colour, 0.6, 6)
    elif kind == "pointed":
        frame.paint(
            frame.blob([(-10, y - 10), (-8, y + 2), (0, y + 20), (8, y + 2), (10, y - 10)]),
            knob_colour,
            0.6,
            6,
        )
    else:
        path = [(-8, y - 8), (-12, y + 4), (0, y + 14), (12, y + 4), (8, y - 8)]
        frame.paint(frame.stroke(path, 7), knob_colour, 0.5, 4)
    frame.paint(dome, colour, 0.55, 10)
    shine = frame.ellipse(frame.lit_side() * rim * 0.5, top + 9, 10, 4).blurred(2.5)
    frame.paint(shine.cut(dome), WHITE, opacity=0.2 + 0.5 * teapot.gloss)
