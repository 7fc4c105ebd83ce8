"""Masks of photographs: computed where the run will use them or one is opened, drawn on the tiles, and editable."""

from __future__ import annotations

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
    """Create the widgets for the mask of the chosen photograph in the current Blocks context; return them by name."""
    named: dict[str, Any] = {}
    with gr.Accordion("Mask", open=False, elem_id="masks") as named["masks"]:
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

    def expand(self, source: Values | None, found_masks: Values, photo: str, progress: Any = None) -> Values:
        """Compute missing masks when the part is opened, and show that of the chosen photograph."""
        values = self.refresh(source, found_masks | {"open": True}, photo=photo, progress=progress)
        found_masks = values.setdefault("found_masks", found_masks | {"open": True})
        return values | self.choose(found_masks, photo)

    def collapse(self, found_masks: Values) -> Values:
        """Stop computing masks that the run does not use."""
        return {"found_masks": found_masks | {"open": False}}

    def refresh(
        self,
        source: Values | None,
        found_masks: Values,
        mask_background: bool = False,
        scenes: float | None = 0,
        photo: str = "",
        progress: Any = None,
    ) -> Values:
        """Compute the masks of new photographs and changed crops, if the run will use them or one is being edited."""
        if not source or source["title"]:
            return {"found_masks": found_masks | {"of": None, "photos": {}}}
        wanted = [source["files"], source["crops"]]
        if not (found_masks["open"] or mask_background or scenes) or found_masks["of"] == wanted:
            return {}
        known = {
            name: mask for name, (key, mask) in found_masks["photos"].items() if key == mask_key(source, name)
        }
        made = self.studio.inspection.masks(
            [Path(file) for file in source["files"]],
            source["crops"] or None,
            known=known,
            on_progress=partial(_report, progress),
        )
        photos = {mask.name: (mask_key(source, mask.name), mask) for mask in made}
        values: Values = {"found_masks": found_masks | {"of": wanted, "photos": photos}}
        if photo in photos and photo not in known:  # the editor would show another square
            values |= self.choose(values["found_masks"], photo)
        return values

    def choose(self, found_masks: Values, photo: str) -> Values:
        """Show the mask of one photograph as the editable layer of the editor, while the part is open."""
        if not found_masks["open"] or photo not in found_masks["photos"]:
            return {}
        return self._edited(found_masks["photos"][photo][1])

    def apply(self, source: Values, found_masks: Values, photo: str, mask_editor: Values) -> Values:
        """Use the painted layer as the mask."""
        mask = self.studio.inspection.mask_painted(_of(found_masks, photo), mask_editor["layers"])
        return self._corrected(source, found_masks, mask) | {"mask_told": _told(mask, "Applied.")}

    def whole(self, source: Values, found_masks: Values, photo: str) -> Values:
        """Use a mask that covers the whole photograph."""
        mask = self.studio.inspection.mask_whole(_of(found_masks, photo))
        return self._corrected(source, found_masks, mask) | self._edited(mask)

    def again(self, source: Values, found_masks: Values, photo: str) -> Values:
        """Discard the correction and compute the mask again."""
        mask = self.studio.inspection.mask_again(_of(found_masks, photo))
        return self._corrected(source, found_masks, mask) | self._edited(mask)

    def _edited(self, mask: PhotoMask) -> Values:
        square, layer = (str(self.copies.copy(path)) for path in (mask.square, mask.layer))
        value = {"background": square, "layers": [layer], "composite": None}
        return {"mask_editor": value, "mask_told": _told(mask)}

    def _corrected(self, source: Values, found_masks: Values, mask: PhotoMask) -> Values:
        """Store a corrected mask for the run, which then uses the masks of all photographs."""
        kept = source.get("masks", {}) | {mask.name: str(mask.mask)}
        photos = found_masks["photos"] | {mask.name: (mask_key(source, mask.name), mask)}
        return {
            "source": source | {"masks": kept},
            "found_masks": found_masks | {"photos": photos},
            "mask_background": True,
        }


def masks_of(source: Values, found_masks: Values | None) -> dict[str, Path]:
    """Return the masks for a run: corrected ones, and shown ones that match the current photographs and crops."""
    photos = (found_masks or CLOSED)["photos"]
    shown = {name: mask.mask for name, (key, mask) in photos.items() if key == mask_key(source, name)}
    return shown | {name: Path(mask) for name, mask in source.get("masks", {}).items()}


def _report(progress: Any, done: int, total: int) -> None:
    if progress is not None:
        progress((done, total), desc="Finding the subject", unit="photographs")


def _told(mask: PhotoMask, done: str = "") -> Html:
    how = NOT_FOUND if not mask.found else "Paint over what belongs to the subject, erase what does not."
    return element("p", element("b", mask.name), f" · {done or how}", class_="hint", role="status")


def _of(found_masks: Values, photo: str) -> PhotoMask:
    if photo not in found_masks["photos"]:
        raise ValueError("The mask of this photograph is not here yet; close Mask and open it again.")
    return found_masks["photos"][photo][1]


def mask_key(source: Values, name: str) -> list[Any]:
    """Return what a photograph's mask depends on: its file, a mask file next to it, and its crop."""
    stem = f"{Path(name).stem}.mask.png".lower()
    beside = [file for file in source["files"] if Path(file).name == name or Path(file).name.lower() == stem]
    return [beside, source["crops"].get(name)]


def wire(page: Page) -> None:
    """Connect the events. After each change of the masks or the photographs, the tiles are drawn again."""
    masks, named = Masks(page.monitor), page.named
    asked = ["source", "found_masks"]
    changed = [
        named[name].change for name in ("source", "mask_background", "scenes", "suits_own", "filled_plan")
    ]
    refreshed = page.on(
        partial(gr.on, changed),
        masks.refresh,
        takes=[*asked, "mask_background", "scenes", "photo"],
        gives=["found_masks", "mask_editor", "mask_told"],
        **ONE_AT_A_TIME,
    )
    expanded = page.on(
        named["masks"].expand,
        masks.expand,
        takes=[*asked, "photo"],
        gives=["found_masks", "mask_editor", "mask_told"],
        busy="mask_editor",
        reports_progress=True,
        **ONE_AT_A_TIME,
    )
    page.on(named["masks"].collapse, masks.collapse, takes=["found_masks"], gives=["found_masks"])
    chosen = ["mask_editor", "mask_told"]
    page.on(named["photo"].change, masks.choose, takes=["found_masks", "photo"], gives=chosen)
    given = ["source", "found_masks", "mask_background", *chosen]
    at = [*asked, "photo"]
    acts = [
        page.on(
            named["mask_apply"].click, masks.apply, takes=[*at, "mask_editor"], gives=given, **ONE_AT_A_TIME
        ),
        page.on(named["mask_whole"].click, masks.whole, takes=at, gives=given, **ONE_AT_A_TIME),
        page.on(
            named["mask_again"].click, masks.again, takes=at, gives=given, busy="mask_editor", **ONE_AT_A_TIME
        ),
    ]
    for done in (refreshed, expanded, *acts):
        page.on(done.then, page.train.photos.draw, takes=asked, gives=["tiles", "squares"])
    page.on(named["source"].change, page.train.photos.draw, takes=asked, gives=["tiles", "squares"])
