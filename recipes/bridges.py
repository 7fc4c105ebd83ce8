"""Bridges over a small river: arch, suspension, cable-stayed, truss and covered.

A bridge is 1.25 times as wide as its view is high.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from recipes.frame import INK, WHITE, Frame, colour_of
from recipes.kit import Canvas, Colour, Identity, Param, Point, View, mix, scaled
from recipes.masonry import FLAGS, LAMPLIGHT, draw_flag, flat_wall, round_wall

BRIDGE_PARAMS = (
    Param("type", ("arch", "suspension", "cable-stayed", "truss", "covered")),
    Param("colour", ("red", "teal", "blue", "grey", "sandstone", "brown")),
    Param("trim", ("white", "yellow", "black")),
    Param("spans", ("one", "two", "three")),
    Param("rise", low="flat", high="humped"),
    Param("tower height", low="low", high="tall"),
    Param("tower top", ("flat", "pointed", "round")),
    Param("lamps", ("none", "lamps")),
    Param("flags", FLAGS),
    Param("railing", ("open", "solid")),
    Param("banks", ("grass", "rocks", "trees")),
)
REACH = 132.0  # half the length of a bridge
WATER: Colour = (0.24, 0.50, 0.66)


@dataclass(frozen=True)
class Bridge:
    """One bridge being drawn (design units)."""

    frame: Frame
    words: dict[str, str]
    rise: float
    height: float
    deck_y: float

    @property
    def colour(self) -> Colour:
        return (0.85, 0.70, 0.46) if self.words["colour"] == "sandstone" else colour_of(self.words["colour"])

    @property
    def trim(self) -> Colour:
        return colour_of(self.words["trim"])

    @property
    def spans(self) -> int:
        return 1 + ("one", "two", "three").index(self.words["spans"])

    @property
    def material(self) -> str:
        return "grey stone" if self.words["type"] == "arch" else "white"

    def deck(self, x: float) -> float:
        """Return the height of the roadway at ``x``."""
        return self.deck_y + self.rise * (1.0 - (x / REACH) ** 2)

    def along(self, left: float, right: float, lift: float = 0.0, count: int = 13) -> list[Point]:
        return [(float(x), self.deck(float(x)) + lift) for x in np.linspace(left, right, count)]

    def piers(self) -> list[float]:
        """Return the x of every pier between the two banks, including the outer ones."""
        return [float(x) for x in np.linspace(-78, 78, self.spans + 1)]


def draw_bridge(canvas: Canvas, identity: Identity, view: View) -> None:
    """Draw a bridge seen from the side; ``view.turn`` mirrors it and slopes it a little."""
    words = {p.name: p.values[int(identity[p.name])] for p in BRIDGE_PARAMS if p.values}
    hump = {"arch": 34.0, "covered": 12.0}.get(words["type"], 20.0)
    bridge = Bridge(
        frame=Frame(canvas, view, slope=0.04 * abs(view.turn)),
        words=words,
        rise=hump * float(identity["rise"]),
        height=float(identity["tower height"]),
        deck_y={"arch": 74.0, "covered": 50.0, "truss": 62.0}.get(words["type"], 58.0),
    )
    _draw_river(bridge)
    _ARTISTS[words["type"]](bridge)
    _draw_lamps(bridge)
    _draw_banks(bridge)


def _draw_river(bridge: Bridge) -> None:
    frame = bridge.frame
    pool = frame.blob(
        [(-112, 10), (-60, 16), (60, 16), (112, 10), (124, -8), (70, -17), (-70, -17), (-124, -8)]
    )
    frame.paint(pool.blurred(2.5), mix(WATER, (0.16, 0.22, 0.20), 0.5))
    inner = frame.blob(
        [(-108, 8), (-60, 13), (60, 13), (108, 8), (118, -8), (66, -15), (-66, -15), (-118, -8)]
    )
    frame.paint(inner, WATER, 0.15, 8)
    frame.paint(frame.box(-92, 3, 92, 13).blurred(4.0).cut(inner), bridge.colour, opacity=0.35)
    for x, y, half in ((-52, -6, 22), (34, -9, 26), (74, 0, 16), (-12, 1, 18)):
        frame.paint(frame.stroke([(x - half, y), (x + half, y)], 3.2), WHITE, opacity=0.4)


def _draw_banks(bridge: Bridge) -> None:
    frame, kind = bridge.frame, bridge.words["banks"]
    if kind == "rocks":
        for side in (-1, 1):
            _rock_pile(frame, side * 108)
        return
    for side in (-1, 1):
        mound = frame.blob(
            [(side * x, y) for x, y in ((82, -6), (98, 14), (124, 26), (148, 24), (150, -14), (104, -15))]
        )
        frame.paint(mound, (0.40, 0.58, 0.27), 0.4, 9, texture=frame.fuzz(40, 0.4))
        if kind == "trees":
            frame.paint(frame.stroke([(side * 114, 18), (side * 114, 46)], 8), (0.40, 0.27, 0.17))
            crown = frame.ellipse(side * 113, 62, 20, 24)
            frame.paint(crown, (0.25, 0.48, 0.23), 0.55, 10, texture=frame.fuzz(40, 0.4))


def _rock_pile(frame: Frame, x: float) -> None:
    for dx, radius, tone in ((14, 24, 0.9), (-10, 18, 1.0)):
        cx = x + dx * (1 if x > 0 else -1)
        rock = [
            (cx - radius * 1.2, -12),
            (cx - radius, radius * 0.4),
            (cx, radius * 0.8),
            (cx + radius, radius * 0.4),
            (cx + radius * 1.2, -12),
        ]
        frame.paint(frame.blob(rock), scaled((0.52, 0.50, 0.49), tone), 0.6, 9)


def _draw_deck(bridge: Bridge, thick: float = 14.0) -> None:
    """Draw the edge of the roadway over the whole length, and its railing."""
    frame = bridge.frame
    slab = frame.polygon([*bridge.along(-REACH, REACH), *bridge.along(REACH, -REACH, -thick)])
    frame.paint(slab, bridge.colour, 0.4, 5)
    frame.paint(frame.stroke(bridge.along(-REACH, REACH, -thick * 0.5), 4.0), mix(bridge.colour, INK, 0.35))
    _draw_railing(bridge)


def _draw_railing(bridge: Bridge, height: float = 12.0) -> None:
    frame = bridge.frame
    if bridge.words["railing"] == "solid":
        wall = frame.polygon([*bridge.along(-REACH, REACH, height), *bridge.along(REACH, -REACH, -1)])
        frame.paint(wall, bridge.trim, 0.35, 4)
        return
    feet = bridge.along(-126, 126, count=15)
    frame.paint(frame.lines([((x, y), (x, y + height)) for x, y in feet], 4.0), bridge.trim)
    frame.paint(frame.stroke(bridge.along(-REACH, REACH, height), 4.4), bridge.trim)


def _pylon(bridge: Bridge, x: float, top: float, half: float, low: float = -4.0) -> None:
    """Draw a tower of the bridge with its top."""
    frame = bridge.frame
    shaft = frame.polygon([(x - half * 1.15, low), (x - half, top), (x + half, top), (x + half * 1.15, low)])
    frame.paint(shaft, round_wall(frame, shaft, bridge.colour, bridge.material))
    cap = frame.box(x - half - 4, top - 3, x + half + 4, top + 5)
    kind = bridge.words["tower top"]
    if kind == "pointed":
        point = frame.polygon([(x - half - 3, top + 4), (x, top + 9 + half * 1.7), (x + half + 3, top + 4)])
        frame.paint(point, round_wall(frame, point, bridge.trim))
    elif kind == "round":
        frame.paint(frame.ellipse(x, top + 7, half + 2, half + 2), bridge.trim, 0.5, 6)
    frame.paint(cap, round_wall(frame, cap, bridge.trim))
    lift = {"pointed": 6 + half * 1.5, "round": 7 + half, "flat": 4}[kind]
    if bridge.words["flags"] != "none":
        draw_flag(frame, x, top + lift, bridge.words["flags"], 28)


def _arch(bridge: Bridge) -> None:
    frame, spans = bridge.frame, bridge.spans
    face = frame.polygon([*bridge.along(-REACH, REACH), (REACH, -8), (-REACH, -8)])
    width = 184.0 / spans
    openings = []
    for k in range(spans):
        x = -92 + width * (k + 0.5)
        half = width / 2 - (7 if spans > 1 else 4)
        tall = min(bridge.deck(x) - 14, half * (1.05 if spans == 1 else 1.75) + 12)
        spring = tall * 0.35
        arc = [
            (x + half * np.cos(a), spring + (tall - spring) * np.sin(a)) for a in np.linspace(0, np.pi, 17)
        ]
        openings.append([(x + half, -12), *arc, (x - half, -12)])
    solid, rims = face, []
    for opening in openings:
        rims.append(frame.stroke(opening[1:-1], 11))
        solid = solid.cut(frame.polygon(opening), keep=False)
    deep = solid.moved(7 * frame.scale * frame.mirror, 0)
    inside = [deep.cut(frame.polygon(opening)) for opening in openings]
    for shadowed in inside:
        frame.paint(shadowed, mix(bridge.colour, INK, 0.6))
    frame.paint(solid, flat_wall(frame, solid, bridge.colour, "grey stone"))
    for rim in rims:
        frame.paint(rim.cut(solid), scaled(bridge.colour, 1.12), 0.3, 4)
    frame.paint(frame.stroke(bridge.along(-REACH, REACH, -2), 7), scaled(bridge.colour, 0.8))
    _draw_railing(bridge)
    for x in (-97, 97):
        _pylon(bridge, x, bridge.deck(x) + 18 + 36 * bridge.height, 13)


def _suspension(bridge: Bridge) -> None:
    frame, piers = bridge.frame, bridge.piers()
    top = 122 + 44 * bridge.height
    ends = [-REACH - 20, *piers, REACH + 20]
    for left, right in pairwise(ends):
        low = bridge.deck((left + right) / 2) + 16
        outer = left < -REACH or right > REACH
        xs = np.linspace(left, right, 15)
        if outer:
            rise = (xs - left) / (right - left) if left < -REACH else (right - xs) / (right - left)
            ys = bridge.deck_y + 10 + (top - bridge.deck_y - 10) * rise**1.4
        else:
            ys = low + (top - low) * ((2 * xs - left - right) / (right - left)) ** 2
        cable = [(float(x), float(y)) for x, y in zip(xs, ys, strict=True)]
        feet = bridge.along(left, right, count=max(3, round((right - left) / 15) + 1))[1:-1]
        hangers = frame.lines([((x, y), (x, float(np.interp(x, xs, ys)))) for x, y in feet], 3.0)
        frame.paint(hangers, mix(bridge.colour, INK, 0.2))
        frame.paint(frame.stroke(cable, 5.5), bridge.colour, 0.4, 3)
    for x in piers:
        _pylon(bridge, x, top, 10)
    _draw_deck(bridge)


def _cable_stayed(bridge: Bridge) -> None:
    frame = bridge.frame
    xs = {1: [0.0], 2: [-55.0, 55.0], 3: [-82.0, 0.0, 82.0]}[bridge.spans]
    top = 124 + 44 * bridge.height
    reach = {1: 118.0, 2: 62.0, 3: 44.0}[bridge.spans]
    count = 5 if bridge.spans == 1 else 3
    for x in xs:
        stays = []
        for part in np.arange(1, count + 1) / count:
            for foot in (x - reach * part, x + reach * part):
                stays.append(((x, top - 24 * (1 - part)), (foot, bridge.deck(foot))))
        frame.paint(frame.lines(stays, 3.6), mix(bridge.trim, bridge.colour, 0.35))
        _pylon(bridge, x, top, 10)
    _draw_deck(bridge)


def _truss(bridge: Bridge) -> None:
    frame, piers = bridge.frame, bridge.piers()
    ends = [-104.0, *piers[1:-1], 104.0]
    for x in ends:
        _pylon(bridge, x, bridge.deck(x) + 20 + 26 * bridge.height, 8)
    _draw_deck(bridge, 10)
    for left, right in pairwise(ends):
        tall = 44 + 22 * bridge.height
        panels = max(3, round((right - left) / 30))
        xs = np.linspace(left + 6, right - 6, panels + 1)
        middle = (left + right) / 2
        lift = [tall * (0.62 + 0.38 * (1 - ((x - middle) / (right - left) * 2) ** 2)) for x in xs]
        chord = [(float(x), bridge.deck(float(x)) + dy) for x, dy in zip(xs, lift, strict=True)]
        posts, diagonals = [], []
        for k in range(panels):
            low_left, low_right = (xs[k], bridge.deck(xs[k])), (xs[k + 1], bridge.deck(xs[k + 1]))
            diagonals.append((low_left, chord[k + 1]) if k < panels / 2 else (chord[k], low_right))
            posts.append((low_left, chord[k]))
        frame.paint(frame.lines(diagonals, 5), scaled(bridge.colour, 0.78))
        frame.paint(frame.lines(posts[1:], 5), scaled(bridge.colour, 0.9))
        path = [(float(xs[0]), bridge.deck(xs[0])), *chord, (float(xs[-1]), bridge.deck(xs[-1]))]
        for start, end in pairwise(path):
            frame.paint(frame.stroke([start, end], 7.5), bridge.colour, 0.4, 4)


def _covered(bridge: Bridge) -> None:
    frame, piers = bridge.frame, bridge.piers()
    stone: Colour = (0.60, 0.58, 0.57)
    for x in [-100.0, *piers[1:-1], 100.0]:
        pier = frame.polygon([(x - 14, -6), (x - 10, 50), (x + 10, 50), (x + 14, -6)])
        frame.paint(pier, round_wall(frame, pier, stone, "grey stone"))
    _draw_deck(bridge, 13)
    wall = 44 + 16 * bridge.height
    house = frame.polygon([*bridge.along(-106, 106, wall), *bridge.along(106, -106, 2)])
    frame.paint(house, flat_wall(frame, house, bridge.colour))
    feet = bridge.along(-96, 96)
    frame.paint(frame.lines([((x, y + 2), (x, y + wall)) for x, y in feet], 3.0), scaled(bridge.colour, 0.8))
    for x in np.linspace(-72, 72, 2 * bridge.spans + 1):
        y, tall = bridge.deck(float(x)) + wall * 0.52, wall * 0.24
        frame.paint(frame.box(x - 13, y - tall - 3, x + 13, y + tall + 3), bridge.trim)
        glass = LAMPLIGHT if frame.is_dark() else mix(INK, (0.2, 0.26, 0.34), 0.7)
        frame.paint(frame.box(x - 9, y - tall, x + 9, y + tall), glass)
    roof = frame.polygon([*bridge.along(-102, 102, wall + 34), *bridge.along(118, -118, wall - 4)])
    shadow = roof.moved(0, 6 * frame.scale)
    frame.paint(house.cut(shadow), INK, opacity=0.35)
    tiles = mix(bridge.trim, (0.30, 0.22, 0.26), 0.25)
    frame.paint(roof, tiles, 0.45, 8)
    for lift in (9, 21):
        frame.paint(
            frame.stroke(bridge.along(-112 + lift * 0.4, 112 - lift * 0.4, wall + lift), 3.4),
            scaled(tiles, 0.8),
        )
    _roof_towers(bridge, wall + 30)


def _roof_towers(bridge: Bridge, lift: float) -> None:
    """Draw a lantern on the middle of a covered bridge's roof."""
    y = bridge.deck(0) + lift
    _pylon(bridge, 0, y + 14 + 18 * bridge.height, 12, low=y)


def _draw_lamps(bridge: Bridge) -> None:
    frame = bridge.frame
    if bridge.words["lamps"] == "none":
        return
    feet = [(x, bridge.deck(x)) for x in (-119.0, -40.0, 40.0, 119.0)]
    frame.paint(frame.lines([((x, y), (x, y + 32)) for x, y in feet], 4.4), INK)
    for x, y in feet:
        lamp = frame.ellipse(x, y + 36, 7, 7.5)
        frame.paint(lamp, LAMPLIGHT, 0.3, 4)
        if frame.is_dark():
            frame.canvas.glow(lamp, LAMPLIGHT, blur=7.0, opacity=0.6)


_ARTISTS = {
    "arch": _arch,
    "suspension": _suspension,
    "cable-stayed": _cable_stayed,
    "truss": _truss,
    "covered": _covered,
}
