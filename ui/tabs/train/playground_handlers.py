"""Handlers of the playground: generate with a run, restore a picture's settings, export and import adapters."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from pipelines.config import SampleConfig, clean_text, from_dict
from pipelines.files import file_stem
from pipelines.runs.costs import SIZES
from pipelines.sampling.picture_history import KeptPicture
from ui import forms as form
from ui.errors import as_text
from ui.live_preview import preview
from ui.run import panels
from ui.run.monitor import RESULTS, RunMonitor, Values
from ui.run.state import fold
from ui.tabs.train import history
from ui.tabs.train import stack as stacking

GENERATED = [*RESULTS, "history", "visitor"]  # what a generated picture sets
OWN_FIELDS = ("prompt", "seed")  # sampler fields outside the "Advanced" section


class PlaygroundHandlers:
    """Generates with the shown run."""

    def __init__(self, monitor: RunMonitor) -> None:
        self.monitor = monitor
        self.studio = monitor.studio
        self.copies = monitor.copies

    def export(self, shown: str, file_format: str) -> Values:
        """Export the adapter for another program and return a copy of the file."""
        path = self.exported_copy(shown, self.studio.import_export.export(shown, file_format))
        return {"exported": gr.update(value=str(path), visible=True)}

    def exported_copy(self, run_id: str, path: Path) -> Path:
        """Return a copy of an exported file, named after its run instead of the run's id."""
        called = file_stem(self.studio.training.status(run_id)["name"], default="run")
        return self.copies.copy(path, name=path.name.replace(run_id, called))

    # The playground

    def load_lora(self, lora: str, base: str) -> Values:
        """Import a LoRA file and show it, with its trigger words in the prompt."""
        run_id = self.studio.import_export.import_lora(Path(lora), base=base)
        words = self.studio.training.status(run_id)["config"]["identifier"]
        prompt = {"prompt": f"a photo of a {words}"} if words else {}
        return {"lora": None} | prompt | self.monitor.show_run(run_id)

    def recall(self, recall: str, shown: str = "") -> Values:
        """Restore the settings of a picture: every sampler field, its strength, and the run unless it is ``shown``."""
        try:
            found = self.studio.generation.recall(Path(recall))
        except ValueError as error:  # its run was deleted, but the settings can still be restored
            found = getattr(error, "recalled", None)
            if found is None:
                raise
            gr.Warning(as_text(error), title="Its run has been deleted")
            found = found | {"stack": []}
        fields = form.shown(from_dict(SampleConfig, found["sample"]))
        values = {name if name in OWN_FIELDS else f"play_{name}": value for name, value in fields.items()}
        stack = found["stack"]
        values |= stacking.recalled(stack)
        if stack:
            values["strength"] = stack[0]["strength"]
            values |= self.monitor.show_run(stack[0]["run"]) if stack[0]["run"] != shown else {}
        else:
            values["strength"] = 0.0
        if found.get("note"):
            gr.Warning(html.escape(found["note"], quote=False), title="It will not be the same picture")
        summary = panels.recalled(found["sample"], stack=stack, base=found["base_name"])
        steps = {layer["run"]: layer["step"] for layer in stack if layer.get("step") is not None}
        return values | {"recall": None, "recalled": summary, "recalled_steps": steps}

    # Generating

    def generate(self, shown: str, strength: float, *, visitor: str | None = None, **asked: Any) -> Values:
        """Generate with and without the adapter, and with a second run if one is chosen, from the same seed.

        ``asked`` are the fields of :mod:`stack`, ``recalled_steps`` and the sampler's. The pictures are added to the
        history of the ``visitor``; without one, a new visitor is made.
        """
        if not shown:
            raise ValueError("Choose an example or train your own subject first.")
        config, layers = self._asked(shown, strength, **asked)
        if not config.prompt:
            raise ValueError("The prompt is empty; describe the picture.")
        notes: list[str] = []
        key = visitor or self.studio.generation.history.new_visitor()
        kept = self.studio.generation.generate_kept(config, stack=layers, visitor=key, on_note=notes.append)
        return (
            {"visitor": key}
            | self._pictures(kept, shown=shown, notes=notes)
            | self._history(key, chosen=kept[0].id)
        )

    def redraw(
        self, play_full: bool, shown: str, strength: float, *, visitor: str | None = None, **asked: Any
    ) -> Values:
        """Draw again with a changed strength: a small preview while a slider is dragged, else the full picture.

        Nothing happens before there is a run and a prompt.
        """
        if not shown or not clean_text(str(asked.get("prompt") or "")):
            return {}
        if play_full:
            return self.generate(shown, strength, visitor=visitor, **asked)
        try:
            config, layers = self._asked(shown, strength, **asked)
            before = self.studio.generation.known_before(config, stack=layers, visitor=visitor or "")
            family = self.studio.training.status(shown)["base"]["family"]
            small = preview(config, size_px=SIZES[family].side_px)
            (path,) = self.studio.generation.generate(small, stack=layers)
        except ValueError:  # said once, when the slider is released
            return {}
        drawn = self.copies.enlarged(path)
        if before:
            shown_pair = (self.copies.enlarged(before[0]), drawn)
            result = panels.compare(*shown_pair, alt=config.prompt, labels=("Without", "Preview"))
        else:
            result = panels.single(drawn, alt=config.prompt, label="Preview")
        caption = panels.caption(
            prompt=config.prompt, seed=config.seed, facts=[("Strength", f"{strength:g} · preview")]
        )
        return {"drawn": {"result": [shown]}, "result": result, "result_caption": caption}

    def _asked(
        self, shown: str, strength: float, *, recalled_steps: Mapping[str, int] | None = None, **asked: Any
    ) -> tuple[SampleConfig, list[dict[str, Any]]]:
        """Return the sampler's settings and the stack of runs."""
        own = {name: asked.pop(name) for name in stacking.FIELDS if name in asked}
        config = form.parse(
            SampleConfig, {name.removeprefix("play_"): value for name, value in asked.items()}
        )
        layers = stacking.stack(shown, strength, **(stacking.ALONE | own))
        return config, [layer | {"step": (recalled_steps or {}).get(layer["run"])} for layer in layers]

    def _pictures(self, kept: Sequence[KeptPicture], *, shown: str, notes: Sequence[str] = ()) -> Values:
        """Show the first of these pictures beside the one without the adapter, and all of them in the gallery."""
        first, settings = kept[0], kept[0].settings
        files = [str(self.copies.copy(each.path, name=each.file_name)) for each in kept]
        after, prompt = self.copies.enlarged(first.path), str(settings["prompt"])
        return {
            "drawn": {"result": [shown]},
            "result": panels.compare(
                self.copies.enlarged(first.before), after, alt=prompt, labels=("Without", "With adapter")
            )
            if first.before is not None
            else panels.single(after, alt=prompt, label="With adapter"),
            "result_caption": panels.caption(
                prompt=prompt, seed=settings["seed"], facts=_facts(settings), notes=notes
            ),
            "gallery": gr.update(
                visible=len(files) > 1,
                value=[
                    (copy, f"seed {each.settings['seed']}") for copy, each in zip(files, kept, strict=True)
                ],
            ),
            "download": gr.update(value=files[0], interactive=True),
        }

    # The history

    def show_kept(self, visitor: str | None, shown: str, value: str) -> Values:
        """Show a picture of the history and restore its settings; ``value`` is its id."""
        kept = self.studio.generation.history.find(visitor or "", value)
        values = self.recall(str(kept.path), shown)
        pictures = self._pictures([kept], shown=values.get("shown", shown))
        drawn = {"drawn": values.get("drawn", {}) | pictures["drawn"]}
        return values | pictures | drawn | self._history(visitor or "", chosen=value)

    def forget(self, visitor: str | None, value: str) -> Values:
        """Remove one picture from the history, or all of them if ``value`` is empty."""
        self.studio.generation.history.remove(visitor or "", value)
        return self._history(visitor or "")

    def opening_history(self, visitor: str | None) -> Values:
        """Show the history when the page is loaded."""
        kept = self._history(visitor or "")
        return kept | {"playground": gr.update(visible=True)} if kept["history"] else {}

    def _history(self, visitor: str, *, chosen: str = "") -> Values:
        pictures = self.studio.generation.history.list(visitor)
        return {"history": history.strip(pictures, copies=self.copies, chosen=chosen)}

    def words_below(self, shown: str, second: str | None) -> Values:
        """Count the words of the second run as known when it is chosen."""
        if not shown:
            return {}
        view = fold(self.studio.training.status(shown))
        return {"prompt_hint": self.monitor.prompt_words(view, *([second] if second else []))}


def _facts(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the settings that the caption of a picture names after prompt and seed."""
    first, second = [*settings.get("stack", ()), {}, {}][:2]
    named = [
        ("Strength", f"{first.get('strength', 0):g}"),
        ("Steps", str(settings["steps"])),
        ("Guidance", f"{settings['guidance_scale']:g}"),
        ("Negative prompt", str(settings.get("negative_prompt") or "")),
        ("Block weights", stacking.shortest(first.get("blocks", ""))),
        ("With", f"{second['name']} at {second['strength']:g}" if second else ""),
    ]
    return [(label, text) for label, text in named if text]
