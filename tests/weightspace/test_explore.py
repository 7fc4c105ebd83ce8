"""Sampling, editing and walking: the invariants of points in a space."""

from dataclasses import replace

import pytest
import torch

from pipelines.models.base import Base
from pipelines.weightspace import explore
from pipelines.weightspace.space import Space
from tests.tolerances import assert_close
from tests.weightspace.synthetic import synthetic_space


@pytest.fixture(scope="module")
def space(base: Base) -> Space:
    return synthetic_space(base, population=400)


@pytest.mark.parametrize("sampler", explore.SAMPLERS)
def test_factor_zero_is_the_mean_and_a_seed_is_a_person(space: Space, sampler: str) -> None:
    mean = explore.sample(space, seed=3, factor=0.0, sampler=sampler)
    assert_close(mean, torch.zeros_like(mean), dtype=torch.float32)
    one, same, other = (explore.sample(space, seed=seed, sampler=sampler) for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("sampler", ["plain", "blended"])
def test_samples_spread_as_the_population(space: Space, sampler: str) -> None:
    drawn = torch.stack([explore.sample(space, seed=seed, sampler=sampler) for seed in range(800)])
    assert torch.allclose(drawn.var(0), space.variance, rtol=0.2)


def test_a_shrunk_sample_keeps_its_attributes_and_halves_the_rest(space: Space) -> None:
    plain, shrunk = (explore.sample(space, seed=5, sampler=name) for name in ("plain", "shrunk"))
    assert_close(shrunk[:2], plain[:2])  # the toy's attributes are the first two coordinates
    assert_close(shrunk[2:], explore.KEPT_OUTSIDE * plain[2:])


def test_an_unknown_sampler_is_named(space: Space) -> None:
    with pytest.raises(ValueError, match="There is no sampler 'best'"):
        explore.sample(space, seed=0, sampler="best")


def test_a_member_is_its_own_neighbour_and_not_new(space: Space) -> None:
    found = explore.nearest(space, space.scores[7], count=3)
    assert (found[0].row, found[0].name) == (7, "7")
    assert found[0].cosine == pytest.approx(1.0, abs=1e-5)
    assert found[0].cosine >= found[1].cosine >= found[2].cosine
    assert explore.novelty(space, space.scores[7]) == pytest.approx(0.0, abs=1e-5)
    assert explore.nearest(space, torch.zeros(6)) == []


def test_members_are_at_distance_one_on_average(space: Space) -> None:
    distances = torch.tensor([explore.distance(space, beta) for beta in space.scores])
    assert float(distances.square().mean()) == pytest.approx(1.0, abs=0.01)


def test_a_slider_adds_what_an_edit_of_the_coordinates_gives(space: Space) -> None:
    sliders = explore.Sliders(space)
    beta, edits = space.scores[0], {"beard": 1.5, "glasses": -2.0}
    moved = sliders.moved(space.theta(beta), edits)
    assert_close(moved, space.theta(sliders.edited(beta, edits)))
    assert torch.equal(sliders.moved(space.theta(beta), {}), space.theta(beta))
    change = sliders.edited(beta, {"beard": 1.0}) - beta
    assert float(change[1]) == pytest.approx(space.manifest.attributes[1].spread, rel=1e-5)
    assert change[[0, 2, 3, 4, 5]].abs().max() < 1e-6
    with pytest.raises(ValueError, match="no attribute 'nose'"):
        sliders.edited(beta, {"nose": 1.0})


def skewed(space: Space, count: int = 4) -> Space:
    """Return the space with correlated directions."""
    vectors = torch.randn(count, 6, generator=torch.Generator().manual_seed(0)) + 1.0
    vectors /= vectors.norm(dim=1, keepdim=True)
    attributes = tuple(replace(space.manifest.attributes[0], name=f"a{row}") for row in range(count))
    return replace(space, vectors=vectors, manifest=replace(space.manifest, attributes=attributes))


def test_joint_debiasing_is_orthogonal_to_all_others_and_one_by_one_is_not(space: Space) -> None:
    vectors = skewed(space).vectors.double()
    cleaned = explore.debiased(vectors, 0)
    assert (vectors[1:] @ cleaned).abs().max() < 1e-12
    one_by_one = vectors[0]
    for other in vectors[1:]:
        one_by_one = one_by_one - (one_by_one @ other) / (other @ other) * other
    assert (vectors[1:] @ one_by_one).abs().max() > 1e-3, "the reason for doing it jointly"
    assert abs(float(one_by_one @ vectors[-1])) < 1e-12


def test_debiased_sliders_leave_the_other_readings_alone(space: Space) -> None:
    sliders = explore.Sliders(skewed(space), debias=True)
    change = sliders.edited(torch.zeros(6), {"a1": 1.0})
    readings = skewed(space).vectors @ change
    assert readings[[0, 2, 3]].abs().max() < 1e-4
    assert float(readings[1]) > 0


def test_directions_that_depend_on_others_are_refused() -> None:
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    with pytest.raises(ValueError, match="cannot be separated"):
        explore.debiased(vectors, 2)


def test_walking(space: Space) -> None:
    first, second = space.scores[0], space.scores[1]
    assert torch.equal(explore.interpolated(first, second, 0.0), first)
    assert_close(explore.interpolated(first, second, 1.0), second)
    assert_close(explore.combined([(first, 1.0), (second, -1.0), (second, 1.0)]), first)
    assert len(explore.interpolated(first[:3], second, 0.5)) == 6
    x, y = explore.plane(space, space.scores).std(0).tolist()
    assert (x, y) == (pytest.approx(1.0, abs=1e-4), pytest.approx(1.0, abs=1e-4))
