"""Thin singular value decompositions of a base model's weights, computed once and cached on disk under its hash.

A convolution (c_out, c_in, kh, kw) is reshaped to (c_out, c_in·kh·kw), as SVDiff does (2303.11305, sec. 3.2).
"""

import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pipelines.adapters.core import save_tensors
from pipelines.files import data_root
from pipelines.models.inspection import MAX_HEADER_BYTES

if TYPE_CHECKING:
    from pipelines.models.base import Base

logger = logging.getLogger(__name__)

PROGRESS_EVERY = 16  # weights between two progress reports
BLOCK = re.compile(r"unet\.(?:(?:down|up)_blocks\.\d+|mid_block)(?=\.)")
PARTS = ("left", "values", "right")
MATRICES = (nn.Linear, nn.Conv2d, nn.Embedding)
NORMS = (nn.GroupNorm, nn.LayerNorm)


@dataclass(frozen=True)
class Factors:
    """W = U diag(S) Vh of a weight reshaped to (M, N): U (M, k), S (k,), Vh (k, N), float32, k = min(M, N)."""

    left: Tensor  # U
    values: Tensor  # S, largest first
    right: Tensor  # Vh

    def on(self, device: torch.device, *, left: bool = True, right: bool = True) -> "Factors":
        """Return a copy whose values and requested vectors are on a device; other vectors are not moved."""
        return Factors(
            self.left.to(device) if left else self.left,
            self.values.to(device),
            self.right.to(device) if right else self.right,
        )

    def copied(self, *, left: bool, right: bool) -> "Factors":
        """Return a copy whose requested vectors are in newly allocated memory.

        A memory-mapped tensor may have any alignment, and the last bit of a CPU's matrix product depends on it.
        """
        return Factors(
            self.left.clone() if left else self.left, self.values, self.right.clone() if right else self.right
        )


def matrix(weight: Tensor) -> Tensor:
    """Reshape a weight to the matrix (M, N) whose singular values are trained: (c_out, product of the other axes)."""
    return weight.flatten(1)


def decompose(weight: Tensor) -> Factors:
    """Return the thin SVD of a weight in float32, on the weight's device."""
    left, values, right = torch.linalg.svd(matrix(weight.detach()).float(), full_matrices=False)
    return Factors(left.contiguous(), values, right.contiguous())


class Spectra:
    """The decompositions of one base model, on the CPU.

    There is one memory-mapped file per UNet block, so only vectors that are used are read from disk. ``folder``
    None disables the cache on disk.
    """

    def __init__(self, base: "Base", folder: Path | None) -> None:
        self.base = base
        self.folder = folder / base.hash[:24] if folder is not None else None
        self._open: dict[str, dict[str, Tensor]] = {}  # shard -> tensors in its file
        self._fresh: dict[str, dict[str, Factors]] = {}  # shard -> factors not written yet

    def factors(self, key: str, weight: Tensor) -> Factors:
        """Return the factors of "unet.<module>", from the cache if the shapes fit; :meth:`keep` writes new ones."""
        if (kept := self._kept(key, weight)) is not None:
            return kept
        found = decompose(weight).on(torch.device("cpu"))
        self._fresh.setdefault(shard_of(key), {})[key] = found
        return found

    def prepare(self, weights: Mapping[str, Tensor], on_progress: Callable[[int, int], None]) -> None:
        """Decompose and cache all matrices that are not cached yet.

        ``on_progress(done, total)`` may raise to stop; finished decompositions are not lost."""
        matrices = {key: weight for key, weight in weights.items() if weight.dim() > 1}
        missing = [key for key, weight in matrices.items() if self._kept(key, weight) is None]
        missing.sort(key=shard_of)
        try:
            for done, key in enumerate(missing):
                if done and shard_of(key) not in self._fresh:
                    self.keep()
                if done % PROGRESS_EVERY == 0:
                    on_progress(done, len(missing))
                self.factors(key, matrices[key])
        finally:
            self.keep()
        if missing:
            on_progress(len(missing), len(missing))

    def keep(self) -> None:
        """Write new decompositions to disk; each block's file is written atomically."""
        for shard, found in self._fresh.items() if self.folder is not None else ():
            path = self._path(shard)
            path.parent.mkdir(parents=True, exist_ok=True)
            tensors = dict(self._file(shard))
            for key, parts in found.items():
                tensors |= {f"{key}.{part}": getattr(parts, part) for part in PARTS}
            try:
                save_tensors(path, tensors, metadata={})
            except OSError as error:  # a full disk only means recomputing next time
                logger.warning("The decompositions of %s are not kept: %s", shard, error)
            self._open.pop(shard, None)
        self._fresh.clear()

    def _path(self, shard: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{shard}.safetensors"

    def _file(self, shard: str) -> dict[str, Tensor]:
        """Return the tensors in a block's file; a damaged file counts as empty."""
        if self.folder is not None and shard not in self._open:
            path = self._path(shard)
            try:
                self._open[shard] = mapped(path) if path.is_file() else {}
            except (ValueError, KeyError, TypeError, OSError, RuntimeError) as error:
                logger.warning("%s is decomposed again: %s", shard, error)
                self._open[shard] = {}
        return self._open.get(shard, {})

    def _kept(self, key: str, weight: Tensor) -> Factors | None:
        """Return a cached decomposition; one of another shape counts as absent."""
        shard = shard_of(key)
        if key in self._fresh.get(shard, {}):
            return self._fresh[shard][key]
        file = self._file(shard)
        rows, columns = matrix(weight).shape
        size = min(rows, columns)
        left, values, right = (file.get(f"{key}.{part}") for part in PARTS)
        if left is None or values is None or right is None:
            return None
        if (left.shape, values.shape, right.shape) != (
            (rows, size),
            (size,),
            (size, columns),
        ):
            return None
        return Factors(left, values, right)


def mapped(path: Path) -> dict[str, Tensor]:
    """Return the float32 tensors of a safetensors file as lazy views of one memory mapping.

    For a small tensor, safetensors' own reader takes as long as computing the decomposition.
    """
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > MAX_HEADER_BYTES:
            raise ValueError(f"a header of {length} bytes")
        header = json.loads(stream.read(length))
    start, size = 8 + length, path.stat().st_size
    entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
    whole = torch.from_file(str(path), shared=False, size=size // 4, dtype=torch.float32)
    found = {}
    for name, entry in entries.items():
        first, last = ((start + offset) // 4 for offset in entry["data_offsets"])
        if entry["dtype"] != "F32" or start % 4 or last > len(whole):
            raise ValueError(f"{name} is not as it was written")
        found[name] = whole[first:last].view(entry["shape"])
    return found


def shard_of(key: str) -> str:
    """Return the name of the cache file for a weight: one per UNet block and one per other part of the model."""
    block = BLOCK.match(key)
    return block[0] if block else key.partition(".")[0]


def cache_folder() -> Path:
    """Return the cache folder, inside the user's data folder."""
    return data_root() / "cache" / "spectra"
