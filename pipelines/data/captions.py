"""Captions as lists of tags, "zwx dog, beach, red scarf": split, join, and edit the tags of all captions at once.

This module does not need torch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.config import MAX_TEXT, clean_text, whole_number

TRIGGER = (
    "{identifier} {class_noun}"  # filled in when a run starts, so that captions use the words set on the page
)
MOST_REPEATS = 100


def split_tags(caption: str) -> list[str]:
    """Return the distinct tags of a caption in order; a plain sentence is one tag."""
    return list(dict.fromkeys(tag for part in caption.split(",") if (tag := clean_text(part))))


def join_tags(tags: Sequence[str]) -> str:
    """Join tags to a caption. Raises ValueError when it exceeds the maximum length."""
    return clean_text(", ".join(split_tags(",".join(tags))))


def caption_of(tags: Sequence[str]) -> str:
    """Return a photograph's caption: the run's words, then as many of the tags as fit the maximum length."""
    fitting = split_tags(",".join([TRIGGER, *tags]))
    while len(", ".join(fitting)) > MAX_TEXT:
        fitting.pop()
    return join_tags(fitting)


def common_tags(captions: Sequence[str]) -> list[str]:
    """Return the tags shared by all captions, in the first caption's order; [] for no captions."""
    lists = [split_tags(caption) for caption in captions]
    return [tag for tag in lists[0] if all(tag in others for others in lists[1:])] if lists else []


def with_common(captions: Sequence[str], tags: Sequence[str]) -> list[str]:
    """Replace the tags shared by all captions with ``tags``, placed first in each caption.

    Shared tags that are not in ``tags`` are removed from every caption. Other tags keep their position.
    """
    gone = {*common_tags(captions), *tags}
    return [
        join_tags([*tags, *(tag for tag in split_tags(caption) if tag not in gone)]) for caption in captions
    ]


def checked_repeats(repeats: Mapping[str, Any] | None) -> dict[str, int]:
    """Return the repeats of each photograph by file name. Raises ValueError naming an invalid entry."""
    checked = {}
    for name, times in (repeats or {}).items():
        count = whole_number(times, label=f"Repeats of {str(name)[:60]}")
        if not 1 <= count <= MOST_REPEATS:
            raise ValueError(f"{str(name)[:60]} is repeated {count} times; give 1 to {MOST_REPEATS}.")
        checked[str(name)] = count
    return checked
