"""The API endpoints of experiments, in addition to those in :mod:`ui.api`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.events import api

from ui.errors import raise_gradio_errors
from ui.html import BrowserCopies

if TYPE_CHECKING:
    from pipelines.studio import Studio


def add(studio: "Studio", copies: BrowserCopies) -> None:
    """Add experiment_start, experiment_status, experiment_stop, experiment_files and list_experiments."""
    _add_start(studio)
    _add_status(studio)
    _add_files(studio, copies)


def _add_start(studio: "Studio") -> None:
    def experiment_start(
        kind: str,
        photos: list[str] | None,
        class_noun: str,
        identifier: str,
        style_photos: list[str] | None,
        settings: dict[str, Any] | None,
    ) -> str:
        """Start an experiment ("methods", or "blocks" with pictures of a style) and return its id immediately.

        ``settings`` are fields of MethodsConfig or BlocksConfig, such as prompts, seeds, steps or methods.
        """
        return studio.experiments.start(
            kind,
            settings or {},
            [Path(photo) for photo in photos or []],
            class_noun=class_noun,
            identifier=identifier,
            style_paths=[Path(photo) for photo in style_photos or []],
        )

    gr.Button(visible=False).click(
        raise_gradio_errors(experiment_start),
        inputs=[
            gr.Textbox("methods", visible=False, label="kind"),
            gr.File(visible=False, file_count="multiple", type="filepath", label="photos"),
            gr.Textbox("person", visible=False, label="class_noun"),
            gr.Textbox("zwx", visible=False, label="identifier"),
            gr.File(visible=False, file_count="multiple", type="filepath", label="style_photos"),
            gr.JSON({}, visible=False, label="settings"),
        ],
        outputs=gr.Textbox(visible=False, label="experiment_id"),
        api_name="experiment_start",
    )


def _add_status(studio: "Studio") -> None:
    def experiment_status(experiment_id: str) -> dict:
        """Return the state of an experiment, its tables, its charts and their summary in sentences."""
        status = studio.experiments.status(experiment_id)
        return {name: value for name, value in status.items() if name != "pictures"}

    def experiment_stop(experiment_id: str) -> dict:
        """Stop an experiment's running jobs; finished training and measurements are kept."""
        studio.experiments.stop(experiment_id)
        return {"id": experiment_id, "state": studio.experiments.status(experiment_id)["state"]}

    def list_experiments() -> list[dict]:
        """Return all experiments, newest first."""
        return studio.experiments.list()

    for endpoint in (experiment_status, experiment_stop, list_experiments):
        api(raise_gradio_errors(endpoint), api_name=endpoint.__name__, concurrency_limit=None)


def _add_files(studio: "Studio", copies: BrowserCopies) -> None:
    def experiment_files(experiment_id: str) -> tuple[str | None, ...]:
        """Return an experiment's figures as JSON, its pictures as a labelled PNG, and its chart as a PNG."""
        found = studio.experiments.files(experiment_id)
        return tuple(
            str(copies.copy(found[name])) if name in found else None for name in ("json", "pictures", "chart")
        )

    gr.Button(visible=False).click(
        raise_gradio_errors(experiment_files),
        inputs=[gr.Textbox(visible=False, label="experiment_id")],
        outputs=[gr.File(visible=False, label=name) for name in ("figures", "sheet", "chart")],
        api_name="experiment_files",
    )
