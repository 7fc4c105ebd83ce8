"""A person's head without the hair: ears, face, eyes, brows, nose, mouth, beard, glasses."""

import numpy as np

from recipes.kit import (
    Canvas,
    Colour,
    Mask,
    Point,
    blob,
    curve_points,
    ellipse,
    ellipse_points,
    lock_points,
    mix,
    polygon,
    polygons,
    scaled,
    stroke,
)
from recipes.person_look import Look

EYE_Y = 1.0
MOUTH_Y = 45.0
_EYE_OPENING = {"calm": 0.66, "smiling": 0.58, "laughing": 0.50, "serious": 0.56, "surprised": 0.88}
_BROW_LIFT = {"calm": 0.0, "smiling": 1.5, "laughing": 3.0, "serious": -2.5, "surprised": 8.0}
_MOUTH = {  # lift of the corners, opening (grid units), width (a factor)
    "calm": (2.5, 0.0, 1.0),
    "smiling": (7.5, 6.5, 1.15),
    "laughing": (8.5, 17.0, 1.18),
    "serious": (-3.5, 0.0, 0.95),
    "surprised": (0.0, 17.0, 0.58),
}
_GOLD = (0.95, 0.74, 0.22)
_FRECKLES: tuple[Point, ...] = (
    (-34, 18), (-26, 15), (-18, 19), (-30, 25), (-22, 26), (-10, 12), (0, 8), (10, 12),
    (34, 18), (26, 15), (18, 19), (30, 25), (22, 26), (-38, 26), (38, 26),
)  # fmt: skip


def mirrored(right: list[Point]) -> list[Point]:
    """Return a closed outline, given its right side listed from the top down."""
    return right + [(-x, y) for x, y in reversed(right)]


def soft(
    canvas: Canvas, mask: Mask, colour: Colour, blur: float, opacity: float, inside: Mask | None = None
) -> None:
    """Paint ``mask`` with its edge blurred by ``blur`` pixels, only within ``inside``."""
    blurred = mask.blurred(blur)
    canvas.paint(blurred if inside is None else blurred.cut(inside), colour, opacity=opacity)


def face_outline(look: Look) -> list[Point]:
    """Return the grid points of the face, clockwise from the top."""
    w, jaw, cheeks = look.width, look.scale("jaw"), look.scale("cheeks")
    right = [
        (0.20 * w, -70.0),
        (0.58 * w, -62.0),
        (0.89 * w, -42.0),
        (w, -14.0),
        ((0.95 + 0.05 * cheeks) * w, 14.0),
        ((0.68 + 0.16 * jaw + 0.09 * cheeks) * w, 43.0),
        ((0.37 + 0.27 * jaw + 0.05 * cheeks) * w, 60.0),
        ((0.12 + 0.20 * jaw) * w, 70.0),
    ]
    return mirrored(right)


def paint_ears(canvas: Canvas, look: Look) -> None:
    size, frame = look.scale("ears"), look.head
    for side in (-1.0, 1.0):
        x = side * (look.width + 1.0 + 4.0 * size) - 6.0 * frame.turn
        cx, cy = frame.at(x, 8.0, 0.0)
        rx, ry = (8.5 + 5.0 * size) * look.unit, (13.5 + 7.0 * size) * look.unit
        canvas.paint(
            ellipse(cx, cy, rx, ry, frame.tilt - side * 0.12), look.shade(0.12), relief=0.8, round_px=6
        )
        canvas.paint(
            ellipse(cx, cy, rx * 0.5, ry * 0.58, frame.tilt - side * 0.12), look.shade(0.5), opacity=0.6
        )


def paint_earrings(canvas: Canvas, look: Look) -> None:
    if look.choice("earrings") == "none":
        return
    size, frame = look.scale("ears"), look.head
    for side in (-1.0, 1.0):
        x = side * (look.width + 2.0 + 4.0 * size) - 6.0 * frame.turn
        cx, cy = frame.at(x, 31.0 + 6.0 * size, 0.0)
        drop = ellipse(cx, cy, 6.5 * look.unit, 8.0 * look.unit)
        canvas.shadow(drop, dy=2, blur=2, opacity=0.3)
        canvas.paint(drop, _GOLD, relief=1.0, round_px=5)
        canvas.paint(ellipse(cx - 2 * look.unit, cy - 3 * look.unit, 2.2, 2.6), (1.0, 0.96, 0.78))


def paint_face(canvas: Canvas, look: Look) -> Mask:
    """Paint the skin of the face with cheeks and shading; return its mask."""
    frame, u = look.head, look.unit
    face = blob(frame.points(face_outline(look), 0.6))
    canvas.paint(face, look.skin, relief=0.75, round_px=20 * u)
    lx, ly = canvas.light.direction
    far = face.cut(face.moved(lx * 17 * u, ly * 9 * u), keep=False)
    soft(canvas, far, look.shade(0.7), 9 * u, 0.36 * canvas.light.strength, face)
    blush = mix(look.skin, (0.88, 0.26, 0.22), 0.45)
    x = look.width * 0.58
    cheeks = [ellipse_points(*frame.at(s * x, 27.0), 14 * u, 10 * u, count=20) for s in (-1.0, 1.0)]
    soft(canvas, polygons(cheeks), blush, 6 * u, 0.5 + 0.2 * look.scale("cheeks"), face)
    shine = ellipse(*frame.at(lx * 22.0, -44.0), 20 * u, 9 * u)
    soft(canvas, shine, mix(look.skin, (1.0, 0.98, 0.92), 0.75), 7 * u, 0.38, face)
    if look.choice("freckles") != "none":
        spots = [
            ellipse_points(*frame.at(x * look.width / 52, y), 2.5 * u, 2.3 * u, count=10)
            for x, y in _FRECKLES
        ]
        canvas.paint(polygons(spots), mix(look.shade(0.75), (0.58, 0.24, 0.10), 0.35), opacity=0.75)
    return face


def _lines(canvas: Canvas, look: Look, lines: list[list[Point]], width: float, opacity: float) -> None:
    u = look.unit
    marks = [lock_points(look.head.points(line), width * u) for line in lines]
    soft(canvas, polygons(marks), look.shade(0.85), 1.2 * u, opacity)


def paint_wrinkles(canvas: Canvas, look: Look) -> None:
    """Paint the wrinkles, deeper with larger ``look.wrinkles``."""
    if look.wrinkles < 0.05:
        return
    w, e = look.width, look.eye_x
    folds, bags = [], []
    for s in (-1.0, 1.0):
        folds.append([(s * 13.0, 24.0), (s * 22.0, 33.0), (s * 26.0, 46.0)])
        bags.append([(s * (e - 10), 14.0), (s * e, 18.5), (s * (e + 11), 13.0)])
        for y in (-3.0, 4.0):
            tail = e + look.eye_width
            bags.append([(s * (tail + 2), 1.0 + y * 0.5), (s * min(tail + 8, w - 2), y * 1.6)])
    brow = [[(-0.5 * w, y), (0.0, y - 3.0), (0.5 * w, y)] for y in (-33.0, -42.0)]
    _lines(canvas, look, folds + brow, 5.0, 0.65 * look.wrinkles)
    _lines(canvas, look, bags, 4.5, 0.55 * look.wrinkles)


def _eye_outline(look: Look, side: float) -> list[Point]:
    w = look.eye_width
    h = w * _EYE_OPENING[look.view.expression]
    low = 0.55 if look.view.expression in ("smiling", "laughing") else 0.85
    shape = [(-w, 1.5), (-0.55 * w, -0.72 * h), (0.1 * w, -h), (0.7 * w, -0.66 * h)]
    shape += [(w, -0.5), (0.5 * w, low * 0.8 * h), (-0.3 * w, low * h)]
    return [(side * (look.eye_x + x), EYE_Y + y) for x, y in shape]


def paint_eyes(canvas: Canvas, look: Look) -> None:
    frame, u, w = look.head, look.unit, look.eye_width
    sockets = [
        ellipse_points(*frame.at(s * look.eye_x, EYE_Y - 3), 1.2 * w * u, w * u, count=20)
        for s in (-1.0, 1.0)
    ]
    soft(canvas, polygons(sockets), look.shade(0.6), 4 * u, 0.3)
    outlines = {s: curve_points(frame.points(_eye_outline(look, s))) for s in (-1.0, 1.0)}
    white = polygons(list(outlines.values()))
    canvas.paint(white, (0.97, 0.97, 0.96))
    centres = [frame.at(s * look.eye_x + 2.5 * frame.turn, EYE_Y - 0.06 * w) for s in (-1.0, 1.0)]

    def discs(radius: float, dx: float = 0.0, dy: float = 0.0) -> Mask:
        return polygons(
            [ellipse_points(x + dx, y + dy, radius * u, radius * u, count=20) for x, y in centres]
        )

    canvas.paint(discs(0.62 * w).cut(white), scaled(look.eye, 0.5))
    canvas.paint(discs(0.50 * w).cut(white), look.eye)
    canvas.paint(
        discs(0.36 * w, 1.2 * u, 2.2 * u).cut(white), mix(look.eye, (1.0, 1.0, 0.95), 0.3), opacity=0.7
    )
    canvas.paint(discs(0.29 * w), (0.05, 0.04, 0.05))
    glint = -1.0 if canvas.light.direction[0] <= 0 else 1.0
    canvas.paint(discs(0.17 * w, glint * 0.24 * w * u, -0.24 * w * u), (1.0, 1.0, 1.0))
    lids = []
    for s in (-1.0, 1.0):
        o = _eye_outline(look, s)
        tail = (o[4][0] + s * 2.0, o[4][1] - 1.0)
        lids.append(lock_points(frame.points([o[0], o[1], o[2], o[3], tail]), 6.0 * u, end=0.35))
    canvas.paint(polygons(lids), mix(look.shade(1.0), (0.08, 0.05, 0.05), 0.75))


def paint_brows(canvas: Canvas, look: Look) -> None:
    thick = 4.5 + 6.5 * look.scale("brow thickness")
    slant = (look.scale("brow slant") - 0.5) * 9.0
    lift = _BROW_LIFT[look.view.expression]
    inner = slant + (3.0 if look.view.expression == "serious" else 0.0)
    w, e = look.eye_width, look.eye_x
    y = EYE_Y - 0.66 * w - 10.5 - lift
    shapes = []
    for s in (-1.0, 1.0):
        line = [(s * (e - w * 0.85), y + inner), (s * e, y - 3.0), (s * (e + w * 1.05), y + 2.0 - slant)]
        shapes.append(lock_points(look.head.points(line), thick * look.unit, end=0.3))
    canvas.paint(polygons(shapes), brow_colour(look))


def brow_colour(look: Look) -> Colour:
    """Return the hair colour, adjusted to stand out from the skin."""
    dark = scaled(look.hair, 0.72)
    near = sum(abs(a - b) for a, b in zip(dark, look.skin, strict=True)) < 0.35
    return scaled(dark, 0.6) if near else dark


def paint_nose(canvas: Canvas, look: Look) -> None:
    frame, u, size = look.head, look.unit, look.scale("nose size")
    y, r = 19.0 + 7.0 * size, 7.0 + 5.0 * size
    wing = r * (0.75 + 0.65 * look.scale("nose width"))
    lx = canvas.light.direction[0]
    side = 1.0 if lx <= 0 else -1.0
    bridge = lock_points(
        frame.points([(side * 5, -14.0), (side * 6, 4.0), (side * wing * 0.9, y)], 1.2), 8 * u
    )
    soft(canvas, polygon(bridge), look.shade(0.6), 2.5 * u, 0.42)
    parts = [ellipse_points(*frame.at(0.0, y - 1, 1.3), r * u, 0.92 * r * u)]
    parts += [
        ellipse_points(*frame.at(s * wing, y + 1.5, 1.2), 0.55 * r * u, 0.55 * r * u, count=20)
        for s in (-1.0, 1.0)
    ]
    under = polygons(parts)
    soft(canvas, under.moved(side * 1.5 * u, 4 * u), look.shade(0.9), 2.2 * u, 0.55)
    canvas.paint(under.blurred(1.0), mix(look.skin, (0.88, 0.36, 0.28), 0.14), relief=0.7, round_px=6 * u)
    holes = [
        ellipse_points(*frame.at(s * wing * 0.62, y + 0.62 * r, 1.2), 2.8 * u, 1.9 * u, count=12)
        for s in (-1.0, 1.0)
    ]
    canvas.paint(polygons(holes), look.shade(1.0), opacity=0.75)
    shine = ellipse(*frame.at(-side * 2.5, y - 4.5, 1.3), 3.6 * u, 3.0 * u)
    soft(canvas, shine, mix(look.skin, (1.0, 1.0, 0.97), 0.8), 1.5 * u, 0.75)


def _mouth_lines(look: Look) -> tuple[list[Point], list[Point], float]:
    """Return the upper and lower edge of the open mouth (left to right) and half its width, in grid units."""
    lift, opening, factor = _MOUTH[look.view.expression]
    half = (14.0 + 8.0 * look.scale("mouth width")) * factor
    xs = np.linspace(-1.0, 1.0, 7)
    low = 0.6 if look.view.expression == "surprised" else 0.0
    top = MOUTH_Y - lift * xs**2 + 0.35 * lift - (opening * 0.22 + 5.0 * low * (1 - xs**2))
    bottom = top + opening * np.sqrt(np.maximum(1.0 - xs**2, 0.0))
    return list(zip(xs * half, top, strict=True)), list(zip(xs * half, bottom, strict=True)), half


def paint_mouth(canvas: Canvas, look: Look) -> None:
    frame, u, full = look.head, look.unit, look.scale("lips")
    upper, lower, half = _mouth_lines(look)
    above, below = 2.6 + 4.2 * full, 3.4 + 6.0 * full
    rim = [(x, y - above * (1 - (x / half) ** 2) ** 0.6) for x, y in upper]
    rim[3] = (0.0, rim[3][1] + 0.3 * above)
    base = [(x, y + below * (1 - (x / half) ** 2) ** 0.6) for x, y in lower]
    lip = mix(look.shade(0.35), (0.80, 0.22, 0.26), 0.48)
    shadow = ellipse(*frame.at(0.0, base[3][1] + 4.0), 0.55 * half * u, 3.0 * u)
    soft(canvas, shadow, look.shade(0.8), 2.5 * u, 0.4)
    lips = blob(frame.points(rim + base[-2:0:-1]), steps=5)
    canvas.paint(lips, lip, relief=0.5, round_px=5 * u)
    gleam = ellipse(
        *frame.at(-0.15 * half, base[3][1] - below * 0.55), 0.3 * half * u, 0.22 * below * u + 0.6
    )
    soft(canvas, gleam, mix(lip, (1.0, 0.93, 0.9), 0.7), 1.2 * u, 0.5)
    if lower[3][1] - upper[3][1] < 1.0:
        canvas.paint(
            polygon(lock_points(frame.points(upper), 3.8 * u, end=0.4)), scaled(look.shade(1.0), 0.6)
        )
        return
    gap = polygon(frame.points(upper + lower[-2:0:-1]))
    canvas.paint(gap, (0.36, 0.06, 0.08))
    depth = lower[3][1] - upper[3][1]
    if look.view.expression != "surprised":
        teeth = [(x, y + min(6.5, 0.8 * depth)) for x, y in upper]
        canvas.paint(polygon(frame.points(upper + teeth[::-1])).cut(gap), (0.98, 0.97, 0.94))
    tongue = ellipse(*frame.at(0.0, lower[3][1]), 0.55 * half * u, 0.36 * depth * u)
    if depth > 10.0:
        canvas.paint(tongue.cut(gap), (0.86, 0.36, 0.38))


def paint_beard(canvas: Canvas, look: Look, face: Mask) -> None:
    """Paint the beard on cheeks and chin (the mouth is painted over it, the moustache after the mouth)."""
    kind = look.choice("beard")
    if kind == "stubble":
        _paint_stubble(canvas, look, face)
    elif kind == "full beard":
        _paint_full_beard(canvas, look)
    elif kind == "goatee":
        _paint_goatee(canvas, look)


def _paint_stubble(canvas: Canvas, look: Look, face: Mask) -> None:
    w, frame = look.width, look.head
    right = [
        (0.36 * w, 29.0),
        (0.72 * w, 26.0),
        (1.02 * w, 6.0),
        (1.0 * w, 44.0),
        (0.6 * w, 72.0),
        (0.2 * w, 80.0),
    ]
    jaw = blob(frame.points(mirrored(right), 0.7))
    colour = mix(look.shade(0.5), brow_colour(look), 0.6)
    soft(canvas, jaw, colour, 4 * look.unit, 0.5, face)


def _beard_chin(look: Look) -> float:
    """Return the y of the chin below an open mouth."""
    return 76.0 + 0.35 * _MOUTH[look.view.expression][1]


def _paint_full_beard(canvas: Canvas, look: Look) -> None:
    w, frame, u, chin = look.width, look.head, look.unit, _beard_chin(look)
    right = [
        (0.30 * w, 33.0),
        (0.60 * w, 33.0),
        (0.86 * w, 18.0),
        (0.95 * w, -6.0),
        (1.04 * w, 4.0),
        (1.03 * w, 30.0),
    ]
    right += [(0.90 * w, 56.0), (0.62 * w, chin + 6.0), (0.22 * w, chin + 14.0)]
    beard = blob(frame.points(mirrored(right), 0.7))
    canvas.shadow(beard, dy=5 * u, blur=5 * u, opacity=0.3)
    canvas.paint(beard, look.hair, relief=0.9, round_px=12 * u)
    tufts = []
    for x in np.linspace(-0.85, 0.85, 9) + look.rng().uniform(-0.05, 0.05, 9):
        foot = chin + 10.0 - 34.0 * x**2
        line = [(x * w, 34.0 - 8 * abs(x)), (x * w * 1.04, 0.5 * (foot + 30)), (x * w * 0.9, foot)]
        tufts.append(lock_points(frame.points(line, 0.8), 5.0 * u))
    _paint_strands(canvas, look, tufts, beard)


def _paint_strands(canvas: Canvas, look: Look, tufts: list[list[Point]], inside: Mask) -> None:
    canvas.paint(polygons(tufts[::2]).cut(inside), look.hair_light, opacity=0.5)
    canvas.paint(polygons(tufts[1::2]).cut(inside), scaled(look.hair, 0.6), opacity=0.5)


def _paint_goatee(canvas: Canvas, look: Look) -> None:
    frame, u, chin = look.head, look.unit, _beard_chin(look)
    under = _mouth_lines(look)[1][3][1] + 5.0 + 6.0 * look.scale("lips")
    right = [
        (4.0, under),
        (13.0, under + 3.0),
        (20.0, under - 4.0),
        (22.0, 0.5 * (under + chin)),
        (14.0, chin + 5.0),
        (4.0, chin + 10.0),
    ]
    patch = blob(frame.points(mirrored(right), 0.9))
    canvas.shadow(patch, dy=3 * u, blur=3 * u, opacity=0.25)
    canvas.paint(patch, look.hair, relief=0.9, round_px=8 * u)


def paint_moustache(canvas: Canvas, look: Look) -> None:
    if look.choice("beard") not in ("moustache", "goatee", "full beard"):
        return
    frame, u = look.head, look.unit
    upper, _, half = _mouth_lines(look)
    y = upper[3][1] - 4.5 - 3.0 * look.scale("lips")
    reach = max(half, 16.0) + 5.0
    droop = 6.0
    right = [
        (2.0, y - 6.5),
        (0.45 * reach, y - 7.5),
        (0.85 * reach, y - 1.0),
        (reach, y + droop),
        (0.7 * reach, y + 5.0),
    ]
    right += [(0.35 * reach, y + 3.0), (2.0, y + 1.5)]
    whiskers = blob(frame.points(mirrored(right), 1.1))
    canvas.shadow(whiskers, dy=2.5 * u, blur=2.5 * u, opacity=0.3)
    canvas.paint(whiskers, mix(look.hair, (1.0, 0.95, 0.88), 0.08), relief=0.9, round_px=6 * u)


def paint_glasses(canvas: Canvas, look: Look) -> None:
    kind = look.choice("glasses")
    if kind == "none":
        return
    frame, u = look.head, look.unit
    rx, ry = look.eye_width + 5.5, look.eye_width + (4.5 if kind == "round glasses" else 1.5)
    ex = max(look.eye_x, rx + 2.5)
    rim, lens = (_lens_mask(look, kind, ex, rx + grow, ry + grow) for grow in (2.5, -2.5))
    colour = {"round glasses": (0.34, 0.17, 0.08), "square glasses": (0.10, 0.10, 0.12)}.get(
        kind, (0.09, 0.08, 0.10)
    )
    arms = [frame.points([(-0.42 * ex, EYE_Y - 2), (0.42 * ex, EYE_Y - 2)], 1.15)]
    arms += [
        [frame.at(s * (ex + rx - 1), EYE_Y - 3), frame.at(s * (look.width + 1), EYE_Y - 6, 0.3)]
        for s in (-1.0, 1.0)
    ]
    for arm in arms:
        canvas.paint(stroke(arm, 4.6 * u), colour)
    canvas.shadow(rim.cut(lens, keep=False), dy=4 * u, blur=2 * u, opacity=0.25)
    canvas.paint(rim.cut(lens, keep=False), colour, relief=0.5, round_px=3)
    dark = kind == "sunglasses"
    canvas.paint(lens, (0.10, 0.11, 0.15) if dark else (0.85, 0.93, 1.0), opacity=0.97 if dark else 0.13)
    glare = [frame.points([(x - 7, -ry - 4), (x - 1, -ry - 4), (x - 9, ry), (x - 15, ry)]) for x in (-ex, ex)]
    canvas.paint(
        polygons(glare).cut(lens),
        (0.75, 0.86, 1.0) if dark else (1.0, 1.0, 1.0),
        opacity=0.4 if dark else 0.24,
    )


def _lens_mask(look: Look, kind: str, ex: float, rx: float, ry: float) -> Mask:
    if kind == "round glasses":
        outline = ellipse_points(0.0, 0.0, rx, ry, count=28)
    else:
        k = 0.86 if kind == "square glasses" else 0.7
        lower = 1.0 if kind == "square glasses" else 1.18
        outline = curve_points(
            [
                (-k * rx, -ry),
                (k * rx, -ry),
                (rx, -k * ry),
                (rx, 0.3 * ry),
                (0.6 * rx, lower * ry),
                (-0.6 * rx, lower * ry),
                (-rx, 0.3 * ry),
                (-rx, -k * ry),
            ]
        )
    return polygons([look.head.points([(s * (ex + x), EYE_Y + y) for x, y in outline]) for s in (-1.0, 1.0)])
