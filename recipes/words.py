"""What the embedded base knows by word: ``python -m recipes.words --base FOLDER`` adds it to an existing base.

The lists are derived from the captions' own tables, so they change with the illustrated world.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

from recipes.captions import (
    ADJECTIVES,
    LIGHT_PHRASES,
    LIGHT_TAGS,
    MEDIA,
    NOUN_WORDINGS,
    SCENE_NAMES,
    SCENE_PHRASES,
    STYLE_ENDINGS,
    phrases_of,
)
from recipes.kit import COLOURS
from recipes.people import CLOTHING
from recipes.picture import KINDS, NOT_WORTH_A_WORD, PARAMS, TOLD
from recipes.styles import TRAINING_STYLES
from recipes.world import EXPRESSIONS, WEARABLES, WEARERS

JOINTS = "a an and beside left of on right the wearing with"  # the words between the phrases of a caption
CHIP_COLOURS = ("red", "yellow", "blue")  # of the wearables that are offered; the base knows all COLOURS
LETTERS = re.compile(r"[^\W\d_]+")  # as the tokenizer splits words


def base_words() -> dict[str, Any]:
    """Return ``known``, every word of the captions, and ``chips``, phrases to offer for a prompt.

    A chip has a ``kind`` ("scene", "light", "worn" or "style"), a ``label``, its ``phrases`` (the first one is used)
    and, if it suits only some subjects, their ``nouns``. The kind "medium" is never offered: it names the phrases that
    a style replaces.
    """
    return {"known": sorted(known_words()), "chips": [*_scenes(), *_lights(), *_worn(), *_styles()]}


def known_words() -> set[str]:
    """Return every word that captions of training pictures contain, without the rare tokens."""
    said = [expression for expression in EXPRESSIONS if expression != "calm"]
    phrases = [JOINTS, *KINDS, *COLOURS, *CLOTHING, *WEARABLES, *said, *SCENE_NAMES.values()]
    for table in (SCENE_PHRASES, LIGHT_PHRASES):
        phrases += [*table, *(phrase for options in table.values() for phrase in options)]
    phrases += [*LIGHT_TAGS.values(), *TRAINING_STYLES]
    for style in TRAINING_STYLES:
        phrases += [*MEDIA[style], *STYLE_ENDINGS.get(style, ())]
    for kind in KINDS:
        phrases += _attribute_phrases(kind)
    return set(LETTERS.findall(" ".join(phrases).lower()))


def _attribute_phrases(kind: str) -> list[str]:
    """Return the phrases that name the attributes of a kind."""
    told = [param for param in PARAMS[kind] if param.name in TOLD[kind]]
    named = [(param.name, word) for param in told for word in param.values or (param.low, param.high)]
    found = []
    for name, word in named:
        if word and word not in NOT_WORTH_A_WORD:
            noun = [NOUN_WORDINGS[name].format(word, kind=kind)] if name in NOUN_WORDINGS else []
            found += noun or ([word] if name in ADJECTIVES else phrases_of(kind, name, word))
    return found


def _scenes() -> list[dict[str, Any]]:
    return [_chip("scene", scene, phrases) for scene, phrases in SCENE_PHRASES.items()]


def _lights() -> list[dict[str, Any]]:
    return [_chip("light", LIGHT_TAGS[light], phrases) for light, phrases in LIGHT_PHRASES.items()]


def _worn() -> list[dict[str, Any]]:
    nouns = [kind for kind in KINDS if kind in WEARERS]
    return [
        _chip("worn", f"{colour} {item}", (f"a {colour} {item}",)) | {"nouns": nouns}
        for item in WEARABLES
        for colour in CHIP_COLOURS
    ]


def _styles() -> list[dict[str, Any]]:
    styles = [_chip("style", style, MEDIA[style]) for style in TRAINING_STYLES if style != "photo"]
    return [*styles, _chip("medium", "photo", tuple(dict.fromkeys(MEDIA["photo"])))]


def _chip(kind: str, label: str, phrases: tuple[str, ...]) -> dict[str, Any]:
    return {"kind": kind, "label": label, "phrases": list(phrases)}


def main() -> None:
    """Write the words into a base's ``atelier.json``."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--base", type=Path, required=True, help="the folder of the base")
    card = parser.parse_args().base / "atelier.json"
    facts = json.loads(card.read_text())
    card.write_text(json.dumps(facts | {"words": base_words()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
