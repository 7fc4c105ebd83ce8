"""Events never overwrite a field that the user is editing, and never show data of a run other than the selected one."""

from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from pipelines.runs.store import MIXED
from pipelines.studio import Studio
from ui.app import build
from ui.html import BrowserCopies
from ui.run import method_views as views
from ui.run import panels
from ui.run.monitor import RESULTS, RunMonitor, no_result
from ui.run.state import RunView
from ui.tabs.compare.experiment_handlers import ExperimentHandlers
from ui.tabs.library.handlers import LibraryHandlers
from ui.tabs.train.handlers import TrainHandlers
from ui.tabs.train.playground_handlers import PlaygroundHandlers
from ui.theme import ASSETS


@pytest.fixture(scope="module")
def blocks(studio: Studio, copies: BrowserCopies) -> gr.Blocks:
    return build(studio, copies)


@pytest.fixture
def monitor(studio: Studio, copies: BrowserCopies) -> RunMonitor:
    return RunMonitor(studio, copies)


def events(blocks: gr.Blocks, trigger: str, *, label: str) -> list[Any]:
    """Return the events that a trigger of the widget with this label starts."""
    named = [
        block._id
        for block in blocks.blocks.values()
        if label in (getattr(block, "label", ""), getattr(block, "value", ""))
    ]
    return [
        event
        for event in blocks.fns.values()
        if event.fn is not None and any(target in named and what == trigger for target, what in event.targets)
    ]


def test_drawing_a_picture_leaves_the_prompt_alone(blocks: gr.Blocks) -> None:
    drawing = events(blocks, "click", label="Generate")
    assert len(drawing) == 4, "on Start, Train, Multi-subject and Continual"
    for event in drawing:
        assert "Prompt" not in {getattr(block, "label", "") for block in event.outputs}


def test_a_list_that_is_opened_and_left_changes_nothing(monitor: RunMonitor) -> None:
    run = next(iter(monitor.examples.values()))["run"]
    assert monitor.turn_to(run, run) == {}
    assert monitor.turn_to(run, "")["shown"] == run
    train = TrainHandlers(monitor)
    plan, other = [plan for _, plan in train.plans("embedded")][:2]
    assert train.choose_plan(plan, "embedded", None, plan) == {}
    assert train.choose_plan(plan, "embedded", None, other)["filled_plan"] == plan


def test_a_picture_of_another_run_is_taken_away_and_ones_own_stays(monitor: RunMonitor) -> None:
    first, second = [example["run"] for example in monitor.examples.values()][:2]
    drawn = monitor.show_run(first)["drawn"] | {"result": [first]}
    assert monitor.watch(first, drawn) == {}
    assert monitor.tick(second, drawn, 3) == {"news": 4}
    turned = monitor.watch(second, drawn)
    assert {name: turned[name] for name in no_result()} == no_result()
    assert turned["drawn"]["result"] is None
    assert set(RESULTS) - {"drawn_result"} <= set(no_result())


def test_own_photographs_take_the_place_of_the_example(
    monitor: RunMonitor, studio: Studio, photographs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    train, files = TrainHandlers(monitor), [str(path) for path in photographs]
    example = next(iter(monitor.examples.values()))["run"]
    taken = train.choose_files(files, train.source_of("ada"), "embedded", None, example)
    assert (taken["shown"], taken["photos"]) == ("", "")
    assert "your subject appears here" in taken["compare"]
    assert "Name its class" in taken["guide"]
    more = train.choose_files(files, taken["source"], "embedded", None, "")
    assert "compare" not in more, "one more photograph of the same subject"
    monkeypatch.setattr(monitor, "at_work", lambda run_id: True)
    assert "compare" not in train.choose_files(files, None, "embedded", None, example), (
        "a run that learns stays"
    )


def test_nothing_is_personalized_without_a_name(blocks: gr.Blocks, monkeypatch: pytest.MonkeyPatch) -> None:
    notices: list[str] = []
    monkeypatch.setattr(gr, "Warning", lambda text, **options: notices.append(text))
    first = events(blocks, "click", label="Personalize")[0]
    names = [getattr(block, "label", None) for block in first.inputs]
    place = names.index("What is it?")
    first.fn(*["  " if index == place else None for index in range(len(names))])
    assert [text.partition(";")[0] for text in notices] == ["The name is empty"]


def test_turning_between_experiments_reads_no_list_of_choices(blocks: gr.Blocks) -> None:
    """Gradio refuses a dropdown's value as input if the choices have changed since."""
    turning = events(blocks, "change", label="Type of comparison")
    assert turning
    for event in turning:
        assert "Experiments so far" not in {getattr(block, "label", "") for block in event.inputs}


def test_the_newest_experiment_is_shown_after_a_reload(
    monitor: RunMonitor, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiments = ExperimentHandlers(LibraryHandlers(monitor, PlaygroundHandlers(monitor)))
    kept = [("older", "id-1"), ("newest", "id-2")]
    monkeypatch.setattr(experiments, "choices", lambda kind: list(reversed(kept)))
    monkeypatch.setattr(experiments, "watch", lambda run, drawn: {"experiment_drawn": {"id": run}})
    turned = experiments.choose_mode("methods", "")
    assert (turned["experiment_id"], turned["experiment_shown"]["value"]) == ("id-2", "id-2")
    late = experiments.choose_mode("blocks", "an experiment of the other kind")
    assert late["experiment_id"] == "id-2"


def test_a_combined_run_says_so() -> None:
    combined = RunView(id="x", imported=True, config={"source": MIXED})
    assert "Combined from other runs" in panels.progress(combined)
    assert "Loaded from a file" in panels.progress(RunView(id="x", imported=True))


@pytest.mark.browser
def test_bars_are_as_long_as_their_numbers(browser: Any) -> None:
    view = {
        "kind": "bars",
        "title": "Bars",
        "help": "",
        "values": {"small": 13.2, "most": 26.4, "near": 23.0},
    }
    page = browser.new_page(viewport={"width": 390, "height": 400})
    style = (ASSETS / "app.css").read_text(encoding="utf-8")
    page.set_content(f"<style>{style}</style>{views.bars(view)}")
    small, most, near = page.evaluate(
        "[...document.querySelectorAll('.bars i')].map(bar => bar.getBoundingClientRect().width)"
    )
    page.close()
    assert small / most == pytest.approx(13.2 / 26.4, abs=0.01)
    assert near / most == pytest.approx(23.0 / 26.4, abs=0.01)
