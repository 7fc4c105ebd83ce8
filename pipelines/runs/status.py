"""What is told of runs while they wait, work or have ended, as frozen records. Nothing here needs torch."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class QueueRow:
    """A run at work (``position`` 0, on its ``device``) or in the queue (1 is next; ``device`` is "").

    ``seconds_left`` is the time until it will be done, with what stands before it. ``waits_for`` are the names of the
    unfinished runs that it comes after.
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
class Card:
    """A finished or unfinished run as the Library shows it.

    ``created`` is a unix time, ``seconds`` the time at work, ``bytes`` the size of the whole folder. ``trainable`` is the
    number of trained values and ``kind`` that of the adapter, None and "" before there is one; ``thumbnail`` is the path
    of the best sample. ``broken`` says why a folder cannot be read, "" where it can.
    """

    id: str
    name: str
    state: str
    method: str = ""
    created: float = 0.0
    identifier: str = ""
    class_noun: str = ""
    trigger: str = ""
    base: str = ""
    base_name: str = ""
    notes: str = ""
    shipped: bool = False
    source: str = ""
    thumbnail: str | None = None
    bytes: int = 0
    seconds: float = 0.0
    trainable: int | None = None
    kind: str = ""
    broken: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it as programs get it over the network: ``broken`` only where something is."""
        return {name: value for name, value in asdict(self).items() if name != "broken" or value}
