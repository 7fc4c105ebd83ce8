"""The user's photographs as tiles: each can be removed, and the chosen one cropped, captioned, repeated and masked."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from PIL import Image

from pipelines.data.photographs import MASK_ENDING, MAX_PHOTOS, MAX_SENTENCES
from ui.errors import as_text
from ui.html import BrowserCopies, Html, element
from ui.run.monitor import RunMonitor, Values
from ui.tabs.train import captions as tagging
from ui.tabs.train import masks as masking
from ui.tabs.train.masks import mask_key

if TYPE_CHECKING:
    from ui.wiring import Page

NO_PHOTOGRAPHS = f"Choose an example or add 1 to {MAX_PHOTOS} photographs first."
# The chosen tile is marked here, because only the part below the tiles changes with the choice. After a redraw the same
# tile keeps the focus, or the one in its place.
TILES_SCRIPT = """
let chosen = '', focused = null;
const tiles = () => [...element.querySelectorAll('.tile')];
const mark = () => {
  if (!tiles().some((tile) => tile.dataset.name === chosen)) chosen = '';
  for (const tile of tiles()) {
    const own = tile.dataset.name === chosen;
    tile.classList.toggle('chosen', own);
    tile.querySelector('[data-act=choose]')?.setAttribute('aria-pressed', own);
  }
};
const act = (button) => {
  const tile = button.closest('.tile');
  if (button.dataset.act === 'remove') { trigger('remove', {value: tile.dataset.name}); return; }
  chosen = tile.dataset.name;
  mark();
  trigger('choose', {value: chosen});
};
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-act]');
  if (button) act(button);
});
element.addEventListener('focusin', (event) => {
  const tile = event.target.closest('.tile');
  if (tile) focused = {name: tile.dataset.name, place: tiles().indexOf(tile), act: event.target.dataset.act};
});
element.addEventListener('focusout', (event) => { if (event.relatedTarget) focused = null; });
element.addEventListener('keydown', (event) => {
  const tile = event.target.closest('.tile');
  const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
  if (tile && step) {
    tiles()[tiles().indexOf(tile) + step]?.querySelector('button').focus();
    event.preventDefault();
  }
  if (tile && event.key === 'Delete') { trigger('remove', {value: tile.dataset.name}); event.preventDefault(); }
});
watch('value', () => {
  mark();
  if (!focused || document.activeElement !== document.body) return;
  const tile = tiles().find((each) => each.dataset.name === focused.name) || tiles()[Math.min(focused.place, tiles().length - 1)];
  tile?.querySelector(`[data-act=${focused.act}]`)?.focus();
});
"""
CROP_SCRIPT = """
let held = null, later = 0;
const frame = () => element.querySelector('.crop-frame');
const put = (value) => {
  const box = frame(), part = Number(box.dataset.part), place = Math.min(1, Math.max(-1, value));
  box.style[box.dataset.along === 'x' ? 'left' : 'top'] = `${50 * (1 - part) * (1 + place)}%`;
  box.dataset.place = place;
  box.setAttribute('aria-valuenow', Math.round(100 * place));
};
const send = () => { clearTimeout(later); trigger('crop', {value: Number(frame().dataset.place)}); };
element.addEventListener('pointerdown', (event) => {
  const box = event.target.closest('.crop-frame');
  if (!box || box.dataset.along === '') return;
  held = {from: box.dataset.along === 'x' ? event.clientX : event.clientY, place: Number(box.dataset.place)};
  box.setPointerCapture(event.pointerId);
  box.focus();
  event.preventDefault();
});
element.addEventListener('pointermove', (event) => {
  if (!held) return;
  const box = frame(), field = box.parentElement, across = box.dataset.along === 'x';
  const room = (across ? field.clientWidth : field.clientHeight) * (1 - Number(box.dataset.part)) / 2;
  put(held.place + ((across ? event.clientX : event.clientY) - held.from) / room);
});
for (const name of ['pointerup', 'pointercancel'])
  element.addEventListener(name, () => { if (held) { held = null; send(); } });
element.addEventListener('keydown', (event) => {
  const box = event.target.closest('.crop-frame');
  const step = {ArrowLeft: -0.05, ArrowUp: -0.05, ArrowRight: 0.05, ArrowDown: 0.05, Home: -2, End: 2}[event.key];
  if (!box || !step || box.dataset.along === '') return;
  put(Number(box.dataset.place) + step * (event.shiftKey ? 4 : 1));
  clearTimeout(later);
  later = setTimeout(send, 300);
  event.preventDefault();
});
"""


def photo_names(source: Values | None) -> list[str]:
    """Return the names of the chosen photographs, without the masks among the files."""
    names = [Path(file).name for file in source["files"]] if source else []
    return [name for name in names if not name.lower().endswith(MASK_ENDING)]


def is_own(source: Values | None) -> bool:
    """Return whether these are the user's own photographs, not a shipped example's."""
    return bool(source and not source["title"])


class PhotoHandlers:
    """Handlers that add, remove, crop, caption and repeat photographs; the result is kept in ``source``."""

    def __init__(self, monitor: RunMonitor) -> None:
        self.studio = monitor.studio
        self.copies = monitor.copies

    def add(self, upload: list[str], before: Values | None) -> Values | None:
        """Return the source with the uploaded photographs added to the user's own; None if there are none.

        Unusable files are left out, and a notice names them.
        """
        known = before if before and is_own(before) else None
        names = photo_names(known)
        intake = self.studio.inspection.sort_files([Path(file) for file in upload], taken=names)
        refused, added = list(intake.refused), []
        for name, path in intake.photos.items():
            if len(names) + len(added) == MAX_PHOTOS:
                refused.append(
                    f"More than {MAX_PHOTOS} photographs were chosen; the first {MAX_PHOTOS} are kept."
                )
                break
            try:
                self.copies.overview(path)
            except ValueError as error:
                refused.append(str(error))
            else:
                added.append(name)
        if refused:
            _warn(refused)
        kept = {*names, *added}
        if not kept:
            return None
        source = known or {"title": "", "files": [], "crops": {}, "captions": {}, "repeats": {}, "masks": {}}
        masks = {name: str(path) for name, path in intake.masks.items() if name in kept}
        replaced = {Path(path).name for path in masks.values()}
        files = [file for file in source["files"] if Path(file).name not in replaced]
        captions = {name: text for name, text in intake.captions.items() if name in kept and text}
        return source | {
            "files": [*files, *(str(intake.photos[name]) for name in added), *masks.values()],
            "captions": source["captions"] | captions,
        }

    def draw(self, source: Values | None, found_masks: Values | None) -> Values:
        """Draw the user's own photographs as tiles, and on the page Start as a wall."""
        if source is None or not is_own(source):
            return {"tiles": Html(""), "squares": Html("")}
        drawn = tiles(source, found_masks or {}, copies=self.copies)
        return {"tiles": drawn, "squares": wall(source, copies=self.copies)}

    def choose(self, source: Values | None, value: str) -> Values:
        """Show the crop, the caption and the repeats of one photograph."""
        path = _path(source, value)
        assert source is not None
        return {
            "photo": value,
            "photo_row": gr.update(visible=True),
            "cropper": cropper(path, source["crops"].get(value), copies=self.copies),
            "photo_caption": source["captions"].get(value, ""),
            "photo_repeats": source.get("repeats", {}).get(value, 1),
        }

    def remove(self, source: Values | None, value: str, photo: str) -> Values:
        """Leave one photograph out, with all that was said of it."""
        _path(source, value)
        assert source is not None
        gone = {value, f"{Path(value).stem}{MASK_ENDING}"}
        left = source | {"files": [file for file in source["files"] if Path(file).name not in gone]}
        for what in ("crops", "captions", "repeats", "masks"):
            left[what] = {name: said for name, said in source.get(what, {}).items() if name != value}
        values: Values = {"source": left if photo_names(left) else None}
        return values | ({"photo": "", "photo_row": gr.update(visible=False)} if photo == value else {})

    def crop(self, source: Values | None, photo: str, value: float) -> Values:
        """Move the crop of one photograph along its longer side; ``value`` ranges from -1 to 1."""
        path = _path(source, photo)
        assert source is not None
        width, height = overview_size(path, copies=self.copies)
        place = round(max(-1.0, min(1.0, float(value))), 3)
        shift = (place, 0.0) if width > height else (0.0, place)
        masks = dict(source.get("masks", {}))
        if masks.pop(photo, None):
            gr.Info(
                f"{photo} is cropped anew, so its corrected mask is dropped and found again.", title="Masks"
            )
        return {"source": source | {"crops": source["crops"] | {photo: shift}, "masks": masks}}

    def caption(self, source: Values | None, photo: str, photo_caption: str) -> Values:
        """Store the caption of one photograph; if it is empty, the photo prompt is used."""
        if source is None or photo not in photo_names(source):
            return {}
        captions = {name: text for name, text in source["captions"].items() if name != photo}
        text = photo_caption.strip()
        return {"source": source | {"captions": captions | ({photo: text} if text else {})}}

    def repeat(self, source: Values | None, photo: str, photo_repeats: float | None) -> Values:
        """Store how often one photograph is used for each use of the others."""
        if source is None or photo not in photo_names(source) or photo_repeats is None:
            return {}
        others = {name: times for name, times in source.get("repeats", {}).items() if name != photo}
        own = {photo: int(photo_repeats)} if photo_repeats > 1 else {}
        return {"source": source | {"repeats": others | own}}

    def uploaded(self, upload: list[str] | None) -> Html:
        """Return the tiles of uploaded files that can only be left out; a file without a picture is shown by its name."""
        made = [_upload_tile(Path(file), copies=self.copies) for file in upload or ()]
        return (
            element("ul", *made, class_="tiles", aria_label=f"Photographs: {len(made)}") if made else Html("")
        )


def overview_size(path: Path, *, copies: BrowserCopies) -> tuple[int, int]:
    """Return the width and height of a photograph's reduced copy, which is upright."""
    with Image.open(copies.overview_file(path)) as picture:
        return picture.size


def tiles(source: Values, found_masks: Mapping[str, Any], *, copies: BrowserCopies) -> Html:
    """Return one tile for each photograph: its square with its mask, and what was changed, and a button to remove it."""
    masks = found_masks.get("photos", {})
    made = []
    for file in _photo_files(source):
        name = file.name
        key, mask = masks.get(name, (None, None))
        outlined = mask is not None and key == mask_key(source, name)
        picture = (
            element("img", src=copies.url(mask.outlined), alt="", loading="lazy", draggable="false")
            if outlined and mask
            else _square(file, source["crops"].get(name), alt="", copies=copies)
        )
        told = _told(source, name, unfound=bool(outlined and mask and not mask.found))
        marks = [element("span", sign, title=words) for sign, words in told]
        label = ", ".join([f"Photograph {name}", *(words for _, words in told)])
        made.append(
            element(
                "li",
                element("button", picture, type="button", data_act="choose", aria_label=label, aria_pressed="false", title=name),
                *([element("span", *marks, class_="marks", aria_hidden="true")] if marks else []),
                element("button", "×", type="button", data_act="remove", aria_label=f"Remove {name}", title=f"Remove {name}"),
                class_="tile",
                data_name=name,
            )
        )  # fmt: skip
    count = len(made)
    return Html(
        element("ul", *made, class_="tiles", aria_label=f"Your photographs: {count}")
        + element("p", _counted(count), class_="hint")
    )


def _upload_tile(file: Path, *, copies: BrowserCopies) -> Html:
    try:
        shown = _square(file, None, alt=file.name, copies=copies)
    except (ValueError, OSError):  # an archive, a caption, or a file that the start will refuse by name
        shown = element("span", file.name, class_="file-name")
    remove = element("button", "×", type="button", data_act="remove", aria_label=f"Remove {file.name}")
    return element("li", shown, remove, class_="tile", data_name=file.name, title=file.name)


def _counted(count: int) -> str:
    many = f"{count} photographs" if count > 1 else "1 photograph"
    return f"{many}. Choose one to crop, caption, repeat or mask it; × leaves it out."


def _told(source: Values, name: str, *, unfound: bool) -> list[tuple[str, str]]:
    """Return what was changed about a photograph as (sign, words)."""
    times = source.get("repeats", {}).get(name, 1)
    return [
        *([(f"×{times}", f"used {times} times")] if times > 1 else []),
        *([("✎", "captioned")] if source["captions"].get(name) else []),
        *([("◐", "mask corrected")] if name in source.get("masks", {}) else []),
        *([("?", "no outline found")] if unfound and name not in source.get("masks", {}) else []),
    ]


def wall(source: Values, *, copies: BrowserCopies) -> Html:
    """Return the square crops of the photographs."""
    files = _photo_files(source)
    pictures = [
        _square(file, source["crops"].get(file.name), alt=f"Photograph {index} of the subject", copies=copies)
        for index, file in enumerate(files, start=1)
    ]
    return element(
        "div",
        element("h3", "Your photographs"),
        element("div", *pictures, class_=f"wall {'few' if len(files) <= 4 else 'many'}"),
        class_="photo-wall",
    )


def cropper(path: Path, shift: tuple[float, float] | None, *, copies: BrowserCopies) -> Html:
    """Return a whole photograph with the square that is used for training, which moves along the longer side."""
    width, height = overview_size(path, copies=copies)
    along, part = ("x", height / width) if width > height else ("y", width / height)
    place = (shift or (0.0, 0.0))[0 if along == "x" else 1]
    square = width == height
    start, size = f"{50 * (1 - part) * (1 + place):.2f}%", f"{100 * part:.2f}%"
    style = (
        f"left:{start};top:0;width:{size};height:100%"
        if along == "x"
        else f"left:0;top:{start};width:100%;height:{size}"
    )
    frame = element(
        "div",
        class_="crop-frame",
        style=style,
        data_along="" if square else along,
        data_part=f"{part:.4f}",
        data_place=place,
        **({} if square else {
            "role": "slider",
            "tabindex": 0,
            "aria_label": f"Crop of {path.name}, {'left or right' if along == 'x' else 'up or down'}",
            "aria_orientation": "horizontal" if along == "x" else "vertical",
            "aria_valuemin": -100,
            "aria_valuemax": 100,
            "aria_valuenow": round(100 * place),
        }),
    )  # fmt: skip
    image = element("img", src=copies.overview(path), alt=f"{path.name}, whole", draggable="false")
    told = (
        "A square photograph: all of it is used."
        if square
        else "Drag the square, or move it with the arrow keys."
    )
    return element(
        "figure",
        element("figcaption", element("b", path.name), element("span", told)),
        element("div", image, frame, class_="crop-field", style=f"aspect-ratio:{width}/{height};--ratio:{width / height:.4f}"),
        class_="cropper",
    )  # fmt: skip


def _square(file: Path, shift: tuple[float, float] | None, *, alt: str, copies: BrowserCopies) -> Html:
    """Return a photograph whose square crop is shown by a tile that covers it."""
    across, down = shift or (0.0, 0.0)
    place = f"object-position:{50 * (1 + across):.1f}% {50 * (1 + down):.1f}%"
    return element("img", src=copies.overview(file), alt=alt, style=place, loading="lazy", draggable="false")


def _photo_files(source: Values) -> list[Path]:
    names = {*photo_names(source)}
    return [Path(file) for file in source["files"] if Path(file).name in names]


def _path(source: Values | None, name: str) -> Path:
    """Return the file of a photograph. Raises ValueError if it is no longer among the chosen ones."""
    found = next((file for file in _photo_files(source) if file.name == name), None) if source else None
    if found is None:
        raise ValueError("This photograph is no longer here; choose another.")
    return found


def _warn(refused: list[str]) -> None:
    more = len(refused) - MAX_SENTENCES
    told = refused[:MAX_SENTENCES] + ([f"{more} more files cannot be used."] if more > 0 else [])
    gr.Warning(as_text(ValueError("\n".join(told))), title="Please check", duration=12)


def lay_out() -> dict[str, Any]:
    """Create the tiles and the fields of the chosen photograph in the current Blocks context; return them by name."""
    named: dict[str, Any] = {}
    named["tiles"] = gr.HTML("", js_on_load=TILES_SCRIPT, elem_id="tiles")
    with gr.Column(visible=False, elem_id="photo-detail") as named["photo_row"]:
        named["cropper"] = gr.HTML("", js_on_load=CROP_SCRIPT, elem_id="cropper")
        named["photo_caption"] = gr.Textbox(
            label="Caption (optional)",
            placeholder="a photo of a zwx person, laughing",
            info="Used for this photograph instead of the photo prompt.",
            max_lines=2,
        )
        named["photo_repeats"] = tagging.lay_out_repeats()
        named |= masking.lay_out()
    return named


def wire_upload(page: "Page", upload: str) -> None:
    """Connect an upload field that keeps its files with the tiles below it, named as the field and "_tiles"."""
    shown = f"{upload}_tiles"

    def draw(**given: Any) -> Values:
        return {shown: page.train.photos.uploaded(given[upload])}

    def remove(value: str, **given: Any) -> Values:
        left = [file for file in given[upload] or () if Path(file).name != value]
        return {upload: left or None}

    page.on(page.named[upload].change, draw, takes=[upload], gives=[shown])
    page.on(page.named[shown].remove, remove, takes=[upload], gives=[upload], event_data="value")


def upload_tiles() -> gr.HTML:
    """Create the tiles of an upload field in the current Blocks context."""
    return gr.HTML("", js_on_load=TILES_SCRIPT)


def wire(page: "Page", photos: PhotoHandlers, *, subject: Mapping[str, Any]) -> None:
    """Connect the events; ``subject`` holds the options that make changes of the photographs wait for each other."""
    named = page.named
    page.on(
        named["tiles"].choose,
        photos.choose,
        takes=["source"],
        gives=["photo", "photo_row", "cropper", "photo_caption", "photo_repeats"],
        event_data="value",
        **subject,
    )
    page.on(
        named["cropper"].crop,
        photos.crop,
        takes=["source", "photo"],
        gives=["source"],
        event_data="value",
        **subject,
    )
    page.on(
        named["photo_caption"].change,
        photos.caption,
        takes=["source", "photo", "photo_caption"],
        gives=["source"],
        trigger_mode="always_last",
        **subject,
    )
    page.on(
        named["photo_repeats"].input,
        photos.repeat,
        takes=["source", "photo", "photo_repeats"],
        gives=["source"],
        trigger_mode="always_last",
        **subject,
    )
