"""Cut-Mix-Unmix: the content of a batch, the regions of the attention loss, and a run with three subjects."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipelines.adapters.core import injected
from pipelines.config import UNMIX_LAYERS, CutMixUnmixConfig, SampleConfig
from pipelines.data.photographs import Moments
from pipelines.data.subject import Subject, SubjectPhotos
from pipelines.methods import cut_mix_unmix as method
from pipelines.models.base import Base
from pipelines.models.tokens import positions
from pipelines.studio import Studio
from pipelines.training.attention import cross_attention_layers
from pipelines.training.loop import train
from tests.tiny import draw_photos, finish, pixels, shop_with

QUICK = CutMixUnmixConfig(
    steps=4,
    sample_every=4,
    learning_rate=1e-3,
    weights="lora",
    rank=2,
    sample_steps=1,
    measure=False,
    mix_probability=0.5,
    size_px=64,
)
WORDS = (("zwx", "dog"), ("qev", "cat"), ("pll", "person"))


def subject(base: Base, place: int, *, count: int = 2, prior: bool = False) -> Subject:
    generator = torch.Generator().manual_seed(place)
    pixels = torch.rand(count, 3, 32, 32, generator=generator) * 2 - 1
    moments = base.encode_images(pixels)
    identifier, noun = WORDS[place]
    return Subject(
        identifier=identifier,
        class_noun=noun,
        names=tuple(f"{index}.png" for index in range(count)),
        captions=("",) * count,
        moments=moments,
        class_moments=Moments(moments.mean + 1, moments.logvar) if prior else None,
        pixels=pixels,
    )


def test_the_share_of_mixed_updates_is_the_probability() -> None:
    mixed = [method.is_mixed(replace(QUICK, mix_probability=0.6), update) for update in range(500)]
    assert 0.54 < sum(mixed) / 500 < 0.66
    assert not any(method.is_mixed(replace(QUICK, mix_probability=0.0), update) for update in range(50))
    later = replace(QUICK, steps=500, mix_probability=1.0, alone_first=0.3)
    assert [method.is_mixed(later, update) for update in range(500)] == [False] * 150 + [True] * 350
    layers = [method.attention_layers(QUICK, update) for update in range(9)]
    assert [bool(found) for found in layers] == [method.is_mixed(QUICK, update) for update in range(9)]
    assert not any(method.attention_layers(replace(QUICK, unmix_weight=0.0), update) for update in range(9))


@pytest.mark.parametrize("layers", UNMIX_LAYERS)
def test_the_layers_are_cross_attention_of_the_blocks(base: Base, layers: str) -> None:
    named = method.unmix_layers(replace(QUICK, unmix_layers=layers).unmix_layers)
    assert set(named) <= set(cross_attention_layers(base.unet))
    assert len(named) == {"In0+In1+Out2+Out3": 10, "Out2": 3}.get(layers, 5)


@pytest.mark.parametrize("live", [False, True], ids=["embeddings", "text encoder live"])
def test_the_words_that_are_held_are_those_of_the_subject_on_that_side(base: Base, live: bool) -> None:
    config = replace(QUICK, mix_probability=1.0, batch_size=2, accumulation=2, text_encoder=live)
    subjects = [subject(base, 0), subject(base, 1)]
    draw, generator = method.batches(base, subjects, config), torch.Generator().manual_seed(0)
    learned, _ = method.plan(subjects, config)
    for index in range(4):
        batch = draw(index, generator)
        assert (batch.extra["regions"].sum(dim=1) == 1).all()
        rows = method.deal(len(learned), start=4 * index, count=4, seed=config.seed)
        for row, mix in enumerate(learned[chosen] for chosen in rows):
            for side, one in enumerate(mix.subjects):
                assert batch.extra["tokens"][row, side].sum() == 2, "a rare word and a class word"
                if live:
                    ids = batch.prompts[row][batch.extra["tokens"][row, side] > 0]
                    assert base.tokenizer.decode(ids).split() == list(WORDS[one])


def test_class_images_are_mixed_alike_and_nothing_is_asked_of_their_words(base: Base) -> None:
    config = replace(QUICK, prior_preservation=True, class_images=2, text_encoder=True, batch_size=2)
    draw = method.batches(base, [subject(base, 0, prior=True), subject(base, 1, prior=True)], config)
    generator = torch.Generator().manual_seed(0)
    for index in range(6):
        batch = draw(index, generator)
        assert dict(batch.groups) == {"instance": slice(0, 2), "prior": slice(2, 4)}
        told = [base.tokenizer.decode(ids, skip_special_tokens=True) for ids in batch.prompts[2:]]
        for text in told:
            assert not {"zwx", "qev"} & set(text.split())
            assert ("dog" in text and "cat" in text) == method.is_mixed(config, index)
        if method.is_mixed(config, index):
            assert batch.extra["tokens"][:2].sum() == 8
            assert batch.extra["tokens"][2:].sum() == 0


def test_words_of_several_tokens_are_found_whole(base: Base) -> None:
    prompt = "a photo of a blxq wearer dog on the left"
    found = positions(base.tokenizer, prompt, "blxq wearer dog", context=base.context)
    ids = base.tokenizer(prompt).input_ids
    assert len(found) > 3
    assert base.tokenizer.decode([ids[place] for place in found]).strip() == "blxq wearer dog"
    with pytest.raises(ValueError, match="give the subjects shorter words"):
        positions(base.tokenizer, prompt, "cat", context=base.context)


def test_the_gradient_of_the_unmix_term_takes_words_off_the_other_half(base: Base) -> None:
    """Train repeatedly on one batch, with and without gradient checkpointing."""
    config = replace(
        QUICK, steps=8, mix_probability=1.0, unmix_weight=1.0, weights="full", learning_rate=3e-3
    )
    batch = method.batches(base, [subject(base, 0), subject(base, 1)], config)(0, torch.Generator())
    seen = {}
    for checkpointing in (False, True):
        own = replace(config, gradient_checkpointing=checkpointing)
        adapter = method.adapter(base, own, ())
        with injected(adapter, base):
            steps = train(
                base,
                adapter,
                lambda index, generator: batch,
                lambda *given: {"unmix": method.loss(*given)["unmix"]},
                own,
                attention_layers=method.attention_layers,
            )
            seen[checkpointing] = [step.terms["unmix"] for step in steps]
    assert seen[True] == pytest.approx(seen[False], rel=1e-3)
    assert max(seen[False][-2:]) < 0.5 * min(seen[False][:2])


@pytest.fixture
def studio(base: Base, tmp_path: Path) -> Iterator[Studio]:
    studio = Studio(tmp_path / "studio", model_cache=shop_with(base))
    yield studio
    studio.close()


def test_a_finished_run_shows_where_the_words_look(studio: Studio, tmp_path: Path) -> None:
    photos = draw_photos(tmp_path / "photos")
    subjects = [SubjectPhotos(*words, photos) for words in WORDS[:2]]
    config = replace(QUICK, steps=1, sample_every=1, sample_prompts=("{all}",))
    run_id = studio.training.start("cut_mix_unmix", config, subjects=subjects)
    assert finish(studio, run_id) == "done"
    asked = SampleConfig(prompt="a zwx dog beside a qev cat", steps=1, size_px=64)
    (picture,) = studio.generation.generate(asked, run_id=run_id)
    found = studio.generation.word_attention(run_id, picture)
    assert list(found) == ["zwx dog", "qev cat"]
    assert pixels(found["zwx dog"]) != pixels(found["qev cat"])
    (other,) = studio.generation.generate(replace(asked, prompt="a zwx dog"), run_id=run_id)
    assert list(studio.generation.word_attention(run_id, other)) == ["zwx dog"]


def test_pictures_together_compare_with_the_run_without_unmix_and_are_kept(
    studio: Studio, tmp_path: Path
) -> None:
    photos = draw_photos(tmp_path / "photos")
    subjects = [SubjectPhotos(*words, photos) for words in WORDS[:2]]
    config = replace(QUICK, steps=2, mix_probability=1.0, unmix_weight=50.0, sample_prompts=("{all}",))
    run_id = studio.training.start("cut_mix_unmix", config, subjects=subjects)
    assert finish(studio, run_id) == "done"
    asked = SampleConfig(prompt="a zwx dog beside a qev cat", steps=1, size_px=64, seed=3)
    assert studio.library.without_unmix(run_id) == ""
    assert [each.kind for each in studio.generation.together(run_id, asked)] == [
        "together", "attention", "attention", "alone", "alone",
    ]  # fmt: skip
    other = studio.training.again(run_id, name="Without", learning_rate=2e-3, unmix_weight=0.0)
    rival = studio.training.again(run_id, name="Without", unmix_weight=0.0)
    assert finish(studio, other) == finish(studio, rival) == "done"
    assert studio.library.without_unmix(run_id) == rival, "all other settings are equal"
    assert studio.library.without_unmix(rival) == ""
    told: list[tuple[int, int]] = []
    shown = studio.generation.together(run_id, asked, progress=lambda *done: told.append(done))
    assert told == [(step, 5) for step in range(1, 6)]
    by_kind = {kind: [each for each in shown if each.kind == kind] for kind in ("without", "alone")}
    (without,) = by_kind["without"]
    (expected,) = studio.generation.generate(asked, run_id=rival)
    assert pixels(without.file) == pixels(expected) != pixels(shown[0].file)
    assert [each.prompt for each in by_kind["alone"]] == ["a photo of a zwx dog", "a photo of a qev cat"]
    assert {each.seed for each in shown} == {3}
    kept = studio.library.kept_together(run_id)
    assert [(each.kind, each.title, pixels(each.file)) for each in kept] == [
        (each.kind, each.title, pixels(each.file)) for each in shown
    ]
    studio.training.train_more(run_id, 1)
    assert finish(studio, run_id) == "done"
    assert studio.library.kept_together(run_id) == [], "they show an earlier state"


def test_three_subjects_learn_in_one_run_and_tell_their_leakage(studio: Studio, tmp_path: Path) -> None:
    photos = draw_photos(tmp_path / "photos")
    subjects = [SubjectPhotos(*words, photos) for words in WORDS]
    run_id = studio.training.start("cut_mix_unmix", QUICK, subjects=subjects)
    assert finish(studio, run_id) == "done"
    status = studio.training.status(run_id)
    terms = [event["terms"] for event in status["events"] if event["kind"] == "step"]
    mixed = [method.is_mixed(QUICK, update) for update in range(4)]
    assert [set(each) for each in terms] == [{"instance", "unmix"} if mix else {"instance"} for mix in mixed]
    assert True in mixed
    prompts = [event["prompt"] for event in status["events"] if event["kind"] == "sample"]
    assert prompts[:5] == [
        "a photo of a zwx dog",
        "a photo of a qev cat",
        "a photo of a pll person",
        "a zwx dog beside a qev cat beside a pll person on the beach",
        "a photo of a zwx dog beside a qev cat beside a pll person",
    ]
    told = [event for event in status["events"] if event["kind"] == "leakage"]
    assert [event["step"] for event in told] == [0, 4]
    for event in told:
        assert event["subjects"] == ["zwx dog", "qev cat", "pll person"]
        for i, row in enumerate(event["matrix"]):
            assert all(0 < share < 1 for share in row)
            assert 2 * row[i] + sum(row) - row[i] == pytest.approx(2, abs=0.2), "own and other halves"
    run = studio.resources.store.get(run_id)
    last = [event for event in status["events"] if event["kind"] == "sample"][-1]
    recalled = studio.generation.recall(run.file(last["files"][0]))["sample"]
    assert recalled["negative_prompt"] == QUICK.negative_prompt != "", "against seams, by default"
    examples = json.loads(run.file("mixed.json").read_text())
    assert len(examples) == 6
    for example in examples:
        assert run.file(example["file"]).is_file()
        assert example["left"] in example["prompt"]
        assert example["right"] in example["prompt"]
    titles = [view["title"] for view in studio.inspection.views(run_id)]
    where = "Where each subject's words look, after step"
    assert titles[:3] == [f"{where} 0", f"{where} 4", "Leakage over the steps"]
