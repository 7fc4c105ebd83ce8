"""The tab Edit: one photograph is learned, then edited by words."""

from functools import partial
from typing import Any

import gradio as gr

from pipelines.config import EditConfig
from ui import forms as form
from ui.run import panels
from ui.tabs.edit.handlers import ASKED, FIELDS, MOST_SUGGESTIONS, OWN, EditHandlers
from ui.tabs.train.tab import PICTURE_TYPES
from ui.wiring import WATCHED, WATCHING, Page, bound

MIRRORED = {OWN + name: name for name in ("start_row", "stop_row", "run_card", "progress", "loss")} | {
    OWN + "samples": "strip"
}
ASK = OWN + "ask_"
VISIBLE = ("prompt", "change")  # fields of an edit outside "Advanced"
OFFERS = [f"edit_offer_{place}" for place in range(MOST_SUGGESTIONS)]
OPENED = ["edit_run", "edit_asked", *OFFERS, *(ASK + name for name in ASKED)]
PICTURES: dict[str, Any] = {"concurrency_id": "pictures"}


def lay_out(page: Page, edits: EditHandlers) -> None:
    """Create the widgets of this tab in the current Blocks context."""
    page.mirrors |= MIRRORED
    known = edits.runs()
    config, asked, offered = edits.opening(known[0][1] if known else "")
    page.named["edit_asked"] = gr.JSON(asked, visible=False)
    shown = edits.show(asked)
    with gr.Row(elem_classes="page", equal_height=False):
        with gr.Column(scale=4, min_width=330, elem_id="edit-inputs", elem_classes="inputs"):
            _learning(page, edits)
            _editing(page, known, config, offered)
        with gr.Column(scale=8, min_width=330, elem_id="edit-stage", elem_classes="stage"):
            _stage(page, shown)


def _learning(page: Page, edits: EditHandlers) -> None:
    named = page.named
    with gr.Column(elem_classes="card", elem_id="edit-learn-card"):
        gr.HTML(panels.heading("1", "Learn one photograph"))
        named["edit_source"] = gr.Dropdown(edits.sources(), value=None, label="A photograph of an example")
        named["edit_upload"] = gr.File(
            label="Your own photograph",
            file_count="single",
            file_types=PICTURE_TYPES,
            type="filepath",
            elem_id="edit-upload",
            elem_classes="drop one-photo",
        )
        named["edit_square"] = gr.HTML("")
        named["edit_caption"] = gr.Textbox(
            "",
            label="Caption",
            info="What it shows, in plain words.",
            placeholder="a photo of a dog in the forest",
        )
        if words := edits.words():
            gr.HTML(panels.hint(words))
        presets = edits.presets()
        with gr.Accordion("Advanced", open=False):
            named["edit_preset"] = gr.Dropdown(presets, value=presets[0], label="Preset")
            named |= {OWN + name: made for name, made in form.widgets(edits.config(), FIELDS).items()}
        with gr.Column(elem_classes="action"):
            with gr.Row() as named["edit_start_row"]:
                named["edit_learn"] = gr.Button(
                    "Learn this photograph", variant="primary", elem_id="edit-learn"
                )
            with gr.Row(visible=False) as named["edit_stop_row"]:
                named["edit_stop"] = gr.Button(
                    "Stop and keep", variant="primary", size="md", elem_classes="stops"
                )


def _editing(
    page: Page, known: list[tuple[str, str]], config: EditConfig, offered: list[tuple[str, str]]
) -> None:
    named = page.named
    labels = [label for label, _ in offered]
    with gr.Column(elem_classes="card", elem_id="edit-edit-card"):
        gr.HTML(panels.heading("2", "Edit it"))
        named["edit_run"] = gr.Dropdown(
            known, value=known[0][1] if known else None, label="Learned photograph"
        )
        named |= {ASK + name: made for name, made in form.widgets(config, VISIBLE).items()}
        with gr.Row(elem_classes="edit-offers"):
            for place, name in enumerate(OFFERS):
                label = labels[place] if place < len(labels) else ""
                named[name] = gr.Button(label, size="sm", visible=bool(label), min_width=80)
        with gr.Accordion("Advanced", open=False):
            rest = [name for name in ASKED if name not in VISIBLE]
            named |= {ASK + name: made for name, made in form.widgets(config, rest).items()}
        named["edit_make"] = gr.Button("Edit", variant="primary", elem_id="edit-make")


def _stage(page: Page, shown: dict[str, Any]) -> None:
    named = page.named
    with gr.Column(elem_classes="card", elem_id="edit-showcase"):
        gr.HTML(panels.heading("", "The edit", "The reconstruction shows what the inversion keeps."))
        named["edit_result"] = gr.HTML(shown["edit_result"])
        named["edit_told"] = gr.HTML(shown["edit_told"])
    with gr.Column(elem_classes="card", elem_id="edit-strip-card"):
        gr.HTML(
            panels.heading(
                "",
                "From keep to change",
                "The same edit from the photograph's own noise (0) to fresh noise (1).",
            )
        )
        named["edit_strip"] = gr.HTML(shown["edit_strip"])
    with gr.Column(elem_classes="card", visible=False, elem_id="edit-run") as named["edit_run_card"]:
        named["edit_progress"] = gr.HTML("")
        named["edit_loss"] = gr.HTML("")
        named["edit_samples"] = gr.HTML("")


def wire(page: Page, edits: EditHandlers, *, opened: Any) -> None:
    """Connect the events of this tab; ``opened`` is the event of selecting it."""
    named = page.named
    photo = ["edit_upload", "edit_source"]
    for name, other in (("edit_upload", "edit_source"), ("edit_source", "edit_upload")):
        event = named[name].upload if name == "edit_upload" else named[name].input
        page.on(
            event,
            lambda name=name, other=other, **given: (
                {other: None} | edits.choose_photograph(**({other: None} | {name: given[name]}))
            ),
            takes=[name],
            gives=[other, "edit_square", "edit_caption"],
        )
    page.on(
        named["edit_preset"].input,
        edits.choose_preset,
        takes=["edit_preset"],
        gives=[OWN + name for name in FIELDS],
    )
    page.on(
        named["edit_learn"].click,
        edits.learn,
        takes=[*photo, "edit_caption", "edit_preset", "shown", *(OWN + name for name in FIELDS)],
        gives=[*WATCHED, *OPENED],
    )
    page.on(named["edit_stop"].click, page.train.stop, takes=["shown"], gives=WATCHED)
    page.on(
        partial(gr.on, [named["news"].change, named["shown"].change, opened]),
        edits.follow,
        takes=["shown", "edit_run"],
        gives=OPENED,
        **WATCHING,
    )
    page.on(named["edit_run"].input, edits.choose_run, takes=["edit_run"], gives=[*WATCHED, *OPENED])
    _wire_edits(page, edits)


def _wire_edits(page: Page, edits: EditHandlers) -> None:
    """Connect the edit, and what follows it: each part is shown when it is made, for the edit that was asked last."""
    named = page.named
    asked = ["edit_run", *(ASK + name for name in ASKED)]
    for event in (named["edit_make"].click, named[ASK + "prompt"].submit, named[ASK + "change"].release):
        page.on(event, edits.edit, takes=asked, gives=["edit_asked"], busy="edit_result", **PICTURES)
    for place, name in enumerate(OFFERS):
        page.on(
            named[name].click,
            bound(edits.suggested, place),
            takes=asked,
            gives=["edit_asked", ASK + "prompt"],
            busy="edit_result",
            **PICTURES,
        )
    given = ["edit_result", "edit_told", "edit_strip"]
    changed = named["edit_asked"].change
    page.on(changed, edits.show, takes=["edit_asked"], gives=given, **WATCHING)
    for further in (edits.untrained, edits.strip):
        made = page.on(changed, further, takes=["edit_asked"], gives=[], **PICTURES)
        page.on(made.then, edits.show, takes=["edit_asked"], gives=given, **WATCHING)
