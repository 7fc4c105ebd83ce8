"""Handlers of the experiments in the tab Compare. They take widget values by name and return new ones by name."""

from pathlib import Path
from typing import Any

import gradio as gr

from pipelines.config import Checked, SubjectConfig
from pipelines.experiments.method_comparison import candidates
from pipelines.experiments.settings import CONFIGS, ExperimentConfig
from pipelines.experiments.styles import shipped_style
from ui import forms as form
from ui.html import BrowserCopies, Html, element
from ui.run import panels
from ui.run.monitor import Values
from ui.run.panels import duration
from ui.tabs.compare import experiment_results as results
from ui.tabs.library.handlers import LibraryHandlers

SIDE = "side"
MODES = (("Side by side", SIDE), ("Which method?", "methods"), ("Which blocks?", "blocks"))
HEADINGS = {
    "methods": ("Which method?", "Every method on the same photographs, prompts and seeds."),
    "blocks": (
        "Which blocks?",
        "A character and a style, each trained in all blocks of the UNet or in some of them.",
    ),
}
FROM_TRAIN = "train"
OWN_STYLE = "own"
STYLES = (
    ("Stained glass (unknown to the base model)", "stained glass"),
    ("Pixel mosaic (unknown to the base model)", "pixel mosaic"),
    ("Your own pictures", OWN_STYLE),
)
METHODS = [(candidate.label, key) for key, candidate in candidates().items()]
LIVE = "running"


def fields_of(kind: str) -> dict[str, str]:
    """Return the advanced fields of a kind of experiment, mapped to the names of their widgets."""
    cls: type[Checked] = CONFIGS[kind]
    return {name: f"{kind}_{name}" for name in form.field_names(cls) if name != "methods"}


class ExperimentHandlers:
    """Starts and shows experiments."""

    def __init__(self, library: LibraryHandlers) -> None:
        self.monitor = library.monitor
        self.studio = library.studio
        self.copies: BrowserCopies = library.copies

    # Choosing

    def choose_mode(self, experiment_mode: str, experiment_id: str) -> Values:
        """Switch between the comparison and the two experiments."""
        if experiment_mode == SIDE:
            return {"side_by_side": gr.update(visible=True), "experiments": gr.update(visible=False)}
        title, description = HEADINGS[experiment_mode]
        kept = self.choices(experiment_mode)
        known = [each for _, each in kept]
        chosen = next((each for each in (experiment_id, self._running(), *known) if each in known), "")
        values: Values = {
            "side_by_side": gr.update(visible=False),
            "experiments": gr.update(visible=True),
            "experiment_heading": panels.heading("", title, description),
            "experiment_subject": gr.update(choices=self.subjects()),
            "experiment_methods": gr.update(visible=experiment_mode == "methods"),
            "experiment_style": gr.update(visible=experiment_mode == "blocks"),
            "experiment_style_files": gr.update(visible=False),
            **{f"{kind}_fields": gr.update(visible=kind == experiment_mode) for kind in CONFIGS},
            "experiment_shown": gr.update(choices=kept, value=chosen or None),
        }
        return values | self.show(chosen)

    def from_train(self) -> Values:
        """Switch from the tab Train to "Which method?" with the photographs chosen there."""
        return {
            "tabs": gr.Tabs(selected="compare"),
            "experiment_mode": "methods",
            "experiment_subject": gr.update(choices=self.subjects(), value=FROM_TRAIN),
        }

    def subjects(self) -> list[tuple[str, str]]:
        """Return the photographs that can be used: the examples' and those of the tab Train."""
        shipped = [(example["title"], name) for name, example in self.monitor.examples.items()]
        return [*shipped, ("Photographs chosen in the tab Train", FROM_TRAIN)]

    def choices(self, kind: str) -> list[tuple[str, str]]:
        """Return the experiments of a kind, newest first, and the recorded one."""
        return [
            (f"{row['name']} · {results.state_of(row).lower()}", row["id"])
            for row in self.studio.experiments.list(shipped=True)
            if row["kind"] == kind
        ]

    def _running(self) -> str:
        return next((row["id"] for row in self.studio.experiments.list() if row["state"] == LIVE), "")

    def choose_style(self, experiment_style: str) -> Values:
        """Show the upload field when the user brings their own style."""
        return {"experiment_style_files": gr.update(visible=experiment_style == OWN_STYLE)}

    def cost(self, experiment_mode: str, experiment_methods: list[str], base: str, **fields: Any) -> Values:
        """Show the estimated time before the start."""
        if experiment_mode == SIDE:
            return {}
        try:
            cost = self.studio.experiments.cost(
                experiment_mode, self._config(experiment_mode, experiment_methods, fields), base=base
            )
        except ValueError as error:
            return {"experiment_cost": element("p", str(error), class_="cost")}
        words = [f"{cost['runs']} runs", f"{cost['pictures']} pictures", f"about {duration(cost['seconds'])}"]
        return {"experiment_cost": element("p", *[element("span", word) for word in words], class_="cost")}

    def _config(self, kind: str, methods: list[str], fields: Values) -> ExperimentConfig:
        asked = {name: fields[widget] for name, widget in fields_of(kind).items() if widget in fields}
        if kind == "methods":
            if not methods:
                raise ValueError("No method is chosen; choose at least one.")
            asked["methods"] = tuple(methods)
        return form.parse(CONFIGS[kind], asked)

    def recorded(self) -> Html:
        """Return the pictures and figures of the recorded comparison of methods; "" if none is installed."""
        kept = [row for row in self.studio.experiments.list(shipped=True) if row["shipped"]]
        found = [self.studio.experiments.status(row["id"]) for row in kept if row["kind"] == "methods"]
        return results.recorded(found[0], copies=self.copies) if found else Html("")

    # An experiment

    def start(
        self,
        experiment_mode: str,
        experiment_subject: str | None,
        experiment_methods: list[str],
        experiment_style: str,
        experiment_style_files: list[str] | None,
        source: Values | None,
        class_noun: str,
        identifier: str,
        base: str,
        **fields: Any,
    ) -> Values:
        """Start all runs of an experiment and show it."""
        config = self._config(experiment_mode, experiment_methods, fields)
        subject = self._subject(experiment_subject, source, class_noun=class_noun, identifier=identifier)
        blocks = experiment_mode == "blocks"
        style = self._style_of(experiment_style, experiment_style_files) if blocks else {}
        made = self.studio.experiments.start(experiment_mode, config, base=base, **subject, **style)
        kept = {"experiment_shown": gr.update(choices=self.choices(experiment_mode), value=made)}
        return kept | self.show(made)

    def _subject(
        self, experiment_subject: str | None, source: Values | None, *, class_noun: str, identifier: str
    ) -> dict[str, Any]:
        """Return the photographs and words of the chosen subject as arguments of ``ExperimentService.start``."""
        if experiment_subject in self.monitor.examples:
            example = self.monitor.examples[experiment_subject]
            words = {name: example[name] for name in ("class_noun", "identifier")}
            return {"photo_paths": list(example["photos"]), "name": example["title"], **words}
        if not source:
            raise ValueError(
                "No photographs are chosen in the tab Train; choose some there, or choose an example here."
            )
        name = source["title"] or f"{identifier} {class_noun}".strip()
        return {
            "photo_paths": [Path(file) for file in source["files"]],
            "crops": source["crops"] or None,
            "captions": source["captions"] or None,
            "name": name,
            "class_noun": class_noun or form.default(SubjectConfig, "class_noun"),
            "identifier": identifier,
        }

    def _style_of(self, style: str, files: list[str] | None) -> dict[str, Any]:
        """Return the pictures of a style, uploaded or shipped, as arguments of ``ExperimentService.start``."""
        if style == OWN_STYLE:
            return {"style_paths": [Path(file) for file in files or []]}
        shipped = shipped_style(style)
        captions = {path.name: caption for path, caption in shipped.items()}
        return {"style_paths": list(shipped), "style_captions": captions}

    def pick(self, experiment_shown: str | None, experiment_id: str) -> Values:
        """Show another experiment."""
        return {} if experiment_shown in (None, experiment_id) else self.show(experiment_shown)

    def show(self, experiment_id: str | None) -> Values:
        """Show all of an experiment."""
        if not experiment_id:
            return {
                "experiment_id": "",
                "experiment_results": panels.placeholder("Results appear here as they are measured."),
                "experiment_files": gr.update(visible=False),
                "experiment_acts": gr.update(visible=False),
                "experiment_sure": gr.update(visible=False),
                "experiment_drawn": {},
            }
        return {"experiment_id": experiment_id} | self.watch(experiment_id, {})

    def watch(self, experiment_id: str, experiment_drawn: Values, experiment_mode: str = "") -> Values:
        """Render what changed since ``experiment_drawn``; nothing while the experiments are hidden."""
        if experiment_mode == SIDE or not (experiment_id or experiment_drawn):
            return {}
        try:
            status = self.studio.experiments.status(experiment_id)
        except ValueError:
            return self.show(None)
        now = _signature(status)
        if now == experiment_drawn:
            return {}
        values: Values = {
            "experiment_results": results.shown(status, copies=self.copies),
            "experiment_acts": gr.update(visible=not status["shipped"]),
            "experiment_stop": gr.update(visible=status["state"] == LIVE),
            "experiment_resume": gr.update(visible=self._resumable(status)),
            "experiment_drawn": now,
        }
        measured = (status["id"], status["state"], status["done"])
        if measured != tuple(experiment_drawn.get(name) for name in ("id", "state", "done")):
            values |= self._files(status)
            values["experiment_shown"] = gr.update(choices=self.choices(status["kind"]), value=status["id"])
        return values

    def tick(
        self, experiment_id: str, experiment_drawn: Values, experiment_mode: str = "", *, news: int
    ) -> Values:
        """Increment ``news`` if ``watch`` has something to render."""
        if experiment_mode == SIDE or not (experiment_id or experiment_drawn):
            return {}
        try:
            now = _signature(self.studio.experiments.status(experiment_id))
        except ValueError:
            now = {}
        return {} if now == experiment_drawn else {"news": news + 1}

    def _resumable(self, status: Values) -> bool:
        return status["state"] == "interrupted" or (
            status["state"] == "done" and any(row["state"] == "failed" for row in status["rows"])
        )

    def _files(self, status: Values) -> Values:
        """Return the download buttons for the measured results."""
        if not status["done"]:
            return {"experiment_files": gr.update(visible=False)}
        found = self.studio.experiments.files(status["id"])
        values: Values = {"experiment_files": gr.update(visible=True)}
        for name in ("json", "pictures", "chart"):
            path = str(self.copies.copy(found[name])) if name in found else None
            values[f"experiment_{name}"] = gr.update(value=path, visible=path is not None)
        return values

    def stop(self, experiment_id: str) -> Values:
        """Stop the experiment and keep its results."""
        self.studio.experiments.stop(experiment_id)
        return self.watch(experiment_id, {})

    def resume(self, experiment_id: str) -> Values:
        """Resume an experiment with interrupted or failed runs."""
        self.studio.experiments.resume(experiment_id)
        return self.watch(experiment_id, {})

    def ask_delete(self) -> Values:
        """Ask before an experiment is deleted."""
        question = "Delete this experiment with its figures and pictures? Its runs stay in the Library."
        return {
            "experiment_sure": gr.update(visible=True),
            "experiment_question": Html(element("p", question, class_="trouble")),
        }

    def delete(self, experiment_id: str, experiment_mode: str) -> Values:
        """Delete an experiment permanently."""
        self.studio.experiments.delete(experiment_id)
        return {"experiment_shown": gr.update(choices=self.choices(experiment_mode), value=None)} | self.show(
            None
        )


def _signature(status: Values) -> Values:
    drawn = {name: status[name] for name in ("id", "state", "done", "doing")}
    return drawn | {"rows": [row["state"] for row in status["rows"]]}
