"""The page: header, tabs, presentation mode and keyboard shortcuts in one Blocks."""

from typing import TYPE_CHECKING, Any

import gradio as gr

from ui import api, api_experiments, api_identities
from ui.html import BrowserCopies, Html
from ui.run import activity, panels
from ui.run.monitor import FIGURES, REPLAY_POLL_S, RunMonitor
from ui.run.state import RunView, fold
from ui.server import CACHE_SWEEP
from ui.tabs import start
from ui.tabs.compare import experiments
from ui.tabs.compare import tab as compare
from ui.tabs.compare.experiment_handlers import ExperimentHandlers
from ui.tabs.continual import tab as continual
from ui.tabs.continual.handlers import ContinualHandlers
from ui.tabs.edit import mix
from ui.tabs.edit import tab as edit
from ui.tabs.edit.handlers import EditHandlers
from ui.tabs.edit.mix import MixHandlers
from ui.tabs.identity_space import tab as identity_space
from ui.tabs.identity_space.handlers import IdentityHandlers
from ui.tabs.library import tab as library
from ui.tabs.library.handlers import LibraryHandlers
from ui.tabs.multi_subject import tab as multi_subject
from ui.tabs.multi_subject.handlers import MultiSubjectHandlers
from ui.tabs.train import playground
from ui.tabs.train import tab as train
from ui.tabs.train.handlers import TrainHandlers
from ui.tabs.train.masks import CLOSED
from ui.tabs.train.playground_handlers import PlaygroundHandlers
from ui.theme import ASSETS
from ui.wiring import (
    DRAWN,
    SQUARES,
    SUBJECT,
    WATCHED,
    WATCHING,
    Page,
    drawn_memory,
    offer_memory,
    wire_offers,
)

if TYPE_CHECKING:
    from pipelines.studio import Studio

CUES = {
    "train": "The same run in detail: progress, curves, samples at every step, and what changed in the weights.",
    "multi_subject": "Two or three subjects in one picture, kept apart: Cut-Mix-Unmix beside the same training without it.",
    "continual": "Concepts learned one after another: every row is one more concept, every column one that must not be forgotten.",
    "identity_space": "Many trained people form a space: draw a new person, move a slider, put one photograph into it.",
    "edit": "One picture is learned with its caption; then the caption is changed, and only that changes in the picture.",
    "library": "Every run, with its settings and its file: open one, export it, or mix two.",
    "compare": "The same prompts and seeds for several runs, or one subject trained with every method.",
}  # of each tab, in presentation mode
PRESENTING = "() => document.documentElement.classList.contains('presentation')"


def build(studio: "Studio", copies: BrowserCopies) -> gr.Blocks:
    """Return the page as Blocks, ready to launch, without importing a heavy library or running a model."""
    monitor = RunMonitor(studio, copies)
    pictures = PlaygroundHandlers(monitor)
    page = Page(monitor, TrainHandlers(monitor), pictures, LibraryHandlers(monitor, pictures))
    multi = MultiSubjectHandlers(monitor)
    concepts = ContinualHandlers(monitor)
    identities = IdentityHandlers(monitor)
    edits, mixes = EditHandlers(monitor), MixHandlers(monitor)
    first = _first_view(monitor)
    with gr.Blocks(
        title="Atelier", analytics_enabled=False, fill_width=True, delete_cache=CACHE_SWEEP
    ) as blocks:
        _states(page)
        icon = Html((ASSETS / "icon.svg").read_text(encoding="utf-8"))
        gr.HTML(panels.header(icon=icon, base=_base(page.train), facts=["Nothing leaves this machine"]))
        page.named["activity"] = gr.HTML(
            "", js_on_load=activity.SCRIPT, server_functions=[activity.asked(studio)], visible="hidden"
        )
        with gr.Tabs(elem_id="tabs") as page.named["tabs"]:
            with gr.Tab("Start", id="start", elem_id="page-start"):
                start.lay_out(page, first=first)
            with gr.Tab("Train", id="train", elem_id="page-train"):
                _cue("train")
                train.lay_out(page, first=first)
            with gr.Tab("Multi-subject", id="multi_subject", elem_id="page-multi-subject"):
                _cue("multi_subject")
                multi_subject.lay_out(page, multi)
            with gr.Tab("Continual", id="continual", elem_id="page-continual") as continual_tab:
                _cue("continual")
                continual.lay_out(page, concepts)
            with gr.Tab("Identity space", id="identity_space", elem_id="page-identity-space"):
                _cue("identity_space")
                identity_space.lay_out(page, identities)
            with gr.Tab("Edit", id="edit", elem_id="page-edit") as edit_tab:
                _cue("edit")
                edit.lay_out(page, edits)
                mix.lay_out(page, mixes)
            with gr.Tab("Library", id="library", elem_id="page-library") as page.named["tab_library"]:
                _cue("library")
                library.lay_out(page)
            with gr.Tab("Compare", id="compare", elem_id="page-compare") as page.named["tab_compare"]:
                _cue("compare")
                experiments.lay_out_switch(page)
                compare.lay_out(page)
                experiments.lay_out(page)
        start.wire(page)
        train.wire(page)
        playground.wire(page, blocks)
        multi_subject.wire(page, multi, blocks)
        continual.wire(page, concepts, opened=continual_tab.select)
        identity_space.wire(page, identities)
        edit.wire(page, edits, opened=edit_tab.select)
        mix.wire(page, mixes, opened=edit_tab.select)
        library.wire(page)
        compare.wire(page)
        experiments.wire(page)
        wire_offers(page)
        _wire_load(page, blocks)
        _wire_tick(page)
        api.add(studio, copies)
        api_experiments.add(studio, copies)
        api_identities.add(studio, copies)
    return blocks


def _cue(tab: str) -> None:
    gr.HTML(panels.cue(CUES[tab]), elem_classes="cue")


def _first_view(monitor: RunMonitor) -> RunView | None:
    """Return the shipped run that the page shows first, or None when no example is installed."""
    example = next(iter(monitor.examples.values()), None)
    return fold(monitor.studio.training.status(example["run"])) if example else None


def _base(train: TrainHandlers) -> str:
    return next(iter(train.bases.values())).name


def _states(page: Page) -> None:
    opening = next(iter(page.train.examples), None)
    page.named |= {
        "shown": gr.State(""),
        **{name: drawn_memory() for name in DRAWN.values()},
        **offer_memory(),
        "visitor": gr.BrowserState(
            "", storage_key="atelier-visitor", secret="atelier"
        ),  # fixed: survives a restart
        "source": gr.State(page.train.source_of(opening) if opening else None),
        "imported": gr.State(None),
        "photo": gr.State(""),  # the name of the chosen one
        "found_masks": gr.State(CLOSED),
        "suits_own": gr.State(
            False
        ),  # whether the form is set up for the user's own photographs (else for an example)
        "seen": gr.State([]),
        "recalled_steps": gr.State({}),
        "replay": gr.State(None),
        "presentation": gr.State(False),
        "chosen": gr.State(""),
        "news": gr.State(0),  # incremented for changes that a tick does not render itself
        "filled_plan": gr.State(page.train.plans(next(iter(page.train.bases)))[0][1]),
        "experiment_id": gr.State(""),
        "timer": gr.Timer(REPLAY_POLL_S, active=False),  # only for a replay; see ui.run.activity
    }


def _wire_load(page: Page, blocks: gr.Blocks) -> None:
    page.named["presenting"] = gr.Checkbox(False, visible=False, label="Presenting")  # set by PRESENTING
    blocks.load(
        lambda presentation: bool(presentation),
        page.named["presenting"],
        page.named["presentation"],
        js=PRESENTING,
        api_visibility="private",
        **WATCHING,
    )
    train.wire_cost(page, blocks.load)
    page.on(blocks.load, page.train.offer_presets, takes=["method", "base"], gives=["plan"])
    subject = ["source", "imported", "class_noun", "identifier", "upload", *SQUARES]
    cards = [f"example_{name}" for name in page.train.examples]
    gives = ["prompt", "seed", *subject, *cards, *WATCHED]
    page.on(blocks.load, page.train.attach, takes=["presenting"], gives=gives, js=PRESENTING, **SUBJECT)


def _wire_tick(page: Page) -> None:
    """Connect one event for all updates of a page, and the job chip. Large changes are rendered by separate events."""
    monitor, handlers = page.monitor, ExperimentHandlers(page.library)

    def tick(
        experiment_id: str, experiment_drawn: dict[str, Any], experiment_mode: str, news: int, **run: Any
    ) -> dict[str, Any]:
        figures = monitor.tick(news=news, **run)
        experiment = handlers.tick(experiment_id, experiment_drawn, experiment_mode, news=news)
        return figures | experiment

    asked = [page.named["activity"].changed, page.named["timer"].tick]
    # A picture and the run that it belongs to may arrive in any order.
    for event in (*asked, page.named["shown"].change, page.named["drawn_result"].change):
        page.on(
            event,
            tick,
            takes=["shown", "drawn", "news", "replay", "presentation", *experiments.LOOKED_AT],
            gives=[*FIGURES, "news"],
            **WATCHING,
        )
    opened = page.on(
        page.named["activity"].open,
        monitor.open,
        takes=["shown"],
        gives=["tabs", "experiment_mode", "prompt", "seed", *WATCHED],
        event_data="value",
    )
    opened.then(None, js=activity.TO_THE_QUEUE, api_visibility="private")
    page.on(
        page.named["queue"].open,
        lambda value: monitor.open_experiment(value),
        gives=["tabs", "experiment_mode"],
        event_data="value",
    )
