"""The first page: choose a subject, personalize, watch it being learned, play with the result."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.components import Component

from pipelines.config import METHOD_CONFIGS, SampleConfig
from ui import api, form, panels, plots
from ui.desk import EMPTY_FRAME, Desk, card
from ui.errors import told_in_the_page
from ui.markup import Handout, Html, element
from ui.theme import ASSETS
from ui.view import RunView, fold

if TYPE_CHECKING:
    from pipelines.studio import Studio

POLL_S = 1.0
EXPORT_FORMATS = (
    ("Atelier (.safetensors)", "safetensors"),
    ("diffusers LoRA", "diffusers"),
    ("PEFT folder", "peft"),
    ("ComfyUI / kohya", "kohya"),
)
PICTURE_TYPES = [".jpg", ".jpeg", ".png", ".webp", ".zip"]
# On a narrow screen the results lie below the form, so the page goes to them.
TO_THE_STAGE = (
    "() => innerWidth < 900 && setTimeout(() => "
    "document.getElementById('run-card')?.scrollIntoView({behavior: 'smooth'}), 900)"
)
QUIET: dict[str, Any] = {"show_progress": "hidden"}
WATCHING: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None}


@dataclass
class Page:
    """Every widget under the name that handlers use for it."""

    desk: Desk
    named: dict[str, Any] = field(default_factory=dict)
    training: list[str] = field(default_factory=list)
    sampling: list[str] = field(default_factory=list)

    def on(
        self,
        event: Callable[..., Any],
        handler: Callable[..., dict[str, Any]],
        *,
        takes: list[str] | None = None,
        gives: list[str],
        **options: Any,
    ) -> Any:
        """Wire an event: the handler gets the ``takes`` widgets' values by name and may set the ``gives`` ones."""
        takes = takes or []
        guarded = told_in_the_page(handler)

        def handle(*values: Any) -> Any:
            updates = guarded(**dict(zip(takes, values, strict=True)))
            unknown = set(updates) - set(gives)
            if unknown:
                raise RuntimeError(f"{handler.__name__} sets {sorted(unknown)}, which it does not declare")
            ordered = [updates.get(name, gr.skip()) for name in gives]
            return ordered[0] if len(ordered) == 1 else ordered

        return event(
            handle,
            inputs=[self.named[name] for name in takes],
            outputs=[self.named[name] for name in gives],
            api_visibility="private",
            **options,
        )


def build(studio: "Studio", handout: Handout) -> gr.Blocks:
    """Return the page as Blocks, ready to launch; nothing heavy is imported or computed."""
    desk = Desk(studio, handout)
    with gr.Blocks(title="Atelier", analytics_enabled=False, fill_width=True) as blocks:
        page = Page(desk)
        first = _first_view(desk)
        _states(page)
        icon = Html((ASSETS / "icon.svg").read_text(encoding="utf-8"))
        gr.HTML(panels.header(icon=icon, facts=_facts(desk)))
        with gr.Row(elem_id="page", equal_height=False):
            with gr.Column(scale=4, min_width=330, elem_id="inputs"):
                _inputs(page)
            with gr.Column(scale=8, min_width=330, elem_id="stage"):
                _stage(page, first=first)
                _run_card(page)
                _playground(page)
                _loading(page)
        _wire_subject(page)
        _wire_run(page, blocks)
        _wire_playground(page)
        api.add(studio, handout)
    return blocks


def _first_view(desk: Desk) -> RunView | None:
    """Return the shipped run that the page opens with, or None when no example is installed."""
    example = next(iter(desk.examples.values()), None)
    return fold(desk.studio.status(example["run"])) if example else None


def _facts(desk: Desk) -> list[str]:
    base = next(iter(desk.bases.values()))
    return [base["name"], "Nothing leaves this machine"]


def _states(page: Page) -> None:
    opening = next(iter(page.desk.examples), None)
    page.named |= {
        "shown": gr.State(""),
        "drawn": gr.State({}),
        "source": gr.State(page.desk.source_of(opening) if opening else None),
        "photo": gr.State(0),
    }


def _inputs(page: Page) -> None:
    desk, named = page.desk, page.named
    base = next(iter(desk.bases))
    plans = desk.plans(base)
    method, config = desk.chosen_preset(plans[0][1], base)
    opening = next(iter(desk.examples), None)
    if opening:
        first = desk.examples[opening]
        config = replace(config, class_noun=first["class_noun"], identifier=first["identifier"])
    with gr.Column(elem_classes="card", elem_id="subject-card"):
        gr.HTML(panels.heading("1", "Choose a subject"))
        with gr.Row(elem_id="examples"):
            for name, example in desk.examples.items():
                named[f"example_{name}"] = gr.Button(
                    example["title"],
                    icon=desk.handout.copy(example["photos"][0]),
                    elem_classes=card(name == opening),
                )
        named["upload"] = gr.File(
            label="Your own photographs: 1 to 20, or a zip",
            file_count="multiple",
            file_types=PICTURE_TYPES,
            type="filepath",
            elem_id="upload",
        )
        _crops(page)
        gr.HTML(panels.heading("2", "Personalize it"))
        named |= _words(page, config=config)
        named["plan"] = gr.Dropdown(plans, value=plans[0][1], label="Method and preset")
        with gr.Accordion("Advanced", open=False, elem_id="advanced"):
            named["base"] = gr.Dropdown(
                [(facts["name"], spec) for spec, facts in desk.bases.items()], value=base, label="Base model"
            )
            named["needs"] = gr.HTML(panels.base_needs(desk.bases[base]))
            advanced = form.field_names(type(config), advanced=True)
            with gr.Row(elem_classes="knobs"):
                named |= form.widgets(config, advanced)
        page.training = form.field_names(METHOD_CONFIGS[method])
        with gr.Column(elem_id="action"):
            named["cost"] = gr.HTML(_opening_cost(desk, config, opening=opening))
            with gr.Row() as named["start_row"]:
                named["start"] = gr.Button("Personalize", variant="primary", elem_id="personalize")
            with gr.Row(visible=False) as named["stop_row"]:
                named["stop"] = gr.Button("Stop and keep", variant="primary", min_width=100, size="md")
                named["sample_now"] = gr.Button("Sample now", min_width=80, size="md")
                named["drop"] = gr.Button("Discard", min_width=80, size="md")


def _opening_cost(desk: Desk, config: Any, *, opening: str | None) -> Html:
    source = desk.source_of(opening) if opening else None
    base = next(iter(desk.bases))
    return desk.cost(source, desk.plans(base)[0][1], base, **form.shown(config))["cost"]


def _words(page: Page, *, config: Any) -> dict[str, Component]:
    """Create the two words that make a subject: its class, and the rare word that will mean it."""
    with gr.Row(elem_id="words"):
        words: dict[str, Component] = {
            "class_noun": gr.Textbox(
                config.class_noun, label="What is it?", placeholder="person, dog, teapot …"
            )
        }
        words["identifier"] = gr.Dropdown(
            [config.identifier],
            value=config.identifier,
            allow_custom_value=True,
            label="Its rare word",
        )
    return words


def _crops(page: Page) -> None:
    named = page.named
    with gr.Column(visible=False, elem_id="crops") as named["crops_row"]:
        gr.HTML(element("p", "This square of each is used; press one to move it.", class_="hint"))
        named["crops"] = gr.Gallery(
            label="Square crops",
            show_label=False,
            columns=4,
            height="auto",
            allow_preview=False,
            interactive=False,
            object_fit="cover",
            format="png",
            buttons=[],
        )
        with gr.Row(visible=False) as named["nudge_row"]:
            for name, label in (("across", "Left or right"), ("down", "Up or down")):
                named[name] = gr.Slider(-1, 1, value=0, step=0.05, label=label, interactive=True)


def _stage(page: Page, *, first: RunView | None) -> None:
    desk, named = page.desk, page.named
    opening = desk.comparison(first) if first else {}
    with gr.Column(elem_classes="card", elem_id="showcase"):
        with gr.Row(elem_id="stage-head", equal_height=True):
            gr.HTML(panels.heading("", "Before and after", "The same prompt and the same seed."))
            named["runs"] = gr.Dropdown(
                desk.run_choices(), value=first.id if first else None, label="Look at", min_width=220, scale=0
            )
        with gr.Row(elem_id="showcase-row", equal_height=False):
            with gr.Column(scale=6, min_width=300):
                named["compare"] = gr.HTML(
                    opening.get("compare") or panels.placeholder(EMPTY_FRAME),
                    js_on_load=panels.COMPARE_SCRIPT,
                    elem_id="compare",
                )
            with gr.Column(scale=4, min_width=220, elem_id="told"):
                wall = (
                    panels.photo_wall(first.photos, handout=desk.handout, title="Learned from")
                    if first
                    else ""
                )
                named["photos"] = gr.HTML(wall)
                named["caption"] = gr.HTML(opening.get("caption", ""))


def _run_card(page: Page) -> None:
    named = page.named
    with gr.Column(elem_classes="card", elem_id="run-card", visible=False) as named["run_card"]:
        named["progress"] = gr.HTML()
        named["strip"] = gr.HTML()
        with gr.Row(elem_id="charts") as named["charts"]:
            with gr.Column(min_width=300):
                named["loss"] = gr.HTML(plots.loss_chart(RunView(id="")))
            with gr.Column(min_width=300):
                named["similarity"] = gr.HTML(plots.similarity_chart(RunView(id="")))
        with gr.Row(visible=False, elem_id="after") as named["after_row"]:
            with gr.Row(elem_id="more") as named["more_row"]:
                named["more_steps"] = gr.Number(
                    100, label="More steps", minimum=1, precision=0, min_width=90, scale=0
                )
                named["more"] = gr.Button("Train more", size="md", min_width=120)
            named["resume"] = gr.Button("Resume", variant="primary", size="md", visible=False, min_width=120)
            named["forget"] = gr.Button("Discard", size="md", min_width=120, elem_classes="quiet")


def _playground(page: Page) -> None:
    named = page.named
    sampling = SampleConfig()
    hidden = [name for name in form.field_names(SampleConfig) if name not in ("prompt", "seed")]
    with gr.Column(elem_classes="card", elem_id="playground", visible=False) as named["playground"]:
        gr.HTML(panels.heading("3", "Playground", "Every picture twice: without and with what was learned."))
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=280, elem_id="play-form"):
                named |= form.widgets(sampling, ["prompt"])
                named["strength"] = gr.Slider(
                    0,
                    1.5,
                    value=1.0,
                    step=0.05,
                    label="Strength",
                    info="How much of what was learned is applied.",
                )
                named |= form.widgets(sampling, ["seed"])
                with gr.Accordion("Advanced", open=False):
                    named |= {
                        f"play_{name}": widget for name, widget in form.widgets(sampling, hidden).items()
                    }
                named["generate"] = gr.Button("Make a picture", variant="primary")
                with gr.Accordion("Take it with you", open=False):
                    named["format"] = gr.Dropdown(
                        list(EXPORT_FORMATS), value=EXPORT_FORMATS[0][1], label="Format"
                    )
                    named["export"] = gr.Button("Write the file", size="md")
                    named["exported"] = gr.File(label="The adapter", visible=False, interactive=False)
            with gr.Column(scale=6, min_width=300, elem_id="play-result"):
                named["result"] = gr.HTML(
                    panels.placeholder("Your picture appears here."), js_on_load=panels.COMPARE_SCRIPT
                )
                named["result_caption"] = gr.HTML("")
                named["gallery"] = gr.Gallery(
                    label="All of them",
                    columns=4,
                    format="png",
                    visible=False,
                    interactive=False,
                    object_fit="cover",
                )
                named["download"] = gr.DownloadButton("Download the picture", size="md", interactive=False)
    page.sampling = ["prompt", "seed", *(f"play_{name}" for name in hidden)]


def _loading(page: Page) -> None:
    """Take a LoRA from elsewhere. Any file may be dropped here, so that a pickle is refused with its reason."""
    with gr.Accordion("Load a LoRA file", open=False, elem_id="load-lora", elem_classes="card"):
        page.named["lora"] = gr.File(
            label="From diffusers, kohya, ComfyUI or Atelier (.safetensors), or a zipped PEFT folder",
            type="filepath",
            height=140,
        )


WATCHED = [
    "shown", "drawn", "runs", "compare", "caption", "photos", "strip", "progress", "loss", "similarity", "run_card",
    "start_row", "stop_row", "after_row", "more_row", "resume", "charts", "playground",
]  # fmt: skip


def _wire_subject(page: Page) -> None:
    desk, named = page.desk, page.named
    cards = [f"example_{name}" for name in desk.examples]
    for name in desk.examples:
        click = page.on(
            named[f"example_{name}"].click,
            _bound(desk.choose_example, name),
            gives=["source", "class_noun", "identifier", "upload", "crops_row", "prompt", "seed", *cards],
            **QUIET,
        )
        page.on(click.then, _bound(desk.show_example, name), gives=WATCHED, **QUIET)
    crops = ["source", "crops_row", "crops"]
    changed = [*crops, "nudge_row", "class_noun", "identifier", *cards]
    for event in (named["upload"].upload, named["upload"].clear, named["upload"].delete):
        taken = page.on(event, desk.choose_files, takes=["upload", "source", "base"], gives=changed)
        page.on(taken.success, desk.identifiers, takes=["base", "identifier"], gives=["identifier"], **QUIET)

    def press(event: gr.SelectData) -> int:
        return event.index

    named["crops"].select(press, outputs=named["photo"], api_visibility="private", **QUIET).then(
        told_in_the_page(lambda source, photo: list(desk.choose_photo(source, photo).values())),
        inputs=[named["source"], named["photo"]],
        outputs=[named[name] for name in ("photo", "nudge_row", "across", "down")],
        api_visibility="private",
        **QUIET,
    )
    for axis in ("across", "down"):
        page.on(
            named[axis].release,
            desk.nudge,
            takes=["source", "base", "photo", "across", "down"],
            gives=crops,
            **QUIET,
        )
    page.on(named["base"].input, desk.choose_base, takes=["base"], gives=["plan", "needs"], **QUIET)
    advanced = [name for name in page.training if name not in ("class_noun", "identifier")]
    page.on(named["plan"].change, desk.choose_plan, takes=["plan", "base"], gives=advanced, **QUIET)


def _bound(handler: Callable[..., dict[str, Any]], *values: Any) -> Callable[..., dict[str, Any]]:
    def bound(**given: Any) -> dict[str, Any]:
        return handler(*values, **given)

    bound.__name__ = handler.__name__
    return bound


def _wire_run(page: Page, blocks: gr.Blocks) -> None:
    desk, named = page.desk, page.named
    asked = ["source", "plan", "base", *page.training]
    priced = partial(gr.on, [named[name].change for name in asked])
    page.on(priced, desk.cost, takes=asked, gives=["cost"], trigger_mode="always_last", **WATCHING)
    page.on(
        named["identifier"].focus,
        desk.identifiers,
        takes=["base", "identifier"],
        gives=["identifier"],
        **QUIET,
    )
    page.on(named["start"].click, desk.start, takes=asked, gives=["prompt", "seed", *WATCHED], **QUIET)
    named["start"].click(None, js=TO_THE_STAGE, api_visibility="private")
    for name, handler in (("stop", desk.stop), ("drop", desk.discard), ("forget", desk.discard)):
        page.on(named[name].click, handler, takes=["shown"], gives=WATCHED, **QUIET)
    page.on(named["resume"].click, desk.resume, takes=["shown"], gives=WATCHED, **QUIET)
    page.on(named["sample_now"].click, desk.sample_now, takes=["shown"], gives=WATCHED, **QUIET)
    page.on(named["more"].click, desk.train_more, takes=["shown", "more_steps"], gives=WATCHED, **QUIET)
    page.on(named["runs"].input, lambda runs: desk.show_run(runs), takes=["runs"], gives=WATCHED, **QUIET)
    page.on(gr.Timer(POLL_S).tick, desk.watch, takes=["shown", "drawn"], gives=WATCHED, **WATCHING)
    page.on(blocks.load, desk.attach, gives=WATCHED, **WATCHING)


def _wire_playground(page: Page) -> None:
    desk, named = page.desk, page.named
    results = ["result", "result_caption", "gallery", "download"]

    def generate(shown: str, strength: float, **fields: Any) -> dict[str, Any]:
        return desk.generate(
            shown, strength, **{name.removeprefix("play_"): value for name, value in fields.items()}
        )

    for event in (named["generate"].click, named["prompt"].submit):
        page.on(
            event,
            generate,
            takes=["shown", "strength", *page.sampling],
            gives=results,
            concurrency_id="pictures",
            concurrency_limit=4,
            show_progress_on=named["result"],
        )
    page.on(named["export"].click, desk.export, takes=["shown", "format"], gives=["exported"])
    page.on(named["lora"].upload, desk.load_lora, takes=["lora", "base"], gives=["lora", "prompt", *WATCHED])
