"""SVDiff: its trained parameters, a complete run through the Studio, and an identical result after resuming."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from pipelines.adapters.core import injected, save_adapter
from pipelines.adapters.registry import load_adapter
from pipelines.adapters.spectral import Spectral
from pipelines.config import ASSETS, SPECTRAL_RANKS, SPECTRAL_SUBSETS, SampleConfig, SVDiffConfig, to_dict
from pipelines.data.photographs import Moments
from pipelines.data.subject import Subject
from pipelines.methods.specs import METHODS
from pipelines.methods.spectral_views import by_group, by_layer, heat_map, spectrum
from pipelines.models.inspection import read_header
from pipelines.models.targets import SPECTRAL_TARGETS
from pipelines.runs.costs import SIZES, Costs
from pipelines.studio import Studio
from pipelines.training.loop import TrainState, train
from tests.tiny import TINY, draw_photos, finish, float_count, pixels, same_tensors, shop_with

METHOD = METHODS["svdiff"].load()
SHARED = {name: value for name, value in to_dict(TINY).items() if name in to_dict(SVDiffConfig())}
CONFIG = SVDiffConfig(**SHARED | {"subset": "UNet-CA", "steps": 4})
PICTURE = SampleConfig(prompt="a photo of a zwx dog", steps=2, seed=3)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


PHOTOS = Subject(
    identifier="zwx",
    class_noun="dog",
    moments=Moments(torch.randn(2, 4, 16, 16, generator=generator(1)), torch.full((2, 4, 16, 16), -6.0)),
    captions=("", ""),
    names=("a.png", "b.png"),
)
FOLDERS = {"embedded": ASSETS / "base", "sd1": ASSETS / "sd1_config"}


@pytest.mark.parametrize("family", FOLDERS)
def test_what_is_told_before_the_click_is_what_is_stored(family: str, tmp_path: Path) -> None:
    assert tuple(SPECTRAL_TARGETS) == SPECTRAL_SUBSETS
    told = json.loads((FOLDERS[family] / "unet" / "config.json").read_text())
    words = json.loads((FOLDERS[family] / "text_encoder" / "config.json").read_text())
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(told)
        text_encoder = CLIPTextModel(CLIPTextConfig(**words))
    ranks = [SVDiffConfig(singular_values=name).rank for name in SPECTRAL_RANKS]
    assert ranks == [0, 1, 4, 16, 64, 256]
    for subset in SPECTRAL_TARGETS:
        counts = tuple(float_count(unet, subset, rank) for rank in ranks)
        assert SIZES[family].shifts[subset] == counts, subset
    assert SIZES[family].text_shifts == tuple(float_count(text_encoder, rank=rank) for rank in ranks)
    costs = Costs(tmp_path)
    small, whole = (
        costs.estimate(dataclasses.replace(CONFIG, subset=subset), spec="embedded", family=family)
        for subset in ("UNet-CA-KV", "UNet")
    )
    assert whole.file_mb == pytest.approx(4e-6 * float_count(unet), abs=1e-4)
    assert small.file_mb < whole.file_mb


def test_the_adapter_is_the_chosen_subset_with_its_own_norm_rate(base) -> None:
    config = dataclasses.replace(
        CONFIG, subset="UNet-1D", text_encoder=True, norm_learning_rate=1e-4, learning_rate=1e-2,
        singular_values="4",
    )  # fmt: skip
    adapter = METHOD.adapter(base, config, ())
    assert isinstance(adapter, Spectral)
    assert (adapter.subset, adapter.text_encoder, adapter.norm_rate, adapter.rank) == (
        "UNet-1D",
        True,
        1e-2,
        4,
    )
    weights = adapter.weights(base)
    assert {key.partition(".")[0] for key in weights} == {"unet", "text_encoder"}
    assert all(weight.dim() == 1 for key, weight in weights.items() if key.startswith("unet."))


def test_norms_learn_at_their_own_rate_and_are_stored_as_what_they_move(base) -> None:
    config = dataclasses.replace(
        CONFIG, subset="UNet-1D", steps=1, max_grad_norm=0.0, norm_learning_rate=1e-4
    )
    adapter = METHOD.adapter(base, config, ())
    with injected(adapter, base):
        list(train(base, adapter, METHOD.batches(base, [PHOTOS], config), METHOD.loss, config))
        state = adapter.state_dict()
        largest = max(float(delta.abs().max()) for delta in state.values())
        assert largest == pytest.approx(1e-4, rel=1e-3), "Adam's first step"
        own = {key: weight.detach().clone() for key, weight in adapter.weights(base).items()}
    moved = dict(adapter.changes(base))
    assert all(torch.equal(moved[f"{key}.weight"], state[f"{key}.delta"]) for key in own)
    again = METHOD.adapter(base, config, ())
    with injected(again, base):
        again.load_state_dict(state)
        assert all(
            torch.equal(one, other)
            for one, other in zip(adapter.parameters(), again.parameters(), strict=True)
        )


@pytest.mark.parametrize("norm_learning_rate", [1e-6, 1e-8])
@pytest.mark.parametrize("size", [1.0, 1e-4, 1e-7], ids=lambda size: f"gradient {size:g}")
def test_norms_move_as_in_torchs_adamw_with_two_groups(base, norm_learning_rate: float, size: float) -> None:
    config = dataclasses.replace(
        CONFIG,
        subset="Mid-Block",
        steps=4,
        learning_rate=1e-3,
        norm_learning_rate=norm_learning_rate,
        max_grad_norm=0.0,
        weight_decay=0.01,
    )
    adapter = METHOD.adapter(base, config, ())
    with injected(adapter, base):
        slopes = [
            size * torch.randn(each.shape, generator=generator(place))
            for place, each in enumerate(adapter.parameters())
        ]

        def linear(denoising, adapter, config):
            pairs = zip(adapter.parameters(), slopes, strict=True)
            return {"linear": sum((each * slope).sum() for each, slope in pairs)}

        norms = {id(shift.parameter) for shift in adapter.shifts.values() if shift.form == "gain"}
        theirs = [each.detach().clone().requires_grad_(True) for each in adapter.parameters()]
        split: list[list[torch.Tensor]] = [[], []]
        for own, other, slope in zip(adapter.parameters(), theirs, slopes, strict=True):
            other.grad = slope
            split[id(own) in norms].append(other)
        optimizer = torch.optim.AdamW(
            [
                {"params": split[0], "lr": config.learning_rate},
                {"params": split[1], "lr": norm_learning_rate},
            ],
            weight_decay=config.weight_decay,
        )
        for _ in train(base, adapter, METHOD.batches(base, [PHOTOS], config), linear, config):
            optimizer.step()
        for own, other in zip(adapter.parameters(), theirs, strict=True):
            torch.testing.assert_close(own.detach(), other.detach(), rtol=1e-5, atol=0)
        moved = max(float(each.detach().abs().max()) for each in split[1])
        assert moved == pytest.approx(4 * norm_learning_rate, rel=0.1 if size < 1e-6 else 1e-3)


def before_groups(state: TrainState, adapter: Spectral, *, unit: float) -> TrainState:
    """Return a checkpoint of the old format without parameter groups: per layer, a norm's value as shift / unit."""
    norms = [shift.form == "gain" for shift in adapter.shifts.values()]
    sizes = [len(shift.parameter) for shift in adapter.shifts.values()]
    order = [
        *(place for place, norm in enumerate(norms) if not norm),
        *(p for p, norm in enumerate(norms) if norm),
    ]
    tensors = dict(state.tensors)
    for name, scale in (("exp_avg", unit), ("exp_avg_sq", unit**2)):
        pieces = tensors[f"optimizer.{name}"].split([sizes[place] for place in order])
        placed = dict(zip(order, pieces, strict=True))
        tensors[f"optimizer.{name}"] = torch.cat(
            [placed[place] * (scale if norms[place] else 1.0) for place in range(len(sizes))]
        )
    return TrainState(tensors, {**state.meta, "layout": sizes})


def test_a_checkpoint_from_before_parameter_groups_goes_on(base) -> None:
    config = dataclasses.replace(CONFIG, subset="Mid-Block", learning_rate=1e-3, norm_learning_rate=1e-6)
    batches = METHOD.batches(base, [PHOTOS], config)
    whole = METHOD.adapter(base, config, ())
    with injected(whole, base):
        for step in train(base, whole, batches, METHOD.loss, config):
            if step.index == 2:
                old = before_groups(step.state(), whole, unit=2.0**-10)
    resumed = METHOD.adapter(base, config, ())
    with injected(resumed, base):
        list(train(base, resumed, batches, METHOD.loss, config, resume=old))
    state = resumed.state_dict()
    assert all(torch.equal(state[name], value) for name, value in whole.state_dict().items())
    with injected(METHOD.adapter(base, config, ()), base) as adapter:
        other = dataclasses.replace(old, meta={**old.meta, "layout": old.meta["layout"][1:]})
        with pytest.raises(ValueError, match="another adapter or on another base"):
            next(train(base, adapter, batches, METHOD.loss, config, resume=other))


def test_a_resumed_run_is_the_run_that_was_never_stopped(base, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, subset="Mid-Block")
    batches = METHOD.batches(base, [PHOTOS], config)
    whole = METHOD.adapter(base, config, ())
    with injected(whole, base):
        for step in train(base, whole, batches, METHOD.loss, config):
            if step.index == 2:
                step.state().save(tmp_path / "checkpoint.safetensors")
    parts = METHOD.adapter(base, config, ())
    with injected(parts, base):
        resume = TrainState.load(tmp_path / "checkpoint.safetensors")
        steps = list(train(base, parts, batches, METHOD.loss, config, resume=resume))
    assert [step.index for step in steps] == [3, 4]
    state = parts.state_dict()
    assert all(torch.equal(state[name], value) for name, value in whole.state_dict().items())
    assert any(value.any() for value in state.values())


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory: pytest.TempPathFactory):
    """A Studio and its finished run of four steps."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("svdiff")
        patch.setenv("ATELIER_HOME", str(folder))
        studio = Studio(folder, model_cache=shop_with(base))
        run_id = studio.training.start("svdiff", CONFIG, draw_photos(folder / "photos"), name="Rex")
        finish(studio, run_id)
        yield studio, run_id
        studio.close()


def test_a_run_takes_the_weights_apart_once_and_ends_with_its_shifts(trained, base) -> None:
    studio, run_id = trained
    events = studio.training.status(run_id)["events"]
    told = [
        event for event in events if event["kind"] == "stage" and event["name"] == "Taking the weights apart"
    ]
    assert (told[0]["done"], told[-1]["done"], told[-1]["total"]) == (0, 64, 64)
    path = studio.resources.store.get(run_id).file("adapter.safetensors")
    header = read_header(path)
    assert sum(name.endswith(".delta") for name in header) == 64
    assert header["__metadata__"]["subset"] == "UNet-CA"
    (row,) = studio.library.list_runs()
    assert row.trainable == SIZES["embedded"].shifts["UNet-CA"][0]
    assert any(delta.any() for delta in load_adapter(path, base).state_dict().values())


def test_strength_zero_is_the_base_and_strength_one_is_not(trained) -> None:
    studio, run_id = trained
    before, after = studio.generation.generate(PICTURE, run_id=run_id, before_after=True)
    (nothing,) = studio.generation.generate(PICTURE, run_id=run_id, strength=0.0)
    assert pixels(nothing) == pixels(before) != pixels(after)


FORMATS = ("safetensors", "diffusers", "peft", "kohya", "svdiff")


@pytest.mark.parametrize("format", FORMATS)
def test_a_run_leaves_for_every_program_and_its_reader_reads_it(trained, format: str) -> None:
    studio, run_id = trained
    told = studio.import_export.verified_export(run_id, format, rank=3)[1]
    assert told.startswith("64/64" if format in ("safetensors", "svdiff") else "128/128")
    assert ("a rank-3 LoRA (approximation error" in told) == (format in ("diffusers", "peft", "kohya"))


def test_shifts_of_every_kind_of_weight_leave_as_a_lora_that_says_what_it_lacks(base, tmp_path: Path) -> None:
    adapter = Spectral(subset="UNet", text_encoder=True)
    with injected(adapter, base), torch.no_grad():
        for index, parameter in enumerate(adapter.parameters()):
            parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator(index)))
    studio = Studio(tmp_path / "data", model_cache=shop_with(base))
    about = {"spec": "embedded", "family": "embedded", "hash": base.hash, "name": base.name}
    with studio.resources.store.draft("svdiff", to_dict(CONFIG), about, name="Whole") as run:
        save_adapter(run.file("adapter.safetensors"), adapter, extra={})
        run.append("state", state="done", message="")
    for format in ("diffusers", "kohya", "svdiff"):
        told = studio.import_export.verified_export(run.id, format, rank=1000)[1]
        if format == "svdiff":
            assert "one value for each norm loses" in told
        else:
            assert "approximation error 0.0%" in told
            assert "in parameters that a LoRA cannot store" in told
    packed = studio.import_export.export(run.id, "svdiff")
    assert packed.suffix == ".zip"
    assert studio.import_export.inspect_lora(packed)["format"] == "svdiff"
    assert studio.import_export.inspect_lora(packed)["problem"] == ""
    again = studio.import_export.import_lora(packed, name="Back")
    theirs = load_adapter(studio.resources.store.get(again).file("adapter.safetensors"), base).state_dict()
    matrices = [key for key, shift in adapter.shifts.items() if shift.factors is not None]
    assert all(torch.equal(theirs[f"{key}.delta"], adapter.state_dict()[f"{key}.delta"]) for key in matrices)
    own = studio.import_export.import_lora(studio.import_export.export(run.id))
    assert same_tensors(
        *(studio.resources.store.get(one).file("adapter.safetensors") for one in (own, run.id))
    )
    studio.close()


def test_shifts_that_do_not_fit_are_refused_in_a_sentence(base, tmp_path: Path) -> None:
    studio = Studio(tmp_path / "data", model_cache=shop_with(base))
    words, wide, wild = (tmp_path / f"{name}.safetensors" for name in ("words", "wide", "wild"))
    save_file({"text_model.final_layer_norm.delta": torch.zeros(1)}, words)
    save_file({"conv_in.delta": torch.zeros(320)}, wide)
    save_file({"conv_out.delta": torch.full((4,), torch.nan)}, wild)
    with pytest.raises(ValueError, match="text encoder alone"):
        studio.import_export.import_lora(words)
    assert "do not fit this base" in studio.import_export.inspect_lora(wide)["problem"]
    with pytest.raises(ValueError, match="do not fit this base"):
        studio.import_export.import_lora(wide)
    with pytest.raises(ValueError, match="not finite"):
        studio.import_export.import_lora(wild)
    assert studio.library.list_runs() == []
    studio.close()


def test_views_say_which_singular_values_moved(base) -> None:
    adapter = Spectral(subset="UNet")
    key = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_q"
    with injected(adapter, base), torch.no_grad():
        adapter.shifts[key].parameter[0] = 2.0
    state = adapter.state_dict()
    heat = heat_map(state)
    assert all(len(row) == len(heat.columns) for row in heat.cells)
    moved = [(heat.rows[y], x) for y, row in enumerate(heat.cells) for x, value in enumerate(row) if value]
    assert moved == [("Mid, cross-attention", 0)], "the largest one of one layer"
    layers = by_layer(state)
    moved = {
        (layers.rows[y], x) for y, row in enumerate(layers.cells) for x, value in enumerate(row) if value
    }
    assert moved == {(key, 0)}
    assert set(layers.rows) == {name for name, shift in adapter.shifts.items() if shift.factors is not None}
    bars = by_group(state).values
    assert {label for label, value in bars.items() if value} == {"Mid"}
    assert "Mid, norms" in bars
    view = spectrum(adapter, key, scale=0.5)
    before, after = view.lines["before"], view.lines["after"]
    assert (before, after[1:]) == (sorted(before, reverse=True), before[1:])
    assert after[0] == pytest.approx(before[0] + 1.0, rel=1e-5)
    with pytest.raises(ValueError, match="no trained singular values"):
        spectrum(adapter, "unet.conv_norm_out")


def test_the_studio_tells_views_layers_spectra_and_likeness(trained) -> None:
    studio, run_id = trained
    assert [view["kind"] for view in studio.inspection.views(run_id)] == ["heat", "bars", "heat"]
    layers = studio.inspection.shifted_layers(run_id)
    assert len(layers) == 64
    view = studio.inspection.spectrum(run_id, layers[0])
    assert view["lines"]["before"] != view["lines"]["after"]
    again = studio.import_export.import_lora(studio.import_export.export(run_id), name="Again")
    alike = studio.inspection.correlation([run_id, again])
    assert alike["rows"] == ["Rex", "Again"]
    assert alike["cells"][0][1] == pytest.approx(1.0, abs=1e-5)
    assert studio.inspection.views(again) == studio.inspection.views(run_id)
    with pytest.raises(ValueError, match="at least two"):
        studio.inspection.correlation([run_id])
    studio.library.delete(again)


def test_the_diagonal_tells_two_learning_rates_of_one_subject(trained, base, tmp_path: Path) -> None:
    """As in the paper, each row of the matrix is a subject: two runs on the same photographs share a row."""
    studio, _ = trained
    about = {"spec": "embedded", "family": "embedded", "hash": base.hash, "name": base.name}
    adapter = Spectral(subset="Mid-CA")
    adapter.inject(base).remove()
    directions = {"one": (1.0, 0.0), "two": (0.6, 0.8), "other": (0.0, 1.0)}
    made = {}
    for name, (first, second) in directions.items():
        with torch.no_grad():
            for parameter in adapter.parameters():
                parameter.zero_()
                parameter[:2] = torch.tensor([first, second])
        config = to_dict(CONFIG) | {"learning_rate": 0.003 if name == "two" else 0.001}
        with studio.resources.store.draft("svdiff", config, about, name=name) as run:
            (run.path / "photos").mkdir()
            (run.path / "photos" / "00.png").write_bytes(b"another" if name == "other" else b"same")
            save_adapter(run.file("adapter.safetensors"), adapter, extra={})
            run.append("state", state="done", message="")
        made[name] = run.id
    alike = studio.inspection.correlation(list(made.values()))
    assert alike["rows"] == alike["columns"] == ["one / two", "other"]
    assert [value for row in alike["cells"] for value in row] == pytest.approx([0.6, 0.4, 0.4, 1.0])
    assert "different learning rates" in alike["help"]
    pair = studio.inspection.correlation([made["one"], made["two"]])
    assert pair["rows"] == ["one", "two"], "of one subject alone run by run"
    for run_id in made.values():
        studio.library.delete(run_id)


def test_runs_are_combined_into_one_that_draws_like_any_other(trained, base) -> None:
    studio, run_id = trained

    def state(one: str) -> dict[str, torch.Tensor]:
        return load_adapter(studio.resources.store.get(one).file("adapter.safetensors"), base).state_dict()

    own = state(run_id)
    made = {
        "twice": studio.library.combine([run_id, run_id], how="add", name="twice"),
        "between": studio.library.combine([run_id, run_id], how="interpolate", share=0.25),
        "style": studio.library.combine([run_id, run_id], how="style"),
        "cut": studio.library.combine([run_id], how="truncate", rank=4),
    }
    assert all(torch.equal(delta, 2 * own[name]) for name, delta in state(made["twice"]).items())
    for name in ("between", "style"):
        assert all(torch.allclose(delta, own[key]) for key, delta in state(made[name]).items())
    cut = state(made["cut"])
    assert all(torch.equal(delta[:4], own[name][:4]) for name, delta in cut.items())
    assert not any(delta[4:].any() for delta in cut.values())
    assert any(delta[4:].any() for delta in own.values())
    (one,), (double,) = (
        studio.generation.generate(PICTURE, run_id=which) for which in (run_id, made["twice"])
    )
    (doubled,) = studio.generation.generate(PICTURE, run_id=run_id, strength=2.0)
    assert pixels(double) == pixels(doubled) != pixels(one)
    card = next(row for row in studio.library.list_runs() if row.id == made["twice"])
    assert (card.name, card.source, card.kind) == ("twice", "mixed", "spectral")
    for how, count, sentence in (
        ("add", 1, "takes 2 to 8 runs"),
        ("blend", 2, "not by"),
        ("truncate", 2, "takes 1"),
    ):
        with pytest.raises(ValueError, match=sentence):
            studio.library.combine([run_id] * count, how=how)
    with pytest.raises(ValueError, match="between 0 and 1"):
        studio.library.combine([run_id] * 2, how="interpolate", share=1.5)
    for one in made.values():
        studio.library.delete(one)
