"""A weight space on disk and in memory: round trips, verified files and key order, one sentence on every fault."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipelines.adapters import LoRA
from pipelines.models.base import Base
from pipelines.weightspace.index import MANIFEST, find_space, listed, read_manifest
from pipelines.weightspace.space import Space
from tests.weightspace.synthetic import synthetic_space


@pytest.fixture(scope="module")
def space(base: Base) -> Space:
    return synthetic_space(base)


@pytest.fixture
def folder(space: Space, tmp_path: Path) -> Path:
    return space.write(tmp_path / "weights_index", max_bytes=100_000)


def test_a_written_space_is_read_back(space: Space, folder: Path) -> None:
    again = Space.open(folder)
    assert len(list(folder.glob("basis-*"))) > 1
    assert max(path.stat().st_size for path in folder.glob("*.safetensors")) < 150_000
    for name in ("mean", "std", "variance", "scores", "labels", "vectors", "readers"):
        assert getattr(again, name).equal(getattr(space, name)), name
    torch.testing.assert_close(again.basis, space.basis.half().float(), rtol=0, atol=0)
    assert replace(again.manifest, files={}) == space.manifest


def test_leading_components_only(space: Space, folder: Path) -> None:
    few = Space.open(folder, components=2)
    assert few.manifest.components == 2
    assert few.basis.equal(Space.open(folder).basis[:2])
    assert few.scores.shape == (24, 2)
    assert few.vectors.shape == (2, 2)


def test_coordinates_and_weights_map_to_each_other(space: Space) -> None:
    beta = space.scores[:3]
    torch.testing.assert_close(space.beta(space.theta(beta)), beta, rtol=1e-3, atol=1e-3)
    assert space.theta(torch.zeros(6)).equal(space.mean)
    state = space.state(space.theta(beta[0]))
    assert space.flatten(state).equal(space.theta(beta[0]))


def test_the_gradient_of_the_coordinates_is_the_projected_gradient_of_the_weights(space: Space) -> None:
    beta = space.scores[0].clone().requires_grad_()
    slope = torch.randn(space.manifest.size, generator=torch.Generator().manual_seed(0))
    (space.theta(beta) * slope).sum().backward()
    torch.testing.assert_close(beta.grad, space.basis @ (space.std * slope), rtol=1e-4, atol=1e-5)


def test_the_weights_fit_a_lora_of_the_base(space: Space, base: Base) -> None:
    lora = LoRA(ranks=space.manifest.ranks(), alpha=space.manifest.alpha)
    lora.inject(base).remove()
    lora.load_state_dict(space.state(space.theta(space.scores[1])))
    assert space.flatten(lora.state_dict()).equal(space.theta(space.scores[1]))
    assert set(lora.scales().values()) == {space.manifest.scale}
    space.check_base(base)


def test_the_list_of_spaces(space: Space, folder: Path) -> None:
    (entry,) = listed([folder.parent])
    assert (entry.name, entry.components, entry.folder) == ("toy", 6, folder)
    assert find_space("toy", [folder.parent]) == folder
    with pytest.raises(ValueError, match=r"no weight space 'dogs'; choose one of: toy\."):
        find_space("dogs", [folder.parent])


def _edit(folder: Path, **changes: object) -> None:
    told = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(told | changes))


def _swap_keys(folder: Path) -> None:
    keys = json.loads((folder / MANIFEST).read_text())["keys"]
    _edit(folder, keys=[keys[1], keys[0], *keys[2:]])


def _damage(folder: Path) -> None:
    path = folder / "basis-0000.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (lambda f: (f / MANIFEST).unlink(), "There is no weight space in 'toy': space.json is missing"),
        (lambda f: (f / MANIFEST).write_text("{"), "is not readable JSON; copy or build"),
        (lambda f: _edit(f, format=2), "has format 2 and this version reads format 1"),
        (lambda f: _edit(f, keys=None), "is not complete"),
        (_swap_keys, r"not the alphabetical order .*first wrong entry: unet\.down_blocks"),
        (lambda f: (f / "affine.safetensors").unlink(), r"affine\.safetensors of the weight space 'toy' is missing"),
        (_damage, r"basis-0000\.safetensors .* sha256 differs"),
        (lambda f: _edit(f, population=25), r"scores of the weight space 'toy' has shape \(24, 6\)"),
    ],
    ids=["absent", "json", "format", "incomplete", "order", "missing file", "damaged file", "shape"],
)  # fmt: skip
def test_one_sentence_on_every_fault(folder: Path, fault, sentence: str) -> None:
    fault(folder)
    with pytest.raises(ValueError, match=sentence):
        Space.open(folder)


def test_another_base_is_refused(space: Space, base: Base) -> None:
    other = replace(space, manifest=replace(space.manifest, base_hash="0" * 64))
    with pytest.raises(ValueError, match="works on that one only"):
        other.check_base(base)


def test_other_weights_are_refused(space: Space, base: Base) -> None:
    lora = LoRA(rank=2, targets="attention")
    lora.inject(base).remove()
    with pytest.raises(ValueError, match="do not belong to the weight space 'toy'"):
        space.flatten(lora.state_dict())


def test_an_unknown_attribute_is_refused(space: Space, folder: Path) -> None:
    assert read_manifest(folder).attribute("beard") == 1
    with pytest.raises(ValueError, match="no attribute 'moustache'; it has these directions: glasses, beard"):
        space.manifest.attribute("moustache")
