"""The API endpoints: the page's actions for ``gradio_client`` and other programs, with the same checks as the page."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.events import api

from pipelines.config import SampleConfig, from_dict, to_dict
from pipelines.methods.specs import method_config, preset
from ui.errors import raise_gradio_errors
from ui.html import BrowserCopies

if TYPE_CHECKING:
    from pipelines.studio import Studio

MOST_PHOTOS = 20


def add(studio: "Studio", copies: BrowserCopies) -> None:
    """Add the endpoints to the Blocks: generate, generate_stack, train_start, train_status, train_stop, list_runs,
    export_run, export_base, compare, recall.
    """
    _add_generate(studio, copies)
    _add_generate_stack(studio, copies)
    _add_train_start(studio)
    _add_status(studio)
    _add_export(studio, copies)
    _add_compare(studio, copies)
    _add_recall(studio)


def _add_generate(studio: "Studio", copies: BrowserCopies) -> None:
    def generate(
        prompt: str, run_id: str, strength: float, settings: dict[str, Any] | None
    ) -> list[tuple[str, str]]:
        """Generate pictures. ``settings`` are further fields of SampleConfig, such as seed, steps or count."""
        config = from_dict(SampleConfig, {**(settings or {}), "prompt": prompt})
        paths = studio.generation.generate(config, run_id=run_id or None, strength=float(strength))
        return [(str(copies.copy(path)), f"seed {config.seed + index}") for index, path in enumerate(paths)]

    gr.Button(visible=False).click(
        raise_gradio_errors(generate),
        inputs=[
            gr.Textbox("", visible=False, label="prompt"),
            gr.Textbox("", visible=False, label="run_id"),
            gr.Number(1.0, visible=False, label="strength"),
            gr.JSON({}, visible=False, label="settings"),
        ],
        outputs=gr.Gallery(visible=False, format="png", label="pictures"),
        api_name="generate",
        concurrency_id="pictures",
    )


def _add_generate_stack(studio: "Studio", copies: BrowserCopies) -> None:
    def generate_stack(
        prompt: str, stack: list[dict[str, Any]] | None, settings: dict[str, Any] | None
    ) -> list[tuple[str, str]]:
        """Generate with several runs at once. An entry of ``stack`` is {"run": id, "strength": 1, "blocks": ""}, where
        blocks is a list of 9, 17, 25 or 26 block weights; ``settings`` are further fields of SampleConfig."""
        config = from_dict(SampleConfig, {**(settings or {}), "prompt": prompt})
        paths = studio.generation.generate(config, stack=stack or [])
        return [(str(copies.copy(path)), f"seed {config.seed + index}") for index, path in enumerate(paths)]

    gr.Button(visible=False).click(
        raise_gradio_errors(generate_stack),
        inputs=[
            gr.Textbox("", visible=False, label="prompt"),
            gr.JSON([], visible=False, label="stack"),
            gr.JSON({}, visible=False, label="settings"),
        ],
        outputs=gr.Gallery(visible=False, format="png", label="pictures"),
        api_name="generate_stack",
        concurrency_id="pictures",
    )


def _add_train_start(studio: "Studio") -> None:
    def train_start(
        photos: list[str] | None,
        class_noun: str,
        identifier: str,
        method: str,
        preset_name: str,
        settings: dict[str, Any] | None,
    ) -> str:
        """Start a run and return its id immediately. ``settings`` are further fields of the method's config."""
        chosen = preset(method, studio.inspection.bases()[0].family, preset_name)
        words = {"class_noun": class_noun, "identifier": identifier}
        config = from_dict(method_config(method), {**to_dict(chosen), **words, **(settings or {})})
        return studio.training.start(method, config, [Path(photo) for photo in photos or []])

    gr.Button(visible=False).click(
        raise_gradio_errors(train_start),
        inputs=[
            gr.File(visible=False, file_count="multiple", type="filepath", label="photos"),
            gr.Textbox("person", visible=False, label="class_noun"),
            gr.Textbox("sks", visible=False, label="identifier"),
            gr.Textbox("dreambooth", visible=False, label="method"),
            gr.Textbox("Quick", visible=False, label="preset_name"),
            gr.JSON({}, visible=False, label="settings"),
        ],
        outputs=gr.Textbox(visible=False, label="run_id"),
        api_name="train_start",
    )


def _add_status(studio: "Studio") -> None:
    def train_status(run_id: str, since: int = 0) -> dict:
        """Return the state of a run and its events, starting with number ``since``."""
        status = studio.training.status(run_id, since=since)
        return {name: value for name, value in status.items() if name != "path"}

    def train_stop(run_id: str, keep: bool = True) -> dict:
        """Stop a run after its current step. With ``keep``, the adapter trained so far is kept."""
        studio.training.stop(run_id, keep=keep)
        return {"id": run_id, "state": "stopping"}

    def list_runs() -> list[dict]:
        """Return all runs, newest first."""
        return [card.as_json() for card in studio.library.list_runs()]

    def train_baseline(run_id: str, baseline: str) -> list[str]:
        """Train the concepts of a sequence again by another method, such as "custom"; return its runs' ids.

        ``run_id`` is the sequence's last run. Existing runs are used; "merged" merges when it is called again at the end.
        """
        return studio.sequences.start_baseline(run_id, baseline)

    for endpoint in (train_status, train_stop, train_baseline, list_runs):
        api(raise_gradio_errors(endpoint), api_name=endpoint.__name__, concurrency_limit=None)


def _add_export(studio: "Studio", copies: BrowserCopies) -> None:
    def export_run(run_id: str, file_format: str) -> str:
        """Write the adapter of a run as "safetensors", "diffusers", "peft", "kohya" or "svdiff" and return the file."""
        return str(copies.copy(studio.import_export.export(run_id, file_format)))

    gr.Button(visible=False).click(
        raise_gradio_errors(export_run),
        inputs=[
            gr.Textbox(visible=False, label="run_id"),
            gr.Textbox("safetensors", visible=False, label="file_format"),
        ],
        outputs=gr.File(visible=False, label="file"),
        api_name="export_run",
    )

    def export_base(run_id: str, file_format: str, strength: float) -> str:
        """Merge a run into its base model and return it as a file: "diffusers" (a zipped folder) or "checkpoint"."""
        return str(
            copies.copy(studio.import_export.merge_into_base(run_id, file_format, strength=strength)[0])
        )

    gr.Button(visible=False).click(
        raise_gradio_errors(export_base),
        inputs=[
            gr.Textbox(visible=False, label="run_id"),
            gr.Textbox("diffusers", visible=False, label="file_format"),
            gr.Number(1.0, visible=False, label="strength"),
        ],
        outputs=gr.File(visible=False, label="file"),
        api_name="export_base",
    )


def _add_compare(studio: "Studio", copies: BrowserCopies) -> None:
    def compare(
        runs: list[str | list[dict[str, Any]] | None],
        across: str,
        values: list[Any],
        settings: dict[str, Any] | None,
    ) -> tuple[str, str]:
        """Compare runs (null: the untouched base) across "prompts", "seeds" or "strengths". Returns a labelled PNG and
        its JSON.

        A row may be a stack as in ``generate_stack``; "second" varies the strength of the second run of each stack.
        ``settings`` are fields of SampleConfig, such as prompt, seed or steps.
        """
        config = from_dict(SampleConfig, settings or {})
        found = studio.generation.compare(
            [run or None for run in runs], across=across, values=values, config=config
        )
        return str(copies.copy(found["grid"])), str(copies.copy(found["json"]))

    gr.Button(visible=False).click(
        raise_gradio_errors(compare),
        inputs=[
            gr.JSON([None], visible=False, label="runs"),
            gr.Textbox("seeds", visible=False, label="across"),
            gr.JSON([0], visible=False, label="values"),
            gr.JSON({}, visible=False, label="settings"),
        ],
        outputs=[gr.File(visible=False, label="grid"), gr.File(visible=False, label="table")],
        api_name="compare",
        concurrency_id="pictures",
    )


def _add_recall(studio: "Studio") -> None:
    def recall(picture: str | None) -> dict:
        """Return the settings of a PNG generated by Atelier: sample settings, runs with their strengths, base."""
        if not picture:
            raise ValueError("There is no picture; send a PNG generated by Atelier.")
        return studio.generation.recall(Path(picture))

    gr.Button(visible=False).click(
        raise_gradio_errors(recall),
        inputs=[gr.File(visible=False, type="filepath", label="picture")],
        outputs=gr.JSON(visible=False, label="settings"),
        api_name="recall",
    )
