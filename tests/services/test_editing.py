"""Editing one photograph: the run that learns it, the pictures that are kept, and what is refused."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from pipelines.config import EditConfig, ImageEditConfig, SampleConfig, to_dict
from pipelines.data.edit_suggestions import caption_of, suggestions, word_lists
from pipelines.data.subject import Subject
from pipelines.methods import image_edit as method
from pipelines.methods.specs import METHODS
from pipelines.models.base import Base
from pipelines.runs.library import kind_of
from pipelines.sampling.image_metadata import read_png_settings
from pipelines.studio import Studio
from recipes import captions, world
from tests.tiny import draw_photos, finish, pixels, shop_with

QUICK = ImageEditConfig(
    caption="a photo of a dog on the beach",
    steps=2,
    learning_rate=0.05,
    sample_steps=1,
    measure=False,
    size_px=64,
)
ASKED = EditConfig(prompt="a photo of a cat on the beach", steps=3)


@pytest.fixture(scope="module")
def studio(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    made = Studio(tmp_path_factory.mktemp("editing"), devices=("cpu",), model_cache=shop_with(base))
    yield made
    made.close()


@pytest.fixture(scope="module")
def learned(studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a run that learned one photograph for two steps."""
    photo = draw_photos(tmp_path_factory.mktemp("photo") / "photos")[0]
    run_id = studio.training.start("image_edit", QUICK, [photo])
    assert finish(studio, run_id) == "done"
    return run_id


def test_a_batch_is_the_one_photograph_with_the_plain_caption(base: Base) -> None:
    moments = base.encode_images(torch.zeros(1, 3, 64, 64))
    subject = Subject("", "", ("0.png",), ("",), moments)
    config = replace(QUICK, batch_size=2, accumulation=2)
    draw = method.batches(base, [subject], config)
    batch = draw(0, torch.Generator().manual_seed(0))
    assert batch.groups == {"instance": slice(0, 4)}, "no class images"
    assert batch.prompts.equal(base.encode_prompts([QUICK.caption]).expand(4, -1, -1))
    again = draw(1, torch.Generator().manual_seed(0))
    assert batch.latents.equal(again.latents)
    assert not batch.latents[0].equal(batch.latents[1]), "the VAE's Gaussian is sampled"
    live = method.batches(base, [subject], replace(config, text_encoder=True))(0, torch.Generator())
    assert live.prompts.equal(base.token_ids([QUICK.caption]).expand(4, -1))


def test_the_run_is_spectral_shifts_named_by_its_caption(studio: Studio, learned: str) -> None:
    run = studio.resources.library.find(learned)
    assert run.name == QUICK.caption
    assert kind_of(run) in METHODS["image_edit"].adapter_kinds
    assert studio.inspection.views(learned)


def test_an_edit_is_made_once_and_says_how(studio: Studio, learned: str) -> None:
    first = studio.editing.edit(learned, ASKED)
    before = first.stat().st_mtime_ns
    assert studio.editing.edit(learned, ASKED) == first
    assert first.stat().st_mtime_ns == before
    assert studio.editing.shown(learned, ASKED) == first
    told = read_png_settings(first)
    assert (told["prompt"], told["scheduler"], told["edit"]) == (ASKED.prompt, "DDIM", {"change": 0.0})
    note = studio.generation.recall(first)["note"]
    assert "page Edit" in note
    plain = studio.editing.edit(learned, ASKED, fine_tuned=False)
    assert pixels(plain) != pixels(first)
    assert read_png_settings(plain)["stack"] == []


def test_the_strip_runs_from_the_photograph_to_the_sampler(studio: Studio, learned: str) -> None:
    strip = studio.editing.strip(learned, ASKED)
    assert [share for share, _ in strip] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert strip[0][1] == studio.editing.edit(learned, ASKED)
    free = SampleConfig(prompt=ASKED.prompt, guidance_scale=3.0, steps=3, scheduler="DDIM", size_px=64)
    assert pixels(strip[-1][1]) == pixels(studio.generation.generate(free, run_id=learned)[0])


def test_the_reconstruction_is_measured_against_the_photograph(studio: Studio, learned: str) -> None:
    rough, fine = (studio.editing.reconstruct(learned, steps=steps) for steps in (2, 25))
    assert fine.psnr_db > rough.psnr_db > 5
    with Image.open(fine.original) as original:
        assert original.size == (64, 64)


def test_the_last_edit_is_kept_with_the_run(studio: Studio, learned: str) -> None:
    asked = replace(ASKED, change=0.25)
    studio.editing.keep_last(learned, asked)
    assert studio.editing.last(learned) == asked


def test_other_runs_and_empty_words_are_refused(studio: Studio, learned: str, tmp_path: Path) -> None:
    photos = draw_photos(tmp_path / "photos")
    with pytest.raises(ValueError, match="edited caption is empty"):
        studio.editing.edit(learned, EditConfig(prompt=" "))
    with pytest.raises(ValueError, match="did not learn one photograph"):
        studio.editing.edit(studio.library.examples()[0]["run"], ASKED)
    with pytest.raises(ValueError, match="Image editing learns from one image, not 2; keep one"):
        studio.training.start("image_edit", QUICK, photos)
    with pytest.raises(ValueError, match="The caption is empty"):
        studio.training.start("image_edit", to_dict(QUICK) | {"caption": " "}, photos[:1])


def test_suggestions_change_the_words_that_they_mean() -> None:
    offered = dict(suggestions("a photo of a person with black hair on the beach", "embedded"))
    assert offered["Red hat"] == "a photo of a person with black hair wearing a red hat on the beach"
    assert offered["Sunglasses"] == "a photo of a person with black hair and sunglasses on the beach"
    assert offered["Laughing"] == "a photo of a laughing person with black hair on the beach"
    assert offered["In the forest"] == "a photo of a person with black hair in the forest"
    assert offered["Watercolour"] == "a watercolour painting of a person with black hair on the beach"
    assert "On the beach" not in offered
    assert "Sunglasses" not in dict(suggestions("a photo of a teapot", "embedded"))
    assert (
        dict(suggestions("a photo of a teapot", "embedded"))["On the beach"]
        == "a photo of a teapot on the beach"
    )
    assert suggestions(" ", "embedded") == suggestions("a photo", "no such family") == []
    assert dict(suggestions("a photo of a dog", "sd1"))["In the snow"] == "a photo of a dog in the snow"


def test_a_caption_is_made_of_tags() -> None:
    assert caption_of(["smiling", "dog", "forest", "day"], "embedded") == "a photo of a dog in the forest"
    assert caption_of(["forest"], "embedded") == ""


def test_the_embedded_suggestions_use_words_the_world_has() -> None:
    words = word_lists("embedded")
    assert set(words["nouns"]) == set(world.KINDS)
    assert set(words["scenes"]) == set(world.SCENES)
    for scene, phrase in words["scenes"].items():
        assert phrase in captions.SCENE_PHRASES[scene]
    known = {phrase for phrases in captions.SCENE_PHRASES.values() for phrase in phrases}
    assert all(each["place"] in known for each in words["suggestions"] if "place" in each)
    media = {phrase for phrases in captions.MEDIA.values() for phrase in phrases}
    assert all(each["medium"] in media for each in words["suggestions"] if "medium" in each)
