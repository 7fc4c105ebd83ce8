"""Towers: lighthouse, clock tower, castle keep, pagoda and skyscraper."""

from dataclasses import dataclass

import numpy as np

from recipes.frame import INK, WHITE, Frame, colour_of
from recipes.kit import Canvas, Colour, Identity, Mask, Param, View, mix, scaled
from recipes.masonry import (
    FLAGS,
    GLASS,
    LAMPLIGHT,
    TRIMS,
    WALLS,
    draw_bushes,
    draw_door,
    draw_flag,
    draw_rocks,
    draw_window,
    flat_wall,
    round_wall,
    side_gains,
)

TOWER_PARAMS = (
    Param("type", ("lighthouse", "clock tower", "castle", "pagoda", "skyscraper")),
    Param("wall", tuple(WALLS)),
    Param("roof", ("red", "blue", "green", "purple", "orange", "teal")),
    Param("trim", tuple(TRIMS)),
    Param("windows", ("arched", "square", "round")),
    Param("window count", low="few", high="many"),
    Param("levels", ("two", "three", "four")),
    Param("width", low="slender", high="broad"),
    Param("door", ("brown", "red", "blue", "green")),
    Param("flag", FLAGS),
    Param("foot", ("plain", "bushes", "rocks", "steps")),
)


@dataclass(frozen=True)
class Tower:
    """One tower being drawn (design units)."""

    frame: Frame
    words: dict[str, str]
    wide: float  # half the width of the shaft
    many: float

    @property
    def wall(self) -> Colour:
        return WALLS[self.words["wall"]]

    @property
    def roof(self) -> Colour:
        return colour_of(self.words["roof"])

    @property
    def trim(self) -> Colour:
        return TRIMS[self.words["trim"]]

    @property
    def levels(self) -> int:
        return 2 + ("two", "three", "four").index(self.words["levels"])

    def window(self, x: float, y: float, width: float = 11.0, height: float = 17.0) -> None:
        draw_window(self.frame, x, y, width, height, self.words["windows"], self.trim)

    def rounded(self, mask: Mask, colour: Colour, material: str = "white") -> None:
        self.frame.paint(mask, round_wall(self.frame, mask, colour, material))

    def cone(self, x: float, y: float, half: float, height: float) -> None:
        """Draw a conical roof with its eaves at ``y``."""
        self.frame.paint(self.frame.ellipse(x, y, half, half * 0.2), scaled(self.roof, 0.6))
        mask = self.frame.polygon(
            [(x - half, y), (x, y + height), (x + half, y), (x + half * 0.4, y - 4), (x - half * 0.4, y - 4)]
        )
        self.rounded(mask, self.roof)

    def door(self, width: float = 24.0, height: float = 34.0) -> None:
        draw_door(self.frame, 0, width, height, colour_of(self.words["door"]), self.trim)


def draw_tower(canvas: Canvas, identity: Identity, view: View) -> None:
    """Draw a tower on the ground line; ``view.turn`` shows more of its side."""
    words = {p.name: p.values[int(identity[p.name])] for p in TOWER_PARAMS if p.values}
    artist, (slender, broad) = _ARTISTS[words["type"]]
    wide = slender + (broad - slender) * float(identity["width"])
    tower = Tower(Frame(canvas, view), words, wide, float(identity["window count"]))
    tower.frame.ground_shadow(wide * 1.25, depth=9)
    artist(tower)
    if words["foot"] == "bushes":
        draw_bushes(tower.frame, wide + 6)
    elif words["foot"] == "rocks":
        draw_rocks(tower.frame, wide + 8)
    elif words["foot"] == "steps":
        for half, low in ((30, 0), (23, 5)):
            step = tower.frame.box(-half, low - 3, half, low + 4)
            tower.frame.paint(step, scaled((0.72, 0.70, 0.67), 0.85 + low * 0.03), 0.3, 3)


def _lighthouse(tower: Tower) -> None:
    frame, wide = tower.frame, tower.wide
    top = wide * 0.66
    shaft = frame.polygon([(-wide, 0), (-top, 132), (top, 132), (wide, 0)])
    tower.rounded(shaft, tower.wall, tower.words["wall"])
    step = 132 / (2 * tower.levels + 1)
    for k in range(tower.levels):
        low = step * (2 * k + 1)
        stripe = frame.polygon(
            [(-80, low), (-80, low + step), (0, low + step - 4), (80, low + step), (80, low), (0, low - 4)]
        )
        frame.paint(shaft.cut(stripe), round_wall(frame, shaft, tower.roof))
    tower.door()
    for k in range(1 + round(2 * tower.many)):
        tower.window(((k % 2) * 2 - 1) * wide * 0.22, 58 + 27 * k, 10, 14)
    frame.shade(frame.box(-top - 9, 132, top + 9, 140), shaft, drop=5)
    tower.rounded(frame.box(-top - 10, 131, top + 10, 140), tower.trim)
    lamp = frame.box(-top * 0.62, 140, top * 0.62, 166)
    glow = LAMPLIGHT if frame.is_dark() else (0.98, 0.90, 0.58)
    tower.rounded(lamp, glow)
    for x in (-0.55, 0.0, 0.55):
        frame.paint(frame.stroke([(x * top, 140), (x * top, 166)], 3.2), mix(tower.trim, INK, 0.55))
    if frame.is_dark():
        frame.canvas.glow(lamp, LAMPLIGHT, blur=9.0, opacity=0.5)
    frame.paint(frame.stroke([(-top - 8, 150), (top + 8, 150)], 3.4), mix(tower.trim, INK, 0.35))
    draw_flag(frame, 0, 180, tower.words["flag"], 26)
    dome = [(x * (top * 0.62 + 7), 165 + 21 * np.sqrt(1 - x * x)) for x in np.linspace(-1, 1, 13)]
    tower.rounded(frame.polygon(dome), tower.roof)
    frame.paint(frame.ellipse(0, 188, 4.5, 4.5), tower.trim)


def _box(
    tower: Tower,
    half: float,
    low: float,
    high: float,
    *,
    colour: Colour | None = None,
    material: str = "white",
) -> float:
    """Draw a square block: its front and (towards positive x) its side; return the x of the middle of the front."""
    frame, (front, side) = tower.frame, side_gains(tower.frame)
    edge = half - 2 * half * (0.12 + 0.2 * frame.turn)
    colour = colour or tower.wall
    face, flank = frame.box(-half, low, edge, high), frame.box(edge, low, half, high)
    frame.paint(face, flat_wall(frame, face, colour, material, front))
    frame.paint(flank, flat_wall(frame, flank, colour, material, side))
    return (edge - half) / 2


def _spire(tower: Tower, half: float, low: float, high: float) -> None:
    """Draw a pyramid roof over a block of this half width."""
    frame, (front, side) = tower.frame, side_gains(tower.frame)
    edge = half - 2 * half * (0.12 + 0.2 * frame.turn)
    frame.paint(frame.polygon([(-half, low), (0, high), (edge, low)]), scaled(tower.roof, front))
    frame.paint(frame.polygon([(edge, low), (0, high), (half, low)]), scaled(tower.roof, side * 0.9))


def _clock_tower(tower: Tower) -> None:
    frame, wide, words = tower.frame, tower.wide, tower.words
    middle = _box(tower, wide, 0, 100, material=words["wall"])
    _box(tower, wide + 5, 94, 101, colour=tower.trim)
    _box(tower, wide + 1, 101, 148, material=words["wall"])
    _box(tower, wide + 7, 146, 153, colour=tower.trim)
    draw_flag(frame, 0, 172, words["flag"], 30)
    _spire(tower, wide + 4, 153, 190)
    radius = min(wide * 0.62, 20)
    frame.paint(frame.ellipse(middle, 124, radius + 4, radius + 4), mix(tower.trim, INK, 0.3))
    frame.paint(frame.ellipse(middle, 124, radius, radius), WHITE, 0.2, 6)
    frame.paint(frame.stroke([(middle, 124), (middle, 124 + radius * 0.72)], 3.6), INK)
    frame.paint(frame.stroke([(middle, 124), (middle + radius * 0.5, 119)], 3.6), INK)
    rows = 1 + round(tower.many)
    for row in range(rows):
        for side in (-1, 1) if wide > 30 else (0,):
            tower.window(middle + side * wide * 0.34, 78 - row * 30, 11, 17)
    _shifted_door(tower, middle)
    for k in range(1, tower.levels):
        if k > 1:
            y = 100 * (k - 1) / (tower.levels - 1)
            _box(tower, wide + 2.5, y - 2, y + 3, colour=tower.trim)


def _shifted_door(tower: Tower, x: float) -> None:
    draw_door(tower.frame, x, 20, 29, colour_of(tower.words["door"]), tower.trim)


def _battlements(tower: Tower, x: float, half: float, y: float, height: float) -> None:
    """Draw projecting battlements with merlons on a round wall."""
    frame = tower.frame
    outline = [(x - half, y)]
    count = max(3, round(half / 8))
    pitch = 2 * half / (2 * count - 1)
    for k in range(count):
        left = x - half + 2 * k * pitch
        outline += [(left, y + height), (left + pitch, y + height), (left + pitch, y + height * 0.5)]
        if k < count - 1:
            outline += [(left + 2 * pitch, y + height * 0.5)]
    outline[-1] = (x + half, y)
    outline[-2] = (x + half, y + height)
    tower.rounded(frame.polygon(outline), scaled(tower.wall, 1.04), tower.words["wall"])


def _castle(tower: Tower) -> None:
    frame, wide, words = tower.frame, tower.wide, tower.words
    turrets = {2: (-1,), 3: (-1, 1), 4: (-1, 0, 1)}[tower.levels]
    if 0 in turrets:
        tower.rounded(frame.box(-15, 110, 15, 156), scaled(tower.wall, 0.92), words["wall"])
        tower.window(0, 143, 9, 13)
        draw_flag(frame, 0, 168, words["flag"], 30)
        tower.cone(0, 156, 21, 32)
    keep = frame.box(-wide, 0, wide, 112)
    tower.rounded(keep, tower.wall, words["wall"])
    frame.shade(frame.box(-wide - 5, 108, wide + 5, 120), keep, drop=6)
    _battlements(tower, 0, wide + 5, 106, 24)
    for side in turrets:
        if side == 0:
            continue
        x = side * (wide + 2)
        turret = frame.box(x - 17, 0, x + 17, 128)
        tower.rounded(turret, scaled(tower.wall, 1.02), words["wall"])
        tower.window(x, 106, 9, 14)
        if 0 not in turrets and side == -1:
            draw_flag(frame, x, 150, words["flag"], 38)
        tower.cone(x, 128, 24, 44)
    for k in range(1 + round(2 * tower.many)):
        x = (0.0, -0.42, 0.42)[k] * wide if tower.many > 0.25 else 0.0
        tower.window(x, 76, 11, 18)
    tower.door(28, 42)


def _pagoda(tower: Tower) -> None:
    frame, tiers, words = tower.frame, tower.levels + 1, tower.words
    rise = 158 / tiers
    for k in range(tiers):
        half = tower.wide * (1.0 - 0.52 * k / (tiers - 1))
        low = k * rise
        middle = _box(tower, half, low + (rise * 0.3 if k else 0), low + rise, material=words["wall"])
        if k > 0:
            for side in (-1, 1) if tower.many > 0.5 and half > 24 else (0,):
                tower.window(middle + side * half * 0.36, low + rise * 0.6, 9, min(rise * 0.32, 13))
        else:
            draw_door(frame, middle, 20, min(rise * 0.68, 32), colour_of(words["door"]), tower.trim)
        _pagoda_roof(tower, half, low + rise, rise * 0.34 + 2)
    frame.paint(frame.stroke([(0, 166), (0, 196)], 5.0), tower.trim)
    frame.paint(frame.ellipse(0, 178, 6, 6), tower.trim, 0.4, 3)
    draw_flag(frame, 0, 172, words["flag"], 26)


def _pagoda_roof(tower: Tower, half: float, y: float, crest: float) -> None:
    """Draw a curved roof around a block of this half width, with its eaves near ``y`` and the height ``crest``."""
    frame, eave = tower.frame, half + 17
    edge = [(-eave - 5, y + 5), (-eave * 0.6, y - 5), (0, y - 8), (eave * 0.6, y - 5), (eave + 5, y + 5)]
    frame.paint(frame.box(-half, y - 15, half, y - 2), INK, opacity=0.3)
    tower.rounded(frame.polygon([*edge, (half * 0.68, y + crest), (-half * 0.68, y + crest)]), tower.roof)
    frame.paint(frame.stroke(edge, 4.0), tower.trim)


def _skyscraper(tower: Tower) -> None:
    frame, words = tower.frame, tower.words
    parts = tower.levels
    columns, height = (2 if tower.many < 0.5 else 3), 164 / (parts + 0.7)
    low = 0.0
    for k in range(parts):
        half = tower.wide * (1.0 - (0.4 if parts == 2 else 0.56) * k / (parts - 1))
        high = low + height * (1.7 if k == 0 else 1.0)
        middle = _box(tower, half, low, high, material=words["wall"])
        _box(tower, half + 2, high - 5, high + 1, colour=tower.roof)
        front = (half + middle) * 2
        wanted = columns if front > 40 else max(columns - 1, 1)
        size = min(front / (wanted * 1.9), 13)
        rows = max(1, int((high - low - (38 if k == 0 else 8)) / 23))
        for row in range(rows):
            for column in range(wanted):
                x = middle + front * 0.86 * ((column + 0.5) / wanted - 0.5)
                tower.window(x, high - 17 - row * 23, size, 12)
        if k == 0:
            _shifted_door(tower, middle)
        low = high
    frame.paint(frame.stroke([(0, low), (0, 198)], 4.6), GLASS)
    draw_flag(frame, 0, low, words["flag"], 32)
    _spire(tower, tower.wide * 0.4, low, low + 16)


_ARTISTS = {
    "lighthouse": (_lighthouse, (34.0, 50.0)),
    "clock tower": (_clock_tower, (27.0, 42.0)),
    "castle": (_castle, (44.0, 68.0)),
    "pagoda": (_pagoda, (44.0, 66.0)),
    "skyscraper": (_skyscraper, (36.0, 60.0)),
}
