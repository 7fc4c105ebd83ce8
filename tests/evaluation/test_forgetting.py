"""Forgetting: MMD against brute force and known distributions, and matrices whose summary is known by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.evaluation.forgetting import (
    Footprint,
    ForgettingMatrix,
    a_mmd,
    cubic,
    f_mmd,
    found_together,
    kid,
    mmd,
    quadratic,
    retrieved,
)


def unit_rows(count: int, *, seed: int, towards: float = 0.0, size: int = 6) -> Tensor:
    rows = torch.randn(count, size, generator=torch.Generator().manual_seed(seed))
    rows[:, 0] += towards
    return F.normalize(rows, dim=1)


def brute_force(ours: Tensor, theirs: Tensor, *, paired: bool) -> float:
    """The unbiased estimate, one pair after the other."""

    def k(x: Tensor, y: Tensor) -> float:
        return (float(x @ y) + 1.0) ** 2

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    within = sum(
        mean([k(x, y) for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j])
        for rows in (ours, theirs)
    )
    cross = [k(x, y) for i, x in enumerate(ours) for j, y in enumerate(theirs) if not (paired and i == j)]
    return within - 2 * mean(cross)


@pytest.mark.parametrize("paired", [False, True])
def test_mmd_is_the_unbiased_estimate(paired: bool) -> None:
    ours, theirs = unit_rows(5, seed=0), unit_rows(5 if paired else 7, seed=1, towards=1.0)
    assert mmd(ours, theirs, paired=paired) == pytest.approx(
        brute_force(ours, theirs, paired=paired), abs=1e-5
    )


def test_mmd_of_two_points_is_known() -> None:
    """All of P at e1, all of Q at e2: k(x, x) = 4 within, k(x, y) = 1 between, MMD² = 4 + 4 - 2."""
    first, second = torch.eye(2)[[0, 0, 0]], torch.eye(2)[[1, 1, 1]]
    assert mmd(first, second) == pytest.approx(6.0)
    assert kid(first, second) == pytest.approx(8 + 8 - 2)


def test_mmd_of_equal_distributions_is_zero_on_average() -> None:
    """The estimate has no bias: over many small sets its mean is 0, where the biased one is far above."""
    values, biased = [], []
    for seed in range(200):
        ours, theirs = unit_rows(6, seed=2 * seed), unit_rows(6, seed=2 * seed + 1)
        values.append(mmd(ours, theirs))
        grams = [quadratic(ours, ours), quadratic(theirs, theirs), quadratic(ours, theirs)]
        biased.append(float(grams[0].mean() + grams[1].mean() - 2 * grams[2].mean()))
    spread = torch.tensor(values).std() / len(values) ** 0.5
    assert abs(sum(values) / len(values)) < 3 * spread
    assert sum(biased) / len(biased) > 10 * spread
    assert mmd(unit_rows(40, seed=1), unit_rows(40, seed=2, towards=2.0)) > 0.5


def test_the_same_pictures_have_no_distance() -> None:
    rows = unit_rows(8, seed=3)
    assert mmd(rows, rows, paired=True) == pytest.approx(0.0, abs=1e-12)
    assert mmd(rows, rows) < 0  # as pairs of the same seed, they are no independent sets
    with pytest.raises(ValueError, match="use the same seeds"):
        mmd(rows, rows[:5], paired=True)
    with pytest.raises(ValueError, match="at least two of each"):
        mmd(rows[:1], rows)


def test_kernels() -> None:
    ours, theirs = unit_rows(3, seed=0), unit_rows(4, seed=1)
    assert quadratic(ours, theirs).shape == (3, 4)
    cosines = ours.double() @ theirs.double().T
    assert torch.allclose(quadratic(ours, theirs), (cosines + 1) ** 2)
    assert torch.allclose(cubic(ours * 6**0.5, theirs * 6**0.5), (cosines + 1) ** 3)


def test_the_means_over_concepts() -> None:
    points = [torch.eye(2)[[index] * 3] for index in (0, 1)]
    assert a_mmd(points, [points[0], points[0]]) == pytest.approx((0 + 6) / 2)
    assert f_mmd([points[0], points[0]], [points[1], points[1]]) == pytest.approx(6.0), (
        "only the first counts"
    )
    frozen = [unit_rows(5, seed=seed) for seed in range(3)]
    assert f_mmd(frozen, frozen) == pytest.approx(0.0, abs=1e-12)
    assert f_mmd(frozen[:1], frozen[:1]) == 0.0


def test_identity_in_a_line_up() -> None:
    lineup = torch.eye(4)
    drawn = F.normalize(torch.tensor([[1.0, 0.2, 0, 0], [0.9, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]), dim=1)
    assert retrieved(drawn, lineup, concept=0) == 0.5
    assert retrieved(drawn, lineup, concept=2) == 0.0
    halves = lineup[torch.tensor([[0, 1], [1, 0], [0, 0], [0, 2], [1, 1]])]
    assert found_together(halves, lineup, pair=(0, 1)).tolist() == [True, True, False, False, False]


def test_a_matrix_known_by_hand() -> None:
    matrix = ForgettingMatrix(
        concepts=("a", "b", "c"), scores=((0.9, None, None), (0.7, 0.8, None), (0.5, 0.6, 1.0))
    )
    assert matrix.diagonal == (0.9, 0.8, 1.0)
    assert matrix.final == (0.5, 0.6, 1.0)
    assert matrix.average_forgetting == pytest.approx((0.4 + 0.2) / 2)
    assert matrix.plasticity([0.9, 0.9, 0.9]) == pytest.approx(1.0)
    assert ForgettingMatrix.from_dict(matrix.to_dict()) == matrix
    with pytest.raises(ValueError, match="trained alone, above 0"):
        matrix.plasticity([0.0, 0.0, 0.0])


def test_a_matrix_says_what_is_missing() -> None:
    half = ForgettingMatrix(concepts=("a", "b"), scores=((0.9, None), (None, 0.8)))
    assert half.diagonal == (0.9, 0.8)
    with pytest.raises(ValueError, match="'a' has not been measured yet"):
        _ = half.average_forgetting
    with pytest.raises(ValueError, match="as many rows and columns"):
        ForgettingMatrix(concepts=("a", "b"), scores=((1.0, 0.0),))
    assert ForgettingMatrix(concepts=("a",), scores=((0.5,),)).average_forgetting == 0.0


def test_the_size_of_a_concept() -> None:
    """On SD 1.5, rank 16 on keys and values is 0.0922 % of the UNet, all of them 2.230 %."""
    low_rank = Footprint(trained=792_576 + 768, stored=792_576 + 768, unet=859_520_964)
    assert low_rank.trained_percent == pytest.approx(0.0922, abs=2e-4)
    assert Footprint(trained=19_169_280, stored=19_169_280, unet=859_520_964).stored_mb == pytest.approx(
        76.7, abs=0.1
    )
