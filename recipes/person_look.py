"""The dimensions and colours of one person: converts identity and view to lengths on the drawing grid.

The drawing grid of a person has its origin at the centre of the face; one unit is a canvas pixel when the
view is ``GRID_HEIGHT`` canvas pixels tall. Tall hair ends near y = -100, the chin at 71, the bust at 130.
"""

import math
from dataclasses import dataclass

import numpy as np

from recipes.kit import Colour, Identity, Param, Point, View, mix

GRID_HEIGHT = 232.0
BUST_Y = 130.0
PIVOT_Y = 84.0
TURN_SHIFT = 13.0

PARAMS: tuple[Param, ...] = (
    Param("skin tone", low="fair skin", high="dark skin"),
    Param("face width", low="narrow face", high="wide face"),
    Param("jaw", low="pointed chin", high="square jaw"),
    Param("cheeks", high="round cheeks"),
    Param("age", low="young", high="old"),
    Param("hair colour", ("black", "dark brown", "chestnut", "blond", "red", "grey", "white")),
    Param(
        "hair style",
        (
            "bald",
            "short hair",
            "side-parted hair",
            "spiky hair",
            "curly hair",
            "afro",
            "bob with a fringe",
            "long straight hair",
            "long wavy hair",
            "hair in a bun",
            "pigtails",
        ),
    ),
    Param("hair volume"),
    Param("eye colour", ("brown", "blue", "green", "grey")),
    Param("eye size", low="small eyes", high="big eyes"),
    Param("eye spacing", low="close-set eyes", high="wide-set eyes"),
    Param("brow thickness", low="thin eyebrows", high="thick eyebrows"),
    Param("brow slant"),
    Param("nose size", low="small nose", high="big nose"),
    Param("nose width", low="narrow nose", high="wide nose"),
    Param("mouth width", low="small mouth", high="wide mouth"),
    Param("lips", low="thin lips", high="full lips"),
    Param("ears", low="small ears", high="big ears"),
    Param("beard", ("none", "stubble", "moustache", "goatee", "full beard")),
    Param("glasses", ("none", "round glasses", "square glasses", "sunglasses")),
    Param("freckles", ("none", "freckles")),
    Param("earrings", ("none", "gold earrings")),
)

_CHOICES = {param.name: param.values for param in PARAMS if param.values}

_SKIN_TONES: tuple[Colour, ...] = (
    (0.99, 0.85, 0.76),
    (0.96, 0.79, 0.67),
    (0.90, 0.69, 0.53),
    (0.79, 0.56, 0.39),
    (0.64, 0.43, 0.28),
    (0.49, 0.31, 0.20),
    (0.36, 0.22, 0.15),
)

_HAIR_COLOURS: dict[str, Colour] = {
    "black": (0.12, 0.11, 0.14),
    "dark brown": (0.28, 0.17, 0.11),
    "chestnut": (0.52, 0.27, 0.13),
    "blond": (0.93, 0.74, 0.37),
    "red": (0.84, 0.34, 0.10),
    "grey": (0.56, 0.57, 0.61),
    "white": (0.93, 0.92, 0.90),
}

_EYE_COLOURS: dict[str, Colour] = {
    "brown": (0.42, 0.23, 0.10),
    "blue": (0.18, 0.50, 0.88),
    "green": (0.25, 0.62, 0.30),
    "grey": (0.55, 0.61, 0.66),
}


@dataclass(frozen=True)
class Frame:
    """Transforms points of the drawing grid to the canvas: turn, tilt about the neck, scale and translation."""

    x: float
    y: float
    unit: float  # canvas pixels per grid unit
    turn: float = 0.0
    tilt: float = 0.0
    reach: float = 62.0  # distance from the axis, in grid units, from which a turn has no effect

    def at(self, x: float, y: float, depth: float = 1.0) -> Point:
        """Return the canvas point of (x, y). ``depth``: 1 on the face, more in front of it, below 0 behind the head."""
        return self.points([(x, y)], depth)[0]

    def points(self, points: list[Point], depth: float = 1.0) -> list[Point]:
        """Return the canvas points of grid points, all at one depth (see ``at``)."""
        c, s = self.unit * math.cos(self.tilt), self.unit * math.sin(self.tilt)
        left, top = self.x + PIVOT_Y * s, self.y + self.unit * PIVOT_Y - PIVOT_Y * c
        shift = self.turn * depth * TURN_SHIFT
        bend = shift / self.reach**2
        placed = []
        for x, y in points:
            x += max(shift - bend * x * x, 0.0) if shift > 0.0 else min(shift - bend * x * x, 0.0)
            placed.append((left + x * c - y * s, top + x * s + y * c))
        return placed


@dataclass(frozen=True)
class Look:
    """All parameters that the drawing functions need for one person in one view (lengths in grid units)."""

    identity: Identity
    view: View
    head: Frame
    body: Frame
    skin: Colour
    hair: Colour
    eye: Colour
    width: float  # half the width of the face
    eye_width: float  # half the width of an eye
    eye_x: float  # eye centres are at -eye_x and eye_x
    wrinkles: float  # 0 (smooth) .. 1

    @property
    def unit(self) -> float:
        return self.head.unit

    @property
    def hat(self) -> bool:
        return self.view.wearable == "hat"

    def scale(self, name: str) -> float:
        return self.identity[name]

    def choice(self, name: str) -> str:
        return _CHOICES[name][int(self.identity[name])]

    def shade(self, amount: float = 0.5) -> Colour:
        """Return the skin colour in shadow: darker and redder (``amount`` 0 = skin colour, 1 = darkest shadow)."""
        deep = (self.skin[0] * 0.55, self.skin[1] * 0.38, self.skin[2] * 0.36)
        return mix(self.skin, deep, amount)

    @property
    def hair_light(self) -> Colour:
        """Return the colour of highlights on the hair."""
        red, green, blue = self.hair
        return 1.25 * red + 0.09, 1.25 * green + 0.09, 1.2 * blue + 0.09

    def rng(self) -> np.random.Generator:
        return np.random.default_rng(self.view.seed)


def skin_colour(tone: float) -> Colour:
    """Return the skin colour for ``tone`` 0 (fair) .. 1 (dark)."""
    place = min(max(tone, 0.0), 1.0) * (len(_SKIN_TONES) - 1)
    index = min(int(place), len(_SKIN_TONES) - 2)
    return mix(_SKIN_TONES[index], _SKIN_TONES[index + 1], place - index)


def measure(identity: Identity, view: View) -> Look:
    """Return the look of ``identity`` in ``view``."""
    unit = view.height / GRID_HEIGHT
    width = 47.0 + 10.0 * identity["face width"]
    youth = max(0.4 - identity["age"], 0.0)
    eye_width = (11.0 + 4.5 * identity["eye size"] + 2.0 * youth) * (0.5 + width / 104.0)
    place = (view.x, view.base - BUST_Y * unit, unit)
    wrinkles = max(identity["age"] - 0.45, 0.0) / 0.55
    hair = _HAIR_COLOURS[_CHOICES["hair colour"][int(identity["hair colour"])]]
    return Look(
        identity=identity,
        view=view,
        head=Frame(*place, turn=view.turn, tilt=view.tilt, reach=width * 1.25),
        body=Frame(*place, turn=view.turn * 0.4),
        skin=skin_colour(identity["skin tone"]),
        hair=mix(hair, (0.74, 0.74, 0.76), 0.12 * wrinkles),
        eye=_EYE_COLOURS[_CHOICES["eye colour"][int(identity["eye colour"])]],
        width=width,
        eye_width=eye_width,
        eye_x=eye_width + 5.5 + 6.0 * identity["eye spacing"],
        wrinkles=wrinkles,
    )
