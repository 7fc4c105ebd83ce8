"""The common part of all file formats: a file, folder or zip and its safetensors headers. Does not need torch."""

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
UNPACKED = (*PEFT_FILES, *SHIFT_FILES.values())  # only these files of a zip are unpacked
MAX_UNPACKED_BYTES = 2 * 2**30
MAX_METADATA = 40  # maximum number of header entries shown
MAX_SHOWN = 200  # maximum number of characters shown per entry

Shapes = Mapping[
    str, tuple[int, ...]
]  # shapes of the base model's weights by "unet.<module>.weight"; {} if unknown


class Models(Protocol):
    """Loads base models and adapters: the model cache of a device."""

    def base(self, spec: str) -> Base:
        """Return a base model. Raises ValueError when it cannot be loaded."""
        ...

    def adapter(self, path: Path, base: Base) -> Adapter:
        """Return the adapter in a file, not injected."""
        ...

    def aside(self, base: Base) -> AbstractContextManager[None]:
        """Remove an adapter that is being trained from ``base`` for the duration of the block."""
        ...


@dataclass(frozen=True)
class Source:
    """A file, or a folder of known files, of which only the headers were read and checked."""

    path: Path  # for a zip, the folder that it was unpacked to
    name: str  # file name as passed by the user
    headers: Mapping[
        str, Mapping[str, Any]
    ]  # {path relative to ``path`` ("" is the file itself): header entries}
    metadata: Mapping[str, str]

    @property
    def entries(self) -> dict[str, Any]:
        """The header entry (dtype, shape) of every tensor by name."""
        return {key: entry for header in self.headers.values() for key, entry in header.items()}

    @property
    def parameters(self) -> int:
        """The total number of values in all tensors."""
        return sum(prod(entry["shape"]) for header in self.headers.values() for entry in header.values())


@dataclass(frozen=True)
class Examined:
    """Information from headers: ranks, trigger words, and ``problem``: the reason why the file does not fit, or ""."""

    problem: str = ""
    ranks: tuple[int, ...] = ()
    trigger: str = ""


@dataclass(frozen=True)
class Imported:
    """An adapter for a base model, not injected, and the settings that record its origin."""

    adapter: Adapter
    facts: dict[str, str]
    title: str = ""


@contextmanager
def opened(path: Path) -> Iterator[Source]:
    """Open a file, a folder or a zip for the duration of the block and read its headers.

    Raises ValueError with one sentence for pickles, damaged or oversized archives and files without known weights.
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
    """Unpack the known files of a zip below ``into``, under fixed names instead of the archive's paths."""
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
    """Return a safetensors header in which every entry can belong to an adapter. Raises ValueError for other files."""
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
    """Return a header's metadata, shortened for display."""
    return {key[:MAX_SHOWN]: text[:MAX_SHOWN] for key, text in list(metadata.items())[:MAX_METADATA]}


def trigger_of(metadata: Mapping[str, str]) -> str:
    """Return the trigger words from ModelSpec's key or Atelier's own settings; "" if the header has none."""
    words = [_table(metadata, "config").get(name) for name in ("identifier", "class_noun")]
    own = " ".join(word for word in words if isinstance(word, str) and word)
    return (metadata.get("modelspec.trigger_phrase", "") or own)[:MAX_SHOWN]


def base_of(metadata: Mapping[str, str]) -> str:
    """Return the base model named in a header under Atelier's, kohya's or ModelSpec's keys, or ""."""
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
