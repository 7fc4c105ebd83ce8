"""The playground, at the bottom of the tab Train: generate with a run, or restore the settings of a picture."""

from typing import Any

import gradio as gr

from pipelines.config import SampleConfig
from pipelines.formats.table import choices
from ui import forms as form
from ui.run import panels
from ui.run.monitor import EMPTY_RESULT, RESULTS
from ui.tabs.train import stack as stacking
from ui.tabs.train.playground_handlers import OWN_FIELDS
from ui.wiring import WATCHED, Page


def lay_out(page: Page) -> None:
    """Create the widgets in the current Blocks context."""
    named = page.named
    sampling = SampleConfig()
    hidden = [name for name in form.field_names(SampleConfig) if name not in OWN_FIELDS]
    with gr.Column(elem_classes="card acts-together", elem_id="playground", visible=False) as named[
        "playground"
    ]:
        gr.HTML(
            panels.heading("", "Playground", "Each picture with and without the adapter, from the same seed.")
        )
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=280, elem_id="play-form"):
                named["recall"] = gr.File(
                    label="Drop a picture generated here to restore its settings",
                    file_types=[".png"],
                    type="filepath",
                    height=58,
                    elem_id="recall",
                    elem_classes="drop",
                )
                named["recalled"] = gr.HTML("")
                named |= form.widgets(sampling, ["prompt"])
                named["prompt_hint"] = gr.HTML("")
                named["strength"] = gr.Slider(
                    0,
                    2.0,
                    value=1.0,
                    step=0.05,
                    label="Adapter strength",
                    info="1 is the adapter as trained, 0 disables it.",
                )
                named |= form.widgets(sampling, ["seed"])
                with gr.Accordion("Advanced", open=False):
                    named |= {
                        f"play_{name}": widget for name, widget in form.widgets(sampling, hidden).items()
                    }
                named |= stacking.lay_out()
                named["generate"] = gr.Button("Generate", variant="primary")
                with gr.Accordion("Export", open=False):
                    named["format"] = gr.Dropdown(
                        choices("lora"), value=choices("lora")[0][1], label="Format"
                    )
                    named["export"] = gr.Button("Export", size="md")
                    named["exported"] = gr.File(label="Exported adapter", visible=False, interactive=False)
            with gr.Column(scale=6, min_width=300, elem_id="play-result"):
                named["result"] = gr.HTML(panels.placeholder(EMPTY_RESULT), js_on_load=panels.COMPARE_SCRIPT)
                named["result_caption"] = gr.HTML("")
                named["gallery"] = gr.Gallery(
                    label="All pictures",
                    columns=4,
                    format="png",
                    visible=False,
                    interactive=False,
                    object_fit="cover",
                )
                named["download"] = gr.DownloadButton("Download the picture", size="md", interactive=False)
    page.sampling = ["prompt", "seed", *(f"play_{name}" for name in hidden)]


def wire(page: Page) -> None:
    """Connect the events."""
    playground, named, layers = page.playground, page.named, stacking.Layers(page.monitor)

    def generate(shown: str, strength: float, **fields: Any) -> dict[str, Any]:
        return playground.generate(
            shown, strength, **{name.removeprefix("play_"): value for name, value in fields.items()}
        )

    def contributions(shown: str, progress: Any, **fields: Any) -> dict[str, Any]:
        own = {name.removeprefix("play_"): value for name, value in fields.items()}
        return layers.contributions(shown, progress, **own)

    for event in (named["generate"].click, named["prompt"].submit):
        page.on(
            event,
            generate,
            takes=["shown", "strength", "recalled_steps", *stacking.FIELDS, *page.sampling],
            gives=RESULTS,
            concurrency_id="pictures",
            concurrency_limit=4,
            busy="result",
        )
    page.on(
        named["export"].click, playground.export, takes=["shown", "format"], gives=["exported"], busy="format"
    )
    page.on(
        named["recall"].upload,
        playground.recall,
        takes=["recall"],
        gives=[
            "recall", "strength", "part", *stacking.FIELDS, "unet_map", *page.sampling, *WATCHED,
        ],
        busy="recall",
    )  # fmt: skip
    page.on(named["blocks"].change, layers.elsewhere, takes=["blocks"], gives=["elsewhere"])
    page.on(named["stacking"].expand, layers.open, takes=["second"], gives=["second"])
    page.on(named["part"].change, layers.choose_part, takes=["part"], gives=["blocks"])
    page.on(
        named["ask_blocks"].click,
        contributions,
        takes=["shown", *page.sampling],
        gives=["drawn_result", "unet_map"],
        reports_progress=True,
        concurrency_id="pictures",
        busy="unet_map",
    )
