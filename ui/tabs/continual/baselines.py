"""The choice of another method for the concepts of a sequence, in the tab Continual."""

from functools import partial

import gradio as gr

from ui.run.monitor import Values
from ui.tabs.continual.handlers import SHOWN, ContinualHandlers
from ui.wiring import WATCHED, Page

WAITING = "It is trained now. Press the button again when its runs have finished: then they are merged."
STACKED = "Each concept is a run of its own; draw them together in the Library or as a stack on Train."


def lay_out(page: Page, continual: ContinualHandlers) -> None:
    """Create the widgets in the current Blocks context."""
    offered = [(label, key) for key, label in continual.studio.sequences.baselines().items()]
    with gr.Accordion("Compare with another method", open=False, elem_id="continual-baselines"):
        page.named["continual_baseline"] = gr.Dropdown(
            offered,
            value=offered[0][1],
            label="Method",
            info="Trains the concepts of this sequence again; their photographs are read once more for that.",
        )
        page.named["continual_baseline_start"] = gr.Button("Train the same concepts", size="md")


def wire(page: Page, continual: ContinualHandlers) -> None:
    """Connect the button."""
    page.on(
        page.named["continual_baseline_start"].click,
        partial(start, continual),
        takes=["continual_sequence", "continual_baseline", "shown"],
        gives=[*WATCHED, "continual_sequence", "continual_after", *SHOWN],
    )


def start(
    continual: ContinualHandlers, continual_sequence: str, continual_baseline: str, shown: str = ""
) -> Values:
    """Start the missing runs of a baseline, or show it if it has finished."""
    if not continual_sequence:
        raise ValueError("There is nothing to compare yet; add two concepts first.")
    runs = continual.studio.sequences.start_baseline(continual_sequence, continual_baseline)
    queued = [run_id for run_id in runs if continual.monitor.at_work(run_id)]
    if continual_baseline == "merged" and queued:
        gr.Info(WAITING)
    if continual_baseline == "separate":
        gr.Info(STACKED)
    if queued:
        return continual.monitor.started(queued[0], shown) | continual.show(continual_sequence)
    return continual.show(runs[-1])
