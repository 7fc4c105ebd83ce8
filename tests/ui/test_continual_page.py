"""The tab Continual: what its handlers pass to the Studio, what they show of a sequence, and two clicks in a browser."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.studio import Studio
from tests.tiny import draw_photos
from tests.ui.conftest import clear, finished_run
from ui import forms
from ui.html import BrowserCopies
from ui.run.monitor import RunMonitor
from ui.tabs.continual import baselines
from ui.tabs.continual.handlers import FIELDS, METHOD, OWN, REMOVE, REMOVE_IT, ContinualHandlers

QUICK: dict[str, Any] = {
    "steps": 1,
    "sample_steps": 1,
    "rank": 1,
    "targets": "cross-attention-kv",
    "auto_captions": False,
    "warmup_steps": 0,
}


@pytest.fixture
def continual(studio: Studio, copies: BrowserCopies, model: Any) -> Iterator[ContinualHandlers]:
    yield ContinualHandlers(RunMonitor(studio, copies))
    clear(studio, model)


def form(continual: ContinualHandlers, sequence: str = "", **changed: Any) -> dict[str, Any]:
    """The values of the form as the page opens it, with a short training."""
    config = forms.shown(continual.config()) | QUICK
    return {
        "continual_sequence": sequence,
        "continual_after": None,
        "continual_preset": continual.presets()[0],
        **{OWN + name: config[name] for name in FIELDS},
        **continual.next_subject(sequence),
        **changed,
    }


def added(continual: ContinualHandlers, sequence: str = "", **changed: Any) -> str:
    """Add a concept and wait for it; return its run."""
    values = continual.start(**form(continual, sequence, **changed))
    run_id = values["continual_sequence"]["value"]
    assert continual.studio.training.wait(run_id, 300) == "done", continual.studio.training.status(run_id)[
        "error"
    ]
    return run_id


def test_a_sequence_grows_branches_and_is_cut_back(continual: ContinualHandlers, tmp_path: Path) -> None:
    """Concepts are suggested one after another, words are chosen, and a second press removes the last one."""
    empty = continual.show("")
    assert not empty["continual_play_row"]["visible"]
    first = added(continual)
    names = [each["title"] for each in continual.examples.values()]
    second = added(continual, first)
    photos = [str(path) for path in draw_photos(tmp_path / "photos")]
    own = {"continual_upload": photos, "continual_name": "Rex", "continual_word": ""}
    third = added(continual, second, **own)
    tasks = continual.studio.sequences.tasks(third)
    assert [task.name for task in tasks] == [*names[:2], "Rex"]
    assert len({task.word for task in tasks}) == 3
    assert continual.next_subject(third)["continual_name"] == names[2]
    shown = continual.show(third)
    assert shown["continual_grid"].count("<img") == 6
    assert shown["continual_matrix"].count(">–<") == 3
    assert "Average forgetting" in shown["continual_matrix"]
    assert "Shared by several concepts" in shown["continual_entries"]
    assert shown["continual_prompt"]["value"] == f"a photo of {tasks[2].word}. Posing with {tasks[1].word}."
    assert [label for label, _ in shown["continual_model"]["choices"]] == [
        f"{task.index}: {task.name}" for task in tasks
    ]
    branch = added(continual, third, continual_after=first, **own)
    assert [task.name for task in continual.studio.sequences.tasks(branch)] == ["Ada", "Rex"]
    assert {run for _, run in continual.sequences()} == {"", third, branch}
    assert continual.remove(branch, REMOVE) == {"continual_remove": REMOVE_IT}
    assert continual.remove(branch, REMOVE_IT)["continual_sequence"]["value"] == first
    assert continual.watch(first, third)["continual_sequence"]["value"] == third, "it was continued"


def test_the_same_sequence_is_trained_without_self_regularization(continual: ContinualHandlers) -> None:
    last = added(continual, added(continual))
    assert continual.show(last)["continual_if"]["visible"]
    assert continual.compare(last)["continual_sequence"]["value"] == last
    other = continual.studio.sequences.counterpart(last)
    assert continual.studio.training.wait(other, 300) == "done"
    shown = continual.show(last)
    assert not shown["continual_if"]["visible"]
    assert "Without it" in shown["continual_grid"]
    assert "without self-regularization" in shown["continual_matrix"]
    told = continual.generate(last, last, "a photo of zwx. Posing with qev.", 3)
    assert told["continual_result"].count("<img") == 2
    report = continual.export(last, "diffusers")
    assert "1/1 keys" in report["continual_verified"]
    assert continual.opening() == last, "not the sequence without it"


def test_what_is_missing_gets_a_sentence(continual: ContinualHandlers) -> None:
    with pytest.raises(ValueError, match="no photographs of the new concept"):
        continual.start(**form(continual, continual_source=None))
    with pytest.raises(ValueError, match="has no name"):
        continual.start(**form(continual, continual_name=" "))
    with pytest.raises(ValueError, match="no finished concept yet"):
        continual.generate("", None, "a photo", 0)
    with pytest.raises(ValueError, match="nothing to compare yet"):
        continual.compare("")
    with pytest.raises(ValueError, match="no concept to remove"):
        continual.remove("", REMOVE)


def test_one_click_appends_the_next_concept_in_the_browser(studio: Studio, visit: Any) -> None:
    """The page opens with the user's sequence and a suggested concept; a click adds it to the grid."""
    first = finished_run(studio, METHOD, name="Ada", **QUICK)
    visitor = visit(tab="train").turn("continual")
    visitor.see(".sequence img")
    field = visitor.page.locator("#continual-name textarea, #continual-name input").first
    visitor.page.wait_for_function("(field) => field.value === 'Biscuit'", arg=field.element_handle())
    visitor.page.locator("#continual-inputs").get_by_text("Advanced", exact=True).click()
    for label, value in (("Steps", "1"), ("Warm-up", "0")):
        visitor.page.locator("#continual-inputs").get_by_label(label, exact=True).first.fill(value)
    visitor.press("Add concept")
    visitor.until(lambda: len(studio.sequences.tasks(studio.sequences.list()[0].id)) == 2)
    visitor.see(".sequence tbody tr:nth-child(2) td:nth-child(3) img")
    assert studio.sequences.tasks(studio.sequences.list()[0].id)[0].run == first
    assert not visitor.errors


def test_another_method_learns_the_same_concepts(continual: ContinualHandlers) -> None:
    """The choice offers every baseline; the first press trains, a later one shows what was trained."""
    second = added(continual, added(continual))
    offered = continual.studio.sequences.baselines()
    assert {"sequential", "custom", "merged", "separate", "replay", "inversion", "joint"} <= set(offered)
    values = baselines.start(continual, continual_sequence=second, continual_baseline="inversion")
    assert values["continual_sequence"]["value"] == second, "the sequence stays, its run is watched"
    runs = continual.studio.sequences.start_baseline(second, "inversion")
    assert [continual.studio.training.wait(run_id, 300) for run_id in runs] == ["done", "done"]
    values = baselines.start(continual, continual_sequence=second, continual_baseline="inversion")
    assert values["continual_sequence"]["value"] == runs[-1]
    assert values["continual_grid"].count("<img") == 3
    with pytest.raises(ValueError, match="nothing to compare yet"):
        baselines.start(continual, continual_sequence="", continual_baseline="inversion")
