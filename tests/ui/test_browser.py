"""The page in a real browser, on the pretended Studio."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from conftest import Served

pytestmark = pytest.mark.browser
PATIENCE_MS = 60_000
DESKTOP = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}


class Visitor:
    """One tab, with every request it makes and every error it prints."""

    def __init__(
        self, browser: Any, url: str, *, viewport: dict[str, int] = DESKTOP, scheme: str = "light"
    ) -> None:
        self.context = browser.new_context(viewport=viewport, color_scheme=scheme)
        self.context.set_default_timeout(PATIENCE_MS)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(url)
        self.page.wait_for_selector(".compare img")

    def choose(self, title: str) -> None:
        """Click 1, and wait for the shipped result."""
        self.page.get_by_role("button", name=title).click()
        self.page.wait_for_selector(f".run-name:has-text('{title}')")

    def step(self) -> int:
        """Return the step that the progress line shows."""
        found = re.search(r"Step\s*(\d+) / ", self.page.inner_text(".figures"))
        return int(found[1]) if found else 0

    def wait_for_step(self, least: int) -> None:
        """Wait until the progress line shows at least this step."""
        self.page.wait_for_function(
            "least => parseInt((document.querySelector('.figures dd') || {}).innerText) >= least", arg=least
        )


@pytest.fixture
def visit(browser: Any, served: Served) -> Iterator[Any]:
    visitors: list[Visitor] = []

    def enter(**options: Any) -> Visitor:
        visitors.append(Visitor(browser, served.url, **options))
        return visitors[-1]

    yield enter
    for visitor in visitors:
        visitor.context.close()
    for run in served.studio.list_runs():
        if run["state"] == "running":
            served.studio.stop(run["id"])


@pytest.fixture
def pace(served: Served, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set the seconds of a pretended step: slow enough to be seen on a busy machine, or never to end by itself."""
    return lambda step_s: monkeypatch.setattr(served.studio, "step_s", step_s)


def test_two_clicks_lead_from_an_example_to_a_trained_subject(visit: Any, served: Served, pace: Any) -> None:
    pace(0.05)
    visitor = visit()
    page = visitor.page
    visitor.choose("Biscuit")
    assert page.input_value("#words input, #words textarea") == "dog"
    assert "Finished" in page.inner_text(".run-title")
    page.click("#personalize")
    page.wait_for_selector(".run-title:has-text('Learning')")
    visitor.wait_for_step(5)
    assert page.locator(".strip img").count() >= 2, "the strip begins before the first step"
    page.wait_for_selector(".curve.smooth")
    page.wait_for_selector(".curve.prior")
    page.wait_for_selector(".run-title:has-text('Finished')")
    page.wait_for_selector(".compare .tag.right:has-text('After')")
    page.get_by_role("button", name="Train more").wait_for()
    method, config, photos, _ = [facts for name, facts in served.studio.calls if name == "start"][-1]
    assert (method, config.class_noun, config.identifier, len(photos)) == ("dreambooth", "dog", "qev", 4)
    assert not visitor.errors


def test_a_reload_and_a_second_tab_see_the_same_run(visit: Any, served: Served, pace: Any) -> None:
    pace(0.3)
    first = visit()
    first.page.get_by_label("Method and preset").click()
    first.page.get_by_role("option", name="Quality").click()
    first.page.click("#personalize")
    first.wait_for_step(3)
    second = visit()
    second.wait_for_step(3)
    before = first.step()
    first.page.reload()
    first.wait_for_step(before + 1)
    first.page.get_by_role("button", name="Stop and keep").click()
    for visitor in (first, second):
        visitor.page.wait_for_selector(".run-title:has-text('Stopped')")
    assert len({run["id"] for run in served.studio.list_runs() if run["state"] == "stopped"}) >= 1


def test_discarding_forgets_the_run(visit: Any, served: Served, pace: Any) -> None:
    pace(0.3)
    visitor = visit()
    visitor.page.click("#personalize")
    visitor.wait_for_step(2)
    known = len(served.studio.list_runs())
    visitor.page.get_by_role("button", name="Discard").click()
    visitor.page.wait_for_selector("#personalize")
    visitor.page.wait_for_timeout(500)
    assert len(served.studio.list_runs()) == known - 1


def test_the_playground_draws_both_from_one_seed(visit: Any, served: Served) -> None:
    visitor = visit()
    visitor.choose("Ada")
    visitor.page.get_by_role("button", name="Make a picture").click()
    visitor.page.wait_for_selector("#play-result .compare .tag:has-text('Without')")
    config, run_id, strength, before_after = [
        facts for name, facts in served.studio.calls if name == "generate"
    ][-1]
    assert (config.seed, strength, before_after) == (7, 1.0, True)
    assert run_id == served.studio.examples()[0]["run"]
    with visitor.page.expect_download() as coming:
        visitor.page.get_by_role("button", name="Download the picture").click()
    assert Path(coming.value.path()).read_bytes().startswith(b"\x89PNG")


def test_own_photographs_are_cropped_and_nudged(visit: Any, served: Served, photographs: list[Path]) -> None:
    visitor = visit()
    page = visitor.page
    page.set_input_files("#upload input[type=file]", [str(path) for path in photographs])
    page.wait_for_selector("#crops img")
    assert page.locator("#crops button.thumbnail-item, #crops .gallery-item button").count() >= 3
    page.locator("#crops button.thumbnail-item, #crops .gallery-item button").nth(1).click()
    slider = page.get_by_label("photo-1.png: left or right").first
    slider.wait_for()
    page.wait_for_function("document.querySelector('#words input').value === 'zul'")
    page.get_by_label("What is it?").fill("teapot")
    page.click("#personalize")
    visitor.wait_for_step(1)
    _, config, photos, _ = [facts for name, facts in served.studio.calls if name == "start"][-1]
    assert (config.class_noun, config.identifier) == ("teapot", "zul")
    assert photos == [path.name for path in photographs]


def test_a_mistake_is_said_in_a_sentence(visit: Any, tmp_path: Path) -> None:
    visitor = visit()
    broken = tmp_path / "broken.png"
    broken.write_text("no picture at all")
    visitor.page.set_input_files("#upload input[type=file]", [str(broken)])
    said = visitor.page.wait_for_selector(".toast-body").inner_text()
    assert "broken.png is not a JPEG, PNG or WebP picture" in said
    assert "Traceback" not in said


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
    slider = page.get_by_label("Drag between before and after")
    slider.focus()
    page.keyboard.press("Home")
    assert page.evaluate("document.querySelector('.compare').style.getPropertyValue('--cut')") == "0%"
