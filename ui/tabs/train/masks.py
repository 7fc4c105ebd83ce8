"""Masks of photographs, next to their square crops: computed when the section is open, shown as outlines, editable."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from ui.html import Html, element
from ui.run.monitor import RunMonitor, Values

if TYPE_CHECKING:
    from pipelines.services.inspection import PhotoMask
    from ui.wiring import Page

CLOSED: Values = {
    "open": False,
    "of": None,
    "photos": {},
}  # what the part shows; photos: name -> (key, PhotoMask)
NOT_FOUND = "No outline was found; brush over the subject."
CANVAS_PX = 384
BRUSH = ("rgb(255, 64, 32)", 0.55)  # the colour of the outline
ONE_AT_A_TIME: dict[str, Any] = {"concurrency_id": "masks", "concurrency_limit": 1}


def lay_out() -> dict[str, Any]:
    """Create the widgets for all photographs in the current Blocks context and return them by name."""
    named: dict[str, Any] = {}
    with gr.Accordion("Masks", open=False, elem_id="masks") as named["masks"]:
        gr.HTML(
            element("p", "What is outside of an outline is dimmed; press one to correct it.", class_="hint")
        )
        named["outlines"] = gr.Gallery(
            label="Outlines",
            show_label=False,
            columns=4,
            height="auto",
            allow_preview=False,
            interactive=False,
            object_fit="cover",
            format="png",
            buttons=[],
            elem_id="outlines",
        )
        with gr.Column(visible=False, elem_id="mask-row") as named["mask_row"]:
            named["mask_told"] = gr.HTML("")
            named["mask_editor"] = gr.ImageEditor(
                type="pil",
                image_mode="RGBA",
                format="png",
                sources=[],
                transforms=[],
                layers=False,
                buttons=[],
                brush=gr.Brush(default_size=CANVAS_PX // 16, colors=[BRUSH], color_mode="fixed"),
                eraser=gr.Eraser(default_size=CANVAS_PX // 16),
                canvas_size=(CANVAS_PX, CANVAS_PX),
                show_label=False,
                interactive=True,
                elem_id="mask-editor",
            )
            with gr.Row():
                named["mask_apply"] = gr.Button("Apply", variant="primary", size="md", min_width=80)
                named["mask_again"] = gr.Button("Find again", size="md", min_width=80)
                named["mask_whole"] = gr.Button("Whole photo", size="md", min_width=80)
    return named


class Masks:
    """Handlers bound to the monitor's Studio; a corrected mask is stored in the source, like crops and captions."""

    def __init__(self, monitor: RunMonitor) -> None:
        self.studio = monitor.studio
        self.copies = monitor.copies

    def expand(self, source: Values | None, found_masks: Values, progress: Any = None) -> Values:
        """Compute missing masks when the section is opened."""
        return self.refresh(source, found_masks | {"open": True}, progress)

    def collapse(self, found_masks: Values) -> Values:
        """Stop computing masks until the section is opened again."""
        return {"found_masks": found_masks | {"open": False}}

    def refresh(self, source: Values | None, found_masks: Values, progress: Any = None) -> Values:
        """Compute the masks of new photographs and changed crops while the section is open."""
        if not source or source["title"] or source.get("problem"):
            return {
                "found_masks": found_masks | {"of": None, "photos": {}},
                "mask_row": gr.update(visible=False),
            }
        wanted = [source["files"], source["crops"]]
        if not found_masks["open"] or found_masks["of"] == wanted:
            return {}
        photos = {
            name: (key, mask)
            for name, (key, mask) in found_masks["photos"].items()
            if key == _key(source, name)
        }
        made = self.studio.inspection.masks(
            [Path(file) for file in source["files"]],
            source["crops"] or None,
            known={name: mask for name, (_, mask) in photos.items()},
            on_progress=partial(_report, progress),
        )
        photos = {mask.name: (_key(source, mask.name), mask) for mask in made}
        return {
            "found_masks": {"open": True, "of": wanted, "photos": photos},
            "outlines": self._outlines(photos, source),
            "mask_row": gr.update(visible=False),
        }

    def choose(self, found_masks: Values, index: int) -> Values:
        """Open one photograph in the editor, with its mask as the editable layer."""
        mask = _at(found_masks, index)
        return {"masked": index, "mask_row": gr.update(visible=True)} | self._edited(mask)

    def apply(self, source: Values, found_masks: Values, masked: int, mask_editor: Values) -> Values:
        """Use the painted layer as the mask."""
        mask = self.studio.inspection.mask_painted(_at(found_masks, masked), mask_editor["layers"])
        return self._corrected(source, found_masks, mask) | {"mask_told": _told(mask, "Applied.")}

    def whole(self, source: Values, found_masks: Values, masked: int) -> Values:
        """Use a mask that covers the whole photograph."""
        mask = self.studio.inspection.mask_whole(_at(found_masks, masked))
        return self._corrected(source, found_masks, mask) | self._edited(mask)

    def again(self, source: Values, found_masks: Values, masked: int) -> Values:
        """Discard the correction and compute the mask again."""
        mask = self.studio.inspection.mask_again(_at(found_masks, masked))
        return self._corrected(source, found_masks, mask) | self._edited(mask)

    def _edited(self, mask: PhotoMask) -> Values:
        square, layer = (str(self.copies.copy(path)) for path in (mask.square, mask.layer))
        value = {"background": square, "layers": [layer], "composite": None}
        return {"mask_editor": value, "mask_told": _told(mask)}

    def _corrected(self, source: Values, found_masks: Values, mask: PhotoMask) -> Values:
        """Store a corrected mask for the run, which then uses the masks of all photographs."""
        kept = source.get("masks", {}) | {mask.name: str(mask.mask)}
        photos = found_masks["photos"] | {mask.name: (_key(source, mask.name), mask)}
        source = source | {"masks": kept}
        return {
            "source": source,
            "found_masks": found_masks | {"photos": photos},
            "outlines": self._outlines(photos, source),
            "mask_background": True,
        }

    def _outlines(self, photos: Mapping[str, tuple[Any, PhotoMask]], source: Values) -> list[tuple[str, str]]:
        corrected = source.get("masks", {})
        return [
            (
                str(self.copies.copy(mask.outlined)),
                f"{name} · corrected" if name in corrected else name if mask.found else f"{name} · not found",
            )
            for name, (_, mask) in photos.items()
        ]


def masks_of(source: Values, found_masks: Values | None) -> dict[str, Path]:
    """Return the masks for a run: corrected ones, and shown ones that match the current photographs and crops."""
    photos = (found_masks or CLOSED)["photos"]
    shown = {name: mask.mask for name, (key, mask) in photos.items() if key == _key(source, name)}
    return shown | {name: Path(mask) for name, mask in source.get("masks", {}).items()}


def _report(progress: Any, done: int, total: int) -> None:
    if progress is not None:
        progress((done, total), desc="Finding the subject", unit="photographs")


def _told(mask: PhotoMask, done: str = "") -> Html:
    how = NOT_FOUND if not mask.found else "Paint over what belongs to the subject, erase what does not."
    return element("p", element("b", mask.name), f" · {done or how}", class_="hint", role="status")


def _at(found_masks: Values, place: int) -> PhotoMask:
    photos = list(found_masks["photos"].values())
    if place >= len(photos):
        raise ValueError("These photographs are no longer here; open Masks again.")
    return photos[place][1]


def _key(source: Values, name: str) -> list[Any]:
    """Return the key of a photograph's mask: its file (or all zip files), a mask file next to it, and its crop."""
    stem = f"{Path(name).stem}.mask.png".lower()
    beside = [file for file in source["files"] if Path(file).name == name or Path(file).name.lower() == stem]
    zips = [file for file in source["files"] if file.lower().endswith(".zip")]
    return [beside, zips, source["crops"].get(name)]


def wire(page: Page) -> None:
    """Connect the events."""
    masks, named = Masks(page.monitor), page.named
    found = ["found_masks", "outlines", "mask_row"]
    for event, handler in ((named["masks"].expand, masks.expand), (named["source"].change, masks.refresh)):
        page.on(
            event,
            handler,
            takes=["source", "found_masks"],
            gives=found,
            busy="outlines",
            reports_progress=True,
            **ONE_AT_A_TIME,
        )
    page.on(named["masks"].collapse, masks.collapse, takes=["found_masks"], gives=["found_masks"])
    page.on(
        named["outlines"].select,
        masks.choose,
        takes=["found_masks"],
        gives=["masked", "mask_row", "mask_editor", "mask_told"],
        event_data="index",
    )
    given = ["source", "found_masks", "outlines", "mask_background", "mask_told", "mask_editor"]
    at = ["source", "found_masks", "masked"]
    page.on(named["mask_apply"].click, masks.apply, takes=[*at, "mask_editor"], gives=given, **ONE_AT_A_TIME)
    page.on(named["mask_whole"].click, masks.whole, takes=at, gives=given, **ONE_AT_A_TIME)
    page.on(
        named["mask_again"].click, masks.again, takes=at, gives=given, busy="mask_editor", **ONE_AT_A_TIME
    )
