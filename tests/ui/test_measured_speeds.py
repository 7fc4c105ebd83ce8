"""The estimated duration of a run uses the speeds that this machine has measured when a page is opened."""

from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest

from pipelines.runs.costs import Costs, Speed, likely_device
from pipelines.studio import Studio
from ui.app import build
from ui.html import BrowserCopies


@pytest.fixture
def page(tmp_path: Path, copies: BrowserCopies) -> Iterator[gr.Blocks]:
    studio = Studio(tmp_path)
    yield build(studio, copies)
    studio.close()


def priced_on_load(blocks: gr.Blocks) -> str:
    """Return the duration estimate that the page shows when the browser loads it."""
    found = [
        event
        for event in blocks.fns.values()
        if [name for _, name in event.targets] == ["load"]
        and any('class="cost"' in str(getattr(output, "value", "")) for output in event.outputs)
    ]
    assert len(found) == 1
    event = found[0]
    assert event.fn is not None
    return event.fn(*[getattr(widget, "value", None) for widget in event.inputs])[0]


def test_a_page_opened_after_slow_runs_promises_no_fast_one(page: gr.Blocks, tmp_path: Path) -> None:
    before = priced_on_load(page)
    slow = Speed(train_s=2.0, sample_s=0.5, start_s=60)
    Costs(tmp_path).record("embedded", device=likely_device(), family="embedded", measured=slow)
    after = priced_on_load(page)
    assert "about" in before
    assert "min" in after
    assert after != before
