"""Where the data lies, writing it whole or not at all, and temporary copies of it. Needs no torch."""

import json
import os
import secrets
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock, Timeout

LOCK = ".lock"
UNUSED_S = 2 * 3600.0  # for so long a browser may come back for a copy
SWEEP_S = 600.0
DAY_S = 24 * 3600.0


def data_root() -> Path:
    """Return the folder of all data: ATELIER_HOME, or the user's data directory; never the working directory.

    Raises ValueError when ATELIER_HOME lies in the working directory, which a web server may hand out.
    """
    chosen = os.environ.get("ATELIER_HOME", "").strip()
    if chosen:
        root = Path(chosen).expanduser().resolve()
        if root.is_relative_to(Path.cwd()):
            raise ValueError(
                f"ATELIER_HOME is {root}, inside the working directory, whose files a browser may read; "
                "choose a folder elsewhere."
            )
        return root
    name = "Atelier" if sys.platform in ("win32", "darwin") else "atelier"
    return platformdirs.user_data_path(name, appauthor=False)


def write_atomic(path: Path, content: bytes) -> None:
    """Write a whole file or nothing: to a temporary name beside it, to the disk, then into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a value as readable JSON, atomically."""
    write_atomic(path, json.dumps(value, indent=1, ensure_ascii=False).encode())


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files under a folder."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # a temporary file may go while we look
            total += path.stat().st_size if path.is_file() else 0
    return total


class TemporaryFolder:
    """A folder of this process, for copies of files; ``path`` is where it lies.

    It is removed by :meth:`close`, or by the next process that makes one with the same prefix after this one was
    killed: a living process holds the folder's lock.
    """

    def __init__(self, prefix: str) -> None:
        parent = Path(tempfile.gettempdir())
        for other in parent.glob(f"{prefix}*"):
            _remove_left_over(other)
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent)).resolve()
        self._lock = FileLock(self.path / LOCK)
        self._lock.acquire()
        self._swept = time.monotonic()

    def sweep(self, *, unused_s: float = UNUSED_S, every_s: float = SWEEP_S) -> None:
        """Remove files that were written or touched more than ``unused_s`` ago, at most once in ``every_s``."""
        if time.monotonic() - self._swept < every_s:
            return
        self._swept = time.monotonic()
        oldest = time.time() - unused_s
        for path in sorted(self.path.rglob("*"), reverse=True):  # what a folder holds before the folder
            with suppress(OSError):  # a folder that is not empty, a file that has gone
                if path.name == LOCK or path.stat().st_mtime > oldest:
                    continue
                path.rmdir() if path.is_dir() else path.unlink()

    def close(self) -> None:
        """Remove the folder with all that is in it."""
        self._lock.release()
        shutil.rmtree(self.path, ignore_errors=True)


def _remove_left_over(folder: Path) -> None:
    """Remove the temporary folder of a process that has ended; one without a lock when it is a day old."""
    try:
        if (folder / LOCK).exists():
            with FileLock(folder / LOCK, timeout=0):
                pass
        elif time.time() - folder.stat().st_mtime < DAY_S:
            return
    except (Timeout, OSError):  # its process lives, or it is somebody else's
        return
    shutil.rmtree(folder, ignore_errors=True)
