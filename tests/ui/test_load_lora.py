"""An external LoRA file: loaded on the page, described correctly, and used in the playground."""

import pickle
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from pipelines.studio import Studio
from ui.html import BrowserCopies
from ui.run import panels
from ui.run.monitor import RunMonitor
from ui.run.state import RunView, fold
from ui.tabs.train.playground_handlers import PlaygroundHandlers
from ui.wiring import WATCHED


@pytest.fixture
def playground(studio: Studio, copies: BrowserCopies) -> PlaygroundHandlers:
    return PlaygroundHandlers(RunMonitor(studio, copies))


def shown(values: dict[str, Any], name: str) -> bool:
    return values[name]["visible"]


def test_a_file_is_loaded_and_shown(playground: PlaygroundHandlers, studio: Studio, lora_file: Path) -> None:
    values = playground.load_lora(str(lora_file), "embedded")
    assert studio.training.status(values["shown"])["config"]["source"] == "kohya"
    assert set(values) <= {"lora", "prompt", *WATCHED}
    assert values["lora"] is None, "the field is free for the next file"
    assert values["prompt"] == "a photo of a zwx dog"
    assert ("Rex · finished", values["shown"]) in values["runs"]["choices"]
    assert "Loaded from a file" in values["progress"]
    assert "Step" not in values["progress"]
    assert "playground" in values["compare"]
    assert values["photos"] == "", "nothing says what it was learned from"
    for name, visible in {
        "playground": True, "after_row": True, "more_row": False, "resume": False, "charts": False, "stop_row": False,
    }.items():  # fmt: skip
        assert shown(values, name) is visible, name
    assert playground.generate(values["shown"], 1.0, prompt=values["prompt"])["result"]
    studio.training.discard(values["shown"])


def test_a_pickle_is_refused_in_a_sentence(playground: PlaygroundHandlers, tmp_path: Path) -> None:
    path = tmp_path / "rex.bin"
    path.write_bytes(pickle.dumps({}))
    with pytest.raises(ValueError, match="can run any program"):
        playground.load_lora(str(path), "embedded")


def test_any_file_may_be_dropped_so_that_its_refusal_is_read(playground: PlaygroundHandlers) -> None:
    from ui.app import build

    blocks = build(playground.studio, playground.copies)
    (field,) = [
        block for block in blocks.blocks.values() if isinstance(block, gr.File) and block.elem_id == "import"
    ]
    assert field.file_types is None


@pytest.mark.parametrize(
    ("state", "step", "more", "resume"),
    [
        ("done", 9, True, False),
        ("stopped", 4, True, True),
        ("stopped", 0, False, True),
        ("interrupted", 4, False, True),
        ("failed", 4, False, True),
        ("running", 4, False, False),
    ],
)
def test_what_may_be_done_with_a_run(
    playground: PlaygroundHandlers, state: str, step: int, more: bool, resume: bool
) -> None:
    values = playground.monitor.state(RunView(id="x", state=state, step=step, total=9))
    assert (shown(values, "more_row"), shown(values, "resume")) == (more, resume)


def test_likeness_measured_again_after_a_resume_replaces_the_old() -> None:
    def likeness(step: int, value: float) -> dict[str, Any]:
        return {
            "kind": "similarity",
            "step": step,
            "identity": {"value": value, "low": value - 0.1, "high": value + 0.1},
        }

    events = [likeness(0, 0.1), likeness(5, 0.5), likeness(9, 0.6), likeness(5, 0.4)]
    view = fold({"id": "x", "state": "running", "path": "/nowhere", "events": events})
    assert view.similarity["identity"] == [(0, 0.1), (5, 0.4)]
    assert [step for step, *_ in view.band] == [0, 5]


def test_without_a_sample_the_strip_promises_nothing(copies: BrowserCopies) -> None:
    assert panels.strip(RunView(id="x", state="stopped"), copies=copies) == ""
    assert "before the first step" in panels.strip(RunView(id="x", state="running"), copies=copies)


@pytest.mark.browser
def test_a_dropped_file_opens_the_playground(browser: Any, served: Any, lora_file: Path) -> None:
    page = browser.new_page()
    page.set_default_timeout(60_000)
    page.goto(f"{served.url}/#library")
    page.wait_for_selector("#page-library .library-card")
    page.set_input_files("#import input[type=file]", str(lora_file))
    page.wait_for_selector(".header-of:has-text('kohya')")
    page.get_by_role("button", name="Import and open the playground").click()
    page.wait_for_selector("#run-card .run-title:has-text('Loaded from a file')")
    assert page.input_value("#play-form textarea >> nth=0") == "a photo of a zwx dog"
    page.locator("#playground").get_by_role("button", name="Generate").click()
    page.wait_for_selector("#play-result .compare .tag:has-text('Without')")
    page.close()
