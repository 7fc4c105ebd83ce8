"""Rare-token identifiers: short strings that a tokenizer knows as one token and that mean nothing yet.

A name for a new subject should carry no meaning of its own, and a random string of letters does not do: it is
split into letters that mean a lot. So the search runs over the vocabulary (DreamBooth, section 3.2): the ids
of a byte-pair vocabulary grow as its entries get rarer, so the rarest single tokens are looked at first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipelines.config import ASSETS, SampleConfig

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from pipelines.models.base import Base

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
        if not is_word(text, known=forbidden) and comes_back(tokenizer, text, token_id=candidate.token_id):
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


def comes_back(tokenizer: Any, text: str, *, token_id: int) -> bool:
    """Whether ``text`` is exactly this token, decodes to itself, and stays whole inside a sentence."""
    alone = tokenizer(text, add_special_tokens=False).input_ids
    inside = tokenizer(PROBE.format(text), add_special_tokens=False).input_ids
    return alone == [token_id] and token_id in inside and tokenizer.decode([token_id]).strip() == text


def diversity(
    base: Base,
    text: str,
    *,
    features: Callable[[list[Image.Image]], torch.Tensor],
    config: SampleConfig | None = None,
) -> float:
    """Return how different the untouched base's pictures of the bare token are: the mean of 1 - cosine over
    pairs.

    A token with a meaning gives pictures of one thing, a low value. ``features`` maps N pictures to unit
    vectors (N, D), such as an encoder of the metrics.
    """
    from pipelines.sampling.sample import sample

    asked = replace(
        config or SampleConfig(steps=12, count=4, guidance_scale=base.guidance_scale), prompt=text
    )
    vectors = features(sample(base, [], asked).images).float()
    pairs = len(vectors) * (len(vectors) - 1)
    similar = (vectors @ vectors.T).sum() - vectors.square().sum()
    return float(1.0 - similar / pairs)


def _whole_words(tokenizer: Any) -> Iterator[Candidate]:
    """Yield every token that ends a word, from the largest id down; special tokens have no such ending."""
    entries = sorted(tokenizer.get_vocab().items(), key=lambda entry: -entry[1])
    words = [
        (token.removesuffix(END_OF_WORD), index) for token, index in entries if token.endswith(END_OF_WORD)
    ]
    for rank, (text, index) in enumerate(words):
        yield Candidate(text=text, token_id=index, rank=rank)
