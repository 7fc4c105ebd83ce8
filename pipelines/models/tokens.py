"""Rare-token identifiers: short strings that are a single token and have no meaning for the base.

An identifier should have no prior meaning. A random string is not suitable, because the tokenizer splits it into common
tokens. So the vocabulary is searched (DreamBooth, section 3.2): in a byte-pair vocabulary, larger ids are rarer tokens,
so the search starts at the largest id.
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
STRANGE = re.compile(r"q(?!u)|^x[^aeiouy]|^[aeiou]z[^aeiouyz]")  # does not occur in English four-letter words


@dataclass(frozen=True)
class Candidate:
    """A possible identifier. ``rank`` is the number of rarer whole-word tokens in the vocabulary."""

    text: str
    token_id: int
    rank: int


def rare_identifiers(
    tokenizer: Any, *, count: int = 12, max_letters: int = 4, avoid: Collection[str] = ()
) -> list[Candidate]:
    """Return the ``count`` rarest identifiers in the vocabulary of a CLIP tokenizer, the rarest first.

    Each has three to ``max_letters`` lower-case ASCII letters, is one token that ends a word, is tokenized to itself
    alone and in a sentence, and is neither a word nor in ``avoid``. Returns fewer if the vocabulary has no more.
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
    """Return whether a string of lower-case letters may have a meaning for the base.

    Pronounceable strings, the abbreviations in ``assets/known_letters.txt`` and repetitions such as "zzz" count as
    words.
    """
    if text in (known_letters() if known is None else known) or len(set(text)) == 1:
        return True
    return bool(re.search(r"[aeiouy]", text)) and not STRANGE.search(text)


def known_letters() -> set[str]:
    """Return abbreviations, acronyms and unusual words of up to four letters that have a meaning."""
    return set((ASSETS / "known_letters.txt").read_text(encoding="utf-8").split())


def round_trips(tokenizer: Any, text: str, *, token_id: int) -> bool:
    """Return whether ``text`` is exactly this token, decodes to itself, and stays one token in a sentence."""
    alone = tokenizer(text, add_special_tokens=False).input_ids
    inside = tokenizer(PROBE.format(text), add_special_tokens=False).input_ids
    return alone == [token_id] and token_id in inside and tokenizer.decode([token_id]).strip() == text


def positions(tokenizer: Any, prompt: str, words: str, *, context: int) -> list[int]:
    """Return the positions of the tokens of ``words`` at their first occurrence in a prompt; 0 is the start token.

    Raises ValueError if the words are not among the first ``context`` tokens of the prompt.
    """
    ids = tokenizer(prompt, truncation=False, verbose=False).input_ids[: context - 1]
    wanted = tokenizer(words, add_special_tokens=False).input_ids
    for start in range(len(ids) - len(wanted) + 1):
        if ids[start : start + len(wanted)] == wanted:
            return list(range(start, start + len(wanted)))
    raise ValueError(f"The base cannot find {words!r} in {prompt!r}; give the subjects shorter words.")


def _whole_words(tokenizer: Any) -> Iterator[Candidate]:
    """Yield all tokens that end a word in descending order of ids; special tokens have no end-of-word mark."""
    entries = sorted(tokenizer.get_vocab().items(), key=lambda entry: -entry[1])
    words = [
        (token.removesuffix(END_OF_WORD), index) for token, index in entries if token.endswith(END_OF_WORD)
    ]
    for rank, (text, index) in enumerate(words):
        yield Candidate(text=text, token_id=index, rank=rank)
