"""Where the data lies, and writing it whole or not at all. Needs no torch."""

import json
import os
import secrets
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any


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
    home = Path.home()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "Atelier"
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "Atelier"
    return Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share") / "atelier"


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
