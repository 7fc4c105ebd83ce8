"""Experiments end to end on the tiny base: measured, failed rows marked, and restored after a restart."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.evaluation.metrics import load_encoders
from pipelines.evaluation.style import StyleScale
from pipelines.experiments import method_comparison as methods
from pipelines.experiments.settings import BlocksConfig, MethodsConfig
from pipelines.experiments.store import LAST, ExperimentStore
from pipelines.models.base import Base
from pipelines.studio import Studio
from recipes import world
from tests.tiny import PATIENCE_S, TINY, draw_photos, shop_with

QUICK: dict[str, Any] = {"prompts": ("a photo of a {subject}",), "sample_steps": 1, "steps": 2}


def test_the_style_score_tells_a_style_from_what_is_shown() -> None:
    rng = np.random.default_rng(3)

    def drawn(style: str, count: int) -> list[Image.Image]:
        choice = world.Choice(style=style)
        return [world.draw(world.sample_picture(rng, choice)) for _ in range(count)]

    clip, plain = load_encoders("embedded").clip, (drawn("photo", 8), drawn("watercolour", 8))
    for style in world.UNSEEN_STYLES:
        scale = StyleScale(clip, style=drawn(style, 12), plain=plain)
        assert scale.style.mean() == pytest.approx(1.0, abs=1e-3)
        assert [float(scale.scores(group).mean()) for group in plain] == pytest.approx([0.0, 0.0], abs=1e-3)
        alike = scale.scores(drawn(style, 8)).mean()
        assert alike > 0.6
        for other in world.TRAINING_STYLES:
            assert scale.scores(drawn(other, 8)).mean() < alike - 0.3


@pytest.fixture
def studio(tmp_path: Path, base: Base) -> Iterator[Studio]:
    studio = Studio(tmp_path / "data", model_cache=shop_with(base))
    yield studio
    studio.close()


def finished(studio: Studio, experiment_id: str) -> dict[str, Any]:
    """Wait until no job is left: the end of a run submits measurements, and their end finishes the experiment."""
    for planned_run in studio.experiments.store.get(experiment_id).runs:
        studio.training.wait(planned_run.run, PATIENCE_S)
    while jobs := list(studio.experiments._measuring.values()):
        assert jobs[-1].wait(PATIENCE_S)
    return studio.experiments.status(experiment_id)


def test_methods_from_a_click_to_a_table(
    studio: Studio, base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise ValueError("No loss today; come back tomorrow.")

    monkeypatch.setattr("pipelines.methods.block_lora.loss", broken)
    config = MethodsConfig(methods=("dreambooth-lora", "block_lora"), snapshots=1, **QUICK)
    made = studio.experiments.start(
        "methods", config, draw_photos(tmp_path / "photos"), class_noun="dog", identifier="zwx", name="Rex"
    )
    status = finished(studio, made)
    assert (status["state"], status["done"], status["total"]) == ("done", 3, 5)
    states = {entry["key"]: (entry["state"], entry["message"]) for entry in status["rows"]}
    assert states == {
        "base": ("done", ""), "dreambooth-lora": ("done", ""),
        "block_lora": ("failed", "No loss today; come back tomorrow."),
    }  # fmt: skip
    lora = next(entry for entry in status["rows"] if entry["key"] == "dreambooth-lora")
    run = studio.resources.store.get(lora["runs"][0])
    assert [point["step"] for point in lora["points"]] == [1, 2]
    assert lora["facts"]["bytes"] == run.file("adapter.safetensors").stat().st_size
    assert lora["points"][0]["scores"].keys() == {"dino", "clip_i", "clip_t"}
    assert lora["scores"].keys() == {"dino", "clip_i", "clip_t", "div", "pres", "drift"}
    assert status["rows"][0]["scores"]["drift"] == {"value": 0, "low": 0, "high": 0}
    assert [
        line["cells"]["trainable"] for line in status["tables"][0]["rows"] if line["key"] == "block_lora"
    ] == [None]
    assert [event["step"] for event in run.events() if event["kind"] == "snapshot"] == [1]

    files = studio.experiments.files(made)
    told = json.loads(files["json"].read_text())
    assert told["tables"] == json.loads(json.dumps(status["tables"]))
    assert str(tmp_path) not in files["json"].read_text()
    with Image.open(files["pictures"]) as sheet, Image.open(files["chart"]) as chart:
        assert sheet.height > 3 * 192
        assert chart.size == (880, 620)
    drawn = studio.experiments.store.get(made).folder_of("dreambooth-lora", LAST) / "0-1.png"
    assert studio.generation.recall(drawn)["sample"]["seed"] == 1

    later = Studio(studio.resources.root, model_cache=shop_with(base))
    try:
        assert later.experiments.status(made) == status
        monkeypatch.undo()
        later.experiments.resume(made)
        mended = finished(later, made)
        assert (mended["state"], mended["done"]) == ("done", 5)
        later.experiments.delete(made)
        assert later.experiments.list() == []
        assert later.resources.store.get(run.id).name == "Rex · DreamBooth, LoRA", (
            "its runs stay in the Library"
        )
    finally:
        later.close()


def test_what_was_cut_off_goes_on(studio: Studio, base: Base, tmp_path: Path) -> None:
    config = MethodsConfig(methods=("textual_inversion",), snapshots=0, **QUICK)
    studio.resources.worker.submit("busy", lambda job: None)
    made = studio.experiments.start(
        "methods", config, draw_photos(tmp_path / "photos"), class_noun="dog", identifier="zwx"
    )
    studio.experiments.stop(made)
    finished(studio, made)
    assert studio.experiments.status(made)["state"] == "interrupted"
    assert [entry["state"] for entry in studio.experiments.list()] == ["interrupted"]
    studio.experiments.resume(made)
    status = finished(studio, made)
    assert (status["state"], status["done"], status["total"]) == ("done", 2, 2)
    assert len(studio.library.list_runs()) == 1, "no run was started twice"


def test_a_character_and_a_style(studio: Studio, tmp_path: Path) -> None:
    """Two finished runs replace five of the six, so only the style in the upper blocks is trained."""
    photos, pictures = draw_photos(tmp_path / "photos"), draw_photos(tmp_path / "style")
    character, style = (
        studio.training.start("dreambooth", TINY, paths, name=paths[0].parent.name)
        for paths in (photos, pictures)
    )
    for run_id in (character, style):
        assert studio.training.wait(run_id, PATIENCE_S) == "done"
    config = BlocksConfig(
        seeds=1, rank=2, conv_rank=1, **(QUICK | {"prompts": ("a {subject}{style}",), "steps": 1})
    )
    ready = {"character-all": character, "character-upper": character}
    ready |= {f"style-{part}": style for part in ("all", "middle", "bottom")}
    made = studio.experiments.start(
        "blocks", config, photos, class_noun="dog", identifier="zwx", style_paths=pictures, runs=ready,
        style_captions={path.name: "a red ball" for path in pictures},
    )  # fmt: skip
    status = finished(studio, made)
    assert [entry["message"] for entry in status["rows"] if entry["state"] != "done"] == []
    assert [len(table["rows"]) for table in status["tables"]] == [6, 4, 6]
    experiment = studio.experiments.store.get(made)
    styled = studio.resources.store.get(experiment.run_of("style-upper").run)
    assert (
        styled.read_json("photos/01/subject.json")["captions"]["00.png"]
        == "a red ball, {identifier} {class_noun}"
    )
    assert (styled.config["use_captions"], styled.config["part"]) == (True, "upper")
    found = experiment.scores("all-chosen-upper") or {}
    assert {"identity_raw", "style_raw", "clip_t"} <= found["scores"].keys()
    first, second = studio.generation.recall(experiment.path / found["pictures"][0][0])["stack"]
    assert (first["name"], second["name"], second["blocks"].count("1")) == ("photos", "style", 8)
    assert found["facts"]["style_seconds"] > 0
    assert len(studio.library.list_runs()) == 3


def test_what_cannot_be_started_is_refused_whole(studio: Studio, tmp_path: Path) -> None:
    photos = draw_photos(tmp_path / "photos")

    def refused(sentence: str, kind: str = "methods", config: Any = None, **more: Any) -> None:
        words = {"class_noun": "dog", "identifier": "zwx"} | more
        with pytest.raises(ValueError, match=sentence):
            studio.experiments.start(kind, config or {}, words.pop("photos", photos), **words)

    refused("no experiment 'magic'", kind="magic")
    refused("Unknown setting 'speed'", config={"speed": 1})
    refused("not the settings of the experiment 'methods'", config=BlocksConfig())
    refused("no photograph", photos=[])
    refused("no pictures of the style yet", kind="blocks")
    refused("needs a trigger word", identifier="")
    with pytest.raises(ValueError, match="There is no experiment 'x'"):
        studio.experiments.status("x")
    assert studio.library.list_runs() == []
    assert ExperimentStore(studio.resources.root).list() == []
    told = studio.experiments.cost("methods", MethodsConfig(seeds=2))
    assert told["runs"] == len(methods.candidates())
    assert told["pictures"] == (1 + 4 * len(methods.candidates())) * 4 * 2
