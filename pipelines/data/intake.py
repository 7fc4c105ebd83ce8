"""Uploaded files sorted into photographs, their masks and their captions, each under a name of its own.

An archive is unpacked, so that every photograph in it can be cropped, captioned and left out like a single one.
"""

from __future__ import annotations

import re
import secrets
import shutil
import zipfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pipelines.data.photographs import (
    MASK_ENDING,
    MAX_PHOTOS,
    read_caption,
    read_photos,
    shown_name,
    zip_files,
)

CHECK_PX = 64
MAX_CAPTION_BYTES = 10_000
MAX_NAME = 100
NAMED = "named"
UNSAFE = re.compile(r"[^\w .,()+-]")


@dataclass
class Intake:
    """Sorted files: ``photos`` and ``masks`` by the photograph's name, ``captions``, and a sentence for each refused file."""

    photos: dict[str, Path] = field(default_factory=dict)
    masks: dict[str, Path] = field(default_factory=dict)
    captions: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)


def sort_files(paths: Sequence[Path], *, into: Path, taken: Collection[str] = ()) -> Intake:
    """Sort uploaded files; members of archives, and files whose name is ``taken``, are written to the folder ``into``.

    A .txt file is the caption and a .mask.png file the mask of the photograph of the same name, in the same archive or
    among the single files; a single one may also belong to a photograph that is already there. Nothing is decoded.
    """
    intake, used = Intake(), {name.lower() for name in taken}
    single: list[tuple[str, Path]] = []
    for path in map(Path, paths):
        if not zipfile.is_zipfile(path):
            single.append((path.name, path))
            continue
        try:
            _sort(list(_unpacked(path, into)), intake, used, into=into)
        except ValueError as error:
            intake.refused.append(f"{shown_name(path.name)} {error}")
    _sort(single, intake, used, into=into, known=taken)
    return intake


def check_mask(photo: Path, mask: Path) -> None:
    """Raise ValueError with one sentence unless ``mask`` is a picture of the photograph's size.

    Both files must have the names that belong together.
    """
    read_photos([photo, mask], size_px=CHECK_PX)


def _unpacked(path: Path, into: Path) -> Iterator[tuple[str, Path]]:
    for place, (name, content) in enumerate(zip_files(path)):
        # never under the name in the archive, which is untrusted
        target = into / f"{secrets.token_hex(4)}-{place:03d}"
        target.write_bytes(content)
        yield UNSAFE.sub("_", name)[-MAX_NAME:], target


def _sort(
    files: list[tuple[str, Path]], intake: Intake, used: set[str], *, into: Path, known: Collection[str] = ()
) -> None:
    """Add the files of one archive, or the single files, to ``intake``."""
    by_stem = {_stem(name): name for name in known}
    for name, path in files:
        if name.lower().endswith((MASK_ENDING, ".txt")):
            continue
        own = _free(name, used)
        used.add(own.lower())
        by_stem[_stem(name)] = own
        intake.photos[own] = _named(path, own, into)
    for name, path in files:
        is_mask = name.lower().endswith(MASK_ENDING)
        stem = name[: -len(MASK_ENDING)].lower() if is_mask else _stem(name)
        photo = by_stem.get(stem)
        if is_mask and photo is None:
            intake.refused.append(f"{shown_name(name)} is a mask without its photograph; add the photograph.")
        elif is_mask and photo:
            intake.masks[photo] = _named(path, f"{PurePosixPath(photo).stem}{MASK_ENDING}", into)
        elif name.lower().endswith(".txt") and photo:
            try:
                with path.open("rb") as stream:
                    intake.captions[photo] = read_caption(stream.read(MAX_CAPTION_BYTES))
            except ValueError as error:
                intake.refused.append(f"{shown_name(name)} {error}")


def _free(name: str, used: Collection[str]) -> str:
    """Return the name, with a number if it, or one with the same stem, is used: masks and captions go by the stem."""
    stems = {PurePosixPath(other).stem for other in used}
    stem, suffix = PurePosixPath(name).stem, PurePosixPath(name).suffix
    numbers = (f"{stem}-{number}" for number in range(2, 10 * MAX_PHOTOS + len(stems)))
    return (
        name
        if stem.lower() not in stems
        else next(f"{own}{suffix}" for own in numbers if own.lower() not in stems)
    )


def _named(path: Path, name: str, into: Path) -> Path:
    """Return the file under this name: itself if it has it, else a copy in ``into``."""
    if path.name == name:
        return path
    target = into / NAMED / name
    target.parent.mkdir(exist_ok=True)
    if path.parent == into:
        return path.rename(target)
    return Path(shutil.copyfile(path, target))


def _stem(name: str) -> str:
    return PurePosixPath(name).stem.lower()
