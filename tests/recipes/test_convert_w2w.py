"""The authors' files become a space: files of the same layout with few components, made here, real keys and sizes."""

import json
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from accelerate import init_empty_weights
from diffusers import UNet2DConditionModel

from pipelines.config import ASSETS
from pipelines.weightspace.population import PopulationConfig, space_keys
from pipelines.weightspace.space import Space
from recipes.convert_w2w import PREFIX, converted

POPULATION, COMPONENTS = 40, 12


@pytest.fixture(scope="module")
def authors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files as in snap-research/weights2weights: 128 PEFT keys, d = 99,648, std partly negative, V with PCs as columns."""
    folder = tmp_path_factory.mktemp("weights2weights") / "files"
    folder.mkdir()
    with init_empty_weights():
        unet = UNet2DConditionModel.from_config(
            json.loads((ASSETS / "sd1_config/unet/config.json").read_text())
        )
    keys = space_keys(unet, PopulationConfig())
    generator = torch.Generator().manual_seed(0)
    size = 99_648
    std = torch.rand(size, generator=generator) * 1e-2 + 1e-3
    std[::50] *= -1
    scores = torch.randn(POPULATION, 10, generator=generator) * torch.linspace(30, 5, 10)
    dimensions = OrderedDict(
        (PREFIX + key.name.removeprefix("unet."), (torch.Size([key.size]), torch.Size(key.shape)))
        for key in keys
    )
    for name, value in {
        "mean": torch.randn(1, size, generator=generator) * 0.1,
        "std": std,
        "V": torch.linalg.qr(torch.randn(size, COMPONENTS, generator=generator))[0],
        "proj_1000pc": scores - scores.mean(0),
        "weight_dimensions": dimensions,
    }.items():
        torch.save(value, folder / f"{name}.pt")
    (folder / "adapter_config.json").write_text(
        json.dumps({"r": 1, "lora_alpha": 27, "target_modules": ["to_q", "to_v"]})
    )
    return folder.parent


def test_the_space_unprojects_as_the_authors_do(authors: Path, tmp_path: Path) -> None:
    space = Space.open(converted(authors, name="w2w", components=COMPONENTS, table=False).write(tmp_path))
    told = space.manifest
    assert (told.size, told.components, told.population, told.alpha, told.scale) == (
        99_648,
        COMPONENTS,
        POPULATION,
        27,
        27,
    )
    files = {
        name: torch.load(authors / "files" / f"{name}.pt") for name in ("mean", "std", "V", "proj_1000pc")
    }
    beta = torch.zeros(1, COMPONENTS)
    beta[0, :10] = files["proj_1000pc"][3]
    theirs = (beta @ files["V"].T) * files["std"] + files["mean"]
    torch.testing.assert_close(space.theta(beta[0]), theirs[0], rtol=2e-3, atol=2e-4)  # V in float16
    assert int((space.std < 0).sum()) == len(range(0, 99_648, 50))
    assert not space.scores[:, 10:].any()
    assert "first 10 components only" in told.note


def test_their_tensors_are_cut_at_their_places(authors: Path) -> None:
    space = converted(authors, name="w2w", components=4, table=False)
    state = space.state(space.mean)
    key = "unet.up_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight"
    assert state[key].equal(space.mean[45_696 : 45_696 + 1_280].view(1, 1_280))
    assert len(space.manifest.ranks()) == 64


def test_float32_keeps_every_bit(authors: Path, tmp_path: Path) -> None:
    space = converted(authors, name="w2w", components=4, table=False)
    again = Space.open(space.write(tmp_path, basis_dtype=torch.float32, max_bytes=2**20))
    assert again.basis.equal(torch.load(authors / "files" / "V.pt")[:, :4].T)


def copied(authors: Path, folder: Path, **changed: object) -> Path:
    folder.mkdir()
    for path in (authors / "files").iterdir():
        (folder / path.name).symlink_to(path)
    for name, value in changed.items():
        (folder / f"{name}.pt").unlink()
        if value is not None:
            torch.save(value, folder / f"{name}.pt")
    return folder


def test_faults_are_named(authors: Path, tmp_path: Path) -> None:
    def fault(sentence: str, **changed: object) -> None:
        folder = copied(authors, tmp_path / str(len(list(tmp_path.iterdir()))), **changed)
        with pytest.raises(ValueError, match=sentence):
            converted(folder, name="w2w", components=4, table=False)

    dimensions = torch.load(authors / "files" / "weight_dimensions.pt", weights_only=True)
    fault(r"V\.pt is missing; the source needs mean\.pt", V=None)
    fault(r"mean\.pt has 10 weights and weight_dimensions\.pt 99648", mean=torch.zeros(10))
    fault(
        r"does not list the weights in alphabetical order",
        weight_dimensions=dict(reversed(dimensions.items())),
    )
    fault(r"mean\.pt holds list instead of a tensor", mean=[1.0])
    fault(r"orthonormal", V=torch.ones(99_648, COMPONENTS))


class Trap:
    def __reduce__(self) -> tuple:
        return print, ("the file's code ran",)


def test_a_pickle_is_not_run(authors: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = copied(authors, tmp_path / "trap", mean=Trap())
    with pytest.raises(ValueError, match=r"mean\.pt cannot be read as tensors"):
        converted(folder, name="w2w", components=4, table=False)
    assert "code ran" not in capsys.readouterr().out


def test_the_table_is_read_in_another_process(authors: Path, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    scores = torch.load(authors / "files" / "proj_1000pc.pt")
    table = pandas.DataFrame(
        {
            "file": [f"{row}.jpg" for row in range(POPULATION)],
            "Male": (scores[:, 0] > 0).int().numpy() * 2 - 1,
        },
        index=[f"identity{row:03d}" for row in range(POPULATION)],
    )
    folder = copied(authors, tmp_path / "table")
    torch.save(table, folder / "identity_df.pt")
    space = converted(folder, name="w2w", components=COMPONENTS, table=True)
    (attribute,) = space.manifest.attributes
    assert (attribute.name, space.manifest.members[1]) == ("Male", "identity001")
    assert space.labels[:, 0].equal((scores[:, 0] > 0).float())
    assert abs(float(space.vectors[0, 0])) > 0.5
    assert attribute.balanced_accuracy > 0.7
    assert space.vectors.shape == (1, COMPONENTS)


def test_a_table_of_other_identities_is_refused(authors: Path, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    folder = copied(authors, tmp_path / "short")
    torch.save(pandas.DataFrame({"Male": [1, -1]}), folder / "identity_df.pt")
    with pytest.raises(ValueError, match="describes 2 identities and"):
        converted(folder, name="w2w", components=4, table=True)
