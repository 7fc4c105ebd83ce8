"""The structure of the page, checked without a server."""

import json
from dataclasses import replace

import gradio as gr
import pytest

from pipelines.config import ASSETS, PhotosConfig, SampleConfig
from pipelines.methods.specs import METHODS, methods_of, preset
from pipelines.studio import Studio
from ui import forms as form
from ui.app import build
from ui.html import BrowserCopies
from ui.run.monitor import RunMonitor
from ui.tabs.train.handlers import TrainHandlers

PUBLIC = {
    "generate",
    "generate_stack",
    "train_start",
    "train_status",
    "train_stop",
    "train_baseline",
    "list_runs",
    "export_run",
    "export_base",
    "compare",
    "recall",
    "experiment_start",
    "experiment_status",
    "experiment_stop",
    "experiment_files",
    "list_experiments",
    "w2w_sample",
    "w2w_edit",
}

SHIPPED = {  # (method, base family, preset) -> the preset file's values
    (*path.stem.split("."), name): values
    for path in sorted((ASSETS / "presets").glob("*.json"))
    for name, values in json.loads(path.read_text(encoding="utf-8"))["presets"].items()
}


@pytest.fixture(scope="module")
def blocks(studio: Studio, copies: BrowserCopies) -> gr.Blocks:
    return build(studio, copies)


def test_named_endpoints_are_public_and_nothing_else_is(blocks: gr.Blocks) -> None:
    public = {event.api_name for event in blocks.fns.values() if event.api_visibility == "public"}
    assert public == PUBLIC


def test_watching_has_no_limit_and_pictures_share_one_queue(blocks: gr.Blocks) -> None:
    limits = {
        event.name: event.concurrency_limit for event in blocks.fns.values() if "tick" in str(event.targets)
    }
    assert list(limits.values()) == [None]
    shared = [event for event in blocks.fns.values() if event.concurrency_id == "pictures"]
    assert len(shared) == 30, (
        "playground and first page by button and key, a changed strength, Multi-subject, Continual, the identity space's picture and scenes, blocks, "
        "Compare, the API's five, and on Edit three ways to edit, seven suggestions, the comparison, the strip, and a mix and "
        "its strip"
    )


def test_pictures_travel_as_png(blocks: gr.Blocks) -> None:
    formats = {
        component["props"]["format"]
        for component in blocks.get_config_file()["components"]
        if component["type"] in ("image", "gallery", "imageslider") and "format" in component["props"]
    }
    assert formats <= {"png"}


def test_every_control_has_a_label(blocks: gr.Blocks) -> None:
    kinds = ("textbox", "dropdown", "slider", "number", "checkbox", "file", "gallery")
    unlabelled = [
        component["props"].get("elem_id") or component["type"]
        for component in blocks.get_config_file()["components"]
        if component["type"] in kinds and not component["props"].get("label")
    ]
    assert unlabelled == []


@pytest.mark.parametrize(
    ("place", "most"),
    [("first-inputs", 4), ("inputs", 6), ("play-form", 4), ("compare-form", 4), ("lab-form", 4)],
)
def test_at_most_four_controls_before_advanced(blocks: gr.Blocks, place: str, most: int) -> None:
    """Each form has one to four inputs outside of "Advanced"; that of Train has its base model on top, and method and
    preset are two choices.
    """
    seen = []

    def walk(node: dict) -> None:
        component = by_id[node["id"]]
        if component["type"] == "accordion" or component["props"].get("visible") is False:
            return
        if component["type"] in ("file", "textbox", "dropdown", "slider", "number", "checkbox", "radio"):
            seen.append(component["props"]["label"])
        for child in node.get("children") or []:
            walk(child)

    config = blocks.get_config_file()
    by_id = {component["id"]: component for component in config["components"]}

    def find(node: dict) -> dict | None:
        if by_id.get(node["id"], {}).get("props", {}).get("elem_id") == place:
            return node
        return next((found for child in node.get("children") or [] if (found := find(child))), None)

    form_node = next(found for child in config["layout"]["children"] if (found := find(child)))
    walk(form_node)
    assert 1 <= len(seen) <= most, seen


def test_tabs_are_the_pages_there_are(blocks: gr.Blocks) -> None:
    tabs = [
        each["props"]["label"]
        for each in blocks.get_config_file()["components"]
        if each["type"] == "tabitem" and each["props"]["label"] not in form.GROUP_TITLES.values()
    ]
    assert tabs == [
        "Start",
        "Train",
        "Multi-subject",
        "Continual",
        "Identity space",
        "Edit",
        "Library",
        "Compare",
    ]


def test_the_first_paint_holds_a_finished_before_and_after(blocks: gr.Blocks) -> None:
    values = [component["props"].get("value") for component in blocks.get_config_file()["components"]]
    compared = [value for value in values if isinstance(value, str) and 'class="compare"' in value]
    assert len(compared) == 2, "Start and Train open alike"
    assert len(set(compared)) == 1
    assert "gradio_api/file=" in compared[0]
    assert 'type="range"' in compared[0]


@pytest.mark.parametrize("cls", [*(spec.config for spec in METHODS.values()), SampleConfig])
def test_a_form_gives_back_the_config_it_was_made_from(cls: type) -> None:
    config = cls()
    with gr.Blocks():
        made = form.widgets(config, form.field_names(cls))
    assert form.parse(cls, {name: widget.value for name, widget in made.items()}) == config
    assert form.parse(cls, form.shown(config)) == config


@pytest.mark.parametrize(("method", "family", "name"), [key for key in SHIPPED])
def test_every_preset_fits_its_form(method: str, family: str, name: str) -> None:
    """The widgets accept all of the preset's values, and a run started from them has the values of the preset file."""
    config, names = preset(method, family, name), form.field_names(METHODS[method].config)
    with gr.Blocks():
        made = form.widgets(config, names)
    own = form.widget_names(method)
    parsed = form.parse_method(method, {own[field]: made[field].value for field in names})
    for field, value in SHIPPED[method, family, name].items():
        assert getattr(parsed, field) == (tuple(value) if isinstance(value, list) else value), field
        widget = made[field]
        if isinstance(widget, gr.Slider):
            assert widget.minimum <= value <= widget.maximum, field
        if isinstance(widget, gr.Dropdown):
            assert value in [choice for _, choice in widget.choices], field


def test_a_form_names_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="Steps is empty"):
        form.parse(SampleConfig, {"steps": None})
    with pytest.raises(ValueError, match="Pictures is 99"):
        form.parse(SampleConfig, {"count": 99})


@pytest.mark.parametrize("method", METHODS)
def test_a_form_of_all_methods_gives_back_the_config_of_each(method: str) -> None:
    own = {"class_prompt": "a teapot"} if issubclass(METHODS[method].config, PhotosConfig) else {}
    config = replace(METHODS[method].config(), steps=77, seed=5, **own)
    values: dict[str, object] = {"seed": 9} | {  # the playground's seed is not the run's
        name: None for other in METHODS for name in form.own_names(other).values()
    }
    assert form.parse_method(method, values | form.filled(method, config)) == config


def test_every_preset_of_every_method_is_a_plan(studio: Studio, copies: BrowserCopies) -> None:
    train = TrainHandlers(RunMonitor(studio, copies))
    offered = [spec.name for spec in methods_of("train")]
    assert [value for _, value in train.methods()] == offered, "in the registry's order"
    shipped = [
        f"{method}/{name}" for method, family, name in SHIPPED if family == "embedded" and method in offered
    ]
    assert sorted(value for _, value in train.plans("embedded")) == sorted(shipped)
    for method in offered:
        assert all(value == f"{method}/{label}" for label, value in train.plans("embedded", method))
