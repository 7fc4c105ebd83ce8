"""Where am I: the job chip on every page, the queue that it opens, tabs by address and key, and pages that ask little."""

from typing import Any

import pytest
from conftest import Served, Visitor, newest

from pipelines.methods.specs import preset

pytestmark = pytest.mark.browser
PHONE = {"width": 390, "height": 844}
TABS = ["Start", "Train", "Multi-subject", "Continual", "Identity space", "Edit", "Library", "Compare"]
HIDE = "Object.defineProperty(document, 'visibilityState', {configurable: true, get: () => 'hidden'})"
SHOW = "delete document.visibilityState"
TOLD = "document.dispatchEvent(new Event('visibilitychange'))"


def train(served: Served, name: str) -> str:
    """Start a run as the API does, without this page."""
    example = served.studio.library.examples()[0]
    words = {"identifier": "zwx", "class_noun": "dog"}
    return served.studio.training.start(
        "svdiff", vars(preset("svdiff", "embedded")) | words, example["photos"], name=name
    )


def asked(visitor: Visitor) -> list[str]:
    """Return the requests that ask for changes."""
    return [url for url in visitor.requests if "component_server" in url or "queue/join" in url]


def selected(visitor: Visitor, tab: str) -> None:
    """Wait until a tab is selected, be it in the bar or in the menu of a narrow screen."""
    visitor.page.wait_for_function(
        "(tab) => [...document.querySelectorAll('#tabs > .tabitem')].find(each => each.offsetParent)?.id === tab",
        arg=f"page-{tab.lower().replace(' ', '-')}",
    )


def test_the_chip_is_on_every_page_and_opens_the_queue(visit: Any, served: Served, pace: Any) -> None:
    pace(0.3)
    visitor = visit(tab="start")
    page = visitor.page
    assert page.locator(".job-chip").count() == 0
    run_id = train(served, "Florence")  # from elsewhere, so the page is not told
    page.wait_for_selector(".job-chip:has-text('%'):has-text('left')")
    for tab in TABS:
        page.get_by_role("tab", name=tab, exact=True).click()
        selected(visitor, tab)
        told = page.locator("button.job-chip")
        assert told.is_visible()
        assert told.inner_text().startswith("Florence\nSVDiff\n")
    second = train(served, "Florence")
    page.wait_for_selector(".job-chip:has-text('1 queued')")
    page.click(".job-chip")
    selected(visitor, "Train")
    page.wait_for_function("document.activeElement.classList.contains('queue')")
    visitor.place = "#page-train"
    visitor.see(f"#queue tr.shown button[data-value='{run_id}']")
    rows = page.locator("#queue tbody tr")
    assert rows.count() == 2
    assert len(set(rows.locator("td:nth-child(2)").all_inner_texts())) == 2, "two of one name are told apart"
    assert "SVDiff · Quick" in rows.first.inner_text()
    assert second == served.studio.training.queue()[1].run
    assert not visitor.errors


def test_queueing_a_run_stays_with_the_running_one_and_progress_is_in_sight(
    visit: Any, served: Served, pace: Any
) -> None:
    pace(0.3)
    visitor = visit()
    page = visitor.page
    page.click("#personalize")
    visitor.wait_for_step(2)
    running = newest(served.studio).id
    visitor.see(".strip img")
    strip, title = (
        page.locator(f"#run-card {name}").first.bounding_box() for name in (".strip img", ".run-title")
    )
    assert 0 < title["y"] < strip["y"] + strip["height"] < 900, "above the fold"
    visitor.press("Add to the queue")
    page.wait_for_selector(".toast-body:has-text('number 1 in the queue')")
    visitor.see(f"#queue tr.shown button[data-value='{running}']")
    assert page.locator("#queue tbody tr").count() == 2
    assert "Training" in page.inner_text("#run-card .run-title")
    before = visitor.step()
    visitor.wait_for_step(before + 1)
    labels = [label for label, _ in _choices(served)]
    assert len(set(labels)) == len(labels)
    assert not visitor.errors


def _choices(served: Served) -> list[tuple[str, str]]:
    names = served.studio.library.names()
    return [(names[run.id], run.id) for run in served.studio.library.list_runs(shipped=True)]


def test_a_hidden_page_asks_nothing_and_catches_up_when_it_is_seen(
    visit: Any, served: Served, pace: Any
) -> None:
    pace(0.3)
    visitor = visit()
    page = visitor.page
    page.click("#personalize")
    visitor.wait_for_step(2)
    page.evaluate(f"{HIDE}; {TOLD}")
    page.wait_for_timeout(1500)  # what was asked before is answered
    visitor.requests.clear()
    step = visitor.step()
    page.wait_for_timeout(3500)
    assert asked(visitor) == []
    assert visitor.step() == step
    page.evaluate(f"{SHOW}; {TOLD}")
    visitor.wait_for_step(step + 5)


def test_an_idle_page_asks_seldom(visit: Any) -> None:
    visitor = visit(tab="library")
    visitor.page.wait_for_timeout(2500)
    visitor.requests.clear()
    visitor.page.wait_for_timeout(6000)
    assert 1 <= len(asked(visitor)) <= 2, "every five seconds"
    assert not any("queue/join" in url for url in asked(visitor)), (
        "nothing has changed, so nothing is rendered"
    )


def test_every_tab_opens_by_its_address_and_by_its_number_on_a_phone(visit: Any) -> None:
    visitor = visit(tab="library", viewport=PHONE)  # Gradio keeps it in a menu there
    page = visitor.page
    assert page.locator("#tabs .overflow-dropdown button").count() >= 3
    for tab in TABS:
        page.evaluate("(hash) => { location.hash = hash }", tab.lower())
        selected(visitor, tab)
    for number, tab in enumerate(TABS, start=1):
        page.keyboard.press(str(number))
        selected(visitor, tab)
        assert page.evaluate("decodeURIComponent(location.hash)") == f"#{tab.lower()}"
    assert not visitor.errors
