"""Spectral shifts: the paper's counts on SD 1.5, all forms equal the dense formula, zero shifts, limits."""

import dataclasses
import json
import math
from collections.abc import Iterator

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from pipelines.adapters import LoRA, spectral
from pipelines.adapters import spectral_arithmetic as mixing
from pipelines.adapters.core import base_parameter, injected, merged, read_tensors
from pipelines.adapters.spectral import Shift, Spectral, shifted_weights
from pipelines.adapters.svd_cache import Factors, Spectra, decompose, matrix, shard_of
from pipelines.config import ASSETS
from pipelines.formats.low_rank import low_rank, nearest_product
from pipelines.formats.svdiff import read_svdiff, write_svdiff
from pipelines.models.base import load_base
from pipelines.models.targets import SPECTRAL_TARGETS
from tests.adapters.test_contract import ROWS, disturb, predict, trained
from tests.adapters.test_lora import MetaBase
from tests.tiny import float_count
from tests.tolerances import assert_close

PAPER = {  # (tensors, values): METHODS 4.7, the paper's table of subsets
    "UNet": (391, 322_856),
    "UNet-CA": (64, 43_776),
    "UNet-CA-KV": (32, 18_816),
    "UNet-1D": (109, 100_160),
    "UNet-2D": (184, 140_416),
    "UNet-4D": (98, 82_280),
    "Up-Blocks": (219, 181_568),
    "Down-Blocks": (141, 107_072),
    "Mid-Block": (26, 32_256),
    "Up-CA": (36, 23_808),
    "Down-CA": (24, 15_872),
    "Mid-CA": (4, 4_096),
}


@pytest.fixture(scope="module")
def sd15_unet() -> nn.Module:
    config = json.loads((ASSETS / "sd1_config" / "unet" / "config.json").read_text())
    with torch.device("meta"):
        return UNet2DConditionModel.from_config(config)


@pytest.mark.parametrize("subset", SPECTRAL_TARGETS)
def test_the_papers_counts_on_sd15(sd15_unet, subset):
    found = shifted_weights(sd15_unet, subset)
    assert (len(found), float_count(sd15_unet, subset)) == PAPER[subset]


def test_the_text_encoders_count_on_sd15():
    with torch.device("meta"):
        text_encoder = CLIPTextModel(CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
                                                    num_attention_heads=12, vocab_size=49_408))  # fmt: skip
    assert float_count(text_encoder) == 75_341


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Iterator[None]:
    """One cache of decompositions for the whole module, as on a user's machine."""
    folder = tmp_path_factory.mktemp("spectra")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spectral, "cache_folder", lambda: folder)
        yield


@pytest.fixture
def wide(kept, monkeypatch) -> None:
    """Set the cost of a kernel launch to 0, similar to a GPU, so that every form is used."""
    monkeypatch.setattr(spectral, "DISPATCH", 0.0)


def hidden(base) -> list[str]:
    """Return the layers whose weight or forward pass an adapter has replaced."""
    return [
        path
        for part in (base.unet, base.text_encoder)
        for path, layer in part.named_modules()
        if {"weight", "forward"} & layer.__dict__.keys()
    ]


@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("subset", SPECTRAL_TARGETS)
@torch.no_grad()
def test_every_subset_starts_as_the_base_and_is_merged_and_removed_exactly(base, wide, subset, rank):
    untouched = predict(base)
    adapter = Spectral(subset=subset, text_encoder=subset == "UNet", rank=rank)
    with injected(adapter, base):
        assert torch.equal(predict(base), untouched)
        disturb(adapter)
        adapter.materialise()
        live = predict(base)
    assert torch.equal(predict(base), untouched)
    assert not hidden(base)
    with merged(base, [(adapter, 1.0)]):
        assert_close(predict(base), live)
    assert not torch.equal(live, untouched)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@torch.no_grad()
def test_zero_shift_of_wide_layers_is_the_base_in_half_precision(wide, dtype):
    """The shifts' products are computed in float32 and their sum is rounded once, so a zero shift adds exactly 0."""
    half = load_base("embedded", device="cpu", dtype=dtype)
    untouched = predict(half)
    for batch in (1, 64):
        with injected(Spectral(text_encoder=True, batch=batch), half) as adapter:
            assert all(
                shift.gain.dtype == torch.float32
                for shift in adapter.shifts.values()
                if shift.gain is not None
            )
            assert torch.equal(predict(half), untouched)
            disturb(adapter)
            adapter.materialise()
            assert not torch.equal(predict(half), untouched)
        assert torch.equal(predict(half), untouched)


def test_every_form_learns_what_the_others_do(base, kept, monkeypatch):
    """With the same shifts, all forms give the same output and the same gradients, also with checkpointing."""
    found = []
    for dispatch, checkpointed in ((math.inf, False), (0.0, False), (0.0, True)):
        monkeypatch.setattr(spectral, "DISPATCH", dispatch)
        adapter = filled(base, seed=6, text_encoder=True, batch=1)
        forms = {shift.form for shift in adapter.shifts.values()}
        assert forms == ({"gain", "rows", "rebuild"} | (set() if dispatch else {"output", "input", "branch"}))
        if checkpointed:
            base.unet.enable_gradient_checkpointing()
        with injected(adapter, base):
            words = base.text_encoder.get_submodule("embeddings.token_embedding")
            assert "weight" not in words.__dict__, "the table of tokens is never built"
            answer = predict(base)
            answer.square().mean().backward()
        base.unet.disable_gradient_checkpointing()
        found.append([answer.detach(), *(parameter.grad for parameter in adapter.parameters())])
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            assert_close(two, one)


@torch.no_grad()
def test_wide_shifts_act_on_the_bases_own_product_beside_a_lora(base, wide):
    """The shift acts on the base's output, not on the LoRA's, where U(ρ ∘ Uᵀy) differs. Order is irrelevant."""
    low = trained(ROWS["lora-conv-text"], base, seed=2)
    shifts = filled(base, seed=1, batch=1)
    assert sum(shift.form in ("output", "input") for shift in shifts.shifts.values()) > 50
    with merged(base, [(low, 1.0), (shifts, 1.0)]):
        expected = predict(base)
    for first, second in ((low, shifts), (shifts, low)):
        with injected(first, base), injected(second, base):
            assert_close(predict(base), expected)
    assert not hidden(base)


def layers() -> dict[str, tuple[nn.Module, torch.Tensor, tuple[str, ...]]]:
    """Return layers, each with an input and the forms that are exact for it."""
    generator = torch.Generator().manual_seed(3)
    wide, tall = nn.Linear(24, 10), nn.Linear(10, 24, bias=False)
    kernel, pointwise, strided = nn.Conv2d(6, 8, 3, padding=1), nn.Conv2d(12, 5, 1), nn.Conv2d(4, 6, 3, 2, 1)
    tokens = torch.randn(2, 7, 24, generator=generator)
    return {
        "wide": (wide, tokens, ("output", "branch")),
        "tall": (tall, tokens[..., :10], ("input", "branch")),
        "kernel": (kernel, torch.randn(2, 6, 5, 5, generator=generator), ("output", "branch")),
        "pointwise": (pointwise, torch.randn(2, 12, 4, 4, generator=generator), ("output", "branch")),
        "strided": (strided, torch.randn(2, 4, 6, 6, generator=generator), ("output", "branch")),
        "rows": (nn.Embedding(30, 9), torch.tensor([[1, 5, 5], [29, 0, 3]]), ("rows",)),
    }


def shift_of(layer: nn.Module, form: str, delta: torch.Tensor) -> Shift:
    factors = decompose(layer.get_parameter("weight"))
    found = Shift(layer, nn.Parameter(delta), form, factors)
    gain = spectral._gain(factors.values, found.parameter)
    found.gain = gain / factors.values if form in ("output", "input") else gain
    return found


@pytest.mark.parametrize("name", layers())
def test_every_form_is_the_dense_formula_with_the_same_gradient(name):
    layer, x, forms = layers()[name]
    for parameter in layer.parameters():
        parameter.requires_grad_(False)
    weight = layer.get_parameter("weight")
    factors = decompose(weight)
    delta = torch.randn(len(factors.values), generator=torch.Generator().manual_seed(1))
    dense_delta = nn.Parameter(delta.clone())
    built = (factors.left * torch.relu(factors.values + dense_delta)) @ factors.right
    state = dict(layer.named_parameters()) | {"weight": built.view(weight.shape)}
    expected = torch.func.functional_call(layer, state, (x,))
    expected.square().sum().backward()
    for form in forms:
        shift = shift_of(layer, form, delta.clone())
        actual = spectral.FORWARDS[form](shift, x)
        assert_close(actual, expected.detach())
        actual.square().sum().backward()
        assert_close(shift.parameter.grad, dense_delta.grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", layers())
@torch.no_grad()
def test_zero_shift_is_the_layer_itself_bit_for_bit(name, dtype):
    layer, x, forms = layers()[name]
    layer.to(dtype)
    x = x.to(dtype) if x.is_floating_point() else x
    expected = layer(x)
    for form in forms:
        shift = shift_of(layer, form, torch.zeros(min(matrix(layer.get_parameter("weight")).shape)))
        actual = spectral.FORWARDS[form](shift, x)
        assert torch.equal(actual, expected)
        assert not shift.gain.any()


def test_the_form_suits_the_shape_the_batch_and_the_singular_values():
    def form(layer: nn.Module, *, tokens: int, values: torch.Tensor | None = None) -> str:
        weight = layer.get_parameter("weight")
        size = min(matrix(weight).shape)
        values = torch.linspace(1.0, 0.01, size) if values is None else values
        return spectral.chosen_form(layer, weight, Factors(weight, values, weight), tokens=tokens)

    with torch.device("meta"):
        wide, tall, square = nn.Linear(768, 320), nn.Linear(320, 2560), nn.Linear(320, 320)
        kernel, narrowing = nn.Conv2d(320, 320, 3), nn.Conv2d(4, 320, 3)
        point, words = nn.Conv2d(640, 320, 1), nn.Embedding(49_408, 768)
    assert form(words, tokens=1) == "rows"
    assert (form(wide, tokens=8), form(tall, tokens=8), form(point, tokens=8)) == (
        "output",
        "input",
        "output",
    )
    assert form(kernel, tokens=64) == "output"
    assert form(wide, tokens=100_000) == "rebuild", "the more places, the sooner the weight itself is cheaper"
    assert form(narrowing, tokens=1) == "branch", "the input of a kernel has no one side"
    singular = torch.linspace(1.0, 0.0, 320)
    ill = torch.linspace(1.0, 0.9 * spectral.LEAST_RATIO, 320)
    for layer in (wide, tall, square, kernel, point):
        for values in (singular, ill, torch.zeros(320)):
            assert form(layer, tokens=8, values=values) == "branch"


@torch.no_grad()
def test_a_singular_weight_is_shifted_without_dividing_by_nought(monkeypatch):
    layer = nn.Linear(24, 10)
    layer.weight[:, 12:] = layer.weight[:, :12]
    layer.weight[5:] = layer.weight[:5]  # reduces the rank to 5
    factors = decompose(layer.weight)
    assert spectral.chosen_form(layer, layer.weight, factors, tokens=1) == "rebuild", "so small on a CPU"
    monkeypatch.setattr(spectral, "DISPATCH", 0.0)
    form = spectral.chosen_form(layer, layer.weight, factors, tokens=1)
    assert form == "branch"
    x, delta = torch.randn(3, 24, generator=torch.Generator().manual_seed(2)), torch.full((10,), 0.3)
    expected = nn.functional.linear(x, (factors.left * (factors.values + 0.3)) @ factors.right, layer.bias)
    assert_close(spectral.FORWARDS[form](shift_of(layer, form, delta), x), expected)


def test_only_the_vectors_that_a_form_needs_leave_the_file(base, wide, monkeypatch):
    asked = {}
    own = Factors.on

    def on(self, device, *, left=True, right=True):
        asked[id(self.values)] = (left, right)
        kept = own(self, torch.device("meta"), left=left, right=right)
        assert (kept.left.is_meta, kept.values.is_meta, kept.right.is_meta) == (left, True, right)
        return own(self, device, left=left, right=right)

    monkeypatch.setattr(Factors, "on", on)
    adapter = Spectral(batch=1)
    adapter.inject(base).remove()
    needs = {"output": (True, False), "input": (False, True), "branch": (True, True)}
    for shift in adapter.shifts.values():
        if shift.factors is not None and shift.form in needs:
            assert asked[id(shift.factors.values)] == needs[shift.form]


@torch.no_grad()
def test_limits_of_the_shift(base):
    key = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    adapter = Spectral(subset="UNet-2D")
    with injected(adapter, base):
        shift = adapter.shifts[key]
        values = shift.factors.values
        own = shift.layer._parameters["weight"]
        shift.parameter.copy_(-values)
        adapter.materialise()
        assert shift.layer.weight.abs().max() < 1e-5
        gone = shift.layer.weight.clone()
        shift.parameter.copy_(-3 * values)
        adapter.materialise()
        assert torch.equal(shift.layer.weight, gone)
        shift.parameter.copy_(0.5 * values)
        adapter.materialise()
        assert_close(shift.layer.weight, 1.5 * own)
    assert "weight" not in shift.layer.__dict__


@torch.no_grad()
def test_strength_scales_the_shift_inside_the_relu(base):
    adapter = Spectral(subset="Mid-CA")
    with injected(adapter, base):
        for shift in adapter.shifts.values():
            shift.parameter.copy_(-2 * shift.factors.values)
    key = next(iter(adapter.shifts))
    factors = adapter.shifts[key].factors
    half = dict(adapter.changes(base, 0.25))[f"{key}.weight"]
    assert_close(half, -0.5 * (factors.left * factors.values) @ factors.right)
    full = dict(adapter.changes(base, 1.0))[f"{key}.weight"]
    assert_close(full, -((factors.left * factors.values) @ factors.right))


def test_a_truncated_rank_moves_only_the_first_values(base):
    adapter = Spectral(subset="UNet-4D", rank=3)
    with injected(adapter, base):
        assert {len(parameter) for parameter in adapter.parameters()} <= {3}


def test_decompositions_are_kept_and_read_again(base, tmp_path, monkeypatch):
    key = "unet.mid_block.resnets.0.conv1"
    spectra, weight = Spectra(base, tmp_path), base_parameter(base, f"{key}.weight")
    first = spectra.factors(key, weight)
    spectra.keep()
    other = Spectra(base, tmp_path)
    other.factors("unet.mid_block.resnets.0.conv2", base.unet.mid_block.resnets[0].conv2.weight)
    other.keep()
    assert [path.name for path in tmp_path.rglob("*.safetensors")] == ["unet.mid_block.safetensors"]
    monkeypatch.setattr("pipelines.adapters.svd_cache.decompose", lambda weight: pytest.fail("was kept"))
    again = Spectra(base, tmp_path).factors(key, weight)
    assert torch.equal(first.left, again.left)
    assert torch.equal(first.values, again.values)
    assert again.right.data_ptr() != first.right.data_ptr()
    assert [path.name for path in tmp_path.iterdir()] == [base.hash[:24]]
    monkeypatch.undo()
    Spectra(dataclasses.replace(base, hash="f" * 64), tmp_path).factors(
        key, weight
    )  # not a cache of another base


def test_a_decomposition_that_was_stopped_goes_on_and_a_damaged_one_is_made_again(base, tmp_path):
    keys = [
        f"unet.{block}.resnets.0.{name}"
        for block in ("mid_block", "up_blocks.3")
        for name in ("conv1", "conv2")
    ]
    weights = {key: base_parameter(base, f"{key}.weight") for key in keys}
    done = []

    def stop(at: int):
        def tell(step: int, total: int) -> None:
            done.append((step, total))
            if step == at:
                raise KeyboardInterrupt

        return tell

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.adapters.svd_cache.PROGRESS_EVERY", 1)
        with pytest.raises(KeyboardInterrupt):
            Spectra(base, tmp_path).prepare(weights, stop(3))
        Spectra(base, tmp_path).prepare(weights, stop(-1))
    assert done == [(0, 4), (1, 4), (2, 4), (3, 4), (0, 1), (1, 1)]
    (tmp_path / base.hash[:24] / "unet.up_blocks.3.safetensors").write_bytes(b"torn")
    again = []
    Spectra(base, tmp_path).prepare(weights, lambda step, total: again.append((step, total)))
    assert again == [(0, 2), (2, 2)]
    assert {shard_of(key) for key in (*keys, "unet.conv_in", "text_encoder.final_layer_norm")} == {
        "unet.mid_block", "unet.up_blocks.3", "unet", "text_encoder"
    }  # fmt: skip


@torch.no_grad()
def test_a_spectral_run_and_a_lora_together_equal_their_merged_sum(base):
    shifts, low = trained(ROWS["spectral"], base, seed=1), trained(ROWS["lora-conv-text"], base, seed=2)
    with injected(low, base), injected(shifts, base):
        live = predict(base)
    with injected(shifts, base), injected(low, base):
        assert_close(predict(base), live)
    with merged(base, [(shifts, 1.0), (low, 1.0)]):
        assert_close(predict(base), live)


def filled(base, *, seed: int, **options) -> Spectral:
    """Return a spectral adapter with random shifts; it is not live."""
    adapter = Spectral(**options)
    generator = torch.Generator().manual_seed(seed)
    with injected(adapter, base), torch.no_grad():
        for parameter in adapter.parameters():
            parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    return adapter


def test_combining_is_the_papers_arithmetic(base):
    first = filled(base, seed=1, subset="Mid-CA").state_dict()
    second = filled(base, seed=2, subset="Mid-CA").state_dict()
    one_way, other_way = (
        mixing.added([(first, 1.0), (second, 0.5)]),
        mixing.added([(second, 0.5), (first, 1.0)]),
    )
    assert all(torch.equal(one_way[name], other_way[name]) for name in one_way)
    for share, expected in ((1.0, first), (0.0, second)):
        found = mixing.interpolated(first, second, share)
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    cut = mixing.truncated(first, 3)
    assert all(int(delta.count_nonzero()) == 3 for delta in cut.values())
    matrix_ = mixing.correlation([first, second, first])
    assert torch.equal(matrix_, matrix_.T)
    assert_close(matrix_[0, 2], torch.tensor(1.0))
    assert abs(matrix_[0, 1]) < 0.5


def test_style_mixing_takes_the_geometry_layers_from_one_run(base):
    geometry = filled(base, seed=1, subset="UNet-2D").state_dict()
    appearance = filled(base, seed=2, subset="UNet-2D").state_dict()
    found = mixing.style_mixed(geometry, appearance)
    assert found.keys() == geometry.keys()
    taken = {name for name in found if torch.equal(found[name], geometry[name])}
    assert taken
    assert all(name.startswith(mixing.GEOMETRY_LAYERS) for name in taken)
    assert all(torch.equal(found[name], appearance[name]) for name in found.keys() - taken)


@torch.no_grad()
def test_the_low_rank_export_states_its_error(base):
    adapter = filled(base, seed=4, subset="UNet-2D")
    changes = {name.removesuffix(".weight"): change for name, change in adapter.changes(base)}
    for rank in (4, 1000):
        found = low_rank(adapter, base, rank)
        gap = sum(
            float((changes[key] - up @ down).square().sum()) for key, (down, up) in found.factors.items()
        )
        whole = sum(float(change.square().sum()) for change in changes.values())
        assert abs((gap / whole) ** 0.5 - found.error) < 1e-3
    assert found.error == 0.0


@pytest.mark.parametrize("shape", [(9, 14), (14, 9), (7, 7)])
@torch.no_grad()
def test_the_nearest_product_is_the_truncated_decomposition(shape):
    change = torch.randn(shape, generator=torch.Generator().manual_seed(5))
    left, values, right = torch.linalg.svd(change, full_matrices=False)
    for rank in (1, 4, 99):
        down, up = nearest_product(change, rank)
        assert len(down) == min(rank, *shape)
        assert_close(up @ down, (left[:, :rank] * values[:rank]) @ right[:rank])
        assert_close(up.norm(dim=0), down.norm(dim=1))
    down, up = nearest_product(torch.zeros(shape), 2)
    assert not (up @ down).any()


@torch.no_grad()
def test_svdiff_pytorchs_files_come_back(base, tmp_path):
    adapter = filled(base, seed=5, text_encoder=True)
    written = write_svdiff(adapter, base, tmp_path)
    assert [path.name for path in written.files] == [
        "spectral_shifts.safetensors",
        "spectral_shifts_te.safetensors",
    ]
    assert 0 < written.norm_error <= 1
    unet, _ = read_tensors(written.files[0])
    assert unet.keys() == {f"{path}.delta" for path in shifted_weights(base.unet)}
    assert len(unet["conv_norm_out.delta"]) == 1
    text, _ = read_tensors(written.files[1])
    assert all(name.startswith("text_model.") for name in text)
    again = read_svdiff(dict(zip(("unet", "text_encoder"), written.files, strict=True)), base)
    mine, theirs = adapter.state_dict(), again.state_dict()
    for name, delta in mine.items():
        if base_parameter(base, name.replace(".delta", ".weight")).dim() > 1:
            assert torch.equal(delta, theirs[name])
    twice = write_svdiff(again, base, tmp_path / "twice")
    assert twice.norm_error < 1e-3
    assert_close(read_tensors(twice.files[0])[0]["conv_norm_out.delta"], unet["conv_norm_out.delta"])


@torch.no_grad()
@pytest.mark.parametrize(("share", "left"), [(0.5, 1.5), (-0.25, 0.75), (-1.0, 0.0), (-3.0, 0.0)])
def test_a_norms_single_value_scales_its_gains_and_stops_at_zero(base, tmp_path, share, left):
    """svdiff-pytorch computes a norm's weight as (ReLU(‖w‖ + δ) / ‖w‖) w. Here δ is ``share`` times ‖w‖."""
    written = write_svdiff(Spectral(), base, tmp_path)
    tensors, _ = read_tensors(written.files[0])
    own = base_parameter(base, "unet.conv_norm_out.weight").detach()
    save_file({**tensors, "conv_norm_out.delta": share * own.norm().view(1)}, written.files[0])
    delta = read_svdiff({"unet": written.files[0]}, base).state_dict()["unet.conv_norm_out.delta"]
    assert_close(own + delta, left * own)


def test_svdiff_pytorchs_sizes_on_sd15(tmp_path):
    """The written files have svdiff-pytorch's exact size in bytes: same names, same shapes, no metadata.

    svdiff-pytorch uses its own CLIPTextModel, whose layer names begin with "text_model.", and its reader accepts no
    other names. With the names of transformers 5, which lack this prefix, the file would have 234,392 bytes.
    """
    written = write_svdiff(Spectral(text_encoder=True), MetaBase(), tmp_path)  # all shifts are zero
    assert [path.stat().st_size for path in written.files] == [935_484, 235_480]
    text = load_file(written.files[1])
    assert len(text) == 99
    assert sum(delta.numel() for delta in text.values()) == 56_166
    assert all(name.startswith("text_model.") for name in text)
    save_file({name.removeprefix("text_model."): delta for name, delta in text.items()}, tmp_path / "bare")
    assert (tmp_path / "bare").stat().st_size == 234_392


def test_shifts_are_written_the_same_while_another_adapter_learns(base, tmp_path):
    adapter = filled(base, seed=5, subset="UNet-CA", text_encoder=True)
    alone = write_svdiff(adapter, base, tmp_path / "alone")
    with injected(LoRA(rank=1, targets="attention+conv", text_encoder_rank=1), base):
        beside = write_svdiff(adapter, base, tmp_path / "beside")
    assert len(alone.files) == 2, "the UNet's and the text encoder's"
    for one, other in zip(alone.files, beside.files, strict=True):
        assert one.read_bytes() == other.read_bytes()
