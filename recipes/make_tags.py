"""Write the vocabulary of automatic tags for the embedded base: ``python -m recipes.make_tags``.

The attributes named in the world's captions, as groups of mutually exclusive tags: at most one tag per group.
"""

import json
import sys
from pathlib import Path
from typing import Any

from recipes.captions import LIGHT_TAGS, phrases_of
from recipes.people import CLOTHING, EXPRESSIONS
from recipes.picture import KINDS, NOT_WORTH_A_WORD, PARAMS, TOLD
from recipes.world import SCENES, TRAINING_STYLES, WEARABLES

# 98 % of 179 held-out shaded pictures have a higher confidence (median 0.63), 76 of 77 real photographs
# a lower one: 62 photographs of twelve subjects (no subject's median above 0.20) and 15 from skimage.data.
FAMILIAR = 0.47
OUT = Path(__file__).resolve().parent.parent / "assets" / "tags" / "embedded.json"


def vocabulary() -> dict[str, Any]:
    """Return the contents of the file: ``template``, ``familiar`` and ``rivals``, each with ``name`` and ``tags``, and
    with ``kind``, ``of_subject`` and ``maybe`` unless they are "" or False."""
    rivals: list[dict[str, Any]] = [
        {"name": "kind", "tags": list(KINDS), "of_subject": True},
        {"name": "scene", "tags": list(SCENES)},
        {"name": "light", "tags": list(LIGHT_TAGS.values())},
        {"name": "style", "tags": list(TRAINING_STYLES)},
        {"name": "expression", "tags": list(EXPRESSIONS), "kind": "person"},
        {"name": "clothing", "tags": list(CLOTHING), "kind": "person"},
        {"name": "worn", "tags": list(WEARABLES), "maybe": True},
    ]
    for kind in KINDS:
        for param in PARAMS[kind]:
            words = [word for word in param.values if word not in NOT_WORTH_A_WORD]
            if param.name in TOLD[kind] and len(words) > 1:
                tags = [_bare(phrases_of(kind, param.name, word)[0]) for word in words]
                maybe = {"maybe": True} if len(words) < len(param.values) else {}
                rivals.append(
                    {"name": f"{kind}: {param.name}", "tags": tags, "kind": kind, "of_subject": True, **maybe}
                )
    return {
        "made_by": "python -m recipes.make_tags",
        "template": "{kind}, {tag}",
        "familiar": FAMILIAR,
        "rivals": rivals,
    }


def _bare(phrase: str) -> str:
    return phrase.removeprefix("a ").removeprefix("an ")


def main() -> None:
    """Write the file."""
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(vocabulary(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.stdout.write(f"{len(vocabulary()['rivals'])} sets of rivals in {OUT.name}\n")


if __name__ == "__main__":
    main()
