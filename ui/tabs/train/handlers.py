"""Handlers that start and end runs. They take widget values by name and return new ones by name.

A handler uses the Studio and never a component; the tabs define which widget has which name.
"""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from pipelines.methods.specs import methods_of, photograph_settings, preset, preset_names
from ui import forms as form
from ui.errors import as_text
from ui.html import Html
from ui.run import panels
from ui.run.monitor import FORGET_IT, RunMonitor, Values
from ui.run.state import RunView
from ui.tabs.train.masks import masks_of

log = logging.getLogger(__name__)

EMPTY_FRAME = "Choose an example, or add your own photographs."
UNTRAINED = "Press Personalize, and your subject appears here."
NO_SQUARES: Values = {
    "crops_row": gr.update(visible=False),
    "squares": Html(""),
    "limits": Html(""),
    "limits_row": gr.update(visible=False),
}
PHOTOS_OF_A_PRESET = 4  # number of photographs that a preset's steps are meant for


class TrainHandlers:
    """Handlers to choose a subject and start its run; the monitor shows the run."""

    def __init__(self, monitor: RunMonitor) -> None:
        self.monitor = monitor
        self.studio = monitor.studio
        self.copies = monitor.copies
        self.examples = monitor.examples
        self.bases = {base.spec: base for base in self.studio.inspection.bases()}

    def source_of(self, name: str) -> Values:
        """Return the training data of an example: its title and photographs."""
        example = self.examples[name]
        return {
            "title": example["title"],
            "files": [str(path) for path in example["photos"]],
            "crops": {},
            "captions": {},
        }

    def plans(self, spec: str) -> list[tuple[str, str]]:
        """Return the (label, value) choices of method and preset for a base."""
        family = self.bases[spec].family
        return [
            (f"{spec.title} · {name}", f"{spec.name}/{name}")
            for spec in methods_of("train")
            for name in preset_names(spec.name, family)
        ]

    def chosen_preset(self, plan: str, spec: str) -> tuple[str, Any]:
        """Return the method and the config of a plan such as "dreambooth/Quick" on a base."""
        method, _, name = plan.partition("/")
        return method, preset(method, self.bases[spec].family, name)

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
        return words | self._unmarked() | self.choose_files(None, None, "")

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
        """Use uploaded photographs and show their square crops; the words of an example are cleared.

        ``imported`` holds imported settings: their words are kept and their captions applied to the photographs.
        """
        words: Values = {}
        if not imported and source and source["title"]:
            words = {"class_noun": "", "identifier": None}
        elif not imported and not source:  # different photographs, so probably another subject
            words = {"identifier": None}
        if words and upload and not self.monitor.at_work(shown):
            words |= self.monitor.nothing_shown(UNTRAINED)
        if not upload:
            return {"source": None, "guide": panels.guide(1)} | NO_SQUARES
        source = {"title": "", "files": list(upload), **_kept_details(source, upload, imported)}
        cleared = {
            **words,
            "source": source,
            "nudge_row": gr.update(visible=False),
            "guide": panels.guide(2),
            **self._unmarked(),
        }
        try:
            return cleared | self._previews(source, base)
        except ValueError as error:  # the field keeps them, so that the user can remove the bad one
            gr.Warning(as_text(error), title="Please check", duration=12)
            return cleared | NO_SQUARES | {"source": source | {"problem": str(error)}}

    def nudge(self, source: Values, base: str, photo: int, across: float, down: float) -> Values:
        """Move the crop of one photograph; ``across`` and ``down`` range from -1 to 1."""
        name = _names(source)[photo]
        masks = dict(source.get("masks", {}))
        if masks.pop(name, None):
            gr.Info(
                f"{name} is cropped anew, so its corrected mask is dropped and found again.", title="Masks"
            )
        source = source | {"crops": source["crops"] | {name: (across, down)}, "masks": masks}
        return {"source": source} | self._previews(source, base)

    def caption(self, source: Values, photo: int, photo_caption: str) -> Values:
        """Store the caption of one photograph; if it is empty, the photo prompt is used."""
        if not source:
            return {}
        name = _names(source)[photo]
        captions = {key: text for key, text in source["captions"].items() if key != name}
        text = photo_caption.strip()
        return {"source": source | {"captions": captions | ({name: text} if text else {})}}

    def choose_photo(self, source: Values, index: int) -> Values:
        """Show the sliders for the crop of one photograph, and its caption field."""
        names = _names(source)
        if any(name.lower().endswith(".zip") for name in names):
            raise ValueError(
                "Photographs in a zip are cropped at the centre and keep their .txt captions; unpack the zip to change one."
            )
        name = names[index]
        across, down = source["crops"].get(name, (0.0, 0.0))
        return {
            "photo": index,
            "photo_caption": gr.update(
                value=source["captions"].get(name, ""), label=f"{name}: caption (optional)"
            ),
            "nudge_row": gr.update(visible=True),
            "across": gr.update(value=across, label=f"{name}: left or right"),
            "down": gr.update(value=down, label=f"{name}: up or down"),
        }

    def _previews(self, source: Values, base: str) -> Values:
        files = [Path(file) for file in source["files"]]
        squares = self.studio.inspection.photos_preview(files, source["crops"], base=base)
        zipped = any(file.suffix.lower() == ".zip" for file in files)
        names = [f"photograph {index}" for index in range(1, len(squares) + 1)] if zipped else _names(source)
        shown = [(str(self.copies.copy(square)), name) for square, name in zip(squares, names, strict=True)]
        wall = panels.photo_wall(squares, copies=self.copies, title="Your photographs")
        limits = panels.photograph_limits(self.bases[base])
        return {"crops_row": gr.update(visible=True), "crops": shown, "squares": wall} | _limits(limits)

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

    def choose_base(self, base: str, source: Values | None) -> Values:
        """Update the presets for a base, fill in the first one, and show the base's requirements."""
        plans = self.plans(base)
        first = plans[0][1]
        return self.choose_plan(first, base, source) | {
            "plan": gr.update(choices=plans, value=first),
            "needs": panels.base_needs(self.bases[base]),
            **_limits(panels.photograph_limits(self.bases[base]) if _own(source) else Html("")),
        }

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
        if imported:
            return {}
        _, config = self.chosen_preset(plan, base)
        photos = len(source["files"]) if source else PHOTOS_OF_A_PRESET
        values: Values = {"steps": suited_steps(config.steps, photos=photos)}
        if source is None or _own(source) == suits_own:
            return values
        before, after = (self._mask_settings(plan, base, own=own) for own in (suits_own, not suits_own))
        changed = {name: value for name, value in after.items() if fields.get(name) == before[name]}
        return values | {"suits_own": not suits_own} | changed

    def _mask_settings(self, plan: str, base: str, *, own: bool) -> Values:
        """Return the settings that differ between shipped examples and the user's own photographs."""
        method, config = self.chosen_preset(plan, base)
        differ = photograph_settings(method, self.bases[base].family)
        return {name: value if own else getattr(config, name) for name, value in differ.items()}

    def choose_plan(self, plan: str, base: str, source: Values | None, filled_plan: str = "") -> Values:
        """Fill the advanced fields from a preset other than ``filled_plan``, with steps for the photograph count."""
        if plan == filled_plan:
            return {}
        method, config = self.chosen_preset(plan, base)
        photos = len(source["files"]) if source else PHOTOS_OF_A_PRESET
        values = form.filled(method, config) | {"steps": suited_steps(config.steps, photos=photos)}
        values |= self._mask_settings(plan, base, own=_own(source))
        words = form.field_names(type(config), advanced=False)
        kept = {name: value for name, value in values.items() if name not in words}
        return {"filled_plan": plan, "suits_own": _own(source)} | kept | own_fields(method)

    def cost(self, source: Values | None, plan: str, base: str, **fields: Any) -> Values:
        """Show the estimated time and memory before the start."""
        photos = len(source["files"]) if source else 0
        method = plan.partition("/")[0]
        try:
            config = form.parse_method(method, fields)
        except ValueError as error:
            return {"cost": Html(f'<p class="cost">{panels.element("span", str(error))}</p>')}
        told = self.studio.training.cost(method, config, photos, base=base) if photos else None
        return {"cost": panels.cost(told)}

    # A run

    def start(
        self,
        source: Values | None,
        plan: str,
        base: str,
        presentation: bool = False,
        found_masks: Values | None = None,
        shown: str = "",
        **fields: Any,
    ) -> Values:
        """Click 2: train on the chosen photographs and show the run, unless it has to wait for the ``shown`` one.

        In presentation mode, a recording replaces a failed start.
        """
        try:
            return self._start(source, plan, base, found_masks, shown, **fields)
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
            raise ValueError("Choose an example or add 1 to 20 photographs first.")
        if source.get("problem"):
            raise ValueError(source["problem"])
        method = plan.partition("/")[0]
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


def _kept_details(source: Values | None, files: list[str], imported: Values | None) -> Values:
    """Return the crops, captions and repeats of photographs: imported ones, and those entered before."""
    names = {Path(file).name for file in files}
    before = source if source and not source["title"] else {}
    return {
        what: captions_for(imported, files, what=what)
        | {name: said for name, said in before.get(what, {}).items() if name in names}
        for what in ("crops", "captions", "repeats")
    } | {"masks": _masks_before(before, files)}


def _masks_before(before: Values, files: list[str]) -> dict[str, str]:
    """Return the corrected masks of files that were already chosen, compared by path: names alone are not unique."""
    known = {Path(file).name: file for file in before.get("files", ())}
    zips_stay = all(file in files for file in known.values() if file.lower().endswith(".zip"))
    return {
        name: mask
        for name, mask in before.get("masks", {}).items()
        if (known[name] in files if name in known else zips_stay)
    }


def _own(source: Values | None) -> bool:
    """Return whether these are the user's own photographs, not a shipped example's."""
    return bool(source and not source["title"])


def _limits(limits: Html) -> Values:
    return {"limits": limits, "limits_row": gr.update(visible=bool(limits))}


def card(chosen: bool) -> list[str]:
    """Return the CSS classes of an example's button."""
    return ["example-card", "chosen"] if chosen else ["example-card"]


def _names(source: Values) -> list[str]:
    return [Path(file).name for file in source["files"]]
