"""Strengths per block: live equals merged, and blocks that diffusers' own ``set_adapters`` cannot scale are scaled."""

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from peft.tuners.lora import LoraLayer

from pipelines.adapters import Full, LoRA, Spectral
from pipelines.adapters.core import base_parameter, merged
from pipelines.config import ASSETS
from pipelines.formats.lora import write_diffusers
from pipelines.models.base import Base
from pipelines.unet_blocks import BLOCKS, BlockStrengths, block
from tests.adapters.test_contract import trained
from tests.tolerances import assert_close

MIXED = BlockStrengths.of_blocks(dict(zip(BLOCKS, (0, 0.5, 1, 2, 0, 1.5, 0.25, 0, 1), strict=True)), text=0.5)
NOTHING = BlockStrengths.parse(",".join(["0"] * 26))
EVERYTHING = BlockStrengths.parse(",".join(["1"] * 26))


def locon() -> LoRA:
    return LoRA(rank=2, alpha=1.0, targets="attention+conv", text_encoder_rank=1)


@pytest.mark.parametrize(
    "make", [locon, lambda: Full(), lambda: Spectral(subset="UNet-4D")], ids=["lora", "full", "spectral"]
)
@torch.no_grad()
def test_each_layer_is_changed_by_its_blocks_strength(base: Base, make):
    adapter = trained(make, base)
    whole = {key: change.clone() for key, change in adapter.changes(base)}
    found = dict(adapter.changes(base, MIXED))
    assert found.keys() == {key for key in whole if MIXED.at(key)}
    assert {block(key) for key in found} >= {"In1", "In3", "Out0", "Out3"}
    if adapter.kind != "spectral":  # ReLU(σ + sδ) is not linear in s
        for key, change in found.items():
            assert_close(change, MIXED.at(key) * whole[key])
    ones = dict(adapter.changes(base, EVERYTHING))
    assert all(torch.equal(ones[key], change) for key, change in whole.items())
    with merged(base, [(adapter, NOTHING)]):
        assert not list(adapter.changes(base, NOTHING))
    before = base_parameter(base, "unet.mid_block.resnets.0.conv1.weight").detach()
    with merged(base, [(adapter, MIXED)]):
        assert torch.equal(base_parameter(base, "unet.mid_block.resnets.0.conv1.weight"), before)
        assert not torch.equal(
            base_parameter(base, "unet.up_blocks.0.resnets.0.conv1.weight"),
            base_parameter(base, "unet.up_blocks.0.resnets.1.conv1.weight"),
        )


def diffusers_strengths(unet: torch.nn.Module) -> dict[str, float]:
    return {
        f"unet.{name}": layer.scaling["locon"]
        for name, layer in unet.named_modules()
        if isinstance(layer, LoraLayer)
    }


def test_diffusers_leaves_blocks_at_one_that_our_map_reaches(base: Base, tmp_path: Path):
    """Strengths in diffusers: the reference for blocks with attention; it leaves all other blocks at 1."""
    adapter = trained(lambda: LoRA(rank=2, targets="attention+conv"), base)
    write_diffusers(tmp_path / "locon.safetensors", adapter)
    pipe = StableDiffusionPipeline.from_pretrained(ASSETS / "base", torch_dtype=torch.float32)
    pipe.load_lora_weights(tmp_path, weight_name="locon.safetensors", adapter_name="locon")
    chosen = {"In0": 0.25, "In1": 0.5, "In2": 0.75, "Mid": 0.5, "Out1": 0.5, "Out2": 0.25, "Out3": 0.0}
    theirs = {
        "down": {f"block_{index}": chosen[f"In{index}"] for index in range(3)},
        "mid": chosen["Mid"],
        "up": {f"block_{index}": chosen[f"Out{index}"] for index in range(1, 4)},
    }
    pipe.set_adapters("locon", {"unet": theirs})
    ours = BlockStrengths.of_blocks(chosen | {"In3": 0.0, "Out0": 0.0})
    found = diffusers_strengths(pipe.unet)
    attention = [key for key in found if ".attentions." in key]
    assert len(attention) == 192
    assert {key: found[key] for key in attention} == {key: ours.at(key) for key in attention}
    left = {key: found[key] for key in found if block(key) in ("In3", "Out0") or "mid_block.resnets" in key}
    assert set(left.values()) == {1.0}
    assert all(ours.at(key) != 1.0 for key in left)
