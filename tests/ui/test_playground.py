"""The playground: history, seed, phrases and unknown words, previews, file names, and typing that is never overwritten."""

import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE_MS, Served, Visitor

from pipelines.config import SampleConfig
from pipelines.files import DiskError
from pipelines.models.inspection import guidance_of
from pipelines.models.prompt_words import prompt_words
from pipelines.sampling.image_metadata import read_png_settings
from pipelines.studio import Studio
from ui import forms as form
from ui.html import BrowserCopies, Html
from ui.live_preview import PREVIEW_PX, PREVIEW_STEPS, preview
from ui.run.monitor import RunMonitor
from ui.run.prompt_words import below_prompt
from ui.tabs.train.playground_handlers import PlaygroundHandlers
from ui.theme import ASSETS

SD1 = "stable-diffusion-v1-5/stable-diffusion-v1-5"
PROMPT = "#play-form .typed-prompt textarea"
KEPT = "#playground .kept"


@pytest.fixture
def playground(studio: Studio, copies: BrowserCopies) -> PlaygroundHandlers:
    return PlaygroundHandlers(RunMonitor(studio, copies))


def example_run(studio: Studio, title: str = "Ada") -> str:
    return next(each["run"] for each in studio.library.examples() if each["title"] == title)


def asked(prompt: str = "a photo of a zwx person", **settings: Any) -> dict[str, Any]:
    return form.shown(SampleConfig(prompt=prompt, steps=2, **settings))


def opened(visit: Any) -> Visitor:
    """Open the playground with Ada's run and wait until the phrases are shown."""
    visitor = visit()
    visitor.choose("Ada")
    visitor.see("#play-form .word-chip")
    return visitor


def seed_of(visitor: Visitor) -> Any:
    return visitor.page.locator("#play-form").get_by_label("Seed")


def generate(visitor: Visitor, prompt: str, seed: int) -> None:
    """Generate a picture and wait until it is in the history."""
    visitor.page.fill(PROMPT, prompt)
    seed_of(visitor).fill(str(seed))
    visitor.page.locator("#play-form").get_by_role("button", name="Generate").click()
    visitor.see(f"#playground .kept[aria-pressed=true][title^='{prompt}, seed {seed}']")


def wait_for_value(visitor: Visitor, selector: str, value: str) -> None:
    visitor.page.wait_for_function(
        "([selector, value]) => document.querySelector(selector).value === value", arg=[selector, value]
    )


# The history


def test_pictures_stay_in_the_history_and_are_recalled(visit: Any, served: Served) -> None:
    visitor = opened(visit)
    generate(visitor, "a photo of a zwx person", 5)
    generate(visitor, "a zwx person in the forest", 6)
    assert visitor.page.locator(KEPT).count() == 2
    visitor.page.locator(KEPT).last.click()
    visitor.see("#play-result .caption[data-seed='5']")
    wait_for_value(visitor, PROMPT, "a photo of a zwx person")
    assert seed_of(visitor).input_value() == "5"
    assert visitor.page.locator(KEPT).count() == 2, "recalling adds nothing"
    visitor.page.reload()
    visitor.see(".kept >> nth=1")
    visitor.page.locator(KEPT).first.click()
    visitor.see("#play-result .caption:has-text('in the forest')")
    visitor.see(".run-name:text-is('Ada')")
    other = opened(visit)
    assert other.page.locator(KEPT).count() == 0, "another visitor"
    visitor.press("Remove this picture")
    visitor.page.wait_for_function("document.querySelectorAll('#playground .kept').length === 1")
    visitor.page.locator("#playground .history summary").click()
    visitor.press("Remove all 1 pictures")
    visitor.page.wait_for_selector(KEPT, state="detached")
    assert not visitor.errors
    assert not other.errors


def test_the_first_page_has_the_same_history(visit: Any) -> None:
    visitor = opened(visit)
    generate(visitor, "a photo of a zwx person", 5)
    visitor.turn("start")
    visitor.see("#first-play .kept").click()
    visitor.see("#first-result .caption[data-seed='5']")
    assert not visitor.errors


def test_the_picture_without_the_adapter_is_generated_once(
    playground: PlaygroundHandlers, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[bool] = []
    real = studio.generation.generate

    def watched(config: SampleConfig, **options: Any) -> list[Path]:
        calls.append(bool(options.get("before_after")))
        return real(config, **options)

    monkeypatch.setattr(studio.generation, "generate", watched)
    run = example_run(studio)
    first = playground.generate(run, 1.0, **asked(count=2))
    again = playground.generate(run, 0.5, visitor=first["visitor"], **asked(count=2))
    playground.generate(run, 0.5, visitor=first["visitor"], **asked(count=2, guidance_scale=2.0))
    assert calls == [True, False, True]
    history = studio.generation.history.list(first["visitor"])
    assert len(history) == 6
    newest, oldest = history[2], history[4]
    assert newest.settings["stack"][0]["strength"] == 0.5
    assert newest.before is not None
    assert oldest.before is not None
    assert newest.before.read_bytes() == oldest.before.read_bytes()
    assert again["history"].count("×0.5") >= 2


def test_a_picture_of_a_deleted_run_is_still_shown(
    playground: PlaygroundHandlers, studio: Studio, lora_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradio.Warning", lambda *text, **options: None)
    run = studio.import_export.import_lora(lora_file, name="Rex")
    drawn = playground.generate(run, 1.0, **asked("a zwx dog", seed=3))
    studio.library.delete(run)
    (kept,) = studio.generation.history.list(drawn["visitor"])
    values = playground.show_kept(drawn["visitor"], example_run(studio), kept.id)
    assert (values["prompt"], values["seed"]) == ("a zwx dog", 3)
    assert "With adapter" in values["result"]
    assert "shown" not in values


def test_a_full_disk_keeps_the_picture_on_the_page(
    playground: PlaygroundHandlers, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise DiskError("The disk is full.")

    monkeypatch.setattr(studio.generation.history, "add", full)
    values = playground.generate(example_run(studio), 1.0, **asked())
    assert "not in the history. The disk is full." in values["result_caption"]
    assert Path(values["download"]["value"]).is_file()
    assert values["history"] == ""


# The seed


def test_random_sets_a_new_seed_and_reuse_the_shown_one(visit: Any) -> None:
    visitor = opened(visit)
    visitor.press("Reuse")
    assert seed_of(visitor).input_value() == "7", "no picture yet"
    generate(visitor, "a photo of a zwx person", 5)
    found = set()
    for _ in range(3):
        before = seed_of(visitor).input_value()
        visitor.press("Random")
        visitor.page.wait_for_function(
            "([field, before]) => field.value !== before", arg=[seed_of(visitor).element_handle(), before]
        )
        found.add(int(seed_of(visitor).input_value()))
    assert len(found) == 3
    assert all(0 <= seed <= 999_999 for seed in found)
    visitor.press("Reuse")
    visitor.page.wait_for_function("field => field.value === '5'", arg=seed_of(visitor).element_handle())


# Phrases and unknown words


def test_phrases_are_put_into_the_prompt_and_taken_out(visit: Any) -> None:
    visitor = opened(visit)
    visitor.page.fill(PROMPT, "a photo of a zwx person on the beach")

    def click(label: str) -> str:
        visitor.page.locator("#play-form .word-chip").get_by_text(label, exact=True).click()
        return visitor.page.input_value(PROMPT)

    assert click("forest") == "a photo of a zwx person in the forest"
    assert click("red hat") == "a photo of a zwx person wearing a red hat in the forest"
    assert click("blue hat") == "a photo of a zwx person wearing a blue hat in the forest"
    assert click("red scarf") == "a photo of a zwx person wearing a blue hat and a red scarf in the forest"
    assert click("blue hat") == "a photo of a zwx person wearing a red scarf in the forest"
    assert click("red scarf") == "a photo of a zwx person in the forest"
    assert click("sunset") == "a photo of a zwx person in the forest at sunset"
    assert click("forest") == "a photo of a zwx person at sunset"
    assert click("kitchen") == "a photo of a zwx person in the kitchen at sunset"
    assert click("watercolour") == "a watercolour painting of a zwx person in the kitchen at sunset"
    visitor.see("#play-form .word-chip[aria-pressed=true]:text-is('watercolour')")
    assert click("watercolour") == "a photo of a zwx person in the kitchen at sunset"
    assert visitor.page.inner_text("#play-form .unknown") == ""
    visitor.turn("start")
    wait_for_value(visitor, "#first-play textarea", "a photo of a zwx person in the kitchen at sunset")
    assert not visitor.errors


def test_words_that_the_base_does_not_know_are_marked(visit: Any) -> None:
    visitor = opened(visit)
    visitor.page.fill(PROMPT, "a photo of a zwx person, riding a Dragon on the beach")
    visitor.see("#play-form .unknown mark:text-is('dragon')")
    assert visitor.page.inner_text("#play-form .unknown") == "This base was not trained on: riding, dragon"
    visitor.choose("Biscuit")
    visitor.page.wait_for_selector("#play-form .unknown mark", state="detached")


def test_a_teapot_wears_nothing(studio: Studio) -> None:
    words = prompt_words("embedded")
    kinds = {noun: {each.kind for each in words.suited(noun)} for noun in ("teapot", "dog", "grandmother")}
    assert "worn" not in kinds["teapot"]
    assert "worn" in kinds["dog"]
    assert "worn" in kinds["grandmother"], "unknown to the base, so everything is offered"
    learned = studio.inspection.prompt_words(example_run(studio, "Biscuit")).learned
    assert {"pll", "dog"} <= set(learned)


def test_a_real_base_marks_nothing_and_offers_general_phrases() -> None:
    words = prompt_words(SD1)
    assert words.known == frozenset()
    labels = {each.label for each in words.suited("woman")}
    assert {"beach", "red hat", "watercolour"} <= labels
    assert "ink manga" not in labels
    shown = below_prompt(words, hint=Html(""), noun="woman")
    assert 'data-known=""' in shown
    assert prompt_words("no base of this name").phrases == ()


def test_a_base_without_a_list_offers_nothing(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text("{}")
    (tmp_path / "atelier.json").write_text('{"family": "embedded"}')
    words = prompt_words(str(tmp_path))
    assert (words.known, words.phrases) == (frozenset(), ())


def test_the_guidance_is_the_bases_own(studio: Studio) -> None:
    embedded, *_, real = studio.inspection.bases()
    assert embedded.guidance_scale == guidance_of(ASSETS / "base") == 3.0
    assert real.guidance_scale == 7.5


# A changed strength


def test_a_dragged_strength_shows_a_preview_and_then_the_full_picture(
    visit: Any, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    real = served.studio.generation.generate

    def watched(config: SampleConfig, **options: Any) -> list[Path]:
        steps.append(config.steps)
        return real(config, **options)

    visitor = opened(visit)
    generate(visitor, "a photo of a zwx person", 5)
    monkeypatch.setattr(served.studio.generation, "generate", watched)
    slider = visitor.page.locator("#play-strength input[type=range]")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    visitor.page.mouse.move(x, y)
    visitor.page.mouse.down()
    visitor.page.mouse.move(x - box["width"] / 4, y, steps=3)
    visitor.see("#play-result .tag:has-text('Preview')")
    assert visitor.page.locator(KEPT).count() == 1, "a preview is not in the history"
    assert set(steps) == {PREVIEW_STEPS}
    visitor.page.mouse.up()
    visitor.see("#play-result .tag:has-text('With adapter')")
    visitor.see(".kept >> nth=1")
    assert steps[-1] == 25
    told = visitor.page.locator(KEPT).first.get_attribute("title")
    assert told.startswith("a photo of a zwx person, seed 5 · ×0."), told
    assert not visitor.errors


def test_a_strength_changes_nothing_before_there_is_something_to_draw(
    playground: PlaygroundHandlers, studio: Studio
) -> None:
    assert playground.redraw(True, "", 0.5, **asked()) == {}
    assert playground.redraw(True, example_run(studio), 0.5, **asked(" ")) == {}
    bad = asked() | {"blocks": "1,2"}
    assert playground.redraw(False, example_run(studio), 0.5, **bad) == {}
    with pytest.raises(ValueError, match="2 block weights fit no list"):
        playground.redraw(True, example_run(studio), 0.5, **bad)


def test_a_preview_is_small_and_one_picture() -> None:
    config = SampleConfig(prompt="x", steps=40, count=4, seed=9)
    large = preview(config, size_px=512)
    assert (large.steps, large.size_px, large.count, large.seed) == (PREVIEW_STEPS, PREVIEW_PX, 1, 9)
    assert preview(config, size_px=128).size_px == 0, "the base's own size"
    assert preview(SampleConfig(steps=3), size_px=128).steps == 3


# File names


def test_files_are_named_after_prompt_and_seed(visit: Any) -> None:
    visitor = opened(visit)
    visitor.page.locator("#play-form").get_by_text("Advanced", exact=True).click()
    visitor.page.locator("#play-form").get_by_label("Pictures").first.fill("2")
    generate(visitor, "un été à la plage: zwx?", 5)
    with visitor.page.expect_download() as coming:
        visitor.press("Download the picture")
    assert coming.value.suggested_filename == "un-été-à-la-plage-zwx-seed-5.png"
    assert read_png_settings(Path(coming.value.path()))["seed"] == 5
    sources = visitor.page.locator("#play-result .grid-container img, #play-result .thumbnails img")
    visitor.until(lambda: sources.count() >= 2)
    names = {sources.nth(index).get_attribute("src").rpartition("/")[2] for index in range(sources.count())}
    assert any("seed-6" in name for name in names), names


# Typing


def test_what_is_typed_meanwhile_is_not_overwritten(
    visit: Any, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    visitor = opened(visit)
    biscuit, real, go = (
        example_run(served.studio, "Biscuit"),
        served.studio.training.status,
        threading.Event(),
    )

    def slow(run_id: str, since: int = 0) -> dict[str, Any]:
        if run_id == biscuit:
            go.wait(PATIENCE_MS / 1000)
        return real(run_id, since)

    monkeypatch.setattr(served.studio.training, "status", slow)
    visitor.page.get_by_label("Show run").click()
    visitor.page.get_by_role("option", name="Biscuit").click()
    visitor.page.fill(PROMPT, "a zwx person under a starry night sky")
    go.set()
    visitor.see("#run-card .run-name:text-is('Biscuit')")
    visitor.page.wait_for_timeout(300)
    assert visitor.page.input_value(PROMPT) == "a zwx person under a starry night sky"
    visitor.page.get_by_label("Show run").click()
    visitor.page.get_by_role("option", name="Ada").click()
    visitor.see("#run-card .run-name:text-is('Ada')")
    wait_for_value(visitor, PROMPT, "a photo of a zwx person on the beach")
    assert not visitor.errors


def test_a_name_typed_meanwhile_is_kept(
    visit: Any, served: Served, photographs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    visitor = visit(tab="start")
    real, go = served.studio.inspection.photos_preview, threading.Event()

    def slow(*given: Any, **options: Any) -> list[Path]:
        go.wait(PATIENCE_MS / 1000)
        return real(*given, **options)

    monkeypatch.setattr(served.studio.inspection, "photos_preview", slow)
    visitor.page.set_input_files("#first-upload input[type=file]", [str(path) for path in photographs])
    visitor.page.wait_for_timeout(500)
    visitor.page.locator("#first-noun").get_by_label("What is it?").fill("tortoise")
    go.set()
    visitor.see("#first-inputs .photo-wall img >> nth=2")
    visitor.page.wait_for_timeout(300)
    assert visitor.page.locator("#first-noun").get_by_label("What is it?").input_value() == "tortoise"
    assert not visitor.errors
