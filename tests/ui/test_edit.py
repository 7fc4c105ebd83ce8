"""The tab Edit: a photograph is learned and edited, what is shown is the last edit asked for, and two runs mix live."""

from pathlib import Path
from typing import Any

import pytest
from conftest import Served, finished_run, newest

from pipelines.config import EDIT_STRIP, EditConfig, MixConfig, to_dict
from pipelines.studio import Studio
from tests.tiny import draw_photos
from ui import forms as form
from ui.html import BrowserCopies
from ui.run.monitor import RunMonitor
from ui.tabs.edit.handlers import ASKED, FIELDS, OWN, EditHandlers
from ui.tabs.edit.mix import MixHandlers

CAPTION = "a photo of a person on the beach"


@pytest.fixture
def edits(studio: Studio, copies: BrowserCopies) -> EditHandlers:
    return EditHandlers(RunMonitor(studio, copies))


@pytest.fixture(scope="module")
def learned(studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a run that learned one photograph."""
    photo = draw_photos(tmp_path_factory.mktemp("one") / "photos")[0]
    config = {"caption": CAPTION, "steps": 2, "sample_steps": 1, "measure": False, "learning_rate": 0.01}
    run_id = studio.training.start("image_edit", config, [photo])
    assert studio.training.wait(run_id, 60) == "done", studio.training.status(run_id)["error"]
    return run_id


def asked(**changed: Any) -> dict[str, Any]:
    """Return the widget values of an edit of two steps."""
    values = to_dict(EditConfig(prompt="a photo of a laughing person on the beach", steps=2)) | changed
    return {f"{OWN}ask_{name}": values[name] for name in ASKED}


def settings(edits: EditHandlers, **changed: Any) -> dict[str, Any]:
    values = form.shown(edits.config()) | changed
    return {"edit_preset": edits.presets()[0]} | {OWN + name: values[name] for name in FIELDS}


def test_a_photograph_of_an_example_is_learned_with_its_caption(
    edits: EditHandlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Any] = []

    def start(method: str, config: Any, photos: list[Path]) -> str:
        found.append((method, config, photos))
        return ""

    monkeypatch.setattr(edits.studio.training, "start", start)
    monkeypatch.setattr(edits, "open", lambda run_id: {})
    source = edits.sources()[0][1]
    edits.learn(edit_upload=None, edit_source=source, edit_caption=CAPTION, **settings(edits, steps=77))
    ((method, config, photos),) = found
    assert (method, config.caption, config.steps) == ("image_edit", CAPTION, 77)
    assert photos == [edits.monitor.examples[source]["photos"][0]]
    with pytest.raises(ValueError, match="no photograph yet"):
        edits.learn(edit_upload=None, edit_source=None, edit_caption=CAPTION, **settings(edits))
    with pytest.raises(ValueError, match="The caption is empty"):
        edits.learn(edit_upload=None, edit_source=source, edit_caption=" ", **settings(edits))


def test_a_chosen_photograph_of_the_world_gets_a_caption(edits: EditHandlers) -> None:
    values = edits.choose_photograph(None, edits.sources()[0][1])
    assert values["edit_caption"].startswith("a photo of a person")
    assert "<img" in values["edit_square"]


def test_the_shipped_edit_is_shown_before_anything_is_computed(edits: EditHandlers) -> None:
    """The copy that ships has another id than the run that drew its pictures."""
    (example,) = edits.studio.library.examples(tab="edit")
    _, asked, _ = edits.opening(example["run"])
    shown = edits.show(asked)
    for label in ("The photograph", "Reconstructed", "Edited<", "Edited without fine-tuning"):
        assert label in shown["edit_result"]
    assert shown["edit_strip"].count("<img") == len(EDIT_STRIP)


def test_an_edit_is_shown_part_by_part(edits: EditHandlers, learned: str) -> None:
    opened = edits.open(learned)
    assert opened["edit_asked"] == {"run": learned}
    assert "The photograph" in edits.show(opened["edit_asked"])["edit_result"]
    given = edits.edit(learned, **asked())["edit_asked"]
    first = edits.show(given)
    assert first["edit_result"].count("<figure") == 3
    assert "Reconstructed, " in first["edit_result"]
    assert "without fine-tuning" not in first["edit_result"]
    assert "<figure" not in first["edit_strip"]
    edits.untrained(given)
    edits.strip(given)
    after = edits.show(given)
    assert after["edit_result"].count("<figure") == 4
    assert after["edit_strip"].count("<figure") == 5
    assert edits.open(learned)["edit_asked"] == given, "the page opens with the last edit"


def test_a_late_answer_to_an_earlier_edit_is_not_shown(edits: EditHandlers, learned: str) -> None:
    late = edits.edit(learned, **asked(seed=1, change=0.5))["edit_asked"]
    now = edits.edit(learned, **asked(seed=2, change=0.5))["edit_asked"]
    before = edits.show(now)
    edits.untrained(late)
    edits.strip(late)
    assert edits.show(now) == before


def test_a_suggestion_is_one_click(edits: EditHandlers, learned: str) -> None:
    values = edits.suggested(0, learned, **asked())
    assert values["edit_ask_prompt"] == "a photo of a person wearing a red hat on the beach"
    assert values["edit_asked"]["config"]["prompt"] == values["edit_ask_prompt"]
    with pytest.raises(ValueError, match="Learn a photograph first"):
        edits.suggested(0, None, **asked())


def test_the_shown_run_is_opened_if_it_learned_a_photograph(edits: EditHandlers, learned: str) -> None:
    assert edits.follow(learned, None)["edit_run"]["value"] == learned
    other = edits.studio.library.examples(tab="train")[0]["run"]
    assert edits.follow(other, learned)["edit_run"]["value"] == learned


def mixing(one: str | None, other: str | None, **changed: Any) -> dict[str, Any]:
    values = {"prompt": "a photo of a dog", "seed": 3} | to_dict(MixConfig()) | changed
    return {"mixing_one": one, "mixing_other": other} | {
        f"mixing_{name}": value for name, value in values.items()
    }


def test_two_runs_mix_live_and_become_a_run(studio: Studio, copies: BrowserCopies) -> None:
    mixes = MixHandlers(RunMonitor(studio, copies))
    first, second = (
        finished_run(studio, "svdiff", name=name, learning_rate=0.01) for name in ("One", "Other")
    )
    offered = mixes.offer()
    assert {first, second} <= {run for _, run in offered["mixing_other"]["choices"]}
    assert "a photo of a zwx dog" in mixes.draw(True, **mixing(first, second, prompt=""))["mixing_told"]
    preview = mixes.draw(False, **mixing(first, second))
    assert "Preview" in preview["mixing_picture"]
    assert "mixing_drawn" not in preview
    full = mixes.draw(True, **mixing(first, second, first=0.75))
    assert full["mixing_drawn"]["mixing_first"] == 0.75
    assert mixes.strip(full["mixing_drawn"])["mixing_strip"].count("<figure") == 5
    assert mixes.draw(True, **mixing(first, None)) == {}
    mixes.save("Half and half", **mixing(first, second, first=0.75))
    assert newest(studio).name == "Half and half"


@pytest.mark.browser
def test_the_page_edits_and_mixes(visit: Any, served: Served, learned: str, photographs: list[Path]) -> None:
    visitor = visit().turn("edit")
    page = visitor.page
    visitor.see("#edit-showcase figure:has-text('The photograph')")
    page.set_input_files("#edit-upload input[type=file]", str(photographs[0]))
    visitor.see(".edit-square img")
    page.locator("#page-edit").get_by_label("Edited caption").fill("a photo of a person in the forest")
    page.click("#edit-make")
    visitor.see("#edit-showcase figure:has-text('without fine-tuning')")
    visitor.see(".edit-strip figure:has-text('change')")
    for label, title in (("First", "Ada"), ("Second", "Henrik")):
        page.locator("#mixing-form").get_by_label(label, exact=True).click()
        page.locator("#mixing-form [role=option]").filter(has_text=title).first.click()
    visitor.see("#mixing-stage .tag:has-text('The mix')")
    visitor.see("#mixing-stage .edit-strip img")
    slider = page.locator("#mixing-form input[type=range]").first
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + box["height"] / 2, steps=4)
    visitor.see("#mixing-stage .tag:has-text('Preview')")
    page.mouse.up()
    visitor.see("#mixing-stage .tag:has-text('The mix')")
    assert not visitor.errors
