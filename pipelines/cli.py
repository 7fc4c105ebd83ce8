"""Repeat a run from the terminal: ``python -m pipelines.cli --settings run.json PHOTO...``.

Exit codes: 0 done, 1 the run failed, 2 bad input, 130 stopped with Ctrl-C (the current adapter is kept; a second Ctrl-C
exits immediately).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from pipelines.formats.table import check_format
from pipelines.runs.settings import MAX_CHARACTERS, read_settings

DONE, FAILED, REFUSED, STOPPED = 0, 1, 2, 130
LOOK_S = 0.2
COPIED = ("card.md", "metrics.json", "events.jsonl")
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".txt", ".zip")


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.cli", description="Repeat a run of Atelier from its settings."
    )
    parser.add_argument("--settings", required=True, type=Path, help="the JSON file that the Library exports")
    parser.add_argument(
        "--out", type=Path, help="a folder for copies of the adapter, its card and its samples"
    )
    parser.add_argument(
        "--format", default="safetensors", help="of the copy: safetensors, diffusers, peft or kohya"
    )
    parser.add_argument("--base", default="", help="embedded, a diffusers folder, a file or a Hub id")
    parser.add_argument("--name", default="", help="name of the run in the Library")
    parser.add_argument(
        "photos", nargs="+", type=Path, metavar="PHOTO", help="photographs, or a folder of them"
    )
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Train with the given arguments, show the progress in the terminal, and return the exit code."""
    wanted = arguments(words)
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from pipelines.studio import Studio

    studio = None
    try:
        check_format(wanted.format)
        told = _read(wanted.settings)
        _check_out(wanted.out)
        base = wanted.base or told["base"] or "embedded"
        studio = Studio(base=base)
        run_id = studio.training.start(
            told["method"],
            told["config"],
            _files(wanted.photos),
            captions=told["captions"],
            repeats=told["repeats"],
            name=wanted.name or told["name"],
        )
        state = follow(studio, run_id, screen=sys.stderr)
        if wanted.out is not None and state in ("done", "stopped"):
            _copy(studio, run_id, wanted.out, format=wanted.format)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return REFUSED
    except OSError as error:
        sys.stderr.write(
            f"{error.filename or 'A file'} cannot be used ({error.strerror}); check it and try again.\n"
        )
        return REFUSED
    finally:
        if studio is not None:
            studio.close()
    sys.stdout.write(f"{run_id} {state}\n")
    return {"done": DONE, "stopped": STOPPED}.get(state, FAILED)


def follow(studio: Any, run_id: str, *, screen: TextIO) -> str:
    """Show a run's progress until it ends and return its state; Ctrl-C stops it and keeps the adapter."""
    shown, since, seen = "", 0, ""
    while True:
        try:
            status = studio.training.status(run_id, since=since)
            since = status["next"]
            seen = next((_line(event) for event in reversed(status["events"]) if _line(event)), seen)
            left = f", about {status['eta_s']:.0f} s left" if status["eta_s"] is not None else ""
            line = f"{status['state']}: {seen}{left}" if seen else status["state"]
            if line != shown:
                screen.write(f"\r{line:<78.78}" if screen.isatty() else f"{line}\n")
                screen.flush()
                shown = line
            if status["state"] not in ("queued", "running", "stopping"):
                screen.write(
                    ("\n" if screen.isatty() else "") + (f"{status['error']}\n" if status["error"] else "")
                )
                return status["state"]
            time.sleep(LOOK_S)
        except KeyboardInterrupt:
            if studio.training.status(run_id)["state"] == "stopping":
                raise
            studio.training.stop(run_id)


def _line(event: dict[str, Any]) -> str:
    if event["kind"] == "stage":
        return f"{event['name']} {event['done']}/{event['total']}"
    if event["kind"] == "step":
        terms = ", ".join(f"{name} {value:.4f}" for name, value in event["terms"].items())
        return f"step {event['step']}/{event['total']}, {terms}"
    return ""


def _read(path: Path) -> dict[str, Any]:
    if path.stat().st_size > 4 * MAX_CHARACTERS:
        raise ValueError(
            f"{path.name} is far too large for settings; choose the JSON file that Atelier wrote."
        )
    try:
        return read_settings(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise ValueError(f"{path.name} is not text; choose the JSON file that Atelier wrote.") from None


def _files(paths: Sequence[Path]) -> list[Path]:
    """Return the photographs; those of a folder are sorted by name."""
    found = []
    for path in paths:
        inside = path.iterdir() if path.is_dir() else [path]
        found += sorted(file for file in inside if file == path or file.suffix.lower() in PICTURES)
    return found


def _check_out(folder: Path | None) -> None:
    if folder is not None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is there already and not an empty folder; choose another for --out.")


def _copy(studio: Any, run_id: str, folder: Path, *, format: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    written = studio.import_export.export(run_id, format)
    shutil.copy(written, folder / f"adapter{written.suffix}")
    source = Path(studio.training.status(run_id)["path"])
    for name in COPIED:
        if (source / name).is_file():
            shutil.copy(source / name, folder / name)
    shutil.copytree(source / "samples", folder / "samples", dirs_exist_ok=True)
    text = json.dumps(studio.library.settings(run_id), indent=1, ensure_ascii=False)
    (folder / "run.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
