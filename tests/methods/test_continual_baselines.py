"""The methods that C-LoRA is compared with run through the same Studio: only settings, or one click, tell them apart."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipelines.adapters import Concept, Continual
from pipelines.adapters.core import injected, merged
from pipelines.adapters.registry import load_adapter
from pipelines.adapters.textual_inversion import TABLE
from pipelines.config import CLoRAConfig, SampleConfig, to_dict
from pipelines.data.photographs import Moments
from pipelines.data.subject import Subject, SubjectPhotos
from pipelines.methods import c_lora
from pipelines.methods.baselines import BASELINES
from pipelines.models.base import Base
from pipelines.models.targets import KEY_VALUE
from pipelines.runs.costs import SIZES
from pipelines.services.concept_merge import everyday_captions
from pipelines.studio import Studio
from tests.tiny import draw_photos, finish, shop_with

CONFIG = CLoRAConfig(
    steps=2,
    learning_rate=1e-2,
    token_learning_rate=1e-2,
    identifier="zwx",
    class_noun="dog",
    rank=2,
    sample_prompts=("a photo of {identifier}",),
    sample_steps=1,
    measure=False,
)


@pytest.fixture
def studio(base: Base, tmp_path: Path) -> Iterator[Studio]:
    studio = Studio(tmp_path / "studio", model_cache=shop_with(base))
    yield studio
    studio.close()


def learned(studio: Studio, run_id: str, base: Base) -> Continual:
    assert finish(studio, run_id) == "done"
    adapter = load_adapter(studio.resources.store.get(run_id).file("adapter.safetensors"), base)
    assert isinstance(adapter, Continual)
    return adapter


def test_the_number_of_trained_values_on_stable_diffusion() -> None:
    """At rank 16 C-LoRA trains 792,576 values and a token of 768; Custom Diffusion 19,169,280; inversion the token."""
    counts = {
        weights: round(1e6 * replace(CONFIG, rank=16, weights=weights).trained_values(SIZES["sd1"]))
        for weights in ("lora", "full", "token")
    }
    assert counts == {"lora": 792_576 + 768, "full": 19_169_280 + 768, "token": 768}
    with pytest.raises(ValueError, match="too much for each concept"):
        replace(CONFIG, weights="full", targets="attention+conv")


@torch.no_grad()
def test_custom_diffusion_trains_every_key_and_value_one_concept_after_another(
    studio: Studio, base: Base, tmp_path: Path
) -> None:
    photos = draw_photos(tmp_path / "photos")
    full = replace(CONFIG, weights="full", forgetting_weight=0.0)
    first = studio.training.start("c_lora", full, photos)
    before = learned(studio, first, base)
    second = studio.training.start("c_lora", replace(full, identifier="qev"), photos, parents=[first])
    after = learned(studio, second, base)
    (own,), (kept, new) = before.deltas(base), after.deltas(base)
    assert len(own) == 32
    assert all(name.removesuffix(".weight").endswith(KEY_VALUE) for name in own)
    assert all(torch.equal(own[name], kept[name]) for name in own)
    assert all(float((change != 0).float().mean()) > 0.99 for change in new.values()), "every entry moves"
    assert "zwx" in after.vectors()
    assert torch.equal(after.vectors()["zwx"], before.vectors()["zwx"])
    factors = after.concatenated()
    name = min(own)
    stem = name.removesuffix(".weight")
    product = factors[f"{stem}.lora_B.weight"] @ factors[f"{stem}.lora_A.weight"]
    torch.testing.assert_close(product, own[name] + new[name], rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_textual_inversion_trains_the_token_alone(studio: Studio, base: Base, tmp_path: Path) -> None:
    photos = draw_photos(tmp_path / "photos")
    config = replace(CONFIG, weights="token")
    first = studio.training.start("c_lora", config, photos)
    run_id = studio.training.start(
        "c_lora", replace(config, identifier="qev"), photos, after=[first], parents=[first]
    )
    adapter = learned(studio, run_id, base)
    assert [name for name, _ in adapter.changes(base)] == [f"{TABLE}.weight"]
    assert (
        sum(parameter.numel() for parameter in adapter.parameters()) == base.text_encoder.config.hidden_size
    )
    assert list(adapter.vectors()) == ["zwx", "qev"]


def subject(word: str, photos: int, *, start: float) -> Subject:
    moments = torch.full((photos, 4, 2, 2), start) + torch.arange(photos).view(-1, 1, 1, 1)
    names = tuple(map(str, range(photos)))
    return Subject(word, "dog", names, ("",) * photos, Moments(moments, torch.full_like(moments, -30.0)))


def test_replayed_concepts_make_up_half_of_a_round(base: Base) -> None:
    """Each picture keeps the prompt of its own concept; over a round, half of the pictures are of the new concept."""
    subjects = [subject("pll", 2, start=0.0), subject("zwx", 4, start=100.0), subject("qev", 4, start=200.0)]
    config = replace(CONFIG, identifier="pll", replay_images=4)
    draw, generator = c_lora.batches(base, subjects, config), torch.Generator().manual_seed(0)
    prompts = {word: base.token_ids([f"a photo of {word}"])[0] for word in ("pll", "zwx", "qev")}
    counts = dict.fromkeys(prompts, 0)
    for index in range(16):
        batch = draw(index, generator)
        value = float(batch.latents.mean()) / base.scaling_factor
        word = "pll" if value < 50 else "zwx" if value < 150 else "qev"
        assert torch.equal(batch.prompts[0], prompts[word])
        counts[word] += 1
    assert counts == {"pll": 8, "zwx": 4, "qev": 4}
    together = c_lora.pooled(subjects, replace(config, replay_images=0))
    assert (len(together.deck), set(together.captions)) == (10, {f"a photo of {word}" for word in prompts})


def test_masks_of_some_concepts_cover_the_others_whole(base: Base) -> None:
    masked = replace(subject("zwx", 2, start=0.0), masks=torch.zeros(2, 1, 8, 8))
    together = c_lora.pooled([subject("qev", 3, start=1.0), masked], CONFIG)
    assert together.masks is not None
    assert together.masks.mean((1, 2, 3)).tolist() == [1, 1, 1, 0, 0]


def test_generative_replay_draws_the_earlier_concepts(studio: Studio, base: Base, tmp_path: Path) -> None:
    photos = draw_photos(tmp_path / "photos")
    first = studio.training.start("c_lora", CONFIG, photos)
    assert finish(studio, first) == "done"
    config = replace(CONFIG, identifier="qev", replay_images=2)
    second = studio.training.start("c_lora", config, photos, parents=[first])
    adapter = learned(studio, second, base)
    stages = [e for e in studio.training.status(second)["events"] if e["kind"] == "stage"]
    drawn = [(e["done"], e["total"]) for e in stages if e["name"] == "Drawing earlier concepts"]
    assert drawn == [(0, 2), (1, 2), (2, 2)]
    one, again = (c_lora.replayed(adapter, base, config, lambda done, total: None) for _ in range(2))
    assert [found.identifier for found in one] == ["zwx"]
    assert torch.equal(one[0].moments.mean, again[0].moments.mean), "a resumed run draws the same pictures"
    assert c_lora.replayed(adapter, base, CONFIG, lambda done, total: None) == []


@torch.no_grad()
def test_joint_training_learns_several_concepts_in_one_run(
    studio: Studio, base: Base, tmp_path: Path
) -> None:
    photos = draw_photos(tmp_path / "photos")
    subjects = [SubjectPhotos("zwx", "dog", photos), SubjectPhotos("qev", "cat", photos[:1])]
    run_id = studio.training.start("c_lora", CONFIG, subjects=subjects)
    adapter = learned(studio, run_id, base)
    assert adapter.concepts[0].words == ["zwx", "qev"]
    assert list(adapter.vectors()) == ["zwx", "qev"]
    untrained = Continual(concepts=[Concept("zwx qev", rank=2)]).inject(base)
    untrained.remove()
    assert all(not torch.equal(adapter.vectors()[word], row) for word, row in untrained.vectors().items())
    run = studio.resources.store.get(run_id)
    assert run.config["identifier"] == "zwx qev"
    assert run.config["sample_prompts"] == ["a photo of zwx", "a photo of qev"]


@torch.no_grad()
def test_merged_concepts_are_a_run_that_draws(studio: Studio, base: Base, tmp_path: Path) -> None:
    photos = draw_photos(tmp_path / "photos")
    words = ("zwx", "qev")
    config = replace(CONFIG, weights="full", learning_rate=3e-2)
    runs = [studio.training.start("c_lora", replace(config, identifier=word), photos) for word in words]
    assert [finish(studio, run_id) for run_id in runs] == [
        "done",
        "done",
    ]  # all, as they share the base with this test
    alone = [learned(studio, run_id, base) for run_id in runs]
    both = studio.library.merge_concepts(runs)
    whole = learned(studio, both, base)
    assert {word: row.tolist() for word, row in whole.vectors().items()} == {
        word: row.tolist() for one in alone for word, row in one.vectors().items()
    }
    layer = next(name for name, _ in whole.changes(base) if ".attn2.to_v" in name)
    (change,) = whole.deltas(base)
    for word, one in zip(words, alone, strict=True):
        with merged(base, [(one, 1.0)]):
            features = base.encode_prompts([f"a photo of {word}"])[0, 4].float()
        torch.testing.assert_close(
            change[layer] @ features, one.deltas(base)[0][layer] @ features, rtol=1e-2, atol=1e-3
        )
    with injected(whole, base):
        assert whole.parameters()
    paths = studio.generation.generate(SampleConfig(prompt="a photo of zwx beside qev", steps=1), run_id=both)
    assert paths[0].is_file()
    assert len(everyday_captions("embedded")) > 100
    other = studio.training.start(
        "c_lora", to_dict(replace(CONFIG, identifier="pll", targets="attention")), photos
    )
    assert finish(studio, other) == "done"
    for chosen, sentence in (
        ([runs[0]], "at least two runs"),
        ([runs[0], runs[0]], "the trigger word 'zwx'"),
        ([runs[0], other], "more than keys and values"),
        ([runs[0], both], "holds several concepts"),
    ):
        with pytest.raises(ValueError, match=sentence):
            studio.library.merge_concepts(chosen)


@pytest.fixture
def pair(studio: Studio, tmp_path: Path) -> str:
    """The last run of a finished sequence of two concepts."""
    photos = draw_photos(tmp_path / "photos")
    first = studio.training.start(
        "c_lora", CONFIG, photos[:1], captions={photos[0].name: "a photo of {identifier}"}
    )
    second = studio.training.start(
        "c_lora", replace(CONFIG, identifier="qev"), photos[1:], parents=[first], after=[first]
    )
    assert finish(studio, second) == "done"
    return second


@pytest.mark.parametrize("key", ["sequential", "custom", "separate", "inversion", "word"])
def test_a_baseline_is_started_from_a_sequence(studio: Studio, pair: str, key: str, base: Base) -> None:
    """It learns the same words from the same photographs, shares what is the same run, and is started only once."""
    before = {card.id for card in studio.library.list_runs()}
    runs = studio.sequences.start_baseline(pair, key)
    assert len(runs) == 2
    assert [finish(studio, run_id) for run_id in runs] == ["done", "done"]
    assert studio.sequences.start_baseline(pair, key) == runs
    assert studio.sequences.start_baseline(pair, "separate")[0] in (
        {studio.sequences.tasks(pair)[0].run} if key != "separate" else runs
    )
    stored = [studio.resources.store.get(run_id) for run_id in runs]
    assert [run.config["identifier"] for run in stored] == ["zwx", "qev"]
    assert [run.parents for run in stored] == ([[], []] if key == "separate" else [[], [runs[0]]])
    assert (runs[0] in before) == (key in ("sequential", "separate")), "the first concept is the same run"
    if key == "custom":
        assert {run.config["weights"] for run in stored} == {"full"}
        assert {run.config["steps"] for run in stored} == {CONFIG.steps}, "as many as the sequence"
    if key == "word":
        assert stored[1].config["initializer"] == "dog"


def test_joint_and_merged_draw_all_concepts(studio: Studio, pair: str, base: Base) -> None:
    (joint,) = studio.sequences.start_baseline(pair, "joint")
    assert learned(studio, joint, base).concepts[0].words == ["zwx", "qev"]
    alone = studio.sequences.start_baseline(pair, "merged")
    assert [finish(studio, run_id) for run_id in alone] == ["done", "done"]
    whole = studio.sequences.start_baseline(pair, "merged")
    assert whole[:2] == alone
    assert list(learned(studio, whole[2], base).vectors()) == ["zwx", "qev"]
    assert studio.sequences.start_baseline(pair, "merged") == whole
    assert set(studio.sequences.baselines()) == set(BASELINES)
    with pytest.raises(ValueError, match="There is no baseline 'ewc'"):
        studio.sequences.start_baseline(pair, "ewc")
    with pytest.raises(ValueError, match="learned 2 concepts at once"):
        studio.sequences.start_baseline(joint, "sequential")


def test_the_runs_of_baselines_are_shown_and_exported(studio: Studio, pair: str, base: Base) -> None:
    """Charts and exports know concepts without factors, with whole layers, and several in one run."""
    runs = [studio.sequences.start_baseline(pair, key)[-1] for key in ("custom", "inversion", "joint")]
    assert [finish(studio, run_id) for run_id in runs] == ["done"] * 3
    titles = [{view["title"] for view in studio.inspection.views(run_id)} for run_id in runs]
    assert [bool(found) for found in titles] == [True, False, True]
    for run_id in runs:
        _, told = studio.import_export.verified_export(run_id, "diffusers")
        assert "zwx" in told
        assert [task.word for task in studio.sequences.tasks(run_id)]
