"""The common part of all file formats: a file, folder or zip described by its safetensors headers. Needs no torch."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pipelines.archives import RefusedError, place, zip_members
from pipelines.models.inspection import PICKLE_SUFFIXES, pickle_sentence, read_header

if TYPE_CHECKING:
    from pipelines.adapters.core import Adapter
    from pipelines.models.base import Base

DTYPES = ("F16", "BF16", "F32", "F64")
ALPHA_DTYPES = ("I64", "I32")  # diffusers' convert_state_dict_to_kohya stores alpha as a whole number
MAX_TENSORS = 8192
PARTS = ("unet", "text_encoder")
PEFT_FILES = ("adapter_config.json", "adapter_model.safetensors")
SHIFT_FILES = {"unet": "spectral_shifts.safetensors", "text_encoder": "spectral_shifts_te.safetensors"}
UNPACKED = (*PEFT_FILES, *SHIFT_FILES.values())  # of a zip, nothing else is unpacked
MAX_UNPACKED_BYTES = 2 * 2**30
MAX_METADATA = 40  # entries shown of a header
MAX_SHOWN = 200  # characters shown of one

Shapes = Mapping[
    str, tuple[int, ...]
]  # of a base's weights, by "unet.<module>.weight"; {} where they are not known


class Models(Protocol):
    """Where bases and adapters are loaded: the model cache of a device."""

    def base(self, spec: str) -> Base:
        """Return a base. ValueError when it cannot be one."""
        ...

    def adapter(self, path: Path, base: Base) -> Adapter:
        """Return the adapter in a file, not live."""
        ...

    def aside(self, base: Base) -> AbstractContextManager[None]:
        """Take an adapter that is learning out of ``base`` for the length of the block."""
        ...


@dataclass(frozen=True)
class Source:
    """A file, or a folder of known files, whose headers were read and checked and nothing else."""

    path: Path  # of a zip, the folder it was unpacked into
    name: str  # of what was given
    headers: Mapping[
        str, Mapping[str, Any]
    ]  # by the file's place in ``path`` ("" is the file itself): its entries
    metadata: Mapping[str, str]

    @property
    def entries(self) -> dict[str, Any]:
        """Every tensor's entry by its name: dtype, shape."""
        return {key: entry for header in self.headers.values() for key, entry in header.items()}

    @property
    def parameters(self) -> int:
        """How many values all tensors hold."""
        return sum(prod(entry["shape"]) for header in self.headers.values() for entry in header.values())


@dataclass(frozen=True)
class Examined:
    """What a format reads from headers: the ranks, the trigger words, and why the file does not fit, or ""."""

    problem: str = ""
    ranks: tuple[int, ...] = ()
    trigger: str = ""


@dataclass(frozen=True)
class Imported:
    """An adapter on a base, not live, and the settings that record where it came from."""

    adapter: Adapter
    facts: dict[str, str]
    title: str = ""


@contextmanager
def opened(path: Path) -> Iterator[Source]:
    """Open a file, a folder or a zip inside the block, with its headers read.

    Raises ValueError, in one sentence, for pickles, damaged or swollen archives and what holds no known weights.
    """
    path = Path(path)
    if path.suffix.lower() != ".zip":
        yield _source(path, name=path.name)
        return
    with tempfile.TemporaryDirectory(prefix="atelier-") as folder:
        _unpack(path, into=Path(folder))
        yield _source(Path(folder), name=path.name)


def _source(path: Path, *, name: str) -> Source:
    files = [path] if not path.is_dir() else [
        place / file for place in (path, *(path / part for part in PARTS)) for file in UNPACKED
        if file.endswith(".safetensors") and (place / file).is_file()
    ]  # fmt: skip
    halves = (
        [path / part for part in PARTS if (path / part / PEFT_FILES[0]).is_file()] if path.is_dir() else []
    )
    if not files or any(not (half / PEFT_FILES[1]).is_file() for half in halves):
        raise ValueError(
            f"{name} holds no {PEFT_FILES[1]}, so it is not a PEFT folder; choose the folder written by PEFT. If it contains "
            "adapter_model.bin, that is a Python pickle: save the adapter again as safetensors."
        )
    headers = {"" if file == path else file.relative_to(path).as_posix(): check_file(file) for file in files}
    told = {key: text for header in headers.values() for key, text in header.pop("__metadata__", {}).items()}
    return Source(path=path, name=name, headers=headers, metadata=told)


def _unpack(path: Path, *, into: Path) -> None:
    """Write the known files of a zip below ``into``, under names of our own choice."""
    damaged = f"{path.name} is damaged or protected by a password; pack the PEFT folder again."
    with zip_members(
        path,
        wanted=lambda inside: inside.name in UNPACKED,
        max_bytes=MAX_UNPACKED_BYTES,
        name=path.name,
        damaged=damaged,
    ) as (archive, members):
        for member in members:
            inside = place(member)
            target = into / (inside.parent.name if inside.parent.name in PARTS else ".") / inside.name
            if target.exists():
                raise RefusedError(f"{path.name} contains more than one adapter; pack only one folder.")
            target.parent.mkdir(exist_ok=True)
            with archive.open(member) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy)


def check_file(path: Path) -> dict[str, Any]:
    """Return a safetensors header whose every entry may belong to an adapter. ValueError says what else the file is."""
    if path.suffix.lower() in PICKLE_SUFFIXES:
        raise ValueError(pickle_sentence(path.name))
    if not path.is_file():
        raise ValueError(f"{path.name} is not a file; choose a .safetensors file or a PEFT folder.")
    header = read_header(path)
    entries = {key: entry for key, entry in header.items() if key != "__metadata__"}
    if len(entries) > MAX_TENSORS:
        raise ValueError(
            f"{path.name} holds {len(entries):,} tensors, more than any LoRA for SD 1.x; choose another."
        )
    for key, entry in entries.items():
        allowed = (*DTYPES, *ALPHA_DTYPES) if key.endswith(".alpha") else DTYPES
        if entry["dtype"] not in allowed:
            raise ValueError(
                f"{path.name} stores {key[:80]!r} as {entry['dtype']!r}, but a LoRA is stored in "
                f"{', '.join(DTYPES)}; save it again in one of these."
            )
    return header


def shown(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return a header's metadata shortened for a page."""
    return {key[:MAX_SHOWN]: text[:MAX_SHOWN] for key, text in list(metadata.items())[:MAX_METADATA]}


def trigger_of(metadata: Mapping[str, str]) -> str:
    """Return the trigger words, from ModelSpec's key or our own settings; "" if the header has none."""
    words = [_table(metadata, "config").get(name) for name in ("identifier", "class_noun")]
    own = " ".join(word for word in words if isinstance(word, str) and word)
    return (metadata.get("modelspec.trigger_phrase", "") or own)[:MAX_SHOWN]


def base_of(metadata: Mapping[str, str]) -> str:
    """Return the base that a header names, under the keys of ours, kohya's scripts and ModelSpec, or ""."""
    named = (
        _table(metadata, "base").get("name", ""),
        metadata.get("ss_sd_model_name", ""),
        metadata.get("modelspec.architecture", ""),
    )
    return next((str(name)[:MAX_SHOWN] for name in named if name), "")


def _table(metadata: Mapping[str, str], key: str) -> dict[str, Any]:
    try:
        table = json.loads(metadata.get(key, "{}"))
    except (ValueError, RecursionError):
        return {}
    return table if isinstance(table, dict) else {}
