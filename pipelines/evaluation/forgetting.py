"""How much a sequence of concepts is forgotten: MMD scores, KID, and the forgetting matrix.

C-LoRA (Smith et al. 2023, 2304.06027) trains concepts 1 to N one after another. X_{t,j} are pictures of concept j
generated after task t, X_{D,j} real pictures of it, and F an encoder of pictures (CLIP). All distances are the squared
maximum mean discrepancy between the distributions P and Q of two sets of features (Gretton et al. 2012, JMLR 13),

    MMD²(P, Q) = E k(x, x') + E k(y, y') - 2 E k(x, y),

with the unbiased estimator. It can be slightly negative for equal distributions, and does not depend on the number of
pictures in expectation. The kernel of A_mmd and F_mmd is quadratic, k(x, y) = (x·y + 1)², on features of unit length;
a polynomial kernel has no bandwidth. The paper's own estimator is not published, so values are comparable only with
each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from pipelines.evaluation.metrics import pairwise

Kernel = Callable[[Tensor, Tensor], Tensor]  # (N, D), (M, D) -> (N, M)


# ---- distances of two sets of features ------------------------------------------------------------------------------


def quadratic(ours: Tensor, theirs: Tensor) -> Tensor:
    """Return k(x, y) = (x·y + 1)², (N, M), for rows (N, D) and (M, D) of unit length."""
    return (ours.double() @ theirs.double().T + 1.0) ** 2


def cubic(ours: Tensor, theirs: Tensor) -> Tensor:
    """Return KID's kernel k(x, y) = (x·y / D + 1)³, (N, M), for rows (N, D) and (M, D)."""
    return (ours.double() @ theirs.double().T / ours.shape[1] + 1.0) ** 3


def mmd(ours: Tensor, theirs: Tensor, *, kernel: Kernel = quadratic, paired: bool = False) -> float:
    """Return the unbiased estimate of MMD² between rows (N, D) and (M, D), N and M at least 2.

    E k(x, x') and E k(y, y') are means over all pairs of different rows. E k(x, y) is the mean over all pairs, or with
    ``paired`` over those of different index (Gretton et al. 2012, equation 4): rows of the same index are then
    dependent, such as pictures of the same seed, and equal sets have distance 0 exactly.
    """
    if len(ours) < 2 or len(theirs) < 2:
        raise ValueError("A distance of two sets of pictures needs at least two of each; generate more.")
    if paired and len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} and {len(theirs)} pictures are no pairs; use the same seeds for both.")
    cross = kernel(ours, theirs)
    between = _different(cross) if paired else cross.mean()
    return float(_different(kernel(ours, ours)) + _different(kernel(theirs, theirs)) - 2.0 * between)


def kid(ours: Tensor, theirs: Tensor) -> float:
    """Return the kernel inception distance (Bińkowski et al. 2018, 1801.01401) of rows (N, D) and (M, D).

    The unbiased MMD² with the kernel (x·y / D + 1)³, over all rows instead of the mean over random subsets. The
    features are CLIP's here, not Inception's; they have unit length and are multiplied by √D, so x·y / D is their cosine.
    """
    scale = ours.shape[1] ** 0.5
    return mmd(ours * scale, theirs * scale, kernel=cubic)


def _different(gram: Tensor) -> Tensor:
    """Return the mean of a square matrix without its diagonal."""
    count = len(gram)
    return (gram.sum() - gram.diagonal().sum()) / (count * (count - 1))


def a_mmd(real: Sequence[Tensor], final: Sequence[Tensor]) -> float:
    """Return A_mmd = 1/N Σ_j MMD²(F(X_{D,j}), F(X_{N,j})): how far the final model's pictures are from the real ones.

    Both lists hold the features (n, D) of each concept in order. Lower is better.
    """
    return _mean([mmd(truth, drawn) for truth, drawn in zip(real, final, strict=True)])


def f_mmd(first: Sequence[Tensor], final: Sequence[Tensor]) -> float:
    """Return F_mmd = 1/(N-1) Σ_{j<N} MMD²(F(X_{j,j}), F(X_{N,j})): how far the pictures of each concept have moved.

    ``first`` holds the features of each concept's pictures right after its own task, ``final`` after the last task, of
    the same seeds. The last concept does not count. It compares the model only with itself: a model that has never
    learned anything has F_mmd 0, so read it together with A_mmd. Lower is better; 0 for a single concept.
    """
    moved = [mmd(before, after, paired=True) for before, after in zip(first, final, strict=True)]
    return _mean(moved[:-1])


# ---- identity -------------------------------------------------------------------------------------------------------


def retrieved(drawn: Tensor, lineup: Tensor, *, concept: int) -> float:
    """Return the share of pictures (N, D) whose nearest member of the line-up (M, D) is number ``concept``.

    The line-up has one unit row per concept, such as the mean feature of its real pictures, and may end with strangers.
    """
    return float((pairwise(drawn, lineup).argmax(1) == concept).double().mean())


def found_together(drawn: Tensor, lineup: Tensor, *, pair: tuple[int, int]) -> Tensor:
    """Return for each of N pictures of two concepts whether both are found, (N,) bool.

    ``drawn`` (N, 2, D) are the features of the picture's two halves. Both concepts are found if one half is nearest to
    one of them in the line-up (M, D) and the other half to the other, in any order.
    """
    nearest = pairwise(drawn.flatten(0, 1), lineup).argmax(1).view(-1, 2)
    straight, swapped = (nearest == torch.tensor(order) for order in (pair, pair[::-1]))
    return straight.all(1) | swapped.all(1)


# ---- the forgetting matrix ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ForgettingMatrix:
    """Scores of each concept after each task: ``scores[t][j]`` is R_{t,j}, higher is better.

    Row t is the model after task t and column j the concept of task j; None for a concept that the model has not met
    (j > t) and for a cell that was not measured.
    """

    concepts: tuple[str, ...]
    scores: tuple[tuple[float | None, ...], ...]

    def __post_init__(self) -> None:
        count = len(self.concepts)
        if not count or len(self.scores) != count or any(len(row) != count for row in self.scores):
            raise ValueError(f"A forgetting matrix of {count} concepts has as many rows and columns.")

    @property
    def diagonal(self) -> tuple[float, ...]:
        """R_{j,j}: each concept right after its own task."""
        return self._known([row[place] for place, row in enumerate(self.scores)])

    @property
    def final(self) -> tuple[float, ...]:
        """R_{N,j}: each concept after the last task."""
        return self._known(self.scores[-1])

    @property
    def average_forgetting(self) -> float:
        """1/(N-1) Σ_{j<N} (R_{j,j} - R_{N,j}), the negative backward transfer of Lopez-Paz and Ranzato (1706.08840).

        0 for a single concept; negative if later tasks have improved the earlier concepts.
        """
        lost = [was - is_now for was, is_now in zip(self.diagonal, self.final, strict=True)]
        return _mean(lost[:-1])

    def plasticity(self, isolated: Sequence[float]) -> float:
        """Return Σ_j R_{j,j} / Σ_j I_j; I_j is the score of concept j when it is trained alone on the base.

        1: a sequence learns each new concept as well as separate training does. Raises ValueError if separate
        training scores 0 too, because nothing can be said then.
        """
        alone = sum(isolated)
        if len(isolated) != len(self.concepts) or alone <= 0:
            raise ValueError(
                "Plasticity needs the score of each concept trained alone, above 0; measure it first."
            )
        return sum(self.diagonal) / alone

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-compatible values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> ForgettingMatrix:
        """Return the matrix of :meth:`to_dict`."""
        return cls(concepts=tuple(told["concepts"]), scores=tuple(tuple(row) for row in told["scores"]))

    def _known(self, values: Sequence[float | None]) -> tuple[float, ...]:
        missing = [name for name, value in zip(self.concepts, values, strict=True) if value is None]
        if missing:
            raise ValueError(f"{missing[0]!r} has not been measured yet; measure its row first.")
        return tuple(float(value) for value in values if value is not None)


# ---- size -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Footprint:
    """What one more concept costs: values that are trained, and values that must be stored afterwards."""

    trained: int
    stored: int
    unet: int  # parameters of the base's UNet

    @property
    def trained_percent(self) -> float:
        """N_param of the paper: trained values in percent of the UNet's parameters."""
        return 100.0 * self.trained / self.unet

    @property
    def stored_percent(self) -> float:
        """Stored values in percent of the UNet's parameters."""
        return 100.0 * self.stored / self.unet

    @property
    def stored_mb(self) -> float:
        """Storage in MB, as float32."""
        return 4e-6 * self.stored


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
