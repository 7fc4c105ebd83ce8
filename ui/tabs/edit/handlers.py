"""Handlers of the tab Edit. They take widget values by name and return new ones by name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from pipelines.config import EDIT_STRIP, EditConfig, from_dict, to_dict
from pipelines.data.edit_suggestions import caption_of, suggestions, word_lists
from pipelines.methods.specs import method_config, methods_of, preset, preset_names
from ui import forms as form
from ui.html import Html, element
from ui.run import panels
from ui.run.monitor import RunMonitor, Values

METHOD = next(spec.name for spec in methods_of("edit"))
OWN = "edit_"  # prefix of this tab's widget names
MOST_SUGGESTIONS = 7
FIELDS = [
    "steps", "learning_rate", "norm_learning_rate", "subset", "text_encoder", "schedule", "warmup_steps", "batch_size",
    "weight_decay", "snr_gamma", "seed", "gradient_checkpointing", "sample_steps",
]  # fmt: skip
ASKED = [item for item in form.field_names(EditConfig)]
EMPTY = "Learn a photograph, and its edits appear here."
NO_STRIP = "The strip is made after an edit."
NOTHING: Values = {
    "edit_result": panels.placeholder(EMPTY),
    "edit_told": Html(""),
    "edit_strip": panels.hint(NO_STRIP),
}
NEEDS_RUN = "Learn a photograph first, or choose one that is learned already."


class EditHandlers:
    """Learns one photograph and edits it; what is shown comes from the run's stored pictures."""

    def __init__(self, monitor: RunMonitor) -> None:
        self.monitor = monitor
        self.studio = monitor.studio
        self.copies = monitor.copies
        self.family = next(iter(self.studio.inspection.bases())).family

    # Learning a photograph

    def sources(self) -> list[tuple[str, str]]:
        """Return (label, value) of the examples whose first photograph can be edited."""
        return [(f"{each['title']} · example", name) for name, each in self.monitor.examples.items()]

    def words(self) -> str:
        """Return a sentence with the words that a base without a large vocabulary knows, or ""."""
        known = word_lists(self.family)
        if self.family != "embedded" or not known:
            return ""
        nouns, scenes = ", ".join(known["nouns"]), ", ".join(known["scenes"].values())
        return f"The embedded base knows these words: {nouns}; {scenes}."

    def presets(self) -> list[str]:
        """Return the names of the presets, the fastest first."""
        return preset_names(METHOD, self.family)

    def config(self, name: str = "") -> Any:
        """Return the config of a preset; "" is the fastest one."""
        return preset(METHOD, self.family, name or self.presets()[0])

    def choose_preset(self, edit_preset: str) -> Values:
        """Fill the advanced fields from a preset."""
        values = form.shown(self.config(edit_preset))
        return {OWN + name: values[name] for name in FIELDS}

    def photograph(self, upload: str | None, source: str | None) -> Path | None:
        """Return the photograph that is chosen; an upload takes precedence."""
        if upload:
            return Path(upload)
        return self.monitor.examples[source]["photos"][0] if source in self.monitor.examples else None

    def choose_photograph(self, edit_upload: str | None, edit_source: str | None) -> Values:
        """Show the square that will be learned, with a caption from its tags if the base knows what it shows."""
        photo = self.photograph(edit_upload, edit_source)
        if photo is None:
            return {"edit_square": Html("")}
        (square,) = self.studio.inspection.photos_preview([photo])
        told = caption_of(next(iter(self._tags(photo).values()), []), self.family)
        shown = element(
            "img", src=self.copies.enlarged(square, side_px=256), alt="The photograph as it will be learned"
        )
        return {
            "edit_square": element("div", shown, class_="edit-square"),
            "edit_caption": told or gr.update(),
        }

    def _tags(self, photo: Path) -> dict[str, list[str]]:
        try:
            return self.studio.inspection.tags([photo], with_subject=True)
        except ValueError:  # no CLIP for this base: the caption is written by hand
            return {}

    def learn(
        self,
        edit_upload: str | None,
        edit_source: str | None,
        edit_caption: str,
        edit_preset: str,
        **fields: Any,
    ) -> Values:
        """Train on the one photograph and show the run."""
        photo = self.photograph(edit_upload, edit_source)
        if photo is None:
            raise ValueError("There is no photograph yet; add one, or choose an example.")
        values = {name: fields[OWN + name] for name in FIELDS}
        config = form.parse(
            method_config(METHOD),
            form.shown(self.config(edit_preset)) | values | {"caption": edit_caption or ""},
        )
        run_id = self.studio.training.start(METHOD, config, [photo])
        return self.monitor.started(run_id, fields.get("shown", "")) | self.open(run_id)

    # The learned photographs

    def runs(self) -> list[tuple[str, str]]:
        """Return (label, run id) of the learned photographs, the newest first, then the shipped one."""
        found = [run for run in self.studio.library.list_runs(shipped=True) if run.method == METHOD]
        names = self.studio.library.names(mark_examples=True)
        return [(names.get(run.id, run.name), run.id) for run in found]

    def follow(self, shown: str, edit_run: str | None) -> Values:
        """Open the run that the page shows if it learned a photograph; otherwise keep the one that is open."""
        known = self.runs()
        ids = [run_id for _, run_id in known]
        if shown in ids and shown != edit_run:
            return self.open(shown)
        if edit_run not in ids:
            return self.open(ids[0]) if ids else self._nothing()
        return {"edit_run": gr.update(choices=known, value=edit_run)}

    def choose_run(self, edit_run: str | None) -> Values:
        """Open a learned photograph and show its run."""
        return self.monitor.show_run(edit_run) | self.open(edit_run) if edit_run else {}

    def open(self, run_id: str) -> Values:
        """Fill the form with the last edit of a run, or with its caption, and offer edits of its caption."""
        config, asked, offered = self.opening(run_id)
        return {
            "edit_run": gr.update(choices=self.runs(), value=run_id),
            **{OWN + "ask_" + name: value for name, value in form.shown(config).items()},
            **self._offers(offered),
            "edit_asked": asked,
        }

    def opening(self, run_id: str) -> tuple[EditConfig, Values, list[tuple[str, str]]]:
        """Return what a run opens with: its last edit, or a first one to make; what is shown; the suggested edits."""
        if not run_id:
            return EditConfig(), {}, []
        caption = str(self.studio.training.status(run_id)["config"]["caption"])
        last = self.studio.editing.last(run_id)
        offered = suggestions(caption, self.family)[:MOST_SUGGESTIONS]
        config = last or EditConfig(prompt=offered[0][1] if offered else caption)
        return config, {"run": run_id} | ({"config": to_dict(config)} if last else {}), offered

    def _nothing(self) -> Values:
        return {"edit_run": gr.update(choices=[], value=None), "edit_asked": {}, **self._offers([])}

    def _offers(self, offered: list[tuple[str, str]]) -> Values:
        padded = [*offered, *[("", "")] * (MOST_SUGGESTIONS - len(offered))]
        return {
            f"edit_offer_{place}": gr.update(value=label, visible=bool(label))
            for place, (label, _) in enumerate(padded)
        }

    # Editing

    def suggested(self, place: int, edit_run: str | None, **fields: Any) -> Values:
        """Make the edit of a suggestion."""
        if not edit_run:
            raise ValueError(NEEDS_RUN)
        caption = str(self.studio.training.status(edit_run)["config"]["caption"])
        prompt = suggestions(caption, self.family)[place][1]
        name = OWN + "ask_prompt"
        return {name: prompt} | self.edit(edit_run, **(fields | {name: prompt}))

    def edit(self, edit_run: str | None, **fields: Any) -> Values:
        """Make the edit and the reconstruction; both are stored with the run, from which they are shown."""
        if not edit_run:
            raise ValueError(NEEDS_RUN)
        config = form.parse(EditConfig, {name: fields[OWN + "ask_" + name] for name in ASKED})
        notes: list[str] = []
        self.studio.editing.edit(edit_run, config, on_note=notes.append)
        self.studio.editing.reconstruct(edit_run, steps=config.steps)
        self.studio.editing.keep_last(edit_run, config)
        for note in notes:
            gr.Info(note)
        return {"edit_asked": {"run": edit_run, "config": to_dict(config)}}

    def untrained(self, edit_asked: Mapping[str, Any]) -> Values:
        """Make the same edit without fine-tuning, for comparison."""
        if "config" in edit_asked:
            config = from_dict(EditConfig, edit_asked["config"])
            self.studio.editing.edit(edit_asked["run"], config, fine_tuned=False)
        return {}

    def strip(self, edit_asked: Mapping[str, Any]) -> Values:
        """Make the edit for each value of the slider's strip."""
        if "config" in edit_asked:
            self.studio.editing.strip(edit_asked["run"], from_dict(EditConfig, edit_asked["config"]))
        return {}

    # Showing

    def show(self, edit_asked: Mapping[str, Any]) -> Values:
        """Show the edit that was asked for last, as far as it is made.

        The pictures are read from the run, so a picture that is finished late for an earlier edit is never shown.
        """
        if not edit_asked or not edit_asked.get("run"):
            return NOTHING
        editing, run_id = self.studio.editing, edit_asked["run"]
        try:
            original = editing.photograph(run_id)
        except ValueError:  # deleted meanwhile
            return NOTHING
        if "config" not in edit_asked:
            shown = self._figures([("The photograph", original)])
            return NOTHING | {"edit_result": shown}
        config = from_dict(EditConfig, edit_asked["config"])
        figures = [("The photograph", original)]
        if editing.shown(run_id, editing.same_words(run_id, steps=config.steps)):
            again = editing.reconstruct(run_id, steps=config.steps)
            figures.append((f"Reconstructed, {again.psnr_db:.1f} dB", again.picture))
        for label, fine_tuned in (("Edited", True), ("Edited without fine-tuning", False)):
            if picture := editing.shown(run_id, config, fine_tuned=fine_tuned):
                figures.append((label, picture))
        facts = [("Keep or change", f"{config.change:g}"), ("Guidance", f"{config.guidance_scale:g}")]
        return {
            "edit_result": self._figures(figures),
            "edit_told": panels.caption(prompt=config.prompt, seed=config.seed, facts=facts),
            "edit_strip": self._strip(run_id, config),
        }

    def _strip(self, run_id: str, config: EditConfig) -> Html:
        made = [(share, self.studio.editing.shown(run_id, _at(config, share))) for share in EDIT_STRIP]
        figures = [
            (f"{share:g}" + {0.0: " · keep", 1.0: " · change"}.get(share, ""), path)
            for share, path in made
            if path is not None
        ]
        return self._figures(figures, class_="edit-strip") if len(figures) > 1 else panels.hint(NO_STRIP)

    def _figures(self, pictures: list[tuple[str, Path]], *, class_: str = "edit-figures") -> Html:
        figures = [
            element(
                "figure",
                element("img", src=self.copies.enlarged(path, side_px=384), alt=label),
                element("figcaption", label),
            )
            for label, path in pictures
        ]
        return element("div", *figures, class_=class_)


def _at(config: EditConfig, share: float) -> EditConfig:
    return from_dict(EditConfig, to_dict(config) | {"change": share})
