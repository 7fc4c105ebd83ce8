"""The tab Continual: a sequence of concepts, the next one to add, and what the earlier ones keep."""

from functools import partial
from typing import Any

import gradio as gr

from pipelines.formats.table import choices
from ui import forms as form
from ui.html import Html
from ui.run import panels
from ui.tabs.continual import baselines
from ui.tabs.continual.handlers import EMPTY, FIELDS, NEW, OWN, REMOVE, SHOWN, SUBJECT, ContinualHandlers
from ui.tabs.train.photos import upload_tiles, wire_upload
from ui.tabs.train.tab import photo_upload
from ui.wiring import WATCHED, WATCHING, Page

WIDER = (
    "Quick trains attention and convolutions, because keys and values of cross-attention, the paper's choice, "
    "cannot hold a person on the embedded base model."
)
EMPTY_RESULT = "One or several concepts in one picture appear here."
MIRRORED = ("start_row", "stop_row", "run_card", "progress", "strip", "loss")
FORMATS = [(title, name) for title, name in choices("continual") if name != "safetensors"]


def lay_out(page: Page, continual: ContinualHandlers) -> None:
    """Create the widgets of this tab in the current Blocks context."""
    page.mirrors |= {OWN + name: name for name in MIRRORED}
    with gr.Row(elem_classes="page", equal_height=False):
        with gr.Column(scale=4, min_width=330, elem_id="continual-inputs", elem_classes="inputs"):
            _inputs(page, continual)
        with gr.Column(scale=8, min_width=330, elem_id="continual-stage", elem_classes="stage"):
            _stage(page, continual)


def _inputs(page: Page, continual: ContinualHandlers) -> None:
    named = page.named
    with gr.Column(elem_classes="card form-card", elem_id="continual-card"):
        gr.HTML(
            panels.heading("1", "Choose a sequence", "Concepts that one model has learned one after another.")
        )
        named["continual_sequence"] = gr.Dropdown(
            [(NEW, "")], value=None, label="Sequence", elem_id="continual-sequence"
        )
        gr.HTML(
            panels.heading(
                "2", "Add a concept", "The photographs of the earlier concepts are not needed any more."
            )
        )
        named["continual_source"] = gr.Dropdown(
            continual.sources(), value=None, label="Photographs of", elem_id="continual-source"
        )
        named["continual_upload"] = photo_upload("continual-upload")
        named["continual_upload_tiles"] = upload_tiles()
        named["continual_name"] = gr.Textbox("", label="Name", elem_id="continual-name")
        with gr.Accordion("Advanced", open=False):
            _advanced(page, continual)
        with gr.Column(elem_classes="action"):
            with gr.Row() as named["continual_start_row"]:
                named["continual_start"] = gr.Button(
                    "Add concept", variant="primary", elem_id="continual-start"
                )
            with gr.Row(visible=False) as named["continual_stop_row"]:
                named["continual_stop"] = gr.Button(
                    "Stop and keep", variant="primary", size="md", elem_classes="stops"
                )


def _advanced(page: Page, continual: ContinualHandlers) -> None:
    named = page.named
    presets = continual.presets()
    named["continual_preset"] = gr.Dropdown(
        presets, value=presets[0], label="Preset", info=WIDER if continual.family == "embedded" else None
    )
    named["continual_after"] = gr.Dropdown(
        [], value=None, visible=False, label="Continue after", info="An earlier task starts a branch."
    )
    with gr.Row():
        named["continual_word"] = gr.Textbox(
            "", label="Trigger word", info="One rare word; empty: chosen for you.", min_width=120
        )
        named["continual_noun"] = gr.Textbox(
            "", label="Class word", info="Only for class images and measurements.", min_width=120
        )
    named |= {OWN + name: made for name, made in form.widgets(continual.config(), FIELDS).items()}
    named["continual_remove"] = gr.Button(REMOVE, size="md", elem_classes="quiet")


def _stage(page: Page, continual: ContinualHandlers) -> None:
    named = page.named
    with gr.Column(elem_classes="card", visible=False, elem_id="continual-run") as named[
        "continual_run_card"
    ]:
        named["continual_progress"] = gr.HTML("")
        with gr.Accordion("Samples and loss", open=False):
            named["continual_strip"] = gr.HTML("")
            named["continual_loss"] = gr.HTML("")
    with gr.Column(elem_classes="card", elem_id="continual-grid"):
        named["continual_heading"] = gr.HTML(panels.heading("", "Every concept after every task", ""))
        named["continual_grid"] = gr.HTML(panels.placeholder(EMPTY))
        named["continual_if"] = gr.Button(
            "What if it were not regularized?", size="md", visible=False, elem_id="continual-if"
        )
        baselines.lay_out(page, continual)
    with gr.Column(elem_classes="card", visible=False, elem_id="continual-play") as named[
        "continual_play_row"
    ]:
        gr.HTML(
            panels.heading(
                "", "Together", "Name the concepts by their trigger words, also several in one prompt."
            )
        )
        named["continual_result"] = gr.HTML(panels.placeholder(EMPTY_RESULT))
        named["continual_told"] = gr.HTML("")
        with gr.Row(elem_classes="prompt-row"):
            named["continual_prompt"] = gr.Dropdown(
                [], value="", allow_custom_value=True, label="Prompt", scale=4, min_width=240
            )
            named["continual_model"] = gr.Dropdown([], value=None, label="Model after", min_width=130)
            named["continual_seed"] = gr.Number(0, label="Seed", precision=0, minimum=0, min_width=90)
        named["continual_generate"] = gr.Button("Generate", variant="primary")
    with gr.Column(elem_classes="card", visible=False, elem_id="continual-matrix") as named[
        "continual_matrix_row"
    ]:
        gr.HTML(panels.heading("", "Forgetting"))
        named["continual_matrix"] = gr.HTML("")
    with gr.Column(elem_classes="card", visible=False, elem_id="continual-entries") as named[
        "continual_entries_row"
    ]:
        gr.HTML(panels.heading("", "Where the concepts are stored"))
        named["continual_entries"] = gr.HTML("")
    with gr.Column(elem_classes="card", visible=False, elem_id="continual-export") as named[
        "continual_export_row"
    ]:
        gr.HTML(
            panels.heading("", "Export", "All concepts as one LoRA, and an embedding for each trigger word.")
        )
        named["continual_format"] = gr.Dropdown(FORMATS, value=FORMATS[0][1], label="Format")
        named["continual_export"] = gr.Button("Export and verify", size="md")
        named["continual_verified"] = gr.HTML(Html(""))
        named["continual_file"] = gr.File(label="Exported sequence", visible=False, interactive=False)


def wire(page: Page, continual: ContinualHandlers, *, opened: Any) -> None:
    """Connect the events of this tab; ``opened`` fires when it is selected."""
    named = page.named
    shown = ["continual_sequence", "continual_after", *SHOWN]
    fields = [OWN + name for name in FIELDS]
    page.on(
        opened,
        continual.open,
        takes=["continual_sequence"],
        gives=[*shown, *SUBJECT],
        **WATCHING,
    )
    page.on(
        named["continual_sequence"].input,
        continual.choose,
        takes=["continual_sequence"],
        gives=[*shown, *SUBJECT],
    )
    page.on(
        named["continual_source"].input,
        continual.choose_source,
        takes=["continual_sequence", "continual_source"],
        gives=SUBJECT,
    )
    wire_upload(page, "continual_upload")
    page.on(named["continual_source"].focus, continual.offer_sources, gives=["continual_source"])
    page.on(
        named["continual_preset"].input, continual.choose_preset, takes=["continual_preset"], gives=fields
    )
    asked = ["continual_sequence", "continual_after", "continual_preset", "shown", *SUBJECT, *fields]
    page.on(named["continual_start"].click, continual.start, takes=asked, gives=[*WATCHED, *shown, *SUBJECT])
    page.on(named["continual_stop"].click, page.train.stop, takes=["shown"], gives=WATCHED)
    page.on(
        named["continual_if"].click,
        continual.compare,
        takes=["continual_sequence", "shown"],
        gives=[*WATCHED, *shown],
    )
    baselines.wire(page, continual)
    page.on(
        named["continual_remove"].click,
        continual.remove,
        takes=["continual_sequence", "continual_remove"],
        gives=shown,
    )
    page.on(
        partial(gr.on, [named["news"].change]),
        continual.watch,
        takes=["continual_sequence", "shown"],
        gives=shown,
        **WATCHING,
    )
    page.on(
        named["continual_generate"].click,
        continual.generate,
        takes=["continual_sequence", "continual_model", "continual_prompt", "continual_seed"],
        gives=["continual_result", "continual_told"],
        concurrency_id="pictures",
        busy="continual_result",
    )
    page.on(
        named["continual_export"].click,
        continual.export,
        takes=["continual_sequence", "continual_format"],
        gives=["continual_file", "continual_verified"],
    )
