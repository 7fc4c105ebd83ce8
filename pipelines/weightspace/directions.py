"""Directions of attributes in a space's coordinates (Dravid et al. 2024, 2406.09413, section 3.3).

Two things belong to an attribute. A *reader* is a linear classifier of the scores: it says on which side of a threshold
a point lies. A *vector* is what a slider adds. The authors use one least-squares solution for both; here the vector may
also be the attribute's effect, the change of all coordinates per unit of the attribute when the others are held fixed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.weightspace.index import Attribute

COMPONENTS = (10, 20, 40, 80, 160, 320, 640, 1000)  # the leading coordinates that are tried for a reader
STRENGTHS = (
    1e-4,
    1e-3,
    1e-2,
    1e-1,
)  # regularisation of the classifiers that are tried (C of logistic regression)
LOW, HIGH = 0.35, 0.65  # labels between these are neither low nor high
SHARES = (0.6, 0.2, 0.2)  # training, validation, held out
VECTORS = ("effect", "least squares", "reader")


def least_squares(scores: Tensor, labels: Tensor) -> Tensor:
    """n_k = cov(P_k, y) / var(P_k) = (P⁺ y)_k for uncorrelated, centred scores P (N, m) and labels y (N,).

    Labels {0, 1} and {−1, 1} give the same direction; a constant added to the labels has no effect.
    """
    centred, wanted = scores - scores.mean(0), (labels - labels.mean()).to(scores.dtype)
    return (centred.T @ wanted) / centred.square().sum(0)


def effects(scores: Tensor, labels: Tensor) -> Tensor:
    """Return (K, m): the change of the scores per unit of each attribute with the others held fixed.

    The scores (N, m) are regressed on all labels (N, K) at once, so that attributes that occur together in the
    population do not enter each other's direction. Unknown labels (NaN) count as the attribute's mean.
    """
    known = torch.where(labels.isnan(), labels.nanmean(0), labels)
    design = (known - known.mean(0)).double()
    return torch.linalg.lstsq(design, (scores - scores.mean(0)).double(), driver="gelsd").solution.to(
        scores.dtype
    )


def debias(direction: Tensor, others: Tensor) -> Tensor:
    """Return the direction (m,) without its components in the span of ``others`` (K, m), all removed at once.

    One after another, as in the authors' code, brings removed components back where the others are not orthogonal.
    """
    if not len(others):
        return direction
    basis = torch.linalg.qr(others.T.double())[0]  # (m, K)
    wide = direction.double()
    return (wide - basis @ (basis.T @ wide)).to(direction.dtype)


@dataclass(frozen=True)
class Split:
    """Rows of the population for fitting, for choosing, and for the figure that is reported."""

    training: Tensor
    validation: Tensor
    held_out: Tensor


def split(count: int, *, seed: int = 0) -> Split:
    """Return a fixed random split of ``count`` identities, the same for every attribute."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    first, second = round(SHARES[0] * count), round((SHARES[0] + SHARES[1]) * count)
    return Split(order[:first], order[first:second], order[second:])


@dataclass(frozen=True)
class Reader:
    """A linear classifier of the scores: reader · β > threshold means the high value."""

    weights: Tensor  # (m,), 0 beyond ``components``
    threshold: float
    components: int
    balanced_accuracy: float  # on held-out identities; 0 if these have only one class
    held_out: int  # how many of them
    name: str  # which classifier was chosen


def balanced_accuracy(scores: Tensor, threshold: float, high: Tensor) -> float:
    """Return the mean of the shares of high and of low rows that are on their side of the threshold; 0 for one class."""
    if not high.any() or high.all():
        return 0.0
    above = scores > threshold
    return 0.5 * float(above[high].float().mean() + (~above[~high]).float().mean())


def best_threshold(scores: Tensor, high: Tensor) -> tuple[float, float]:
    """Return (threshold, balanced accuracy) of the best threshold; among equal ones, the middle of their range."""
    values, order = scores.double().sort()
    right = high[order].double()
    below_high = torch.cat(
        [torch.zeros(1), right.cumsum(0)]
    )  # how many of each class lie below place 0, 1, ..., N
    below_low = torch.arange(len(values) + 1) - below_high
    found = 0.5 * (1 - below_high / right.sum() + below_low / (len(values) - right.sum()))
    apart = torch.cat(
        [torch.ones(1), (values[1:] > values[:-1]).double(), torch.ones(1)]
    )  # equal scores stay together
    found = torch.where(apart > 0, found, torch.zeros_like(found))
    middles = torch.cat([values[:1] - 1.0, (values[1:] + values[:-1]) / 2, values[-1:] + 1.0])
    best = (found >= found.max() - 1e-12).nonzero().flatten()
    chosen = best[len(best) // 2]
    return float(middles[chosen]), float(found[chosen])


def fit_reader(scores: Tensor, labels: Tensor, parts: Split, *, only_least_squares: bool = False) -> Reader:
    """Choose the classifier, its number of coordinates and its threshold on the validation rows; judge on the others.

    ``scores`` (N, m); ``labels`` (N,) in [0, 1], NaN or between ``LOW`` and ``HIGH`` where a row counts as neither.
    """
    clear = (labels < LOW) | (labels > HIGH)
    rows = [part[clear[part]] for part in (parts.training, parts.validation, parts.held_out)]
    high = labels > HIGH
    best: Reader | None = None
    reached = -1.0
    training, validation, held_out = rows
    if (
        len({bool(value) for value in high[training]}) < 2
        or len({bool(value) for value in high[validation]}) < 2
    ):
        weights = (
            least_squares(scores[training], high[training].float())
            if len(training) > 1
            else torch.zeros(scores.shape[1])
        )
        return Reader(weights, 0.0, scores.shape[1], 0.0, len(held_out), "least squares")
    for count in sorted({min(count, scores.shape[1]) for count in COMPONENTS}):
        for name, weights in _candidates(scores[training, :count], high[training], only_least_squares):
            whole = torch.nn.functional.pad(weights, (0, scores.shape[1] - count))
            threshold, value = best_threshold(scores[validation] @ whole, high[validation])
            if value > reached + 1e-9:
                reached = value
                judged = balanced_accuracy(scores[held_out] @ whole, threshold, high[held_out])
                best = Reader(whole, threshold, count, judged, len(held_out), name)
    assert best is not None
    return best


def _candidates(scores: Tensor, high: Tensor, only_least_squares: bool) -> list[tuple[str, Tensor]]:
    """Return the weights of each classifier that is tried, in units of the scores."""
    found = [("least squares", least_squares(scores, high.float()))]
    if only_least_squares:
        return found
    from sklearn.linear_model import LogisticRegression

    spread = scores.std(0).clamp(min=1e-12)
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, class_weight="balanced", max_iter=200)
        model.fit((scores / spread).numpy(), high.numpy())
        found.append(
            (f"logistic regression, C = {strength:g}", torch.from_numpy(model.coef_[0]).float() / spread)
        )
    return found


@dataclass(frozen=True, eq=False)
class Directions:
    """The attributes of a space with their vectors (K, m) and readers (K, m)."""

    attributes: tuple[Attribute, ...]
    vectors: Tensor
    readers: Tensor
    classifiers: tuple[str, ...]
    held_out: tuple[int, ...]


Words = tuple[str, str, str, str]  # name, label, low, high


def fit_directions(
    scores: Tensor,
    labels: Tensor,
    words: Sequence[Words],
    *,
    vector: str = "effect",
    only_least_squares: bool = False,
) -> Directions:
    """Return a direction for each column of ``labels`` (N, K).

    Vectors have unit length and point to the high value; their strength is measured in ``spread``, the standard
    deviation of the population along them. ``only_least_squares`` does without scikit-learn, as the authors do.
    """
    if vector not in VECTORS:
        raise ValueError(f"There is no kind of vector {vector!r}; choose one of {', '.join(VECTORS)}.")
    parts, moved = split(len(scores)), effects(scores, labels)
    attributes, vectors, readers = [], [], []
    for column, (name, label, low, high) in enumerate(words):
        own = labels[:, column]
        reader = fit_reader(scores, own, parts, only_least_squares=only_least_squares)
        known = ~own.isnan()
        raw = {"effect": moved[column], "reader": reader.weights}.get(vector)
        if raw is None:
            raw = least_squares(scores[known], own[known])
        unit = raw / raw.norm().clamp(min=1e-12)
        vectors.append(unit)
        readers.append(reader)
        attributes.append(
            Attribute(
                name=name, label=label, low=low, high=high, spread=float((scores @ unit).std()),
                threshold=reader.threshold, balanced_accuracy=reader.balanced_accuracy,
                components=reader.components, share=float((own[known] > HIGH).float().mean()),
            )
        )  # fmt: skip
    return Directions(
        tuple(attributes), torch.stack(vectors), torch.stack([reader.weights for reader in readers]),
        tuple(reader.name for reader in readers), tuple(reader.held_out for reader in readers),
    )  # fmt: skip


def strongest(scores: Tensor, vector: Tensor) -> float:
    """Return the largest absolute projection of the population on a unit vector: the paper's bound of a strength."""
    return float((scores @ vector).abs().max())
