"""The words that a base model was trained on, and phrases to offer for a prompt. Does not import torch.

A base's folder lists them in ``atelier.json`` (``words``, see ``recipes/words.py``). For a base without a list nothing is
known about its vocabulary, and the offered phrases are general ones from ``assets/edits``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.data.edit_suggestions import word_lists
from pipelines.models.inspection import EMBEDDED, family_of, locate, read_json

GENERAL_MEDIUM = ("a photo of", "a photograph of", "a picture of")


@dataclass(frozen=True)
class Phrase:
    """A phrase to offer for a prompt; ``phrases`` are equivalent, and the first one is used.

    ``kind``: "scene", "light", "worn" or "style"; "medium" is not offered, but replaced by a style. ``nouns`` are the
    class nouns that it suits; none: all.
    """

    kind: str
    label: str
    phrases: tuple[str, ...]
    nouns: tuple[str, ...] = ()


@dataclass(frozen=True)
class PromptWords:
    """``known`` is every word that the base was trained on; empty if that is not known.

    ``learned`` are the words of runs on this base, such as their trigger words and captions.
    """

    known: frozenset[str] = frozenset()
    phrases: tuple[Phrase, ...] = ()
    learned: tuple[str, ...] = ()

    def suited(self, noun: str) -> list[Phrase]:
        """Return the phrases that suit a class noun; all of them for a noun that the base does not know."""
        words = noun.lower().split()
        familiar = bool(words) and self.known.issuperset(words)
        return [each for each in self.phrases if not (familiar and each.nouns) or noun.lower() in each.nouns]


def prompt_words(spec: str) -> PromptWords:
    """Return the words of a base; no list of known words if its folder has none or it is not here."""
    try:
        place = locate(spec)
    except ValueError:
        return PromptWords()
    folder = place.path if place.kind == "folder" else None
    card = folder / "atelier.json" if folder is not None else None
    told = read_json(card).get("words") if card is not None and card.is_file() else None
    if told:
        return PromptWords(frozenset(told["known"]), tuple(_phrase(each) for each in told["chips"]))
    family = family_of(folder) if folder is not None else "sd1"
    return PromptWords() if family == EMBEDDED else PromptWords(phrases=tuple(_general(word_lists(family))))


def _phrase(chip: Mapping[str, Any]) -> Phrase:
    return Phrase(
        kind=chip["kind"],
        label=chip["label"],
        phrases=tuple(chip["phrases"]),
        nouns=tuple(chip.get("nouns", ())),
    )


def _general(lists: Mapping[str, Any]) -> Iterable[Phrase]:
    """Yield the scenes and edits of a family's word lists that can be part of a prompt."""
    for label, place in lists.get("scenes", {}).items():
        yield Phrase("scene", label, (place,))
    styled = False
    for each in lists.get("suggestions", ()):
        label = each["label"].lower()
        if str(each.get("add", "")).startswith("wearing "):
            yield Phrase("worn", label, (each["add"].removeprefix("wearing "),))
        elif "medium" in each:
            styled = True
            yield Phrase("style", label, (each["medium"],))
    if styled:
        yield Phrase("medium", "photo", GENERAL_MEDIUM)
