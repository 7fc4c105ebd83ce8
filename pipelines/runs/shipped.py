"""The runs that are shipped: examples, and sequences of concepts. Does not import torch.

A shipped sequence is a folder with one run per concept, ``assets/sequences/people/1``, ``2``, ... To keep it small, each
run's file holds its own concept only; the file of all concepts up to it is put together in the data folder when a run
is first used.
"""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

from pipelines.config import ASSETS
from pipelines.files import data_root
from pipelines.models.inspection import read_header
from pipelines.runs.store import Run, read_run

EXAMPLE_PREFIX = "example-"
SEQUENCES = ASSETS / "sequences"
ADAPTER = "adapter.safetensors"


def example_files() -> dict[str, Path]:
    """Return the description of each shipped example by name."""
    return {path.parent.name: path for path in sorted((ASSETS / "examples").glob("*/example.json"))}


def sequence_folders() -> dict[str, Path]:
    """Return the run folders of the shipped sequences by name: "people-1" is the first concept of "people"."""
    found = sorted(SEQUENCES.glob("*/*/run.json"), key=lambda path: (path.parts[-3], int(path.parts[-2])))
    return {f"{path.parts[-3]}-{path.parts[-2]}": path.parent for path in found}


def shipped_run(run_id: str) -> Run:
    """Return the finished run of an example or of a shipped sequence. Raises ValueError for an unknown id."""
    name = run_id.removeprefix(EXAMPLE_PREFIX)
    if (example := example_files().get(name)) is not None:
        return read_run(example.parent / json.loads(example.read_text(encoding="utf-8"))["run"])
    if name in sequence_folders():
        return read_run(_whole(name))
    raise ValueError(f"There is no example {run_id[:60]!r}.")


def find_beside(run: Run, run_id: str) -> Run:
    """Return another run of the same store, or a shipped one. Raises ValueError for an unknown id."""
    return shipped_run(run_id) if run_id.startswith(EXAMPLE_PREFIX) else read_run(run.path.parent / run_id)


def _whole(name: str) -> Path:
    """Return a copy of a shipped sequence's run folder in which the adapter holds all concepts up to its own."""
    files = _files(name)
    stamps = [f"{file}:{file.stat().st_size}:{file.stat().st_mtime_ns}" for file in files]
    stamp = hashlib.sha256("\n".join(stamps).encode()).hexdigest()[:16]
    target = data_root() / "sequences" / f"{name}-{stamp}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".draft-", dir=target.parent))
    shutil.copytree(files[-1].parent, unfinished, dirs_exist_ok=True)
    _join(files, unfinished / ADAPTER)
    try:
        os.replace(unfinished, target)
    except OSError:  # another process was faster
        shutil.rmtree(unfinished, ignore_errors=True)
    return target


def _files(name: str) -> list[Path]:
    """Return the adapter's file of each concept of a shipped sequence up to ``name``, in order."""
    folders, files = sequence_folders(), []
    while name:
        files.insert(0, folders[name] / ADAPTER)
        parents = read_run(folders[name]).parents
        name = parents[-1].removeprefix(EXAMPLE_PREFIX) if parents else ""
    return files


def _join(files: list[Path], target: Path) -> None:
    """Write the tensors of all files into one, with the header of the last."""
    from safetensors.numpy import load_file, save_file

    tensors = {name: value for file in files for name, value in load_file(file).items()}
    save_file(tensors, target, metadata=read_header(files[-1])["__metadata__"])
