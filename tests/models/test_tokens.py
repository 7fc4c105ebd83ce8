"""Trigger words from the embedded vocabulary and from CLIP's vocabulary of 49,408 entries."""

import pytest
from transformers import CLIPTokenizer

from pipelines.models.base import SD1_CONFIG, Base
from pipelines.models.tokens import is_word, known_letters, rare_identifiers, round_trips


@pytest.fixture(scope="module")
def clip() -> CLIPTokenizer:
    """CLIP's tokenizer, as used by Stable Diffusion 1.x."""
    return CLIPTokenizer.from_pretrained(SD1_CONFIG, subfolder="tokenizer")


@pytest.fixture(params=["clip", "embedded"])
def tokenizer(request: pytest.FixtureRequest, clip: CLIPTokenizer, base: Base) -> CLIPTokenizer:
    """Both vocabularies."""
    return clip if request.param == "clip" else base.tokenizer


def test_every_candidate_is_one_whole_rare_token(tokenizer: CLIPTokenizer) -> None:
    found = rare_identifiers(tokenizer, count=8)
    vocabulary = tokenizer.get_vocab()
    assert len({candidate.text for candidate in found}) == len(found) >= 3
    for candidate in found:
        assert vocabulary[candidate.text + "</w>"] == candidate.token_id
        sentence = tokenizer(f"a photo of {candidate.text} dog, sitting").input_ids
        assert sentence.count(candidate.token_id) == 1
        assert tokenizer.decode([candidate.token_id]).strip() == candidate.text
        assert 3 <= len(candidate.text) <= 4
        assert not is_word(candidate.text)


def test_the_rarest_come_first(tokenizer: CLIPTokenizer) -> None:
    found = rare_identifiers(tokenizer, count=10)
    ids = [candidate.token_id for candidate in found]
    ranks = [candidate.rank for candidate in found]
    assert ids == sorted(ids, reverse=True)
    assert ranks == sorted(ranks)
    whole_words = [index for token, index in tokenizer.get_vocab().items() if token.endswith("</w>")]
    assert ranks[0] == sum(index > ids[0] for index in whole_words)


def test_clips_candidates_lie_in_the_rare_tail(clip: CLIPTokenizer) -> None:
    found = rare_identifiers(clip)
    assert len(found) == 12
    assert all(candidate.token_id > 47_000 for candidate in found)
    assert not {candidate.text for candidate in found} & {"sks", "html", "nfl", "dog"}


def test_words_to_avoid_and_lengths_are_respected(clip: CLIPTokenizer) -> None:
    first = rare_identifiers(clip, count=1)[0].text
    assert rare_identifiers(clip, count=1, avoid=[first.upper()])[0].text != first
    assert all(len(candidate.text) == 3 for candidate in rare_identifiers(clip, count=5, max_letters=3))
    assert rare_identifiers(clip, count=0) == []


@pytest.mark.parametrize("word", ["dog", "haha", "zzzz", "html", "bmw", "aqua", "yoyo", "sks", "iraq"])
def test_words_and_abbreviations_are_recognised(word: str) -> None:
    assert is_word(word)


@pytest.mark.parametrize("letters", ["ktn", "pll", "zwx", "qev", "xhem", "ozl", "joxq"])
def test_letters_without_a_meaning_pass(letters: str) -> None:
    assert not is_word(letters)


def test_pieces_do_not_come_back(clip: CLIPTokenizer) -> None:
    assert round_trips(clip, "pll", token_id=25_266)
    assert not round_trips(
        clip, "ktn", token_id=42_170
    )  # this entry only occurs at the start of a longer word


def test_the_list_of_known_letters_is_tidy() -> None:
    known = known_letters()
    assert len(known) > 400
    assert all(
        entry.isascii() and entry.islower() and entry.isalpha() and 2 <= len(entry) <= 4 for entry in known
    )
