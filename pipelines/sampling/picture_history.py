"""The pictures that each visitor generated: PNG files with their settings, in a bounded folder. Does not import torch.

A visitor is a random key that only the visitor's browser stores. On a hosted copy, nobody sees the pictures of others.
"""

import hashlib
import os
import re
import secrets
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.files import write_atomic
from pipelines.sampling.image_metadata import picture_name, read_png_settings

MOST_PICTURES = 24  # of one visitor
MOST_VISITORS = 60
VISITOR = re.compile(r"[0-9a-f]{32}")
PICTURE_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class KeptPicture:
    """A picture with its settings as in its PNG file; ``before`` is the same seed without the adapter.

    ``id`` is equal for equal settings; "" for a picture that is not in a history.
    """

    id: str
    path: Path
    before: Path | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def file_name(self) -> str:
        """The file's name for a download: prompt and seed."""
        return picture_name(str(self.settings.get("prompt", "")), int(self.settings.get("seed", 0)))


class PictureHistory:
    """The generated pictures of all visitors, in ``root/pictures/<visitor>``."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "pictures"

    @staticmethod
    def new_visitor() -> str:
        """Return an unguessable key."""
        return secrets.token_hex(16)

    def add(self, visitor: str, picture: Path, *, before: Path | None = None) -> KeptPicture:
        """Keep a copy of a generated picture as the newest one; the oldest ones beyond the limits are removed.

        A picture with the same settings is replaced. Raises ValueError for an invalid key or a picture without
        settings, and DiskError.
        """
        settings = read_png_settings(picture)
        folder = self._folder(visitor)
        target = folder / f"{_identity(settings)}.png"
        if before is not None:
            write_atomic(_before(target), before.read_bytes())
        write_atomic(target, picture.read_bytes())
        now = time.time_ns()  # a file system's own clock may be too coarse to order pictures of one request
        os.utime(target, ns=(now, now))
        os.utime(folder)
        for _, old in _newest_first(folder)[MOST_PICTURES:]:
            _remove(old)
        for _, other in _newest_first(self.folder, pattern="*")[MOST_VISITORS:]:
            shutil.rmtree(other, ignore_errors=True)
        return _kept(target)

    def list(self, visitor: str) -> list[KeptPicture]:
        """Return a visitor's pictures, the newest first; [] for an unknown or invalid key."""
        if not VISITOR.fullmatch(visitor):
            return []
        found = []
        for _, path in _newest_first(self._folder(visitor)):
            with suppress(ValueError, OSError):  # removed meanwhile, or damaged
                found.append(_kept(path))
        return found

    def find(self, visitor: str, picture_id: str) -> KeptPicture:
        """Return one picture. Raises ValueError if it is not there."""
        path = self._folder(visitor) / f"{picture_id}.png"
        if not PICTURE_ID.fullmatch(picture_id) or not path.is_file():
            raise ValueError(
                f"This picture is no longer in the history, which keeps the latest {MOST_PICTURES}; choose another one."
            )
        return _kept(path)

    def remove(self, visitor: str, picture_id: str = "") -> None:
        """Remove one picture, or without an id all of the visitor's pictures."""
        folder = self._folder(visitor)
        if not picture_id:
            shutil.rmtree(folder, ignore_errors=True)
        elif PICTURE_ID.fullmatch(picture_id):
            _remove(folder / f"{picture_id}.png")

    def _folder(self, visitor: str) -> Path:
        if not VISITOR.fullmatch(visitor):
            raise ValueError("The key of the picture history is invalid; reload the page.")
        return self.folder / visitor


def _identity(settings: dict[str, Any]) -> str:
    return hashlib.sha256(repr(sorted(settings.items())).encode()).hexdigest()[:16]


def _before(picture: Path) -> Path:
    return picture.parent / "before" / picture.name


def _kept(path: Path) -> KeptPicture:
    before = _before(path)
    settings = read_png_settings(path)
    return KeptPicture(path.stem, path, before if before.is_file() else None, settings)


def _newest_first(folder: Path, *, pattern: str = "*.png") -> list[tuple[int, Path]]:
    found = []
    for path in folder.glob(pattern):
        with suppress(OSError):
            found.append((path.stat().st_mtime_ns, path))
    return sorted(found, reverse=True)


def _remove(picture: Path) -> None:
    for path in (picture, _before(picture)):
        path.unlink(missing_ok=True)
