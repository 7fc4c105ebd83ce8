"""A finished run played again: its events up to the moment that the replay's clock has reached."""

from dataclasses import dataclass
from typing import Any

LONGEST_WAIT_S = 2.0  # of anything between two events; nobody wants to watch a queue, or a night's pause
SPEEDS = (("1×", 1.0), ("4×", 4.0), ("16×", 16.0), ("At once", 0.0))
OVER = ("done", "stopped", "failed", "interrupted")


@dataclass(frozen=True)
class Replay:
    """Which run is played, how fast (0 is at once), and since when (seconds of the same clock as ``now``)."""

    run: str
    speed: float
    began: float


def clock(events: list[dict[str, Any]]) -> list[float]:
    """Return when each event happens in a replay at 1×: seconds from the first one, long waits shortened."""
    moments: list[float] = []
    before: float | None = None
    for event in events:
        at = float(event.get("t", before or 0.0))
        waited = 0.0 if before is None else min(max(at - before, 0.0), LONGEST_WAIT_S)
        moments.append((moments[-1] if moments else 0.0) + waited)
        before = at
    return moments


def replayed(status: dict[str, Any], replay: Replay, *, now: float) -> tuple[dict[str, Any], bool]:
    """Return a run's status as it was at this moment of the replay, and whether the replay is over."""
    moments = clock(status["events"])
    length = moments[-1] if moments else 0.0
    reached = length if replay.speed <= 0 else (now - replay.began) * replay.speed
    if reached >= length:
        return status, True
    events = [event for event, moment in zip(status["events"], moments, strict=True) if moment <= reached]
    left = (length - reached) / replay.speed
    return {**status, "events": events, "state": "replaying", "eta_s": left, "error": ""}, False


def playable(status: dict[str, Any]) -> bool:
    """Return whether a run has anything to play: at least one step or one sample."""
    return any(event["kind"] in ("step", "sample") for event in status["events"])
