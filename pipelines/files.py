"""The data folder, atomic writes, sentences for disk errors, and temporary folders. Does not import torch."""

import errno
import json
import logging
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock, Timeout

LOCK = ".lock"
UNUSED_S = 2 * 3600.0  # a browser can download a copy for this long
SWEEP_S = 600.0
DAY_S = 24 * 3600.0

log = logging.getLogger(__name__)

REFUSED = "set ATELIER_HOME to a folder where your user may write, then start Atelier again."
DISK_TROUBLE = {
    errno.ENOSPC: "The disk is full, so this could not be saved; free some space (delete runs, for example), then try "
    "again.",
    errno.EDQUOT: "Your quota on this disk is used up, so this could not be saved; free some space (delete runs, for "
    "example), then try again.",
    errno.EROFS: f"The disk is read-only, so this could not be saved; make it writable, or {REFUSED}",
    errno.EACCES: f"The system refused access to a file or folder; allow it for your user, or {REFUSED}",
}
OS_ERROR = re.compile(r"\(os error (\d+)\)")  # how safetensors formats an OSError


class DiskError(OSError, ValueError):
    """A disk error, described by a sentence for the user."""


def disk_error(error: BaseException) -> DiskError | None:
    """Return a DiskError for a full or read-only disk or missing permissions; None for any other error."""
    if isinstance(error, DiskError):
        return error
    told = OS_ERROR.search(str(error))
    number = error.errno if isinstance(error, OSError) else int(told[1]) if told else None
    number = errno.EACCES if number == errno.EPERM else number
    return DiskError(DISK_TROUBLE[number]) if number in DISK_TROUBLE else None


@contextmanager
def disk_sentences() -> Iterator[None]:
    """Replace an error that :func:`disk_error` recognizes by its DiskError."""
    try:
        yield
    except Exception as error:
        if (known := disk_error(error)) is not None and known is not error:
            raise known from error
        raise


def data_root() -> Path:
    """Return the data folder: ATELIER_HOME, or the user's data directory; never the working directory.

    Raises ValueError if ATELIER_HOME is inside the working directory, because a web server may serve its files.
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


def prepare_data_root(root: Path) -> None:
    """Create the data folder and check that it is writable.

    Raises DiskError (a ValueError) if it is not. A full disk is only logged, so that runs can still be deleted.
    """
    try:
        with disk_sentences():
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=root) as stream:
                stream.write(b"1")
    except DiskError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in (errno.ENOSPC, errno.EDQUOT):
            log.warning("%s", error)
            return
        raise DiskError(
            f"The data folder {root} cannot be used: {str(error)[0].lower()}{str(error)[1:]}"
        ) from error
    except (FileExistsError, NotADirectoryError) as error:
        raise DiskError(
            f"The data folder {root} cannot be used, because a file has that name; {REFUSED}"
        ) from error


@disk_sentences()
def write_atomic(path: Path, content: bytes) -> None:
    """Write a file atomically: write a temporary file in the same folder, fsync it, then rename it.

    Raises DiskError.
    """
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
    """Write a value as indented JSON, atomically."""
    write_atomic(path, json.dumps(value, indent=1, ensure_ascii=False).encode())


def file_stem(words: str, *, default: str, most_bytes: int = 80) -> str:
    """Return text as a file name without suffix: letters and digits of any script in lower case, joined by hyphens.

    It has at most ``most_bytes`` bytes in UTF-8 and ends with a whole word if possible. ``default`` is used for text
    without letters and digits.
    """
    text = unicodedata.normalize("NFC", words.lower())
    spaced = "".join(each if unicodedata.category(each)[0] in "LMN" else " " for each in text)
    stem = "-".join(spaced.split())
    if len(stem.encode()) > most_bytes:
        cut = stem.encode()[:most_bytes].decode(errors="ignore")
        stem = cut.rpartition("-")[0] or cut
    return stem or default


def folder_bytes(folder: Path) -> int:
    """Return the total size in bytes of all files below a folder."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # a temporary file may be deleted meanwhile
            total += path.stat().st_size if path.is_file() else 0
    return total


class TemporaryFolder:
    """A temporary folder of this process for copies of files, at ``path``.

    :meth:`close` removes it. If the process was killed, the next process that creates a folder with the same prefix
    removes it; a running process holds the folder's lock.
    """

    def __init__(self, prefix: str) -> None:
        try:
            parent = Path(tempfile.gettempdir())
        except FileNotFoundError as error:  # also when the disk is full: Python test-writes in each candidate
            raise DiskError(
                "There is no folder for temporary files that can be written; free some space, or set TMPDIR to such a "
                "folder, then start Atelier again."
            ) from error
        for other in parent.glob(f"{prefix}*"):
            _remove_left_over(other)
        with disk_sentences():
            self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent)).resolve()
            self._lock = FileLock(self.path / LOCK)
            self._lock.acquire()
        self._swept = time.monotonic()

    def sweep(self, *, unused_s: float = UNUSED_S, every_s: float = SWEEP_S) -> None:
        """Remove files last modified more than ``unused_s`` seconds ago; does nothing within ``every_s`` of the last call."""
        if time.monotonic() - self._swept < every_s:
            return
        self._swept = time.monotonic()
        oldest = time.time() - unused_s
        for path in sorted(
            self.path.rglob("*"), reverse=True
        ):  # the contents of a folder before the folder itself
            with suppress(OSError):  # a folder that is not empty, or a file deleted meanwhile
                if path.name == LOCK or path.stat().st_mtime > oldest:
                    continue
                path.rmdir() if path.is_dir() else path.unlink()

    def close(self) -> None:
        """Remove the folder and its contents."""
        self._lock.release()
        shutil.rmtree(self.path, ignore_errors=True)


def _remove_left_over(folder: Path) -> None:
    """Remove the temporary folder of a process that has ended; without a lock file, only if it is a day old."""
    try:
        if (folder / LOCK).exists():
            with FileLock(folder / LOCK, timeout=0):
                pass
        elif time.time() - folder.stat().st_mtime < DAY_S:
            return
    except (Timeout, OSError):  # its process is still running, or another user owns it
        return
    shutil.rmtree(folder, ignore_errors=True)
