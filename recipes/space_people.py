"""The people of the shipped weight space: who they are, how they are seen, and their attributes.

All identities are drawn in the same views (scene, light, pose, expression, clothing), so that their pictures differ by
identity alone. No identity of the base's training data is used.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from recipes import world
from recipes.captions import SCENE_PHRASES
from recipes.person_look import PARAMS
from recipes.picture import Picture, Placed, hidden

STREAM = 14  # of recipes.world.held_out: the population
JUDGED_STREAM = 15  # identities that are neither in the population nor in the base's training data
VIEWS_STREAM = 16
VIEWS = 8
UNKNOWN = float("nan")

LONG = ("bob with a fringe", "long straight hair", "long wavy hair", "pigtails")
SHORT = ("bald", "short hair", "side-parted hair", "spiky hair")


@dataclass(frozen=True)
class Trait:
    """An attribute as a number in [0, 1] of one or several drawing parameters; NaN where it cannot be seen."""

    name: str
    label: str
    low: str
    high: str
    parameter: str
    values: dict[str, float] | None = None  # by choice; None: the parameter is a scale


def _values(parameter: str, known: dict[tuple[str, ...], float], *, other: float) -> dict[str, float]:
    choices = next(param.values for param in PARAMS if param.name == parameter)
    return {
        choice: next((value for names, value in known.items() if choice in names), other)
        for choice in choices
    }


TRAITS = (
    Trait("skin", "Skin tone", "fair skin", "dark skin", "skin tone"),
    Trait("age", "Age", "young", "old", "age"),
    Trait("glasses", "Glasses", "no glasses", "glasses", "glasses", _values("glasses", {("none",): 0.0}, other=1.0)),
    Trait("sunglasses", "Sunglasses", "no sunglasses", "sunglasses", "glasses",
          _values("glasses", {("sunglasses",): 1.0}, other=0.0)),
    Trait("beard", "Beard", "no beard", "beard", "beard",
          _values("beard", {("none",): 0.0, ("stubble", "moustache"): 0.5}, other=1.0)),
    Trait("hair length", "Hair length", "short hair", "long hair", "hair style",
          _values("hair style", {LONG: 1.0, SHORT: 0.0}, other=0.5)),
    Trait("hair colour", "Hair colour", "dark hair", "light hair", "hair colour",
          _values("hair colour", {("blond", "white", "grey"): 1.0, ("black", "dark brown"): 0.0}, other=0.5)),
    Trait("red hair", "Red hair", "other hair", "red hair", "hair colour",
          _values("hair colour", {("red",): 1.0, ("chestnut",): 0.5}, other=0.0)),
    Trait("curls", "Curls", "straight hair", "curly hair", "hair style",
          _values("hair style", {("curly hair", "afro"): 1.0, ("long wavy hair", "bald"): 0.5}, other=0.0)),
    Trait("bald", "Baldness", "hair", "bald", "hair style", _values("hair style", {("bald",): 1.0}, other=0.0)),
    Trait("face width", "Face width", "narrow face", "wide face", "face width"),
    Trait("eye size", "Eye size", "small eyes", "big eyes", "eye size"),
    Trait("lips", "Lips", "thin lips", "full lips", "lips"),
    Trait("ears", "Ears", "small ears", "big ears", "ears"),
)  # fmt: skip


def identity_of(index: int, *, stream: int = STREAM) -> world.Subject:
    """Return identity ``index`` of the population, or of another stream."""
    return world.sample_subject(world.held_out(stream, index), "person")


def traits_of(subject: world.Subject) -> list[float]:
    """Return the value of each of ``TRAITS`` in [0, 1]; NaN for what cannot be seen on this person."""
    unseen = hidden(subject)
    choices = {param.name: param.values for param in PARAMS}
    found = []
    for trait in TRAITS:
        value = subject.identity[trait.parameter]
        if trait.parameter in unseen:
            found.append(UNKNOWN)
        elif trait.values is None:
            found.append(float(value))
        else:
            found.append(trait.values[choices[trait.parameter][int(value)]])
    return found


def stages(count: int = VIEWS) -> list[Picture]:
    """Return the pictures' views with an arbitrary person: one scene after the other, without hat and scarf."""
    anyone = identity_of(0)
    return [
        world.sample_picture(
            world.held_out(VIEWS_STREAM, index),
            world.Choice(subject=anyone, scene=scene, style="photo", wearable=""),
        )
        for index, scene in enumerate(world.SCENES[:count])
    ]


def portrait(subject: world.Subject, stage: Picture) -> Image.Image:
    """Draw a person in a view of :func:`stages`."""
    (placed,) = stage.placed
    return world.draw(
        Picture((Placed(subject, placed.view),), stage.scene, stage.light, stage.style, stage.seed)
    )


def prompts(words: str, views: list[Picture]) -> tuple[str, ...]:
    """Return a prompt per view: "a photo of a sks person on the beach"."""
    return tuple(f"a photo of a {words} {SCENE_PHRASES[stage.scene][0]}" for stage in views)


def labels(subjects: list[world.Subject]) -> np.ndarray:
    """Return (N, K) float32."""
    return np.asarray([traits_of(subject) for subject in subjects], np.float32)
