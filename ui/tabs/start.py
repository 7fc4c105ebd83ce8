"""The tab Start: choose a subject, name it, personalize it, generate; two clicks are enough."""

from typing import Any

import gradio as gr

from ui.run import panels, prompt_words
from ui.run.monitor import EMPTY_RESULT
from ui.run.state import RunView
from ui.tabs.train import history
from ui.tabs.train.handlers import EMPTY_FRAME
from ui.tabs.train.playground_handlers import GENERATED
from ui.tabs.train.tab import (
    example_button,
    opening_cost,
    photo_upload,
    real_base_button,
    wire_real_base,
    wire_suit,
)
from ui.wiring import SQUARES, SUBJECT, WATCHED, Page, bound

TO_THE_RESULT = (
    "() => innerWidth < 900 && setTimeout(() => "
    "document.getElementById('first-stage')?.scrollIntoView({behavior: 'smooth'}), 900)"
)


def lay_out(page: Page, *, first: RunView | None) -> None:
    """Create the widgets of this tab in the current Blocks context; ``first`` is the run that it shows first."""
    named = page.named
    named["guide"] = gr.HTML(panels.guide(1), elem_id="guide")
    with gr.Row(elem_classes="page", equal_height=False):
        with gr.Column(scale=4, min_width=330, elem_id="first-inputs", elem_classes="inputs"):
            _inputs(page)
        with gr.Column(scale=8, min_width=330, elem_id="first-stage", elem_classes="stage"):
            _stage(page, first=first)


def _inputs(page: Page) -> None:
    train, named = page.train, page.named
    opening = next(iter(train.examples), None)
    with gr.Column(elem_classes="card subject"):
        gr.HTML(panels.heading("1", "Choose a subject", "One of these, or your own photographs."))
        with gr.Row(elem_classes="examples"):
            for name, example in train.examples.items():
                named[f"first_example_{name}"] = example_button(train, example, chosen=name == opening)
                page.mirrors[f"first_example_{name}"] = f"example_{name}"
        named["first_upload"] = photo_upload("first-upload")
        named["squares"] = gr.HTML("")
        with gr.Column(visible=False, elem_classes="limits") as named["first_limits_row"]:
            named["first_limits"] = gr.HTML("")
            named["first_real_base"] = real_base_button()
        gr.HTML(panels.heading("2", "Name it"))
        named["first_noun"] = gr.Textbox(
            train.examples[opening]["class_noun"] if opening else "",
            label="What is it?",
            placeholder="person, dog, teapot …",
            info="A common word for its class.",
            elem_id="first-noun",
            elem_classes="typed-class_noun",
        )
        gr.HTML(panels.heading("3", "Personalize"), elem_classes="above-action")
        with gr.Column(elem_classes="action"):
            named["first_cost"] = gr.HTML(opening_cost(train))
            with gr.Row() as named["first_start_row"]:
                named["first_start"] = gr.Button(
                    "Personalize", variant="primary", elem_id="first-personalize"
                )
            with gr.Row(visible=False) as named["first_stop_row"]:
                named["first_stop"] = gr.Button(
                    "Stop and keep", variant="primary", size="md", elem_classes="stops"
                )
    page.mirrors |= {
        "first_upload": "upload",
        "first_noun": "class_noun",
        "first_cost": "cost",
        "first_limits_row": "limits_row",
        "first_limits": "limits",
        "first_start_row": "start_row",
        "first_stop_row": "stop_row",
    }


def _stage(page: Page, *, first: RunView | None) -> None:
    named = page.named
    opening: dict[str, Any] = page.monitor.comparison(first) if first else {}
    with gr.Column(elem_classes="card", elem_id="first-showcase"):
        named["first_advice"] = gr.HTML("")
        named["first_compare"] = gr.HTML(
            opening.get("compare") or panels.placeholder(EMPTY_FRAME), js_on_load=panels.COMPARE_SCRIPT
        )
        with gr.Row(equal_height=False, elem_classes="showcase-facts"):
            with gr.Column(scale=5, min_width=300):
                named["first_caption"] = gr.HTML(opening.get("caption", ""))
            with gr.Column(scale=5, min_width=300):
                shown = panels.learned_from(first, copies=page.monitor.copies) if first else ""
                named["first_photos"] = gr.HTML(shown)
    with gr.Column(elem_classes="card", visible=False, elem_id="first-run") as named["first_run_card"]:
        named["first_progress"] = gr.HTML("")
        named["first_strip"] = gr.HTML("")
    with gr.Column(elem_classes="card acts-together", visible=False, elem_id="first-play") as named[
        "first_playground"
    ]:
        gr.HTML(panels.heading("4", "Generate", "Any prompt; the same seed gives the same picture."))
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=280):
                named["first_prompt"] = gr.Textbox(
                    "", label="Prompt", info="What the picture shows.", max_lines=2
                )
                named["first_prompt"].elem_classes = ["typed-prompt"]
                named["first_prompt_hint"] = gr.HTML("", js_on_load=prompt_words.SCRIPT)
                named["first_generate"] = gr.Button("Generate", variant="primary")
            with gr.Column(scale=6, min_width=300, elem_id="first-result"):
                named["first_result"] = gr.HTML(
                    panels.placeholder(EMPTY_RESULT), js_on_load=panels.COMPARE_SCRIPT
                )
                named["first_result_caption"] = gr.HTML("")
        named["first_history"] = gr.HTML("", js_on_load=history.SCRIPT)
    for name in (
        "advice",
        "compare",
        "photos",
        "caption",
        "run_card",
        "progress",
        "strip",
        "playground",
        "prompt",
        "prompt_hint",
        "history",
    ):
        page.mirrors[f"first_{name}"] = name
    page.mirrors |= {"first_result": "result", "first_result_caption": "result_caption"}


def wire(page: Page) -> None:
    """Connect the events of this tab; the tab Train shows the same run."""
    train, named = page.train, page.named
    cards = [f"example_{name}" for name in train.examples]
    subject = ["source", "class_noun", "identifier", *SQUARES, "guide", *cards]
    for name in train.examples:
        click = page.on(
            named[f"first_example_{name}"].click,
            bound(train.choose_example, name),
            gives=["upload", "prompt", "seed", "imported", *subject],
            **SUBJECT,
        )
        page.on(click.then, bound(train.show_example, name), gives=WATCHED, **SUBJECT)
        wire_suit(page, click.then)
    _wire_upload(page, named["first_upload"].upload, gives=[*dict.fromkeys((*subject, "upload", *WATCHED))])
    asked = ["source", "plan", "base", *page.training]
    with_noun = ["first_noun" if name == "class_noun" else name for name in asked]

    def start(first_noun: str, **fields: Any) -> dict[str, Any]:
        if not first_noun.strip():
            raise ValueError(
                "The name is empty; enter a common word for its class, such as person, dog or teapot."
            )
        return {"class_noun": first_noun} | train.start(class_noun=first_noun, **fields)

    page.on(
        named["first_start"].click,
        start,
        takes=[*with_noun, "presentation", "found_masks", "photo", "photo_caption", "shown"],
        gives=["source", "prompt", "seed", "class_noun", *WATCHED],
    )
    named["first_start"].click(None, js=TO_THE_RESULT, api_visibility="private")
    page.on(named["first_stop"].click, train.stop, takes=["shown"], gives=WATCHED)
    page.on(
        named["first_noun"].input,
        lambda first_noun: {"guide": panels.guide(3 if first_noun.strip() else 2)},
        takes=["first_noun"],
        gives=["guide"],
    )
    here, there = named["first_noun"], named["class_noun"]
    prompt, first_prompt = named["prompt"], named["first_prompt"]
    for event, origin, copy in (
        (here.change, here, there),
        (there.input, there, here),
        (there.blur, there, here),
        (first_prompt.input, first_prompt, prompt),
        (first_prompt.blur, first_prompt, prompt),
        (prompt.input, prompt, first_prompt),
        (prompt.blur, prompt, first_prompt),
    ):
        event(None, inputs=origin, outputs=copy, js="(word) => word", api_visibility="private")
    wire_real_base(page, named["first_real_base"])
    _wire_play(page)


def _wire_upload(page: Page, event: Any, *, gives: list[str]) -> None:
    train = page.train

    def choose(first_upload: list[str] | None, **known: Any) -> dict[str, Any]:
        return train.choose_files(first_upload, **known)

    taken = page.on(
        event,
        choose,
        takes=["first_upload", "source", "base", "imported", "shown"],
        gives=gives,
        busy="first_upload",
        **SUBJECT,
    )
    page.on(taken.success, train.identifiers, takes=["base", "identifier"], gives=["identifier"])
    wire_suit(page, taken.success)


def _wire_play(page: Page) -> None:
    playground, named = page.playground, page.named

    def generate(first_prompt: str, **asked: Any) -> dict[str, Any]:
        return playground.generate(prompt=first_prompt, **asked)

    settings = [name for name in page.sampling if name != "prompt"]
    for event in (named["first_generate"].click, named["first_prompt"].submit):
        page.on(
            event,
            generate,
            takes=["visitor", "shown", "first_prompt", "strength", *settings],
            gives=GENERATED,
            concurrency_id="pictures",
            concurrency_limit=4,
            busy="first_result",
        )
