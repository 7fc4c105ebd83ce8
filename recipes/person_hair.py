"""A person's hair: a part behind the head and a part over the forehead; each hairstyle has such a pair of shapes."""

from collections.abc import Callable

import numpy as np

from recipes.kit import (
    Canvas,
    Mask,
    Point,
    blob,
    curve_points,
    ellipse_points,
    lock_points,
    mix,
    polygon,
    polygons,
    scaled,
)
from recipes.person_face import mirrored, soft
from recipes.person_look import Look

HAT_LINE_Y = -38.0
_BACK_DEPTH = -0.3
_FRONT_DEPTH = 0.7
_CAP_DEPTH = 0.35


def _volume(look: Look) -> float:
    return 7.0 + 9.0 * look.scale("hair volume")


def _under_hat(look: Look, mask: Mask) -> Mask:
    """Return ``mask`` without the area that a hat covers."""
    if not look.hat:
        return mask
    brim = [(-300.0, -300.0), (300.0, -300.0), (300.0, HAT_LINE_Y), (-300.0, HAT_LINE_Y)]
    return mask.cut(polygon(look.head.points(brim, 0.0)), keep=False)


def _paint_hair(canvas: Canvas, look: Look, mask: Mask, *, shadow: float = 0.3, gain: float = 1.0) -> Mask:
    mask, u = _under_hat(look, mask), look.unit
    if shadow > 0.0:
        canvas.shadow(mask, dy=5 * u, blur=4 * u, opacity=shadow)
    canvas.paint(mask, scaled(look.hair, gain), relief=0.95, round_px=13 * u)
    return mask


def _strands(
    canvas: Canvas, look: Look, lines: list[list[Point]], inside: Mask, *, depth: float, width: float = 6.0
) -> None:
    """Paint alternating light and dark locks along ``lines`` (grid points)."""
    locks = [lock_points(look.head.points(line, depth), width * look.unit) for line in lines]
    canvas.paint(polygons(locks[::2]).cut(inside), look.hair_light, opacity=0.6)
    canvas.paint(polygons(locks[1::2]).cut(inside), scaled(look.hair, 0.62), opacity=0.5)


def _gloss(canvas: Canvas, look: Look, inside: Mask, y: float, reach: float = 0.62) -> None:
    """Paint a soft highlight across the top of the head."""
    u, w, side = look.unit, look.width, -6.0 if canvas.light.direction[0] <= 0 else 6.0
    band = [(-reach * w + side, y + 10.0), (side, y), (reach * w + side, y + 10.0)]
    mask = polygon(lock_points(look.head.points(band, _CAP_DEPTH), 9.0 * u, end=0.2))
    soft(canvas, mask, mix(look.hair, (1.0, 0.97, 0.92), 0.55), 2.5 * u, 0.6, inside)


def _cap(look: Look, hairline: list[Point], *, volume: float, side_y: float = -4.0) -> list[Point]:
    """Return a closed outline: over the skull from the left ear to the right one, then back along ``hairline``."""
    w, v = look.width, volume
    right = [(0.42 * w, -72.0 - v), (0.86 * w, -56.0 - 0.8 * v), (w + 0.55 * v, -30.0), (w + 3.0, side_y)]
    left = [(-x, y) for x, y in reversed(right)]
    return [*left, (0.0, -74.0 - v), *right, *hairline]


def _fan(look: Look, root: Point, ends: list[Point]) -> list[list[Point]]:
    """Return lines from ``root`` over the head to each of ``ends``."""
    w = look.width
    return [
        [root, (0.45 * root[0] + 0.62 * x, 0.5 * (root[1] + y) - 9.0), (x, y)]
        for x, y in ends
        if abs(x) <= 1.2 * w
    ]


def _short(canvas: Canvas, look: Look) -> None:
    w, v = look.width, _volume(look)
    line = [
        (0.93 * w, -6.0),
        (0.88 * w, -30.0),
        (0.62 * w, -44.0),
        (0.15 * w, -47.0),
        (-0.4 * w, -45.0),
        (-0.88 * w, -30.0),
        (-0.93 * w, -6.0),
    ]
    mask = _paint_hair(canvas, look, blob(look.head.points(_cap(look, line, volume=v), _CAP_DEPTH)))
    ends = [(x * w, -48.0 + 26.0 * abs(x) ** 3) for x in np.linspace(-1.0, 1.0, 9)]
    _strands(canvas, look, _fan(look, (-0.1 * w, -78.0 - v), ends), mask, depth=_CAP_DEPTH)
    _gloss(canvas, look, mask, -66.0 - 0.6 * v)


def _side_part(canvas: Canvas, look: Look) -> None:
    w, v = look.width, _volume(look) + 3.0
    line = [
        (0.94 * w, -4.0),
        (0.92 * w, -22.0),
        (0.55 * w, -34.0),
        (0.05 * w, -44.0),
        (-0.42 * w, -62.0),
        (-0.72 * w, -46.0),
        (-0.92 * w, -26.0),
        (-0.94 * w, -4.0),
    ]
    mask = _paint_hair(canvas, look, blob(look.head.points(_cap(look, line, volume=v), _CAP_DEPTH)))
    root = (-0.44 * w, -70.0 - 0.6 * v)
    lines = [
        [root, (x * w, -66.0 - v * (0.75 - k * 0.16)), (0.98 * w, -40.0 + 4.5 * k)]
        for k, x in enumerate((0.5, 0.45, 0.4, 0.35, 0.3))
    ]
    lines += [[root, (-0.8 * w, -52.0), (-1.0 * w, -16.0)], [root, (-0.95 * w, -56.0), (-1.08 * w, -18.0)]]
    _strands(canvas, look, lines, mask, depth=_CAP_DEPTH)
    _gloss(canvas, look, mask, -64.0 - 0.6 * v, 0.5)


def _spiky(canvas: Canvas, look: Look) -> None:
    w, v = look.width, 14.0 + 9.0 * look.scale("hair volume")
    crown = []
    for k, angle in enumerate(np.linspace(np.pi * 1.02, np.pi * 1.98, 13)):
        reach = v if k % 2 else 1.0
        lean = 0.10 if k % 2 else 0.0
        crown.append(
            ((w + reach) * np.cos(angle + lean * np.cos(angle)), -10.0 + (62.0 + 1.1 * reach) * np.sin(angle))
        )
    line = [
        (0.93 * w, -4.0),
        (0.86 * w, -30.0),
        (0.64 * w, -38.0),
        (0.46 * w, -50.0),
        (0.20 * w, -36.0),
        (-0.06 * w, -50.0),
        (-0.34 * w, -37.0),
        (-0.56 * w, -50.0),
        (-0.86 * w, -30.0),
        (-0.93 * w, -4.0),
    ]
    mask = _paint_hair(canvas, look, polygon(look.head.points([*crown, *line], _CAP_DEPTH)))
    tips = [crown[k] for k in range(1, 13, 2)]
    lines = [[(0.72 * x, 0.62 * y - 16.0), (0.88 * x, 0.82 * y - 8.0), (x, y)] for x, y in tips]
    lines += [
        [(0.55 * x + 4.0, 0.58 * y - 18.0), (0.75 * x + 4.0, 0.76 * y - 10.0), (0.92 * x, 0.9 * y)]
        for x, y in tips
    ]
    _strands(canvas, look, lines, mask, depth=_CAP_DEPTH, width=8.0)


def _clump(look: Look, circles: list[tuple[float, float, float]], depth: float) -> list[list[Point]]:
    """Return the outlines of circles (x, y, radius) in grid units."""
    return [
        ellipse_points(*look.head.at(x, y, depth), r * look.unit, r * look.unit, count=18)
        for x, y, r in circles
    ]


def _curls(
    canvas: Canvas, look: Look, circles: list[tuple[float, float, float]], inside: Mask, contrast: float = 0.7
) -> None:
    """Paint round curls inside an area of hair: each a dark crescent with a light one above it."""
    u = look.unit
    dark, light = [], []
    for x, y, r in circles:
        arc = [(x + 0.75 * r * np.cos(a), y + 0.75 * r * np.sin(a)) for a in np.linspace(0.2, 2.9, 5)]
        dark.append(lock_points(look.head.points(arc, _CAP_DEPTH), 5.0 * u))
        arc = [(x + 0.55 * r * np.cos(a), y + 0.55 * r * np.sin(a)) for a in np.linspace(3.5, 5.6, 5)]
        light.append(lock_points(look.head.points(arc, _CAP_DEPTH), 5.5 * u))
    canvas.paint(polygons(dark).cut(inside), scaled(look.hair, 0.6), opacity=0.85 * contrast)
    canvas.paint(polygons(light).cut(inside), look.hair_light, opacity=contrast)


def _curly(canvas: Canvas, look: Look) -> None:
    """Paint big round curls: a crown, a fringe to one side, and clusters that cover the ears."""
    w, v = look.width, _volume(look)
    ring = np.linspace(np.pi * 1.0, np.pi * 2.0, 10)
    crown = [((w + 0.3 * v) * np.cos(a), -18.0 + (52.0 + 0.7 * v) * np.sin(a), 13.0 + 0.3 * v) for a in ring]
    fringe = [(x * w, -54.0 + 10.0 * (x - 0.1) ** 2, 14.0) for x in (-0.66, -0.33, 0.0, 0.33, 0.66)]
    sides = [
        (s * (w + x), y, r + 0.2 * v)
        for s in (-1.0, 1.0)
        for x, y, r in ((5.0, 0.0, 14.0), (11.0, 22.0, 17.0), (4.0, 42.0, 13.0))
    ]
    circles = crown + fringe + sides
    mass = _cap(look, [(0.7 * w, -50.0), (0.0, -54.0), (-0.7 * w, -50.0)], volume=0.6 * v)
    shapes = [curve_points(look.head.points(mass, _CAP_DEPTH), steps=4), *_clump(look, circles, _CAP_DEPTH)]
    mask = _paint_hair(canvas, look, polygons(shapes))
    _curls(canvas, look, circles, mask, 0.6)


def _afro(canvas: Canvas, look: Look) -> None:
    w, v = look.width, _volume(look)
    reach_x, reach_y = w + 1.1 * v, 66.0 + 0.9 * v
    ring = [
        (reach_x * np.cos(a), -14.0 + reach_y * np.sin(a), 10.0)
        for a in np.linspace(np.pi * 0.93, np.pi * 2.07, 15)
    ]
    line = [
        (0.96 * w, 4.0),
        (0.92 * w, -26.0),
        (0.68 * w, -41.0),
        (0.0, -47.0),
        (-0.68 * w, -41.0),
        (-0.92 * w, -26.0),
        (-0.96 * w, 4.0),
    ]
    mass = look.head.points([(x, y) for x, y, _ in ring] + line, _CAP_DEPTH)
    mask = _paint_hair(canvas, look, polygons([curve_points(mass, steps=4), *_clump(look, ring, _CAP_DEPTH)]))
    turns = np.arange(30) * 2.39996
    reach = 0.35 + 0.62 * np.sqrt(np.linspace(0.0, 1.0, 30))
    spots = [
        (reach_x * r * np.cos(t), -14.0 + reach_y * r * np.sin(t), 10.0)
        for r, t in zip(reach, turns, strict=True)
    ]
    _curls(canvas, look, spots, mask, 0.42)


def _afro_back(canvas: Canvas, look: Look) -> None:
    w, v = look.width, _volume(look)
    right = [
        (0.5 * w, -70.0 - v),
        (w + 1.1 * v, -46.0),
        (1.06 * w + 1.3 * v, -6.0),
        (1.02 * w + 0.7 * v, 24.0),
        (0.5 * w, 34.0),
    ]
    _paint_hair(canvas, look, blob(look.head.points(mirrored(right), _BACK_DEPTH)), shadow=0.0, gain=0.75)


def _bob_back(canvas: Canvas, look: Look) -> None:
    w, v = look.width, _volume(look)
    right = [
        (0.5 * w, -72.0 - v),
        (w + 0.5 * v, -40.0),
        (w + 8.0 + 0.6 * v, 10.0),
        (w + 7.0 + 0.7 * v, 46.0),
        (0.80 * w, 56.0),
        (0.4 * w, 52.0),
    ]
    _paint_hair(canvas, look, blob(look.head.points(mirrored(right), _BACK_DEPTH)), shadow=0.2, gain=0.72)


def _bob(canvas: Canvas, look: Look) -> None:
    w, v = look.width, _volume(look)
    side = [
        (w + 4.0 + 0.5 * v, 16.0),
        (w + 3.0 + 0.4 * v, 47.0),
        (0.86 * w, 50.0),
        (0.88 * w, 18.0),
        (0.90 * w, -18.0),
        (0.74 * w, -27.0),
    ]
    right = [
        (0.45 * w, -72.0 - v),
        (0.88 * w, -54.0 - 0.7 * v),
        (w + 0.6 * v, -26.0),
        *side,
        (0.3 * w, -28.5),
    ]
    left = [(-x, y) for x, y in reversed(right)]
    mask = _paint_hair(
        canvas, look, polygon(curve_points(look.head.points([(0.0, -75.0 - v), *right, *left], _FRONT_DEPTH)))
    )
    lines = [
        [(0.1 * x * w, -70.0 - v), (0.8 * x * w, -56.0), (x * w, -26.0)] for x in np.linspace(-0.7, 0.7, 8)
    ]
    lines += [[(s * w * 0.98, -34.0), (s * (w + 0.3 * v), 4.0), (s * w * 0.96, 46.0)] for s in (-1.0, 1.0)]
    _strands(canvas, look, lines, mask, depth=_FRONT_DEPTH)
    _gloss(canvas, look, mask, -58.0 - 0.4 * v, 0.75)


def _long_edge(look: Look, wave: float) -> list[Point]:
    """Return the outer edge of long hair on the right, from the top of the head to its end below the shoulder."""
    w, v = look.width, _volume(look)
    ys = np.linspace(-14.0, 116.0, 8)
    swing = wave * np.sin(np.linspace(0.0, 3.1 * np.pi, 8))
    edge = [
        (float(w + 3.0 + 0.7 * v + 0.05 * (y + 14) + s), float(y)) for y, s in zip(ys, swing, strict=True)
    ]
    return [(0.5 * w, -72.0 - v), (w + 0.3 * v, -48.0), *edge]


def _long_back(canvas: Canvas, look: Look, wave: float) -> None:
    edge = _long_edge(look, wave)
    right = [*edge, (0.6 * look.width, 124.0)]
    _paint_hair(canvas, look, blob(look.head.points(mirrored(right), _BACK_DEPTH)), shadow=0.25, gain=0.72)


def _long_front(canvas: Canvas, look: Look, wave: float, part: float) -> None:
    """Paint long hair on both sides of the face, parted at ``part`` (a fraction of the face's half width)."""
    w, v = look.width, _volume(look)
    top = (part * w, -74.0 - v)
    shapes, lines = [], []
    for s in (-1.0, 1.0):
        edge = [(s * x, y) for x, y in _long_edge(look, wave)[1:]]
        inner = [(0.86, 112.0), (0.93, 84.0), (0.92, 50.0), (0.97, 16.0), (0.93, -14.0), (0.70, -36.0)]
        swing = (
            wave * 0.7 * np.sin(np.linspace(3.1 * np.pi, 0.6 * np.pi, 6)) * np.array([1, 1, 0.8, 0.4, 0.1, 0])
        )
        back = [(s * (k * w + d), y) for (k, y), d in zip(inner, swing, strict=True)]
        shapes.append([top, (s * 0.5 * w, -71.0 - v), *edge, *back, (top[0] + s * 0.1 * w, -50.0 - 0.3 * v)])
        for k in range(4):
            t = (k + 0.6) / 4.0
            middle = [
                (s * (x + (e - x) * t), y)
                for (x, y), (e, _) in zip(
                    [(abs(q[0]), q[1]) for q in back[::-1]], [(abs(q[0]), 0) for q in edge[1:7]], strict=True
                )
            ]
            lines.append([(top[0] + s * (4.0 + 9.0 * t), top[1] + 8.0 + 8.0 * (1 - t)), *middle])
    mask = polygons([curve_points(look.head.points(shape, 0.5)) for shape in shapes])
    mask = _paint_hair(canvas, look, mask)
    _strands(canvas, look, lines, mask, depth=0.5, width=5.5)
    _gloss(canvas, look, mask, -62.0 - 0.5 * v, 0.72)


def _tight_cap(canvas: Canvas, look: Look) -> Mask:
    """Paint hair combed back from the forehead; return its mask."""
    w = look.width
    v = 5.0 + 4.0 * look.scale("hair volume")
    line = [
        (0.96 * w, 2.0),
        (0.93 * w, -24.0),
        (0.72 * w, -42.0),
        (0.36 * w, -51.0),
        (0.0, -53.0),
        (-0.36 * w, -51.0),
        (-0.72 * w, -42.0),
        (-0.93 * w, -24.0),
        (-0.96 * w, 2.0),
    ]
    mask = _paint_hair(
        canvas, look, blob(look.head.points(_cap(look, line, volume=v, side_y=4.0), _CAP_DEPTH))
    )
    lines = [
        [(x * w, -40.0 - 10.0 * (1 - abs(x))), (0.75 * x * w, -64.0), (0.2 * x * w, -80.0)]
        for x in np.linspace(-1.0, 1.0, 9)
    ]
    _strands(canvas, look, lines, mask, depth=_CAP_DEPTH, width=5.0)
    return mask


def _bun(canvas: Canvas, look: Look) -> None:
    mask = _tight_cap(canvas, look)
    _gloss(canvas, look, mask, -66.0, 0.6)


def _bun_back(canvas: Canvas, look: Look) -> None:
    r = 19.0 + 5.0 * look.scale("hair volume")
    y = -80.0
    mask = polygons(
        _clump(look, [(0.0, y, r), (-0.6 * r, y + 6.0, 0.8 * r), (0.6 * r, y + 6.0, 0.8 * r)], _BACK_DEPTH)
    )
    mask = _paint_hair(canvas, look, mask, shadow=0.0, gain=0.92)
    swirl = [[(-0.9 * r, y + 4.0), (0.0, y - 0.75 * r + 7.0 * k), (0.9 * r, y + 4.0)] for k in range(4)]
    _strands(canvas, look, swirl, mask, depth=_BACK_DEPTH, width=5.0)


def _pigtails_back(canvas: Canvas, look: Look) -> None:
    w, u = look.width, look.unit
    puff = 0.85 + 0.4 * look.scale("hair volume")
    shapes, lines = [], []
    for s in (-1.0, 1.0):
        x = s * (w + 12.0)
        tail = [
            (x - s * 7.0, -22.0),
            (x + s * 10.0 * puff, -20.0),
            (x + s * 27.0 * puff, 14.0),
            (x + s * 24.0 * puff, 54.0),
            (x + s * 8.0, 84.0),
            (x - s * 6.0 * puff, 50.0),
            (x - s * 8.0 * puff, 14.0),
        ]
        shapes.append(curve_points(look.head.points(tail, _BACK_DEPTH)))
        lines += [
            [(x + s * k, -16.0), (x + s * (k * 2.6 + 3.0), 22.0), (x + s * (k + 6.0), 72.0)]
            for k in (0.0, 4.0, 8.0)
        ]
    mask = _paint_hair(canvas, look, polygons(shapes), shadow=0.2)
    _strands(canvas, look, lines, mask, depth=_BACK_DEPTH)
    for s in (-1.0, 1.0):
        tie = polygons(_clump(look, [(s * (w + 11.0), -22.0, 8.5)], _BACK_DEPTH))
        canvas.paint(tie, (0.86, 0.20, 0.30), relief=0.8, round_px=5 * u)


def _pigtails(canvas: Canvas, look: Look) -> None:
    w = look.width
    mask = _tight_cap(canvas, look)
    parting = polygon(
        lock_points(look.head.points([(0.0, -52.0), (0.0, -66.0), (0.0, -82.0)], _CAP_DEPTH), 5.0 * look.unit)
    )
    canvas.paint(parting.cut(mask), look.shade(0.3), opacity=0.9)
    _gloss(canvas, look, mask, -62.0, 0.7 * min(1.0, 50.0 / w))


def _bald(canvas: Canvas, look: Look) -> None:
    u = look.unit
    shine = ellipse_points(
        *look.head.at(canvas.light.direction[0] * 24.0, -54.0, 0.5), 15 * u, 7 * u, count=20
    )
    soft(canvas, _under_hat(look, polygon(shine)), (1.0, 0.98, 0.94), 4 * u, 0.5)


_Painter = Callable[[Canvas, Look], None]
_BACK: dict[str, _Painter] = {
    "afro": _afro_back,
    "bob with a fringe": _bob_back,
    "long straight hair": lambda canvas, look: _long_back(canvas, look, 0.0),
    "long wavy hair": lambda canvas, look: _long_back(canvas, look, 6.5),
    "hair in a bun": _bun_back,
    "pigtails": _pigtails_back,
}
_FRONT: dict[str, _Painter] = {
    "bald": _bald,
    "short hair": _short,
    "side-parted hair": _side_part,
    "spiky hair": _spiky,
    "curly hair": _curly,
    "afro": _afro,
    "bob with a fringe": _bob,
    "long straight hair": lambda canvas, look: _long_front(canvas, look, 0.0, 0.0),
    "long wavy hair": lambda canvas, look: _long_front(canvas, look, 6.5, -0.35),
    "hair in a bun": _bun,
    "pigtails": _pigtails,
}


def paint_hair_behind(canvas: Canvas, look: Look) -> None:
    """Paint the hair behind the head and the shoulders."""
    style = look.choice("hair style")
    if style in _BACK:
        _BACK[style](canvas, look)


def paint_hair_front(canvas: Canvas, look: Look) -> None:
    """Paint the hair over the skull, the forehead and the sides of the face."""
    _FRONT[look.choice("hair style")](canvas, look)
