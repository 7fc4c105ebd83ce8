"""A refused event shows its error message in one place, and the page stays usable."""

from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from conftest import Served

from pipelines.studio import Studio
from ui.app import build
from ui.errors import raise_gradio_errors, show_notices
from ui.html import BrowserCopies

HOSTILE = "<img src=x onerror=alert(1)>"


def mistaken() -> None:
    raise ValueError("The prompt is empty; say what the picture shows.")


def hostile() -> None:
    raise ValueError(HOSTILE)


def broken() -> None:
    raise OSError("/secret/path")


def test_a_program_gets_a_sentence_or_an_apology() -> None:
    with pytest.raises(gr.Error, match=r"^'The prompt is empty; say what the picture shows.'$"):
        raise_gradio_errors(mistaken)()
    with pytest.raises(gr.Error, match="server log") as caught:
        raise_gradio_errors(broken)()
    assert "secret" not in str(caught.value)


def test_a_mistake_is_one_notice_and_a_fault_an_apology(monkeypatch: pytest.MonkeyPatch) -> None:
    notices: list[str] = []
    monkeypatch.setattr(gr, "Warning", lambda text, **options: notices.append(text))
    for handler in (mistaken, hostile, broken):
        assert show_notices(handler)() == {}
    sentence, escaped, apology = notices
    assert sentence == "The prompt is empty; say what the picture shows."
    assert escaped.startswith("&lt;img src=x")
    assert "OSError" in apology
    assert "secret" not in apology


def test_no_event_of_the_page_can_cover_more_than_one_widget(studio: Studio, copies: BrowserCopies) -> None:
    events = [event for event in build(studio, copies).fns.values() if event.api_visibility == "private"]
    marked = [event for event in events if event.fn is not None and len(event.outputs) > 1]
    assert marked
    for event in marked:
        assert event.show_progress_on is not None, event.targets
        assert len(event.show_progress_on) <= 1, event.targets


@pytest.mark.browser
def test_refused_files_leave_the_page_usable(visit: Any, served: Served, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.png"
    foreign.write_bytes(served.studio.library.examples()[0]["photos"][0].read_bytes())
    visitor = visit()
    page = visitor.page
    visitor.choose("Ada")
    page.set_input_files("#recall input[type=file]", str(foreign))
    page.wait_for_selector(".toast-body")
    page.wait_for_timeout(500)
    assert page.locator("[data-testid=status-tracker] .error").count() == 0
    assert page.locator(".toast-body").count() == 1
    page.locator("[data-testid=toast-close]").first.click()
    visitor.turn("library")
    page.get_by_label("From the Hugging Face Hub").fill("no id at all")
    visitor.press("Load")
    page.wait_for_selector(".toast-body")
    assert page.locator("[data-testid=status-tracker] .error").count() == 0
    visitor.turn("train").choose("Biscuit")
