"""Losses on cases small enough to compute by hand."""

import pytest
import torch

from pipelines.training.losses import (
    add_noise,
    cell_weights,
    denoising_loss,
    min_snr_weights,
    prior_preservation_terms,
)

NOISE = torch.zeros(2, 1, 1, 2)
NOISE_PRED = torch.tensor([[[[1.0, 3.0]]], [[[2.0, 0.0]]]])  # mean squared errors 5 and 2 per item
HALVES = {"instance": slice(0, 2), "prior": slice(2, 4)}


def test_denoising_loss_is_the_mean_over_all_elements():
    assert float(denoising_loss(NOISE_PRED, NOISE)) == pytest.approx(3.5)
    assert float(denoising_loss(NOISE_PRED, NOISE, torch.tensor([1.0, 0.5]))) == pytest.approx((5 + 1) / 2)


def test_denoising_loss_reduces_in_float32():
    half = torch.full((1, 4, 64, 64), 300.0, dtype=torch.float16)  # 300² overflows float16
    loss = denoising_loss(half, torch.zeros_like(half))
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(90_000)


def test_min_snr_weights_by_hand():
    alphas_cumprod = torch.tensor([0.5, 0.9, 0.1])  # SNR 1, 9, 1/9
    weights = min_snr_weights(alphas_cumprod, torch.tensor([1, 0, 2]), 5.0)
    torch.testing.assert_close(weights, torch.tensor([5 / 9, 1.0, 1.0]))


def test_add_noise_by_hand():
    noisy = add_noise(torch.ones(2, 1, 1, 1), torch.full((2, 1, 1, 1), 2.0), torch.tensor([1.0, 0.36]))
    torch.testing.assert_close(noisy.flatten(), torch.tensor([1.0, 0.6 + 0.8 * 2]))


def test_prior_weight_zero_is_the_plain_loss():
    both = torch.cat([NOISE_PRED, 7 * NOISE_PRED])
    terms = prior_preservation_terms(both, torch.zeros_like(both), groups=HALVES, prior_weight=0.0)
    assert float(sum(terms.values())) == pytest.approx(3.5)
    alone = prior_preservation_terms(NOISE_PRED, NOISE, groups={"instance": slice(0, 2)}, prior_weight=1.0)
    assert list(alone) == ["instance"]
    assert float(alone["instance"]) == pytest.approx(3.5)


def test_identical_halves_double_the_loss_exactly():
    both, noise = torch.cat([NOISE_PRED, NOISE_PRED]), torch.cat([NOISE, NOISE])
    terms = prior_preservation_terms(both, noise, groups=HALVES, prior_weight=1.0)
    assert float(sum(terms.values())) == 2 * float(denoising_loss(NOISE_PRED, NOISE))


def test_each_half_keeps_the_weights_of_its_own_timesteps():
    both, noise = torch.cat([NOISE_PRED, NOISE_PRED]), torch.cat([NOISE, NOISE])
    weights = torch.tensor([1.0, 0.0, 0.0, 1.0])
    terms = prior_preservation_terms(both, noise, groups=HALVES, prior_weight=0.5, weights=weights)
    assert float(terms["instance"]) == pytest.approx(5 / 2)
    assert float(terms["prior"]) == pytest.approx(0.5 * 2 / 2)


def test_one_photo_and_one_class_image_are_not_averaged_into_each_other():
    """With one item in each half, a product of (2,) weights and a (1,) loss would broadcast silently."""
    groups = {"instance": slice(0, 1), "prior": slice(1, 2)}
    weights = torch.tensor([1.0, 0.1])
    terms = prior_preservation_terms(NOISE_PRED, NOISE, groups=groups, prior_weight=1.0, weights=weights)
    assert float(terms["instance"]) == pytest.approx(5.0)
    assert float(terms["prior"]) == pytest.approx(0.2)


def test_a_mask_of_ones_is_no_mask() -> None:
    noise_pred, noise = torch.randn(2, 2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    weights = torch.tensor([0.5, 2.0])
    ones = torch.ones(2, 1, 3, 3)
    for each in (None, weights):
        assert torch.allclose(
            denoising_loss(noise_pred, noise, each, cells=ones), denoising_loss(noise_pred, noise, each)
        )


def test_only_the_masked_cells_count() -> None:
    noise = torch.zeros(1, 4, 2, 2)
    noise_pred = torch.tensor([[1.0, 3.0], [0.0, 0.0]]).expand(1, 4, 2, 2)
    mask = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    assert denoising_loss(noise_pred, noise, cells=cell_weights(mask, 0.0)) == 1.0
    assert denoising_loss(noise_pred, noise, cells=cell_weights(mask, 0.5)) == pytest.approx(
        (1 + 0.5 * 9) / 2.5
    )
    assert denoising_loss(noise_pred, noise, cells=cell_weights(mask, 1.0)) == pytest.approx(2.5)


def test_an_empty_mask_learns_the_whole_photograph() -> None:
    assert cell_weights(torch.zeros(1, 1, 2, 2), 0.0).tolist() == [[[[1.0, 1.0], [1.0, 1.0]]]]
