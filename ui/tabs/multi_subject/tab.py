"""The tab Multi-subject: two or three subjects, one button, and views that show whether subjects stay separate."""

from functools import partial

import gradio as gr

from ui import forms as form
from ui.html import Html
from ui.run import panels
from ui.tabs.multi_subject.handlers import FIELDS, MOST, OWN, MultiSubjectHandlers
from ui.tabs.train.photos import upload_tiles, wire_upload
from ui.tabs.train.tab import photo_upload
from ui.wiring import SUBJECT, WATCHED, WATCHING, Page, bound

MIRRORED = ("start_row", "stop_row", "run_card", "progress", "strip", "loss")
SHOWN = ["multi_result", "multi_mixes", "multi_views"]
ASKED = [f"multi_{what}_{place}" for place in range(MOST) for what in ("source", "noun", "word", "upload")]
FORM = [*ASKED, "multi_base", "multi_preset", *(OWN + name for name in FIELDS)]


def lay_out(page: Page, multi: MultiSubjectHandlers) -> None:
    """Create the widgets of this tab in the current Blocks context."""
    page.mirrors |= {OWN + name: name for name in MIRRORED}
    with gr.Row(elem_classes="page", equal_height=False):
        with gr.Column(scale=4, min_width=330, elem_id="multi-inputs", elem_classes="inputs"):
            _inputs(page, multi)
        with gr.Column(scale=8, min_width=330, elem_id="multi-stage", elem_classes="stage"):
            _stage(page, multi)


def _inputs(page: Page, multi: MultiSubjectHandlers) -> None:
    named = page.named
    base = next(iter(multi.bases))
    with gr.Column(elem_classes="card form-card", elem_id="multi-card"):
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
            named["multi_base"] = gr.Dropdown(
                [(facts.name, spec) for spec, facts in multi.bases.items()], value=base, label="Base model"
            )
            named["multi_needs"] = gr.HTML(panels.base_needs(multi.bases[base]))
            named |= {OWN + name: made for name, made in form.widgets(multi.config(), FIELDS).items()}
        with gr.Column(elem_classes="action"):
            named["multi_cost"] = gr.HTML(_opening_cost(multi))
            with gr.Row() as named["multi_start_row"]:
                named["multi_start"] = gr.Button("Train together", variant="primary", elem_id="multi-start")
            with gr.Row(visible=False) as named["multi_stop_row"]:
                named["multi_stop"] = gr.Button(
                    "Stop and keep", variant="primary", size="md", elem_classes="stops"
                )
                named["multi_start_next"] = gr.Button("Add to the queue", size="md")


def _opening_cost(multi: MultiSubjectHandlers) -> Html:
    """Return the initial cost estimate."""
    values = {f"multi_upload_{place}": None for place in range(MOST)}
    for place in range(MOST):
        found = multi.opening(place)
        values |= dict(
            zip((f"multi_{what}_{place}" for what in ("source", "noun", "word")), found, strict=True)
        )
    fields = multi.choose_preset(multi.presets()[0])
    base = {"multi_base": next(iter(multi.bases)), "multi_preset": multi.presets()[0]}
    return multi.cost(**values, **base, **fields)["multi_cost"]


def _subject(page: Page, multi: MultiSubjectHandlers, place: int, *, sources: list[tuple[str, str]]) -> None:
    named = page.named
    source, noun, word = multi.opening(place)
    with gr.Column(elem_classes="subject"):
        named[f"multi_source_{place}"] = gr.Dropdown(
            sources,
            value=source,
            label=f"Subject {place + 1}: photographs of",
            elem_id=f"multi-source-{place}",
        )
        named[f"multi_upload_{place}"] = photo_upload(f"multi-upload-{place}")
        named[f"multi_upload_{place}_tiles"] = upload_tiles()
        with gr.Row(elem_classes="words"):
            named[f"multi_noun_{place}"] = gr.Textbox(
                noun, label="What is it?", placeholder="person, dog …", min_width=100
            )
            named[f"multi_word_{place}"] = gr.Textbox(
                word, label="Trigger word", placeholder="a rare word", min_width=100
            )


def _stage(page: Page, multi: MultiSubjectHandlers) -> None:
    named, first = page.named, multi.figures(multi.run_of(""))
    with gr.Column(elem_classes="card", elem_id="multi-play"):
        _play(page, multi, result=first["multi_result"])
    with (
        gr.Column(visible=False, elem_id="multi-run-part") as named["multi_run_part"],
        gr.Column(elem_classes="card", visible=False, elem_id="multi-run") as named["multi_run_card"],
    ):
        named["multi_progress"] = gr.HTML("")
        named["multi_strip"] = gr.HTML("")
        named["multi_loss"] = gr.HTML("")
    with gr.Column(elem_classes="card", elem_id="multi-mixes"):
        gr.HTML(
            panels.heading(
                "", "Learned from", "Cut-mixed training pictures: each subject's region, and the prompt."
            )
        )
        named["multi_mixes"] = gr.HTML(first["multi_mixes"])
    with gr.Column(elem_classes="card", elem_id="multi-leakage"):
        gr.HTML(panels.heading("", "Leakage", "Attention that leaves a subject's own half."))
        named["multi_views"] = gr.HTML(first["multi_views"])


def _play(page: Page, multi: MultiSubjectHandlers, *, result: Html) -> None:
    named, runs, run = page.named, multi.runs(), multi.run_of("")
    opening = multi.watch("") if run else {}
    with gr.Row(equal_height=True, elem_id="multi-head"):
        gr.HTML(panels.heading("", "Together", "Several subjects in one picture, each itself."))
        named["multi_runs"] = gr.Dropdown(
            runs, value=run or None, label="Show run", min_width=220, scale=0, elem_id="multi-runs"
        )
    named["multi_result"] = gr.HTML(result)
    with gr.Row(elem_classes="prompt-row"):
        prompt = opening.get("multi_prompt", {"choices": [], "value": ""})
        named["multi_prompt"] = gr.Dropdown(
            prompt["choices"],
            value=prompt["value"],
            allow_custom_value=True,
            label="Prompt",
            info="Choose a suggestion or write your own; word it unlike the training prompts.",
            scale=4,
            elem_id="multi-prompt",
        )
        named["multi_seed"] = gr.Number(0, label="Seed", precision=0, minimum=0, min_width=90)
    with gr.Row():
        named["multi_generate"] = gr.Button("Generate", variant="primary", elem_id="multi-generate")
    with gr.Row(visible=False) as named["multi_again_row"]:
        named["multi_again"] = gr.Button(
            "Train the same without Unmix, to compare", size="sm", elem_classes="quiet"
        )


def wire(page: Page, multi: MultiSubjectHandlers, blocks: gr.Blocks) -> None:
    """Connect the events of this tab."""
    _wire_subjects(page, multi)
    _wire_settings(page, multi)
    named = page.named
    for button in ("multi_start", "multi_start_next"):
        page.on(named[button].click, multi.start, takes=[*FORM, "shown"], gives=["prompt", "seed", *WATCHED])
    page.on(named["multi_stop"].click, page.train.stop, takes=["shown"], gives=WATCHED)
    page.on(named["multi_again"].click, multi.again, takes=["shown"], gives=["multi_again_row"])
    page.on(
        named["multi_runs"].input,
        lambda multi_runs: page.monitor.show_run(multi_runs),
        takes=["multi_runs"],
        gives=WATCHED,
    )
    page.on(
        partial(gr.on, [blocks.load, named["news"].change, named["shown"].change]),
        multi.watch,
        takes=["shown"],
        gives=[*SHOWN, "multi_runs", "multi_prompt", "multi_run_part", "multi_again_row"],
        **WATCHING,
    )
    page.on(
        named["multi_generate"].click,
        lambda shown, multi_prompt, multi_seed, progress: multi.generate(
            shown, multi_prompt, multi_seed, progress
        ),
        takes=["shown", "multi_prompt", "multi_seed"],
        gives=["multi_result"],
        concurrency_id="pictures",
        busy="multi_result",
        reports_progress=True,
    )


def _wire_subjects(page: Page, multi: MultiSubjectHandlers) -> None:
    named = page.named
    for place in range(MOST):
        source, upload = f"multi_source_{place}", f"multi_upload_{place}"
        words = [f"multi_{what}_{place}" for what in ("noun", "word")]
        page.on(
            named[source].input,
            lambda place=place, source=source, **given: multi.choose_source(place, given[source]),
            takes=[source],
            gives=[*words, upload],
        )
        page.on(named[source].focus, bound(multi.offer_sources_of, place), gives=[source])
        wire_upload(page, upload)
        page.on(
            named[upload].upload,
            lambda place=place, upload=upload, multi_base="", **given: multi.choose_upload(
                place, given.pop(upload), multi_base, **given
            ),
            takes=[upload, "multi_base", *(f"multi_word_{other}" for other in range(MOST))],
            gives=[source, *words, OWN + "mask_background", OWN + "background_weight"],
            **SUBJECT,
        )


def _wire_settings(page: Page, multi: MultiSubjectHandlers) -> None:
    named, fields = page.named, [OWN + name for name in FIELDS]
    page.on(
        named["multi_preset"].input,
        multi.choose_preset,
        takes=["multi_preset", "multi_base"],
        gives=fields,
    )
    page.on(
        named["multi_base"].input,
        multi.choose_base,
        takes=["multi_base"],
        gives=[*fields, "multi_preset", "multi_needs"],
    )
    changed = [named[name].change for name in FORM if "upload" not in name]
    uploaded = [event for place in range(MOST) for event in (named[f"multi_upload_{place}"].change,)]
    page.on(
        partial(gr.on, [*changed, *uploaded]),
        multi.cost,
        takes=FORM,
        gives=["multi_cost"],
        trigger_mode="always_last",
        **WATCHING,
    )
