"""The words that the embedded base knows, against captions of the illustrated world."""

import json

import numpy as np
import pytest

from pipelines.config import ASSETS
from recipes.captions import plain_caption
from recipes.words import LETTERS, base_words
from recipes.world import sample_picture


@pytest.fixture(scope="module")
def captions() -> list[str]:
    rng = np.random.default_rng(7)
    return [plain_caption(sample_picture(rng), rng) for _ in range(4000)]


def test_every_word_of_a_caption_is_known_and_no_other(captions: list[str]) -> None:
    said = {word for text in captions for word in LETTERS.findall(text.lower())}
    known = set(base_words()["known"])
    assert said - known == set()
    assert known - said == set()


def test_every_chip_is_a_phrase_of_the_captions(captions: list[str]) -> None:
    text = "\n".join(captions)
    for chip in base_words()["chips"]:
        for phrase in chip["phrases"]:
            assert phrase in text, phrase


def test_the_shipped_base_has_the_words_of_the_recipe() -> None:
    facts = json.loads((ASSETS / "base" / "atelier.json").read_text())
    assert facts["words"] == base_words()
