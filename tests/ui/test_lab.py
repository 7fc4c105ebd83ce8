"""The experiments on the page Compare: handlers, results as HTML, the API, and one visit in a real browser."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE_MS, Served, clear
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from pipelines.experiments.block_comparison import STYLE
from pipelines.experiments.method_comparison import PHOTOS, candidates
from pipelines.experiments.settings import CONFIGS
from pipelines.experiments.store import LAST, Experiment
from pipelines.studio import Studio
from tests.fake_model import FakeModelCache
from ui import forms as form
from ui.html import BrowserCopies
from ui.run.monitor import RunMonitor
from ui.tabs.compare import experiment_results as results
from ui.tabs.compare.experiment_handlers import FROM_TRAIN, METHODS, OWN_STYLE, ExperimentHandlers, fields_of
from ui.tabs.library.handlers import LibraryHandlers
from ui.tabs.train.playground_handlers import PlaygroundHandlers

ALL = [key for _, key in METHODS]
FIELDS = {
    widget: form.shown(cls())[name]
    for kind, cls in CONFIGS.items()
    for name, widget in fields_of(kind).items()
}
FIELDS |= {
    "methods_prompts": "a photo of a {subject}",
    "blocks_prompts": "a {subject}{style}",
} | {
    f"{kind}_{name}": few
    for kind in CONFIGS
    for name, few in (("steps", 4), ("seeds", 1), ("sample_steps", 1))
}


@pytest.fixture
def experiments(studio: Studio, copies: BrowserCopies) -> ExperimentHandlers:
    monitor = RunMonitor(studio, copies)
    return ExperimentHandlers(LibraryHandlers(monitor, PlaygroundHandlers(monitor)))


@pytest.fixture(autouse=True)
def _nothing_left(studio: Studio, model: FakeModelCache) -> Iterator[None]:
    yield
    model.step_s = 0.0
    for row in studio.experiments.list():
        studio.experiments.delete(row["id"])
    clear(studio, model)


def start(experiments: ExperimentHandlers, mode: str = "methods", **asked: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "experiment_mode": mode, "experiment_subject": next(iter(experiments.monitor.examples)), "experiment_methods": ALL,
        "experiment_style": "pixel mosaic", "experiment_style_files": None, "source": None, "class_noun": "", "identifier": "",
        "base": "embedded",
    }  # fmt: skip
    return experiments.start(**(given | FIELDS | asked))


def finish(experiments: ExperimentHandlers, made: str, *, state: str = "done") -> dict[str, Any]:
    """Wait until an experiment has ended."""
    deadline = time.monotonic() + 3 * PATIENCE_MS / 1000
    while (status := experiments.studio.experiments.status(made))["state"] != state:
        assert time.monotonic() < deadline, status["doing"]
        time.sleep(0.05)
    return status


def kept(experiments: ExperimentHandlers, values: dict[str, Any]) -> Experiment:
    """Return the stored experiment that was just started."""
    return experiments.studio.experiments.store.get(values["experiment_shown"]["value"])


def test_one_click_starts_every_method_on_an_example(experiments: ExperimentHandlers, pace: Any) -> None:
    pace(1000)
    values = start(
        experiments, methods_seeds=2, methods_snapshots=0, methods_prompts="a {subject}\na {subject} in snow"
    )
    made = kept(experiments, values)
    example = next(iter(experiments.monitor.examples.values()))
    assert (made.kind, len(made.photos(PHOTOS))) == ("methods", 4)
    assert {name: made.words[name] for name in ("class_noun", "identifier")} == {
        name: example[name] for name in ("class_noun", "identifier")
    }
    assert made.config["seeds"] == 2
    assert made.config["prompts"] == ["a {subject}", "a {subject} in snow"]
    assert made.config["methods"] == ALL
    assert "Running" in values["experiment_results"]
    assert values["experiment_stop"]["visible"] is True
    made = made.id
    assert experiments.watch(made, values["experiment_drawn"], "side") == {}, (
        "what is not looked at is not drawn"
    )
    pace(0)
    finish(experiments, made)
    over = experiments.watch(made, values["experiment_drawn"], "methods")
    assert experiments.watch(made, over["experiment_drawn"], "methods") == {}
    for label, _ in METHODS:
        assert label in over["experiment_results"]
    assert "is most similar to the photographs" in over["experiment_results"]
    told = json.loads(Path(over["experiment_json"]["value"]).read_text())
    assert [row["key"] for row in told["rows"]] == ["base", *candidates()]
    for name in ("experiment_pictures", "experiment_chart"):
        assert Path(over[name]["value"]).read_bytes().startswith(b"\x89PNG")


def test_the_photographs_of_the_page_train_are_taken(
    experiments: ExperimentHandlers, photographs: list[Path]
) -> None:
    source = {"title": "", "files": [str(path) for path in photographs], "crops": {}, "captions": {}}
    values = start(
        experiments,
        experiment_subject=FROM_TRAIN,
        source=source,
        class_noun="teapot",
        identifier="wib",
        experiment_methods=["svdiff"],
    )
    made = kept(experiments, values)
    assert (made.words["class_noun"], made.words["identifier"]) == ("teapot", "wib")
    assert (len(made.photos(PHOTOS)), made.config["methods"]) == (3, ["svdiff"])
    with pytest.raises(ValueError, match="No photographs are chosen in the tab Train"):
        start(experiments, experiment_subject=FROM_TRAIN)
    with pytest.raises(ValueError, match="No method is chosen"):
        start(experiments, experiment_methods=[])
    turned = experiments.from_train()
    assert (turned["experiment_mode"], turned["experiment_subject"]["value"]) == ("methods", FROM_TRAIN)


def test_a_style_is_drawn_for_the_occasion_or_ones_own(
    experiments: ExperimentHandlers, photographs: list[Path]
) -> None:
    values = start(experiments, "blocks")
    captions = kept(experiments, values).captions[STYLE]
    assert len(kept(experiments, values).photos(STYLE)) == len(captions) == 12
    assert all(text.startswith("a picture of a ") and "mosaic" not in text for text in captions.values())
    drawn = experiments.show(values["experiment_shown"]["value"])["experiment_results"]
    for told in (
        "Which adapter is block-wise",
        "Which blocks for the style",
        "Blocks selected for training or for",
    ):
        assert told in drawn
    values = start(
        experiments,
        "blocks",
        experiment_style=OWN_STYLE,
        experiment_style_files=[str(path) for path in photographs],
    )
    assert len(kept(experiments, values).photos(STYLE)) == 3
    with pytest.raises(ValueError, match="no pictures of the style"):
        start(experiments, "blocks", experiment_style=OWN_STYLE)
    assert experiments.choose_style(OWN_STYLE)["experiment_style_files"]["visible"] is True


def test_a_row_that_failed_is_marked_and_can_be_gone_on_with(
    experiments: ExperimentHandlers, model: FakeModelCache
) -> None:
    model.fail_at, model.fail_kind = 2, "spectral"
    made = start(experiments, experiment_methods=["svdiff", "textual_inversion"])["experiment_shown"]["value"]
    finish(experiments, made)
    values = experiments.watch(made, {}, "methods")
    assert (
        values["experiment_results"].count("failed: Training stopped at step 2: the instance loss became nan")
        == 1
    )
    assert values["experiment_resume"]["visible"] is True
    model.fail_at = 0
    assert "Running" in experiments.resume(made)["experiment_results"]
    finish(experiments, made)
    assert "failed:" not in experiments.watch(made, {}, "methods")["experiment_results"]


def test_an_experiment_can_be_stopped(experiments: ExperimentHandlers, pace: Any) -> None:
    pace(0.2)
    made = start(experiments)["experiment_shown"]["value"]
    experiments.stop(made)
    pace(0)
    finish(experiments, made, state="interrupted")
    values = experiments.watch(made, {}, "methods")
    assert "Not finished" in values["experiment_results"]
    assert values["experiment_resume"]["visible"] is True


def test_experiments_are_kept_and_deleted(experiments: ExperimentHandlers) -> None:
    made = start(experiments, experiment_methods=["textual_inversion"])["experiment_shown"]["value"]
    finish(experiments, made)
    turned = experiments.choose_mode("methods", made)
    assert turned["experiment_shown"]["value"] == made
    assert [each for _, each in turned["experiment_shown"]["choices"]] == [made, "example-methods"]
    assert experiments.choose_mode("blocks", made)["experiment_shown"]["choices"] == []
    assert experiments.choose_mode("side", made)["experiments"]["visible"] is False
    assert "runs stay in the Library" in experiments.ask_delete()["experiment_question"]
    gone = experiments.delete(made, "methods")
    assert [each for _, each in gone["experiment_shown"]["choices"]] == ["example-methods"]
    assert experiments.watch(made, {}, "methods")["experiment_files"]["visible"] is False


def test_a_page_without_experiments_shows_the_recorded_one(experiments: ExperimentHandlers) -> None:
    turned = experiments.choose_mode("methods", "")
    assert turned["experiment_id"] == "example-methods"
    assert turned["experiment_acts"]["visible"] is False, "it can be neither stopped nor deleted"
    assert "Recorded" in turned["experiment_results"]
    assert turned["experiment_results"].count("<img") > len(ALL)
    assert experiments.choose_mode("blocks", "")["experiment_id"] == ""


def test_the_price_is_told_before_the_click(experiments: ExperimentHandlers) -> None:
    told = experiments.cost("methods", ALL, "embedded", **FIELDS)["experiment_cost"]
    assert f"{len(ALL)} runs" in told
    assert (
        "Seeds per prompt is 99"
        in experiments.cost("methods", ALL, "embedded", **FIELDS | {"methods_seeds": 99})["experiment_cost"]
    )
    assert experiments.cost("side", ALL, "embedded", **FIELDS) == {}


def test_what_people_typed_is_text_and_the_best_says_so(experiments: ExperimentHandlers) -> None:
    methods = ["dreambooth-lora", "textual_inversion"]
    made = start(experiments, experiment_methods=methods)["experiment_shown"]["value"]
    finish(experiments, made)
    experiment = experiments.studio.experiments.store.get(made)
    experiment.name = "<img src=x onerror=alert(1)>"
    experiment.save()
    shown = results.shown(experiments.studio.experiments.status(made), copies=experiments.copies)
    assert "<img src=x" not in shown
    best = experiment.scores(
        max(methods, key=lambda key: (experiment.scores(key) or {})["scores"]["dino"]["value"]), LAST
    )
    assert best is not None
    assert f'title="best in this column">{best["scores"]["dino"]["value"]:.2f}<' in shown
    marks = re.findall(r"<title>([^<]+), step (\d+), CLIP-T", shown)
    assert len(marks) == 2 * 4 * len(methods), (
        "each method's three earlier states and its last, wide and narrow"
    )


@pytest.mark.browser
def test_an_experiment_is_followed_in_the_browser(visit: Any, served: Served) -> None:
    visitor = visit(tab="compare")
    visitor.page.get_by_text("Which method?", exact=True).click()
    visitor.see("#lab-form")
    visitor.page.locator("#lab-form").get_by_role("button", name="Advanced").click()
    few = {"Prompts": "a {subject}", "Training steps": "4", "Seeds per prompt": "1", "Earlier states": "1",
           "Sampling steps": "1"}  # fmt: skip
    for label, value in few.items():
        visitor.page.locator("#lab-form").get_by_label(label).locator("visible=true").first.fill(value)
    visitor.see("#lab-form .cost:has-text('5 runs')")
    visitor.press("Run the experiment")
    visitor.see("#lab-card .run-title:has-text('Finished')")
    visitor.see("#lab-card .verdict:has-text('is most similar to the photographs')")
    visitor.see("#lab-card .scatter svg.wide")
    visitor.see(f"#lab-card .pictures td img >> nth={6 - 1}")
    with visitor.page.expect_download() as coming:
        visitor.press("Download the chart (PNG)")
    assert Path(coming.value.path()).read_bytes().startswith(b"\x89PNG")
    assert not visitor.errors
    visitor.page.reload()  # a reload can abort one of the page's own requests
    visitor.page.get_by_text("Which method?", exact=True).click()
    visitor.see("#lab-form .cost:has-text('5 runs')")
    visitor.page.get_by_label("Experiments so far").click()
    visitor.page.get_by_role("option", name="finished").first.click()
    visitor.see("#lab-card .table tbody tr >> nth=6")


def test_programs_start_and_read_experiments(served: Served, photographs: list[Path]) -> None:
    client = Client(served.url, verbose=False)
    try:
        photos = [handle_file(str(path)) for path in photographs]
        asked: dict[str, Any] = {
            "photos": photos,
            "class_noun": "dog",
            "identifier": "qev",
            "style_photos": [],
        }
        settings = {"seeds": 1, "steps": 4, "sample_steps": 1, "methods": ["svdiff"]}
        made = client.predict(kind="methods", settings=settings, **asked, api_name="/experiment_start")
        while client.predict(experiment_id=made, api_name="/experiment_status")["state"] != "done":
            time.sleep(0.2)
        status = client.predict(experiment_id=made, api_name="/experiment_status")
        assert (status["state"], [row["key"] for row in status["rows"]]) == ("done", ["base", "svdiff"])
        assert "pictures" not in status
        files = client.predict(experiment_id=made, api_name="/experiment_files")
        assert [Path(path).suffix for path in files] == [".json", ".png", ".png"]
        assert made in [row["id"] for row in client.predict(api_name="/list_experiments")]
        assert client.predict(experiment_id=made, api_name="/experiment_stop")["id"] == made
        with pytest.raises(AppError, match="no experiment 'magic'"):
            client.predict(kind="magic", settings={}, **asked, api_name="/experiment_start")
    finally:
        client.close()
