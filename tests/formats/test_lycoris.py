"""kohya and LyCORIS files with a separate rank and alpha per layer, compared with dense references."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pipelines.adapters.core import base_parameter, merged
from pipelines.formats.exchange import inspect_file, read_adapter
from pipelines.formats.lora import read_lora, write_kohya
from pipelines.formats.lora_keys import to_kohya
from pipelines.unet_blocks import block, kernel
from tests.tolerances import assert_close

Parts = dict[str, Tensor]
RANKS = {"In0": 4, "In1": 1, "In2": 2, "In3": 3, "Mid": 5, "Out0": 2, "Out1": 3, "Out2": 1, "Out3": 6}
ALPHAS = {"In0": 1, "In1": 8, "In2": 2, "In3": 0.5, "Mid": 5, "Out0": 16, "Out1": 3, "Out2": 0.25, "Out3": 6}


def numbers(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) / 4


def layers(base) -> dict[str, nn.Module]:
    """Return all layers that a LoCon of a UNet has, under Atelier's names."""
    return {
        f"unet.{name}": module
        for name, module in base.unet.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and block(name)
    }


def lora_parts(weight: Tensor, *, rank: int, seed: int, tucker: bool) -> tuple[Parts, Tensor]:
    """Return a layer's tensors under kohya's names, and B·A as a dense change."""
    out, into, *side = weight.shape
    if tucker:
        down, mid = numbers(rank, into, 1, 1, seed=seed), numbers(rank, rank, *side, seed=seed + 1)
        up = numbers(out, rank, 1, 1, seed=seed + 2)
        dense = torch.einsum("op,pqhw,qi->oihw", up[:, :, 0, 0], mid, down[:, :, 0, 0])
        return {"lora_down.weight": down, "lora_mid.weight": mid, "lora_up.weight": up}, dense
    down, up = numbers(rank, into, *side, seed=seed), numbers(out, rank, *[1 for _ in side], seed=seed + 2)
    dense = (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)
    return {"lora_down.weight": down, "lora_up.weight": up}, dense


def hada_parts(weight: Tensor, *, rank: int, seed: int, tucker: bool) -> tuple[Parts, Tensor]:
    """Return a LoHa of one layer as LyCORIS stores it, and its dense change as LyCORIS computes it."""
    out, into, *side = weight.shape
    halves, parts = [], {}
    for index in (1, 2):
        at = seed + 10 * index
        if tucker:
            core = numbers(rank, rank, *side, seed=at)
            first, second = numbers(rank, out, seed=at + 1), numbers(rank, into, seed=at + 2)
            parts[f"hada_t{index}"] = core
            halves.append(torch.einsum("ijhw,jr,ip->prhw", core, second, first))
        else:
            first, second = numbers(out, rank, seed=at + 1), numbers(rank, weight[0].numel(), seed=at + 2)
            halves.append((first @ second).reshape(weight.shape))
        parts |= {f"hada_w{index}_a": first, f"hada_w{index}_b": second}
    return parts, halves[0] * halves[1]


def test_a_rank_and_an_alpha_for_each_block_with_tucker_kernels(base, tmp_path: Path):
    """Every layer becomes W + alpha/r * dense; half of the blocks have Tucker kernels (3x3)."""
    tensors: Parts = {}
    expected: dict[str, Tensor] = {}
    for seed, (key, module) in enumerate(sorted(layers(base).items())):
        name, weight = block(key), module.get_parameter("weight").detach()
        tucker = weight.shape[2:] == (3, 3) and name in ("In0", "Mid", "Out0", "Out2")
        parts, dense = lora_parts(weight, rank=RANKS[name], seed=seed, tucker=tucker)
        tensors |= {f"{to_kohya(key)}.{part}": tensor for part, tensor in parts.items()}
        tensors[f"{to_kohya(key)}.alpha"] = torch.tensor(float(ALPHAS[name]))
        expected[key] = weight + ALPHAS[name] / RANKS[name] * dense
    save_file(tensors, tmp_path / "k.safetensors")
    adapter = read_adapter(tmp_path / "k.safetensors", base).adapter
    assert set(adapter.scales()) == set(expected)
    with merged(base, [(adapter, 1.0)]):
        for key, weight in expected.items():
            assert_close(base_parameter(base, f"{key}.weight"), weight)
    assert {block(key): rank for key, rank in read_lora(tmp_path / "k.safetensors").ranks.items()} == RANKS
    back = read_lora(write_kohya(tmp_path / "again.safetensors", adapter, dtype=torch.float32))
    for key, weight in expected.items():
        assert_close(layers(base)[key].get_parameter("weight").detach() + back.change(key), weight)


LAYERS = {
    "linear": ("unet.time_embedding.linear_1", (12, 10)),
    "text": ("text_encoder.encoder.layers.0.mlp.fc1", (12, 10)),
    "1x1": ("unet.mid_block.attentions.0.proj_in", (9, 11, 1, 1)),
    "3x3": ("unet.mid_block.resnets.0.conv1", (11, 9, 3, 3)),
    "down": ("unet.down_blocks.0.downsamplers.0.conv", (7, 9, 3, 3)),
    "tall": ("unet.down_blocks.0.attentions.0.transformer_blocks.0.ff.net.0.proj", (30, 5)),
}


@pytest.mark.parametrize("alpha", [None, 1.5])
@pytest.mark.parametrize("rank", [1, 2, 4])  # 16 exceeds the width of some layers
@pytest.mark.parametrize("layer", LAYERS)
def test_loha_is_the_product_of_its_halves(tmp_path: Path, layer: str, rank: int, alpha: float | None):
    key, shape = LAYERS[layer]
    weight = torch.zeros(shape)
    for tucker in (False, True) if shape[2:] == (3, 3) else (False,):
        parts, dense = hada_parts(weight, rank=rank, seed=rank, tucker=tucker)
        tensors = {f"{to_kohya(key)}.{part}": tensor for part, tensor in parts.items()}
        if alpha is not None:
            tensors[f"{to_kohya(key)}.alpha"] = torch.tensor(alpha)
        save_file(tensors, tmp_path / "k.safetensors")
        state = read_lora(tmp_path / "k.safetensors")
        assert_close(state.change(key), dense if alpha is None else alpha / rank * dense)
        assert state.ranks == {key: min(rank**2, shape[0], weight[0].numel())}
        assert inspect_file(tmp_path / "k.safetensors", base="embedded")["rank"] == rank


def test_a_loha_becomes_a_run_like_any_other_and_leaves_as_a_lora(base, tmp_path: Path):
    chosen = ("mid_block.attentions.0.proj_in", "mid_block.resnets.0.conv1", "up_blocks.0.upsamplers.0.conv")
    tensors: Parts = {}
    expected: dict[str, Tensor] = {}
    for seed, name in enumerate(chosen):
        weight = base_parameter(base, f"unet.{name}.weight").detach()
        parts, expected[f"unet.{name}"] = hada_parts(weight, rank=3, seed=seed, tucker=seed == 1)
        tensors |= {f"{to_kohya(f'unet.{name}')}.{part}": tensor for part, tensor in parts.items()}
    save_file(tensors, tmp_path / "k.safetensors")
    adapter = read_adapter(tmp_path / "k.safetensors", base).adapter
    for key, change in adapter.changes(base):
        assert_close(change, expected[key.removesuffix(".weight")])
    back = read_lora(write_kohya(tmp_path / "again.safetensors", adapter, dtype=torch.float32))
    for key, dense in expected.items():
        assert_close(back.change(key), dense)


def test_kernels_are_told_from_names(base):
    sides = {key: max([0, *module.get_parameter("weight").shape[2:]]) for key, module in layers(base).items()}
    assert sides == {key: kernel(key) for key in sides}
    assert [kernel(name) for name in ("conv_in", "conv_out", "time_embedding.linear_1")] == [3, 3, 0]


FLAT = "lora_unet_mid_block_resnets_0_conv1"
MISFITS = {
    "ranks": {"hada_w1_a": (4, 2), "hada_w1_b": (3, 9), "hada_w2_a": (4, 2), "hada_w2_b": (2, 9)},
    "halves": {"hada_w1_a": (4, 2), "hada_w1_b": (2, 9), "hada_w2_a": (5, 2), "hada_w2_b": (2, 9)},
    "kernel": {"hada_w1_a": (4, 2), "hada_w1_b": (2, 8), "hada_w2_a": (4, 2), "hada_w2_b": (2, 8)},
    "core": {"hada_w1_a": (2, 4), "hada_w1_b": (2, 5), "hada_w2_a": (2, 4), "hada_w2_b": (2, 5),
             "hada_t1": (2, 3, 3, 3), "hada_t2": (2, 2, 3, 3)},
    "flat core": {"hada_w1_a": (2, 4), "hada_w1_b": (2, 5), "hada_w2_a": (2, 4), "hada_w2_b": (2, 5),
                  "hada_t1": (2, 2), "hada_t2": (2, 2)},
    "scalars": {"hada_w1_a": (), "hada_w1_b": (), "hada_w2_a": (), "hada_w2_b": ()},
    "mid of another rank": {"lora_down.weight": (2, 5, 1, 1), "lora_mid.weight": (2, 3, 3, 3),
                            "lora_up.weight": (4, 2, 1, 1)},
    "mid of a kernel": {"lora_down.weight": (2, 5, 3, 3), "lora_mid.weight": (2, 2, 3, 3),
                        "lora_up.weight": (4, 2, 1, 1)},
    "mid": {"lora_down.weight": (2, 5, 1, 1), "lora_mid.weight": (2, 3, 3, 3), "lora_up.weight": (4, 3, 1, 1)},
}  # fmt: skip


@pytest.mark.parametrize("case", MISFITS)
def test_factors_that_do_not_fit_are_refused(tmp_path: Path, case: str):
    tensors = {f"{FLAT}.{part}": torch.ones(shape) for part, shape in MISFITS[case].items()}
    save_file(tensors, tmp_path / "k.safetensors")
    with pytest.raises(ValueError, match="do not fit together"):
        read_lora(tmp_path / "k.safetensors")


def test_half_a_loha_is_refused(tmp_path: Path):
    save_file(
        {f"{FLAT}.hada_w1_a": torch.ones(4, 2), f"{FLAT}.alpha": torch.tensor(1.0)},
        tmp_path / "k.safetensors",
    )
    with pytest.raises(ValueError, match="only one of the two factors"):
        read_lora(tmp_path / "k.safetensors")
