"""Metrics that compare pictures of the base with reference renders."""

import numpy as np
import pytest
import torch

from pipelines.data.photographs import to_tensor
from pipelines.evaluation.embedded_encoders import Instruments
from recipes.quality import (
    COMPONENTS,
    Reference,
    Whitening,
    both_found,
    frechet_distance,
    pair_prompt,
    pairs,
    sharpness,
    square_around,
)
from recipes.world import KINDS, draw


@pytest.fixture(scope="module")
def instruments() -> Instruments:
    return Instruments()


def test_distance_of_two_gaussians_is_the_formula_of_their_moments():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(200_000, 2))
    b = rng.normal(size=(200_000, 2)) * (2.0, 0.5) + (1.0, -1.0)
    # |(1, -1)|² + (1 - 2)² + (1 - 0.5)²
    assert frechet_distance(a, b) == pytest.approx(2.0 + 1.0 + 0.25, abs=0.03)
    assert frechet_distance(a, a) == pytest.approx(0.0, abs=1e-9)


def test_distance_is_the_same_both_ways():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(50, 6)), rng.normal(size=(40, 6)) @ rng.normal(size=(6, 6))
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a))


def test_whitened_reference_has_no_mean_and_unit_covariance():
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(300, 40)) @ rng.normal(size=(40, 40)) + 3.0
    white = Whitening(rows)(rows)
    assert white.shape == (300, COMPONENTS)
    np.testing.assert_allclose(white.mean(0), 0.0, atol=1e-9)
    np.testing.assert_allclose(np.cov(white, rowvar=False), np.eye(COMPONENTS), atol=1e-9)


def test_sharpness_counts_both_directions():
    stripes = torch.zeros(1, 3, 8, 8)
    stripes[..., ::2] = 1.0
    assert sharpness(stripes) == pytest.approx(0.5)
    assert sharpness(stripes.transpose(2, 3)) == pytest.approx(0.5)
    assert sharpness(torch.ones(2, 3, 8, 8)) == 0.0


def test_noise_is_farther_from_renders_than_renders_are(instruments: Instruments):
    pictures = [draw(picture) for picture in pairs(40)]
    reference = Reference.of(instruments, to_tensor(pictures[:24]))
    noise = torch.rand(16, 3, 128, 128, generator=torch.Generator().manual_seed(0)) * 2.0 - 1.0
    assert reference.distance(instruments, noise) > reference.distance(instruments, to_tensor(pictures[24:]))


def test_pairs_are_two_held_out_photographs_of_every_kind():
    pictures = pairs(64)
    assert {len(picture.placed) for picture in pictures} == {2}
    assert {picture.style for picture in pictures} == {"photo"}
    assert {placed.subject.kind for picture in pictures for placed in picture.placed} == set(KINDS)
    assert pictures == pairs(64)


def test_prompt_of_a_pair_names_both_in_their_places():
    picture = pairs(1)[0]
    left, right = (placed.subject.kind for placed in picture.placed)
    assert pair_prompt(picture).startswith(f"a photo of a {left} on the left and a {right} on the right ")


def test_squares_lie_inside_the_picture_in_their_order():
    for picture in pairs(64):
        (left, top, side), (other_left, other_top, other_side) = (
            square_around(placed.view) for placed in picture.placed
        )
        assert left + side / 2 < other_left + other_side / 2
        for corner, extent in ((left, side), (top, side), (other_left, other_side), (other_top, other_side)):
            assert 0 <= corner <= 128 - extent


def test_both_kinds_are_found_in_what_the_illustrator_draws(instruments: Instruments):
    pictures = pairs(24)
    pixels = to_tensor([draw(picture) for picture in pictures])
    assert sum(both_found(instruments, pixels, pictures)) >= 18
    assert sum(both_found(instruments, pixels.flip(0), pictures)) <= 6
