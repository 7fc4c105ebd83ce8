"""The status of an experiment for display, computed from its folder, its runs and the current measurements."""

from collections.abc import Callable
from typing import Any

from pipelines.experiments import block_comparison as blocks
from pipelines.experiments import method_comparison as methods
from pipelines.experiments.progress import Measuring, rows_of, state_of
from pipelines.experiments.store import LAST, Experiment
from pipelines.runs.store import Run

REPORTS = {"methods": methods.report, "blocks": blocks.report}


def status_of(
    experiment: Experiment, *, find: Callable[[str], Run], measuring: Measuring, at_work: bool
) -> dict[str, Any]:
    """Return the status, see ``ExperimentService.status``; ``at_work`` means that one of its runs has not ended."""
    rows = rows_of(experiment, find=find, measuring=measuring)
    base = experiment.scores(methods.BASE) or {}
    points = list(experiment.points())
    return {
        "id": experiment.id,
        "name": experiment.name,
        "kind": experiment.kind,
        "created": experiment.created,
        "shipped": experiment.shipped,
        "base": experiment.base,
        "words": experiment.words,
        "config": experiment.config,
        "state": state_of(rows, pending=at_work or bool(measuring)),
        "done": sum(experiment.scores(row.key, step) is not None for row, step in points),
        "total": len(points),
        "doing": next((row["doing"] for row in rows if row["doing"]), ""),
        "rows": rows,
        "encoders": base.get("encoders", {}),
        "pictures": pictures_of(experiment),
        **REPORTS[experiment.kind](rows, base.get("reference", {})),
    }


def pictures_of(experiment: Experiment) -> dict[str, Any]:
    """Return the pictures of the finished rows: ``heads`` (prompts) and ``rows`` (label, one file per prompt)."""
    rows = []
    for row in experiment.rows:
        found = experiment.scores(row.key, LAST)
        if found and found.get("pictures"):
            rows.append(
                {"label": row.label, "files": [experiment.path / line[0] for line in found["pictures"]]}
            )
    return {"heads": list(experiment.config["prompts"]), "rows": rows}
