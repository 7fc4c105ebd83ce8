"""The pictures of the tab Multi-subject as HTML: results, attention, and mixed training pictures with their regions."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.runs.together import Shown
from ui.html import BrowserCopies, Html, element
from ui.run import panels

NO_RESULT = "Your subjects appear here in one picture."
NO_MIXES = "The mixed training pictures appear here once a run has started."
NO_LEAKAGE = "The leakage appears here once a run has measured it."
SIDE_PX = 384


def together(shown: Sequence[Shown], words: Sequence[str], *, copies: BrowserCopies, negative: str) -> Html:
    """Return the result of a run: the picture, the one without Unmix, attention maps, and each subject alone."""
    first = shown[0]
    main = [each for each in shown if each.kind in ("together", "without")]
    attention = [each for each in shown if each.kind == "attention"]
    alone = [each for each in shown if each.kind == "alone"]
    parts = [_row(main, words, copies=copies, class_="together main")]
    if len(main) > 1:
        parts.append(
            panels.hint("Left with Unmix, right the same run trained without it; same prompt, same seed.")
        )
    if attention:
        parts.append(element("h3", "Where each subject's words look in this picture"))
        parts.append(_row(attention, words, copies=copies))
    if alone:
        parts.append(element("h3", "Each subject alone, same seed"))
        parts.append(_row(alone, words, copies=copies))
    facts = [("Negative prompt", negative or "none")]
    return element(
        "div",
        *parts,
        panels.caption(prompt=first.prompt, seed=first.seed, facts=facts),
        class_="multi-result",
    )


def mixes(rows: Sequence[Mapping[str, Any]], words: Sequence[str], *, copies: BrowserCopies) -> Html:
    """Return the mixed training pictures, each with the region of each subject and its prompt."""
    if not rows:
        return panels.hint(NO_MIXES)
    figures = []
    for row in rows:
        sides = [element("span", row[side], class_=_colour(row[side], words)) for side in ("left", "right")]
        figures.append(
            element(
                "figure",
                element(
                    "div",
                    element("img", src=copies.enlarged(row["file"], side_px=SIDE_PX), alt=row["prompt"]),
                    element("div", *sides, class_="halves"),
                    class_="regions",
                ),
                element("figcaption", row["prompt"]),
            )
        )
    return element("div", *figures, class_="mixes")


def _row(
    shown: Sequence[Shown], words: Sequence[str], *, copies: BrowserCopies, class_: str = "together"
) -> Html:
    figures = [
        element(
            "figure",
            element(
                "img", src=copies.enlarged(each.file, side_px=SIDE_PX), alt=f"{each.title}: {each.prompt}"
            ),
            element("figcaption", each.title, class_=_colour(each.title.partition(",")[0], words)),
        )
        for each in shown
    ]
    return element("div", *figures, class_=class_)


def _colour(word: str, words: Sequence[str]) -> str:
    """Return the CSS class of a subject's colour; none for other texts."""
    return f"look{words.index(word)}" if word in words else ""
