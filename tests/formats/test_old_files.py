"""Files written by version 0.1 are still read: runs, exports, pictures and settings.

Version 0.1 had a single module. The fixture holds a run of each method on the embedded base, one exported file per
format, a picture and settings.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.adapters import Words
from pipelines.adapters.registry import load_adapter
from pipelines.config import SampleConfig, from_dict
from pipelines.methods.specs import method_config
from pipelines.models.base import Base
from pipelines.studio import Studio
from tests.tiny import finish, shop_with
from tests.tolerances import assert_close

WRITTEN = Path(__file__).resolve().parents[1] / "fixtures" / "written_by_0.1.zip"
METHODS = ("dreambooth", "block_lora", "svdiff", "textual_inversion")


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("old")
    shutil.unpack_archive(WRITTEN, folder)
    return folder


@pytest.fixture
def studio(old: Path, tmp_path: Path, base: Base) -> Iterator[Studio]:
    shutil.copytree(old / "runs", tmp_path / "data" / "runs")
    studio = Studio(tmp_path / "data", model_cache=shop_with(base))
    yield studio
    studio.close()


def run_of(studio: Studio, method: str) -> str:
    return next(card.id for card in studio.library.list_runs() if card.method == method)


def test_every_run_is_listed_shown_and_drawn_with(studio: Studio) -> None:
    cards = {card.method: card for card in studio.library.list_runs()}
    assert {method: (card.state, card.kind, card.name) for method, card in cards.items()} == {
        "dreambooth": ("done", "lora", "Old dreambooth"),
        "block_lora": ("done", "lora", "Old block_lora"),
        "svdiff": ("done", "spectral", "Old svdiff"),
        "textual_inversion": ("done", "words", "Old textual_inversion"),
    }
    asked = SampleConfig(prompt="a photo of a {identifier} {class_noun}", steps=1)
    for card in cards.values():
        status = studio.training.status(card.id)
        assert (status["state"], status["step"], status["total"]) == ("done", 2, 2)
        assert bool(studio.inspection.views(card.id)) == (card.kind != "words")
        assert studio.generation.generate(asked, run_id=card.id)[0].is_file()


def test_a_picture_is_recalled_and_drawn_again(studio: Studio, old: Path) -> None:
    recalled = studio.generation.recall(old / "picture.png")
    assert [layer["run"] for layer in recalled["stack"]] == [run_of(studio, "block_lora")]
    stack = [{"run": layer["run"], "strength": layer["strength"]} for layer in recalled["stack"]]
    again = studio.generation.generate(from_dict(SampleConfig, recalled["sample"]), stack=stack)[0]
    with Image.open(again) as one, Image.open(old / "picture.png") as two:
        apart = np.abs(np.asarray(one, dtype=int) - np.asarray(two, dtype=int))
    assert apart.max() <= 2, "another processor may round otherwise"
    assert (
        studio.generation.recall(next((old / "runs").glob("*/samples/000002-0.png")))["stack"]
        == recalled["stack"]
    )


@pytest.mark.parametrize("method", METHODS)
def test_settings_are_read(old: Path, studio: Studio, method: str) -> None:
    told = studio.library.read_settings((old / f"{method}-settings.json").read_text(encoding="utf-8"))
    assert told["method"] == method
    assert from_dict(method_config(method), told["config"]).steps == 2
    again = studio.library.settings(run_of(studio, method))
    written = json.loads((old / f"{method}-settings.json").read_text(encoding="utf-8"))
    assert written["config"].items() <= again["config"].items()


@pytest.mark.parametrize(
    "name",
    [
        "block_lora-diffusers.safetensors",
        "block_lora-kohya.safetensors",
        "block_lora-peft.zip",
        "svdiff-svdiff.zip",
        "textual_inversion-diffusers.safetensors",
        "textual_inversion-kohya.safetensors",
    ],
)
def test_every_exported_file_is_read(studio: Studio, old: Path, base: Base, name: str) -> None:
    method = name.partition("-")[0]
    original = studio.resources.store.get(run_of(studio, method)).file("adapter.safetensors")
    assert studio.import_export.inspect_lora(old / name)["problem"] == ""
    imported = studio.resources.store.get(studio.import_export.import_lora(old / name)).file(
        "adapter.safetensors"
    )
    expected, found = (load_adapter(path, base) for path in (original, imported))
    if method == "textual_inversion":
        assert isinstance(expected, Words)
        assert isinstance(found, Words)
        assert_close(found.vectors(), expected.vectors())
        return
    changes = dict(found.changes(base))
    for key, change in expected.changes(base):
        assert_close(changes[key], change)


def test_an_old_run_is_trained_further(studio: Studio) -> None:
    run_id = run_of(studio, "textual_inversion")
    studio.training.train_more(run_id, 1)
    assert finish(studio, run_id) == "done"
    assert studio.training.status(run_id)["step"] == 3
