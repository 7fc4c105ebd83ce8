"""Rare-token identifiers: short strings that a tokenizer knows as one token and that mean nothing yet.

A name for a new subject should carry no meaning of its own, and a random string of letters does not do: it is
split into letters that mean a lot. So the search runs over the vocabulary (DreamBooth, section 3.2): the ids
of a byte-pair vocabulary grow as its entries get rarer, so the rarest single tokens are looked at first.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from pipelines.config import ASSETS

END_OF_WORD = "</w>"
MIN_LETTERS = 3
PROBE = "a photo of a {} dog"
STRANGE = re.compile(r"q(?!u)|^x[^aeiouy]|^[aeiou]z[^aeiouyz]")  # what no English word of four letters has


@dataclass(frozen=True)
class Candidate:
    """A possible identifier. ``rank`` counts how many whole-word tokens of the vocabulary are rarer."""

    text: str
    token_id: int
    rank: int


def rare_identifiers(
    tokenizer: Any, *, count: int = 12, max_letters: int = 4, avoid: Collection[str] = ()
) -> list[Candidate]:
    """Return the ``count`` rarest identifiers in the vocabulary of a CLIP tokenizer, the rarest first.

    Each is three to ``max_letters`` ASCII letters, one token that ends a word, comes back from its text alone
    and in a sentence, and is neither a word nor among ``avoid``. Fewer come back when the vocabulary has no
    more.
    """
    forbidden = known_letters() | {word.lower() for word in avoid}
    found = []
    for candidate in _whole_words(tokenizer):
        if len(found) == count:
            break
        text = candidate.text
        if not (
            MIN_LETTERS <= len(text) <= max_letters and text.isascii() and text.isalpha() and text.islower()
        ):
            continue
        if not is_word(text, known=forbidden) and round_trips(tokenizer, text, token_id=candidate.token_id):
            found.append(candidate)
    return found


def is_word(text: str, *, known: Collection[str] | None = None) -> bool:
    """Whether a string of lower-case letters may mean something to the base.

    Anything that can be spoken is taken for a word, and so are the abbreviations in
    ``assets/known_letters.txt`` and the likes of "zzz".
    """
    if text in (known_letters() if known is None else known) or len(set(text)) == 1:
        return True
    return bool(re.search(r"[aeiouy]", text)) and not STRANGE.search(text)


def known_letters() -> set[str]:
    """Return the abbreviations, acronyms and odd words of up to four letters that do mean something."""
    return set((ASSETS / "known_letters.txt").read_text(encoding="utf-8").split())


def round_trips(tokenizer: Any, text: str, *, token_id: int) -> bool:
    """Whether ``text`` is exactly this token, decodes to itself, and stays whole inside a sentence."""
    alone = tokenizer(text, add_special_tokens=False).input_ids
    inside = tokenizer(PROBE.format(text), add_special_tokens=False).input_ids
    return alone == [token_id] and token_id in inside and tokenizer.decode([token_id]).strip() == text


def positions(tokenizer: Any, prompt: str, words: str, *, context: int) -> list[int]:
    """Return where the tokens of ``words`` stand in a prompt, from 0, the start mark, on: all of them, once.

    Raises ValueError when they are not in it, or beyond the ``context`` tokens that the base reads.
    """
    ids = tokenizer(prompt, truncation=False, verbose=False).input_ids[: context - 1]
    wanted = tokenizer(words, add_special_tokens=False).input_ids
    for start in range(len(ids) - len(wanted) + 1):
        if ids[start : start + len(wanted)] == wanted:
            return list(range(start, start + len(wanted)))
    raise ValueError(f"The base cannot find {words!r} in {prompt!r}; give the subjects shorter words.")


def _whole_words(tokenizer: Any) -> Iterator[Candidate]:
    """Yield every token that ends a word, from the largest id down; special tokens have no such ending."""
    entries = sorted(tokenizer.get_vocab().items(), key=lambda entry: -entry[1])
    words = [
        (token.removesuffix(END_OF_WORD), index) for token, index in entries if token.endswith(END_OF_WORD)
    ]
    for rank, (text, index) in enumerate(words):
        yield Candidate(text=text, token_id=index, rank=rank)
