"""The history of generated pictures: a strip of thumbnails in the playground, newest first."""

from collections.abc import Sequence

from pipelines.sampling.picture_history import MOST_PICTURES, KeptPicture
from ui.html import BrowserCopies, Html, element

THUMBNAIL_PX = 160
# A thumbnail restores its picture; the two buttons below the strip remove one picture or all of them.
SCRIPT = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-act]');
  if (!button || !['choose', 'forget'].includes(button.dataset.act)) return;
  if (button.dataset.act === 'choose')
    element.querySelectorAll('.kept').forEach((each) => each.setAttribute('aria-pressed', each === button));
  trigger(button.dataset.act, {value: button.dataset.value});
});
"""


def strip(pictures: Sequence[KeptPicture], *, copies: BrowserCopies, chosen: str = "") -> Html:
    """Return the history with the picture ``chosen`` highlighted; empty without pictures."""
    if not pictures:
        return Html("")
    items = [
        element("li", _button(each, copies=copies, chosen=each.id == chosen)) for each in pictures if each.id
    ]
    shown = next((each for each in pictures if each.id == chosen), None)
    one = [_act("forget", chosen, "Remove this picture")] if shown else []
    everything = element(
        "details",
        element("summary", "Clear the history"),
        _act("forget", "", f"Remove all {len(items)} pictures"),
    )
    note = f"The latest {MOST_PICTURES} pictures; click one to restore it with its settings."
    return element(
        "section",
        element("h3", "History"),
        element("p", note, class_="hint"),
        element("ol", *items, class_="kept-pictures"),
        element("div", *one, everything, class_="kept-acts"),
        class_="history",
        aria_label="History of generated pictures",
    )


def _button(picture: KeptPicture, *, copies: BrowserCopies, chosen: bool) -> Html:
    prompt, told = str(picture.settings.get("prompt", "")), _told(picture)
    words = f"{prompt}, {told}"
    return element(
        "button",
        element("img", src=copies.thumbnail(picture.path, side_px=THUMBNAIL_PX), alt=""),
        element("span", told),
        type="button",
        class_="kept",
        data_act="choose",
        data_value=picture.id,
        aria_label=f"Restore: {words}",
        aria_pressed="true" if chosen else "false",
        title=words,
    )


def _told(picture: KeptPicture) -> str:
    """Return the seed, and the strength unless it is 1."""
    stack = picture.settings.get("stack") or [{}]
    strength = float(stack[0].get("strength", 1.0))
    seed = f"seed {picture.settings.get('seed', 0)}"
    return seed if strength == 1.0 else f"{seed} · ×{strength:g}"


def _act(act: str, value: str, words: str) -> Html:
    return element("button", words, type="button", data_act=act, data_value=value)
