"""A picture that follows sliders: a small preview while one is dragged, the full picture when it is released."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr

from pipelines.config import SampleConfig

if TYPE_CHECKING:
    from ui.wiring import Page

FULL_STEPS, PREVIEW_STEPS, PREVIEW_PX = 25, 6, 256
# All events of such a picture are one, so that answers cannot overtake each other.
ONE_PICTURE: dict[str, Any] = {"concurrency_id": "pictures", "trigger_mode": "always_last"}


def preview(config: SampleConfig, *, size_px: int) -> SampleConfig:
    """Return the settings of one small picture in a few steps; ``size_px`` is the base model's own size."""
    large = (config.size_px or size_px) > PREVIEW_PX
    return replace(
        config,
        steps=min(config.steps, PREVIEW_STEPS),
        size_px=PREVIEW_PX if large else config.size_px,
        count=1,
    )


def full_flag() -> gr.Checkbox:
    """Create the hidden input that tells whether the full picture is wanted; JavaScript sets it."""
    return gr.Checkbox(True, visible=False, label="Full picture")


def follow(
    page: "Page",
    sliders: Sequence[str],
    handler: Callable[..., dict[str, Any]],
    *,
    takes: Sequence[str],
    gives: Sequence[str],
    full: str,
    further: Sequence[Callable[..., Any]] = (),
) -> None:
    """Draw while one of the ``sliders`` moves, when it is released, and on ``further`` events.

    ``full`` names the widget of :func:`full_flag`: the handler gets False while a slider is pressed, because more moves
    will come.
    """
    moves = [event for name in sliders for event in (page.named[name].input, page.named[name].release)]
    page.on(
        partial(gr.on, [*moves, *further]),
        handler,
        takes=[*takes, full],
        gives=gives,
        js=_tell_pressed(len(takes)),
        **ONE_PICTURE,
    )


def _tell_pressed(place: int) -> str:
    """Return the JavaScript that sets input ``place``, the last one, to whether no slider is pressed (assets/app.js)."""
    return f"(...values) => [...values.slice(0, {place}), !window.atelierPressed]"
