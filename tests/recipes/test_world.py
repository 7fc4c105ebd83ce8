"""The synthetic training data: determinism, correct captions, trigger words, and independence of scene and identity."""

import re
from collections import Counter

import numpy as np
import pytest

from recipes import world
from recipes.captions import LIGHT_PHRASES, SCENE_PHRASES, phrases_of


def _pixels(picture: world.Picture) -> np.ndarray:
    return np.asarray(world.draw(picture))


def test_a_seed_gives_one_picture_and_one_caption() -> None:
    first, second = world.example(7), world.example(7)
    assert first == second
    assert np.array_equal(_pixels(first[0]), _pixels(second[0]))
    assert world.example(8) != first


@pytest.mark.parametrize("kind", world.KINDS)
def test_every_kind_draws(kind: str) -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        subject = world.sample_subject(rng, kind)
        scene, style = world.SCENES[seed], "photo"
        empty = world.Picture((), scene, world.lights_of(scene)[0], style, seed)
        picture = world.Picture(
            (world.Placed(subject, world.sample_view(rng, kind, world.Choice())),),
            scene,
            empty.light,
            style,
            seed,
        )
        pixels = _pixels(picture)
        assert pixels.shape == (128, 128, 3)
        assert pixels.dtype == np.uint8
        changed = np.abs(pixels.astype(int) - _pixels(empty).astype(int)).sum(axis=2) > 30
        assert changed.mean() > 0.05


@pytest.mark.parametrize("scene", world.SCENES)
def test_every_scene_draws_and_varies(scene: str) -> None:
    pictures = [
        world.Picture((), scene, light, "photo", seed) for seed, light in enumerate(world.lights_of(scene))
    ]
    again = world.Picture((), scene, pictures[0].light, "photo", 99)
    assert len({world.draw(picture).tobytes() for picture in [*pictures, again]}) == len(pictures) + 1


@pytest.mark.parametrize("style", world.STYLES)
def test_every_style_draws(style: str) -> None:
    picture = world.sample_picture(np.random.default_rng(3), world.Choice(kind="person", style=style))
    image = world.draw(picture)
    assert image.size == (128, 128)
    assert image.mode == "RGB"
    plain = world.Picture(picture.placed, picture.scene, picture.light, "photo", picture.seed)
    assert (image.tobytes() == world.draw(plain).tobytes()) == (style == "photo")


def test_scene_light_and_view_do_not_depend_on_the_identity() -> None:
    rng = np.random.default_rng(0)
    for seed in range(20):
        kind = world.KINDS[seed % len(world.KINDS)]
        choices = [world.Choice(subject=world.sample_subject(rng, kind)) for _ in range(2)]
        one, other = (world.sample_picture(np.random.default_rng(seed), choice) for choice in choices)
        assert (one.scene, one.light, one.style, one.seed) == (
            other.scene,
            other.light,
            other.style,
            other.seed,
        )
        assert one.placed[0].view == other.placed[0].view
        assert one.placed[0].subject != other.placed[0].subject


def _says(text: str, phrase: str) -> bool:
    return re.search(rf"\b{re.escape(phrase)}\b", text) is not None


def _words_of(param: world.Param) -> tuple[str, ...]:
    return tuple(
        word for word in (param.values or (param.low, param.high)) if word not in ("", "none", "plain")
    )


def test_captions_only_say_what_is_true() -> None:
    rng = np.random.default_rng(11)
    for seed in range(3000):
        picture = world.sample_picture(rng)
        text = world.plain_caption(picture, rng)
        for scene, phrases in SCENE_PHRASES.items():
            assert scene == picture.scene or not any(_says(text, phrase) for phrase in phrases), (seed, text)
        for light, phrases in LIGHT_PHRASES.items():
            assert light == picture.light or not any(_says(text, phrase) for phrase in phrases), (seed, text)
        for phrase in SCENE_PHRASES[picture.scene]:
            text = text.replace(phrase, "")
        if len(picture.placed) == 1:
            _check_attributes(picture.placed[0], text)


def _check_attributes(placed: world.Placed, text: str) -> None:
    """Check that ``text`` contains no phrase for an attribute that this subject lacks."""
    kind, found = placed.subject.kind, world.attributes(placed.subject, placed.view)
    true = {phrase for name, word in found.items() for phrase in phrases_of(kind, name, word)}
    for phrase in sorted(true, key=len, reverse=True):
        text = text.replace(phrase, "").replace(phrase.removeprefix("a ").removeprefix("an "), "")
    for param in world.PARAMS[kind]:
        for word in _words_of(param):
            if found.get(param.name) != word:
                for phrase in phrases_of(kind, param.name, word):
                    assert not _says(text, phrase), (text, phrase, found)


def test_rare_tokens_are_rare_and_nothing_else_looks_like_them() -> None:
    rng = np.random.default_rng(5)
    counts: Counter[str] = Counter()
    total = 20_000
    for _ in range(total // 4):
        picture = world.sample_picture(rng)
        for _ in range(4):
            counts.update(set(re.findall(r"[a-z]+", world.caption(picture, rng))) & set(world.RARE_TOKENS))
    assert 100 <= len(set(world.RARE_TOKENS)) == len(world.RARE_TOKENS)
    assert max(counts.values()) < 0.0005 * total
    assert 1 / 60 < sum(counts.values()) / total < 1 / 25


def test_captions_put_the_class_word_right_after_the_article_often() -> None:
    rng = np.random.default_rng(2)
    captions = [
        world.caption(world.sample_picture(rng, world.Choice(kind="person")), rng) for _ in range(500)
    ]
    assert sum("a photo of a person" in text for text in captions) > 100
    assert max(len(text.split()) for text in captions) <= 40


def test_nearest_distractors_are_other_individuals_of_the_kind() -> None:
    subject = world.sample_subject(np.random.default_rng(1), "person")
    crowd = world.distractors(subject, 3, count=50, pool=300)
    gaps = [world.distance(subject, other) for other in crowd]
    assert len(crowd) == 50
    assert gaps == sorted(gaps)
    assert gaps[0] > 0.0
    assert world.distance(subject, subject) == 0.0
    assert {other.kind for other in crowd} == {"person"}


def test_held_out_seeds_are_told_apart() -> None:
    assert world.split(world.HELD_OUT_FROM - 1) == "training"
    assert world.split(world.HELD_OUT_FROM) == "held out"
