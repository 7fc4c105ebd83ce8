"""Captions as lists of tags, "zwx dog, beach, red scarf": split, joined, and edited in all captions at once.

Needs no torch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.config import MAX_TEXT, clean_text, whole_number

TRIGGER = (
    "{identifier} {class_noun}"  # filled in when a run begins, so that a tag follows the words on the page
)
MOST_REPEATS = 100


def split_tags(caption: str) -> list[str]:
    """Return the tags of a caption, each once, in their order; a plain sentence is one tag."""
    return list(dict.fromkeys(tag for part in caption.split(",") if (tag := clean_text(part))))


def join_tags(tags: Sequence[str]) -> str:
    """Return tags as a caption. ValueError when it is longer than a text may be."""
    return clean_text(", ".join(split_tags(",".join(tags))))


def caption_of(tags: Sequence[str]) -> str:
    """Return the caption of a photograph with these tags: a run's own words first, then as many tags as a text holds."""
    fitting = split_tags(",".join([TRIGGER, *tags]))
    while len(", ".join(fitting)) > MAX_TEXT:
        fitting.pop()
    return join_tags(fitting)


def common_tags(captions: Sequence[str]) -> list[str]:
    """Return the tags that every caption has, in the first one's order; [] for no captions."""
    lists = [split_tags(caption) for caption in captions]
    return [tag for tag in lists[0] if all(tag in others for others in lists[1:])] if lists else []


def with_common(captions: Sequence[str], tags: Sequence[str]) -> list[str]:
    """Return the captions with ``tags`` in the place of those that were common to all, first in each.

    A tag that is common no longer is taken out of every caption; what only some have stays where it is.
    """
    gone = {*common_tags(captions), *tags}
    return [
        join_tags([*tags, *(tag for tag in split_tags(caption) if tag not in gone)]) for caption in captions
    ]


def checked_repeats(repeats: Mapping[str, Any] | None) -> dict[str, int]:
    """Return the repeats of each photograph by file name. ValueError names an invalid one."""
    checked = {}
    for name, times in (repeats or {}).items():
        count = whole_number(times, label=f"Repeats of {str(name)[:60]}")
        if not 1 <= count <= MOST_REPEATS:
            raise ValueError(f"{str(name)[:60]} is repeated {count} times; give 1 to {MOST_REPEATS}.")
        checked[str(name)] = count
    return checked
