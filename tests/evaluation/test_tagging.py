"""Captions as tag lists, and automatic tags for pictures with known labels."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torch import Tensor

from pipelines.config import DreamBoothConfig
from pipelines.data.captions import (
    caption_of,
    checked_repeats,
    common_tags,
    join_tags,
    split_tags,
    with_common,
)
from pipelines.data.photographs import Moments
from pipelines.data.subject import Subject
from pipelines.evaluation.embedded_encoders import Instruments
from pipelines.evaluation.metrics import InstrumentClip
from pipelines.evaluation.tagging import (
    CERTAIN,
    Rivals,
    Vocabulary,
    certainty,
    described,
    tag_pictures,
    vocabulary,
)
from pipelines.methods.subject import batches
from pipelines.models.base import Base
from pipelines.studio import Studio
from recipes import make_tags, world
from recipes.captions import LIGHT_TAGS
from tests.tiny import TINY, draw_photos, finish, shop_with

CAPTIONS = ["zwx dog, beach, red scarf", "zwx dog,  forest ,red scarf", "zwx dog, red scarf"]


def test_captions_are_taken_apart_and_put_together() -> None:
    assert split_tags(" zwx dog,, beach ,zwx dog, red\nscarf ") == ["zwx dog", "beach", "red scarf"]
    assert split_tags("a photo of a dog on the beach") == ["a photo of a dog on the beach"]
    assert join_tags(["zwx dog", "beach, red scarf", "beach"]) == "zwx dog, beach, red scarf"
    assert join_tags(split_tags(CAPTIONS[1])) == "zwx dog, forest, red scarf"
    with pytest.raises(ValueError, match="too long"):
        join_tags(["a" * 200, "b" * 200])


def test_common_tags_are_edited_in_all_captions_at_once() -> None:
    assert common_tags(CAPTIONS) == ["zwx dog", "red scarf"]
    changed = with_common(CAPTIONS, ["zwx dog", "winter"])
    assert changed == ["zwx dog, winter, beach", "zwx dog, winter, forest", "zwx dog, winter"]
    assert common_tags(changed) == ["zwx dog", "winter"]
    assert with_common(CAPTIONS, ["beach"]) == ["beach", "beach, forest", "beach"]
    assert with_common(["", "x"], ["zwx dog"]) == ["zwx dog", "zwx dog, x"]
    assert common_tags([]) == common_tags(["", "x"]) == []
    assert with_common([], ["x"]) == []


@pytest.mark.parametrize(
    ("repeats", "sentence"),
    [
        ({"a.png": 0}, "a.png is repeated 0 times"),
        ({"a.png": 101}, "give 1 to 100"),
        ({"a.png": "3"}, "must be a number"),
    ],
)
def test_repeats_that_cannot_be_meant_are_refused(repeats: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        checked_repeats(repeats)
    assert checked_repeats({"a.png": 25}) == {"a.png": 25}
    assert checked_repeats(None) == {}


@pytest.fixture(scope="module")
def clip() -> InstrumentClip:
    return InstrumentClip(Instruments())


@pytest.fixture(scope="module")
def pictures() -> list[world.Picture]:
    """Forty held-out pictures with one subject each."""
    seeds = range(world.HELD_OUT_FROM, world.HELD_OUT_FROM + 60)
    drawn = (world.sample_picture(np.random.default_rng(seed)) for seed in seeds)
    return [picture for picture in drawn if len(picture.placed) == 1][:40]


def test_what_clip_is_sure_of_is_true(clip: InstrumentClip, pictures: list[world.Picture]) -> None:
    """For each group of alternative tags: how often a tag is assigned, and how often it is correct."""
    words = vocabulary("embedded")
    told = tag_pictures([world.draw(picture) for picture in pictures], clip, words, with_subject=True)
    truth = {
        "kind": [picture.placed[0].subject.kind for picture in pictures],
        "scene": [picture.scene for picture in pictures],
        "light": [LIGHT_TAGS[picture.light] for picture in pictures],
        "style": [picture.style for picture in pictures],
    }
    for name, right in truth.items():
        tags = next(set(rivals.tags) for rivals in words.rivals if rivals.name == name)
        said = [next((tag for tag in found if tag in tags), "") for found in told]
        sure = [(one, other) for one, other in zip(said, right, strict=True) if one]
        assert len(sure) >= 0.7 * len(pictures), name
        assert sum(one == other for one, other in sure) >= 0.9 * len(sure), name


def test_without_the_subject_only_the_picture_is_told(
    clip: InstrumentClip, pictures: list[world.Picture]
) -> None:
    words = vocabulary("embedded")
    of_subject = {tag for rivals in words.rivals if rivals.of_subject for tag in rivals.tags}
    dogs = [world.draw(picture) for picture in pictures if picture.placed[0].subject.kind == "dog"]
    assert dogs
    told = tag_pictures(dogs, clip, words, kind="dog")
    assert all(not of_subject & set(tags) for tags in told)
    of_people = {tag for rivals in words.rivals if rivals.kind == "person" for tag in rivals.tags}
    assert all(not of_people & set(tags) for tags in told)


class Pretended:
    """A fake CLIP: each word is a direction, a picture the mean of the words that its size selects."""

    scale = 100.0

    def __init__(self, shown: Sequence[Sequence[str]]) -> None:
        self.shown = shown
        self.words: list[str] = []

    def direction(self, text: str) -> Tensor:
        if text not in self.words:
            self.words.append(text)
        return torch.eye(32)[self.words.index(text)]

    def text_features(self, texts: Sequence[str]) -> Tensor:
        return torch.stack([self.direction(text) for text in texts])

    def image_features(self, images: Sequence[Image.Image]) -> Tensor:
        rows = [
            torch.stack([self.direction(text) for text in self.shown[image.width - 1]]).mean(0)
            for image in images
        ]
        return torch.nn.functional.normalize(torch.stack(rows), dim=1)


def test_rivals_of_a_kind_and_those_that_may_be_absent() -> None:
    words = Vocabulary(
        template="{kind}: {tag}",
        rivals=(
            Rivals("kind", ("dog", "cat"), of_subject=True),
            Rivals("worn", ("hat", "scarf"), maybe=True),
            Rivals("coat", ("black", "white"), kind="dog", of_subject=True),
        ),
    )
    pretended = Pretended(
        [["dog", "dog: hat", "dog: hat", "dog: white"], ["cat"], ["dog", "dog: black", "dog: white"]]
    )
    images = [Image.new("RGB", (width, 1)) for width in (1, 2, 3)]
    assert tag_pictures(images, pretended, words, with_subject=True) == [
        ["dog", "hat", "white"],
        ["cat"],
        ["dog"],
    ]
    assert tag_pictures(images, pretended, words) == [["hat"], [], []]
    assert tag_pictures(images[:1], pretended, words, kind="cat") == [[]]
    assert 0.5 < CERTAIN < 1.0


@pytest.mark.parametrize("family", ["embedded", "sd1"])
def test_shipped_words_are_tags(family: str) -> None:
    words = vocabulary(family)
    assert words.kinds
    assert "{tag}" in words.template
    names = [rivals.name for rivals in words.rivals]
    assert len(names) == len(set(names))
    for rivals in words.rivals:
        assert len(set(rivals.tags)) == len(rivals.tags) >= 2
        assert all(split_tags(tag) == [tag] for tag in rivals.tags), rivals.name
        assert rivals.kind in ("", *words.kinds)
    with pytest.raises(ValueError, match="No tags are shipped"):
        vocabulary("sd9")


def test_the_worlds_words_are_as_its_recipe_writes_them() -> None:
    told = make_tags.vocabulary()
    assert [entry["name"] for entry in told["rivals"]] == [
        rivals.name for rivals in vocabulary("embedded").rivals
    ]
    assert [tuple(entry["tags"]) for entry in told["rivals"]] == [
        each.tags for each in vocabulary("embedded").rivals
    ]


def test_a_repeated_photograph_is_dealt_more_often(base: Base) -> None:
    """In every epoch of seven draws, the second of three photographs is drawn five times."""
    moments = Moments(
        mean=torch.arange(3.0).view(3, 1, 1, 1).expand(3, 4, 2, 2), logvar=torch.full((3, 4, 2, 2), -60.0)
    )
    photos = Subject(
        identifier="zwx",
        class_noun="dog",
        moments=moments,
        captions=("", "", ""),
        names=("a", "b", "c"),
        repeats=(1, 5, 1),
    )
    config = DreamBoothConfig(
        prior_preservation=False, batch_size=7, steps=2, identifier="zwx", class_noun="dog"
    )
    draw = batches(base, [photos], config)
    for index in range(3):
        shown = draw(index, torch.Generator().manual_seed(index)).latents[:, 0, 0, 0] / base.scaling_factor
        assert sorted(round(float(value)) for value in shown) == [0, 1, 1, 1, 1, 1, 2]
    once = Subject(
        identifier="zwx", class_noun="dog", moments=moments, captions=("", "", ""), names=("a", "b", "c")
    )
    assert once.deck == [0, 1, 2]


def test_tags_and_repeats_through_the_door(base: Base, tmp_path: Path) -> None:
    """A picture of a beach gets the tag "beach". Captions, repeats and settings survive a round trip."""
    choice = world.Choice(kind="dog", scene="beach", style="photo")
    picture = world.sample_picture(np.random.default_rng(3), choice)
    drawn = world.draw(replace(picture, placed=picture.placed[:1]))
    paths = draw_photos(tmp_path / "photos")
    drawn.save(paths[0])
    studio = Studio(tmp_path / "studio", model_cache=shop_with(base))
    try:
        told = studio.inspection.tags(paths, kind="dog")
        assert list(told) == [path.name for path in paths]
        assert "beach" in told[paths[0].name]
        captions = {name: caption_of(tags) for name, tags in told.items()}
        run_id = studio.training.start(
            "dreambooth",
            replace(TINY, use_captions=True),
            paths,
            captions=captions,
            repeats={paths[1].name: 4},
        )
        settings = studio.library.settings(run_id)
        assert settings["repeats"] == {"01.png": 4}
        assert settings["captions"]["00.png"].startswith("{identifier} {class_noun}, ")
        assert studio.library.read_settings(json.dumps(settings))["repeats"] == {"01.png": 4}
        with pytest.raises(ValueError, match="repeats must be a table"):
            studio.library.read_settings(json.dumps(settings | {"repeats": [1]}))
        assert finish(studio, run_id) == "done"
        with pytest.raises(ValueError, match="is repeated 0 times"):
            studio.training.start("dreambooth", TINY, paths, repeats={paths[1].name: 0})
    finally:
        studio.close()


def test_clip_knows_its_own_world_and_says_so_of_nothing_else(
    clip: InstrumentClip, pictures: list[world.Picture]
) -> None:
    """Pictures outside the training distribution get no caption, because it would be a guess."""
    words = vocabulary("embedded")
    own = [world.draw(picture) for picture in pictures if picture.style == "photo"][:8]
    # the instruments were not trained on real photographs
    outside = [
        Image.fromarray(picture[:300, :300]).resize((128, 128))
        for picture in (data.chelsea(), data.coffee(), data.astronaut(), data.camera())
    ]
    outside = [picture.convert("RGB") for picture in outside]
    assert sum(map(bool, tag_pictures(own, clip, words, kind="dog"))) >= 7
    assert tag_pictures(outside, clip, words, kind="cat", with_subject=True) == [[]] * 4
    assert described(outside, clip, words, prompt="a photo of a vjd cat", kind="cat") == [""] * 4
    known = certainty(clip.image_features(own), clip, words)
    assert known.shape == (8,)
    assert float(known.min()) > float(certainty(clip.image_features(outside), clip, words).max())
    everything = replace(words, familiar=0.0)
    assert any(tag_pictures(outside, clip, everything, with_subject=True)), "a CLIP that has seen everything"


def test_a_run_describes_the_photographs_that_have_no_caption(base: Base, tmp_path: Path) -> None:
    """The caption describes the surroundings, not the subject. A caption written by the user is kept."""
    choice = world.Choice(kind="dog", scene="beach", style="photo")
    paths = draw_photos(tmp_path / "photos")
    for seed, path in enumerate(paths):
        world.draw(world.sample_picture(np.random.default_rng(seed), choice)).save(path)
    studio = Studio(tmp_path / "studio", model_cache=shop_with(base))
    try:
        run_id = studio.training.start(
            "dreambooth",
            replace(TINY, use_captions=True, auto_captions=True, class_noun="dog"),
            paths,
            captions={paths[1].name: "a {identifier} {class_noun} asleep"},
        )
        assert finish(studio, run_id) == "done"
        run = studio.resources.library.find(run_id)
        told = run.read_json("photos/01/described.json")
        prompt, *tags = told["00.png"].split(", ")
        assert prompt == TINY.instance_prompt
        assert "beach" in tags
        assert not {"dog", "photo"} & set(tags)
        assert (
            run.read_json("photos/01/subject.json")["captions"]["01.png"]
            == "a {identifier} {class_noun} asleep"
        )
    finally:
        studio.close()


def test_as_many_tags_as_a_caption_holds() -> None:
    assert caption_of(["beach", "red scarf"]) == "{identifier} {class_noun}, beach, red scarf"
    long = caption_of([f"tag number {index}" for index in range(60)])
    assert 280 < len(long) <= 300
    assert long.startswith("{identifier} {class_noun}, tag number 0, ")
