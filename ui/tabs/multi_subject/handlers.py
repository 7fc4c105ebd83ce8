"""Handlers of the tab Multi-subject. They take widget values by name and return new ones by name."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from pipelines.config import SampleConfig, clean_text
from pipelines.data.subject import SubjectPhotos, named_together, stored_subjects
from pipelines.methods.specs import method_config, methods_of, photograph_settings, preset, preset_names
from ui import forms as form
from ui.html import Html, element
from ui.run import method_views, panels
from ui.run.monitor import RunMonitor, Values
from ui.tabs.multi_subject import pictures

METHOD = next(spec.name for spec in methods_of("multi_subject"))
MOST = 3  # maximum number of subjects in one run
OWN = "multi_"  # prefix of this tab's widget names
FIELDS = [
    *form.own_names(METHOD), "steps", "batch_size", "learning_rate", "schedule", "warmup_steps", "weight_decay",
    "snr_gamma", "auto_captions", "mask_background", "background_weight", "seed", "gradient_checkpointing",
    "sample_prompts", "sample_steps",
]  # fmt: skip
SUGGESTED = {  # by base family; none of them is a training prompt
    "embedded": (
        "a photo of {beside}", "{beside} on the beach", "{beside} in the kitchen", "{beside} in the forest",
        "an illustration of {beside}",
    ),
    "sd1": (
        "{sitting} in a park", "{beside} on the beach, golden hour", "{beside} in front of a castle",
        "an oil painting of {beside}", "{beside} walking in the snow",
    ),
}  # fmt: skip
NOT_YET = "Train two or three subjects together first, or choose such a run."


class MultiSubjectHandlers:
    """Trains two or three subjects together, and shows whether they stay separate."""

    def __init__(self, monitor: RunMonitor) -> None:
        self.monitor = monitor
        self.studio = monitor.studio
        self.copies = monitor.copies
        self.examples = monitor.examples
        self.bases = {base.spec: base for base in self.studio.inspection.bases()}
        self.finished = {
            each["run"]: each["title"] for each in self.studio.library.examples(tab="multi_subject")
        }

    # Choosing subjects

    def sources(self) -> list[tuple[str, str]]:
        """Return (label, value) of the available photographs: those of the examples and of the user's own runs."""
        runs = [run for run in self.studio.library.list_runs() if not run.shipped]
        names = self.studio.library.names()
        with_photos = [run for run in runs if len(stored_subjects(Path(self._path(run.id)), {})) == 1]
        return [(f"{each['title']} · example", f"example:{name}") for name, each in self.examples.items()] + [
            (names.get(run.id, run.name), f"run:{run.id}") for run in with_photos
        ]

    def _path(self, run_id: str) -> str:
        return self.studio.training.status(run_id)["path"]

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
        words: Mapping[str, Any] = {}
        if source:
            kind, _, name = source.partition(":")
            words = self.examples[name] if kind == "example" else self.studio.training.status(name)["config"]
        return {
            f"multi_noun_{place}": str(words.get("class_noun", "")),
            f"multi_word_{place}": str(words.get("identifier", "")),
            f"multi_upload_{place}": None,
        }

    def choose_upload(self, place: int, upload: list[str] | None, multi_base: str, **fields: Any) -> Values:
        """Use uploaded photographs instead of a source: the words are cleared, and masks are found."""
        if not upload:
            return {}
        settings = photograph_settings(METHOD, self.bases[multi_base].family)
        found = {OWN + name: value for name, value in settings.items() if name in FIELDS}
        return {
            f"multi_source_{place}": None,
            f"multi_noun_{place}": "",
            f"multi_word_{place}": self._free_word(multi_base, fields),
        } | found

    def _free_word(self, spec: str, fields: Mapping[str, Any]) -> str:
        """Return a rare word of the base that no other subject uses."""
        taken = {str(fields.get(f"multi_word_{place}") or "").lower() for place in range(MOST)}
        words = [found["text"] for found in self.studio.inspection.identifiers(base=spec)]
        return next((word for word in words if word.lower() not in taken), "")

    def offer_sources_of(self, place: int) -> Values:
        """Update the photographs that a subject can use."""
        return {f"multi_source_{place}": gr.update(choices=self.sources())}

    def _subject(self, place: int, fields: Mapping[str, Any]) -> SubjectPhotos | None:
        """Return a subject with its words, or None if no photographs are chosen."""
        upload, source = fields[f"multi_upload_{place}"], fields[f"multi_source_{place}"]
        kind, _, name = (source or "").partition(":")
        word, noun = (str(fields[f"multi_{what}_{place}"] or "") for what in ("word", "noun"))
        if upload:
            return SubjectPhotos(word, noun, [Path(file) for file in upload])
        if kind == "example":
            return SubjectPhotos(word, noun, list(self.examples[name]["photos"]))
        if kind == "run":
            (stored,) = stored_subjects(Path(self._path(name)), {})
            return replace(stored.as_photos(), identifier=word, class_noun=noun)
        return None

    # Base, preset and cost

    def presets(self, spec: str = "") -> list[str]:
        """Return the names of the presets for a base, the fastest first."""
        return preset_names(METHOD, self.bases[spec or next(iter(self.bases))].family)

    def config(self, name: str = "", spec: str = "") -> Any:
        """Return the config of a preset for a base; "" is the first one."""
        family = self.bases[spec or next(iter(self.bases))].family
        return preset(METHOD, family, name or self.presets(spec)[0])

    def choose_preset(self, multi_preset: str, multi_base: str = "") -> Values:
        """Fill the advanced fields from a preset."""
        values = form.shown(self.config(multi_preset, multi_base))
        return {OWN + name: values[name] for name in FIELDS}

    def choose_base(self, multi_base: str) -> Values:
        """Offer the presets for a base, fill in the first one, and show what the base needs."""
        presets = self.presets(multi_base)
        return self.choose_preset(presets[0], multi_base) | {
            "multi_preset": gr.update(choices=presets, value=presets[0]),
            "multi_needs": panels.base_needs(self.bases[multi_base]),
        }

    def cost(self, **fields: Any) -> Values:
        """Show the estimated time and memory of the run before the start."""
        try:
            subjects, config = self._subjects(fields), self._config(fields)
            photos = sum(len(one.photo_paths) for one in subjects)
            told = self.studio.training.cost(METHOD, config, photos, base=fields["multi_base"])
        except ValueError as error:
            return {"multi_cost": Html(f'<p class="cost">{element("span", str(error))}</p>')}
        return {"multi_cost": panels.cost(told)}

    def _subjects(self, fields: Mapping[str, Any]) -> list[SubjectPhotos]:
        subjects = [found for place in range(MOST) if (found := self._subject(place, fields))]
        if len(subjects) < 2:
            raise ValueError("One picture needs two or three subjects; choose photographs for at least two.")
        return subjects

    def _config(self, fields: Mapping[str, Any]) -> Any:
        start = form.shown(self.config(fields["multi_preset"], fields["multi_base"]))
        return form.parse(method_config(METHOD), start | {name: fields[OWN + name] for name in FIELDS})

    # A run

    def start(self, **fields: Any) -> Values:
        """Train all subjects that have photographs together and show the run."""
        subjects, config = self._subjects(fields), self._config(fields)
        run_id = self.studio.training.start(METHOD, config, subjects=subjects, base=fields["multi_base"])
        words = [clean_text(f"{one.identifier} {one.class_noun}") for one in subjects]
        prompt = named_together(config.sample_prompts[-1:], words)[-1]
        shown = fields.get("shown", "")
        return self.monitor.started(run_id, shown, prompt=prompt, seed=config.sample_seed)

    def again(self, shown: str) -> Values:
        """Train the shown run's subjects once more without the Unmix term, to compare the two."""
        found = self.run_of(shown)
        if not found:
            raise ValueError(NOT_YET)
        name = f"{self.studio.training.status(found)['name']}, without Unmix"
        self.studio.training.again(found, name=name, unmix_weight=0.0)
        gr.Info(
            "The same subjects are trained without Unmix. When that run is done, press “Generate” here again.",
            title="In the queue",
        )
        return {"multi_again_row": gr.update(visible=False)}

    def run_of(self, shown: str) -> str:
        """Return the run that this tab shows: the shown one if it has several subjects, else the finished example, else
        the newest finished run of this kind.
        """
        if shown:
            try:
                if self.studio.training.status(shown)["method"] == METHOD:
                    return shown
            except ValueError:  # deleted in the meantime
                pass
        own = (
            run.id for run in self.studio.library.list_runs() if (run.method, run.state) == (METHOD, "done")
        )
        return next(iter(self.finished), "") or next(own, "")

    def runs(self) -> list[tuple[str, str]]:
        """Return (label, run id) of the runs with several subjects."""
        own = [run for run in self.studio.library.list_runs() if run.method == METHOD]
        names = self.studio.library.names()
        return [(names.get(run.id, run.name), run.id) for run in own] + [
            (f"{title} · example", run) for run, title in self.finished.items()
        ]

    def watch(self, shown: str) -> Values:
        """Show what belongs to the run: mixed training pictures, where the words look, its pictures, and prompts."""
        found = self.run_of(shown)
        values = self.figures(found)
        if not found:
            return values
        status = self.studio.training.status(found)
        words = _words(status)
        prompts = self.suggestions(words, status["base"]["family"])
        kept = self.studio.library.kept_together(found)
        unmix = bool(status["config"].get("unmix_weight")) and status["state"] == "done"
        compared = any(each.kind == "without" for each in kept) or self.studio.library.without_unmix(found)
        return values | {
            "multi_runs": gr.update(choices=self.runs(), value=found),
            "multi_prompt": gr.update(choices=prompts, value=kept[0].prompt if kept else prompts[0]),
            "multi_run_part": gr.update(visible=found == shown),
            "multi_again_row": gr.update(visible=unmix and not compared),
        }

    def figures(self, found: str) -> Values:
        """Return what the tab draws of a run: results, mixed training pictures and views."""
        if not found:
            return {
                "multi_result": panels.placeholder(pictures.NO_RESULT),
                "multi_mixes": panels.hint(pictures.NO_MIXES),
                "multi_views": panels.hint(pictures.NO_LEAKAGE),
            }
        status = self.studio.training.status(found)
        views = [view for view in self.studio.inspection.views(found) if view["kind"] in ("heat", "curves")]
        return {
            "multi_result": self._result(found, status),
            "multi_mixes": pictures.mixes(_mixed(Path(status["path"])), _words(status), copies=self.copies),
            "multi_views": method_views.drawn([view for view in views if _about_leakage(view)]),
        }

    def _result(self, found: str, status: Mapping[str, Any]) -> Html:
        kept = self.studio.library.kept_together(found)
        if kept:
            negative = str(status["config"].get("negative_prompt", ""))
            return pictures.together(kept, _words(status), copies=self.copies, negative=negative)
        if status["state"] == "done":
            return panels.placeholder("Press “Generate” to see the subjects in one picture.")
        return panels.placeholder(pictures.NO_RESULT)

    def suggestions(self, words: Sequence[str], family: str) -> list[str]:
        """Return prompts that differ from the training prompts."""
        templates = SUGGESTED.get(family, SUGGESTED["sd1"])
        sitting = [template.replace("{sitting}", "{beside}") for template in templates]
        return [
            prompt.replace(" beside ", " sitting beside ", 1) if "{sitting}" in template else prompt
            for template, prompt in zip(templates, named_together(sitting, words), strict=True)
        ]

    def generate(
        self,
        shown: str,
        multi_prompt: str | None,
        seed: int,
        progress: Callable[..., None] | None = None,
    ) -> Values:
        """Generate the subjects in one picture, with everything that explains it, at one seed."""
        found = self.run_of(shown)
        if not found:
            raise ValueError(NOT_YET)
        status = self.studio.training.status(found)
        config = SampleConfig(
            prompt=clean_text(multi_prompt or ""),
            seed=int(seed or 0),
            negative_prompt=str(status["config"]["negative_prompt"]),
        )
        told = (lambda done, total: progress((done, total), desc="Generating")) if progress else None
        made = self.studio.generation.together(found, config, progress=told)
        drawn = pictures.together(made, _words(status), copies=self.copies, negative=config.negative_prompt)
        return {"multi_result": drawn}


def _words(status: Mapping[str, Any]) -> list[str]:
    """Return the words of a run's subjects, such as "zwx dog"."""
    found = stored_subjects(Path(status["path"]), status["config"])
    return [f"{one.identifier} {one.class_noun}".strip() for one in found]


def _mixed(path: Path) -> list[dict[str, Any]]:
    """Return the saved mixed training pictures of a run, with absolute paths."""
    try:
        rows = json.loads((path / "mixed.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [row | {"file": path / row["file"]} for row in rows]


def _about_leakage(view: Mapping[str, Any]) -> bool:
    return view["title"].startswith(("Where each subject's words look", "Leakage"))
