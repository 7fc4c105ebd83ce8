"""Handlers of the playground: generate with a run, restore a picture's settings, export and import adapters."""

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from pipelines.config import SampleConfig, from_dict
from ui import forms as form
from ui.errors import as_text
from ui.html import file_name
from ui.run import panels
from ui.run.monitor import RunMonitor, Values
from ui.tabs.train import stack as stacking

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
        called = file_name(self.studio.training.status(run_id)["name"])
        return self.copies.copy(path, name=path.name.replace(run_id, called))

    # The playground

    def load_lora(self, lora: str, base: str) -> Values:
        """Import a LoRA file and show it, with its trigger words in the prompt."""
        run_id = self.studio.import_export.import_lora(Path(lora), base=base)
        words = self.studio.training.status(run_id)["config"]["identifier"]
        prompt = {"prompt": f"a photo of a {words}"} if words else {}
        return {"lora": None} | prompt | self.monitor.show_run(run_id)

    def recall(self, recall: str) -> Values:
        """Restore the settings of a picture: every sampler field, the run and its strength."""
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
            values |= {"strength": stack[0]["strength"]} | self.monitor.show_run(stack[0]["run"])
        else:
            values["strength"] = 0.0
        if found.get("note"):
            gr.Warning(html.escape(found["note"], quote=False), title="It will not be the same picture")
        summary = panels.recalled(found["sample"], stack=stack, base=found["base_name"])
        steps = {layer["run"]: layer["step"] for layer in stack if layer.get("step") is not None}
        return values | {"recall": None, "recalled": summary, "recalled_steps": steps}

    def generate(
        self,
        shown: str,
        strength: float,
        *,
        blocks: str = "",
        second: str | None = None,
        second_strength: float = 1.0,
        second_blocks: str = "",
        recalled_steps: Mapping[str, int] | None = None,
        **fields: Any,
    ) -> Values:
        """Generate with and without the adapter, and with a second run if one is chosen, from the same seed."""
        if not shown:
            raise ValueError("Choose an example or train your own subject first.")
        config = form.parse(SampleConfig, fields)
        if not config.prompt:
            raise ValueError("The prompt is empty; describe the picture.")
        layers = stacking.stack(
            shown,
            strength,
            blocks=blocks,
            second=second,
            second_strength=second_strength,
            second_blocks=second_blocks,
        )
        layers = [layer | {"step": (recalled_steps or {}).get(layer["run"])} for layer in layers]
        notes: list[str] = []
        paths = self.studio.generation.generate(config, stack=layers, before_after=True, on_note=notes.append)
        before, after = paths[: config.count], paths[config.count :]
        files = [str(self.copies.copy(path)) for path in after]
        facts = [
            ("Strength", f"{strength:g}"),
            ("Steps", str(config.steps)),
            ("Guidance", f"{config.guidance_scale:g}"),
            *([("Block weights", blocks)] if blocks else []),
            *(
                [("With", f"{self.studio.training.status(second)['name']} at {second_strength:g}")]
                if second
                else []
            ),
        ]
        return {
            "drawn": {"result": [shown]},
            "result": panels.compare(
                self.copies.enlarged(before[0]),
                self.copies.enlarged(after[0]),
                alt=config.prompt,
                labels=("Without", "With adapter"),
            ),
            "result_caption": panels.caption(
                prompt=config.prompt, seed=config.seed, facts=facts, notes=notes
            ),
            "gallery": gr.update(
                visible=len(files) > 1,
                value=[(copy, f"seed {config.seed + index}") for index, copy in enumerate(files)],
            ),
            "download": gr.update(value=files[0], interactive=True),
        }
