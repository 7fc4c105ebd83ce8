"""The experiments on the page Compare: which method, and which blocks."""

from typing import Any

import gradio as gr

from pipelines.experiments.settings import CONFIGS
from ui import forms as form
from ui.run.panels import placeholder
from ui.tabs.compare.experiment_handlers import METHODS, MODES, SIDE, STYLES, Lab, fields_of
from ui.wiring import QUIET, WATCHING, Page, drawn_memory

# What showing an experiment may change.
SHOWN = [
    "lab_results", "lab_files", "lab_json", "lab_pictures", "lab_chart", "lab_acts", "lab_stop", "lab_resume", "lab_sure",
    "lab_drawn", "lab_shown",
]  # fmt: skip
MODE = [
    "side_by_side", "lab", "lab_heading", "lab_subject", "lab_methods", "lab_style", "lab_style_files", "lab_cost",
    *(f"{kind}_fields" for kind in CONFIGS),
]  # fmt: skip
ASKED = [name for kind in CONFIGS for name in fields_of(kind).values()]


LOOKED_AT = ["lab_shown", "lab_drawn", "lab_mode"]


def lay_out_switch(page: Page) -> None:
    """Create what turns between the comparison and the experiments, in the current Blocks context."""
    page.named["lab_mode"] = gr.Radio(
        list(MODES),
        value=SIDE,
        show_label=False,
        label="What is compared",
        elem_id="lab-mode",
        container=False,
    )


def lay_out(page: Page) -> None:
    """Create the widgets of the experiments, hidden until they are chosen."""
    named = page.named
    named["lab_drawn"] = drawn_memory()
    with gr.Row(elem_classes="page", equal_height=False, visible=False) as named["lab"]:
        with gr.Column(scale=4, min_width=330, elem_classes="inputs"):
            _form(page)
            _kept(page)
        with (
            gr.Column(scale=8, min_width=330, elem_classes="stage"),
            gr.Column(elem_classes="card", elem_id="lab-card"),
        ):
            named["lab_results"] = gr.HTML(placeholder("Its figures and pictures appear here, as they come."))
            with gr.Row(visible=False) as named["lab_files"]:
                named["lab_pictures"] = gr.DownloadButton("Download the pictures (PNG)", size="md")
                named["lab_chart"] = gr.DownloadButton("Download the chart (PNG)", size="md")
                named["lab_json"] = gr.DownloadButton("Download the figures (JSON)", size="md")


def _form(page: Page) -> None:
    named, lab = page.named, Lab(page.shelf)
    subjects = lab.subjects()
    with gr.Column(elem_classes="card", elem_id="lab-form"):
        named["lab_heading"] = gr.HTML("")
        named["lab_subject"] = gr.Dropdown(
            subjects, value=subjects[0][1], label="Photographs", info="And the words that go with them."
        )
        named["lab_methods"] = gr.CheckboxGroup(METHODS, value=[key for _, key in METHODS], label="Methods")
        named["lab_style"] = gr.Dropdown(list(STYLES), value=STYLES[0][1], label="Style", visible=False)
        named["lab_style_files"] = gr.File(
            label="1 to 20 pictures in the style",
            file_count="multiple",
            file_types=[".jpg", ".jpeg", ".png", ".webp"],
            type="filepath",
            visible=False,
            elem_classes="drop",
        )
        with gr.Accordion("Advanced", open=False):
            for kind, cls in CONFIGS.items():
                own = fields_of(kind)
                with gr.Row(elem_classes="settings", visible=kind == "methods") as named[f"{kind}_fields"]:
                    made = form.widgets(cls(), own)
                named |= {own[field]: widget for field, widget in made.items()}
        named["lab_cost"] = gr.HTML("")
        named["lab_start"] = gr.Button("Run the experiment", variant="primary", elem_id="lab-start")


def _kept(page: Page) -> None:
    named = page.named
    with gr.Column(elem_classes="card", elem_id="lab-kept"):
        named["lab_shown"] = gr.Dropdown([], value=None, label="Experiments so far")
        with gr.Row(visible=False, elem_classes="acts") as named["lab_acts"]:
            named["lab_stop"] = gr.Button("Stop and keep", size="md", min_width=90, elem_classes="stops")
            named["lab_resume"] = gr.Button("Go on", size="md", min_width=90, visible=False)
            named["lab_delete"] = gr.Button("Delete …", size="md", min_width=90)
        with gr.Column(visible=False) as named["lab_sure"]:
            named["lab_question"] = gr.HTML("")
            with gr.Row():
                named["lab_really"] = gr.Button("Delete it", variant="stop", size="md", min_width=90)
                named["lab_keep"] = gr.Button("Keep it", size="md", min_width=90)


def wire(page: Page) -> None:
    """Wire the widgets of the experiments, and the way to them from the page Train."""
    lab, named = Lab(page.shelf), page.named
    turned = page.on(
        named["lab_mode"].change,
        lab.choose_mode,
        takes=["lab_mode", "lab_shown"],
        gives=[*MODE, *SHOWN],
        **QUIET,
    )
    priced: dict[str, Any] = {"takes": ["lab_mode", "lab_methods", "base", *ASKED], "gives": ["lab_cost"]}
    page.on(turned.then, lab.cost, **priced, **QUIET)
    changes = [named[name].change for name in ("lab_methods", *ASKED)]

    def on_any(handler: Any, **options: Any) -> Any:
        return gr.on(changes, handler, **options)

    page.on(on_any, lab.cost, **priced, trigger_mode="always_last", **WATCHING)
    page.on(
        named["lab_style"].input, lab.choose_style, takes=["lab_style"], gives=["lab_style_files"], **QUIET
    )
    page.on(named["which_method"].click, lab.from_train, gives=["tabs", "lab_mode", "lab_subject"], **QUIET)
    _wire_experiment(page, lab)


def _wire_experiment(page: Page, lab: Lab) -> None:
    named = page.named
    asked = ["lab_mode", "lab_subject", "lab_methods", "lab_style", "lab_style_files"]
    page.on(
        named["lab_start"].click,
        lab.start,
        takes=[*asked, "source", "class_noun", "identifier", "base", *ASKED],
        gives=SHOWN,
        **QUIET,
    )
    page.on_pick(named["lab_shown"].input, lab.show, takes=["lab_shown"], gives=SHOWN, **QUIET)
    page.on(named["lab_news"].change, lab.watch, takes=LOOKED_AT, gives=SHOWN, **WATCHING)
    for name, handler in (("lab_stop", lab.stop), ("lab_resume", lab.resume)):
        page.on(named[name].click, handler, takes=["lab_shown"], gives=SHOWN, **QUIET)
    sure = ["lab_sure", "lab_question"]
    page.on(named["lab_delete"].click, lab.ask_delete, gives=sure, **QUIET)
    page.on(named["lab_keep"].click, lambda: {"lab_sure": gr.update(visible=False)}, gives=sure, **QUIET)
    page.on(named["lab_really"].click, lab.delete, takes=["lab_shown", "lab_mode"], gives=SHOWN, **QUIET)
