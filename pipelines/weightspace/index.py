"""The manifest of a weight space, the layout of its folder, and the list of spaces. Needs no torch.

A folder ``weights_index/<name>/`` holds ``space.json`` (this manifest) and safetensors files:

    affine.safetensors         mean (d,), std (d,), variance (m,) of the scores, float32
    basis-<i>.safetensors      basis: a slice of the rows of (m, d), in order, float16 or float32
    population-<i>.safetensors scores: a slice of the rows of (N, m); labels: the same rows of (N, K), NaN unknown
    directions.safetensors     vectors (K, m) of unit length and readers (K, m), float32; absent without attributes

``weights_index/index.json`` lists the spaces of one folder.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from pipelines.config import ASSETS
from pipelines.files import data_root, write_json

FORMAT = 1
MANIFEST, INDEX = "space.json", "index.json"
SHIPPED = ASSETS.parent / "weights_index"
MAX_FILE_BYTES = 9_500_000  # a repository of plain files should hold nothing larger than 10 MB


class Key(NamedTuple):
    """One tensor of the flattened weights: a key of :class:`LoRA`'s state dict, its shape, and its first coordinate."""

    name: str
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True)
class Attribute:
    """A labelled property of the population, with a direction in the space.

    ``low`` and ``high`` say what the two ends look like. ``spread`` is the standard deviation of the population along
    the direction. A reader's score above ``threshold`` means ``high``; ``balanced_accuracy`` was measured on held-out
    identities, 0 if it was not measured. ``components`` is the number of leading coordinates used.
    """

    name: str
    label: str
    low: str
    high: str
    spread: float
    threshold: float
    balanced_accuracy: float
    components: int
    share: float  # share of the population with the high value


@dataclass(frozen=True)
class Manifest:
    """What a space is: θ = mean + std ⊙ (basisᵀ β) are the weights of a LoRA with these keys, rank and alpha."""

    name: str
    title: str
    note: str  # where it comes from and under which terms, in one or two sentences
    base: str  # name of the base model
    base_hash: str  # "" if unknown: then only the shapes are checked
    family: str
    prompt: str  # with the identifier in it, as it was trained: "sks person"
    identifier: str
    class_noun: str
    rank: int
    alpha: float  # the scale of a layer is alpha / rank
    components: int  # m
    population: int  # N
    keys: tuple[Key, ...]
    attributes: tuple[Attribute, ...]
    members: tuple[str, ...]  # a name for each row of the scores, or empty
    files: Mapping[str, str]  # sha256 by file name

    @property
    def size(self) -> int:
        """d: the number of flattened weights."""
        return self.keys[-1].offset + self.keys[-1].size

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def attribute(self, name: str) -> int:
        """Return the row of an attribute. Raises ValueError for an unknown name."""
        names = [attribute.name for attribute in self.attributes]
        if name not in names:
            known = ", ".join(names) or "none"
            raise ValueError(
                f"The space {self.name!r} has no attribute {name!r}; it has these directions: {known}."
            )
        return names.index(name)

    def ranks(self) -> dict[str, int]:
        """Return {"unet.<module>": rank}, from which ``LoRA(ranks=..., alpha=...)`` builds the adapter."""
        return {
            key.name.rpartition(".lora_A.")[0]: key.shape[0] for key in self.keys if ".lora_A." in key.name
        }


class Entry(NamedTuple):
    """A row of the list of spaces, for choosing one."""

    name: str
    title: str
    folder: Path
    base_hash: str
    components: int
    population: int


def key_order(shapes: Mapping[str, Sequence[int]]) -> tuple[Key, ...]:
    """Return the order of the flattened weights: alphabetical by name, as in the authors' files (down, mid, up)."""
    keys, offset = [], 0
    for name in sorted(shapes):
        keys.append(Key(name, tuple(int(size) for size in shapes[name]), offset))
        offset += keys[-1].size
    return tuple(keys)


def read_manifest(folder: Path) -> Manifest:
    """Read and check ``space.json``; the other files are checked by :func:`check_files`. Raises ValueError."""
    path = folder / MANIFEST
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(
            f"There is no weight space in {folder.name!r}: {MANIFEST} is missing; choose the folder that holds it."
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ValueError(
            f"{MANIFEST} of the weight space {folder.name!r} is not readable JSON; copy or build the space again."
        ) from None
    number = told.get("format") if isinstance(told, dict) else None
    if number != FORMAT:
        raise ValueError(
            f"The weight space {folder.name!r} has format {number!r} and this version reads format {FORMAT}; "
            "update Atelier or build the space again."
        )
    try:
        manifest = _from_json(told)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{MANIFEST} of the weight space {folder.name!r} is not complete ({error!r}); copy or build the space again."
        ) from error
    _check_keys(manifest, folder=folder.name)
    return manifest


def check_files(folder: Path, manifest: Manifest) -> None:
    """Compare the sha256 of every file with the manifest. Raises ValueError naming the first that differs."""
    for name, expected in manifest.files.items():
        path = folder / name
        if Path(name).name != name or not path.is_file():
            raise ValueError(
                f"{name} of the weight space {manifest.name!r} is missing; copy or build the space again."
            )
        if sha256(path) != expected:
            raise ValueError(
                f"{name} of the weight space {manifest.name!r} is not the file that was written (its sha256 differs); "
                "copy or build the space again."
            )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``space.json``."""
    write_json(folder / MANIFEST, {"format": FORMAT, **asdict(manifest)})


def sha256(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def update_index(root: Path) -> None:
    """Write ``index.json`` of a folder of spaces from the manifests in it."""
    rows = []
    for path in sorted(root.glob(f"*/{MANIFEST}")):
        manifest = read_manifest(path.parent)
        rows.append(
            {
                "folder": path.parent.name,
                "sha256": sha256(path),
                **{name: getattr(manifest, name) for name in ("name", "title", "base_hash", "components")},
                "population": manifest.population,
                "size": manifest.size,
            }
        )
    write_json(root / INDEX, {"format": FORMAT, "spaces": rows})


def own_spaces() -> Path:
    """Return the folder of the spaces that the user built or converted."""
    return data_root() / "weights_index"


def listed(roots: Sequence[Path] | None = None) -> tuple[Entry, ...]:
    """Return the spaces of several folders (default: the user's, then the shipped ones); the first of a name counts."""
    found: dict[str, Entry] = {}
    for root in (own_spaces(), SHIPPED) if roots is None else roots:
        path = root / INDEX
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))["spaces"] if path.is_file() else []
            entries = [
                Entry(
                    row["name"],
                    row["title"],
                    root / os.path.basename(row["folder"]),
                    row["base_hash"],
                    int(row["components"]),
                    int(row["population"]),
                )
                for row in rows
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{INDEX} in {root.name!r} is not a list of weight spaces ({error!r}); delete it and build or convert "
                "the space again."
            ) from error
        for entry in entries:
            found.setdefault(entry.name, entry)
    return tuple(found.values())


def find_space(name: str, roots: Sequence[Path] | None = None) -> Path:
    """Return the folder of a listed space. Raises ValueError for an unknown name."""
    entries = {entry.name: entry.folder for entry in listed(roots)}
    if name not in entries:
        known = ", ".join(entries) or "none is installed"
        raise ValueError(f"There is no weight space {name!r}; choose one of: {known}.")
    return entries[name]


def _from_json(told: dict[str, Any]) -> Manifest:
    values = {field.name: told[field.name] for field in fields(Manifest)}
    values["keys"] = tuple(
        Key(str(name), tuple(int(size) for size in shape), int(offset))
        for name, shape, offset in told["keys"]
    )
    values["attributes"] = tuple(Attribute(**each) for each in told["attributes"])
    values["members"] = tuple(map(str, told["members"]))
    values["files"] = {str(name): str(digest) for name, digest in told["files"].items()}
    return Manifest(**values)


def _check_keys(manifest: Manifest, *, folder: str) -> None:
    """Raise ValueError unless the keys are in alphabetical order without gaps, and every layer has A and B."""
    names = {key.name for key in manifest.keys}
    ordered = key_order({key.name: key.shape for key in manifest.keys})
    pairs = all(name.replace(".lora_A.", ".lora_B.") in names for name in names)
    if not manifest.keys or ordered != manifest.keys or not pairs:
        first = next(
            (key.name for key, meant in zip(manifest.keys, ordered, strict=False) if key != meant), "none"
        )
        raise ValueError(
            f"The key order of the weight space {folder!r} is not the alphabetical order of LoRA keys without gaps "
            f"(first wrong entry: {first}); build the space again."
        )
