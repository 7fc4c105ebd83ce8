"""Textual inversion files of other programs: detected by header, imported, read by diffusers."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from pipelines.adapters.core import injected
from pipelines.config import ASSETS
from pipelines.formats.core import opened
from pipelines.formats.exchange import read_adapter
from pipelines.formats.textual_inversion import key_of
from pipelines.models.base import Base
from pipelines.studio import Studio
from tests.tiny import shop_with
from tests.tolerances import assert_close

WIDTH = 128  # embedding width of the embedded base


def vectors(count: int) -> torch.Tensor:
    """Return embeddings (count, C) with about the same norm as those of the vocabulary."""
    return 0.05 * torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(count))


def written(path: Path, tensors: dict[str, torch.Tensor], **metadata: str) -> Path:
    save_file(tensors, path, metadata=metadata or None)
    return path


@pytest.fixture
def studio(base: Base, tmp_path: Path) -> Iterator[Studio]:
    made = Studio(tmp_path / "data", devices=["cpu"], model_cache=shop_with(base))
    yield made
    made.close()


def embeddings_of(studio: Studio, run_id: str, base: Base, prompt: str) -> torch.Tensor:
    """Return the prompt's encoding (1, T, C) while the learned token is live."""
    path = studio.resources.store.get(run_id).file("adapter.safetensors")
    with injected(studio.resources.model_cache().adapter(path, base), base):
        return base.encode_prompts([prompt])


@pytest.mark.parametrize("count", [1, 3])
def test_a_word_of_diffusers_means_here_what_it_means_there(
    studio: Studio, base: Base, tmp_path: Path, count: int
) -> None:
    file = written(tmp_path / "learned_embeds.safetensors", {"<cat-toy>": vectors(count).squeeze(0)})
    told = studio.import_export.inspect_lora(file)
    assert (told["format"], told["trigger"], told["problem"]) == ("diffusers embedding", "<cat-toy>", "")
    assert told["parameters"] == count * WIDTH
    run_id = studio.import_export.import_lora(file, name="Toy")
    words = studio.resources.store.get(run_id).config["identifier"]
    assert len(words.split()) == count
    here = embeddings_of(studio, run_id, base, f"a photo of a {words} on the beach")
    pipe = StableDiffusionPipeline.from_pretrained(ASSETS / "base", torch_dtype=torch.float32)
    pipe.load_textual_inversion(str(file))
    prompt = pipe.maybe_convert_prompt("a photo of a <cat-toy> on the beach", pipe.tokenizer)
    ids = pipe.tokenizer(
        prompt, padding="max_length", max_length=base.context, truncation=True, return_tensors="pt"
    )
    with torch.no_grad():
        assert_close(here, pipe.text_encoder(ids.input_ids)[0])


def test_a_word_of_a1111_goes_out_again_under_its_name(studio: Studio, base: Base, tmp_path: Path) -> None:
    file = written(tmp_path / "moody.safetensors", {"emb_params": vectors(2).half()}, name="moody")
    told = studio.import_export.inspect_lora(file)
    assert (told["format"], told["trigger"]) == ("A1111 embedding", "moody")
    run_id = studio.import_export.import_lora(file)
    run = studio.resources.store.get(run_id)
    assert (run.name, run.config["source"]) == ("moody", "words")
    for format, key in (
        ("kohya", "emb_params"),
        ("diffusers", f"<{'-'.join(run.config['identifier'].split())}>"),
    ):
        out = load_file(studio.import_export.export(run_id, format))
        assert_close(out[key], vectors(2).half().float())
        assert studio.import_export.verified_export(run_id, format)[1].startswith("1/1 keys")
    other = studio.import_export.import_lora(written(tmp_path / "<glum>.safetensors", {"<glum>": vectors(1)}))
    again = studio.resources.store.get(other).config
    assert not set(again["identifier"].split()) & set(run.config["identifier"].split()), "one word, one run"
    assert "<glum>" in load_file(studio.import_export.export(other, "diffusers"))


def test_a_word_that_left_here_comes_back_as_the_same_word(
    studio: Studio, base: Base, tmp_path: Path
) -> None:
    first = studio.import_export.import_lora(written(tmp_path / "x.safetensors", {"<x>": vectors(1)}))
    word = studio.resources.store.get(first).config["identifier"]
    named = written(tmp_path / "y.safetensors", {f"<{word}>": vectors(1)})
    second = studio.import_export.import_lora(named)
    assert studio.resources.store.get(second).config["identifier"] == word
    third = studio.import_export.import_lora(studio.import_export.export(first))
    prompt = f"a photo of a {word}"
    meant = embeddings_of(studio, first, base, prompt)
    assert not meant.equal(base.encode_prompts([prompt]))
    for run_id in (second, third):
        assert embeddings_of(studio, run_id, base, prompt).equal(meant)


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        (
            {"<a>": torch.zeros(768)},
            "has width 768 .as for Stable Diffusion 1.x., and this base model needs",
        ),
        ({"emb_params": torch.zeros(2, 1024)}, "has width 1024 .as for Stable Diffusion 2."),
        ({"<a>": torch.zeros(99)}, "has width 99, and this base model needs 128"),
        ({"<a>": torch.zeros(17, WIDTH)}, "contains 17 vectors, and 1 to 16 are supported"),
        ({"<a>": torch.zeros(0, WIDTH)}, "contains 0 vectors"),
        ({"emb_params": torch.zeros(2, 2, WIDTH)}, "contains 2 vectors"),
        ({"clip_l": torch.zeros(1, 768), "clip_g": torch.zeros(1, 1280)}, "for Stable Diffusion XL"),
        ({"<a>": torch.full((WIDTH,), torch.nan)}, "are not finite"),
    ],
)
def test_words_that_do_not_fit_are_refused(
    base: Base, tmp_path: Path, tensors: dict[str, torch.Tensor], sentence: str
) -> None:
    path = written(tmp_path / "word.safetensors", tensors)
    with pytest.raises(ValueError, match=sentence):
        read_adapter(path, base)


def test_what_is_no_word_is_left_to_other_formats(tmp_path: Path) -> None:
    lora = written(tmp_path / "lora.safetensors", {"a.lora_down.weight": torch.zeros(768)})
    with opened(lora) as source:
        assert not key_of(source)
