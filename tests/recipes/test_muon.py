"""Muon: orthogonal updates, convolution kernels as matrices, resuming."""

import torch
from torch import nn

from recipes.muon import Muon, MuonWithAdamW, orthogonalise


def test_orthogonalised_matrices_keep_their_singular_vectors_and_get_singular_values_near_one() -> None:
    matrices = torch.randn(3, 24, 60, generator=torch.Generator().manual_seed(0))
    for given in (matrices, matrices.mT):
        u, _, vt = torch.linalg.svd(orthogonalise(given).float(), full_matrices=False)
        exact = torch.linalg.svd(given, full_matrices=False)
        values = torch.linalg.svdvals(orthogonalise(given).float())
        assert values.min() > 0.6
        assert values.max() < 1.3
        cosine = torch.nn.functional.cosine_similarity(
            (u @ vt).flatten(1), (exact.U @ exact.Vh).flatten(1), dim=1
        )
        assert (cosine > 0.97).all()


def test_a_convolution_kernel_is_updated_as_its_flattened_matrix() -> None:
    gradient = torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(1))
    kernel = nn.Parameter(torch.zeros(8, 4, 3, 3))
    matrix = nn.Parameter(torch.zeros(8, 36))
    for parameter in (kernel, matrix):
        parameter.grad = gradient.view(parameter.shape).clone()
        Muon([parameter], lr=0.01).step()
    torch.testing.assert_close(kernel.flatten(1), matrix, rtol=0, atol=0)
    assert kernel.norm() > 0


def test_training_goes_on_from_a_saved_state_exactly() -> None:
    def build() -> tuple[nn.Module, MuonWithAdamW]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 2, 3))
        return model, MuonWithAdamW(model, [], rate=1e-2)

    def train(model: nn.Module, optimizer: MuonWithAdamW, steps: int) -> None:
        for _ in range(steps):
            model(torch.ones(1, 2, 9, 9)).square().sum().backward()
            optimizer.step()

    straight, resumed, fresh = build(), build(), build()
    train(*straight, 4)
    train(*resumed, 2)
    fresh[0].load_state_dict(resumed[0].state_dict())
    fresh[1].load_state_dict(resumed[1].state_dict())
    train(*fresh, 2)
    for a, b in zip(straight[0].parameters(), fresh[0].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
