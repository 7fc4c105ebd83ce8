"""Edited captions to offer for a caption, from word lists per base family in ``assets/edits``. Does not import torch."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pipelines.config import ASSETS

MEDIUM = re.compile(r"^(an? )?(photo|photograph|picture)( of)?\b", re.IGNORECASE)


def suggestions(caption: str, family: str) -> list[tuple[str, str]]:
    """Return (label, edited caption) for each edit that suits a caption; [] for an empty caption or unknown family.

    A suggestion that needs one of some nouns is left out unless the caption contains it.
    """
    words = word_lists(family)
    if not caption.strip() or not words:
        return []
    noun = _first(words["nouns"], caption)
    place = _first(words["scenes"].values(), caption)
    offered = [
        (each["label"], _edited(caption.strip(), each, noun=noun, place=place))
        for each in words["suggestions"]
        if not each.get("nouns") or noun in each["nouns"]
    ]
    return [(label, edited) for label, edited in offered if edited != caption.strip()]


def caption_of(tags: Iterable[str], family: str) -> str:
    """Return a caption from the tags of a photograph, such as "a photo of a dog in the forest"; "" without a noun."""
    words = word_lists(family)
    found = list(tags)
    noun = next((tag for tag in found if tag in words.get("nouns", ())), "")
    if not noun:
        return ""
    place = next((words["scenes"][tag] for tag in found if tag in words["scenes"]), "")
    return f"a photo of {_article(noun)} {noun} {place}".strip()


def word_lists(family: str) -> Mapping[str, Any]:
    """Return the word lists of a base family: ``nouns``, ``scenes`` and ``suggestions``; {} if there are none."""
    path = ASSETS / "edits" / f"{family}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _first(phrases: Iterable[str], caption: str) -> str:
    """Return the first of the phrases that the caption contains as whole words, or ""."""
    return next((each for each in phrases if re.search(rf"\b{re.escape(each)}\b", caption)), "")


def _edited(caption: str, how: Mapping[str, Any], *, noun: str, place: str) -> str:
    if "medium" in how:
        return MEDIUM.sub(how["medium"], caption) if MEDIUM.match(caption) else f"{how['medium']} {caption}"
    if "place" in how:
        return caption.replace(place, how["place"]) if place else f"{caption} {how['place']}"
    if "adjective" in how:
        return re.sub(
            rf"\b(an? )?{re.escape(noun)}\b",
            lambda found: (
                (f"{_article(how['adjective'])} " if found[1] else "") + f"{how['adjective']} {noun}"
            ),
            caption,
            count=1,
        )
    before, after = (caption[: caption.index(place)].strip(), f" {place}") if place else (caption, "")
    added = how["add"]
    if added.startswith("with ") and " with " in before:
        added = f"and {added.removeprefix('with ')}"
    rest = caption[caption.index(place) + len(place) :] if place else ""
    return f"{before} {added}{after}{rest}"


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"
