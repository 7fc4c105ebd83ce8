"""Description of a picture: subjects, their views, a scene, a light and a style. Data only, no drawing."""

from dataclasses import dataclass

import numpy as np

from recipes import people, things
from recipes.kit import Identity, Param, View

PARAMS: dict[str, tuple[Param, ...]] = {"person": people.PARAMS, **things.PARAMS}
KINDS: tuple[str, ...] = tuple(PARAMS)
# Attributes named in captions: clearly visible at 128 px. Other parameters only distinguish individuals.
TOLD: dict[str, tuple[str, ...]] = {
    "person": ("hair colour", "glasses"),
    "dog": ("coat", "ears"),
    "cat": ("coat",),
    "plush toy": ("fabric",),
    "teapot": ("glaze",),
    "tower": ("type", "roof"),
    "bridge": ("type", "colour"),
}
NOT_WORTH_A_WORD: frozenset[str] = frozenset({"none", "plain", "no"})


@dataclass(frozen=True)
class Subject:
    """One individual: its kind (one of ``KINDS``) and the parameters that make it recognisable."""

    kind: str
    identity: Identity


@dataclass(frozen=True)
class Placed:
    """A subject with its view in one picture."""

    subject: Subject
    view: View


@dataclass(frozen=True)
class Picture:
    """A complete picture. ``seed`` varies scene and style, never a subject. Subjects are ordered from left to right."""

    placed: tuple[Placed, ...]
    scene: str
    light: str
    style: str
    seed: int


def attributes(subject: Subject, view: View | None = None) -> dict[str, str]:
    """Return the attributes of a subject that captions name (``TOLD``): parameter name -> word. A scale has a word
    below 0.3 and above 0.7.

    Attributes that cannot be seen on this subject, or in ``view``, are left out.
    """
    found = {}
    for param in PARAMS[subject.kind]:
        if param.name not in TOLD[subject.kind]:
            continue
        value = subject.identity[param.name]
        if param.values:
            word = param.values[int(value)]
        else:
            word = param.low if value < 0.3 else param.high if value > 0.7 else ""
        if word and word not in NOT_WORTH_A_WORD:
            found[param.name] = word
    for name in hidden(subject, view):
        found.pop(name, None)
    return found


def hidden(subject: Subject, view: View | None = None) -> frozenset[str]:
    """Return the names of the parameters that cannot be seen on this subject, or in ``view``."""
    if subject.kind == "person":
        return people.hidden(subject.identity, view)
    return things.hidden(subject.kind, subject.identity, view)


def vector(subject: Subject) -> np.ndarray:
    """Return the identity as a vector: scales in [0, 1], choices one-hot, scaled so that they lie 1 apart."""
    parts: list[float] = []
    for param in PARAMS[subject.kind]:
        value = subject.identity[param.name]
        if param.values:
            parts += [0.5**0.5 if i == int(value) else 0.0 for i in range(len(param.values))]
        else:
            parts.append(float(value))
    return np.asarray(parts, np.float64)


def distance(a: Subject, b: Subject) -> float:
    """Return the distance of two subjects of the same kind (0 = identical)."""
    return float(np.linalg.norm(vector(a) - vector(b)))


def nearest(subject: Subject, crowd: list[Subject], count: int = 50) -> list[Subject]:
    """Return the ``count`` subjects of ``crowd`` (same kind) most similar to ``subject``, the most similar first."""
    gaps = np.linalg.norm(np.stack([vector(other) for other in crowd]) - vector(subject), axis=1)
    return [crowd[i] for i in np.argsort(gaps, kind="stable")[:count].tolist()]
