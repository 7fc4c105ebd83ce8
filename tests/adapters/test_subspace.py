"""Coordinates of a weight space as an adapter: gradients, files, and the LoRA that other programs get."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline

from pipelines.adapters import Subspace
from pipelines.adapters.core import injected, merged, save_adapter
from pipelines.adapters.registry import load_adapter
from pipelines.config import SampleConfig
from pipelines.data.photographs import to_images
from pipelines.formats.lora import as_lora, read_lora, write_diffusers
from pipelines.models.base import Base
from pipelines.sampling.sample import sample
from pipelines.weightspace.space import Space
from tests.tolerances import assert_close
from tests.weightspace.synthetic import synthetic_space

SHORT = SampleConfig(prompt="a photo of a dog", steps=3, seed=4)


@pytest.fixture(scope="module")
def space(base: Base) -> Space:
    return synthetic_space(base)


@pytest.fixture
def adapter(space: Space) -> Subspace:
    generator = torch.Generator().manual_seed(1)
    return Subspace.of(space, beta=40 * torch.randn(space.manifest.components, generator=generator))


def loss_of(base: Base) -> torch.Tensor:
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    context = base.encode_prompts(["a dog"])
    return base.unet(latents, torch.tensor([400]), context, return_dict=False)[0].square().mean()


def test_the_gradient_is_one_product_of_the_basis(base: Base, space: Space, adapter: Subspace) -> None:
    """dL/dβ = V (std ⊙ dL/dθ), 2406.09413 section 3.4, with θ as a leaf."""
    with injected(adapter, base):
        loss_of(base).backward()
        theta = space.theta(adapter.beta).requires_grad_(True)
        adapter._lora.compute_with(adapter._parts(theta))
        loss_of(base).backward()
    (beta,) = adapter.parameters()
    assert beta.grad is not None
    assert theta.grad is not None
    assert_close(beta.grad, space.basis @ (space.std * theta.grad))
    assert float(beta.grad.norm()) > 0


def test_the_mean_identity_is_at_zero_and_fewer_coordinates_are_the_leading_ones(
    base: Base, space: Space, adapter: Subspace
) -> None:
    mean = Subspace.of(space)
    mean.low_rank(base)
    parts = mean.state_dict()
    assert parts.pop("coordinates").count_nonzero() == 0
    assert torch.equal(space.flatten(parts), space.mean)
    short, full = Subspace.of(space, beta=adapter.beta[:3]), adapter.beta.clone()
    full[3:] = 0
    whole = Subspace.of(space, beta=full)
    for (_, one), (_, other) in zip(short.changes(base), whole.changes(base), strict=True):
        assert_close(one, other)


def test_a_file_draws_without_its_space(base: Base, adapter: Subspace, tmp_path: Path) -> None:
    adapter.low_rank(base)
    save_adapter(tmp_path / "one.safetensors", adapter, extra={})
    again: Any = load_adapter(tmp_path / "one.safetensors", base)
    assert (again.axes, again.space) == (None, "toy")
    assert torch.equal(again.beta, adapter.beta)
    for (key, one), (other_key, other) in zip(again.changes(base), adapter.changes(base), strict=True):
        assert key == other_key
        assert torch.equal(one, other)


def test_coordinates_of_another_space_are_refused(base: Base, adapter: Subspace) -> None:
    state = (adapter.low_rank(base), adapter.state_dict())[1]
    other = Subspace.of(synthetic_space(base, components=6))
    other.low_rank(base)
    other.load_state_dict(state)
    assert torch.equal(other.beta, adapter.beta)
    name = next(name for name in state if name.endswith("lora_B.weight"))
    with pytest.raises(ValueError, match="belong to another weight space called 'toy'"):
        other.load_state_dict(state | {name: state[name] + 1.0})


def test_alpha_is_folded_in_and_diffusers_draws_the_same_picture(
    base: Base, space: Space, tmp_path: Path
) -> None:
    """Losing alpha would make identities alpha / rank times too weak; 27 is the authors' scale."""
    from dataclasses import replace

    strong = replace(space, manifest=replace(space.manifest, alpha=27.0), std=space.std / 27**0.5)
    adapter = Subspace.of(strong, beta=40 * torch.ones(space.manifest.components))
    expected = sample(base, [(adapter, 1.0)], SHORT).images[0]
    untouched = sample(base, [], SHORT).images[0]
    assert expected.tobytes() != untouched.tobytes()
    path = write_diffusers(tmp_path / "pytorch_lora_weights.safetensors", adapter)
    for (key, change), (_, read) in zip(
        adapter.changes(base),
        sorted((key, read_lora(path).change(key)) for key in read_lora(path).modules),
        strict=True,
    ):
        assert_close(read.view_as(change), change)
        assert key
    left_out: dict[str, Any] = {"safety_checker": None, "feature_extractor": None}
    pipe: Any = StableDiffusionPipeline(
        vae=base.vae, text_encoder=base.text_encoder, tokenizer=base.tokenizer, unet=base.unet,
        scheduler=base.pipeline(SHORT.scheduler).scheduler, requires_safety_checker=False, **left_out,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    try:
        pipe.load_lora_weights(str(tmp_path), weight_name=path.name)
        latents = pipe(
            SHORT.prompt, negative_prompt="", num_inference_steps=SHORT.steps, guidance_scale=SHORT.guidance_scale,
            height=base.size_px, width=base.size_px, generator=torch.Generator().manual_seed(SHORT.seed),
            output_type="latent",
        ).images  # fmt: skip
        theirs = to_images(base.decode(latents))[0]
    finally:
        pipe.unload_lora_weights()
    differences = [abs(a - b) for a, b in zip(expected.tobytes(), theirs.tobytes(), strict=True)]
    assert max(differences) <= 2, "up to the rounding of a merged weight"


def test_export_of_a_live_adapter_equals_its_merge(base: Base, adapter: Subspace) -> None:
    folded = (adapter.low_rank(base), as_lora(adapter))[1]
    for key, change in adapter.changes(base):
        assert_close(folded.change(key.removesuffix(".weight")).view_as(change), change)
    with torch.no_grad(), injected(adapter, base):
        live = loss_of(base)
    with torch.no_grad(), merged(base, [(adapter, 1.0)]):
        assert_close(loss_of(base), live)


def test_weights_can_be_replaced_again_and_again(base: Base, space: Space) -> None:
    """A slider replaces the weights in place: what it was given stays as it is, and the layers see the new ones."""
    told = space.manifest
    moved = Subspace(space=told.name, ranks=told.ranks(), alpha=told.alpha, components=told.components)
    for row in range(3):
        theta = space.theta(space.scores[row])
        kept = theta.clone()
        moved.use(theta)
        expected = Subspace.of(space, beta=space.scores[row])
        for (_, one), (_, other) in zip(moved.changes(base), expected.changes(base), strict=True):
            assert_close(one, other)
        moved.use(torch.zeros_like(theta))
        assert torch.equal(theta, kept)
