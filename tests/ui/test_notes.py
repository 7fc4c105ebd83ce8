"""Notes on a picture or a run are shown on the page."""

from pathlib import Path
from typing import Any

from pipelines.config import SampleConfig
from ui.html import BrowserCopies
from ui.run.monitor import RunMonitor
from ui.run.panels import caption, progress
from ui.run.state import fold
from ui.tabs.train.playground_handlers import PlaygroundHandlers

LONG = "The prompt is longer than the 75 tokens that this base model can read; ignored: <b>hat</b>."


def test_a_note_on_a_picture_stands_under_it(studio: Any, copies: BrowserCopies, monkeypatch: Any) -> None:
    draw = studio.generation.generate

    def noted(config: SampleConfig, *, on_note: Any, **options: Any) -> list[Path]:
        on_note(LONG)
        return draw(config, **options)

    monkeypatch.setattr(studio.generation, "generate", noted)
    monitor = RunMonitor(studio, copies)
    run = next(iter(monitor.examples.values()))["run"]
    values = PlaygroundHandlers(monitor).generate(run, 1.0, prompt="a dog", seed=0)
    assert LONG.replace("<", "&lt;").replace(">", "&gt;") in values["result_caption"]
    assert 'class="note"' not in caption(prompt="a dog", seed=0)


def test_a_note_on_a_run_stands_by_its_progress(tmp_path: Path) -> None:
    events = [
        {"kind": "note", "text": LONG},
        {"kind": "note", "text": LONG},
        {"kind": "note", "text": "No CLIP."},
    ]
    view = fold({"id": "a", "state": "running", "path": str(tmp_path), "events": events, "next": 3})
    assert view.notes == [LONG, "No CLIP."]
    assert progress(view).count('class="note"') == 2
