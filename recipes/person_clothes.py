"""A person's clothing: the garment on the shoulders, a scarf, a hat."""

from collections.abc import Callable

import numpy as np

from recipes.kit import (
    CANVAS_PX,
    COLOURS,
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
from recipes.person_face import mirrored, soft
from recipes.person_look import BUST_Y, Look

_DENIM = (0.30, 0.44, 0.62)
_WHITE = COLOURS["white"]


def paint_neck(canvas: Canvas, look: Look) -> None:
    """Paint the neck and upper chest with the shadow of the chin."""
    n = 0.50 * look.width
    right = [(n, 30.0), (n, 70.0), (n + 6.0, 88.0), (46.0, 98.0), (40.0, 124.0)]
    neck = polygon(look.body.points(mirrored(right), 0.3))
    canvas.paint(neck, look.shade(0.14), relief=0.7, round_px=10 * look.unit)
    chin = ellipse(*look.head.at(0.0, 58.0, 0.6), 0.9 * look.width * look.unit, 28.0 * look.unit)
    soft(canvas, chin, look.shade(0.9), 4 * look.unit, 0.55, neck)


def _torso(look: Look, neck_y: float, neck_x: float) -> Mask:
    """Return the torso down to the canvas edge; the neckline spans -``neck_x`` to ``neck_x``, down to ``neck_y``."""
    floor = max(BUST_Y, (CANVAS_PX + 8.0 - look.body.y) / look.unit)
    right = [(neck_x, 82.0), (neck_x + 9.0, 86.0), (66.0, 97.0), (86.0, 112.0), (95.0, 136.0), (98.0, 160.0)]
    collar = curve_points(
        [
            (-neck_x, 82.0),
            (-0.6 * neck_x, neck_y - 4.0),
            (0.0, neck_y),
            (0.6 * neck_x, neck_y - 4.0),
            (neck_x, 82.0),
        ],
        closed=False,
    )
    outer = curve_points(right, closed=False)
    sides = [*outer, (98.0, floor), (-98.0, floor), *[(-x, y) for x, y in reversed(outer)]]
    return polygon(look.body.points([*collar, *sides[1:-1]], 0.2))


def _cloth(canvas: Canvas, look: Look, colour: Colour, neck_y: float = 97.0, neck_x: float = 32.0) -> Mask:
    """Paint the torso with folds of the sleeves in ``colour``; return its mask."""
    u, body = look.unit, _torso(look, neck_y, neck_x)
    canvas.paint(body, colour, relief=0.8, round_px=16 * u)
    jitter = look.rng().uniform(-3.0, 3.0, 4)
    folds = []
    for s, j in ((-1.0, jitter[0]), (1.0, jitter[1])):
        folds.append([(s * (66.0 + j), 118.0), (s * 62.0, 134.0), (s * 64.0, 156.0)])
    soft(
        canvas,
        polygons([lock_points(look.body.points(f, 0.2), 8 * u) for f in folds]),
        scaled(colour, 0.5),
        1.6 * u,
        0.6,
        body,
    )
    return body


def _line(look: Look, points: list[Point], width: float, *, smooth: bool = True) -> Mask:
    return stroke(look.body.points(points, 0.2), width * look.unit, smooth=smooth)


def _collar_band(
    canvas: Canvas, look: Look, colour: Colour, y: float, width: float, neck_x: float = 30.0
) -> None:
    """Paint a knitted band along the neckline."""
    band = _line(
        look,
        [
            (-neck_x, y - 14.0),
            (-0.6 * neck_x, y - 3.0),
            (0.0, y),
            (0.6 * neck_x, y - 3.0),
            (neck_x, y - 14.0),
        ],
        width,
    )
    canvas.shadow(band, dy=3, blur=2, opacity=0.25)
    canvas.paint(band, colour, relief=0.8, round_px=4)


def _dots(canvas: Canvas, look: Look, places: list[Point], radius: float, colour: Colour) -> None:
    discs = [
        ellipse_points(*look.body.at(x, y, 0.2), radius * look.unit, radius * look.unit, count=14)
        for x, y in places
    ]
    canvas.paint(polygons(discs), colour)


def _collar_points(canvas: Canvas, look: Look, colour: Colour) -> None:
    """Paint the two pointed flaps of a shirt collar."""
    flaps = [
        look.body.points([(s * 30.0, 76.0), (s * 3.0, 100.0), (s * 17.0, 114.0), (s * 38.0, 90.0)], 0.2)
        for s in (-1.0, 1.0)
    ]
    mask = polygons(flaps)
    canvas.shadow(mask, dy=3, blur=2.5, opacity=0.35)
    canvas.paint(mask, colour, relief=0.6, round_px=5)


def _sweater(canvas: Canvas, look: Look) -> None:
    colour = COLOURS["red"]
    body = _cloth(canvas, look, colour)
    rows = [[(-100.0, y), (0.0, y + 7.0), (100.0, y)] for y in (118.0, 136.0, 154.0, 172.0)]
    ribs = polygons([lock_points(look.body.points(row, 0.2), 5 * look.unit, end=1.0) for row in rows])
    canvas.paint(ribs.cut(body), scaled(colour, 0.72), opacity=0.45)
    _collar_band(canvas, look, scaled(colour, 0.85), 98.0, 9.0)


def _shirt(canvas: Canvas, look: Look) -> None:
    colour = (0.40, 0.62, 0.90)
    _cloth(canvas, look, colour, 104.0)
    canvas.paint(_line(look, [(0.0, 102.0), (0.0, 200.0)], 9.0), mix(colour, _WHITE, 0.3))
    _dots(canvas, look, [(0.0, 118.0), (0.0, 140.0)], 3.0, _WHITE)
    _collar_points(canvas, look, mix(colour, _WHITE, 0.35))


def _hoodie(canvas: Canvas, look: Look) -> None:
    colour = COLOURS["green"]
    _cloth(canvas, look, colour, 102.0)
    hood = [
        (-40.0, 66.0),
        (-46.0, 86.0),
        (-30.0, 102.0),
        (0.0, 110.0),
        (30.0, 102.0),
        (46.0, 86.0),
        (40.0, 66.0),
    ]
    rim = _line(look, hood, 15.0)
    canvas.shadow(rim, dy=4, blur=3, opacity=0.35)
    canvas.paint(rim, mix(colour, (1.0, 1.0, 1.0), 0.06), relief=0.9, round_px=6)
    for x in (-11.0, 11.0):
        canvas.paint(_line(look, [(x, 108.0), (x * 1.15, 140.0)], 4.5), _WHITE)


def _raincoat(canvas: Canvas, look: Look) -> None:
    colour = COLOURS["yellow"]
    body = _cloth(canvas, look, colour, 96.0)
    shine = polygon(
        lock_points(look.body.points([(-74.0, 106.0), (-50.0, 118.0), (-44.0, 150.0)], 0.2), 10 * look.unit)
    )
    soft(canvas, shine, (1.0, 0.98, 0.85), 2.0, 0.7, body)
    flap = _line(look, [(0.0, 100.0), (0.0, 200.0)], 14.0)
    canvas.shadow(flap, dx=2, dy=1, blur=2, opacity=0.3)
    canvas.paint(flap, scaled(colour, 0.94))
    _dots(canvas, look, [(0.0, 116.0), (0.0, 138.0)], 4.0, (0.32, 0.34, 0.42))
    _collar_band(canvas, look, scaled(colour, 0.93), 96.0, 15.0, 36.0)


def _suit(canvas: Canvas, look: Look) -> None:
    cloth = (0.17, 0.18, 0.22)
    _cloth(canvas, look, cloth, 98.0)
    canvas.paint(
        polygon(look.body.points([(-27.0, 80.0), (27.0, 80.0), (10.0, 190.0), (-10.0, 190.0)], 0.2)), _WHITE
    )
    tie = polygon(
        look.body.points(
            [(-7.0, 100.0), (7.0, 100.0), (5.0, 110.0), (10.0, 190.0), (-10.0, 190.0), (-5.0, 110.0)], 0.2
        )
    )
    canvas.paint(tie, (0.72, 0.12, 0.16), relief=0.7, round_px=4)
    _collar_points(canvas, look, _WHITE)
    lapels = [
        look.body.points(
            [
                (s * 33.0, 82.0),
                (s * 43.0, 92.0),
                (s * 44.0, 116.0),
                (s * 34.0, 121.0),
                (s * 5.0, 190.0),
                (s * 12.0, 130.0),
            ],
            0.2,
        )
        for s in (-1.0, 1.0)
    ]
    mask = polygons(lapels)
    canvas.shadow(mask, dy=2, blur=2.5, opacity=0.4)
    canvas.paint(mask, scaled(cloth, 1.45), relief=0.5, round_px=4)


def _t_shirt(canvas: Canvas, look: Look) -> None:
    _cloth(canvas, look, _WHITE, 104.0, 34.0)
    _collar_band(canvas, look, scaled(_WHITE, 0.9), 105.0, 6.0, 33.0)


def _turtleneck(canvas: Canvas, look: Look) -> None:
    colour = COLOURS["purple"]
    _cloth(canvas, look, colour, 92.0)
    n = 0.5 * look.width + 6.0
    tube = blob(
        look.body.points(
            [(-n, 66.0), (0.0, 76.0), (n, 66.0), (n + 6.0, 92.0), (0.0, 106.0), (-n - 6.0, 92.0)], 0.2
        )
    )
    canvas.shadow(tube, dy=3, blur=3, opacity=0.3)
    canvas.paint(tube, mix(colour, (1.0, 1.0, 1.0), 0.06), relief=0.9, round_px=8)
    fold = polygon(lock_points(look.body.points([(-n, 82.0), (0.0, 93.0), (n, 82.0)], 0.2), 5 * look.unit))
    soft(canvas, fold, scaled(colour, 0.5), 1.0, 0.6)


def _striped_shirt(canvas: Canvas, look: Look) -> None:
    body = _cloth(canvas, look, _WHITE, 101.0, 34.0)
    rows = [[(-110.0, y + 6.0), (0.0, y + 8.0), (110.0, y + 6.0)] for y in np.arange(84.0, 220.0, 17.0)]
    bands = polygons([lock_points(look.body.points(row, 0.2), 8.5 * look.unit, end=1.0) for row in rows])
    canvas.paint(bands.cut(body), COLOURS["navy"], opacity=0.92)
    _collar_band(canvas, look, COLOURS["navy"], 102.0, 7.0, 33.0)


def _denim(canvas: Canvas, look: Look) -> None:
    body = _cloth(canvas, look, _DENIM, 104.0)
    canvas.paint(
        polygon(look.body.points([(-25.0, 84.0), (25.0, 84.0), (11.0, 190.0), (-11.0, 190.0)], 0.2)), _WHITE
    )
    for s in (-1.0, 1.0):
        canvas.paint(_line(look, [(s * 13.0, 108.0), (s * 12.0, 200.0)], 6.0).cut(body), scaled(_DENIM, 0.72))
        canvas.paint(_line(look, [(s * 30.0, 140.0), (s * 58.0, 140.0)], 5.0), scaled(_DENIM, 0.68))
    _dots(canvas, look, [(-44.0, 140.0), (44.0, 140.0)], 3.6, (0.88, 0.70, 0.36))
    _collar_points(canvas, look, scaled(_DENIM, 1.14))


def _cardigan(canvas: Canvas, look: Look) -> None:
    colour = COLOURS["pink"]
    _cloth(canvas, look, colour, 104.0)
    inside = polygon(
        look.body.points(
            [(-31.0, 82.0), (-14.0, 97.0), (14.0, 97.0), (31.0, 82.0), (4.0, 146.0), (-4.0, 146.0)], 0.2
        )
    )
    canvas.paint(inside, _WHITE)
    for s in (-1.0, 1.0):
        edge = _line(look, [(s * 34.0, 80.0), (s * 19.0, 122.0), (s * 3.0, 148.0), (s * 2.0, 200.0)], 9.0)
        canvas.paint(edge, scaled(colour, 0.86), relief=0.7, round_px=4)


_Painter = Callable[[Canvas, Look], None]
_GARMENTS: dict[str, _Painter] = {
    "red sweater": _sweater,
    "blue shirt": _shirt,
    "green hoodie": _hoodie,
    "yellow raincoat": _raincoat,
    "black suit": _suit,
    "white t-shirt": _t_shirt,
    "purple turtleneck": _turtleneck,
    "striped shirt": _striped_shirt,
    "denim jacket": _denim,
    "pink cardigan": _cardigan,
}
CLOTHING: tuple[str, ...] = tuple(_GARMENTS)


def paint_clothing(canvas: Canvas, look: Look) -> None:
    """Paint the garment ``look.view.clothing`` over neck and shoulders."""
    paint_neck(canvas, look)
    _GARMENTS[look.view.clothing](canvas, look)


def paint_scarf(canvas: Canvas, look: Look) -> None:
    colour, u, frame = COLOURS[look.view.wearable_colour], look.unit, look.body
    light = mix(colour, (1.0, 1.0, 1.0), 0.4)
    tail = polygon(frame.points([(20.0, 92.0), (44.0, 92.0), (50.0, 152.0), (24.0, 154.0)], 0.3))
    canvas.shadow(tail, dy=4, blur=4, opacity=0.35)
    canvas.paint(tail, colour, relief=0.9, round_px=7 * u)
    bands = [
        frame.points([(22.0, y), (48.0, y - 2.0), (48.5, y + 8.0), (23.0, y + 10.0)], 0.3)
        for y in (116.0, 134.0)
    ]
    canvas.paint(polygons(bands).cut(tail), light)
    n = 0.5 * look.width + 15.0
    ring = [
        (-n, 66.0),
        (0.0, 78.0),
        (n, 66.0),
        (n + 9.0, 86.0),
        (0.55 * n, 104.0),
        (0.0, 108.0),
        (-0.55 * n, 104.0),
        (-n - 9.0, 86.0),
    ]
    wrap = blob(frame.points(ring, 0.3))
    canvas.shadow(wrap, dy=4, blur=4, opacity=0.35)
    canvas.paint(wrap, colour, relief=0.95, round_px=11 * u)
    folds = [[(-n, 80.0), (0.0, 95.0), (n, 80.0)], [(-0.6 * n, 97.0), (0.1 * n, 103.0), (0.6 * n, 92.0)]]
    soft(
        canvas,
        polygons([lock_points(frame.points(f, 0.3), 6 * u) for f in folds]),
        scaled(colour, 0.5),
        1.2,
        0.6,
        wrap,
    )


def paint_hat(canvas: Canvas, look: Look) -> None:
    """Paint a round hat with a brim and a band."""
    colour, u, w, frame = COLOURS[look.view.wearable_colour], look.unit, look.width, look.head
    right = [(0.5 * w, -99.0), (0.86 * w, -88.0), (1.03 * w, -50.0), (0.6 * w, -36.0)]
    crown = blob(frame.points([(0.0, -100.0), *right, *[(-x, y) for x, y in reversed(right)]], 0.3))
    bx, by = frame.at(0.0, -42.0, 0.3)
    brim = ellipse(bx, by, (1.42 * w + 2.0) * u, 15.0 * u, frame.tilt)
    canvas.shadow(brim, dy=7 * u, blur=5 * u, opacity=0.4)
    canvas.paint(brim, scaled(colour, 0.86), relief=0.9, round_px=7 * u)
    canvas.paint(crown, colour, relief=0.95, round_px=16 * u)
    band = [(-1.03 * w, -58.0), (0.0, -48.0), (1.03 * w, -58.0)]
    ribbon = polygon(lock_points(frame.points(band, 0.3), 12 * u, end=1.0)).cut(crown)
    canvas.paint(ribbon, (0.93, 0.90, 0.82) if sum(colour) < 0.9 else (0.20, 0.15, 0.16))
