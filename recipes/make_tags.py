"""Write the vocabulary of automatic tags on the embedded base: ``python -m recipes.make_tags``.

What captions say of a picture of the world, as sets of rivals: of each set one tag at most.
"""

import json
import sys
from pathlib import Path
from typing import Any

from recipes.captions import LIGHT_TAGS, phrases_of
from recipes.people import CLOTHING, EXPRESSIONS
from recipes.picture import KINDS, NOT_WORTH_A_WORD, PARAMS, TOLD
from recipes.world import SCENES, TRAINING_STYLES, WEARABLES

# The certainty of 98 % of 179 held-out shaded pictures is higher (their median 0.63), that of 76 of 77 photographs from
# outside lower: 62 of twelve subjects, no set of which has a median above 0.20, and 15 of skimage.data.
FAMILIAR = 0.47
OUT = Path(__file__).resolve().parent.parent / "assets" / "tags" / "embedded.json"


def vocabulary() -> dict[str, Any]:
    """Return what the file holds: ``template``, ``familiar`` and ``rivals``, each with ``name`` and ``tags``; ``kind``,
    ``of_subject`` and ``maybe`` where they are not "" and False."""
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
