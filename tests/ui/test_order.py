"""Responses that arrive out of order, in a real browser, on a real Studio with a fake UNet."""

import threading
from collections.abc import Iterator
from typing import Any

import gradio as gr
import pytest
from conftest import PATIENCE_MS, Served, Visitor

pytestmark = pytest.mark.browser


class Holding:
    """Once armed, delays the next response that contains Ada's sample strip until it is released."""

    def __init__(self) -> None:
        self.armed = threading.Event()
        self.held = threading.Event()
        self.released = threading.Event()

    def pass_on(self, value: Any) -> None:
        """Wait here if this is the first response with Ada's strip."""
        hers = 'class="strip' in str(value) and "zwx person" in str(value)
        if hers and self.armed.is_set() and not self.held.is_set():
            self.held.set()
            self.released.wait(PATIENCE_MS / 1000)


@pytest.fixture
def holding(served: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[Holding]:
    hold = Holding()
    own = gr.HTML.postprocess

    def postprocess(self: gr.HTML, value: Any) -> Any:
        hold.pass_on(value)
        return own(self, value)

    monkeypatch.setattr(gr.HTML, "postprocess", postprocess)
    yield hold
    hold.released.set()


def click_card(visitor: Visitor, title: str) -> None:
    visitor.page.locator("#page-train button.example-card").filter(has_text=title).click()


def test_a_late_answer_about_another_run_does_not_stay(
    visit: Any, holding: Holding, served: Served, pace: Any
) -> None:
    pace(0.05)
    visitor = visit()
    visitor.choose("Ada")
    visitor.page.click("#personalize")
    visitor.see(".run-title:has-text('Training')")
    holding.armed.set()
    visitor.until(holding.held.is_set)  # new samples of Ada, rendered but not yet shown
    visitor.choose("Biscuit")
    holding.released.set()
    visitor.page.wait_for_timeout(1000)
    visitor.see("#showcase :text('pll dog')")
    visitor.see("#personalize")
    assert not visitor.errors


def test_a_picture_that_arrives_before_the_page_of_its_run_stays(visit: Any, holding: Holding) -> None:
    visitor = visit()
    visitor.choose("Biscuit")
    holding.armed.set()
    click_card(visitor, "Ada")
    visitor.until(holding.held.is_set)
    visitor.press("Generate")
    visitor.see("#play-result .compare .tag:has-text('Without')")
    holding.released.set()
    visitor.see(".run-name:has-text('Ada')")
    visitor.page.wait_for_timeout(1000)
    assert visitor.page.locator("#play-result .compare .tag").count()
    visitor.choose("Biscuit")
    visitor.see("#play-result .compare.empty")
    assert not visitor.errors
