"""Building blocks of the page: escaping, browser copies, views folded from events, curves, sentences."""

from pathlib import Path

import pytest
from conftest import finished_run
from PIL import Image

from pipelines.files import file_stem
from pipelines.studio import Studio
from ui.html import BrowserCopies, Html, element
from ui.run import charts as plots
from ui.run import panels
from ui.run.state import RunView, Sample, fold

HOSTILE = "<img src=x onerror=alert(1)> ${alert(1)} {{value}} \" '"


def test_texts_are_escaped_and_html_is_not() -> None:
    assert element("p", HOSTILE, title=HOSTILE).count("<") == 2
    assert element("p", Html("<b>x</b>")) == "<p><b>x</b></p>"


def test_a_hostile_prompt_stays_a_text() -> None:
    shown = panels.caption(prompt=HOSTILE, seed=1) + panels.compare("a.png", "b.png", alt=HOSTILE)
    assert "<img src=x" not in shown


def test_the_browser_gets_a_copy(tmp_path: Path, copies: BrowserCopies) -> None:
    original = tmp_path / "run" / "picture.png"
    original.parent.mkdir()
    Image.new("RGB", (8, 8), "red").save(original)
    copy = copies.copy(original)
    assert copy.is_relative_to(copies.folder)
    assert copy.read_bytes() == original.read_bytes()
    assert copies.copy(original) == copy
    Image.new("RGB", (8, 8), "blue").save(original)
    assert copies.copy(original) != copy


@pytest.mark.parametrize(
    ("words", "name"),
    [("My brown teapot!", "my-brown-teapot"), ("../../etc/passwd", "etc-passwd"), ("…", "run")],
)
def test_a_file_is_called_after_its_run(words: str, name: str) -> None:
    assert file_stem(words, default="run") == name


def test_small_pictures_are_enlarged_for_the_eye_only(tmp_path: Path, copies: BrowserCopies) -> None:
    small, large = tmp_path / "small.png", tmp_path / "large.png"
    Image.new("RGB", (128, 128)).save(small)
    Image.new("RGB", (512, 512)).save(large)
    assert copies.enlarged(small).endswith("small-x6.png")
    assert copies.enlarged(large) == copies.url(large)


def test_a_shipped_run_folds_into_a_view(studio: Studio) -> None:
    status = studio.training.status(studio.library.examples()[0]["run"])
    view = fold(status)
    steps = status["config"]["steps"]
    assert (view.state, view.step, view.total) == ("done", steps, steps)
    assert set(view.terms) == {"instance"}
    assert len(view.prompts) == 2
    first, latest = view.pair() or pytest.fail("no samples")
    assert (first.step, latest.step, first.prompt) == (0, steps, latest.prompt)
    assert view.similarity["identity"][0][1] < view.similarity["identity"][-1][1]
    assert len(view.photos) == 4


def test_steps_done_again_after_a_resume_replace_the_old_ones() -> None:
    def step(index: int, value: float) -> dict:
        return {"kind": "step", "step": index, "total": 9, "seconds": 0.1, "terms": {"instance": value}}

    events = [step(1, 0.5), step(2, 0.4), step(3, 0.3), {"kind": "resumed", "step": 1}, step(2, 0.2)]
    view = fold({"id": "x", "state": "running", "path": "/nowhere", "events": events})
    assert view.terms["instance"] == [(1, 0.5), (2, 0.2)]


def test_smoothing_keeps_a_constant_and_thinning_keeps_the_last() -> None:
    points = [(float(index), 2.0) for index in range(1000)]
    assert all(abs(value - 2.0) < 1e-9 for _, value in plots.smoothed(points, window=40))
    thin = plots.thinned(points)
    assert len(thin) <= plots.MAX_POINTS + 1
    assert thin[-1] == points[-1]


def test_the_loss_chart_tells_its_lines_apart(studio: Studio) -> None:
    run_id = finished_run(studio, steps=4, prior_preservation=True, class_images=2, learning_rate=1e-6)
    view = fold(studio.training.status(run_id))
    studio.library.delete(run_id)
    assert set(view.terms) == {"instance", "prior"}
    drawn = plots.loss_chart(view)
    assert drawn.count("<polyline") == 4
    for look in ('"curve raw smooth"', '"curve smooth"', '"curve prior"'):
        assert f"class={look}" in drawn
    assert "aria-label" in drawn


def test_charts_and_progress_live_with_nothing() -> None:
    empty = RunView(id="new", total=100)
    assert "first step" in plots.loss_chart(empty)
    assert "0 / 100" in panels.progress(empty)


@pytest.mark.parametrize(
    ("drawn", "state", "to_come"),
    [
        ((), "running", 5),
        ((0,), "running", 4),
        ((0, 90), "running", 3),
        ((0, 85, 338), "running", 0),
        ((0,), "stopped", 0),
    ],
)
def test_the_strip_keeps_room_for_the_rows_to_come_and_no_more(
    drawn: tuple[int, ...], state: str, to_come: int
) -> None:
    samples = [Sample(step=step, row=0, prompt="a dog", seed=0, file=Path("x.png")) for step in drawn]
    assert RunView(id="x", state=state, total=338, samples=samples).rows_ahead == to_come


def test_the_subject_is_called_by_its_words() -> None:
    view = RunView(id="x", config={"identifier": "zwx", "class_noun": "<b>dog"})
    assert "zwx &lt;b&gt;dog" in panels.prompt_hint(view)
    assert panels.prompt_hint(RunView(id="x")) == ""


@pytest.mark.parametrize(("seconds", "text"), [(3.4, "3 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_durations_are_said_as_a_person_would(seconds: float, text: str) -> None:
    assert panels.duration(seconds) == text
