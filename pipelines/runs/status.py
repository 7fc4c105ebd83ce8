"""What is told of runs while they wait, work or have ended, as frozen records. Nothing here needs torch."""

from dataclasses import dataclass


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
