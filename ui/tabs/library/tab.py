"""The tab Library: all runs as cards, to rename, delete, export, merge and combine; import of adapters and settings."""

from functools import partial
from typing import Any

import gradio as gr

from pipelines.config import KEPT_RANKS
from pipelines.formats.exchange import LOW_RANK
from pipelines.formats.lora_keys import MAX_RANK
from pipelines.formats.table import choices
from pipelines.sampling.stack import MAX_STRENGTH
from ui.run import panels
from ui.run.cards import BASE_FORMATS, MIXES
from ui.run.replay import SPEEDS
from ui.tabs.library import order
from ui.wiring import WATCHED, Page

# On a narrow screen the details are below the cards, so the page scrolls to them.
TO_THE_DETAIL = (
    "() => innerWidth < 900 && setTimeout(() => "
    "document.getElementById('detail')?.scrollIntoView({behavior: 'smooth'}), 700)"
)
TO_WHAT_CHANGED = (
    "() => setTimeout(() => document.getElementById('close-moved')?.checkVisibility() && "
    "document.getElementById('moved').scrollIntoView({behavior: 'smooth'}), 100)"
)
FILTERS = ["search", "lib_method", "lib_base", "lib_order"]
DETAIL = [
    "chosen", "detail", "facts", "name", "notes", "save", "delete", "lib_resume", "lib_replay", "confirm_row",
    "lib_format", "lib_rank", "merge_row", "merged", "merged_file", "moved", "moved_heading", "combine_row", "mix_with", "views", "shift_row", "spectrum", "likeness", "verified", "lib_exported", "settings_row", "command", "settings_out", "cards", "found",
]  # fmt: skip


def lay_out(page: Page) -> None:
    """Create the widgets of this tab in the current Blocks context."""
    with gr.Row(elem_classes="page library", equal_height=False):
        with gr.Column(scale=8, min_width=330, elem_classes="stage"):
            _cards(page)
        with gr.Column(scale=4, min_width=330, elem_classes="inputs"):
            _detail(page)
            _import(page)
    _moved(page)


def _cards(page: Page) -> None:
    named = page.named
    with gr.Column(elem_classes="card", elem_id="library-list"):
        gr.HTML(panels.heading("", "Library", "Click a card to open it."))
        with gr.Row(elem_id="library-head", elem_classes="filters"):
            named["search"] = gr.Textbox(
                label="Search",
                placeholder="name, trigger, notes, state …",
                max_lines=1,
                min_width=200,
                scale=2,
            )
            named |= order.lay_out(page.library.studio.library.list_runs(shipped=True), prefix="lib_")
        named["found"] = gr.HTML("")
        named["cards"] = gr.HTML("", js_on_load=panels.ACTS_SCRIPT, elem_id="cards")


def _detail(page: Page) -> None:
    named = page.named
    with gr.Column(elem_classes="card", visible=False, elem_id="detail") as named["detail"]:
        named["facts"] = gr.HTML("")
        named["name"] = gr.Textbox(label="Name", max_lines=1, max_length=300)
        named["notes"] = gr.Textbox(label="Notes", lines=2, max_lines=4, max_length=300)
        named["save"] = gr.Button("Save name and notes", size="md")
        with gr.Row(elem_classes="acts"):
            named["open"] = gr.Button("Open", variant="primary", size="md", min_width=90)
            named["lib_resume"] = gr.Button("Resume", size="md", min_width=90, visible=False)
            named["lib_replay"] = gr.Button("Replay", size="md", min_width=90)
            named["to_compare"] = gr.Button("Compare", size="md", min_width=90)
            named["show_moved"] = gr.Button("What changed", size="md", min_width=90)
            named["delete"] = gr.Button(
                "Delete …", variant="stop", size="md", min_width=90, elem_classes="asks"
            )
        with gr.Column(visible=False, elem_id="confirm") as named["confirm_row"]:
            named["question"] = gr.HTML("")
            with gr.Row():
                named["really"] = gr.Button("Delete permanently", variant="stop", size="md", min_width=90)
                named["keep"] = gr.Button("Cancel", size="md", min_width=90, elem_classes="stops")
        with gr.Accordion("Export", open=False):
            named["lib_format"] = gr.Dropdown(choices("lora"), value=choices("lora")[0][1], label="Format")
            named["lib_rank"] = gr.Slider(
                1,
                MAX_RANK,
                value=LOW_RANK,
                step=1,
                label="Rank of the exported LoRA",
                visible=False,
            )
            named["lib_export"] = gr.Button("Export and verify", size="md")
            named["verified"] = gr.HTML("")
            named["lib_exported"] = gr.File(label="Exported adapter", visible=False, interactive=False)
        _merge(page)
        _combine(page)
        with (
            gr.Column(visible=False) as named["settings_row"],
            gr.Accordion("Reproduce", open=False),
        ):
            named["command"] = gr.Textbox(
                label="Command line that reproduces the run", lines=2, buttons=["copy"], interactive=False
            )
            named["settings_out"] = gr.DownloadButton("Download the settings (run.json)", size="md")


def _moved(page: Page) -> None:
    """Views of what the run changed in the base model, as wide as the page; computed when they are asked for."""
    named = page.named
    with gr.Column(visible=False, elem_id="moved", elem_classes="card") as named["moved"]:
        with gr.Row(elem_id="moved-head", equal_height=True):
            named["moved_heading"] = gr.HTML("")
            named["close_moved"] = gr.Button(
                "Close", size="md", min_width=90, scale=0, elem_classes="stops", elem_id="close-moved"
            )
        named["views"] = gr.HTML("")
        with gr.Row(visible=False, equal_height=False, elem_id="shifts") as named["shift_row"]:
            with gr.Column(min_width=330):
                named["layer"] = gr.Dropdown([], label="Spectrum of a layer")
                named["spectrum"] = gr.HTML("")
            with gr.Column(min_width=330):
                named["alike"] = gr.Dropdown([], multiselect=True, label="Compare its shifts with")
                named["likeness"] = gr.HTML("")


def _merge(page: Page) -> None:
    """Merge this run into its base model."""
    named = page.named
    with gr.Accordion("Merge into a base model", open=False) as named["merge_row"]:
        named["merge_format"] = gr.Dropdown(list(BASE_FORMATS), value=BASE_FORMATS[0][1], label="Format")
        named["merge_strength"] = gr.Slider(
            0.05, MAX_STRENGTH, value=1.0, step=0.05, label="Adapter strength"
        )
        named["merge"] = gr.Button("Merge and verify", size="md")
        named["merged"] = gr.HTML("")
        named["merged_file"] = gr.File(label="Merged base model", visible=False, interactive=False)


def _combine(page: Page) -> None:
    """Combine the spectral shifts of this run and another into a new run."""
    named = page.named
    with gr.Accordion("Combine", open=False, visible=False) as named["combine_row"]:
        named["mix_how"] = gr.Radio(list(MIXES), value=MIXES[0][1], label="How")
        named["mix_with"] = gr.Dropdown([], label="The other run")
        named["mix_share"] = gr.Slider(0, 1, value=0.5, step=0.05, label="Share of this run", visible=False)
        named["mix_rank"] = gr.Dropdown(
            list(KEPT_RANKS), value=KEPT_RANKS[2], label="Singular values to keep", visible=False
        )
        named["mix"] = gr.Button("Create the combined run", size="md")


def _import(page: Page) -> None:
    """Import an adapter or settings. Any file can be dropped, so that a pickle is refused with an explanation."""
    named = page.named
    with gr.Accordion("Import", open=True, elem_id="load-lora", elem_classes="card"):
        named["lora"] = gr.File(
            label="LoRA (diffusers, PEFT, kohya, ComfyUI, LyCORIS), svdiff-pytorch shifts or textual inversion embedding: .safetensors or a zipped folder",
            type="filepath",
            height=58,
            elem_id="import",
            elem_classes="drop",
        )
        named["lora_facts"] = gr.HTML("")
        with gr.Row(visible=False) as named["add_row"]:
            named["add"] = gr.Button("Import and open the playground", variant="primary", size="md")
        with gr.Row(elem_id="hub", equal_height=False):
            named["hub_id"] = gr.Textbox(
                label="From the Hugging Face Hub",
                placeholder="someone/something",
                max_lines=1,
                min_width=160,
                scale=3,
            )
            named["hub_load"] = gr.Button("Load", size="md", min_width=80, scale=0)
        named["settings_in"] = gr.File(
            label="Settings of a run (run.json)",
            type="filepath",
            file_types=[".json"],
            height=58,
            elem_id="settings-in",
            elem_classes="drop",
        )


def wire(page: Page) -> None:
    """Connect the events of this tab."""
    library, named = page.library, page.named
    browsing: dict[str, Any] = {"takes": ["chosen", *FILTERS], "gives": ["cards", "found"]}
    offering: dict[str, Any] = browsing | {"gives": ["cards", "found", "lib_method", "lib_base"]}
    page.on(named["tab_library"].select, library.offer, **offering)
    page.on(named["seen"].change, library.browse, **browsing)
    asked = [named["search"].change, *(named[name].input for name in FILTERS[1:])]
    page.on(partial(gr.on, asked), library.browse, **browsing, trigger_mode="always_last")
    page.on(named["cards"].choose, library.choose, takes=FILTERS, gives=DETAIL, event_data="value")
    named["cards"].choose(None, js=TO_THE_DETAIL, api_visibility="private")
    saving = ["chosen", "name", "notes", *FILTERS]
    for event in (named["save"].click, named["name"].submit):
        page.on(event, library.save, takes=saving, gives=[*DETAIL, "runs"])
    asking = ["confirm_row", "question"]
    page.on(named["delete"].click, library.ask_delete, takes=["chosen"], gives=asking)
    page.on(named["keep"].click, lambda: {"confirm_row": gr.update(visible=False)}, gives=["confirm_row"])
    deleting = ["chosen", "shown", *FILTERS]
    page.on(named["really"].click, library.delete, takes=deleting, gives=[*DETAIL, *WATCHED])
    for name, handler in (("open", library.open), ("lib_resume", library.resume)):
        page.on(named[name].click, handler, takes=["chosen"], gives=["tabs", "prompt", *WATCHED])

    def replay(chosen: str) -> dict[str, Any]:
        return library.replay(chosen, SPEEDS[1][1])

    page.on(named["lib_replay"].click, replay, takes=["chosen"], gives=["tabs", *WATCHED])
    comparing = ["chosen", "compared"]
    page.on(named["to_compare"].click, library.to_compare, takes=comparing, gives=["tabs", "compared"])
    _wire_moved(page)
    _wire_combine(page)
    _wire_in_and_out(page)


def _wire_moved(page: Page) -> None:
    library, named = page.library, page.named
    opened = ["moved", "moved_heading", "views", "shift_row", "layer", "alike"]
    page.on(named["show_moved"].click, library.moved, takes=["chosen"], gives=opened, busy="facts")
    page.on(named["close_moved"].click, lambda: {"moved": gr.update(visible=False)}, gives=["moved"])
    named["moved_heading"].change(None, js=TO_WHAT_CHANGED, api_visibility="private")
    page.on(
        named["layer"].change, library.spectrum, takes=["chosen", "layer"], gives=["spectrum"], busy="layer"
    )
    page.on(
        named["alike"].input, library.likeness, takes=["chosen", "alike"], gives=["likeness"], busy="alike"
    )


def _wire_combine(page: Page) -> None:
    library, named = page.library, page.named
    asked = ["mix_how", "mix_with", "mix_share", "mix_rank"]
    page.on(named["mix_how"].input, library.mixing, takes=["mix_how"], gives=asked[1:])
    page.on(
        named["mix"].click, library.combine, takes=["chosen", *FILTERS, *asked], gives=DETAIL, busy="mix_how"
    )


def _wire_in_and_out(page: Page) -> None:
    library, named = page.library, page.named
    exported = ["lib_exported", "verified"]
    page.on(
        named["lib_export"].click,
        library.export,
        takes=["chosen", "lib_format", "lib_rank"],
        gives=exported,
        busy="lib_format",
    )
    page.on(
        named["merge"].click,
        library.merge,
        takes=["chosen", "merge_format", "merge_strength"],
        gives=["merged", "merged_file"],
        busy="merge_format",
    )
    inspected = ["lora_facts", "add_row"]
    for event in (named["lora"].upload, named["lora"].clear):
        page.on(event, library.inspect, takes=["lora"], gives=inspected, busy="lora")
    added = ["lora", "prompt", "tabs", *inspected, *WATCHED]
    page.on(named["add"].click, library.add, takes=["lora", "base"], gives=added, busy="lora")
    for event in (named["hub_load"].click, named["hub_id"].submit):
        page.on(event, library.from_hub, takes=["hub_id", *FILTERS], gives=["hub_id", *DETAIL], busy="hub_id")
    page.on(
        named["settings_in"].upload,
        library.read_settings,
        busy="settings_in",
        takes=["settings_in", "base", "source"],
        gives=[
            "settings_in",
            "source",
            "imported",
            "tabs",
            "method",
            "plan",
            "filled_plan",
            *dict.fromkeys((*page.training, *page.advanced)),
        ],
    )
