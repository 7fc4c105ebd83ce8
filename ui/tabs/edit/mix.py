"""The card "Mix two runs" of the tab Edit: sliders over one picture at a fixed seed, a strip, and the mix as a run."""

from pathlib import Path
from typing import Any

import gradio as gr

from pipelines.config import MixConfig, SampleConfig, clean_text
from pipelines.models.inspection import SD1_SIZE_PX
from pipelines.runs.status import Card
from ui import forms as form
from ui.html import Html, element
from ui.live_preview import FULL_STEPS, ONE_PICTURE, follow, full_flag, preview
from ui.run import panels
from ui.run.monitor import SUBJECT_PROMPT, RunMonitor, Values
from ui.wiring import WATCHED, WATCHING, Page

KINDS = ("spectral", "lora")  # kinds of adapters that can be mixed
SHARES = form.field_names(MixConfig)
OWN = "mixing_"
EMPTY = "Choose two runs of SVDiff or two LoRAs."
ASKED = [OWN + name for name in ("one", "other", "prompt", "seed", *SHARES)]


class MixHandlers:
    """Mixes two runs; ``mixing_drawn`` holds what the shown full picture was asked with."""

    def __init__(self, monitor: RunMonitor) -> None:
        self.monitor = monitor
        self.studio = monitor.studio
        self.copies = monitor.copies
        self.size_px = next(iter(self.studio.inspection.bases())).size_px or SD1_SIZE_PX

    def runs(self) -> list[tuple[str, str]]:
        """Return (label, run id) of the runs that can be mixed."""
        found = [run for run in self.studio.library.list_runs(shipped=True) if _can_mix(run)]
        names = self.studio.library.names(mark_examples=True)
        return [(names.get(run.id, run.name), run.id) for run in found]

    def offer(self) -> Values:
        """Update the choices, when the tab is opened: an answer that arrives later would close an open list."""
        choices = self.runs()
        return {OWN + name: gr.update(choices=choices) for name in ("one", "other")}

    def swap(self, mixing_one: str | None, mixing_other: str | None) -> Values:
        """Exchange the two runs."""
        return {OWN + "one": gr.update(value=mixing_other), OWN + "other": gr.update(value=mixing_one)}

    def draw(self, mixing_full: bool, **asked: Any) -> Values:
        """Draw the mix: a small preview while a slider moves, else the full picture."""
        pair, mix, config = self._asked(asked, full=mixing_full)
        if not pair:
            return {}
        path = self.studio.mixing.draw(pair, mix, config)
        label = "The mix" if mixing_full else "Preview"
        values: Values = {
            OWN + "picture": panels.single(self.copies.enlarged(path), alt=config.prompt, label=label)
        }
        if mixing_full:
            facts = [(form_label(name), f"{getattr(mix, name):g}") for name in SHARES]
            values[OWN + "told"] = panels.caption(prompt=config.prompt, seed=config.seed, facts=facts)
            values[OWN + "drawn"] = asked
        return values

    def strip(self, mixing_drawn: Values) -> Values:
        """Show the way from the first run to the second, for the full picture that was drawn last."""
        if not mixing_drawn:
            return {}
        pair, mix, config = self._asked(mixing_drawn, full=True)
        made = self.studio.mixing.strip(pair, mix, config)
        names = {run_id: label for label, run_id in self.runs()}
        ends = {0.0: names.get(pair[0], ""), 1.0: names.get(pair[1], "")}
        figures = [self._figure(ends.get(share) or f"{share:g}", path) for share, path in made]
        return {OWN + "strip": element("div", *figures, class_="edit-strip")}

    def save(self, mixing_name: str, **asked: Any) -> Values:
        """Keep the mix as a run of the Library and show it."""
        pair, mix, config = self._asked(asked, full=True)
        if not pair:
            raise ValueError("There is no mix yet; choose two runs first.")
        run_id = self.studio.mixing.save(pair, mix, name=mixing_name or "", config=config)
        gr.Info(
            "The mix is a run of the Library now; it generates and exports like any other.", title="Saved"
        )
        return self.monitor.show_run(run_id)

    def _asked(self, asked: Values, *, full: bool) -> tuple[list[str], MixConfig, SampleConfig]:
        """Return the two runs ([] unless both are chosen), their proportions and the sampler's settings."""
        pair = [run_id for run_id in (asked[OWN + "one"], asked[OWN + "other"]) if run_id]
        mix = form.parse(MixConfig, {name: asked[OWN + name] for name in SHARES})
        config = SampleConfig(
            prompt=clean_text(asked[OWN + "prompt"] or "") or self._words(pair),
            seed=int(asked[OWN + "seed"] or 0),
            steps=FULL_STEPS,
        )
        config = config if full else preview(config, size_px=self.size_px)
        return (pair if len(pair) == 2 else []), mix, config

    def _words(self, pair: list[str]) -> str:
        """Return a prompt with the words of the first run."""
        config = self.studio.training.status(pair[0])["config"] if pair else {}
        words = SUBJECT_PROMPT.replace("{identifier}", str(config.get("identifier", "")))
        return clean_text(words.replace("{class_noun}", str(config.get("class_noun", ""))))

    def _figure(self, label: str, path: Path) -> Html:
        shown = element("img", src=self.copies.enlarged(path, side_px=256), alt=label)
        return element("figure", shown, element("figcaption", label))


def form_label(name: str) -> str:
    """Return the label of a share."""
    return {"first": "First run", "second": "Second run", "split": "Layer split"}[name]


def _can_mix(run: Card) -> bool:
    return run.kind in KINDS and run.state in ("done", "stopped")


def lay_out(page: Page, mixes: MixHandlers) -> None:
    """Create the card in the current Blocks context."""
    named = page.named
    named[OWN + "drawn"] = gr.JSON({}, visible=False)
    named[OWN + "full"] = full_flag()
    with gr.Row(elem_classes="page", equal_height=False, elem_id="mixing"):
        with (
            gr.Column(scale=4, min_width=330, elem_classes="inputs"),
            gr.Column(elem_classes="card", elem_id="mixing-form"),
        ):
            heading = panels.heading("", "Mix two runs", "Two of SVDiff or two LoRAs, at a fixed seed.")
            gr.HTML(heading)
            runs = mixes.runs()
            named[OWN + "one"] = gr.Dropdown(runs, value=None, label="First")
            named[OWN + "other"] = gr.Dropdown(runs, value=None, label="Second")
            named |= {OWN + name: made for name, made in form.widgets(MixConfig(), SHARES).items()}
            with gr.Accordion("Advanced", open=False):
                named[OWN + "prompt"] = gr.Textbox(
                    "", label="Prompt", max_lines=2, placeholder="Empty: the words of the first run"
                )
                named[OWN + "seed"] = gr.Number(0, label="Seed", precision=0, minimum=0)
                named[OWN + "swap"] = gr.Button("Swap the two runs", size="md")
            with gr.Accordion("Save as a run", open=False):
                named[OWN + "name"] = gr.Textbox("", label="Name", max_lines=1)
                named[OWN + "save"] = gr.Button("Save as a run", size="md")
        with (
            gr.Column(scale=8, min_width=330, elem_classes="stage"),
            gr.Column(elem_classes="card", elem_id="mixing-stage"),
        ):
            gr.HTML(
                panels.heading(
                    "", "The mix", "It follows the sliders; a full picture is drawn when they rest."
                )
            )
            named[OWN + "picture"] = gr.HTML(panels.placeholder(EMPTY))
            named[OWN + "told"] = gr.HTML("")
            named[OWN + "strip"] = gr.HTML("")


def wire(page: Page, mixes: MixHandlers, *, opened: Any) -> None:
    """Connect the events; ``opened`` fires when the tab is selected.

    Everything that changes the picture is one event, so that answers cannot overtake each other.
    """
    named = page.named
    pair = [OWN + "one", OWN + "other"]
    page.on(opened, mixes.offer, gives=pair, **WATCHING)
    page.on(named[OWN + "swap"].click, mixes.swap, takes=pair, gives=pair)
    settings = [
        named[OWN + "one"].change, named[OWN + "other"].change, named[OWN + "prompt"].submit, named[OWN + "seed"].submit,
    ]  # fmt: skip
    follow(
        page,
        [OWN + name for name in SHARES],
        mixes.draw,
        takes=ASKED,
        gives=[OWN + "picture", OWN + "told", OWN + "drawn"],
        full=OWN + "full",
        further=settings,
    )
    page.on(
        named[OWN + "drawn"].change,
        mixes.strip,
        takes=[OWN + "drawn"],
        gives=[OWN + "strip"],
        **ONE_PICTURE,
    )
    page.on(
        named[OWN + "save"].click,
        mixes.save,
        takes=[*ASKED, OWN + "name"],
        gives=WATCHED,
        busy=OWN + "save",
    )
