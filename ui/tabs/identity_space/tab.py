"""The tab Identity space: a person at once, sliders that change them, and one photograph that becomes a point."""

from functools import partial
from typing import Any

import gradio as gr

from pipelines.services.identity_space import FIRST, FIRST_SAMPLER
from pipelines.weightspace.index import Manifest
from ui.live_preview import follow, full_flag
from ui.run import panels
from ui.tabs.identity_space import drawn
from ui.tabs.identity_space.handlers import (
    BUILD,
    EDITS,
    NO_SPACE,
    SAMPLERS,
    IdentityHandlers,
    ends,
    formats,
)
from ui.wiring import WATCHED, WATCHING, Page

SHOWN_SLIDERS = 8
CANVAS_PX = 384
BRUSH = ("rgb(255, 64, 32)", 0.55)
MIRRORED = ("progress", "strip", "loss")
POINT = ["space_point", "space_name", *EDITS]


def lay_out(page: Page, identities: IdentityHandlers) -> None:
    """Create the widgets of this tab in the current Blocks context."""
    _states(page)
    if not identities.spaces:
        gr.HTML(panels.placeholder(NO_SPACE.removesuffix(BUILD), command=BUILD), elem_id="space-none")
    page.mirrors |= {f"space_{name}": name for name in MIRRORED}
    with gr.Row(elem_classes="page", equal_height=False, visible=bool(identities.spaces)):
        with gr.Column(scale=4, min_width=330, elem_id="space-inputs", elem_classes="inputs"):
            _person(page, identities)
            _sliders(page, identities)
            _photograph(page, identities)
        with gr.Column(scale=8, min_width=330, elem_id="space-stage", elem_classes="stage"):
            _stage(page, identities)


def _states(page: Page) -> None:
    page.named |= {
        "space_point": gr.State(None),  # the person without the sliders' changes
        "space_history": gr.State({}),
        "space_before": gr.State({}),  # the picture of the person without the sliders' changes
        "space_drawn": gr.State({}),
        "space_nudge": gr.State(""),
        "space_finding": gr.State(""),  # the run of the inversion that this page started
        "space_full": full_flag(),
    }


def _person(page: Page, identities: IdentityHandlers) -> None:
    named, told = page.named, identities.space()
    with gr.Column(elem_classes="card", elem_id="space-person"):
        gr.HTML(panels.heading("1", "A new person", _about(told)))
        named["space_name"] = gr.Dropdown(
            [(each.title, name) for name, each in identities.spaces.items()],
            value=told.name if told else None,
            label="Space",
            visible=len(identities.spaces) > 1,
        )
        with gr.Column(elem_classes="action"):
            named["space_new"] = gr.Button("New person", variant="primary", elem_id="space-new")
        with gr.Accordion("Advanced", open=False):
            gr.HTML(panels.hint(told.note if told else ""))
            named["space_number"] = gr.Number(
                FIRST, label="Number", info="The same number gives the same person.", precision=0, minimum=0
            )
            named["space_factor"] = gr.Slider(
                0,
                2,
                value=1,
                step=0.05,
                label="Factor",
                info="0 is the mean person, 1 as the population spreads.",
            )
            named["space_sampler"] = gr.Dropdown(
                [*SAMPLERS],
                value=FIRST_SAMPLER,
                label="Sampling",
                info="How a new person is drawn from the space.",
            )
            named["space_keep"] = gr.Checkbox(
                True, label="Keep the seed", info="Off: each new person is drawn with another seed."
            )
        with gr.Accordion("Saved people", open=False):
            named["space_open"] = gr.Dropdown(identities.identities(), value=None, label="Person")
            named["space_show"] = gr.Button("Show", size="md")
            named["space_recall"] = gr.File(
                label="Drop a picture made here to show its person",
                file_types=[".png"],
                type="filepath",
                height=58,
                elem_id="space-recall",
                elem_classes="drop",
            )


def _about(told: Manifest | None) -> str:
    return f"Sampled from a space of {told.population:,} trained identities." if told else ""


def _sliders(page: Page, identities: IdentityHandlers) -> None:
    named, known = page.named, identities.attributes()
    with gr.Column(elem_classes="card", elem_id="space-edit"):
        gr.HTML(panels.heading("2", "Change them", "In standard deviations of the population."))
        with gr.Column(elem_classes="space-sliders"):
            for place in range(SHOWN_SLIDERS):
                named[EDITS[place]] = _slider(known, place)
        with gr.Accordion("More", open=False):
            for place in range(SHOWN_SLIDERS, len(EDITS)):
                named[EDITS[place]] = _slider(known, place)
            named["space_debias"] = gr.Checkbox(
                False,
                label="Debias",
                info="A slider leaves the readings of all other attributes as they are.",
            )
            named["space_delay"] = gr.Slider(
                0,
                1000,
                value=1000,
                step=10,
                label="Start noise",
                info="Edits take part below this timestep; 1000: in every step, 700: pose and scene stay.",
            )
        named["space_reset"] = gr.Button("Reset all", size="md")


def _slider(known: list[Any], place: int) -> gr.Slider:
    """Return the slider of an attribute; spaces with fewer attributes leave the rest hidden."""
    attribute = known[place] if place < len(known) else None
    return gr.Slider(
        -3,
        3,
        value=0,
        step=0.1,
        label=attribute.label if attribute else f"Attribute {place + 1}",
        info=ends(attribute) if attribute else "",
        visible=attribute is not None,
        buttons=["reset"],
        elem_id=f"space-edit-{place}",
    )


def _photograph(page: Page, identities: IdentityHandlers) -> None:
    named, presets = page.named, identities.presets()
    with gr.Column(elem_classes="card", elem_id="space-invert"):
        gr.HTML(
            panels.heading("3", "From one photograph", "Brush over the face if there is more in the picture.")
        )
        named["space_photo"] = gr.ImageEditor(
            type="pil",
            image_mode="RGBA",
            format="png",
            sources=["upload"],
            transforms=["crop"],
            layers=False,
            buttons=[],
            brush=gr.Brush(default_size=CANVAS_PX // 12, colors=[BRUSH], color_mode="fixed"),
            eraser=gr.Eraser(default_size=CANVAS_PX // 12),
            canvas_size=(CANVAS_PX, CANVAS_PX),
            label="Photograph",
            interactive=True,
            elem_id="space-photo",
        )
        named["space_consent"] = gr.Checkbox(
            False, label="I may use this photograph", info="It is mine, or the person in it has agreed."
        )
        named["space_preset"] = gr.Dropdown(
            presets,
            value=presets[0],
            label="Preset",
            info="Drawing: fewer components, for paintings and drawings.",
        )
        named["space_find"] = gr.Button("Find this person", variant="primary", elem_id="space-find")


def _stage(page: Page, identities: IdentityHandlers) -> None:
    named, told = page.named, identities.space()
    with (
        gr.Column(elem_classes="card", elem_id="space-showcase"),
        gr.Row(elem_classes="showcase-row", equal_height=False),
    ):
        with gr.Column(scale=6, min_width=300):
            gr.HTML(panels.heading("", "The person", "Same prompt and seed before and after an edit."))
            named["space_picture"] = gr.HTML(
                identities.first_picture(),
                js_on_load=panels.COMPARE_SCRIPT + drawn.APPEARS_SCRIPT,
                elem_id="space-picture",
            )
            with gr.Row():
                named["space_undo"] = gr.Button("Undo", size="md", min_width=80)
                named["space_redo"] = gr.Button("Redo", size="md", min_width=80)
                named["space_download"] = gr.DownloadButton(
                    "Download", size="md", min_width=80, interactive=False
                )
        with gr.Column(scale=4, min_width=240):
            named["space_prompt"] = gr.Textbox(told.prompt if told else "", label="Prompt", max_lines=2)
            named["space_seed"] = gr.Number(0, label="Seed", precision=0, minimum=0, min_width=90)
            named["space_caption"] = gr.HTML("")
            gr.HTML(
                panels.heading(
                    "",
                    "What changed",
                    "Read from the picture before and after the edit; green: what the sliders are for.",
                )
            )
            named["space_moved"] = gr.HTML(drawn.moved_bars([], edited={}, labels={}))
    with gr.Column(elem_classes="card", elem_id="space-run", visible=False) as named["space_run"]:
        gr.HTML(panels.heading("", "Finding the person"))
        named["space_progress"] = gr.HTML("")
        named["space_strip"] = gr.HTML("")
        named["space_loss"] = gr.HTML("")
        named["space_stop"] = gr.Button("Stop and keep", size="md")
    with gr.Row(equal_height=False):
        with gr.Column(elem_classes="card", elem_id="space-map-card", min_width=300):
            gr.HTML(panels.heading("", "Where they are", "The first two components; click to walk there."))
            named["space_map"] = gr.HTML("", js_on_load=drawn.MAP_SCRIPT, elem_id="space-map")
            named["space_where"] = gr.HTML("")
        with gr.Column(elem_classes="card", elem_id="space-keep-card", min_width=300):
            _keeping(page)
    with gr.Column(elem_classes="card", elem_id="space-scenes-card"):
        gr.HTML(panels.heading("", "In several scenes", "The same person, four prompts, four seeds."))
        named["space_ask_scenes"] = gr.Button("Draw four scenes", size="md")
        named["space_scenes"] = gr.HTML("")
    with gr.Accordion(
        "Combine with others", open=False, elem_id="space-combine", elem_classes="card"
    ) as named["space_combine"]:
        _combining(page, identities)


def _keeping(page: Page) -> None:
    named = page.named
    gr.HTML(panels.heading("", "Keep", "Saved people appear in the Library and can be stacked with styles."))
    named["space_title"] = gr.Textbox("", label="Name", max_lines=1, placeholder="Any name")
    named["space_save"] = gr.Button("Save to the Library", size="md")
    named["space_format"] = gr.Dropdown(formats(), value=formats()[1][1], label="Format")
    named["space_export"] = gr.Button("Export", size="md")
    named["space_file"] = gr.File(label="Exported identity", visible=False, interactive=False)
    named["space_kept"] = gr.HTML("")


def _combining(page: Page, identities: IdentityHandlers) -> None:
    named, people = page.named, identities.identities()
    gr.HTML(panels.heading("", "A style or another subject", "Drawn together with the person."))
    with gr.Row():
        named["space_beside"] = gr.Dropdown(identities.companions(), value="", label="With")
        named["space_beside_strength"] = gr.Slider(0, 2, value=1, step=0.05, label="Strength")
    gr.HTML(panels.heading("", "Other people", "Between two, the sum of two, or this − second + third."))
    with gr.Row():
        named["space_how"] = gr.Dropdown(
            [("Between two", "interpolate"), ("Sum", "add"), ("This − second + third", "analogy")],
            value="interpolate",
            label="Operation",
        )
        named["space_share"] = gr.Slider(0, 1, value=0.5, step=0.05, label="Share of the second")
    with gr.Row():
        named["space_other"] = gr.Dropdown(people, value=None, label="Second person")
        named["space_third"] = gr.Dropdown(people, value=None, label="Third person")
    named["space_mix"] = gr.Button("Combine", size="md")


def wire(page: Page, identities: IdentityHandlers) -> None:
    """Connect the events of this tab."""
    _wire_picture(page, identities)
    _wire_people(page, identities)
    _wire_keeping(page, identities)
    named = page.named
    page.on(
        named["space_find"].click,
        identities.invert,
        takes=["space_photo", "space_consent", "space_preset", "space_name", "shown"],
        gives=["space_finding", *WATCHED],
    )
    page.on(named["space_stop"].click, page.train.stop, takes=["shown"], gives=WATCHED)
    page.on(
        partial(gr.on, [named["news"].change, named["shown"].change]),
        identities.watch,
        takes=["shown", "space_finding"],
        gives=["space_run", "space_finding", *POINT],
        **WATCHING,
    )


def _wire_picture(page: Page, identities: IdentityHandlers) -> None:
    """Connect everything that changes the picture to one event, so that answers cannot overtake each other."""
    named = page.named
    asked = [
        "space_prompt",
        "space_seed",
        "space_debias",
        "space_delay",
        "space_beside",
        "space_beside_strength",
    ]
    settings = [
        named["space_prompt"].submit, named["space_seed"].submit, named["space_debias"].input,
        named["space_delay"].release, named["space_beside"].input, named["space_beside_strength"].release,
        named["space_point"].change, named["space_nudge"].change,
    ]  # fmt: skip
    follow(
        page,
        EDITS,
        identities.draw,
        takes=["space_point", "space_history", "space_before", *asked, *EDITS],
        gives=[
            "space_picture", "space_caption", "space_history", "space_before", "space_drawn", "space_download",
        ],
        full="space_full",
        further=settings,
    )  # fmt: skip
    page.on(
        named["space_drawn"].change,
        identities.measure,
        takes=["space_point", "space_history", "space_drawn", "space_debias", *EDITS],
        gives=["space_map", "space_where", "space_moved"],
        trigger_mode="always_last",
    )
    for name, handler in (("space_undo", identities.undo), ("space_redo", identities.redo)):
        page.on(named[name].click, handler, takes=["space_history"], gives=[*POINT, "space_history"])
    page.on(named["space_reset"].click, identities.reset, gives=[*EDITS, "space_nudge"])
    page.on(
        named["space_ask_scenes"].click,
        identities.scenes,
        takes=["space_point", "space_prompt", "space_seed", "space_debias", "space_delay", *EDITS],
        gives=["space_scenes"],
        busy="space_scenes",
        reports_progress=True,
        concurrency_id="pictures",
    )


def _wire_people(page: Page, identities: IdentityHandlers) -> None:
    named = page.named
    opened = named["space_picture"].appear
    new = ["space_name", "space_factor", "space_sampler", "space_keep", "space_seed"]
    found = [*POINT, "space_number", "space_seed"]
    page.on(opened, identities.open, takes=["space_point", "space_name"], gives=found)
    page.on(named["space_new"].click, identities.new_person, takes=new, gives=found)
    page.on(named["space_number"].submit, identities.number, takes=["space_number", *new], gives=found)
    page.on(
        named["space_name"].input,
        identities.choose_space,
        takes=["space_name"],
        gives=[*found, "space_prompt"],
    )
    page.on(named["space_show"].click, identities.open_saved, takes=["space_open"], gives=POINT)
    page.on(
        named["space_recall"].upload,
        identities.recall,
        takes=["space_recall"],
        gives=[*POINT, "space_recall", "space_prompt", "space_seed", "space_debias", "space_delay"],
        busy="space_recall",
    )
    page.on(
        named["space_map"].choose,
        identities.walk_to,
        takes=["space_point", "space_debias", *EDITS],
        gives=POINT,
        event_data="value",
    )
    page.on(
        named["space_mix"].click,
        identities.combine,
        takes=[
            "space_point", "space_debias", "space_how", "space_other", "space_third", "space_share", *EDITS,
        ],
        gives=POINT,
    )  # fmt: skip
    offered = ["space_open", "space_other", "space_third", "space_beside"]
    for event in (named["space_combine"].expand, opened):
        page.on(event, identities.offer, gives=offered)


def _wire_keeping(page: Page, identities: IdentityHandlers) -> None:
    named = page.named
    person = ["space_point", "space_title", "space_debias", "space_drawn", *EDITS]
    given = ["space_kept", "space_open", "space_other", "space_third", "space_beside"]
    page.on(named["space_save"].click, identities.save, takes=person, gives=[*given, "runs"])
    page.on(
        named["space_export"].click,
        identities.export,
        takes=[*person, "space_format"],
        gives=[*given, "space_file"],
        busy="space_file",
    )
