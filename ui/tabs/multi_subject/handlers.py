"""Handlers of the tab Multi-subject. They take widget values by name and return new ones by name."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from pipelines.config import SampleConfig, clean_text
from pipelines.data.subject import SubjectPhotos, named_together, stored_photos, stored_subjects
from pipelines.methods.specs import method_config, methods_of, preset, preset_names
from ui import forms as form
from ui.html import Html, element
from ui.run import cards, method_views, panels
from ui.run.monitor import RunMonitor, Values

METHOD = next(spec.name for spec in methods_of("multi_subject"))
MOST = 3  # maximum number of subjects in one run
OWN = "multi_"  # prefix of this tab's widget names
FIELDS = [
    *form.own_names(METHOD), "steps", "batch_size", "learning_rate", "schedule", "warmup_steps", "weight_decay",
    "snr_gamma", "seed", "gradient_checkpointing", "sample_prompts", "sample_steps",
]  # fmt: skip
SUGGESTED = ("a photo of {beside}", "{beside} on the beach", "{all} in the forest", "{beside} in the kitchen")
NO_MIXES = "The mixed training pictures appear here once a run has started."


class MultiSubjectHandlers:
    """Trains two or three subjects together; the monitor shows the run."""

    def __init__(self, monitor: RunMonitor) -> None:
        self.monitor = monitor
        self.studio = monitor.studio
        self.copies = monitor.copies
        self.examples = monitor.examples
        self.family = next(iter(self.studio.inspection.bases())).family

    def sources(self) -> list[tuple[str, str]]:
        """Return (label, value) of the available photographs: those of the examples and of the user's own runs."""
        runs = [run for run in self.studio.library.list_runs() if not run.shipped]
        names = cards.unique_names(runs)
        with_photos = [run for run in runs if len(stored_subjects(Path(self._path(run.id)), {})) == 1]
        return [(f"{each['title']} · example", f"example:{name}") for name, each in self.examples.items()] + [
            (names[run.id], f"run:{run.id}") for run in with_photos
        ]

    def _path(self, run_id: str) -> str:
        return self.studio.training.status(run_id)["path"]

    def presets(self) -> list[str]:
        """Return the names of the presets, the fastest first."""
        return preset_names(METHOD, self.family)

    def config(self, name: str = "") -> Any:
        """Return the config of a preset; "" is the fastest one."""
        return preset(METHOD, self.family, name or self.presets()[0])

    def opening(self, place: int) -> tuple[str | None, str, str]:
        """Return the initial (source, class noun, trigger word) of subject ``place`` (from 0): two of one class."""
        nouns = [each["class_noun"] for each in self.examples.values()]
        first = [name for name, each in self.examples.items() if nouns.count(each["class_noun"]) > 1]
        ordered = [*first, *(name for name in self.examples if name not in first)]
        if place >= 2 or place >= len(ordered):
            return None, "", ""
        example = self.examples[ordered[place]]
        return f"example:{ordered[place]}", example["class_noun"], example["identifier"]

    def choose_source(self, place: int, source: str | None) -> Values:
        """Fill in the class noun and trigger word that belong to the photographs of an example or a run."""
        if not source:
            return {}
        kind, _, name = source.partition(":")
        words = self.examples[name] if kind == "example" else self.studio.training.status(name)["config"]
        return {
            f"multi_noun_{place}": str(words.get("class_noun", "")),
            f"multi_word_{place}": str(words.get("identifier", "")),
            f"multi_upload_{place}": None,
        }

    def offer_sources_of(self, place: int) -> Values:
        """Update the photographs that a subject can use."""
        return {f"multi_source_{place}": gr.update(choices=self.sources())}

    def choose_preset(self, multi_preset: str) -> Values:
        """Fill the advanced fields from a preset."""
        values = form.shown(self.config(multi_preset))
        return {OWN + name: values[name] for name in FIELDS}

    def start(self, **fields: Any) -> Values:
        """Train all subjects that have photographs together and show the run."""
        subjects = [found for place in range(MOST) if (found := self._subject(place, fields))]
        if len(subjects) < 2:
            raise ValueError("One picture needs two or three subjects; choose photographs for at least two.")
        values = {name: fields[OWN + name] for name in FIELDS}
        config = form.parse(method_config(METHOD), form.shown(self.config(fields["multi_preset"])) | values)
        run_id = self.studio.training.start(METHOD, config, subjects=subjects)
        words = [clean_text(f"{one.identifier} {one.class_noun}") for one in subjects]
        prompt = named_together(config.sample_prompts[-1:], words)[-1]
        return {"prompt": prompt, "seed": config.sample_seed} | self.monitor.show_run(run_id)

    def _subject(self, place: int, fields: Mapping[str, Any]) -> SubjectPhotos | None:
        """Return a subject with its words, or None if no photographs are chosen."""
        upload, source = fields[f"multi_upload_{place}"], fields[f"multi_source_{place}"]
        kind, _, name = (source or "").partition(":")
        if upload:
            photos = [Path(file) for file in upload]
        elif kind == "example":
            photos = list(self.examples[name]["photos"])
        elif kind == "run":
            photos = stored_photos(Path(self._path(name)))
        else:
            return None
        word, noun = (str(fields[f"multi_{what}_{place}"] or "") for what in ("word", "noun"))
        return SubjectPhotos(word, noun, photos)

    def watch(self, shown: str) -> Values:
        """Show the mixed training pictures and the attention maps of the subjects' words, and suggest prompts."""
        if not shown:
            return {}
        status = self.studio.training.status(shown)
        if status["method"] != METHOD:
            return {"multi_mixes": panels.hint(NO_MIXES), "multi_views": Html("")}
        path = Path(status["path"])
        words = [f"{one.identifier} {one.class_noun}" for one in stored_subjects(path, status["config"])]
        offered = list(named_together(SUGGESTED, words))
        views = self.studio.inspection.views(shown)
        return {
            "multi_mixes": self._mixes(path),
            "multi_views": method_views.drawn(views[:2]),
            "multi_prompt": gr.update(choices=offered),
        }

    def _mixes(self, path: Path) -> Html:
        told = path / "mixed.json"
        if not told.is_file():
            return panels.hint(NO_MIXES)
        figures = [
            element(
                "figure",
                element(
                    "img", src=self.copies.enlarged(path / each["file"], side_px=256), alt=each["prompt"]
                ),
                element(
                    "div", element("span", each["left"]), element("span", each["right"]), class_="halves"
                ),
                element("figcaption", each["prompt"]),
            )
            for each in json.loads(told.read_text(encoding="utf-8"))
        ]
        return element("div", *figures, class_="mixes")

    def generate(self, shown: str, multi_prompt: str | None, seed: int) -> Values:
        """Generate the subjects in one picture and show the cross-attention maps of each subject's words."""
        if not shown or self.studio.training.status(shown)["method"] != METHOD:
            raise ValueError("Train two or three subjects together first, or choose such a run.")
        config = SampleConfig(
            prompt=clean_text(multi_prompt or ""),
            seed=int(seed or 0),
            negative_prompt=str(self.studio.training.status(shown)["config"]["negative_prompt"]),
        )
        (picture,) = self.studio.generation.generate(config, run_id=shown)
        found = self.studio.generation.word_attention(shown, picture)
        figures = [
            element(
                "figure",
                element("img", src=self.copies.enlarged(path, side_px=384), alt=told),
                element("figcaption", told),
            )
            for told, path in {"The picture": picture, **found}.items()
        ]
        told = panels.caption(
            prompt=config.prompt,
            seed=config.seed,
            facts=[("Negative prompt", config.negative_prompt or "none")],
        )
        return {"multi_result": element("div", *figures, class_="mixes"), "multi_told": told}
