"""Dataclasses that describe queued, running and finished runs. Does not import torch."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class QueueRow:
    """A running run (``position`` 0, on its ``device``) or a queued one (1 is next; ``device`` is "").

    ``seconds_left`` is the estimated time until it is done, including the runs before it. ``waits_for`` are the names
    of the unfinished runs that it depends on.
    """

    run: str  # its id
    owner: str
    name: str
    state: str
    position: int
    waits_for: tuple[str, ...] = ()
    device: str = ""
    seconds_left: float = 0.0


@dataclass(frozen=True)
class Measurement:
    """A measurement of an experiment that is being made: its row, and how many of the ``total`` prompts are drawn."""

    experiment: str  # its id
    name: str
    row: str
    done: int
    total: int


@dataclass(frozen=True)
class Working:
    """What a device is doing: ``kind`` is "run", "experiment" (a measurement) or "job" (for example one picture).

    ``method`` is the title of a run's method. ``doing`` is the current stage, or "" between two training steps; ``share``
    is the finished part of it in [0, 1], None if it is unknown. ``seconds_left`` is known for runs only.
    """

    kind: str
    id: str
    name: str
    method: str = ""
    state: str = "running"
    doing: str = ""
    share: float | None = None
    seconds_left: float | None = None


@dataclass(frozen=True)
class Ended:
    """A run that has just ended."""

    id: str
    name: str
    method: str
    state: str


@dataclass(frozen=True)
class Activity:
    """The work of all devices; ``version`` changes whenever something changes that a page may show."""

    running: tuple[Working, ...]
    queued: int
    ended: Ended | None
    version: str


@dataclass(frozen=True)
class Card:
    """A run as shown in the Library.

    ``preset`` is the preset that its settings come from ("" if they were changed), ``created`` is a unix time, ``seconds``
    the running time, ``bytes`` the size of the run's folder. ``trainable`` is the number of trained values (None without
    an adapter), ``kind`` the adapter's kind ("" without one), ``thumbnail`` the path of the best sample. ``origin`` says
    in words what a combined or imported run was made from. ``broken`` is the reason why the folder cannot be read, or "".
    """

    id: str
    name: str
    state: str
    method: str = ""
    preset: str = ""
    created: float = 0.0
    identifier: str = ""
    class_noun: str = ""
    trigger: str = ""
    base: str = ""
    base_name: str = ""
    notes: str = ""
    shipped: bool = False
    source: str = ""
    origin: str = ""
    thumbnail: str | None = None
    bytes: int = 0
    seconds: float = 0.0
    trainable: int | None = None
    kind: str = ""
    broken: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the card for the API; ``broken`` is included only if it is not ""."""
        return {name: value for name, value in asdict(self).items() if name != "broken" or value}
