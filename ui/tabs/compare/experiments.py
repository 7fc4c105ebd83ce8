"""The experiments of the tab Compare: "Which method?" and "Which blocks?"."""

from typing import Any

import gradio as gr

from pipelines.experiments.settings import CONFIGS
from ui import forms as form
from ui.run.panels import placeholder
from ui.tabs.compare.experiment_handlers import METHODS, MODES, SIDE, STYLES, ExperimentHandlers, fields_of
from ui.wiring import WATCHING, Page, drawn_memory

# The widgets that change when an experiment is shown.
SHOWN = [
    "experiment_results", "experiment_files", "experiment_json", "experiment_pictures", "experiment_chart", "experiment_acts", "experiment_stop", "experiment_resume", "experiment_sure",
    "experiment_drawn", "experiment_shown", "experiment_id",
]  # fmt: skip
MODE = [
    "side_by_side", "experiments", "experiment_heading", "experiment_subject", "experiment_methods", "experiment_style", "experiment_style_files", "experiment_cost",
    *(f"{kind}_fields" for kind in CONFIGS),
]  # fmt: skip
ASKED = [name for kind in CONFIGS for name in fields_of(kind).values()]


LOOKED_AT = ["experiment_id", "experiment_drawn", "experiment_mode"]


def lay_out_switch(page: Page) -> None:
    """Create the switch between the comparison and the experiments in the current Blocks context."""
    page.named["experiment_mode"] = gr.Radio(
        list(MODES),
        value=SIDE,
        show_label=False,
        label="Type of comparison",
        elem_id="lab-mode",
        container=False,
    )


def lay_out(page: Page) -> None:
    """Create the widgets of the experiments, hidden until one is chosen."""
    named = page.named
    named["experiment_drawn"] = drawn_memory()
    with gr.Row(elem_classes="page", equal_height=False, visible=False) as named["experiments"]:
        with gr.Column(scale=4, min_width=330, elem_classes="inputs"):
            _form(page)
            _kept(page)
        with (
            gr.Column(scale=8, min_width=330, elem_classes="stage"),
            gr.Column(elem_classes="card", elem_id="lab-card"),
        ):
            named["experiment_results"] = gr.HTML(placeholder("Results appear here as they are measured."))
            with gr.Row(visible=False) as named["experiment_files"]:
                named["experiment_pictures"] = gr.DownloadButton("Download the pictures (PNG)", size="md")
                named["experiment_chart"] = gr.DownloadButton("Download the chart (PNG)", size="md")
                named["experiment_json"] = gr.DownloadButton("Download the figures (JSON)", size="md")


def _form(page: Page) -> None:
    named, experiments = page.named, ExperimentHandlers(page.library)
    subjects = experiments.subjects()
    with gr.Column(elem_classes="card", elem_id="lab-form"):
        named["experiment_heading"] = gr.HTML("")
        named["experiment_subject"] = gr.Dropdown(
            subjects,
            value=subjects[0][1],
            label="Photographs",
            info="With their class word and trigger word.",
        )
        named["experiment_methods"] = gr.CheckboxGroup(
            METHODS, value=[key for _, key in METHODS], label="Methods"
        )
        named["experiment_style"] = gr.Dropdown(
            list(STYLES), value=STYLES[0][1], label="Style", visible=False
        )
        named["experiment_style_files"] = gr.File(
            label="1 to 60 pictures of the style",
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
        named["experiment_cost"] = gr.HTML("")
        named["experiment_start"] = gr.Button("Run the experiment", variant="primary", elem_id="lab-start")


def _kept(page: Page) -> None:
    named = page.named
    with gr.Column(elem_classes="card", elem_id="lab-kept"):
        named["experiment_shown"] = gr.Dropdown([], value=None, label="Experiments so far")
        with gr.Row(visible=False, elem_classes="acts") as named["experiment_acts"]:
            named["experiment_stop"] = gr.Button(
                "Stop and keep", size="md", min_width=90, elem_classes="stops"
            )
            named["experiment_resume"] = gr.Button("Resume", size="md", min_width=90, visible=False)
            named["experiment_delete"] = gr.Button(
                "Delete …", variant="stop", size="md", min_width=90, elem_classes="asks"
            )
        with gr.Column(visible=False) as named["experiment_sure"]:
            named["experiment_question"] = gr.HTML("")
            with gr.Row():
                named["experiment_really"] = gr.Button(
                    "Delete permanently", variant="stop", size="md", min_width=90
                )
                named["experiment_keep"] = gr.Button("Cancel", size="md", min_width=90)


def wire(page: Page) -> None:
    """Connect the events of the experiments, and the button in the tab Train that leads to them."""
    experiments, named = ExperimentHandlers(page.library), page.named
    turned = page.on(
        named["experiment_mode"].change,
        experiments.choose_mode,
        takes=["experiment_mode", "experiment_id"],
        gives=[*MODE, *SHOWN],
    )
    priced: dict[str, Any] = {
        "takes": ["experiment_mode", "experiment_methods", "base", *ASKED],
        "gives": ["experiment_cost"],
    }
    page.on(turned.then, experiments.cost, **priced)
    changes = [named[name].change for name in ("experiment_methods", *ASKED)]

    def on_any(handler: Any, **options: Any) -> Any:
        return gr.on(changes, handler, **options)

    page.on(on_any, experiments.cost, **priced, trigger_mode="always_last", **WATCHING)
    page.on(
        named["experiment_style"].input,
        experiments.choose_style,
        takes=["experiment_style"],
        gives=["experiment_style_files"],
    )
    page.on(
        named["which_method"].click,
        experiments.from_train,
        gives=["tabs", "experiment_mode", "experiment_subject"],
    )
    _wire_experiment(page, experiments)


def _wire_experiment(page: Page, experiments: ExperimentHandlers) -> None:
    named = page.named
    asked = [
        "experiment_mode",
        "experiment_subject",
        "experiment_methods",
        "experiment_style",
        "experiment_style_files",
    ]
    page.on(
        named["experiment_start"].click,
        experiments.start,
        takes=[*asked, "source", "class_noun", "identifier", "base", *ASKED],
        gives=SHOWN,
    )
    page.on(
        named["experiment_shown"].input,
        experiments.pick,
        takes=["experiment_shown", "experiment_id"],
        gives=SHOWN,
    )
    page.on(named["news"].change, experiments.watch, takes=LOOKED_AT, gives=SHOWN, **WATCHING)
    for name, handler in (("experiment_stop", experiments.stop), ("experiment_resume", experiments.resume)):
        page.on(named[name].click, handler, takes=["experiment_id"], gives=SHOWN)
    sure = ["experiment_sure", "experiment_question"]
    page.on(named["experiment_delete"].click, experiments.ask_delete, gives=sure)
    page.on(
        named["experiment_keep"].click,
        lambda: {"experiment_sure": gr.update(visible=False)},
        gives=sure,
    )
    page.on(
        named["experiment_really"].click,
        experiments.delete,
        takes=["experiment_id", "experiment_mode"],
        gives=SHOWN,
    )
