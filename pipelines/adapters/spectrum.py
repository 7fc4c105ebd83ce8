"""Thin singular value decompositions of a base's weights: computed once, kept on disk under the base's hash.

A convolution (c_out, c_in, kh, kw) is read as the matrix (c_out, c_in·kh·kw), as SVDiff does (2303.11305, sec. 3.2).
"""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pipelines.adapters.core import base_parameter, read_tensors, save_tensors

if TYPE_CHECKING:
    from pipelines.base import Base

logger = logging.getLogger(__name__)

PROGRESS_EVERY = 16  # weights between two words of progress
MATRICES = (nn.Linear, nn.Conv2d, nn.Embedding)
NORMS = (nn.GroupNorm, nn.LayerNorm)


@dataclass(frozen=True)
class Factors:
    """W = U diag(S) Vh of a weight read as (M, N), k = min(M, N): U (M, k), S (k,), Vh (k, N); float32."""

    left: Tensor  # U
    values: Tensor  # S, largest first
    right: Tensor  # Vh


def matrix(weight: Tensor) -> Tensor:
    """Return a weight as the matrix (M, N) whose singular values move: (c_out, everything else)."""
    return weight.flatten(1)


def decompose(weight: Tensor) -> Factors:
    """Return the thin SVD of a weight in float32, on the device it lies on."""
    left, values, right = torch.linalg.svd(matrix(weight.detach()).float(), full_matrices=False)
    return Factors(left.contiguous(), values, right.contiguous())


class Spectra:
    """The decompositions of one base, one small file for each weight, so that an interrupted first run goes on.

    ``folder`` None keeps nothing on disk.
    """

    def __init__(self, base: "Base", folder: Path | None) -> None:
        self.base = base
        self.folder = folder / base.hash[:24] if folder is not None else None

    def prepare(self, keys: Sequence[str], on_progress: Callable[[int, int], None]) -> None:
        """Decompose what is not kept yet. ``on_progress(done, total)`` may raise to stop; nothing done is lost."""
        assert self.folder is not None, "without a folder nothing is kept"
        missing = [key for key in keys if not (self.folder / f"{key}.safetensors").is_file()]
        for done, key in enumerate(missing):
            if done % PROGRESS_EVERY == 0:
                on_progress(done, len(missing))
            self.factors(key)
        if missing:
            on_progress(len(missing), len(missing))

    def factors(self, key: str) -> Factors:
        """Return the factors of "unet.<module>", from the cache when they are there and fit."""
        weight = base_parameter(self.base, f"{key}.weight")
        path = self.folder / f"{key}.safetensors" if self.folder is not None else None
        if path is not None and path.is_file() and (kept := _read(path, weight)) is not None:
            return kept
        found = decompose(weight)
        if path is not None:
            self._keep(path, found)
        return found

    def _keep(self, path: Path, found: Factors) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {"left": found.left, "values": found.values, "right": found.right}
        try:
            save_tensors(path, {name: value.cpu() for name, value in tensors.items()}, metadata={})
        except OSError as error:  # a full disk costs time at the next start, not this run
            logger.warning("The decomposition of %s is not kept: %s", path.stem, error)


def _read(path: Path, weight: nn.Parameter) -> Factors | None:
    """Return a kept decomposition; a damaged file, or one of another shape, counts as absent."""
    rows, columns = matrix(weight).shape
    size = min(rows, columns)
    try:
        tensors, _ = read_tensors(path)
        found = Factors(tensors["left"], tensors["values"], tensors["right"])
    except (ValueError, KeyError) as error:
        logger.warning("%s is decomposed again: %s", path.stem, error)
        return None
    if (found.left.shape, found.values.shape, found.right.shape) != ((rows, size), (size,), (size, columns)):
        return None
    return Factors(*(part.to(weight.device) for part in (found.left, found.values, found.right)))


def cache_folder() -> Path:
    """Return where decompositions are kept: in the user's data folder."""
    from pipelines.runs import data_root  # only when asked for: the tests' bases need no folder

    return data_root() / "cache" / "spectra"


def cache_bytes(folder: Path) -> int:
    """Return the size of what is kept."""
    return (
        sum(entry.stat().st_size for entry in os.scandir(folder) if entry.is_file()) if folder.is_dir() else 0
    )
