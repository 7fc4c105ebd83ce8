"""Experiments: planned from presets, measured on the tiny base, failed rows marked, kept across a restart."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.base import Base
from pipelines.config import METHOD_CONFIGS, from_dict, method_config
from pipelines.experiments import blocks, methods
from pipelines.experiments.core import LAST, ExperimentStore
from pipelines.experiments.door import planned
from pipelines.experiments.report import rivals
from pipelines.experiments.scatter import laid_out
from pipelines.experiments.settings import BlocksConfig, ExperimentConfig, MethodsConfig, filled
from pipelines.experiments.style import StyleSpace
from pipelines.methods import METHODS
from pipelines.metrics import load_encoders
from pipelines.studio import Studio
from recipes import world
from tests.tiny import PATIENCE_S, draw_photos, shop_with

WORDS = {"class_noun": "dog", "identifier": "zwx", "style_word": "qev"}
QUICK: dict[str, Any] = {"prompts": ("a photo of a {subject}",), "sample_steps": 1, "steps": 2}


# ---- plans ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["embedded", "sd1"])
@pytest.mark.parametrize("config", [MethodsConfig(), BlocksConfig(prompts=("a {subject}{style}",))])
def test_every_preset_of_a_family_makes_a_plan(family: str, config: ExperimentConfig) -> None:
    runs, rows = planned(config, family=family, words=WORDS, captioned={"style": True})
    assert rows[0].key == methods.BASE
    assert rows[0].parts == ()
    keys = {run.key for run in runs}
    assert {part.run for row in rows for part in row.parts} == keys
    for run in runs:
        own = from_dict(method_config(run.method), run.config)
        assert (own.seed, own.measure) == (config.seed, False)
        huge = (run.key, family) == ("dreambooth-full", "sd1")  # 3.4 GB each
        assert len(own.snapshot_steps) == (3 if isinstance(config, MethodsConfig) and not huge else 0)


def test_every_method_that_learns_one_subject_takes_part() -> None:
    runs, rows = planned(MethodsConfig(), family="embedded", words=WORDS, captioned={})
    assert {run.method for run in runs} == set(METHODS) == set(METHOD_CONFIGS)
    assert {run.config["weights"] for run in runs if run.method == "dreambooth"} == {"lora", "full"}
    subjects = {row.key: row.subject for row in rows}
    assert subjects["textual_inversion"] == "zwx"  # its prompts know no class word
    assert subjects["svdiff"] == "zwx dog"
    assert subjects["base"] == "dog"
    assert {row.said for row in rows} == {"dog"}  # text alignment asks the same of all
    some, _ = planned(
        MethodsConfig(methods=("svdiff", "block_lora")), family="embedded", words=WORDS, captioned={}
    )
    assert [run.key for run in some] == ["block_lora", "svdiff"]
    with pytest.raises(ValueError, match="no method 'magic'"):
        planned(MethodsConfig(methods=("magic",)), family="embedded", words=WORDS, captioned={})
    with pytest.raises(ValueError, match=r"has no \{subject\} in it"):
        MethodsConfig(prompts=("a dog",))


def test_the_papers_experiments_are_all_planned() -> None:
    runs, rows = planned(BlocksConfig(style_strength=0.5), family="embedded", words=WORDS, captioned={})
    trained = {run.key: run.config["part"] for run in runs}
    assert trained == {
        "character-all": "all", "character-upper": "upper",
        "style-all": "all", "style-upper": "upper", "style-middle": "middle", "style-bottom": "bottom",
    }  # fmt: skip
    by_key = {row.key: row for row in rows}
    assert {key for _, _, keys in blocks.TABLES for key in keys} == set(by_key) - {"base"}
    chosen = by_key["all-chosen-upper"].parts[1]
    assert (chosen.run, chosen.strength, chosen.blocks) == ("style-all", 0.5, "1,0,0,0,0,0,0,0,1")
    assert filled(BlocksConfig().prompts[1], subject="zwx dog", style=by_key["all-all"].style) == (
        "a picture of a zwx dog on the beach, qev style"
    )
    assert filled(BlocksConfig().prompts[1], subject="zwx dog", style=by_key["character"].style) == (
        "a picture of a zwx dog on the beach"
    )
    with pytest.raises(ValueError, match="same rare word"):
        planned(BlocksConfig(), family="embedded", words=WORDS | {"style_word": "zwx"}, captioned={})


# ---- what the numbers say -------------------------------------------------------------------------------------------


def row(
    key: str, *, dino: float, clip_t: float, size: int, seconds: float, spread: float = 0.01
) -> dict[str, Any]:
    scores = {
        name: {"value": value, "low": value - spread, "high": value + spread}
        for name, value in (("dino", dino), ("clip_t", clip_t))
    }
    facts = {"bytes": size, "seconds": seconds}
    points = [{"step": 0, "last": True, "scores": scores}]
    return {
        "key": key,
        "label": key.upper(),
        "state": "done",
        "message": "",
        "scores": scores,
        "facts": facts,
        "points": points,
    }


def test_the_sentence_follows_from_the_numbers() -> None:
    rows = [
        row("base", dino=0.1, clip_t=0.3, size=0, seconds=0),
        row("a", dino=0.7, clip_t=0.2, size=900_000, seconds=50),
        row("b", dino=0.695, clip_t=0.25, size=100, seconds=90),
        row("c", dino=0.105, clip_t=0.31, size=2_000, seconds=20),
    ]
    found = methods.report(rows, {"dino": {"value": 0.85, "low": 0.8, "high": 0.9}})
    told = " ".join(found["sentences"])
    assert "A comes nearest to the photographs (DINO 0.70, of 0.85 among" in told
    assert "Its interval overlaps that of B, so" in told
    assert "C follows the words best (CLIP-T 0.31)" in told
    assert "B has the smallest file (100 bytes), C was the fastest (20 s)" in told
    assert "C is not clearly nearer to the photographs than the untouched base" in told
    assert [entry["label"] for entry in found["tables"][0]["rows"]] == [
        "The photographs",
        "BASE",
        "A",
        "B",
        "C",
    ]
    assert rivals(rows[1], rows, "dino") == ["B"]
    assert methods.report(rows[:2], {})["sentences"] == []


def test_the_papers_questions_are_answered_from_the_numbers() -> None:
    def combined(key: str, identity: float, style: float, seconds: float = 20.0) -> dict[str, Any]:
        found = row(key, dino=0.0, clip_t=0.3, size=1, seconds=1)
        found["scores"] = {
            name: {"value": value, "low": value - 0.1, "high": value + 0.1}
            for name, value in (("identity", identity), ("style", style))
        }
        return found | {"facts": {"style_seconds": seconds}}

    rows = [
        combined("base", 0.0, 0.0),
        combined("all-all", 0.3, 0.9, 20.0),
        combined("all-upper", 0.6, 0.7, 10.0),
        combined("upper-all", 0.2, 0.95),
        combined("upper-upper", 0.4, 0.5),
        combined("all-middle", 0.7, 0.2, 12.0),
        combined("all-bottom", 0.65, 0.1, 14.0),
        combined("all-chosen-upper", 0.5, 0.4),
    ]
    found = blocks.report(rows, {})
    told = " ".join(found["sentences"])
    assert "Most of both is kept with “ALL-UPPER”: identity 0.60 (0.50 to 0.70) and style 0.70" in told
    assert "“ALL-ALL” shows the style best" in told
    assert "“ALL-MIDDLE” keeps the character best" in told
    assert "Style in the upper blocks: trained there alone identity 0.60" in told
    assert "middle blocks: trained" not in told, "the other half of that pair is missing"
    assert "all 20 s, upper 10 s, middle 12 s, bottom 14 s" in told
    assert [series["key"] for series in found["charts"][0]["series"]] == [entry["key"] for entry in rows[1:]]


def test_the_chart_has_a_place_for_every_point_and_label() -> None:
    rows = [
        row(f"method number {index}", dino=0.5 + index / 1000, clip_t=0.3, size=1, seconds=1)
        for index in range(5)
    ]
    rows[0]["points"].insert(0, {"step": 60, "last": False, "scores": rows[4]["scores"]})
    layout = laid_out(methods.report(rows, {})["charts"][0], width=880, height=620)
    assert layout is not None
    left, top, right, bottom = layout.frame
    for series in layout.series:
        for mark in series.marks:
            assert left <= mark.x <= right
            assert top <= mark.y <= bottom
    places = [(series.text_x, round(series.text_y)) for series in layout.series]
    assert len(set(places)) == 5, "no label lies on another"
    assert layout.series[0].marks[0].told.startswith("step 60, CLIP-T 0.300")
    assert [x for x, _ in layout.x_ticks] == sorted(x for x, _ in layout.x_ticks)
    assert laid_out({"series": [], "title": "", "x": "", "y": ""}, width=100, height=100) is None


def test_the_style_score_tells_a_style_from_what_is_shown() -> None:
    rng = np.random.default_rng(3)

    def drawn(style: str, count: int) -> list[Image.Image]:
        choice = world.Choice(style=style)
        return [world.draw(world.sample_picture(rng, choice)) for _ in range(count)]

    for style in world.UNSEEN_STYLES:
        space = StyleSpace(load_encoders("embedded").clip, style=drawn(style, 8), base=drawn("photo", 8))
        alike, plain = space.scores(drawn(style, 6)), space.scores(drawn("photo", 6))
        assert alike.mean() > plain.mean() + 0.2


# ---- from one click to a table --------------------------------------------------------------------------------------


@pytest.fixture
def studio(tmp_path: Path, base: Base) -> Iterator[Studio]:
    studio = Studio(tmp_path / "data", workshop=shop_with(base))
    yield studio
    studio.close()


def finished(studio: Studio, experiment_id: str) -> dict[str, Any]:
    """Wait until nothing is at work any more: a run's end submits measurements, whose end is the experiment's."""
    for planned_run in studio.experiments.store.get(experiment_id).runs:
        studio.wait(planned_run.run, PATIENCE_S)
    while jobs := list(studio.experiments._measuring.values()):
        assert jobs[-1].wait(PATIENCE_S)
    return studio.experiments.status(experiment_id)


def test_methods_from_a_click_to_a_table(
    studio: Studio, base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise ValueError("No loss today; come back tomorrow.")

    monkeypatch.setitem(METHODS, "block_lora", replace(METHODS["block_lora"], loss=broken))
    config = MethodsConfig(
        methods=("dreambooth-lora", "block_lora", "textual_inversion"), snapshots=1, **QUICK
    )
    made = studio.experiments.start(
        "methods", config, draw_photos(tmp_path / "photos"), class_noun="dog", identifier="zwx", name="Rex"
    )
    status = finished(studio, made)
    assert (status["state"], status["done"], status["total"]) == ("done", 5, 7)
    states = {entry["key"]: (entry["state"], entry["message"]) for entry in status["rows"]}
    assert states == {
        "base": ("done", ""), "dreambooth-lora": ("done", ""), "textual_inversion": ("done", ""),
        "block_lora": ("failed", "No loss today; come back tomorrow."),
    }  # fmt: skip
    lora = next(entry for entry in status["rows"] if entry["key"] == "dreambooth-lora")
    run = studio.store.get(lora["runs"][0])
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
    assert studio.recall(drawn)["sample"]["seed"] == 1

    later = Studio(studio.root, workshop=shop_with(base))
    try:
        assert later.experiments.status(made) == status
        monkeypatch.undo()
        later.experiments.resume(made)
        mended = finished(later, made)
        assert (mended["state"], mended["done"]) == ("done", 7)
        later.experiments.delete(made)
        assert later.experiments.list() == []
        assert later.store.get(run.id).name == "Rex · DreamBooth, LoRA", "its runs stay in the Library"
    finally:
        later.close()


def test_what_was_cut_off_goes_on(studio: Studio, base: Base, tmp_path: Path) -> None:
    config = MethodsConfig(methods=("dreambooth-lora", "svdiff"), snapshots=0, **QUICK)
    studio.worker.submit("busy", lambda job: None)
    made = studio.experiments.start(
        "methods", config, draw_photos(tmp_path / "photos"), class_noun="dog", identifier="zwx"
    )
    studio.experiments.stop(made)
    finished(studio, made)
    assert studio.experiments.status(made)["state"] == "interrupted"
    assert [entry["state"] for entry in studio.experiments.list()] == ["interrupted"]
    studio.experiments.resume(made)
    status = finished(studio, made)
    assert (status["state"], status["done"], status["total"]) == ("done", 3, 3)
    assert len(studio.list_runs()) == 2, "no run was started twice"


def test_a_character_and_a_style(studio: Studio, tmp_path: Path) -> None:
    config = BlocksConfig(
        seeds=1, rank=2, conv_rank=1, **(QUICK | {"prompts": ("a {subject}{style}",), "steps": 1})
    )
    photos, pictures = draw_photos(tmp_path / "photos"), draw_photos(tmp_path / "style")
    made = studio.experiments.start(
        "blocks", config, photos, class_noun="dog", identifier="zwx", style_paths=pictures,
        style_captions={path.name: "a red ball" for path in pictures},
    )  # fmt: skip
    status = finished(studio, made)
    assert [entry["message"] for entry in status["rows"] if entry["state"] != "done"] == []
    assert [len(table["rows"]) for table in status["tables"]] == [6, 4, 6]
    experiment = studio.experiments.store.get(made)
    styled = studio.store.get(experiment.run_of("style-upper").run)
    assert styled.read_json("captions.json")["00.png"] == "a red ball, {identifier} {class_noun}"
    assert styled.config["use_captions"] is True
    scores = experiment.scores("all-chosen-upper") or {}
    assert {"identity_raw", "style_raw", "clip_t"} <= scores["scores"].keys()
    picture = experiment.path / scores["pictures"][0][0]
    first, second = studio.recall(picture)["stack"]
    assert (first["name"].rpartition(" · ")[2], second["blocks"].count("1")) == ("Character, all blocks", 10)
    assert scores["facts"]["style_seconds"] > 0
    assert len(studio.list_runs()) == 6


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
    refused("no picture in the style yet", kind="blocks")
    refused("needs a rare word", identifier="")
    with pytest.raises(ValueError, match="There is no experiment 'x'"):
        studio.experiments.status("x")
    assert studio.list_runs() == []
    assert ExperimentStore(studio.root).list() == []
    told = studio.experiments.cost("methods", MethodsConfig(seeds=2))
    assert told["runs"] == len(methods.CANDIDATES)
    assert told["pictures"] == (1 + 4 * len(methods.CANDIDATES)) * 4 * 2
