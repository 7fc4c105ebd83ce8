"""Picture metadata: stores how a picture was made, without private data; damaged and foreign pictures are refused."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from pipelines.config import SampleConfig, to_dict
from pipelines.runs.library import adapter_hash
from pipelines.runs.store import Run, RunStore, snapshot_name
from pipelines.sampling.image_metadata import (
    GoneError,
    Layer,
    picture_facts,
    portable_spec,
    read_png_settings,
    recall,
    save_png,
)

CONFIG = SampleConfig(prompt="a photo of a zwx dog", seed=7, count=3, steps=4, scheduler="DDIM")
EMBEDDED = {"spec": "embedded", "family": "embedded", "hash": "0123456789abcdef0123", "name": "Embedded base"}


@dataclass(frozen=True)
class Base:
    spec: str = "embedded"
    name: str = "Embedded base"
    hash: str = "0123456789abcdef0123"


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "data")


@pytest.fixture
def run(store: RunStore) -> Run:
    return store.create("dreambooth", {"steps": 10}, EMBEDDED, name="Rex")


def picture(path: Path, told: dict[str, Any]) -> Path:
    save_png(Image.new("RGB", (8, 8), "teal"), path, told)
    return path


def asked(path: Path, store: RunStore, *bases: str) -> dict[str, Any]:
    return recall(path, find=store.get, rename=lambda run_id: run_id, bases=bases or ("embedded",))


def test_a_picture_remembers_how_it_was_made(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 8), "teal")
    meta = {"prompt": "ein grünes Haus 🏠", "seed": 3}
    for name in ("one.png", "two.png"):
        save_png(image, tmp_path / name, meta)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert read_png_settings(tmp_path / "one.png") == meta
    with Image.open(tmp_path / "one.png") as read:
        assert read.tobytes() == image.tobytes()
    assert sorted(file.name for file in tmp_path.glob("*.png")) == ["one.png", "two.png"]


def test_each_picture_of_several_is_recalled_alone(tmp_path: Path, store: RunStore, run: Run) -> None:
    layer = Layer(run=run.id, name="Rex", strength=0.5)
    path = picture(tmp_path / "a.png", picture_facts(CONFIG, index=2, stack=[layer], base=Base()))
    found = asked(path, store)
    assert found["sample"] == to_dict(CONFIG) | {"seed": 9, "count": 1}
    assert found["stack"] == [{"run": run.id, "name": "Rex", "strength": 0.5}]
    assert (found["base"], found["base_name"]) == ("embedded", "Embedded base")


def remembered(folder: Path, run: Run, **told: Any) -> Path:
    layer = Layer(run=run.id, name="Rex", strength=1.0, **told)
    return picture(folder / "a.png", picture_facts(CONFIG, index=0, stack=[layer], base=Base()))


def test_a_finished_picture_is_drawn_again_with_the_same_adapter_only(
    tmp_path: Path, store: RunStore, run: Run
) -> None:
    """An adapter file is identified by its content, so after more training it is a different one."""
    run.file("adapter.safetensors").write_bytes(b"learned")
    path = remembered(tmp_path, run, step=10, adapter=adapter_hash(run)[:16])
    assert (asked(path, store)["stack"], asked(path, store)["note"]) == (
        [{"run": run.id, "name": "Rex", "strength": 1.0}],
        "",
    )
    run.file("adapter.safetensors").write_bytes(b"learned more")
    found = asked(path, store)
    assert found["stack"] == [{"run": run.id, "name": "Rex", "strength": 1.0}]
    assert found["note"].startswith("a.png was made with 'Rex' as it was after step 10, which is not kept;")


def test_a_picture_from_the_middle_of_a_run_is_drawn_with_the_state_that_was_kept(
    tmp_path: Path, store: RunStore, run: Run
) -> None:
    path = remembered(tmp_path, run, step=5)
    assert "'Rex' as it was after step 5, which is not kept" in asked(path, store)["note"]
    assert "step" not in asked(path, store)["stack"][0]
    run.file(snapshot_name(5)).parent.mkdir()
    run.file(snapshot_name(5)).write_bytes(b"")
    found = asked(path, store)
    assert (found["stack"], found["note"]) == (
        [{"run": run.id, "name": "Rex", "strength": 1.0, "step": 5}],
        "",
    )
    last = asked(remembered(tmp_path, run, step=10), store)
    assert (last["stack"], last["note"]) == ([{"run": run.id, "name": "Rex", "strength": 1.0}], "")


def test_a_picture_from_another_base_says_so(tmp_path: Path, store: RunStore, run: Run) -> None:
    facts = read_png_settings(remembered(tmp_path, run))
    facts["base"]["hash"] = "fedcba9876543210"
    assert (
        "was made on another base than 'Rex' has now"
        in asked(picture(tmp_path / "a.png", facts), store)["note"]
    )


def test_pictures_of_the_first_format_are_recalled(tmp_path: Path, store: RunStore, run: Run) -> None:
    old = to_dict(CONFIG) | {"count": 1, "run": run.id, "strength": 1.5, "base": "Embedded base"}
    found = asked(picture(tmp_path / "old.png", old), store)
    assert found["stack"] == [{"run": run.id, "name": "Rex", "strength": 1.5}]
    assert found["base"] == "embedded"
    bare = to_dict(CONFIG) | {"run": None, "strength": 0.0, "base": "Embedded base"}
    assert asked(picture(tmp_path / "bare.png", bare), store)["stack"] == []


def test_a_run_that_is_gone_is_named_and_the_rest_is_kept(tmp_path: Path, store: RunStore, run: Run) -> None:
    layer = Layer(run=run.id, name="Rex", strength=0.5)
    path = picture(tmp_path / "a.png", picture_facts(CONFIG, index=0, stack=[layer], base=Base()))
    store.delete(run.id)
    with pytest.raises(GoneError, match=r"'Rex' at strength 0\.5, which is not in the library") as caught:
        asked(path, store)
    assert caught.value.recalled["stack"][0]["name"] == "Rex"
    assert caught.value.recalled["sample"]["prompt"] == CONFIG.prompt


def test_a_base_in_a_folder_is_named_without_its_place(tmp_path: Path, store: RunStore) -> None:
    folder = tmp_path / "private" / "my base"
    folder.mkdir(parents=True)
    path = picture(
        tmp_path / "a.png",
        picture_facts(CONFIG, index=0, stack=[], base=Base(spec=str(folder), name="my base")),
    )
    assert b"private" not in path.read_bytes()
    assert asked(path, store, "embedded", str(folder))["base"] == str(folder)
    with pytest.raises(GoneError, match="'my base', which is not known here"):
        asked(path, store)
    assert portable_spec("owner/name@v1") == "owner/name@v1"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"steps": 10_000}, "the largest allowed"),
        ({"prompt": 5}, "must be a text"),
        ({"stack": [{"run": "x"}]}, "cannot be used"),
        ({"stack": [{"run": "x", "strength": 9}]}, "a strength of 9"),
        ({"stack": 3}, "cannot be used"),
        ({"stack": [{"run": "x", "strength": None}]}, "Strength must be a number, not None"),
        (
            {"stack": [{"run": "x", "strength": 1.0, "step": float("inf")}]},
            "Step must be a number, not inf",
        ),
        ({"stack": [{"run": "x", "strength": 1.0, "step": [5]}]}, "Step must be a"),
        ({"stack": [{"run": "x", "strength": 1.0, "step": 10**300}]}, "is no step of a run"),
        ({"stack": [{"run": "x", "strength": 1.0, "step": -1}]}, "is no step of a run"),
        ({"steps": float("inf")}, "Steps must be a number, not inf"),
        ({"base": {"spec": "x/" + "y" * 5000, "name": "mine"}}, "is not known here"),
        ({"base": {"spec": [], "name": "mine"}}, "'mine', which is not known here"),
    ],
)
def test_settings_that_somebody_has_changed_are_refused(
    tmp_path: Path, store: RunStore, values: dict[str, Any], sentence: str
) -> None:
    told = picture_facts(CONFIG, index=0, stack=[], base=Base()) | values
    with pytest.raises(ValueError, match=sentence):
        asked(picture(tmp_path / "a.png", told), store)


@pytest.mark.parametrize("settings", [[], [1], "steps", 5, None, True])
def test_settings_that_are_no_table_are_none(tmp_path: Path, store: RunStore, settings: Any) -> None:
    with pytest.raises(ValueError, match="holds no settings of Atelier"):
        asked(picture(tmp_path / "a.png", settings), store)


def test_a_picture_without_settings_says_so(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    (tmp_path / "text.png").write_text("no picture")
    for name, text in (
        ("list.png", "[1]"),
        ("deep.png", "[" * 15_000),
        ("long.png", json.dumps("x" * 30_000)),
    ):
        chunks = PngImagePlugin.PngInfo()
        chunks.add_text("atelier", text)
        Image.new("RGB", (8, 8)).save(tmp_path / name, pnginfo=chunks)
    for name in ("plain.png", "text.png", "gone.png", "list.png", "deep.png", "long.png"):
        with pytest.raises(ValueError, match=f"{name} holds no settings"):
            read_png_settings(tmp_path / name)
