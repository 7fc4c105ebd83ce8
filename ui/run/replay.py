"""The replay of a finished run: its events up to the current time of the replay."""

from dataclasses import dataclass
from typing import Any

LONGEST_WAIT_S = 2.0  # maximum between two events: time in the queue and long pauses are shortened to this
SPEEDS = (("1×", 1.0), ("4×", 4.0), ("16×", 16.0), ("Instantly", 0.0))
OVER = ("done", "stopped", "failed", "interrupted")


@dataclass(frozen=True)
class Replay:
    """Which run is replayed, how fast (0: instantly), and since when (seconds of the same clock as ``now``)."""

    run: str
    speed: float
    began: float


def clock(events: list[dict[str, Any]]) -> list[float]:
    """Return the time of each event in a replay at 1×: seconds after the first one, with long waits shortened."""
    moments: list[float] = []
    before: float | None = None
    for event in events:
        at = float(event.get("t", before or 0.0))
        waited = 0.0 if before is None else min(max(at - before, 0.0), LONGEST_WAIT_S)
        moments.append((moments[-1] if moments else 0.0) + waited)
        before = at
    return moments


def replayed(status: dict[str, Any], replay: Replay, *, now: float) -> tuple[dict[str, Any], bool]:
    """Return a run's status at this time of the replay, and whether the replay is over."""
    moments = clock(status["events"])
    length = moments[-1] if moments else 0.0
    reached = length if replay.speed <= 0 else (now - replay.began) * replay.speed
    if reached >= length:
        return status, True
    events = [event for event, moment in zip(status["events"], moments, strict=True) if moment <= reached]
    left = (length - reached) / replay.speed
    return {**status, "events": events, "state": "replaying", "eta_s": left, "error": ""}, False


def playable(status: dict[str, Any]) -> bool:
    """Return whether a run can be replayed: it has at least one step or one sample."""
    return any(event["kind"] in ("step", "sample") for event in status["events"])
