"""The runs in the Library and in Compare: filtered, sorted, with badge and origin, and deleted after a question."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Served, clear, finished_run

from pipelines.config import MixConfig, SampleConfig
from pipelines.runs.status import Card
from pipelines.studio import Studio
from tests.fake_model import FakeModelCache
from ui.html import BrowserCopies
from ui.run import cards
from ui.run.monitor import RunMonitor
from ui.tabs.compare.tab import CompareHandlers
from ui.tabs.library import order
from ui.tabs.library.handlers import LibraryHandlers
from ui.tabs.train.playground_handlers import PlaygroundHandlers

RUNS = [
    Card("1", "bo", "done", method="svdiff", base_name="Small", created=3.0, bytes=10),
    Card("2", "Ada", "done", method="dreambooth", base_name="Large", created=1.0, bytes=30),
    Card("3", "Cy", "done", method="svdiff", base_name="Large", created=2.0, bytes=20, shipped=True),
]


@pytest.fixture
def shelf(studio: Studio, copies: BrowserCopies) -> LibraryHandlers:
    monitor = RunMonitor(studio, copies)
    return LibraryHandlers(monitor, PlaygroundHandlers(monitor))


@pytest.fixture(autouse=True)
def _nothing_left(studio: Studio, model: FakeModelCache) -> Iterator[None]:
    yield
    clear(studio, model)


@pytest.mark.parametrize(
    ("by", "ids"),
    [
        ("newest", "123"), ("oldest", "213"), ("name", "213"), ("method", "213"), ("base", "321"), ("largest", "231"),
        (None, "123"),
    ],
)  # fmt: skip
def test_runs_are_sorted(by: str | None, ids: str) -> None:
    assert "".join(row.id for row in order.chosen(RUNS, method="", base=None, order=by)) == ids


def test_runs_are_filtered_by_what_there_is() -> None:
    assert order.methods(RUNS) == [
        ("All methods", ""),
        ("DreamBooth (1)", "DreamBooth"),
        ("SVDiff (2)", "SVDiff"),
    ]
    assert order.bases(RUNS) == [("All base models", ""), ("Large (2)", "Large"), ("Small (1)", "Small")]
    found = order.chosen(RUNS, method="SVDiff", base="Large", order="name")
    assert [row.id for row in found] == ["3"]
    values = order.offered(RUNS, prefix="x_", method="SVDiff", base="gone")
    assert (values["x_method"]["value"], values["x_base"]["value"]) == ("SVDiff", "")


def test_a_combination_says_what_it_was_made_from_and_has_a_picture(
    shelf: LibraryHandlers, studio: Studio
) -> None:
    """By the Library and by a live mix: the words, the badge, and the picture that the run itself draws."""
    one = finished_run(studio, "svdiff", name="Florence", subset="UNet-CA")
    other = finished_run(studio, "svdiff", name="<i>", subset="UNet-CA")
    made = [studio.library.combine([one, other], how="interpolate", share=0.7)]
    made.append(studio.library.combine([one, other], how="style"))
    made.append(studio.library.combine([one], how="truncate", rank=4))
    asked = SampleConfig(prompt="a photo", steps=1)
    made.append(studio.mixing.save([one, other], MixConfig(first=0.6, second=0.4, split=0.5), config=asked))
    rows = {row.id: row for row in studio.library.list_runs()}
    assert [rows[run].origin for run in made] == [
        "Florence 0.7 + <i> 0.3, SVDiff",
        "geometry of Florence, appearance of <i>, SVDiff",
        "4 singular values of Florence, SVDiff",
        "Florence 0.6 + <i> 0.4, layer split 0.5, SVDiff",
    ]
    assert all(rows[run].thumbnail for run in made)
    shown = cards.run_cards([rows[made[0]]], chosen="", copies=shelf.copies)
    assert "Florence 0.7 + &lt;i&gt; 0.3, SVDiff" in shown
    assert '<span class="badge">Combined</span>' in shown
    assert "<img" in shown
    facts = cards.facts(rows[made[3]], copies=shelf.copies)
    assert "Made from" in facts
    seed = studio.resources.store.get(made[3]).events()[-1]["seed"]
    assert seed == asked.seed
    recalled = studio.generation.recall(Path(str(rows[made[0]].thumbnail)))
    assert recalled["stack"][0]["run"] == made[0], "its settings can be recalled from the picture"


def test_an_older_combination_keeps_its_words(studio: Studio) -> None:
    config = {"source": "mixed", "file": "add: Ada, Bo", "identifier": "", "class_noun": ""}
    run = studio.resources.store.create("import", config, {"spec": "embedded"}, name="Both")
    run.append("state", state="done", message="")
    row = next(row for row in studio.library.list_runs() if row.id == run.id)
    assert row.origin == "Ada, Bo"
    studio.library.delete(run.id)


def test_compare_offers_the_runs_that_pass_and_keeps_the_chosen(
    shelf: LibraryHandlers, studio: Studio
) -> None:
    shifts = finished_run(studio, "svdiff", name="Shifts")
    lora = finished_run(studio, name="Lora")
    comparison = CompareHandlers(shelf)
    values = comparison.refresh([lora], of_method="SVDiff", of_base="", of_order="name")["compared"]
    offered = [run for _, run in values["choices"]]
    assert values["value"] == [lora]
    assert {"", shifts, lora} == set(offered), "the base, what passes, and what is chosen already"
    everything = comparison.offer_filters([], of_method="gone", of_base=None, of_order=None)
    assert everything["of_method"]["value"] == ""
    assert len(everything["compared"]["choices"]) > len(offered)


@pytest.mark.browser
def test_the_library_is_sorted_filtered_and_asks_before_it_deletes(visit: Any, served: Served) -> None:
    studio = served.studio
    kept = finished_run(studio, "svdiff", name="Zoe")
    gone = finished_run(studio, "svdiff", name="Abel")
    visitor = visit(tab="library")
    page = visitor.page
    visitor.see(".library-card:has-text('Abel') .badge:has-text('SVDiff')")
    page.get_by_label("Method", exact=True).locator("visible=true").click()
    page.get_by_role("option", name="SVDiff (2)").click()
    page.wait_for_function("document.querySelectorAll('#page-library .library-card').length === 2")
    names = "[...document.querySelectorAll('#page-library .library-card strong')].map(each => each.innerText)"
    assert page.evaluate(names) == ["Abel", "Zoe"], "newest first"
    page.get_by_label("Sort by").locator("visible=true").click()
    page.get_by_role("option", name="Oldest first").click()
    page.wait_for_function(f"{names}.join() === 'Zoe,Abel'")
    page.locator(".library-card", has_text="Abel").click()
    visitor.see("#detail .facts")
    red = "getComputedStyle(document.querySelector('#page-library button.asks')).color"
    assert page.evaluate(red) == "rgb(194, 59, 59)", "Delete is red"
    visitor.press("Delete …")
    visitor.see("#confirm:has-text('cannot be undone')")
    visitor.press("Cancel")
    page.wait_for_selector("#confirm", state="hidden")
    assert studio.training.status(gone)["state"] == "done"
    visitor.press("Delete …")
    visitor.press("Delete permanently")
    page.wait_for_function("document.querySelectorAll('#page-library .library-card').length === 1")
    with pytest.raises(ValueError, match="There is no run"):
        studio.training.status(gone)
    assert studio.training.status(kept)["state"] == "done"
    assert not visitor.errors


@pytest.mark.browser
def test_what_changed_opens_as_wide_as_the_page(visit: Any, served: Served) -> None:
    run = finished_run(served.studio, "svdiff", name="Wide")
    visitor = visit(tab="library")
    page = visitor.page
    page.locator(".library-card", has_text="Wide").click()
    visitor.see("#detail .facts")
    visitor.press("What changed")
    visitor.see("#moved .view.wide .heat td")
    wide, needed, shown = page.evaluate(
        "(() => { const heat = document.querySelector('#moved .wide .heat');"
        " return [document.querySelector('#moved').offsetWidth, heat.scrollWidth, heat.clientWidth] })()"
    )
    assert wide > 1200
    assert needed <= shown, "the whole table is in sight"
    page.keyboard.press("Escape")
    page.wait_for_selector("#moved", state="hidden")
    assert served.studio.training.status(run)["state"] == "done"
    assert not visitor.errors
