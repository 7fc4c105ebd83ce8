"""Shared by the experiment benchmarks: a Studio with an optional permanent data folder, waiting, and text tables.

With ``--home DIR`` the runs and figures are kept there, and an interrupted benchmark resumes.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from pipelines.evaluation.measures import ARROWS
from pipelines.experiments.settings import ExperimentConfig
from pipelines.studio import Studio

POLL_S = 0.5


def options_of(description: str) -> argparse.ArgumentParser:
    """Return the command-line options of an experiment benchmark."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--preset", default="Quick", help="of every method; its first where it has none of that name"
    )
    parser.add_argument(
        "--steps", type=int, default=0, help="training steps of every run; 0: the preset's own"
    )
    parser.add_argument("--seeds", type=int, default=2, help="pictures of each prompt")
    parser.add_argument("--threads", type=int, default=2, help="cores to use")
    parser.add_argument("--home", type=Path, help="keep runs and figures here, and go on with what is there")
    parser.add_argument("--json", type=Path, help="write everything here")
    parser.add_argument("--sheets", type=Path, help="write the labelled pictures and charts into this folder")
    return parser


@contextmanager
def studio_of(args: argparse.Namespace) -> Iterator[Studio]:
    """Yield a Studio on ``--home``, or on a temporary folder."""
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as passing:
        studio = Studio(root=(args.home or Path(passing)).resolve())
        try:
            yield studio
        finally:
            studio.close()


def performed(
    studio: Studio, kind: str, config: ExperimentConfig, photos: list[Path], *, name: str, **asked: Any
) -> dict[str, Any]:
    """Return the status of a finished experiment: resume the one of this name, or start it."""
    known = {row["name"]: row["id"] for row in studio.experiments.list() if row["kind"] == kind}
    made = known.get(name) or studio.experiments.start(kind, config, photos, name=name, **asked)
    if studio.experiments.status(made)["state"] != "running":
        studio.experiments.resume(made)
    told = ""
    while (status := studio.experiments.status(made))["state"] == "running":
        if status["doing"].partition(":")[0] != told:
            told = status["doing"].partition(":")[0]
            print(f"{name}: {status['done']} of {status['total']} measured; {status['doing']}", flush=True)
        time.sleep(POLL_S)
    return status


def text_table(table: Mapping[str, Any]) -> str:
    """Return one table of a status as aligned text, with intervals after the scores."""
    columns = table["columns"]
    width = max(len(table["title"]), *(len(row["label"]) for row in table["rows"]))
    lines = [f"{table['title']:<{width}}  " + "  ".join(f"{_head(column):>20}" for column in columns)]
    for row in table["rows"]:
        cells = (text_cell(row["cells"][column["key"]], unit=column["unit"]) for column in columns)
        trouble = f"  {row['state']}: {row['message']}" if row["state"] != "done" else ""
        lines.append(f"{row['label']:<{width}}  " + "  ".join(f"{cell:>20}" for cell in cells) + trouble)
    return "\n".join(lines)


def _head(column: Mapping[str, Any]) -> str:
    return f"{column['label']} {ARROWS[column['better']]}".strip()


def text_cell(found: Mapping[str, Any] | None, *, unit: str) -> str:
    """Return one number as text, with its interval if it has one."""
    if found is None or found["value"] is None:
        return "-"
    if unit != "score":
        return f"{found['value']:,.0f}" if unit != "seconds" else f"{found['value']:.1f}"
    if found.get("low") is None:
        return f"{found['value']:.3f}"
    return f"{found['value']:.3f} ({found['low']:.2f}..{found['high']:.2f})"


def keep_sheets(studio: Studio, status: Mapping[str, Any], folder: Path | None) -> None:
    """Copy an experiment's pictures and chart into a folder, named after the experiment."""
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for label, path in studio.experiments.files(status["id"]).items():
        if path.suffix == ".png":
            (folder / f"{status['name'].replace(' ', '-')}-{label}.png").write_bytes(path.read_bytes())


def written(path: Path | None, found: Mapping[str, Any]) -> None:
    """Write the results as JSON if a path is given."""
    if path is not None:
        path.write_text(json.dumps(found, indent=1, default=str))
