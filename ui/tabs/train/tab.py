"""The tab Train: every setting of a run, its samples and loss during training, and a playground for the result."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr
from gradio.components import Component

from pipelines.config import SubjectConfig
from pipelines.data.photographs import MAX_PHOTOS
from pipelines.methods.specs import method_config
from ui import forms as form
from ui.html import Html
from ui.run import charts as plots
from ui.run import panels
from ui.run.monitor import FORGET
from ui.run.replay import SPEEDS
from ui.run.state import RunView
from ui.tabs.train import captions as tagging
from ui.tabs.train import masks as masking
from ui.tabs.train import photos as photo_tiles
from ui.tabs.train import playground
from ui.tabs.train.handlers import DELETE, EMPTY_FRAME, TrainHandlers, card
from ui.wiring import SQUARES, SUBJECT, WATCHED, WATCHING, Page, bound

PICTURE_TYPES = [".jpg", ".jpeg", ".png", ".webp", ".zip"]
# On a narrow screen the results are below the form, so the page scrolls to them.
TO_THE_STAGE = (
    "() => innerWidth < 900 && setTimeout(() => "
    "document.getElementById('run-card')?.scrollIntoView({behavior: 'smooth'}), 900)"
)

TO_THE_BASES = "() => window.atelierBase()"  # as the chip in the header
NAME_THE_BASE = (  # the chip in the header names the chosen base
    "() => setTimeout(() => { const told = document.querySelector('#page-train .base-needs')?.dataset.base;"
    " const chip = document.querySelector('.chip.base'); if (told && chip) chip.textContent = told; }, 0)"
)
MASKING = [
    "mask_background",
    "background_weight",
    "scenes",
]  # fields that differ between own photographs and examples


def lay_out(page: Page, *, first: RunView | None) -> None:
    """Create the widgets of this tab in the current Blocks context; ``first`` is the run that it shows first."""
    with gr.Row(elem_classes="page", equal_height=False):
        with gr.Column(scale=4, min_width=330, elem_id="inputs", elem_classes="inputs"):
            _inputs(page)
        with gr.Column(scale=8, min_width=330, elem_id="stage", elem_classes="stage"):
            _stage(page, first=first)
            _run_card(page)
            playground.lay_out(page)


def wire(page: Page) -> None:
    """Connect the events of this tab."""
    _wire_subject(page)
    _wire_run(page)
    _wire_replay(page)


def _inputs(page: Page) -> None:
    train, named = page.train, page.named
    base = next(iter(train.bases))
    method = train.methods()[0][1]
    plans = train.plans(base, method)
    config = opening_config(train)
    opening = next(iter(train.examples), None)
    with gr.Column(elem_classes="card form-card", elem_id="subject-card"):
        named["base"] = gr.Dropdown(
            [(facts.name, spec) for spec, facts in train.bases.items()],
            value=base,
            allow_custom_value=True,
            label="Base model",
            info="Choose one, or type a folder, a .safetensors file or a Hub id.",
            elem_id="base-model",
        )
        named["needs"] = gr.HTML(panels.base_needs(train.bases[base]))
        gr.HTML(panels.heading("1", "Choose a subject"))
        with gr.Row(elem_classes="examples"):
            for name, example in train.examples.items():
                named[f"example_{name}"] = example_button(train, example, chosen=name == opening)
        named["upload"] = photo_upload("upload")
        _photographs(page)
        gr.HTML(panels.heading("2", "Personalize it"))
        named |= _words(page, config=config)
        _method_and_preset(page, plans=plans)
        named["which_method"] = gr.Button(
            "Not sure which? Try every method on these photographs", size="sm", elem_classes="quiet"
        )
        with gr.Accordion("Advanced", open=False, elem_id="advanced") as named["advanced_part"]:
            _advanced_fields(page, config=config, method=method)
            _own_preset(page)
        with gr.Column(elem_classes="action"):
            named["cost"] = gr.HTML(opening_cost(train))
            with gr.Row() as named["start_row"]:
                named["start"] = gr.Button("Personalize", variant="primary", elem_id="personalize")
            with gr.Column(visible=False, elem_id="stop-row") as named["stop_row"]:
                with gr.Row():
                    named["stop"] = gr.Button(
                        "Stop and keep", variant="primary", min_width=100, size="md", elem_classes="stops"
                    )
                    named["drop"] = gr.Button("Discard", min_width=80, size="md")
                with gr.Row(elem_classes="asides"):
                    named["sample_now"] = gr.Button("Sample now", min_width=80, size="sm")
                    named["save_now"] = gr.Button("Save now", min_width=80, size="sm")
                    named["stop_later"] = gr.Button("Stop at the next checkpoint", min_width=100, size="sm")
                    named["start_next"] = gr.Button("Add to the queue", min_width=100, size="sm")


def _method_and_preset(page: Page, *, plans: list[tuple[str, str]]) -> None:
    """Create the choices of method and preset, each with a line that says what it is and what it costs."""
    train, named = page.train, page.named
    opening = opening_costs(train)
    with gr.Row(elem_id="method-and-preset"):
        methods = train.methods()
        named["method"] = gr.Dropdown(methods, value=methods[0][1], label="Method", min_width=130)
        named["plan"] = gr.Dropdown(
            plans,
            value=plans[0][1],
            label="Preset",
            min_width=130,
            allow_custom_value=True,  # Gradio must not refuse an event that was sent before the choices changed
        )
        named["plan"].filterable = False  # nothing can be typed; Gradio warns of this in the constructor
    named["method_told"] = gr.HTML(opening["method_told"])
    named["preset_told"] = gr.HTML(opening["preset_told"])
    named["delete_preset"] = gr.Button(DELETE, size="sm", visible=False, elem_classes="quiet")


def _own_preset(page: Page) -> None:
    """Create the fields that save the current settings as the user's own preset."""
    with gr.Row(elem_id="own-preset", equal_height=True):
        page.named["own_name"] = gr.Textbox(
            "",
            label="Save these settings as a preset",
            placeholder="a name",
            max_lines=1,
            max_length=40,
            scale=3,
        )
        page.named["save_preset"] = gr.Button("Save", size="md", min_width=80, scale=1)


def _advanced_fields(page: Page, *, config: Any, method: str) -> None:
    """Create the advanced fields in groups: those of each method (visible for the chosen one), and the common ones."""
    behind = form.field_names(SubjectConfig, advanced=True)
    with gr.Tabs(elem_id="advanced-groups"):
        for group, title in form.GROUP_TITLES.items():
            with gr.Tab(title, id=group, render_children=True):
                _own_rows(page, config=config, method=method, group=group)
                names = [name for name in behind if form.group_of(SubjectConfig, name) == group]
                with gr.Row(elem_classes="settings"):
                    made = form.widgets(config, names)
                page.named |= {form.common_name(name): widget for name, widget in made.items()}
    page.training += map(form.common_name, form.field_names(SubjectConfig))
    page.advanced += map(form.common_name, behind)
    page.kept |= {"identifier", "photo_caption", "photo_repeats", "common_tags", "own_name"}


def _own_rows(page: Page, *, config: Any, method: str, group: str) -> None:
    for name, row in form.own_rows("train").items():
        if row.group != group:
            continue
        visible = method in row.methods
        with gr.Row(elem_classes="settings", visible=visible) as page.named[name]:
            made = form.widgets(config if visible else method_config(row.methods[0])(), row.widgets)
        page.named |= {row.widgets[field]: widget for field, widget in made.items()}
        page.training += row.widgets.values()
        page.advanced += [name, *row.widgets.values()]


def opening_config(train: TrainHandlers) -> Any:
    """Return the initial config: the quickest preset for the first example."""
    base = next(iter(train.bases))
    _, config = train.chosen_preset(train.plans(base)[0][1], base)
    first = next(iter(train.examples.values()), None)
    return (
        replace(config, class_noun=first["class_noun"], identifier=first["identifier"]) if first else config
    )


def example_button(train: TrainHandlers, example: dict[str, Any], *, chosen: bool) -> gr.Button:
    """Create the button that chooses a shipped example."""
    icon = train.copies.copy(example["photos"][0])
    return gr.Button(example["title"], icon=icon, elem_classes=card(chosen))


def photo_upload(elem_id: str) -> gr.File:
    """Create the upload field for photographs."""
    return gr.File(
        label=f"Your own photographs: 1 to {MAX_PHOTOS}, or a zip",
        file_count="multiple",
        file_types=PICTURE_TYPES,
        type="filepath",
        elem_id=elem_id,
        elem_classes="drop photos",
    )


def real_base_button() -> gr.Button:
    """Create the button that leads to the choice of the base model."""
    return gr.Button("Choose another base model", size="sm", elem_classes="quiet")


def wire_real_base(page: Page, button: gr.Button) -> None:
    """Connect the button that leads to the choice of the base model."""
    button.click(None, js=TO_THE_BASES, api_visibility="private")


def wire_suit(page: Page, event: Callable[..., Any]) -> None:
    """Adjust the form to newly chosen photographs on an event."""
    asked = ["plan", "base", "source", "imported", "suits_own"]
    suited = page.on(
        event, page.train.suit, takes=[*asked, *MASKING], gives=["steps", "suits_own", *MASKING], fills=True
    )
    wire_cost(page, suited.then)


def opening_cost(train: TrainHandlers) -> Html:
    """Return the initial cost estimate."""
    return opening_costs(train)["cost"]


def opening_costs(train: TrainHandlers) -> dict[str, Html]:
    """Return the initial cost estimate, and the lines about the method and the preset."""
    opening = next(iter(train.examples), None)
    base = next(iter(train.bases))
    source = train.source_of(opening) if opening else None
    plan = train.plans(base)[0][1]
    method = plan.partition("/")[0]
    return train.cost(source, plan, base, **form.filled(method, opening_config(train)))


def priced_by(page: Page) -> list[str]:
    """Return the widgets that the cost of a run depends on."""
    return ["source", "plan", "base", *page.training]


def wire_cost(page: Page, event: Callable[..., Any], **options: Any) -> None:
    """Update the cost estimate on an event, with the speeds measured so far."""
    gives = ["cost", "method_told", "preset_told"]
    page.on(event, page.train.cost, takes=priced_by(page), gives=gives, **WATCHING, **options)


def _words(page: Page, *, config: Any) -> dict[str, Component]:
    """Create the fields for a subject's class noun and its trigger word."""
    with gr.Row(elem_id="words"):
        words: dict[str, Component] = {
            "class_noun": gr.Textbox(
                config.class_noun,
                label="What is it?",
                placeholder="person, dog, teapot …",
                elem_classes="typed-class_noun",
            )
        }
        words["identifier"] = gr.Dropdown(
            [config.identifier],
            value=config.identifier,
            allow_custom_value=True,
            label="Trigger word",
        )
    return words


def _photographs(page: Page) -> None:
    """Create what shows the user's own photographs: the tiles, and the part of the chosen one."""
    named = page.named
    with gr.Column(visible=False, elem_id="own-photographs") as named["crops_row"]:
        named |= photo_tiles.lay_out()
        named |= tagging.lay_out()
    with gr.Column(visible=False, elem_classes="limits") as named["limits_row"]:
        named["limits"] = gr.HTML("")
        named["real_base"] = real_base_button()


def _stage(page: Page, *, first: RunView | None) -> None:
    train, named = page.train, page.named
    opening = page.monitor.comparison(first) if first else {}
    with gr.Column(elem_classes="card", elem_id="showcase"):
        with gr.Row(elem_id="stage-head", equal_height=True):
            gr.HTML(panels.heading("", "Before and after", "Same prompt, same seed."))
            named["runs"] = gr.Dropdown(
                page.monitor.run_choices(),
                value=first.id if first else None,
                label="Show run",
                min_width=290,
                scale=0,
            )
        named["compare"] = gr.HTML(
            opening.get("compare") or panels.placeholder(EMPTY_FRAME),
            js_on_load=panels.COMPARE_SCRIPT,
            elem_id="compare",
        )
        with gr.Row(equal_height=False, elem_classes="showcase-facts"):
            with gr.Column(scale=5, min_width=300):
                named["caption"] = gr.HTML(opening.get("caption", ""))
            with gr.Column(scale=5, min_width=300):
                named["photos"] = gr.HTML(panels.learned_from(first, copies=train.copies) if first else "")


def _run_card(page: Page) -> None:
    named = page.named
    with gr.Column(elem_classes="card", elem_id="run-card", visible=False) as named["run_card"]:
        named["progress"] = gr.HTML(panels.progress(RunView(id="")))
        named["advice"] = gr.HTML("")
        with gr.Row(visible=False, elem_classes="replay") as named["replaying_row"]:
            named["end_replay"] = gr.Button("End the replay", size="md", min_width=120, elem_classes="stops")
        named["strip"] = gr.HTML()
        named["queue"] = gr.HTML("", js_on_load=panels.ACTS_SCRIPT, elem_id="queue")
        with gr.Row(elem_id="charts") as named["charts"]:
            with gr.Column(min_width=300):
                named["loss"] = gr.HTML(plots.loss_chart(RunView(id="")))
            with gr.Column(min_width=300):
                named["similarity"] = gr.HTML(plots.similarity_chart(RunView(id="")))
        with gr.Row(visible=False, elem_classes="replay") as named["replay_row"]:
            named["speed"] = gr.Radio(
                list(SPEEDS), value=SPEEDS[1][1], label="Replay speed", min_width=220, elem_id="speed"
            )
            named["play"] = gr.Button("Replay", size="md", min_width=110, scale=0)
        with gr.Row(visible=False, elem_id="after") as named["after_row"]:
            with gr.Row(elem_id="more") as named["more_row"]:
                named["more_steps"] = gr.Number(
                    100, label="More steps", minimum=1, precision=0, min_width=90, scale=0
                )
                named["more"] = gr.Button("Train more", size="md", min_width=120)
            named["resume"] = gr.Button("Resume", variant="primary", size="md", visible=False, min_width=120)
            named["forget"] = gr.Button(FORGET, size="md", min_width=120, elem_classes="quiet")


def _wire_subject(page: Page) -> None:
    train, named = page.train, page.named
    cards = [f"example_{name}" for name in train.examples]
    for name in train.examples:
        click = page.on(
            named[f"example_{name}"].click,
            bound(train.choose_example, name),
            gives=[
                "source",
                "imported",
                "class_noun",
                "identifier",
                "upload",
                *SQUARES,
                "prompt",
                "seed",
                "guide",
                *cards,
            ],
            **SUBJECT,
        )
        page.on(click.then, bound(train.show_example, name), gives=WATCHED, **SUBJECT)
        wire_suit(page, click.then)
    subject = ["source", "guide", *SQUARES]
    changed = [*dict.fromkeys((*subject, "upload", "class_noun", "identifier", *cards, *WATCHED))]
    taken = page.on(
        named["upload"].upload,
        train.choose_files,
        takes=["upload", "source", "base", "imported", "shown"],
        gives=changed,
        busy="upload",
        **SUBJECT,
    )
    page.on(taken.success, train.identifiers, takes=["base", "identifier"], gives=["identifier"])
    wire_suit(page, taken.success)
    page.on(
        named["tiles"].remove,
        train.remove_photo,
        takes=["source", "photo"],
        gives=subject,
        event_data="value",
        **SUBJECT,
    )
    photo_tiles.wire(page, train.photos, subject=SUBJECT)
    tagging.wire(page)
    masking.wire(page)
    wire_real_base(page, named["real_base"])
    _wire_plan(page)


def _wire_plan(page: Page) -> None:
    """Connect base, method and preset: each fills in the fields below it."""
    train, named = page.train, page.named
    filled = ["plan", "filled_plan", "suits_own", "delete_preset", *page.advanced]
    based = [*filled, "needs", "limits_row", "limits"]
    asked = ["method", "base", "source"]
    at_plan = ["plan", "base", "source"]
    chosen = [
        page.on(named["base"].change, train.choose_base, takes=asked, gives=based, fills=True),
        page.on(named["method"].input, train.choose_method, takes=asked, gives=filled, fills=True),
        page.on(
            named["plan"].input,
            train.choose_plan,
            takes=[*at_plan, "filled_plan"],
            gives=filled[1:],
            fills=True,
        ),
        page.on(
            named["delete_preset"].click,
            train.delete_preset,
            takes=[*at_plan, "delete_preset"],
            gives=filled,
            fills=True,
        ),
    ]
    deciding = form.deciding("train")
    for event in (*(done.then for done in chosen), *(named[name].change for name in [*deciding, "imported"])):
        page.on(event, train.applicable, takes=["plan", *deciding], gives=form.dependent("train"), **WATCHING)
    for done in chosen:
        wire_cost(page, done.then)
    for event in (named["save_preset"].click, named["own_name"].submit):
        page.on(
            event,
            train.save_preset,
            takes=["plan", "base", "own_name", *page.training],
            gives=["plan", "filled_plan", "own_name", "delete_preset"],
        )
    named["needs"].change(None, js=NAME_THE_BASE, api_visibility="private")


def _wire_run(page: Page) -> None:
    train, monitor, named = page.train, page.monitor, page.named
    priced = partial(gr.on, [named[name].change for name in (*priced_by(page), "seen")])
    wire_cost(page, priced, trigger_mode="always_last")
    page.on(
        named["identifier"].focus,
        train.identifiers,
        takes=["base", "identifier"],
        gives=["identifier"],
    )
    for name in ("start", "start_next"):
        page.on(
            named[name].click,
            train.start,
            takes=[*priced_by(page), "presentation", "found_masks", "photo", "photo_caption", "shown"],
            gives=["source", "prompt", "seed", *WATCHED],
        )
    named["start"].click(None, js=TO_THE_STAGE, api_visibility="private")
    handlers = {
        "stop": train.stop,
        "stop_later": train.stop_at_checkpoint,
        "drop": train.discard,
        "resume": train.resume,
        "sample_now": train.sample_now,
        "save_now": train.save_now,
    }
    for name, handler in handlers.items():
        page.on(named[name].click, handler, takes=["shown"], gives=WATCHED)
    page.on(named["forget"].click, train.forget, takes=["shown", "forget"], gives=WATCHED)
    page.on(named["more"].click, train.train_more, takes=["shown", "more_steps"], gives=WATCHED)
    turned = ["prompt", "seed", *WATCHED]
    page.on(
        named["runs"].input,
        lambda runs, shown: monitor.turn_to(runs, shown),
        takes=["runs", "shown"],
        gives=turned,
    )
    watched = ["shown", "drawn", "replay", "presentation"]
    page.on(named["news"].change, monitor.watch, takes=watched, gives=WATCHED, **WATCHING)


def _wire_replay(page: Page) -> None:
    monitor, named = page.monitor, page.named
    page.on(named["play"].click, monitor.play, takes=["shown", "speed"], gives=WATCHED)
    page.on(named["end_replay"].click, monitor.end_replay, takes=["shown"], gives=WATCHED)
    page.on(
        named["queue"].choose,
        lambda value: monitor.turn_to(value),
        gives=["prompt", "seed", *WATCHED],
        event_data="value",
    )
    for event, handler in ((named["queue"].move, monitor.move), (named["queue"].leave, monitor.leave)):
        page.on(event, handler, takes=["shown"], gives=WATCHED, event_data="value")
