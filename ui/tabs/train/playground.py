"""The playground, at the bottom of the tab Train: generate with a run, or restore the settings of a picture."""

from typing import Any

import gradio as gr

from pipelines.config import SampleConfig
from pipelines.formats.table import choices
from ui import forms as form
from ui.live_preview import follow, full_flag
from ui.run import panels, prompt_words
from ui.run.monitor import EMPTY_RESULT
from ui.tabs.train import history
from ui.tabs.train import stack as stacking
from ui.tabs.train.playground_handlers import GENERATED, OWN_FIELDS
from ui.wiring import WATCHED, WATCHING, Page

MOST_DICE = 999_999  # short enough to be read out and typed
RANDOM_SEED = f"() => Math.floor(Math.random() * {MOST_DICE + 1})"
# On a narrow screen the picture is above the form.
TO_THE_PICTURE = (
    "() => innerWidth < 900 && [...document.querySelectorAll('#play-result, #first-result')]"
    ".find((each) => each.offsetParent)?.scrollIntoView({behavior: 'smooth', block: 'center'})"
)
# The caption of a picture carries its seed.
SHOWN_SEED = (
    "(seed) => { const shown = document.querySelector('#play-result [data-seed]')?.dataset.seed;"
    " return shown ? Number(shown) : seed; }"
)


def lay_out(page: Page) -> None:
    """Create the widgets in the current Blocks context."""
    named = page.named
    facts = next(iter(page.train.bases.values()))
    sampling = SampleConfig(guidance_scale=facts.guidance_scale)
    hidden = [name for name in form.field_names(SampleConfig) if name not in OWN_FIELDS]
    with gr.Column(elem_classes="card acts-together", elem_id="playground", visible=False) as named[
        "playground"
    ]:
        gr.HTML(
            panels.heading("", "Playground", "Each picture with and without the adapter, from the same seed.")
        )
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=280, elem_id="play-form"):
                _form(page, sampling, hidden)
            with gr.Column(scale=6, min_width=300, elem_id="play-result"):
                _result(page)
        named["history"] = gr.HTML("", js_on_load=history.SCRIPT)
        named["recall"] = gr.File(
            label="Drop a picture generated here to restore its settings",
            file_types=[".png"],
            type="filepath",
            height=58,
            elem_id="recall",
            elem_classes="drop",
        )
    page.sampling = ["prompt", "seed", *(f"play_{name}" for name in hidden)]


def _form(page: Page, sampling: SampleConfig, hidden: list[str]) -> None:
    named = page.named
    named["recalled"] = gr.HTML("")
    named |= form.widgets(sampling, ["prompt"])
    named["prompt"].elem_classes = ["typed-prompt"]
    named["prompt_hint"] = gr.HTML("", js_on_load=prompt_words.SCRIPT)
    named["play_negative_prompt"] = form.widgets(sampling, ["negative_prompt"])["negative_prompt"]
    with gr.Row(elem_classes="seed-row"):
        named |= form.widgets(sampling, ["seed"])
        named["seed"].elem_classes = ["typed-seed"]
        named["dice"] = gr.Button("Random", size="sm", min_width=70, elem_classes="dice")
        named["reuse"] = gr.Button("Reuse", size="sm", min_width=70, elem_classes="reuse")
    with gr.Accordion("Advanced", open=False):
        later = [name for name in hidden if name != "negative_prompt"]
        named |= {f"play_{name}": widget for name, widget in form.widgets(sampling, later).items()}
    named |= stacking.lay_out()
    named["generate"] = gr.Button("Generate", variant="primary")
    with gr.Accordion("Export", open=False):
        named["format"] = gr.Dropdown(choices("lora"), value=choices("lora")[0][1], label="Format")
        named["export"] = gr.Button("Export", size="md")
        named["exported"] = gr.File(label="Exported adapter", visible=False, interactive=False)


def _result(page: Page) -> None:
    named = page.named
    named["result"] = gr.HTML(panels.placeholder(EMPTY_RESULT), js_on_load=panels.COMPARE_SCRIPT)
    named["strength"] = gr.Slider(
        0,
        2.0,
        value=1.0,
        step=0.05,
        label="Adapter strength",
        info="1 is the adapter as trained, 0 disables it.",
        elem_id="play-strength",
    )
    named["play_full"] = full_flag()
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


def wire(page: Page, blocks: gr.Blocks) -> None:
    """Connect the events."""
    playground, named, layers = page.playground, page.named, stacking.Layers(page.monitor)
    asked = ["visitor", "shown", "strength", "recalled_steps", *stacking.FIELDS, *page.sampling]

    def contributions(shown: str, progress: Any, **fields: Any) -> dict[str, Any]:
        own = {name.removeprefix("play_"): value for name, value in fields.items()}
        return layers.contributions(shown, progress, **own)

    for event in (named["generate"].click, named["prompt"].submit):
        page.on(
            event,
            playground.generate,
            takes=asked,
            gives=GENERATED,
            concurrency_id="pictures",
            concurrency_limit=4,
            busy="result",
        )
    for name in ("generate", "first_generate"):
        named[name].click(None, js=TO_THE_PICTURE, api_visibility="private")
    sliders = ["strength", "second_strength"]
    follow(page, sliders, playground.redraw, takes=asked, gives=GENERATED, full="play_full")
    _wire_seed(page)
    _wire_history(page, blocks)
    page.on(
        named["export"].click, playground.export, takes=["shown", "format"], gives=["exported"], busy="format"
    )
    page.on(
        named["recall"].upload,
        playground.recall,
        takes=["recall"],
        gives=_restored(page),
        busy="recall",
    )
    page.on(named["blocks"].change, layers.elsewhere, takes=["blocks"], gives=["elsewhere"])
    page.on(named["stacking"].expand, layers.open, takes=["second"], gives=["second"])
    page.on(named["second"].input, playground.words_below, takes=["shown", "second"], gives=["prompt_hint"])
    for name in page.with_mirrors(["prompt"]):
        named[name].change(None, js=prompt_words.LOOK_AGAIN, api_visibility="private")
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


def _restored(page: Page) -> list[str]:
    """Return the widgets that a recalled picture sets."""
    return [*dict.fromkeys(("recall", "strength", "part", *stacking.FIELDS, *page.sampling, *WATCHED))]


def _wire_seed(page: Page) -> None:
    """Connect the buttons beside the seed; the browser does it, so that the number is there at once."""
    seed = page.named["seed"]
    for name, script in (("dice", RANDOM_SEED), ("reuse", SHOWN_SEED)):
        page.named[name].click(None, inputs=seed, outputs=seed, js=script, api_visibility="private")


def _wire_history(page: Page, blocks: gr.Blocks) -> None:
    playground, named = page.playground, page.named
    for strip in page.with_mirrors(["history"]):
        page.on(
            named[strip].choose,
            playground.show_kept,
            takes=["visitor", "shown"],
            gives=[*_restored(page), "history"],
            event_data="value",
        )
        page.on(
            named[strip].forget, playground.forget, takes=["visitor"], gives=["history"], event_data="value"
        )
    opened = ["history", "playground"]
    page.on(blocks.load, playground.opening_history, takes=["visitor"], gives=opened, **WATCHING)
