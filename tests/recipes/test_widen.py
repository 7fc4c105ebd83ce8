"""A widened UNet initially computes the same output as the narrow one; bfloat16 copies match their float32 weights."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from recipes.half import HalfCopies, bfloat16_copy
from recipes.widen import copied, joined, shares, widen


class Scaled(nn.Module):
    """Replaces a normalisation. It uses no statistics, so a widened UNet computes exactly the narrow UNet's output."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return 0.3 * states


def small_unet(widths: tuple[int, int, int, int], *, seed: int) -> UNet2DConditionModel:
    torch.manual_seed(seed)
    return UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=2, block_out_channels=widths,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        cross_attention_dim=16, attention_head_dim=2, norm_num_groups=4,
    ).eval()  # fmt: skip


def without_norms(module: nn.Module) -> nn.Module:
    for name, child in module.named_children():
        if isinstance(child, nn.GroupNorm | nn.LayerNorm):
            setattr(module, name, Scaled())
        else:
            without_norms(child)
    return module


@pytest.fixture(scope="module")
def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    sample = torch.randn(2, 4, 8, 8, generator=generator)
    return sample, torch.tensor([40, 700]), torch.randn(2, 6, 16, generator=generator)


def test_copies_stay_in_their_group():
    assert copied(4, 6, 2).tolist() == [0, 1, 0, 2, 3, 2]
    assert joined(copied(2, 3, 1), copied(2, 2, 1)).tolist() == [0, 1, 0, 2, 3]


def test_shares_of_the_copies_of_a_channel_sum_to_one():
    import numpy as np

    space = copied(8, 12, 4)
    parts = shares(space, np.random.default_rng(0))
    np.testing.assert_allclose(np.bincount(space, parts), 1.0)


@torch.no_grad()
def test_widening_is_exact_but_for_normalisations_and_time(inputs):
    narrow, wide = small_unet((8, 16, 16, 16), seed=0), small_unet((8, 24, 32, 32), seed=1)
    widen(narrow, wide)
    expected, found = (without_norms(unet)(*inputs).sample for unet in (narrow, wide))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_widened_unet_predicts_nearly_the_same(inputs):
    narrow, wide = small_unet((16, 16, 16, 16), seed=0), small_unet((24, 24, 24, 24), seed=1)
    stranger = small_unet((24, 24, 24, 24), seed=2)(*inputs).sample
    widen(narrow, wide)
    expected, found = narrow(*inputs).sample, wide(*inputs).sample
    assert (found - expected).square().mean() < 0.2 * (stranger - expected).square().mean()


@torch.no_grad()
def test_bfloat16_copy_computes_what_its_master_does(inputs):
    unet = small_unet((16, 16, 16, 16), seed=0)
    sample, timesteps, context = inputs
    found = bfloat16_copy(unet)(sample.bfloat16(), timesteps, context.bfloat16()).sample
    assert found.dtype == torch.bfloat16
    error = (found.float() - unet(*inputs).sample).square().mean().sqrt()
    assert error < 0.02 * unet(*inputs).sample.std()


def test_gradients_go_to_the_masters_and_values_come_back():
    master = nn.Linear(4, 3)
    halves = HalfCopies(linear=master)
    halves.copies["linear"](torch.ones(1, 4).bfloat16()).sum().backward()
    halves.pull_gradients()
    assert master.weight.grad is not None
    assert master.weight.grad.dtype == torch.float32
    torch.testing.assert_close(master.weight.grad, torch.ones(3, 4))
    assert all(half.grad is None for half in halves.halves)
    with torch.no_grad():
        master.weight.fill_(0.5)
    halves.push_values()
    assert bool((halves.halves[0] == 0.5).all())
