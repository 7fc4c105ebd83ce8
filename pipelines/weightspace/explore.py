"""Sampling, editing and walking in a weight space (weights2weights, Dravid et al. 2024, 2406.09413, section 3).

All functions are pure: coordinates β in, coordinates or numbers out. Amounts of an edit are in standard deviations of
the population along the attribute's direction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.weightspace.space import Space

SAMPLERS = ("plain", "shrunk", "blended")
PARENTS = 3  # members that a blended sample is made of
KEPT_OUTSIDE = 0.5  # share of a shrunk sample that is kept outside the span of the attributes
TINY = 1e-12


@dataclass(frozen=True)
class Neighbour:
    """A member of the population: its row, its name, and the cosine of its coordinates with a point's."""

    row: int
    name: str
    cosine: float


# ---- sampling -------------------------------------------------------------------------------------------------------


def sample(space: Space, *, seed: int, factor: float = 1.0, sampler: str = "plain") -> Tensor:
    """Return the coordinates (m,) of a new identity; the same seed gives the same one.

    "plain" is the authors' model, β_k ~ N(mean_k, (factor · std_k)²) independently. "shrunk" also halves the part
    outside the span of the attributes, which carries more of a single training run than of a person. "blended" is a
    random combination of a few members with the spread of the population. Factor 0 is the mean.
    """
    if sampler not in SAMPLERS:
        raise ValueError(
            f"There is no sampler {sampler!r} of identities; choose one of {', '.join(SAMPLERS)}."
        )
    generator = torch.Generator().manual_seed(seed)
    mean = space.scores.mean(0) if len(space.scores) else torch.zeros_like(space.variance)
    if sampler == "blended":
        return mean + factor * _blend(space, generator)
    drawn = torch.randn(space.variance.shape, generator=generator) * space.variance.sqrt()
    if sampler == "shrunk":
        inside = project(drawn, _whitened_span(space), variance=space.variance)
        drawn = inside + KEPT_OUTSIDE * (drawn - inside)
    return mean + factor * drawn


def _blend(space: Space, generator: torch.Generator) -> Tensor:
    """Return Σ w_i (β_i − mean) / ‖w‖ for random members: weights of unit norm keep the population's variance."""
    count = min(PARENTS, len(space.scores))
    if count < 2:
        raise ValueError("The space has no population to blend; choose another way of sampling.")
    rows = torch.randperm(len(space.scores), generator=generator)[:count]
    weights = torch.rand(count, generator=generator)
    weights = weights / weights.norm()
    return weights @ (space.scores[rows] - space.scores.mean(0))


def _whitened_span(space: Space) -> Tensor:
    """Return the directions (K, m) of all attributes in coordinates of unit variance."""
    return space.vectors / space.variance.clamp(min=TINY).sqrt()


def project(beta: Tensor, directions: Tensor, *, variance: Tensor | None = None) -> Tensor:
    """Return the part of β (..., m) in the span of ``directions`` (K, m); in coordinates of unit variance if given.

    With ``variance`` (m,), the directions are in these coordinates, and β is converted there and back.
    """
    spread = 1.0 if variance is None else variance.clamp(min=TINY).sqrt()
    basis = _orthonormal(directions)
    return ((beta / spread) @ basis.T @ basis) * spread


def _orthonormal(directions: Tensor) -> Tensor:
    """Return an orthonormal basis (r, m) of the span of ``directions`` (K, m); dependent directions are dropped."""
    if not len(directions):
        return directions
    _, sizes, right = torch.linalg.svd(directions.double(), full_matrices=False)
    return right[sizes > 1e-9 * sizes.max().clamp(min=TINY)].to(directions.dtype)


# ---- where a point lies ---------------------------------------------------------------------------------------------


def nearest(space: Space, beta: Tensor, *, count: int = 5) -> list[Neighbour]:
    """Return the members with the largest cosine to β (k,), k ≤ m, in the space of scores; [] at the mean."""
    scores = space.scores[:, : len(beta)]
    if not len(scores) or float(beta.norm()) < TINY:
        return []
    cosines = (scores @ beta) / (scores.norm(dim=1) * beta.norm()).clamp(min=TINY)
    best = cosines.topk(min(count, len(cosines)))
    names = space.manifest.members
    return [
        Neighbour(row, names[row] if names else str(row), float(value))
        for value, row in zip(best.values, best.indices.tolist(), strict=True)
    ]


def novelty(space: Space, beta: Tensor) -> float:
    """Return 1 − the cosine with the nearest member: 0 for a member itself, near 1 for an unrelated identity."""
    found = nearest(space, beta, count=1)
    return 1.0 - found[0].cosine if found else 0.0


def distance(space: Space, beta: Tensor) -> float:
    """Return the root mean square of β (k,) in the population's standard deviations; about 1 for a member."""
    return float((beta.square() / space.variance[: len(beta)].clamp(min=TINY)).mean().sqrt())


def plane(space: Space, beta: Tensor) -> Tensor:
    """Return the first two coordinates of β (..., k) in standard deviations: its place on the map."""
    return beta[..., :2] / space.variance[:2].clamp(min=TINY).sqrt()


def at_place(space: Space, beta: Tensor, x: float, y: float) -> Tensor:
    """Return β with its first two coordinates moved to a place of :func:`plane`."""
    spread = space.variance[:2].sqrt()
    return torch.cat([torch.tensor([x, y]) * spread, beta[2:]])


# ---- editing --------------------------------------------------------------------------------------------------------


def debiased(vectors: Tensor, row: int) -> Tensor:
    """Return vector ``row`` of (K, m) without its part in the span of all other vectors, jointly; unit length.

    Removing one direction after another would bring earlier ones back when they are not orthogonal.
    """
    others = torch.cat([vectors[:row], vectors[row + 1 :]])
    rest = vectors[row] - project(vectors[row], others)
    size = rest.norm()
    if size < 1e-4 * vectors[row].norm():
        raise ValueError("This attribute cannot be separated from the others; switch debiasing off.")
    return rest / size


class Sliders:
    """The directions of a space's attributes, un-projected to weights once, so that a slider only adds one of them.

    ``beta`` (K, m) and ``theta`` (K, d) are the changes of coordinates and weights for one standard deviation.
    """

    def __init__(self, space: Space, *, debias: bool = False) -> None:
        self.names = [attribute.name for attribute in space.manifest.attributes]
        vectors = space.vectors
        if debias and len(vectors) > 1:
            vectors = torch.stack([debiased(vectors, row) for row in range(len(vectors))])
        centred = space.scores - space.scores.mean(0)
        spreads = (centred @ vectors.T).std(0) if len(centred) > 1 else torch.ones(len(vectors))
        self.beta = vectors * spreads[:, None]
        self.theta = space.offset(self.beta)

    def amounts(self, edits: Mapping[str, float]) -> Tensor:
        """Return the amount of every slider (K,). Raises ValueError for an unknown attribute."""
        unknown = sorted(set(edits) - set(self.names))
        if unknown:
            raise ValueError(
                f"The space has no attribute {unknown[0]!r}; it has {', '.join(self.names) or 'none'}."
            )
        return torch.tensor([float(edits.get(name, 0.0)) for name in self.names])

    def edited(self, beta: Tensor, edits: Mapping[str, float]) -> Tensor:
        """Return coordinates (m,) after an edit."""
        full = torch.nn.functional.pad(beta, (0, self.beta.shape[1] - len(beta)))
        return full + self.amounts(edits) @ self.beta

    def moved(self, theta: Tensor, edits: Mapping[str, float]) -> Tensor:
        """Return weights (d,) after an edit: one addition per slider that is not at 0, and no projection."""
        answer = theta.clone()
        for row, amount in enumerate(self.amounts(edits).tolist()):
            if amount:
                answer.add_(self.theta[row], alpha=amount)
        return answer


# ---- walking --------------------------------------------------------------------------------------------------------


def interpolated(first: Tensor, second: Tensor, share: float) -> Tensor:
    """Return the point at ``share`` (0 first, 1 second) of the straight line between two points (m,)."""
    first, second = _same_length(first, second)
    return torch.lerp(first, second, share)


def combined(points: Sequence[tuple[Tensor, float]]) -> Tensor:
    """Return Σ w·β of points (m,) with weights w, such as first − second + third."""
    length = max(len(beta) for beta, _ in points)
    return torch.stack([weight * _padded(beta, length) for beta, weight in points]).sum(0)


def _same_length(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    length = max(len(first), len(second))
    return _padded(first, length), _padded(second, length)


def _padded(beta: Tensor, length: int) -> Tensor:
    return torch.nn.functional.pad(beta, (0, length - len(beta)))
