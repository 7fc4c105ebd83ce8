"""Plush toys: a soft sitting doll of one of six species."""

from dataclasses import dataclass

import numpy as np

from recipes.frame import INK, PINK, WHITE, Frame, colour_of, draw_hat, draw_scarf
from recipes.kit import Canvas, Colour, Identity, Mask, Param, View, mix, scaled

PLUSH_PARAMS = (
    Param("species", ("bear", "rabbit", "elephant", "monkey", "pig", "frog")),
    Param("fabric", ("brown", "pink", "teal", "purple", "yellow", "blue", "grey", "orange")),
    Param("accent", ("white", "cream", "navy", "red")),
    Param("belly", ("plain", "striped", "dotted", "heart", "star")),
    Param("eyes", ("button", "glossy", "sleepy")),
    Param("bow", ("none", "red", "blue", "yellow", "green")),
    Param("patch", ("none", "eye patch")),
    Param("cheeks", ("plain", "rosy")),
    Param("ear size", low="small", high="large"),
    Param("build", low="slim", high="plump"),
    Param("head size", low="small", high="large"),
)
ACCENTS: dict[str, Colour] = {"cream": (0.96, 0.88, 0.70)}


@dataclass(frozen=True)
class Plush:
    """One toy being drawn (design units)."""

    frame: Frame
    words: dict[str, str]
    scales: dict[str, float]
    texture: np.ndarray
    fabric: Colour
    accent: Colour
    head_y: float
    size: float  # head radius relative to the default

    def cloth(self, mask: Mask, colour: Colour, relief: float = 0.5, rounding: float = 14.0) -> None:
        self.frame.paint(mask, colour, relief, rounding, texture=self.texture)

    def thread(self, under: Colour) -> Colour:
        """Return a stitching colour that is visible on ``under``."""
        return mix(under, INK, 0.75) if sum(under) > 1.0 else mix(under, WHITE, 0.8)


def draw_plush(canvas: Canvas, identity: Identity, view: View) -> None:
    """Draw a plush toy that sits and looks at the viewer."""
    frame = Frame(canvas, view)
    words = {p.name: p.values[int(identity[p.name])] for p in PLUSH_PARAMS if p.values}
    plush = Plush(
        frame=frame,
        words=words,
        scales={p.name: float(identity[p.name]) for p in PLUSH_PARAMS if not p.values},
        texture=frame.fuzz(80, 0.16),
        fabric=colour_of(words["fabric"]),
        accent=ACCENTS.get(words["accent"]) or colour_of(words["accent"]),
        head_y=119.0 if words["species"] == "rabbit" else 136.0,
        size=0.9 + 0.2 * float(identity["head size"]),
    )
    frog = words["species"] == "frog"
    _draw_body(plush)
    if view.wearable == "hat" and frog:
        draw_hat(frame, 0, plush.head_y + 46 * plush.size, 84)
    _draw_ears(plush)
    head = _draw_head(plush)
    _draw_eyes(plush)
    _draw_muzzle(plush, head)
    if view.wearable == "hat" and not frog:
        draw_hat(frame, 0, plush.head_y + 39 * plush.size, 72)


def _draw_body(plush: Plush) -> None:
    frame, wide = plush.frame, 0.86 + 0.3 * plush.scales["build"]
    frame.ground_shadow(64 * wide)
    for side in (-1, 1):
        arm = frame.blob(
            [(side * x * wide, y) for x, y in ((26, 96), (46, 88), (66, 58), (60, 44), (46, 48), (34, 70))]
        )
        plush.cloth(arm, scaled(plush.fabric, 0.95), 0.5, 9)
    body = frame.ellipse(0, 54, 47 * wide, 52)
    plush.cloth(body, plush.fabric, 0.5, 18)
    belly = frame.ellipse(0, 52, 31 * wide, 37)
    plush.cloth(belly, plush.accent, 0.25, 10)
    _decorate_belly(plush, belly)
    for side in (-1, 1):
        foot = frame.ellipse(side * 41 * wide, 21, 22, 23, side * 0.2)
        frame.shade(foot, body, drop=1, opacity=0.3)
        plush.cloth(foot, plush.fabric, 0.5, 10)
        plush.cloth(frame.ellipse(side * 42 * wide, 21, 13, 14, side * 0.2), plush.accent, 0.2, 5)
    frame.shade(frame.ellipse(0, plush.head_y, 46, 40), body, drop=10)


def _decorate_belly(plush: Plush, belly: Mask) -> None:
    frame, kind = plush.frame, plush.words["belly"]
    ink = plush.fabric if kind in ("striped", "dotted") else (0.85, 0.20, 0.27)
    if kind in ("heart", "star") and plush.words["accent"] == "red":
        ink = (0.98, 0.84, 0.32)
    if kind == "striped":
        for y in (30, 50, 70):
            frame.paint(frame.stroke([(-44, y), (0, y - 5), (44, y)], 8).cut(belly), ink)
    elif kind == "dotted":
        for x, y in ((-14, 68), (14, 68), (0, 50), (-17, 36), (17, 36)):
            frame.paint(frame.ellipse(x, y, 6.5, 6.5).cut(belly), ink)
    elif kind == "heart":
        frame.paint(frame.polygon([(-15.5, 56), (0, 33), (15.5, 56)]), ink)
        for side in (-1, 1):
            frame.paint(frame.ellipse(side * 7.6, 57.5, 8.6, 8.6), ink)
    elif kind == "star":
        angles = np.pi / 2 + np.arange(10) * np.pi / 5
        radii = np.where(np.arange(10) % 2 == 0, 22.0, 10.0)
        frame.paint(frame.polygon(np.stack([radii * np.cos(angles), 52 + radii * np.sin(angles)], 1)), ink)


def _draw_ears(plush: Plush) -> None:
    frame, species, y, size = plush.frame, plush.words["species"], plush.head_y, plush.size
    big = 0.75 + 0.5 * plush.scales["ear size"]
    for side in (-1, 1):
        if species == "rabbit":
            shapes = ((24, 38 + 14 * big, 15, 31 * big, 0.18), (24, 38 + 14 * big, 8, 22 * big, 0.18))
        elif species == "elephant":
            shapes = ((56, 6, 30 * big, 36 * big, 0.2), (58, 5, 20 * big, 26 * big, 0.2))
        elif species == "monkey":
            shapes = ((52, 4, 20 * big, 21 * big, 0.0), (53, 4, 12 * big, 13 * big, 0.0))
        elif species == "frog":
            shapes = ((24, 38, 18 * big, 18 * big, 0.0),)
        else:
            shapes = ((36, 36, 20 * big, 20 * big, 0.0), (36, 36, 11 * big, 11 * big, 0.0))
        if species == "pig":
            points = [(14, 36), (34, 44 + 22 * big), (48, 40 + 16 * big), (46, 14)]
            plush.cloth(
                frame.blob([(side * a * size, y + b * size) for a, b in points]), plush.fabric, 0.5, 8
            )
            inner = [(24, 36), (37, 40 + 12 * big), (44, 22)]
            plush.cloth(
                frame.polygon([(side * a * size, y + b * size) for a, b in inner]), plush.accent, 0.2, 5
            )
            continue
        for (dx, dy, rx, ry, lean), colour in zip(shapes, (plush.fabric, plush.accent), strict=False):
            ear = frame.ellipse(side * dx * size, y + dy * size, rx * size, ry * size, -side * lean)
            plush.cloth(ear, colour, 0.5 if colour is plush.fabric else 0.2, 9)


def _draw_head(plush: Plush) -> Mask:
    frame, y, size = plush.frame, plush.head_y, plush.size
    head = frame.ellipse(0, y, 52 * size, 45 * size)
    plush.cloth(head, plush.fabric, 0.5, 18)
    if plush.words["species"] == "monkey":
        for side in (-1, 1):
            plush.cloth(
                frame.ellipse(side * 17 * size, y + 8 * size, 22 * size, 24 * size), plush.accent, 0.0
            )
    elif plush.words["patch"] == "eye patch":
        eye_y = _eye_place(plush)[1]
        patch = frame.ellipse(21 * size, eye_y, 18 * size, 19 * size)
        plush.cloth(patch, plush.accent, 0.2, 5)
    if plush.words["cheeks"] == "rosy":
        for side in (-1, 1):
            cheek = frame.ellipse(side * 35 * size + frame.turn * 4, y - 12 * size, 10, 8).blurred(2.0)
            frame.paint(cheek, (0.95, 0.36, 0.40), opacity=0.7)
    _draw_neckwear(plush)
    return head


def _draw_neckwear(plush: Plush) -> None:
    frame, y = plush.frame, plush.head_y - 45 * plush.size
    if frame.view.wearable == "scarf":
        draw_scarf(frame, 0, y + 2, 84)
        return
    if plush.words["bow"] == "none":
        return
    colour = colour_of(plush.words["bow"])
    for side in (-1, 1):
        wing = frame.blob([(side * a, y + b) for a, b in ((0, 0), (24, 14), (31, 0), (24, -15))])
        frame.paint(wing, colour, 0.55, 7)
    frame.paint(frame.ellipse(0, y, 8, 9), scaled(colour, 0.8), 0.5, 5)


def _eye_place(plush: Plush) -> tuple[float, float]:
    """Return half the distance between the eyes, and their height."""
    if plush.words["species"] == "frog":
        return 24.0 * plush.size, plush.head_y + 39 * plush.size
    return 20.0 * plush.size, plush.head_y + 9 * plush.size


def _draw_eyes(plush: Plush) -> None:
    frame, (apart, y) = plush.frame, _eye_place(plush)
    for side in (-1, 1):
        x = side * apart + frame.turn * 5
        patched = (plush.words["patch"] == "eye patch" and side == 1) or plush.words["species"] == "monkey"
        under = plush.accent if patched else plush.fabric
        if plush.words["eyes"] == "sleepy":
            lid = [(x - 12, y + 2), (x - 6, y - 5), (x + 6, y - 5), (x + 12, y + 2)]
            frame.paint(frame.stroke(lid, 5.0), plush.thread(under))
            continue
        if plush.words["eyes"] == "glossy":
            frame.paint(frame.ellipse(x, y, 12.5, 13), WHITE, 0.3, 4)
            frame.paint(frame.ellipse(x + frame.turn * 2, y - 1, 7.5, 8), INK)
            frame.paint(frame.ellipse(x - 2 * frame.mirror, y + 3, 3.2, 3.2), WHITE)
            continue
        if sum(under) < 1.2:
            frame.paint(frame.ellipse(x, y, 12.5, 12.5), mix(under, WHITE, 0.55))
        frame.paint(frame.ellipse(x, y, 10, 10), INK, 0.5, 4)
        frame.paint(frame.ellipse(x - 3 * frame.mirror, y + 4, 3.4, 3.4), WHITE)


def _draw_muzzle(plush: Plush, head: Mask) -> None:
    frame, species, size = plush.frame, plush.words["species"], plush.size
    x, y = frame.turn * 7, plush.head_y - 17 * size
    line = plush.thread(plush.accent)
    if species == "elephant":
        trunk = frame.tube([(x, y + 22), (x + 3, y - 4), (x + 8, y - 26), (x + 22, y - 38)], (24, 20, 15))
        frame.shade(trunk, head, drop=3)
        plush.cloth(trunk, scaled(plush.fabric, 1.05), 0.55, 8)
        for dy in (8, -6):
            crease = frame.stroke([(x - 7, y + dy), (x + 9, y + dy - 1)], 3.2)
            frame.paint(crease.cut(trunk), mix(plush.fabric, INK, 0.45))
        return
    if species == "frog":
        mouth = [(x - 32, y + 12), (x - 16, y), (x, y - 4), (x + 16, y), (x + 32, y + 12)]
        frame.paint(frame.stroke(mouth, 5.0), plush.thread(plush.fabric))
        return
    muzzle = frame.ellipse(x, y, (26 if species == "monkey" else 22) * size, 17 * size)
    plush.cloth(muzzle, plush.accent, 0.4, 8)
    if species == "pig":
        for side in (-1, 1):
            frame.paint(frame.ellipse(x + side * 8, y, 4.2, 6), line)
        return
    if frame.view.expression in ("smiling", "laughing", "surprised"):
        frame.paint(frame.ellipse(x, y - 9, 7, 6), (0.55, 0.14, 0.17))
    frame.paint(frame.stroke([(x, y + 6), (x, y - 5)], 3.2), line)
    frame.paint(frame.stroke([(x - 11, y - 4), (x, y - 8), (x + 11, y - 4)], 3.6), line)
    nose = PINK if species == "rabbit" else line
    frame.paint(frame.ellipse(x, y + 8, 9, 6.5), nose, 0.5, 4)
