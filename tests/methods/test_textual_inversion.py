"""Textual inversion: trains one token embedding, initialised with the class word, and exports it as a file."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline

from pipelines.adapters import LoRA, Spectral, Words
from pipelines.adapters.core import base_parameter, injected, merged
from pipelines.adapters.textual_inversion import TABLE, token_ids
from pipelines.config import ASSETS, SampleConfig, TextualInversionConfig, from_dict, to_dict
from pipelines.methods.specs import METHODS, preset, preset_names
from pipelines.models.base import Base
from pipelines.runs.costs import SIZES, trained_values
from pipelines.studio import Studio
from tests.tiny import TINY, draw_photos, finish, pixels, same_tensors, shop_with
from tests.tolerances import assert_close

SHARED = {name: value for name, value in to_dict(TINY).items() if name in to_dict(TextualInversionConfig())}
QUICK = from_dict(TextualInversionConfig, {**SHARED, "steps": 3})


@torch.no_grad()
def test_the_word_begins_as_its_class(base: Base) -> None:
    cat = base.encode_prompts(["a photo of a cat"])
    word = METHODS["textual_inversion"].load().adapter(base, replace(QUICK, class_noun="cat"), ())
    with injected(word, base):
        assert_close(base.encode_prompts(["a photo of a zwx"]), cat)
        assert torch.equal(base.encode_prompts(["a photo of a cat"]), cat)
    with merged(base, [(word, 1.0)]):
        assert_close(base.encode_prompts(["a photo of a zwx"]), cat)
    own = Words(words="zwx", initializer="dog")
    own.inject(base).remove()
    assert not torch.equal(own.state_dict()["delta"], word.state_dict()["delta"])


@torch.no_grad()
def test_only_the_rows_of_the_word_change(base: Base) -> None:
    word = Words(words="zwx qev zwx")
    word.inject(base).remove()
    assert word.parameters()[0].shape == (2, base.text_encoder.config.hidden_size)
    word.parameters()[0].fill_(0.5)
    ((key, change),) = word.changes(base, 2.0)
    rows = change.abs().sum(dim=1).nonzero().flatten().tolist()
    assert key == f"{TABLE}.weight"
    assert sorted(rows) == sorted(token_ids(base, "zwx qev"))
    assert float(change[rows[0], 0]) == 1.0
    table = base_parameter(base, key)
    assert_close(word.vectors(), table.detach()[token_ids(base, "zwx qev")] + 0.5)
    assert not list(word.changes(base, 0.0))


def test_what_cannot_be_learned_is_refused(base: Base) -> None:
    with pytest.raises(ValueError, match="no trigger word"):
        Words(words=" ")
    with pytest.raises(ValueError, match="does not say which word"):
        Words.from_header({})
    with pytest.raises(ValueError, match="at most 16"):
        Words(words=" ".join("abcdefghijklmnopqrstuvwxyz")).inject(base)
    with pytest.raises(ValueError, match="needs a trigger word"):
        replace(QUICK, identifier="")
    for name, value in (("prior_preservation", True), ("text_encoder", False)):
        with pytest.raises(ValueError, match=f"Unknown setting '{name}'"):
            from_dict(TextualInversionConfig, {**to_dict(QUICK), name: value})
    with (
        injected(Spectral(subset="Mid-CA", text_encoder=True), base),
        pytest.raises(ValueError, match="cannot be live together with spectral shifts"),
    ):
        Words(words="qev").inject(base)


@torch.no_grad()
def test_a_word_and_a_lora_and_shifts_meet_in_one_picture(base: Base) -> None:
    """A merged stack: a learned token and a LoRA of the text encoder, and spectral shifts of the UNet."""
    word, lora, shifts = Words(words="dog"), LoRA(rank=1, text_encoder_rank=1), Spectral(subset="Mid-CA")
    for seed, adapter in enumerate((word, lora, shifts)):
        with injected(adapter, base):
            generator = torch.Generator().manual_seed(seed)
            for parameter in adapter.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    with injected(word, base), injected(lora, base):
        live = base.encode_prompts(["a photo of a dog"])
    with merged(base, [(shifts, 1.0), (lora, 1.0), (word, 1.0)]):
        assert_close(base.encode_prompts(["a photo of a dog"]), live)


@pytest.mark.parametrize("family", ["embedded", "sd1"])
def test_presets_cost_almost_nothing(family: str) -> None:
    names = preset_names("textual_inversion", family)
    assert names
    for name in names:
        config = preset("textual_inversion", family, name)
        assert trained_values(config, size=SIZES[family]) * 1e6 == {"embedded": 128, "sd1": 768}[family]


def test_a_run_from_photographs_to_files(base: Base, tmp_path: Path) -> None:
    studio = Studio(tmp_path / "studio", model_cache=shop_with(base))
    try:
        photos = draw_photos(tmp_path / "photos")
        run_id, again = (studio.training.start("textual_inversion", QUICK, photos) for _ in range(2))
        assert (finish(studio, run_id), finish(studio, again)) == ("done", "done")
        path, other = (
            studio.resources.store.get(each).file("adapter.safetensors") for each in (run_id, again)
        )
        assert same_tensors(path, other)
        asked = SampleConfig(prompt="a photo of a {identifier}", steps=2, size_px=64)
        before, after = studio.generation.generate(asked, run_id=run_id, before_after=True)
        assert pixels(before) != pixels(after)
        class_only = replace(asked, prompt="a photo of a dog")
        untouched, same = studio.generation.generate(class_only, run_id=run_id, before_after=True)
        assert pixels(untouched) == pixels(same), "a prompt without the word is the base's own"
        assert (
            studio.import_export.verified_export(run_id, "diffusers")[1] == "1/1 keys, largest difference 0"
        )
        assert studio.import_export.verified_export(run_id, "kohya")[1] == "1/1 keys, largest difference 0"
        with pytest.raises(ValueError, match="cannot be written as peft"):
            studio.import_export.export(run_id, "peft")
        pipe = StableDiffusionPipeline.from_pretrained(ASSETS / "base", torch_dtype=torch.float32)
        pipe.load_textual_inversion(str(studio.import_export.export(run_id, "diffusers")))
        (new,) = pipe.tokenizer("<zwx>", add_special_tokens=False).input_ids
        learned = pipe.text_encoder.get_input_embeddings().weight[new].detach()
        assert_close(learned, studio.resources.model_cache().adapter(path, base).vectors()[0])
        assert studio.inspection.views(run_id) == []
    finally:
        studio.close()
