"""What a picture shows: subjects, their views, a scene, a light and a style. Plain data, no drawing."""

from dataclasses import dataclass

import numpy as np

from recipes import people, things
from recipes.kit import Identity, Param, View

PARAMS: dict[str, tuple[Param, ...]] = {"person": people.PARAMS, **things.PARAMS}
KINDS: tuple[str, ...] = tuple(PARAMS)
NOT_WORTH_A_WORD: frozenset[str] = frozenset({"none", "plain", "no"})


@dataclass(frozen=True)
class Subject:
    """One individual: its kind (one of ``KINDS``) and the parameters that make it recognisable."""

    kind: str
    identity: Identity


@dataclass(frozen=True)
class Placed:
    """A subject as one picture shows it."""

    subject: Subject
    view: View


@dataclass(frozen=True)
class Picture:
    """A whole picture. ``seed`` varies the scene and the style, never a subject. Subjects run from left to right."""

    placed: tuple[Placed, ...]
    scene: str
    light: str
    style: str
    seed: int


def attributes(subject: Subject, view: View | None = None) -> dict[str, str]:
    """The nameable attributes of a subject: parameter name -> word. A scale has a word below 0.3 and above 0.7.

    What cannot be seen on this subject, or in ``view``, is left out.
    """
    found = {}
    for param in PARAMS[subject.kind]:
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


def _choice(subject: Subject, name: str) -> str:
    values = next(param.values for param in PARAMS[subject.kind] if param.name == name)
    return values[int(subject.identity[name])]


def hidden(subject: Subject, view: View | None = None) -> frozenset[str]:
    """Names of the parameters that cannot be seen on this subject, or in ``view``."""
    if subject.kind == "person":
        return people.hidden(subject.identity, view)
    if subject.kind in ("dog", "cat") and _choice(subject, "pattern") == "plain":
        return frozenset({"markings"})
    if subject.kind == "bridge":
        return _hidden_of_bridge(_choice(subject, "type"))
    if subject.kind == "tower":
        return _hidden_of_tower(_choice(subject, "type"))
    return frozenset()


def _hidden_of_bridge(built: str) -> frozenset[str]:
    unseen = set() if built in ("suspension", "cable-stayed") else {"tower top", "tower height"}
    return frozenset(unseen | (set() if built == "arch" else {"rise"}))


def _hidden_of_tower(built: str) -> frozenset[str]:
    unseen = set() if built in ("pagoda", "skyscraper") else {"levels"}
    return frozenset(unseen | ({"roof"} if built == "skyscraper" else set()))


def vector(subject: Subject) -> np.ndarray:
    """The identity as numbers: scales in [0, 1], choices one-hot, scaled so that two different choices lie 1 apart."""
    parts: list[float] = []
    for param in PARAMS[subject.kind]:
        value = subject.identity[param.name]
        if param.values:
            parts += [0.5**0.5 if i == int(value) else 0.0 for i in range(len(param.values))]
        else:
            parts.append(float(value))
    return np.asarray(parts, np.float64)


def distance(a: Subject, b: Subject) -> float:
    """How unlike two subjects of the same kind are (0 = identical)."""
    return float(np.linalg.norm(vector(a) - vector(b)))


def nearest(subject: Subject, crowd: list[Subject], count: int = 50) -> list[Subject]:
    """The ``count`` subjects of ``crowd`` (same kind) most like ``subject``, the most alike first."""
    gaps = np.linalg.norm(np.stack([vector(other) for other in crowd]) - vector(subject), axis=1)
    return [crowd[i] for i in np.argsort(gaps, kind="stable")[:count].tolist()]
