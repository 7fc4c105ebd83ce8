"""C-LoRA through the Studio: a sequence that is continued, branched and cut back, its pictures, views and exports."""

import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from pipelines.adapters import LoRA, Words
from pipelines.adapters.core import injected, read_tensors
from pipelines.config import ASSETS, CLoRAConfig, SampleConfig
from pipelines.methods import c_lora
from pipelines.methods.specs import preset, preset_names
from pipelines.methods.subject import loss as denoising_loss
from pipelines.models.base import Base
from pipelines.runs.sequences import concept_tables
from pipelines.studio import Studio
from pipelines.training.loop import train
from tests.methods.test_cut_mix_unmix import subject as make_subject
from tests.tiny import draw_photos, finish, pixels, shop_with
from tests.tolerances import assert_close

QUICK = CLoRAConfig(
    steps=2,
    learning_rate=1e-2,
    token_learning_rate=1e-2,
    rank=2,
    identifier="zwx",
    class_noun="person",
    sample_steps=1,
    sample_prompts=("a photo of {identifier}",),
    measure=False,
)


@pytest.fixture(scope="module")
def studio(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    studio = Studio(tmp_path_factory.mktemp("studio"), model_cache=shop_with(base))
    yield studio
    studio.close()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return draw_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def three(studio: Studio, photos: list[Path]) -> list[str]:
    """A sequence of three, queued at once: each waits for the one before."""
    runs: list[str] = []
    for word, name in (("zwx", "Ada"), ("qev", "Henrik"), ("pll", "Biscuit")):
        config = replace(QUICK, identifier=word)
        started = studio.training.start(
            "c_lora", config, photos, parents=runs[-1:], after=runs[-1:], name=name
        )
        runs.append(started)
    assert [finish(studio, run) for run in runs] == ["done"] * 3
    return runs


def state(studio: Studio, run_id: str) -> dict[str, torch.Tensor]:
    return read_tensors(studio.resources.store.get(run_id).file("adapter.safetensors"))[0]


def terms(studio: Studio, run_id: str) -> set[str]:
    steps = [each for each in studio.training.status(run_id)["events"] if each["kind"] == "step"]
    return {name for step in steps for name in step["terms"]}


def test_each_run_holds_all_concepts_and_the_earlier_ones_bit_for_bit(
    studio: Studio, three: list[str]
) -> None:
    assert [task.name for task in studio.sequences.tasks(three[-1])] == ["Ada", "Henrik", "Biscuit"]
    assert [task.run for task in studio.sequences.tasks(three[1])] == three[:2]
    first, second, third = (state(studio, run) for run in three)
    assert len(third) == 3 * len(first) == 3 * 65
    assert all(torch.equal(second[name], value) for name, value in first.items())
    assert all(torch.equal(third[name], value) for name, value in second.items())
    assert not torch.equal(third["3.token.delta"], second["2.token.delta"])
    cards = {card.id: card for card in studio.library.list_runs()}
    assert len({cards[run].trainable for run in three}) == 1, "a concept's own values"
    assert (terms(studio, three[0]), terms(studio, three[2])) == ({"instance"}, {"instance", "forgetting"})
    assert [card.id for card in studio.sequences.list()] == [three[-1]]


def test_each_run_draws_every_concept_so_far(studio: Studio, three: list[str]) -> None:
    rows = studio.sequences.pictures(three[-1])
    assert [[cell.word for cell in row] for row in rows] == [
        ["zwx"],
        ["zwx", "qev"],
        ["zwx", "qev", "pll"],
    ]
    for cell in (cell for row in rows for cell in row):
        assert len(cell.files) == 2
        assert cell.score is not None
        assert -1 <= cell.score <= 1
        assert studio.generation.recall(cell.files[0])["sample"]["prompt"] == f"a photo of {cell.word}"
    first, last = (concept_tables(studio.resources.store.get(run)) for run in (three[0], three[-1]))
    assert first[0]["reference"] == last[0]["reference"], "no photograph of an earlier concept is read again"
    (matrix,) = studio.sequences.forgetting(three[-1])
    assert matrix["columns"] == ["Ada", "Henrik", "Biscuit"]
    assert matrix["cells"][0][1:] == [None, None]
    assert matrix["cells"][2][0] == pytest.approx(rows[2][0].score, abs=1e-3)
    assert "Average forgetting" in matrix["help"]
    assert studio.sequences.prompts(three[-1])[0] == "a photo of pll. Posing with qev."


def test_views_tell_what_the_concepts_changed(studio: Studio, three: list[str]) -> None:
    overlap, blocks = studio.inspection.views(three[-1])
    assert overlap["rows"] == overlap["columns"] == ["zwx", "qev", "pll"]
    assert all(overlap["cells"][i][i] == pytest.approx(1, abs=1e-3) for i in range(3))
    assert 0 <= overlap["cells"][0][1] == overlap["cells"][1][0] < 1
    assert all(sum(row) == pytest.approx(100, abs=1) for row in blocks["cells"])
    told = studio.inspection.entry_map(three[-1])
    with Image.open(told["picture"]) as picture:
        shape = state(studio, three[0])[f"1.{told['layer']}.lora_B.weight"].shape[0]
        assert picture.height == shape
    assert 0 <= told["shared"] <= 0.3
    assert told["chance"] == pytest.approx(3 * 0.01 * 0.9 + 0.001)
    with pytest.raises(ValueError, match=r"No concept changed the layer .unet\.conv_in"):
        studio.inspection.entry_map(three[-1], "unet.conv_in")


def test_a_branch_and_a_sequence_without_its_last_concept(
    studio: Studio, photos: list[Path], three: list[str]
) -> None:
    other = studio.training.start(
        "c_lora", replace(QUICK, identifier="ktn"), photos, parents=three[1:2], name="Cora"
    )
    assert finish(studio, other) == "done"
    assert [task.word for task in studio.sequences.tasks(other)] == ["zwx", "qev", "ktn"]
    assert {card.id for card in studio.sequences.list()} == {three[-1], other}
    studio.library.delete(other)
    assert {card.id for card in studio.sequences.list()} == {three[-1]}
    assert [task.word for task in studio.sequences.tasks(three[-1])] == ["zwx", "qev", "pll"]


def test_the_same_sequence_without_self_regularization(studio: Studio, three: list[str]) -> None:
    """It shares the first concept, where the term is 0, and is trained only once."""
    assert studio.sequences.counterpart(three[-1]) == ""
    last = studio.sequences.start_counterpart(three[-1])
    assert finish(studio, last) == "done"
    tasks = studio.sequences.tasks(last)
    assert [task.word for task in tasks] == ["zwx", "qev", "pll"]
    assert (tasks[0].run, tasks[1].weight, tasks[2].weight) == (three[0], 0.0, 0.0)
    assert terms(studio, last) == {"instance"}
    assert studio.sequences.counterpart(three[-1]) == studio.sequences.start_counterpart(three[-1]) == last
    assert studio.sequences.counterpart(last) == ""
    with pytest.raises(ValueError, match="would be the same"):
        studio.sequences.start_counterpart(last)
    for run in (last, tasks[1].run):
        studio.library.delete(run)


def test_a_word_names_one_concept(studio: Studio, photos: list[Path], three: list[str]) -> None:
    with pytest.raises(ValueError, match="'qev' already names 'Henrik' in this sequence"):
        studio.training.start("c_lora", replace(QUICK, identifier="QEV"), photos, parents=three[-1:])
    with pytest.raises(ValueError, match="needs a trigger word"):
        replace(QUICK, identifier="")
    long = studio.training.start("c_lora", replace(QUICK, identifier="not one token"), photos)
    assert studio.training.wait(long) == "failed"
    assert "a concept has exactly one" in studio.training.status(long)["error"]


def test_it_is_exported_as_one_lora_and_embeddings(
    studio: Studio, base: Base, three: list[str], tmp_path: Path
) -> None:
    """diffusers with the exported files makes the noise prediction of the run."""
    written, told = studio.import_export.verified_export(three[-1], "diffusers")
    assert told.startswith("64/64 keys, largest difference")
    assert told.count("1/1 keys, largest difference 0") == 3
    with zipfile.ZipFile(written) as archive:
        archive.extractall(tmp_path)
    pipe = StableDiffusionPipeline.from_pretrained(ASSETS / "base", torch_dtype=torch.float32)
    for word in ("zwx", "qev", "pll"):
        pipe.load_textual_inversion(str(tmp_path / f"{word}.safetensors"))
    pipe.load_lora_weights(str(tmp_path), weight_name="pytorch_lora_weights.safetensors")
    ids = pipe.tokenizer(
        "a photo of <zwx>. Posing with <pll>.", padding="max_length", return_tensors="pt"
    ).input_ids
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    path = studio.resources.store.get(three[-1]).file("adapter.safetensors")
    adapter = studio.resources.model_cache().adapter(path, base)
    with torch.no_grad():
        theirs = pipe.unet(noise, torch.tensor([300]), pipe.text_encoder(ids)[0], return_dict=False)[0]
        with injected(adapter, base):
            own = base.encode_prompts(["a photo of zwx. Posing with pll."])
            ours = base.unet(noise, torch.tensor([300]), own, return_dict=False)[0]
    assert_close(theirs, ours)
    assert "1/1 keys" in studio.import_export.verified_export(three[-1], "kohya")[1]
    with pytest.raises(ValueError, match="cannot be written as peft"):
        studio.import_export.export(three[-1], "peft")


def test_a_deleted_beginning_leaves_the_concepts(studio: Studio, photos: list[Path]) -> None:
    first = studio.training.start("c_lora", QUICK, photos, name="Ada")
    assert finish(studio, first) == "done"
    second = studio.training.start(
        "c_lora", replace(QUICK, identifier="qev"), photos, parents=[first], name="B"
    )
    assert finish(studio, second) == "done"
    studio.library.delete(first)
    tasks = studio.sequences.tasks(second)
    assert [(task.index, task.word, task.name, task.run) for task in tasks] == [
        (1, "zwx", "Ada", ""), (2, "qev", "B", second),
    ]  # fmt: skip
    asked = SampleConfig(prompt="a photo of zwx", steps=1)
    (with_it,) = studio.generation.generate(asked, run_id=second)
    (without,) = studio.generation.generate(asked)
    assert pixels(with_it) != pixels(without)
    studio.library.delete(second)


def test_the_first_concept_trains_exactly_like_a_lora_of_keys_and_values(base: Base) -> None:
    """The same losses and factors as a plain LoRA on the same batches, with the same word kept still."""
    config = replace(QUICK, steps=3, token_learning_rate=1e-9, max_grad_norm=0.0)
    photographs = make_subject(base, 0)
    sequence, plain = c_lora.adapter(base, config, ()), LoRA(rank=2, targets="cross-attention-kv")
    word = Words(words="zwx", seed=config.seed)
    batches = c_lora.batches(base, [photographs], config)
    with injected(sequence, base):
        ours = [step.terms for step in train(base, sequence, batches, c_lora.loss, config)]
    with injected(word, base), injected(plain, base):
        theirs = [step.terms for step in train(base, plain, batches, denoising_loss, config)]
    for own, other in zip(ours, theirs, strict=True):
        assert own == pytest.approx(other, rel=1e-5)
    for own, other in zip(sequence.parameters(), plain.parameters(), strict=False):
        assert_close(own.detach(), other.detach())


@pytest.mark.parametrize("family", ["embedded", "sd1"])
def test_presets_have_no_class_noun_in_their_prompts(family: str) -> None:
    for name in preset_names("c_lora", family):
        config = preset("c_lora", family, name)
        assert "{class_noun}" not in " ".join([config.instance_prompt, *config.sample_prompts])
