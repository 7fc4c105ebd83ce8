"""Captions as tag lists: tagged by CLIP, corrected by hand, and edited in all captions at once."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from pipelines.data.captions import MOST_REPEATS, caption_of, common_tags, join_tags, split_tags, with_common
from pipelines.data.photographs import MASK_ENDING, MAX_PHOTOS
from ui.html import Html, element
from ui.run.monitor import RunMonitor, Values

if TYPE_CHECKING:
    from ui.wiring import Page


def lay_out() -> dict[str, Any]:
    """Create the widgets for all photographs in the current Blocks context and return them by name."""
    named: dict[str, Any] = {}
    with gr.Accordion("Captions as tags", open=False, elem_id="tagging"):
        gr.HTML(
            element(
                "p",
                "Tags describe what differs between the photographs; the trigger word learns everything else.",
                class_="hint",
            )
        )
        with gr.Row(equal_height=True):
            named["see_tags"] = gr.Button("Tag automatically", size="md")
            named["with_subject"] = gr.Checkbox(
                label="Also tag the subject's features",
                info="For training a style: tag everything except the style.",
            )
        named["common_tags"] = gr.Textbox(
            label="Tags common to all photographs",
            info="Separated by commas; press Enter to apply them to every caption.",
            max_lines=2,
        )
        named["tag_list"] = gr.HTML("")
    return named


def lay_out_repeats() -> Any:
    """Create the slider for one photograph in the current Blocks context."""
    return gr.Slider(
        1,
        MOST_REPEATS,
        value=1,
        step=1,
        precision=0,
        label="Repeats",
        info="How often this photograph is used per use of the others.",
    )


class Tagging:
    """Handlers; bound to the monitor's Studio."""

    def __init__(self, monitor: RunMonitor) -> None:
        self.studio = monitor.studio

    def see(
        self, source: Values | None, photo: str, base: str, class_noun: str, with_subject: bool
    ) -> Values:
        """Caption every photograph with the run's own words and CLIP's tags."""
        if not source:
            raise ValueError(f"Choose an example or add 1 to {MAX_PHOTOS} photographs first.")
        seen = self.studio.inspection.tags(
            [Path(file) for file in source["files"]],
            kind=class_noun.strip(),
            with_subject=with_subject,
            crops=source["crops"] or None,
            base=base,
        )
        if unsure := sum(not tags for tags in seen.values()):
            gr.Info(
                f"CLIP does not recognise {unsure} of {len(seen)} photographs, so they get no tags; write them by hand.",
                title="Tags",
            )
        return self._captioned(source, {name: caption_of(tags) for name, tags in seen.items()}, photo)

    def change_common(self, source: Values | None, photo: str, common_tags: str) -> Values:
        """Replace the tags that all captions have in common."""
        if not source:
            return {}
        captions = _captions(source)
        changed = with_common(list(captions.values()), split_tags(common_tags))
        return self._captioned(source, dict(zip(captions, changed, strict=True)), photo)

    def show(self, source: Values | None) -> Values:
        """Show all tags, and those common to all photographs."""
        captions = _captions(source) if source and source["captions"] else {}
        return {
            "common_tags": join_tags(common_tags(list(captions.values()))),
            "tag_list": tag_list(captions),
        }

    def _captioned(self, source: Values, captions: dict[str, str], photo: str) -> Values:
        return {"source": source | {"captions": captions}, "photo_caption": captions.get(photo, "")}


def tag_list(captions: dict[str, str]) -> Html:
    """Return every tag with its number of photographs, the most frequent first."""
    counts = Counter(tag for caption in captions.values() for tag in split_tags(caption))
    if not counts:
        return Html("")
    entries = [element("li", f"{tag} × {count}") for tag, count in counts.most_common()]
    return element("ul", *entries, class_="tag-list", aria_label=f"Tags of {len(captions)} photographs")


def _names(source: Values) -> list[str]:
    return [Path(file).name for file in source["files"]]


def _captions(source: Values) -> dict[str, str]:
    """Every photograph's caption by name; a photograph without one gets the run's words only."""
    names = [name for name in _names(source) if not name.lower().endswith(MASK_ENDING)]
    known = {name: text for name, text in source["captions"].items() if name not in names}
    return {name: source["captions"].get(name) or caption_of([]) for name in names} | known


def wire(page: "Page") -> None:
    """Connect the events."""
    tagging, named = Tagging(page.monitor), page.named
    given = ["source", "photo_caption"]
    page.on(
        named["see_tags"].click,
        tagging.see,
        takes=["source", "photo", "base", "class_noun", "with_subject"],
        gives=given,
        busy="common_tags",
    )
    page.on(
        named["common_tags"].submit,
        tagging.change_common,
        takes=["source", "photo", "common_tags"],
        gives=given,
    )
    page.on(named["source"].change, tagging.show, takes=["source"], gives=["common_tags", "tag_list"])
