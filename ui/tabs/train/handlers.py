"""Handlers that start and end runs. They take widget values by name and return new ones by name.

A handler uses the Studio and never a component; the tabs define which widget has which name.
"""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from pipelines.methods.specs import method_spec, methods_of, photograph_settings
from pipelines.models.inspection import BaseFacts
from pipelines.services.presets import PresetRow
from ui import forms as form
from ui.html import Html, element
from ui.run import panels
from ui.run.monitor import FORGET_IT, RunMonitor, Values
from ui.run.state import RunView
from ui.tabs.train.masks import masks_of
from ui.tabs.train.photos import NO_PHOTOGRAPHS, PhotoHandlers, is_own, photo_names

log = logging.getLogger(__name__)

EMPTY_FRAME = "Choose an example, or add your own photographs."
UNTRAINED = "Press Personalize, and your subject appears here."
NO_SQUARES: Values = {
    "crops_row": gr.update(visible=False),
    "squares": Html(""),
    "limits": Html(""),
    "limits_row": gr.update(visible=False),
    "tiles": Html(""),
    "photo_row": gr.update(visible=False),
    "photo": "",
}
OWN_PRESET = "own:"  # before the name of a preset that the user has saved
DELETE, DELETE_IT = "Delete this preset …", "Delete permanently"  # the second press confirms
PHOTOS_OF_A_PRESET = 4  # number of photographs that a preset's steps are meant for


class TrainHandlers:
    """Handlers to choose a subject and start its run; the monitor shows the run."""

    def __init__(self, monitor: RunMonitor) -> None:
        self.monitor = monitor
        self.studio = monitor.studio
        self.copies = monitor.copies
        self.examples = monitor.examples
        self.photos = PhotoHandlers(monitor)
        self.bases = {base.spec: base for base in self.studio.inspection.bases()}

    def facts(self, spec: str | None) -> BaseFacts:
        """Return the facts about a base, also one that the user has typed."""
        return self.bases.get(spec or "") or self.studio.inspection.base(spec or "")

    def source_of(self, name: str) -> Values:
        """Return the training data of an example: its title and photographs."""
        example = self.examples[name]
        return {
            "title": example["title"],
            "files": [str(path) for path in example["photos"]],
            "crops": {},
            "captions": {},
        }

    def methods(self) -> list[tuple[str, str]]:
        """Return the (label, value) choices of the method."""
        return [(spec.title, spec.name) for spec in methods_of("train")]

    def plans(self, spec: str, method: str = "") -> list[tuple[str, str]]:
        """Return the (label, value) choices of the preset for a base: of one method, or of all of them.

        A value such as "dreambooth/Quick" names method and preset; the user's own presets follow the shipped ones.
        """
        family = self.facts(spec).family
        return [
            (
                f"{row.name} · yours" if row.own else row.name,
                f"{name}/{OWN_PRESET if row.own else ''}{row.name}",
            )
            for name in ([method] if method else [each.name for each in methods_of("train")])
            for row in self.studio.presets.list(name, family)
        ]

    def chosen_preset(self, plan: str, spec: str) -> tuple[str, Any]:
        """Return the method and the config of a plan such as "dreambooth/Quick" on a base."""
        method, row = _parts(plan)
        return method, self.studio.presets.read(method, self.facts(spec).family, row)

    # Choosing a subject

    def attach(self, presenting: bool = False) -> Values:
        """Show the running run and its subject in the form when the page is loaded."""
        values = self.monitor.attach(queued=not presenting)
        return self._subject_of(values["shown"]) | values if values.get("shown") else values

    def _subject_of(self, run_id: str) -> Values:
        """Fill in the subject of a run: an example with its photographs, or only the words."""
        status = self.studio.training.status(run_id)
        words = {name: status["config"].get(name, "") for name in ("class_noun", "identifier")}
        for name, example in self.examples.items():
            if example["title"] == status["name"] and all(example[word] == words[word] for word in words):
                return self.choose_example(name)
        return words | self._unmarked() | self._nothing_chosen()

    def _unmarked(self) -> Values:
        return {f"example_{name}": gr.update(elem_classes=card(False)) for name in self.examples}

    def choose_example(self, name: str) -> Values:
        """Click 1: fill every field from an example. It must be fast, so that click 2 can follow immediately."""
        example = self.examples[name]
        return {
            "source": self.source_of(name),
            "imported": None,
            "class_noun": example["class_noun"],
            "identifier": example["identifier"],
            "upload": None,
            **NO_SQUARES,
            "prompt": example["prompt"],
            "seed": example["seed"],
            **{f"example_{other}": gr.update(elem_classes=card(other == name)) for other in self.examples},
        }

    def show_example(self, name: str) -> Values:
        """Second part of click 1: show the run that ships with the example."""
        return self.monitor.show_run(self.examples[name]["run"])

    def choose_files(
        self,
        upload: list[str] | None,
        source: Values | None,
        base: str,
        imported: Values | None = None,
        shown: str = "",
    ) -> Values:
        """Add uploaded photographs to the user's own; the words of an example are cleared.

        ``imported`` holds imported settings: their words are kept and their captions applied to the photographs.
        """
        if not upload:
            return {}
        words: Values = {}
        if not imported and source and source["title"]:
            words = {"class_noun": "", "identifier": None}
        elif not imported and not source:  # different photographs, so probably another subject
            words = {"identifier": None}
        chosen = self.photos.add(upload, source)
        if chosen is None:
            return {"upload": None} | self._unmarked() | self._nothing_chosen()
        if words and not self.monitor.at_work(shown):
            words |= self.monitor.nothing_shown(UNTRAINED)
        return {
            **words,
            "source": chosen | _imported_details(chosen, imported),
            "upload": None,
            "guide": panels.guide(2),
            **self._unmarked(),
            "crops_row": gr.update(visible=True),
            **_limits(panels.photograph_limits(self.facts(base))),
        }

    def remove_photo(self, source: Values | None, value: str, photo: str) -> Values:
        """Leave one photograph out; without any, the form is as before the upload."""
        values = self.photos.remove(source, value, photo)
        return self._nothing_chosen() if values["source"] is None else values

    def _nothing_chosen(self) -> Values:
        return {"source": None, "guide": panels.guide(1)} | NO_SQUARES

    def identifiers(self, base: str, identifier: str | None) -> Values:
        """Suggest rare tokens of the base's vocabulary, and choose one if none is chosen yet."""
        words = self._rare_tokens(base)
        first: Values = (
            {"value": words[0]} if identifier is None else {}
        )  # does not overwrite what the user is typing
        return {"identifier": gr.update(choices=words, **first)}

    def _rare_tokens(self, base: str) -> list[str]:
        """Return rare tokens of a base, unused ones first: two runs with the same word collide in a stack."""
        runs = self.studio.library.list_runs(shipped=True)
        taken = {word for run in runs for word in run.trigger.lower().split()}
        words = [found["text"] for found in self.studio.inspection.identifiers(base=base)]
        return sorted(words, key=lambda word: word.lower() in taken)

    # Base, preset and cost

    def choose_base(self, base: str, method: str, source: Values | None) -> Values:
        """Update the presets for a base, fill in the first one of the method, and show the base's requirements.

        For a base that cannot be used, only the reason is shown.
        """
        facts = self.facts(base)
        needs = {"needs": panels.base_needs(facts)}
        if facts.problem and not facts.blocked:
            return needs
        limits = panels.photograph_limits(facts) if is_own(source) else Html("")
        return self.choose_method(method, base, source) | needs | _limits(limits)

    def choose_method(self, method: str, base: str, source: Values | None) -> Values:
        """Offer the presets of a method and fill in the first one."""
        plans = self.plans(base, method)
        first = plans[0][1]
        return self.choose_plan(first, base, source) | {"plan": gr.update(choices=plans, value=first)}

    def offer_presets(self, method: str, base: str) -> Values:
        """Offer the presets of a method, also those saved since the page was built."""
        return {"plan": gr.update(choices=self.plans(base, method))}

    def save_preset(self, plan: str, base: str, own_name: str, **fields: Any) -> Values:
        """Save the current settings as the user's own preset and choose it."""
        method, _ = _parts(plan)
        config = form.parse_method(method, fields)
        row = self.studio.presets.save(method, self.facts(base).family, own_name or "", config)
        gr.Info(f"“{row.name}” is saved with the presets of {method_spec(method).title}.", title="Saved")
        saved = f"{method}/{OWN_PRESET}{row.name}"
        return {
            "plan": gr.update(choices=self.plans(base, method), value=saved),
            "filled_plan": saved,
            "own_name": "",
            "delete_preset": gr.update(visible=True, value=DELETE),
        }

    def delete_preset(self, plan: str, base: str, source: Values | None, delete_preset: str) -> Values:
        """Delete the chosen preset, which is the user's own. The first press asks, the second one deletes."""
        if delete_preset != DELETE_IT:
            return {"delete_preset": gr.update(value=DELETE_IT)}
        method, row = _parts(plan)
        self.studio.presets.delete(method, self.facts(base).family, row)
        gr.Info(f"“{row.name}” is deleted.", title="Deleted")
        return self.choose_method(method, base, source)

    def applicable(self, plan: str, **fields: Any) -> Values:
        """Hide the fields that have no effect next to the values of others."""
        found = form.applicable(_parts(plan)[0], fields)
        return {name: gr.update(visible=visible) for name, visible in found.items()}

    def suit(
        self,
        plan: str,
        base: str,
        source: Values | None,
        imported: Values | None,
        suits_own: bool = False,
        **fields: Any,
    ) -> Values:
        """Adjust the form to newly chosen photographs, unless it contains imported settings: the steps to their number
        and, after a switch between examples and the user's own photographs, the mask settings.

        ``suits_own`` is True if the form is set up for the user's own photographs. Fields changed by the user are kept.
        """
        if imported or _parts(plan)[1].own:  # both say exactly what they want
            return {}
        _, config = self.chosen_preset(plan, base)
        photos = len(photo_names(source)) if source else PHOTOS_OF_A_PRESET
        values: Values = {"steps": suited_steps(config.steps, photos=photos)}
        if source is None or is_own(source) == suits_own:
            return values
        before, after = (self._mask_settings(plan, base, own=own) for own in (suits_own, not suits_own))
        changed = {name: value for name, value in after.items() if fields.get(name) == before[name]}
        return values | {"suits_own": not suits_own} | changed

    def _mask_settings(self, plan: str, base: str, *, own: bool) -> Values:
        """Return the settings that differ between shipped examples and the user's own photographs."""
        method, config = self.chosen_preset(plan, base)
        differ = photograph_settings(method, self.facts(base).family)
        return {name: value if own else getattr(config, name) for name, value in differ.items()}

    def choose_plan(self, plan: str, base: str, source: Values | None, filled_plan: str = "") -> Values:
        """Fill the advanced fields from a preset other than ``filled_plan``, with steps for the photograph count."""
        if plan == filled_plan:
            return {}
        method, config = self.chosen_preset(plan, base)
        photos = len(photo_names(source)) if source else PHOTOS_OF_A_PRESET
        values, mine = form.filled(method, config), _parts(plan)[1].own
        if not mine:  # the user's own preset is filled in as it was saved
            values |= {"steps": suited_steps(config.steps, photos=photos)}
            values |= self._mask_settings(plan, base, own=is_own(source))
        words = form.field_names(type(config), advanced=False)
        kept = {name: value for name, value in values.items() if name not in words}
        shown = {"delete_preset": gr.update(visible=mine, value=DELETE)}
        return {"filled_plan": plan, "suits_own": is_own(source)} | shown | kept | own_fields(method)

    def cost(self, source: Values | None, plan: str, base: str, **fields: Any) -> Values:
        """Show the estimated time and memory before the start, and what method and preset are and cost."""
        photos = len(photo_names(source))
        method, row = _parts(plan)
        spec = method_spec(method)
        try:
            config = form.parse_method(method, fields)
            told = self.studio.training.cost(method, config, photos, base=base)
        except ValueError as error:
            return {"cost": element("p", element("span", str(error)), class_="cost"), "preset_told": Html("")}
        return {
            "cost": panels.cost(told if photos else None),
            "method_told": panels.choice_told(spec.about, f"A file of {panels.size_of(1e6 * told.file_mb)}."),
            "preset_told": panels.preset_told(row.name, config, told),
        }

    # A run

    def start(
        self,
        source: Values | None,
        plan: str,
        base: str,
        presentation: bool = False,
        found_masks: Values | None = None,
        photo: str = "",
        photo_caption: str = "",
        shown: str = "",
        **fields: Any,
    ) -> Values:
        """Click 2: train on the chosen photographs and show the run, unless it has to wait for the ``shown`` one.

        In presentation mode, a recording replaces a failed start.
        """
        typed = self.photos.caption(source, photo, photo_caption)  # its own event may still be on the way
        source = typed.get("source", source)
        try:
            return self._start(source, plan, base, found_masks, shown, **fields) | typed
        except (ValueError, OSError, RuntimeError) as error:
            recording = (
                self.monitor.recording({"class_noun": fields.get("class_noun", "")}) if presentation else ""
            )
            if not recording:
                raise
            log.warning("A live run failed; showing a recording instead: %s", error)
            played = self.monitor.play(recording, 4.0)
            return played | {"advice": panels.stand_in(RunView(id="", message=str(error)))}

    def _start(
        self,
        source: Values | None,
        plan: str,
        base: str,
        found_masks: Values | None,
        shown: str,
        **fields: Any,
    ) -> Values:
        if not source:
            raise ValueError(NO_PHOTOGRAPHS)
        if problem := self.facts(base).problem:
            raise ValueError(problem)
        method = _parts(plan)[0]
        if fields.get("identifier", "") is None:  # None: not chosen yet; "": cleared by the user
            gr.Info(
                "The base model is being loaded to find an unused trigger word; then the run starts.",
                title="One moment",
            )
            fields["identifier"] = self._rare_tokens(base)[0]
        config = form.parse_method(method, fields)
        if source["captions"]:
            config = replace(config, use_captions=True)
        run_id = self.studio.training.start(
            method,
            config,
            [Path(file) for file in source["files"]],
            base=base,
            crops=source["crops"] or None,
            captions=source["captions"] or None,
            repeats=source.get("repeats") or None,
            masks=masks_of(source, found_masks) if config.uses_masks else None,
            name=source["title"] or config.words("{identifier} {class_noun}"),
        )
        prompts = [config.words(prompt) for prompt in config.sample_prompts]
        return self.monitor.started(run_id, shown, prompt=prompts[-1], seed=config.sample_seed)

    def stop(self, shown: str, when: str = "now") -> Values:
        """Stop after the current step or at the next checkpoint, and keep the adapter."""
        self.studio.training.stop(shown, keep=True, when=when)
        return self.monitor.watch(shown, {})

    def stop_at_checkpoint(self, shown: str) -> Values:
        """Stop at the next checkpoint."""
        gr.Info("The run stops when its next checkpoint is written.", title="Stopping")
        return self.stop(shown, when="checkpoint")

    def save_now(self, shown: str) -> Values:
        """Save a checkpoint and the current adapter between two steps."""
        self.studio.training.save_now(shown)
        gr.Info("A checkpoint and the current adapter are saved; the run continues.", title="Saved")
        return {}

    def discard(self, shown: str) -> Values:
        """Delete a run and its files; a finished run that was trained further returns to its finished state."""
        if not self.studio.training.discard(shown):
            return self.monitor.nothing_shown()
        gr.Info("The run is back in the state before “Train more”.", title="Discarded")
        return self.monitor.watch(shown, {})

    def forget(self, shown: str, forget: str) -> Values:
        """Discard a run that has ended. The first press asks, the second one deletes."""
        return self.discard(shown) if forget == FORGET_IT else {"forget": FORGET_IT}

    def train_more(self, shown: str, more_steps: float) -> Values:
        """Continue a finished run."""
        self.studio.training.train_more(shown, int(more_steps or 0))
        return self.monitor.watch(shown, {})

    def resume(self, shown: str) -> Values:
        """Continue an interrupted or stopped run from its last checkpoint."""
        self.studio.training.resume(shown)
        return self.monitor.watch(shown, {})

    def sample_now(self, shown: str) -> Values:
        """Generate a row of samples now."""
        self.studio.training.sample_now(shown)
        return {}


def suited_steps(steps: int, *, photos: int) -> int:
    """Return the steps for a number of photographs: the preset's steps for four, else scaled by 0.75 to 2."""
    share = 0.5 + 0.5 * photos / PHOTOS_OF_A_PRESET
    return max(1, round(steps * min(max(share, 0.75), 2.0)))


def own_fields(method: str) -> Values:
    """Show the fields of a method and hide those of other methods."""
    return {name: gr.update(visible=method in row.methods) for name, row in form.own_rows("train").items()}


def captions_for(imported: Values | None, files: list[str], *, what: str = "captions") -> dict[str, Any]:
    """Return the captions (or repeats) of imported settings by file name: matched by name, or by position in the run."""
    captions = imported.get(what, {}) if imported else {}
    names = [Path(file).name for file in files]
    if any(name in captions for name in names):
        return {name: captions[name] for name in names if name in captions}
    placed = {name: captions.get(f"{place:02d}.png", "") for place, name in enumerate(names)}
    return {name: text for name, text in placed.items() if text}


def _imported_details(source: Values, imported: Values | None) -> Values:
    """Return the captions and repeats of the photographs: imported ones, and over them those entered before."""
    if not imported:
        return {}
    names = photo_names(source)
    return {
        what: captions_for(imported, names, what=what) | source.get(what, {})
        for what in ("captions", "repeats")
    }


def _parts(plan: str) -> tuple[str, PresetRow]:
    """Return the method and the preset that a plan names."""
    method, _, name = plan.partition("/")
    own = name.startswith(OWN_PRESET)
    return method, PresetRow(name.removeprefix(OWN_PRESET) if own else name, own=own)


def _limits(limits: Html) -> Values:
    return {"limits": limits, "limits_row": gr.update(visible=bool(limits))}


def card(chosen: bool) -> list[str]:
    """Return the CSS classes of an example's button."""
    return ["example-card", "chosen"] if chosen else ["example-card"]
