"""The invariants of a space's mathematics (Dravid et al. 2024): components, scores, directions, debiasing, sampling."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipelines.adapters.core import save_tensors
from pipelines.weightspace.components import Components, principal_components, standardisation
from pipelines.weightspace.directions import (
    best_threshold,
    debias,
    effects,
    fit_directions,
    fit_reader,
    least_squares,
    split,
)
from pipelines.weightspace.shards import WeightRows

SIZE, COUNT = 60, 30


def on_disk(theta: Tensor, folder: Path, *, rows: int = 7) -> WeightRows:
    paths = []
    for number, part in enumerate(theta.split(rows)):
        paths.append(folder / f"weights-{number:05d}.safetensors")
        save_tensors(paths[-1], {"theta": part.contiguous()}, metadata={})
    return WeightRows(paths, size=theta.shape[1])


def theta() -> Tensor:
    """(N, d): correlated weights of very different scales around different means."""
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(COUNT, 12, generator=generator) @ torch.randn(12, SIZE, generator=generator)
    noise = torch.randn(COUNT, SIZE, generator=generator)
    scales = 10.0 ** torch.linspace(-3, 1, SIZE)
    return (mixed + 0.3 * noise) * scales + torch.linspace(-5, 5, SIZE)


@pytest.fixture
def whole(tmp_path: Path) -> Components:
    return principal_components(on_disk(theta(), tmp_path), COUNT - 1)


def unprojected(space: Components, beta: Tensor) -> Tensor:
    return space.mean + space.std * (beta @ space.basis[: beta.shape[-1]])


def projected(space: Components, weights: Tensor) -> Tensor:
    return ((weights - space.mean) / space.std) @ space.basis.T


def test_all_components_give_the_weights_back(whole: Components) -> None:
    error = (unprojected(whole, projected(whole, theta())) - theta()).norm() / (theta() - whole.mean).norm()
    assert float(error) < 2e-5  # float32


def test_fewer_components_give_a_larger_error(whole: Components) -> None:
    errors = [
        float((unprojected(whole, whole.scores[:, :m]) - theta()).div(whole.std).norm())
        for m in range(1, COUNT)
    ]
    assert all(later < earlier for earlier, later in pairwise(errors))


def test_coordinates_survive_the_round_trip(whole: Components) -> None:
    beta = torch.randn(4, COUNT - 1, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(projected(whole, unprojected(whole, beta)), beta, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(whole.basis @ whole.basis.T, torch.eye(COUNT - 1), rtol=0, atol=1e-5)


def test_scores_are_centred_uncorrelated_and_their_variances_sum_to_the_size(whole: Components) -> None:
    assert float(whole.scores.mean(0).abs().max()) < 1e-4
    covariance = torch.cov(whole.scores.T)
    torch.testing.assert_close(covariance, torch.diag(whole.variance), rtol=1e-3, atol=1e-3)
    assert float(whole.variance.sum()) == pytest.approx(SIZE, rel=1e-4)
    assert whole.total == pytest.approx(SIZE, rel=1e-4)
    assert float(whole.explained.sum()) == pytest.approx(1, rel=1e-4)
    assert (whole.variance[1:] <= whole.variance[:-1]).all()


def test_the_scores_are_the_projections_of_the_weights(whole: Components) -> None:
    torch.testing.assert_close(projected(whole, theta()), whole.scores, rtol=1e-3, atol=2e-3)


def test_the_mean_and_sampling_with_factor_0_are_the_mean_weights(whole: Components) -> None:
    assert unprojected(whole, torch.zeros(5)).equal(whole.mean)
    torch.testing.assert_close(whole.mean, theta().mean(0), rtol=1e-5, atol=1e-5)


def test_a_constant_coordinate_is_guarded(tmp_path: Path) -> None:
    weights = theta()
    weights[:, 3] = 0.25
    space = principal_components(on_disk(weights, tmp_path), 5)
    assert space.std[3] == 1
    assert not space.basis[:, 3].any()
    assert unprojected(space, space.scores)[:, 3].equal(torch.full((COUNT,), 0.25))
    assert space.total == pytest.approx(SIZE - 1, rel=1e-4)


def test_the_standard_deviation_is_unbiased_and_does_not_cancel(tmp_path: Path) -> None:
    weights = theta() + 1000
    mean, std = standardisation(on_disk(weights, tmp_path))
    torch.testing.assert_close(std, weights.double().std(0), rtol=1e-9, atol=0)
    torch.testing.assert_close(mean, weights.double().mean(0), rtol=1e-12, atol=0)


def test_incremental_equals_exact_where_nothing_is_cut_off(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(4)
    low_rank = torch.randn(40, 6, generator=generator) @ torch.randn(6, SIZE, generator=generator)
    rows = on_disk(low_rank, tmp_path, rows=9)
    exact, incremental = (principal_components(rows, 6, method=method) for method in ("gram", "incremental"))
    torch.testing.assert_close(incremental.basis, exact.basis, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(incremental.scores, exact.scores, rtol=1e-4, atol=1e-3)


def test_too_many_components_are_refused(tmp_path: Path) -> None:
    rows = on_disk(theta(), tmp_path)
    with pytest.raises(ValueError, match="30 identities have 29 components, so 30 cannot be kept"):
        principal_components(rows, 30)


def test_a_population_of_copies_is_refused(tmp_path: Path) -> None:
    weights = theta()[:2].repeat(6, 1)
    with pytest.raises(ValueError, match="spans only 1 dimensions, so 4 components cannot be kept"):
        principal_components(on_disk(weights, tmp_path), 4)


def labels_of(scores: Tensor) -> Tensor:
    return (scores[:, 0] / scores[:, 0].std() + 0.5 * scores[:, 2] / scores[:, 2].std() > 0).float()


def test_least_squares_needs_no_inverse(whole: Components) -> None:
    labels = labels_of(whole.scores)
    expected = torch.linalg.pinv(whole.scores.double()) @ labels.double()
    torch.testing.assert_close(least_squares(whole.scores, labels).double(), expected, rtol=2e-3, atol=1e-6)


def test_labels_of_minus_one_and_one_double_the_direction(whole: Components) -> None:
    labels = labels_of(whole.scores)
    once, twice = least_squares(whole.scores, labels), least_squares(whole.scores, 2 * labels - 1)
    torch.testing.assert_close(twice, 2 * once, rtol=1e-5, atol=1e-8)


def test_debiasing_removes_the_whole_span_at_once() -> None:
    generator = torch.Generator().manual_seed(5)
    direction, others = torch.randn(20, generator=generator), torch.randn(3, 20, generator=generator)
    single = debias(direction, others[:1])
    assert abs(float(single @ others[0])) < 1e-5
    assert float((others @ debias(direction, others)).abs().max()) < 1e-5
    in_turn = direction
    for other in others:
        in_turn = debias(in_turn, other[None])
    assert float((others @ in_turn).abs().max()) > 1e-2
    assert debias(direction, others[:0]).equal(direction)


def test_effects_separate_attributes_that_occur_together() -> None:
    """Two attributes that agree in 80 % of the population move their own coordinate only."""
    generator = torch.Generator().manual_seed(6)
    first = (torch.rand(400, generator=generator) < 0.5).float()
    second = torch.where(torch.rand(400, generator=generator) < 0.8, first, 1 - first)
    scores = torch.randn(400, 5, generator=generator) * 0.3
    scores[:, 0] += 3 * first
    scores[:, 1] += 2 * second
    moved = effects(scores, torch.stack([first, second], 1))
    torch.testing.assert_close(moved[:, :2], torch.tensor([[3.0, 0.0], [0.0, 2.0]]), rtol=0, atol=0.15)
    confounded = least_squares(scores, first)
    assert float(torch.nn.functional.cosine_similarity(moved[0], torch.eye(5)[0], dim=0)) > 0.99
    assert float(torch.nn.functional.cosine_similarity(confounded, torch.eye(5)[0], dim=0)) < 0.99


def test_unknown_labels_do_not_enter_the_effects() -> None:
    generator = torch.Generator().manual_seed(7)
    labels = (torch.rand(300, 1, generator=generator) < 0.5).float()
    scores = torch.randn(300, 3, generator=generator) * 0.1 + labels * torch.tensor([1.0, 0.0, -2.0])
    labels[::3] = float("nan")
    torch.testing.assert_close(effects(scores, labels)[0], torch.tensor([1.0, 0.0, -2.0]), rtol=0, atol=0.1)


def test_a_reader_finds_a_planted_attribute_and_is_judged_on_other_identities() -> None:
    generator = torch.Generator().manual_seed(8)
    scores = torch.randn(300, 30, generator=generator) * torch.linspace(10, 1, 30)
    labels = (scores[:, 3] / scores[:, 3].std() + 0.2 * torch.randn(300, generator=generator) > 0.8).float()
    reader = fit_reader(scores, labels, split(300))
    assert reader.balanced_accuracy > 0.85
    noise = fit_reader(scores, labels[torch.randperm(300, generator=generator)], split(300))
    assert noise.balanced_accuracy < 0.7


def test_the_middle_of_a_scale_is_neither_low_nor_high() -> None:
    scores = torch.linspace(-1, 1, 100)[:, None] * torch.ones(1, 2)
    labels = torch.linspace(0, 1, 100)
    labels[45:55] = 1 - labels[45:55]
    assert fit_reader(scores, labels, split(100)).balanced_accuracy == 1.0


def test_the_split_is_a_partition() -> None:
    parts = split(50)
    together = torch.cat([parts.training, parts.validation, parts.held_out])
    assert together.sort().values.equal(torch.arange(50))
    assert (len(parts.training), len(parts.validation)) == (30, 10)


def test_the_best_threshold_lies_between_the_classes() -> None:
    scores = torch.tensor([0.0, 1.0, 2.0, 5.0, 6.0])
    threshold, reached = best_threshold(scores, scores > 3)
    assert 2.0 < threshold < 5.0
    assert reached == 1.0


def test_vectors_have_unit_length_and_a_spread_in_units_of_the_population(whole: Components) -> None:
    labels = torch.stack([labels_of(whole.scores), (whole.scores[:, 1] > 0).float()], 1)
    words = [("one", "One", "low", "high"), ("two", "Two", "low", "high")]
    for kind in ("effect", "least squares", "reader"):
        found = fit_directions(whole.scores, labels, words, vector=kind)
        torch.testing.assert_close(found.vectors.norm(dim=1), torch.ones(2), rtol=1e-5, atol=0)
        for row, attribute in enumerate(found.attributes):
            along = whole.scores @ found.vectors[row]
            assert attribute.spread == pytest.approx(float(along.std()), rel=1e-5)
            high = labels[:, row] > 0.5
            assert along[high].mean() > along[~high].mean()
    with pytest.raises(ValueError, match="no kind of vector 'mean'"):
        fit_directions(whole.scores, labels, words, vector="mean")
