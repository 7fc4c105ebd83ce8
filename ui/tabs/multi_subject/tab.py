"""The tab Multi-subject: two or three subjects, one button, and views that show whether subjects stay separate."""

from functools import partial

import gradio as gr

from ui import forms as form
from ui.run import panels
from ui.tabs.multi_subject.handlers import FIELDS, MOST, NO_MIXES, OWN, MultiSubjectHandlers
from ui.tabs.train.handlers import EMPTY_FRAME
from ui.tabs.train.tab import photo_upload
from ui.wiring import WATCHED, WATCHING, Page, bound

EMPTY_RESULT = "Your subjects appear here together, and where the words of each look."
MIRRORED = ("start_row", "stop_row", "run_card", "progress", "strip", "loss", "compare", "caption")


def lay_out(page: Page, multi: MultiSubjectHandlers) -> None:
    """Create the widgets of this tab in the current Blocks context."""
    page.mirrors |= {OWN + name: name for name in MIRRORED}
    with gr.Row(elem_classes="page", equal_height=False):
        with gr.Column(scale=4, min_width=330, elem_id="multi-inputs", elem_classes="inputs"):
            _inputs(page, multi)
        with gr.Column(scale=8, min_width=330, elem_id="multi-stage", elem_classes="stage"):
            _stage(page)


def _inputs(page: Page, multi: MultiSubjectHandlers) -> None:
    named = page.named
    with gr.Column(elem_classes="card", elem_id="multi-card"):
        gr.HTML(panels.heading("1", "Choose two or three subjects"))
        sources = multi.sources()
        for place in range(MOST):
            if place < 2:
                _subject(page, multi, place, sources=sources)
            else:
                with gr.Accordion("A third subject", open=False):
                    _subject(page, multi, place, sources=sources)
        gr.HTML(panels.heading("2", "Train them together"))
        presets = multi.presets()
        named["multi_preset"] = gr.Dropdown(presets, value=presets[0], label="Preset")
        with gr.Accordion("Advanced", open=False):
            named |= {OWN + name: made for name, made in form.widgets(multi.config(), FIELDS).items()}
        with gr.Column(elem_classes="action"):
            with gr.Row() as named["multi_start_row"]:
                named["multi_start"] = gr.Button("Train together", variant="primary", elem_id="multi-start")
            with gr.Row(visible=False) as named["multi_stop_row"]:
                named["multi_stop"] = gr.Button(
                    "Stop and keep", variant="primary", size="md", elem_classes="stops"
                )


def _subject(page: Page, multi: MultiSubjectHandlers, place: int, *, sources: list[tuple[str, str]]) -> None:
    named = page.named
    source, noun, word = multi.opening(place)
    named[f"multi_source_{place}"] = gr.Dropdown(
        sources, value=source, label=f"Subject {place + 1}: photographs of", elem_id=f"multi-source-{place}"
    )
    with gr.Row():
        named[f"multi_noun_{place}"] = gr.Textbox(noun, label=f"Class {place + 1}", min_width=100)
        named[f"multi_word_{place}"] = gr.Textbox(word, label=f"Identifier {place + 1}", min_width=100)
    named[f"multi_upload_{place}"] = photo_upload(f"multi-upload-{place}")


def _stage(page: Page) -> None:
    named = page.named
    with gr.Column(elem_classes="card", elem_id="multi-showcase"):
        gr.HTML(panels.heading("", "Before and after", "The same prompt and the same seed."))
        with gr.Row(elem_classes="showcase-row", equal_height=False):
            with gr.Column(scale=6, min_width=300):
                named["multi_compare"] = gr.HTML(
                    panels.placeholder(EMPTY_FRAME), js_on_load=panels.COMPARE_SCRIPT
                )
            with gr.Column(scale=4, min_width=220):
                named["multi_caption"] = gr.HTML("")
    with gr.Column(elem_classes="card", visible=False, elem_id="multi-run") as named["multi_run_card"]:
        named["multi_progress"] = gr.HTML("")
        named["multi_strip"] = gr.HTML("")
        named["multi_loss"] = gr.HTML("")
    with gr.Column(elem_classes="card", elem_id="multi-mixes"):
        gr.HTML(panels.heading("", "Learned from", "Mixed pictures, their halves and their prompts."))
        named["multi_mixes"] = gr.HTML(panels.hint(NO_MIXES))
        named["multi_views"] = gr.HTML("")
    with gr.Column(elem_classes="card", elem_id="multi-play"):
        gr.HTML(
            panels.heading(
                "",
                "Together",
                "Use a prompt that differs from the training prompts, or generate each subject alone. "
                "Presets are not tuned yet: subjects may blend.",
            )
        )
        with gr.Row():
            named["multi_prompt"] = gr.Dropdown(
                [], value="", allow_custom_value=True, label="Prompt", scale=4
            )
            named["multi_seed"] = gr.Number(0, label="Seed", precision=0, minimum=0, min_width=90)
        named["multi_generate"] = gr.Button("Make a picture", variant="primary")
        named["multi_result"] = gr.HTML(panels.placeholder(EMPTY_RESULT))
        named["multi_told"] = gr.HTML("")


def wire(page: Page, multi: MultiSubjectHandlers) -> None:
    """Connect the events of this tab."""
    named = page.named
    asked = [
        f"multi_{what}_{place}" for place in range(MOST) for what in ("source", "noun", "word", "upload")
    ]
    for place in range(MOST):
        page.on(
            named[f"multi_source_{place}"].input,
            lambda place=place, **given: multi.choose_source(place, given[f"multi_source_{place}"]),
            takes=[f"multi_source_{place}"],
            gives=[f"multi_{what}_{place}" for what in ("noun", "word", "upload")],
        )
        page.on(
            named[f"multi_source_{place}"].focus,
            bound(multi.offer_sources_of, place),
            gives=[f"multi_source_{place}"],
        )
    fields = [OWN + name for name in FIELDS]
    page.on(named["multi_preset"].input, multi.choose_preset, takes=["multi_preset"], gives=fields)
    page.on(
        named["multi_start"].click,
        multi.start,
        takes=[*asked, "multi_preset", *fields],
        gives=["prompt", "seed", *WATCHED],
    )
    page.on(named["multi_stop"].click, page.train.stop, takes=["shown"], gives=WATCHED)
    page.on(
        partial(gr.on, [named["news"].change, named["shown"].change]),
        multi.watch,
        takes=["shown"],
        gives=["multi_mixes", "multi_views", "multi_prompt"],
        **WATCHING,
    )
    page.on(
        named["multi_generate"].click,
        lambda shown, multi_prompt, multi_seed: multi.generate(shown, multi_prompt, multi_seed),
        takes=["shown", "multi_prompt", "multi_seed"],
        gives=["multi_result", "multi_told"],
        concurrency_id="pictures",
        busy="multi_result",
    )
