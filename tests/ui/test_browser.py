"""The page in a real browser, on a real Studio with a fake UNet."""

import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from conftest import DESKTOP, PATIENCE_MS, Served, newest

from pipelines.data.subject import stored_photos
from pipelines.sampling.image_metadata import read_png_settings

pytestmark = pytest.mark.browser
PHONE = {"width": 390, "height": 844}


def test_two_clicks_lead_from_an_example_to_a_trained_subject(visit: Any, served: Served, pace: Any) -> None:
    pace(0.05)
    visitor = visit()
    page = visitor.page
    visitor.choose("Biscuit")
    assert page.input_value("#words input, #words textarea") == "dog"
    assert "Finished" in page.inner_text("#run-card .run-title")
    page.click("#personalize")
    visitor.see(".run-title:has-text('Training')")
    visitor.wait_for_step(5)
    assert page.locator("#run-card .strip img").count() >= 2, "the strip begins before the first step"
    visitor.see(".curve.smooth")
    visitor.see(".run-title:has-text('Finished')")
    visitor.see(".compare .tag.right:has-text('After')")
    page.get_by_role("button", name="Train more").wait_for()
    run = newest(served.studio)
    assert (run.method, run.config["class_noun"], run.config["identifier"]) == ("dreambooth", "dog", "pll")
    assert len(list((run.path / "photos").rglob("*.png"))) == 4
    assert not visitor.errors


def test_a_reload_and_a_second_tab_see_the_same_run(visit: Any, served: Served, pace: Any) -> None:
    pace(0.3)
    first = visit()
    first.page.get_by_label("Preset", exact=True).locator("visible=true").click()
    first.page.get_by_role("option", name="Quality").click()
    first.page.click("#personalize")
    first.wait_for_step(3)
    second = visit()
    second.wait_for_step(3)
    before = first.step()
    first.page.reload()
    first.wait_for_step(before + 1)
    assert "zwx person" in first.page.input_value("#play-form textarea"), "the prompt has the run's own words"
    first.page.get_by_role("button", name="Stop and keep").click()
    for visitor in (first, second):
        visitor.see(".run-title:has-text('Stopped')")
    assert len({run.id for run in served.studio.library.list_runs() if run.state == "stopped"}) >= 1


def test_an_idle_page_is_left_alone(visit: Any) -> None:
    """An idle page must not update its DOM every second; that takes CPU time from training on the same machine."""
    visitor = visit(tab="start")
    visitor.page.wait_for_timeout(2000)
    touched = visitor.page.evaluate(
        "() => new Promise((done) => { let count = 0; const watcher = new MutationObserver((all) => { count += all.length });"
        " watcher.observe(document, {subtree: true, childList: true, attributes: true, characterData: true});"
        " setTimeout(() => done(count), 4000) })"
    )
    assert touched < 40, "some three hundred, when every tick writes to every widget"


def test_discarding_forgets_the_run(visit: Any, served: Served, pace: Any) -> None:
    pace(0.3)
    visitor = visit()
    visitor.page.click("#personalize")
    visitor.wait_for_step(2)
    known = len(served.studio.library.list_runs())
    visitor.page.get_by_role("button", name="Discard").click()
    visitor.page.wait_for_selector("#personalize")
    visitor.page.wait_for_timeout(500)
    assert len(served.studio.library.list_runs()) == known - 1


def test_the_playground_draws_both_from_one_seed(visit: Any, served: Served) -> None:
    visitor = visit()
    visitor.choose("Ada")
    visitor.page.get_by_role("button", name="Generate").click()
    visitor.page.wait_for_selector("#play-result .compare .tag:has-text('Without')")
    with visitor.page.expect_download() as coming:
        visitor.page.get_by_role("button", name="Download the picture").click()
    told = read_png_settings(Path(coming.value.path()))
    (layer,) = told["stack"]
    example = served.studio.library.examples()[0]
    assert (told["prompt"], told["seed"]) == (example["prompt"], 7)
    assert (layer["run"], layer["strength"]) == (example["run"], 1.0)
    visitor.choose("Biscuit")
    visitor.page.wait_for_selector("#play-result .compare.empty")


def test_own_photographs_are_cropped_and_nudged(visit: Any, served: Served, photographs: list[Path]) -> None:
    visitor = visit()
    page = visitor.page
    page.set_input_files("#upload input[type=file]", [str(path) for path in photographs])
    page.wait_for_selector(".tile img >> nth=2")
    page.locator(".tile [data-act=choose]").nth(1).click()
    slider = page.get_by_label("Crop of photo-1.png, left or right")
    slider.press("End")
    page.wait_for_function(
        "document.querySelectorAll('.tile img')[1].style.objectPosition.startsWith('100%')"
    )
    page.wait_for_function("!['', 'zwx'].includes(document.querySelector('#words input').value)")
    word = page.input_value("#words input")
    assert word not in {
        part for row in served.studio.library.list_runs(shipped=True) for part in row.trigger.split()
    }
    page.locator("#words").get_by_label("What is it?").fill("teapot")
    page.click("#personalize")
    visitor.wait_for_step(1)
    run = newest(served.studio)
    assert (run.config["class_noun"], run.config["identifier"]) == ("teapot", word)
    assert len(stored_photos(run.path)) == len(photographs)


def test_a_run_never_starts_without_the_rare_word_that_is_still_looked_for(
    visit: Any, served: Served, photographs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, words = threading.Event(), served.studio.inspection.identifiers()

    def slow(*, base: str | None = None) -> list[dict[str, Any]]:
        found.wait(PATIENCE_MS / 1000)
        return words

    monkeypatch.setattr(
        served.studio.inspection, "identifiers", slow
    )  # as slow as while the base is being loaded
    visitor = visit(tab="start")
    page = visitor.page
    page.set_input_files("#first-upload input[type=file]", [str(path) for path in photographs])
    page.wait_for_selector("#first-inputs .photo-wall img >> nth=2")
    page.locator("#first-noun").get_by_label("What is it?").fill("teapot")
    page.click("#first-personalize")
    page.wait_for_selector(".toast-body:has-text('trigger word')")
    found.set()
    visitor.wait_for_step(1)
    config = newest(served.studio).config
    assert config["class_noun"] == "teapot"
    assert config["identifier"] in {found["text"] for found in words}


def test_a_mistake_is_said_in_a_sentence(visit: Any, tmp_path: Path) -> None:
    visitor = visit()
    broken = tmp_path / "broken.png"
    broken.write_text("no picture at all")
    visitor.page.set_input_files("#upload input[type=file]", [str(broken)])
    said = visitor.page.wait_for_selector(".toast-body").inner_text()
    assert "broken.png is not a JPEG, PNG or WebP picture" in said
    assert "Traceback" not in said
    visitor.page.locator("#page-train .example-card.chosen").wait_for(
        state="detached"
    )  # no other example is selected instead
    visitor.page.locator(".toast-close").first.click()
    visitor.page.click("#personalize")
    visitor.page.wait_for_selector(
        ".toast-body:has-text('Choose an example or add 1 to 60 photographs first.')"
    )


def test_nothing_leaves_this_machine(visit: Any, served: Served) -> None:
    visitor = visit()
    visitor.choose("Ada")
    visitor.page.click("#personalize")
    visitor.wait_for_step(2)
    hosts = {urlsplit(url).hostname for url in visitor.requests if not url.startswith(("data:", "blob:"))}
    assert hosts <= {"127.0.0.1", "localhost"}
    assert served.strangers == []
    assert not visitor.errors


@pytest.mark.parametrize(("viewport", "scheme"), [(DESKTOP, "dark"), (PHONE, "light"), (PHONE, "dark")])
def test_it_fits_every_screen(visit: Any, viewport: dict[str, int], scheme: str) -> None:
    visitor = visit(viewport=viewport, scheme=scheme)
    visitor.choose("Ada")
    assert visitor.page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    box = visitor.page.locator("#personalize").bounding_box()
    assert box["y"] + box["height"] <= viewport["height"], "the second click needs no scrolling"
    assert visitor.page.evaluate("document.body.classList.contains('dark')") == (scheme == "dark")


def test_pictures_have_words_and_the_slider_has_keys(visit: Any) -> None:
    page = visit().page
    silent = page.evaluate(
        "[...document.images].filter(i => !i.alt && !i.closest('[aria-hidden=true]')).length"
    )
    assert silent == 0
    page.locator("#page-train .compare-view").first.focus()
    page.keyboard.press("Enter")
    slider = page.locator("#page-train").get_by_label("Drag between before and after").first
    slider.focus()
    page.keyboard.press("Home")
    assert (
        page.evaluate("document.querySelector('#page-train .compare').style.getPropertyValue('--cut')")
        == "0%"
    )
