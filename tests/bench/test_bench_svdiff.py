"""Benchmark of spectral shifts: the dense reference agrees, the layers are SD 1.5's, ratios come from one round."""

import pytest
import torch
from torch import nn

from bench import svdiff as bench
from bench.dense_rebuild import DenseRebuild, forward
from pipelines.adapters.core import injected
from pipelines.adapters.spectral import FORWARDS, Shift, Spectral, chosen_form
from pipelines.adapters.svd_cache import decompose, matrix
from tests.tolerances import assert_close


def predict(base) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 4, 16, 16, generator=generator)
    return base.unet(latents, torch.tensor([500]), base.encode_prompts(["a dog"]), return_dict=False)[0]


@torch.no_grad()
def test_the_dense_rebuild_computes_what_the_shifts_do(base) -> None:
    untouched = predict(base)
    ours, theirs = Spectral(subset="Mid-Block"), DenseRebuild(subset="Mid-Block")
    with injected(ours, base):
        for index, shift in enumerate(ours.shifts.values()):
            if shift.factors is not None:
                noise = torch.randn(shift.parameter.shape, generator=torch.Generator().manual_seed(index))
                shift.parameter.copy_(0.1 * noise)
        ours.materialise()
        expected, state = predict(base), ours.state_dict()
    with injected(theirs, base):
        for key, (_, _, delta) in theirs.shifts.items():
            if len(delta) > 1:
                delta.copy_(state[f"{key}.delta"])
        found = predict(base)
    assert not torch.equal(expected, untouched)
    assert_close(found, expected)
    assert torch.equal(predict(base), untouched)


def test_the_layers_are_those_of_sd15() -> None:
    found = bench.kinds(2)
    assert sum(found.values()) == 184 + 98
    assert sum(count for kind, count in found.items() if kind.attention) == 128
    assert {kind.input_shape[0] for kind in found} == {2}
    first = next(iter(found))
    assert (first.build, first.arguments[:2], first.tokens) == (nn.Linear, (320, 1280), 2)


@pytest.mark.parametrize("kind", [
    bench.Kind(nn.Linear, (12, 20), (2, 5, 12), attention=True),
    bench.Kind(nn.Conv2d, (6, 8, (3, 3), (2, 2), (1, 1)), (2, 6, 8, 8), attention=False),
])  # fmt: skip
@pytest.mark.parametrize("form", ["", "rebuild", "branch"], ids=["chosen", "rebuild", "branch"])
def test_every_side_of_a_layer_is_the_same_layer(kind: bench.Kind, form: str) -> None:
    layer = kind.build(*kind.arguments).requires_grad_(False)
    x = torch.randn(kind.input_shape, generator=torch.Generator().manual_seed(1))
    factors = decompose(layer.get_parameter("weight"))
    chosen = form or chosen_form(layer, layer.get_parameter("weight"), factors, tokens=kind.tokens)
    assert chosen in (*FORWARDS, "rebuild")
    delta = nn.Parameter(0.1 * torch.randn(min(matrix(layer.get_parameter("weight")).shape)))
    shift = Shift(layer, delta, chosen, factors)
    assert_close(bench.ours(shift, x), forward(layer, factors, delta, x).detach())
    for work in bench.layer_works(kind, device="cpu", ill=False).values():
        work()


def test_ratios_are_taken_within_a_round() -> None:
    row = bench.row_of({"ours": [1.0, 10.0, 1.0], "dense": [3.0, 30.0, 3.0], "lora": [0.5, 5.0, 0.5]})
    assert row == {"ours": 1000.0, "dense": 3000.0, "lora": 500.0, "dense / ours": 3.0, "ours / lora": 2.0}
