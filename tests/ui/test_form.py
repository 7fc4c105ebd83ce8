"""The form of the tab Train: tiles of photographs, own presets, a typed base model, and fields that keep what is typed."""

import threading
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from conftest import PATIENCE_MS, Served, newest
from PIL import Image

from pipelines.data.photographs import MAX_PHOTOS
from pipelines.data.subject import stored_subjects
from pipelines.methods.specs import METHODS, methods_of, preset
from pipelines.studio import Studio
from ui import forms as form
from ui.html import BrowserCopies
from ui.run.monitor import RunMonitor
from ui.tabs.train.handlers import DELETE_IT, TrainHandlers
from ui.tabs.train.photos import photo_names
from ui.wiring import _held_back


@pytest.fixture
def train(studio: Studio, copies: BrowserCopies) -> TrainHandlers:
    return TrainHandlers(RunMonitor(studio, copies))


@pytest.fixture
def halves(tmp_path: Path) -> list[Path]:
    """Three wide photographs, red on the left and blue on the right."""
    paths = []
    for index in range(3):
        picture = Image.new("RGB", (320, 160), "blue")
        picture.paste("red", (0, 0, 160, 160))
        paths.append(tmp_path / f"half-{index}.png")
        picture.save(paths[-1])
    return paths


def test_the_fields_of_each_method_are_grouped_and_those_without_effect_hidden() -> None:
    rows = form.own_rows("train")
    assert rows["own_svdiff_optimizer"].widgets == {"norm_learning_rate": "svdiff_norm_learning_rate"}
    assert {row.group for row in rows.values()} <= set(form.GROUP_TITLES)
    own = [name for row in rows.values() for name in row.widgets.values()]
    expected = {widget for spec in methods_of("train") for widget in form.own_names(spec.name).values()}
    assert sorted(own) == sorted(expected), "each in one group"
    values = form.filled("dreambooth", preset("dreambooth", "embedded", "Full"))
    assert form.applicable("dreambooth", values)["dreambooth_rank"] is False
    values |= {
        "dreambooth_weights": "lora",
        "prior_preservation": True,
        "scenes": 0,
        "mask_background": False,
    }
    shown = form.applicable("dreambooth", values)
    assert (shown["dreambooth_rank"], shown["class_images"], shown["background_weight"]) == (
        True,
        True,
        False,
    )
    assert {"dreambooth_weights", "prior_preservation", "scenes"} <= set(form.deciding("train"))


def test_own_presets_follow_the_shipped_ones(train: TrainHandlers, studio: Studio) -> None:
    fields = form.filled("dreambooth", preset("dreambooth", "embedded")) | {"steps": 33, "dreambooth_rank": 5}
    saved = train.save_preset("dreambooth/Quick", "embedded", "Mine", **fields)
    assert saved["plan"]["value"] == "dreambooth/own:Mine"
    assert saved["plan"]["choices"][-1] == ("Mine · yours", "dreambooth/own:Mine")
    photos = {"title": "", "files": [f"{index}.png" for index in range(8)]}
    filled = train.choose_plan("dreambooth/own:Mine", "embedded", photos)
    assert (filled["steps"], filled["dreambooth_rank"]) == (33, 5), "exactly as it was saved"
    assert filled["delete_preset"]["visible"] is True
    assert train.suit("dreambooth/own:Mine", "embedded", photos, None) == {}
    with pytest.raises(ValueError, match="already a preset 'Mine'"):
        train.save_preset("dreambooth/Quick", "embedded", "mine", **fields)
    asked = train.delete_preset("dreambooth/own:Mine", "embedded", None, "Delete this preset …")
    assert asked == {"delete_preset": gr.update(value=DELETE_IT)}
    gone = train.delete_preset("dreambooth/own:Mine", "embedded", None, DELETE_IT)
    assert gone["plan"]["value"] == "dreambooth/Quick"
    assert not [row for row in studio.presets.list("dreambooth", "embedded") if row.own]
    assert studio.for_owner("visitor").presets.list("dreambooth", "embedded")[0].name == "Quick"


def test_each_choice_says_what_it_is_and_costs(train: TrainHandlers) -> None:
    source = train.source_of(next(iter(train.examples)))
    for method, _ in ((spec.name, spec) for spec in methods_of("train")):
        fields = form.filled(method, preset(method, "embedded"))
        told = train.cost(source, f"{method}/Quick", "embedded", **fields)
        assert METHODS[method].about in told["method_told"].replace("&#x27;", "'")
        assert "A file of " in told["method_told"]
        assert f"Quick: {fields['steps']} steps" in told["preset_told"]
        assert ", estimated." in told["preset_told"] or ", measured on this machine." in told["preset_told"]


def test_a_base_is_taken_or_refused_at_once(train: TrainHandlers, tmp_path: Path) -> None:
    refused = train.choose_base(str(tmp_path / "model"), "dreambooth", None)
    assert "There is no base" in refused["needs"]
    assert set(refused) == {"needs"}, "the form stays as it is"
    off = train.choose_base("someone/model", "svdiff", None)
    assert "downloads are off; start Atelier with ATELIER_HUB=1" in off["needs"]
    assert off["plan"]["value"] == "svdiff/Quick"
    with pytest.raises(ValueError, match="downloads are off"):
        train.start(train.source_of("ada"), "dreambooth/Quick", "someone/model")
    assert "Ready" in train.choose_base("embedded", "dreambooth", None)["needs"]


def test_more_photographs_than_fit_are_left_out_in_a_sentence(
    train: TrainHandlers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(gr, "Warning", lambda text, **_: told.append(text))
    files = [tmp_path / f"{index:02d}.png" for index in range(MAX_PHOTOS + 1)]
    for path in files:
        Image.new("RGB", (64, 64), "teal").save(path)
    (tmp_path / "words.png").write_text("no picture")
    given = [str(path) for path in (tmp_path / "words.png", *files)]
    taken = train.choose_files(given, None, "embedded")
    assert len(photo_names(taken["source"])) == MAX_PHOTOS
    assert taken["upload"] is None, "more can be added"
    assert "words.png is not a JPEG" in told[0]
    assert "the first 60 are kept" in told[0]
    drawn = train.photos.draw(taken["source"], None)
    assert drawn["tiles"].count('class="tile"') == MAX_PHOTOS
    assert drawn["squares"].count("<img") == MAX_PHOTOS
    only_bad = train.choose_files([str(tmp_path / "words.png")], None, "embedded")
    assert only_bad["source"] is None


def test_an_answer_holds_back_the_value_of_a_typed_field() -> None:
    given, typed = ["noun", "word", "shown"], ["noun", "word"]
    ordered = ["", gr.update(choices=["a"], value="a"), "run"]
    rest = _held_back(ordered, given, typed, {"noun": "dog", "word": None})
    assert rest[:3] == [gr.skip(), gr.update(choices=["a"]), "run"]
    assert rest[3] == {
        "noun": {"place": 0, "was": "dog", "value": ""},
        "word": {"place": 1, "was": None, "value": "a"},
    }
    assert _held_back([gr.skip(), gr.skip(), 1], given, typed, {"noun": "dog", "word": None})[3] == {}


@pytest.mark.browser
def test_a_photograph_is_removed_cropped_captioned_and_repeated(
    visit: Any, served: Served, halves: list[Path]
) -> None:
    visitor = visit()
    page = visitor.page
    page.set_input_files("#upload input[type=file]", [str(path) for path in halves])
    visitor.see(".tile >> nth=2")
    page.get_by_role("button", name="Remove half-0.png").click()
    page.wait_for_function("document.querySelectorAll('.tile').length === 2")
    page.locator(".tile [data-act=choose]").nth(1).press("Enter")
    crop = page.get_by_label("Crop of half-2.png, left or right")
    crop.press("End")
    page.get_by_label("Caption (optional)").fill("a {identifier} asleep")
    repeats = page.get_by_role("spinbutton", name="Repeats")
    repeats.fill("4")
    repeats.press("Tab")
    visitor.see(".tile:nth-child(2) .marks :text('×4')")
    visitor.see(".tile:nth-child(2) .marks :text('✎')")
    assert page.get_by_label("Caption (optional)").input_value() == "a {identifier} asleep"
    page.locator(".tile [data-act=choose]").nth(0).click()
    page.get_by_label("Crop of half-1.png, left or right").press("Home")
    page.wait_for_function("document.querySelector('.tile img').style.objectPosition.startsWith('0')")
    page.locator("#page-train").get_by_label("What is it?").fill("ball")
    page.click("#personalize")
    visitor.until(lambda: bool(served.studio.resources.store.list()))
    visitor.until(lambda: bool(stored_subjects(newest(served.studio).path, {})))
    (subject,) = stored_subjects(newest(served.studio).path, {})
    assert dict(subject.captions) == {"00.png": "", "01.png": "a {identifier} asleep"}
    assert dict(subject.repeats) == {"00.png": 1, "01.png": 4}
    colours = []
    for path in subject.photos:
        with Image.open(path) as picture:
            colours.append(picture.getpixel((64, 64)))
    assert colours == [(255, 0, 0), (0, 0, 255)], "the left half of one, the right half of the other"
    assert not visitor.errors


@pytest.mark.browser
def test_own_presets_are_saved_used_and_deleted(visit: Any, served: Served) -> None:
    visitor = visit()
    page = visitor.page
    advanced = page.locator("#advanced")
    advanced.get_by_role("button", name="Advanced").click()
    steps = advanced.get_by_label("Steps", exact=True).locator("visible=true")
    advanced.get_by_role("tab", name="Optimizer").click()
    steps.fill("41")
    steps.press("Tab")
    page.get_by_label("Save these settings as a preset").fill("My dog")
    page.locator("#own-preset button").click()
    page.wait_for_selector(".toast-body:has-text('is saved with the presets of DreamBooth')")
    (saved,) = (row for row in served.studio.presets.list("dreambooth", "embedded") if row.own)
    assert served.studio.presets.read("dreambooth", "embedded", saved).steps == 41
    page.get_by_label("Save these settings as a preset").fill("my dog")
    page.locator("#own-preset button").click()
    page.wait_for_selector(".toast-body:has-text('already a preset')")
    assert page.get_by_label("Save these settings as a preset").input_value() == "my dog"
    page.reload()
    visitor.see(".compare img")
    page.get_by_label("Preset", exact=True).locator("visible=true").click()
    page.get_by_role("option", name="My dog · yours").click()
    visitor.see(".choice-told:has-text('My dog: 41 steps')")
    visitor.press("Delete this preset …")
    visitor.press("Delete permanently")
    visitor.see(".choice-told:has-text('Quick: ')")
    assert not [row for row in served.studio.presets.list("dreambooth", "embedded") if row.own]
    assert not visitor.errors


@pytest.mark.browser
def test_a_base_that_is_refused_leaves_the_form_usable(visit: Any, served: Served) -> None:
    visitor = visit(tab="start")
    page = visitor.page
    page.locator(".chip.base").click()
    page.wait_for_function("document.activeElement?.closest('#base-model') !== null")
    visitor.place = "#page-train"
    field = page.locator("#base-model input")
    for typed, said in (
        ("/nowhere/model", "There is no base '/nowhere/model'"),
        ("someone/model", "downloads are off"),
    ):
        field.fill(typed)
        field.press("Tab")
        visitor.see(f'.base-needs:has-text("{said}")')
        page.click("#personalize")
        page.wait_for_selector(f'.toast-body:has-text("{said}")')
    field.fill("embedded")
    field.press("Tab")
    visitor.see(".base-needs:has-text('Ready')")
    page.click("#personalize")
    visitor.see(".run-title:has-text('Finished')")
    assert newest(served.studio).base["spec"] == "embedded"
    assert not visitor.errors


@pytest.mark.browser
def test_what_is_typed_during_an_upload_stays(
    visit: Any, served: Served, halves: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    typed, sort = threading.Event(), served.studio.inspection.sort_files

    def slow(*given: Any, **more: Any) -> Any:
        typed.wait(PATIENCE_MS / 1000)
        return sort(*given, **more)

    monkeypatch.setattr(served.studio.inspection, "sort_files", slow)
    visitor = visit()
    page = visitor.page
    page.set_input_files("#upload input[type=file]", [str(halves[0])])
    noun = page.locator("#page-train").get_by_label("What is it?")
    page.wait_for_timeout(800)
    noun.fill("teapot")
    typed.set()
    visitor.see(".tile")
    page.wait_for_function("!['', 'zwx'].includes(document.querySelector('#words input').value)")
    assert noun.input_value() == "teapot", "the answer would have cleared the example's word"
