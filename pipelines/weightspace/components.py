"""Principal components of a population's weights (Dravid et al. 2024, 2406.09413, section 3.2).

Each coordinate is standardised, z = (θ − mean) / std, and Z (N, d) is decomposed. The rows stay on disk: statistics are
summed shard by shard, and the decomposition reads blocks of columns (exact, up to ``GRAM_ROWS`` identities) or shards
of rows (incremental, for more).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.weightspace.shards import WeightRows

GRAM_ROWS = 4_000  # above it the N x N matrix costs more than incremental passes over the shards
BLOCK_BYTES = 2**28  # of one block of columns in float64
RELATIVE_ZERO = 1e-7  # a standard deviation below this share of the largest is rounding, not variance


@dataclass(frozen=True, eq=False)
class Components:
    """The decomposition of N identities with m components; float32, computed in float64."""

    mean: Tensor  # (d,)
    std: Tensor  # (d,), unbiased; 1 where the population has no variance
    basis: Tensor  # (m, d), orthonormal rows
    scores: Tensor  # (N, m), mean 0, uncorrelated
    variance: Tensor  # (m,) of the scores, unbiased, falling
    total: float  # the variance of all standardised coordinates: d without constant ones

    @property
    def explained(self) -> Tensor:
        """The share of the total variance of each component, (m,)."""
        return self.variance / self.total


def standardisation(rows: WeightRows) -> tuple[Tensor, Tensor]:
    """Return mean and unbiased standard deviation of each coordinate, (d,) float64; std is 1 for constant ones.

    Two passes over the shards: the second sums squares of centred values, so that nothing cancels.
    """
    if len(rows) < 2:
        raise ValueError(f"A space needs at least 2 identities, not {len(rows)}; train more.")
    mean = torch.zeros(rows.size, dtype=torch.float64)
    for block in rows.blocks():
        mean += block.double().sum(0)
    mean /= len(rows)
    squares = torch.zeros_like(mean)
    for block in rows.blocks():
        squares += (block.double() - mean).square().sum(0)
    std = (squares / (len(rows) - 1)).sqrt()
    return mean, torch.where(std > RELATIVE_ZERO * std.max(), std, torch.ones_like(std))


def principal_components(rows: WeightRows, count: int, *, method: str = "") -> Components:
    """Return the leading ``count`` components, at most N − 1. ``method``: "gram", "incremental", or "" by the size."""
    most = len(rows) - 1
    if count < 1 or count > most:
        raise ValueError(
            f"{len(rows)} identities have {most} components, so {count} cannot be kept; choose 1 to {most}."
        )
    mean, std = standardisation(rows)
    method = method or ("gram" if len(rows) <= GRAM_ROWS else "incremental")
    basis, scores = (_gram if method == "gram" else _incremental)(rows, mean, std, count)
    sign = torch.where(
        basis.gather(1, basis.abs().argmax(1, keepdim=True)) < 0, -1.0, 1.0
    )  # (m, 1): reproducible
    basis, scores = basis * sign, scores * sign[:, 0]
    return Components(
        mean=mean.float(), std=std.float(), basis=basis.float(), scores=scores.float(),
        variance=scores.var(0).float(), total=_total_variance(rows, mean, std),
    )  # fmt: skip


def _total_variance(rows: WeightRows, mean: Tensor, std: Tensor) -> float:
    total = 0.0
    for block in rows.blocks():
        total += float(((block.double() - mean) / std).square().sum())
    return total / (len(rows) - 1)


def _gram(rows: WeightRows, mean: Tensor, std: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return V (m, d) and scores U·S (N, m) from the eigenvectors of Z Zᵀ = U S² Uᵀ, in float64."""
    number = len(rows)
    width = max(1, BLOCK_BYTES // (8 * number))
    starts = range(0, rows.size, width)

    def block(first: int) -> Tensor:
        last = min(first + width, rows.size)
        return (rows.columns(first, last).double() - mean[first:last]) / std[first:last]

    gram = torch.zeros(number, number, dtype=torch.float64)
    for first in starts:
        part = block(first)
        gram.addmm_(part, part.T)
    values, vectors = torch.linalg.eigh(gram)  # ascending
    sizes = values.flip(0)[:count].clamp(min=0).sqrt()
    left = vectors.flip(1)[:, :count]  # (N, m)
    if sizes[-1] <= 1e-6 * sizes[0]:
        rank = int((sizes > 1e-6 * sizes[0]).sum())
        raise ValueError(
            f"The population spans only {rank} dimensions, so {count} components cannot be kept; choose {rank} or fewer."
        )
    basis = torch.cat([(left / sizes).T @ block(first) for first in starts], 1)
    return basis, left * sizes


def _incremental(rows: WeightRows, mean: Tensor, std: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return V (m, d) and scores (N, m) with scikit-learn's IncrementalPCA over the shards (Ross et al. 2008)."""
    from sklearn.decomposition import IncrementalPCA

    pca, held = IncrementalPCA(n_components=count), []
    for block in rows.blocks():
        held.append((block.double() - mean) / std)
        if sum(map(len, held)) >= 2 * count:  # a pass needs at least ``count`` rows, and the last one too
            pca.partial_fit(torch.cat(held)[:-count].numpy())
            held = [torch.cat(held)[-count:]]
    pca.partial_fit(torch.cat(held).numpy())
    basis = torch.from_numpy(pca.components_)
    scores = torch.cat([((block.double() - mean) / std) @ basis.T for block in rows.blocks()])
    return basis, scores
