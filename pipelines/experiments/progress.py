"""The progress of an experiment: each row's state, from its scores, its runs and the current measurements."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipelines.experiments.store import LAST, Experiment, PlannedRow, PlannedRun
from pipelines.runs.store import Run

AT_WORK = ("running", "stopping", "queued", "measuring")
ENDED = ("done", "failed")
# If a row has several runs, its state is the first of these that occurs.
ORDER = ("failed", "stopping", "running", "queued", "interrupted", "stopped", "done")
Measuring = Mapping[tuple[str, int], tuple[int, int] | None]


def rows_of(
    experiment: Experiment, *, find: Callable[[str], Run], measuring: Measuring
) -> list[dict[str, Any]]:
    """Return the rows as dictionaries.

    Their keys are ``key``, ``label``, ``state`` (queued, running, measuring, done, failed, interrupted or stopped),
    ``message``, ``doing`` (the current activity as text), ``scores``, ``facts``, ``points`` by step, ``runs`` (ids).
    """
    states = {planned.key: _state_of_run(planned, find=find) for planned in experiment.runs}
    return [_row(experiment, row, states=states, measuring=measuring) for row in experiment.rows]


def state_of(rows: Sequence[Mapping[str, Any]], *, pending: bool) -> str:
    """Return "running", "done" (every row measured or failed) or "interrupted" (it can be resumed)."""
    states = {row["state"] for row in rows}
    if pending or states & set(AT_WORK):
        return "running"
    return "done" if states <= set(ENDED) else "interrupted"


def _state_of_run(planned: PlannedRun, *, find: Callable[[str], Run]) -> tuple[str, str, str]:
    """Return the state of a run, why it failed, and its progress as text."""
    if planned.problem:
        return "failed", planned.problem, ""
    if not planned.run:
        return "interrupted", "", ""
    try:
        run = find(planned.run)
    except ValueError:
        return "failed", "Its run was deleted; resume the experiment to train it again.", ""
    state = run.state
    if state == "failed":
        return state, str(run.last_state().get("message", "")), ""
    if state != "running":
        return state, "", ""
    last = next((event for event in reversed(run.events()) if event["kind"] in ("step", "stage")), None)
    if last is None:
        return state, "", f"{planned.label}: starting"
    at = f"step {last['step']} of {last['total']}" if last["kind"] == "step" else str(last["name"])
    return state, "", f"{planned.label}: {at}"


def _row(
    experiment: Experiment,
    row: PlannedRow,
    *,
    states: Mapping[str, tuple[str, str, str]],
    measuring: Measuring,
) -> dict[str, Any]:
    found = experiment.scores(row.key)
    state, message, doing = _state_of_row(row, found, states=states, measuring=measuring)
    return {
        "key": row.key,
        "label": row.label,
        "state": state,
        "message": message,
        "doing": doing,
        "scores": (found or {}).get("scores", {}),
        "facts": (found or {}).get("facts", {}),
        "points": list(_points(experiment, row)),
        "runs": [experiment.run_of(part.run).run for part in row.parts],
    }


def _state_of_row(
    row: PlannedRow,
    found: Mapping[str, Any] | None,
    *,
    states: Mapping[str, tuple[str, str, str]],
    measuring: Measuring,
) -> tuple[str, str, str]:
    by_step = {step: progress for (key, step), progress in measuring.items() if key == row.key}
    drawing = next((progress for progress in by_step.values() if progress is not None), None)
    doing = f"Measuring {row.label}: {drawing[0]} of {drawing[1]} prompts generated" if drawing else ""
    if found is not None:
        return ("failed", str(found["error"]), doing) if "error" in found else ("done", "", doing)
    if by_step:
        return ("measuring" if drawing else "queued"), "", doing
    mine = [states[part.run] for part in row.parts]
    first = min(mine, key=lambda each: ORDER.index(each[0]), default=("interrupted", "", ""))
    return first if first[0] != "done" else ("interrupted", "", "")  # trained, but not being measured


def _points(experiment: Experiment, row: PlannedRow) -> list[dict[str, Any]]:
    total = max((experiment.run_of(part.run).config["steps"] for part in row.parts), default=0)
    points = []
    for step in (*row.steps, LAST):
        found = experiment.scores(row.key, step)
        if found is not None and "error" not in found:
            points.append({"step": step or total, "last": step == LAST, "scores": found["scores"]})
    return points
