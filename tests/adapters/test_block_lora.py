"""Block-wise LoRA: counts per block, rank 0 leaves a block unchanged, initial state equals LoCon's."""

from collections import Counter

import pytest
import torch

from pipelines.adapters import LoRA
from pipelines.adapters.block_lora import block_lora, planned_ranks
from pipelines.adapters.core import injected, merged, save_adapter
from pipelines.adapters.registry import load_adapter
from pipelines.unet_blocks import BLOCKS, PARTS, BlockPlan, block, parse_ranks
from tests.adapters.test_contract import disturb, names, predict
from tests.adapters.test_lora import MetaBase
from tests.tolerances import assert_close

# Per block at rank 1: (LoRA layers, LoRA values, added LoCon layers, added LoCon values, values in 3x3 kernels).
COUNTS = {
    "In0": (24, 23_552, 7, 19_200, 16_000),
    "In1": (24, 44_032, 8, 33_920, 29_120),
    "In2": (24, 84_992, 8, 65_280, 58_240),
    "In3": (0, 0, 6, 56_320, 51_200),
    "Mid": (12, 42_496, 6, 56_320, 51_200),
    "Out0": (0, 0, 13, 143_360, 124_160),
    "Out1": (36, 127_488, 13, 136_960, 118_400),
    "Out2": (36, 66_048, 13, 76_800, 64_960),
    "Out3": (36, 35_328, 12, 38_720, 30_720),
}
PART_NUMBERS = {"all": 423_936, "upper": 58_880, "middle": 110_080, "bottom": 212_480}  # LoRA, rank 1
PART_LOCON = {"all": 1_050_816, "upper": 116_800, "middle": 220_800, "bottom": 414_720}


@pytest.fixture(scope="module")
def sd15() -> MetaBase:
    return MetaBase()


def numbers(lora: LoRA, base) -> dict[str, int]:
    """Return the number of trained values per layer."""
    lora.inject(base).remove()
    found: Counter[str] = Counter()
    for name, value in lora._named_parameters().items():
        found[name.partition(".lora_")[0]] += value.numel()
    return dict(found)


@pytest.fixture(scope="module")
def plain(sd15) -> dict[str, int]:
    return numbers(block_lora(sd15, BlockPlan.of_part("all", rank=1, conv_rank=0)), sd15)


@pytest.fixture(scope="module")
def locon(sd15) -> dict[str, int]:
    return numbers(block_lora(sd15, BlockPlan.of_part("all", rank=1, conv_rank=1)), sd15)


@pytest.mark.parametrize("name", BLOCKS)
def test_counts_of_every_block_of_stable_diffusion(plain, locon, name):
    layers, floats, extra_layers, extra, three_by_three = COUNTS[name]
    lora = [value for key, value in plain.items() if block(key) == name]
    both = [value for key, value in locon.items() if block(key) == name]
    assert (len(lora), sum(lora)) == (layers, floats)
    assert (len(both), sum(both)) == (layers + extra_layers, floats + extra)
    kernels = [key for key in locon if block(key) == name and key.endswith(("conv1", "conv2", ".conv"))]
    assert sum(locon[key] for key in kernels) == three_by_three


def test_ranks_multiply_their_own_part(sd15):
    """The size of the 3x3 part scales with the convolution rank, everything else with the rank."""
    found = numbers(block_lora(sd15, BlockPlan(ranks=(2,) * 9, conv_ranks=(3,) * 9)), sd15)
    for name, (_, floats, _, extra, three_by_three) in COUNTS.items():
        mine = sum(value for key, value in found.items() if block(key) == name)
        assert mine == 2 * (floats + extra - three_by_three) + 3 * three_by_three


@pytest.mark.parametrize("part", PARTS)
def test_parts_of_the_unet(sd15, plain, locon, part):
    for conv_rank, known, total in ((0, plain, PART_NUMBERS), (1, locon, PART_LOCON)):
        chosen = planned_ranks(sd15, BlockPlan.of_part(part, rank=1, conv_rank=conv_rank))
        assert {block(key) for key in chosen} <= set(PARTS[part])
        assert sum(known[key] for key in chosen) == total[part]


def test_the_same_ranks_everywhere_are_plain_locon_with_the_same_start(base):
    ours = block_lora(base, BlockPlan.of_part("all", rank=4, conv_rank=4), seed=9)
    plain = LoRA(rank=4, targets="attention+conv", seed=9)
    for lora in (ours, plain):
        lora.inject(base).remove()
    mine, theirs = ours.state_dict(), plain.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert ours.scales() == plain.scales()


def test_rank_nought_everywhere_is_the_base(base, tmp_path):
    with torch.no_grad():
        untouched = predict(base)
        nothing = block_lora(base, BlockPlan.of_part("all", rank=0, conv_rank=0))
        before = names(base)
        with injected(nothing, base):
            assert names(base) == before
            assert torch.equal(predict(base), untouched)
        with merged(base, [(nothing, 1.0)]):
            assert torch.equal(predict(base), untouched)
    assert (nothing.parameters(), nothing.state_dict()) == ([], {})
    save_adapter(tmp_path / "adapter.safetensors", nothing, extra={})
    assert load_adapter(tmp_path / "adapter.safetensors", base).state_dict() == {}


PLANS = {part: BlockPlan.of_part(part, rank=2, conv_rank=1) for part in PARTS} | {
    "linear": BlockPlan.of_part("all", rank=2, conv_rank=0),
    "kernels": BlockPlan(ranks=(0,) * 9, conv_ranks=(1, 2, 0, 1, 3, 2, 0, 1, 0)),
    "mixed": BlockPlan(ranks=(1, 0, 3, 2, 0, 4, 0, 2, 1), conv_ranks=(0, 0, 2, 1, 3, 0, 1, 0, 2)),
}


@pytest.mark.parametrize("name", PLANS)
@torch.no_grad()
def test_every_plan_starts_as_the_base_and_is_merged_and_removed_exactly(base, name):
    untouched, modules = predict(base), names(base)
    lora = block_lora(base, PLANS[name], text_encoder_rank=2)
    with injected(lora, base):
        assert torch.equal(predict(base), untouched)
        disturb(lora)
        live = predict(base)
    assert torch.equal(predict(base), untouched)
    assert names(base) == modules
    with merged(base, [(lora, 1.0)]):
        assert_close(predict(base), live)
    assert not torch.equal(live, untouched)


def test_a_block_of_rank_nought_has_no_module_no_key_and_no_gradient(base):
    plan = BlockPlan(ranks=(2, 0, 1, 0, 0, 0, 0, 3, 0), conv_ranks=(0, 0, 2, 0, 0, 1, 0, 0, 0))
    lora = block_lora(base, plan, text_encoder_rank=2)
    with injected(lora, base):
        disturb(lora)
        predict(base).square().mean().backward()
        assert all(parameter.grad is not None for parameter in lora.parameters())
        assert all(value.grad is None for name, value in base.unet.named_parameters() if "lora_" not in name)
        wrapped = {block(name) for name, _ in base.unet.named_modules() if name.endswith(".base_layer")}
    assert wrapped == {"In0", "In2", "Out0", "Out2"}
    found = {block(key) for key in lora.state_dict() if key.startswith("unet.")}
    assert found == wrapped
    ranks = {key: len(value) for key, value in lora.state_dict().items() if "lora_A" in key}
    assert {rank for key, rank in ranks.items() if block(key) == "In2"} == {1, 2}
    assert {rank for key, rank in ranks.items() if block(key) == "Out0"} == {1}
    assert {rank for key, rank in ranks.items() if key.startswith("text_encoder.")} == {2}


def test_out0_with_a_convolution_rank_alone_has_only_its_kernels(base):
    plan = BlockPlan(ranks=(0,) * 9, conv_ranks=(0, 0, 0, 0, 0, 4, 0, 0, 0))
    kernels = planned_ranks(base, plan)
    assert len(kernels) == 7  # two in each of three resnets, and one in the upsampler
    assert all(key.endswith(("conv1", "conv2", ".conv")) for key in kernels)


def test_ranks_that_are_meant_for_another_base_are_refused(base):
    with pytest.raises(ValueError, match=r"attic should get rank 2 and gets 0"):
        LoRA(ranks={"unet.attic": 2, "unet.conv_in": 2}).inject(base)
    assert not any(name.endswith("base_layer") for name, _ in base.unet.named_modules())


def test_a_plan_is_made_the_same_while_another_adapter_is_live(base):
    plan = BlockPlan.of_part("upper", rank=2, conv_rank=1)
    alone = planned_ranks(base, plan, text_encoder_rank=1)
    below = LoRA(rank=1, targets="attention+conv", text_encoder_rank=1)
    with injected(below, base), injected(LoRA(rank=1, text_encoder_rank=1), base):
        assert planned_ranks(base, plan, text_encoder_rank=1) == alone


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("1,2", "has 2 values; write nine"), ("1,2,3,4,5,6,7,8,-9", "'-9'"), ("1,1,1,1,1,1,1,1,129", "'129'")],
)
def test_impossible_lists_of_ranks_are_refused(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        parse_ranks(text, label="Ranks")
    with pytest.raises(ValueError, match="no part 'attic'"):
        BlockPlan.of_part("attic", rank=1, conv_rank=1)
