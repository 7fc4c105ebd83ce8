"""A weight space in memory: θ = mean + std ⊙ (basisᵀ β), its population and the directions of its attributes.

Dravid et al. 2024 (2406.09413), section 3. All functions are differentiable with respect to β.
"""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pipelines.files import disk_sentences
from pipelines.weightspace.index import (
    MAX_FILE_BYTES,
    Manifest,
    check_files,
    read_manifest,
    sha256,
    update_index,
    write_manifest,
)

if TYPE_CHECKING:
    from pipelines.models.base import Base


@dataclass(frozen=True, eq=False)
class Space:
    """A manifest and its tensors, float32. d weights, m coordinates, N identities, K attributes.

    ``std`` is an opaque scale: some entries of the authors' file are negative and are used as they are.
    """

    manifest: Manifest
    mean: Tensor  # (d,)
    std: Tensor  # (d,), 1 where the population has no variance
    basis: Tensor  # (m, d), orthonormal rows in standardised weights
    variance: Tensor  # (m,) of the population's scores
    scores: Tensor  # (N, m)
    labels: Tensor  # (N, K), NaN where unknown
    vectors: Tensor  # (K, m), unit length: what a slider adds
    readers: Tensor  # (K, m): linear classifiers of the scores; above the attribute's threshold means its high value

    @classmethod
    def open(
        cls, folder: Path, *, components: int | None = None, dtype: torch.dtype = torch.float32
    ) -> "Space":
        """Read a space and verify its key order and hashes. Raises ValueError with one sentence on any fault.

        ``components`` keeps only the leading coordinates. ``dtype`` is that of the basis in memory.
        """
        manifest = read_manifest(folder)
        check_files(folder, manifest)
        kept = min(components or manifest.components, manifest.components)
        parts = {part: _files(manifest, part) for part in ("affine", "basis", "population", "directions")}
        affine = _tensors(folder, parts["affine"])
        scores, labels = _rows(folder, parts["population"], ("scores", "labels"))
        directions = _tensors(folder, parts["directions"])
        nothing = torch.zeros(0, manifest.components)
        space = cls(
            manifest=replace(manifest, components=kept),
            mean=affine.get("mean", nothing),
            std=affine.get("std", nothing),
            basis=_basis(folder, parts["basis"], rows=kept, size=manifest.size, dtype=dtype),
            variance=affine.get("variance", nothing)[:kept],
            scores=scores[:, :kept].clone(),
            labels=labels,
            vectors=directions.get("vectors", nothing)[:, :kept].clone(),
            readers=directions.get("readers", nothing)[:, :kept].clone(),
        )
        space.check()
        return space

    def check(self) -> None:
        """Raise ValueError unless every tensor has the shape that the manifest says."""
        told = self.manifest
        count, attributes = told.population, len(told.attributes)
        expected = {
            "mean": (told.size,), "std": (told.size,), "basis": (told.components, told.size),
            "variance": (told.components,), "scores": (count, told.components), "labels": (count, attributes),
            "vectors": (attributes, told.components), "readers": (attributes, told.components),
        }  # fmt: skip
        for name, shape in expected.items():
            found = tuple(getattr(self, name).shape)
            if found != shape:
                raise ValueError(
                    f"{name} of the weight space {told.name!r} has shape {found} instead of {shape}; copy or build the "
                    "space again."
                )

    def write(
        self, root: Path, *, basis_dtype: torch.dtype = torch.float16, max_bytes: int = MAX_FILE_BYTES
    ) -> Path:
        """Write the space to ``root/<name>`` and update ``root/index.json``; return the folder.

        The folder appears whole or not at all. No file is larger than ``max_bytes``, unless one row is.
        """
        self.check()
        folder = root / self.manifest.name
        part = root / f".{self.manifest.name}.{os.getpid()}.part"
        with disk_sentences():
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            try:
                files = {
                    name: _save(part / name, tensors) for name, tensors in self._split(basis_dtype, max_bytes)
                }
                write_manifest(part, replace(self.manifest, files=files))
                shutil.rmtree(folder, ignore_errors=True)
                os.replace(part, folder)
            finally:
                shutil.rmtree(part, ignore_errors=True)
        update_index(root)
        return folder

    def _split(self, basis_dtype: torch.dtype, max_bytes: int) -> Iterator[tuple[str, dict[str, Tensor]]]:
        yield "affine.safetensors", {"mean": self.mean, "std": self.std, "variance": self.variance}
        rows = max(1, max_bytes // (self.basis.shape[1] * basis_dtype.itemsize))
        for number, piece in enumerate(self.basis.split(rows)):
            yield f"basis-{number:04d}.safetensors", {"basis": piece.to(basis_dtype)}
        rows = max(1, max_bytes // (4 * max(1, self.scores.shape[1] + self.labels.shape[1])))
        for number, (scores, labels) in enumerate(
            zip(self.scores.split(rows), self.labels.split(rows), strict=True)
        ):
            yield f"population-{number:04d}.safetensors", {"scores": scores, "labels": labels}
        if len(self.vectors):
            yield "directions.safetensors", {"vectors": self.vectors, "readers": self.readers}

    def theta(self, beta: Tensor) -> Tensor:
        """Return the flattened weights θ (..., d) of coordinates β (..., k), k ≤ m; β = 0 is the mean identity."""
        return self.mean + self.offset(beta)

    def offset(self, beta: Tensor) -> Tensor:
        """Return the change of the flattened weights (..., d) for a change β (..., k) of the coordinates."""
        return self.std * (beta.to(self.basis.dtype) @ self.basis[: beta.shape[-1]]).to(self.std.dtype)

    def beta(self, theta: Tensor) -> Tensor:
        """Return the coordinates (..., m) of flattened weights θ (..., d): their projection on the space."""
        standard = ((theta - self.mean) / self.std).to(self.basis.dtype)
        return (standard @ self.basis.T).to(theta.dtype)

    def state(self, theta: Tensor) -> dict[str, Tensor]:
        """Return θ (d,) as the state dict of a LoRA; the tensors are views of it."""
        return {
            key.name: theta[key.offset : key.offset + key.size].view(key.shape) for key in self.manifest.keys
        }

    def flatten(self, state: Mapping[str, Tensor]) -> Tensor:
        """Return a LoRA's state dict as θ (d,). Raises ValueError for other keys or shapes."""
        return flatten(state, self.manifest)

    def check_base(self, base: "Base") -> None:
        """Raise ValueError unless the space was built on this base, or fits it by shape if its base is unknown."""
        told = self.manifest
        if told.base_hash and told.base_hash != base.hash:
            raise ValueError(
                f"The weight space {told.name!r} was built on the base {told.base!r} ({told.base_hash[:12]}) and works "
                "on that one only; load that base, or build the space on this one."
            )
        modules = dict(base.unet.named_modules())
        for layer in told.ranks():
            if layer.removeprefix("unet.") not in modules:
                raise ValueError(
                    f"The weight space {told.name!r} changes the layer {layer}, which this base does not have; load the "
                    "kind of base that it was built on."
                )


def flatten(state: Mapping[str, Tensor], manifest: Manifest) -> Tensor:
    """Return a LoRA's state dict as θ (d,) in the manifest's key order. Raises ValueError for other keys or shapes."""
    expected = {key.name: key.shape for key in manifest.keys}
    wrong = sorted(
        name
        for name in state.keys() | expected.keys()
        if name not in state or tuple(state[name].shape) != expected.get(name)
    )
    if wrong:
        raise ValueError(
            f"These weights do not belong to the weight space {manifest.name!r}: {len(wrong)} tensors differ (first: "
            f"{wrong[0]}); choose a LoRA with the layers and the rank of the space."
        )
    return torch.cat([state[key.name].flatten() for key in manifest.keys])


def _files(manifest: Manifest, part: str) -> list[str]:
    return sorted(name for name in manifest.files if name.partition(".")[0].partition("-")[0] == part)


def _save(path: Path, tensors: Mapping[str, Tensor]) -> str:
    save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, path)
    return sha256(path)


def _tensors(folder: Path, names: Sequence[str]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name in names:
        try:
            with safe_open(folder / name, framework="pt") as file:
                found |= {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ValueError(
                f"{name} of a weight space cannot be read ({error}); copy or build the space again."
            ) from error
    return found


def _rows(folder: Path, files: Sequence[str], names: Sequence[str]) -> tuple[Tensor, ...]:
    """Return tensors whose rows are split over several files."""
    parts: dict[str, list[Tensor]] = {name: [] for name in names}
    for file in files:
        found = _tensors(folder, [file])
        for name in names:
            if name in found:
                parts[name].append(found[name])
    return tuple(torch.cat(pieces) if pieces else torch.zeros(0, 0) for pieces in parts.values())


def _basis(folder: Path, files: Sequence[str], *, rows: int, size: int, dtype: torch.dtype) -> Tensor:
    """Return the leading ``rows`` of the basis, read file by file into one tensor, because V can have gigabytes."""
    basis, done = torch.empty(rows, size, dtype=dtype), 0
    for file in files:
        if done == rows:
            break
        piece = _tensors(folder, [file]).get("basis", torch.zeros(0, 0))
        if piece.shape[1:] != (size,):
            raise ValueError(
                f"{file} of a weight space has rows of another size; copy or build the space again."
            )
        basis[done : done + len(piece)] = piece[: rows - done]
        done = min(rows, done + len(piece))
    return basis[:done]
