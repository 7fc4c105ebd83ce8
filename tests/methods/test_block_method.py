"""Block-wise LoRA as a method: its settings, its cost, a run from start to exported file, and its views."""

from dataclasses import replace
from pathlib import Path

import pytest
from safetensors import safe_open

from pipelines.adapters.block_lora import planned_ranks
from pipelines.config import BlockLoRAConfig, SampleConfig, from_dict, to_dict
from pipelines.formats.lora import read_lora
from pipelines.methods.specs import METHODS, preset, preset_names
from pipelines.models.base import Base
from pipelines.runs.costs import SIZES, trained_values
from pipelines.studio import Studio
from pipelines.unet_blocks import BLOCKS, BlockPlan, block
from tests.adapters.test_lora import MetaBase
from tests.tiny import TINY, draw_photos, finish, pixels, same_tensors, shop_with

SHARED = {name: value for name, value in to_dict(TINY).items() if name in to_dict(BlockLoRAConfig())}
UPPER = from_dict(BlockLoRAConfig, {**SHARED, "part": "upper", "rank": 2, "conv_rank": 1})


def test_lists_of_ones_own_take_the_place_of_a_part() -> None:
    assert UPPER.plan == BlockPlan((2, 0, 0, 0, 0, 0, 0, 0, 2), (1, 0, 0, 0, 0, 0, 0, 0, 1))
    own = replace(UPPER, ranks="1, 2,3,4,5,6,7,8,9")
    assert own.plan == BlockPlan((1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 0, 0, 0, 0, 0, 0, 0, 1))
    assert replace(own, conv_ranks="0,0,0,0,0,0,0,0,0").plan.conv_ranks == (0,) * 9


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"rank": 0, "conv_rank": 0}, "Every block has rank 0"),
        ({"ranks": "1,2,3"}, "Rank of each block has 3 values; write nine"),
        ({"conv_ranks": "1,2,3,4,5,6,7,8,x"}, "Convolution rank of each block holds 'x'"),
        ({"part": "left"}, "Blocks must be one of all, upper, middle, bottom"),
        ({"conv_rank": 129}, "the largest allowed is 128"),
    ],
)
def test_ranks_that_cannot_be_meant_are_refused(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        from_dict(BlockLoRAConfig, {**to_dict(UPPER), **changes})
    assert replace(UPPER, rank=0, conv_rank=0, text_encoder=True).plan.ranks == (0,) * 9


def test_the_cost_counts_what_will_be_trained(base: Base) -> None:
    """The predicted parameter count equals that of the real layers, on both families and for mixed ranks."""
    plan = "5,0,2,1,3,0,4,1,2"
    for family, made in (("embedded", base), ("sd1", MetaBase())):
        for conv_plan in ("2,1,0,3,0,5,0,1,4", "0,0,0,0,0,0,0,0,0"):
            config = replace(UPPER, ranks=plan, conv_ranks=conv_plan, text_encoder=True, text_encoder_rank=3)
            counted = 0
            for key, rank in planned_ranks(made, config.plan, text_encoder_rank=3).items():
                prefix, _, path = key.partition(".")
                weight = made.module(prefix).get_submodule(path).get_parameter("weight")
                counted += rank * (weight.shape[0] + weight[0].numel())
            told = 1e6 * trained_values(config, size=SIZES[family])
            assert told == pytest.approx(counted, rel=2e-3)  # the text encoder's count is rounded


@pytest.mark.parametrize("family", ["embedded", "sd1"])
def test_presets_name_blocks_and_what_they_cost(family: str) -> None:
    presets = {name: preset("block_lora", family, name) for name in preset_names("block_lora", family)}
    upper = {name for name, config in presets.items() if config.part == "upper"}
    assert upper
    whole, style = (
        trained_values(
            next(config for name, config in presets.items() if (name in upper) == part), size=SIZES[family]
        )
        for part in (False, True)
    )
    assert 0 < style < whole


@pytest.fixture(scope="module")
def studio(base: Base, tmp_path_factory: pytest.TempPathFactory):
    made = Studio(tmp_path_factory.mktemp("studio"), model_cache=shop_with(base))
    yield made
    made.close()


def test_a_run_from_photographs_to_files(studio: Studio, tmp_path: Path) -> None:
    """Train, save, generate, export and import; the same seed gives the same run."""
    photos = draw_photos(tmp_path / "photos")
    run_id, again = (studio.training.start("block_lora", UPPER, photos) for _ in range(2))
    assert (finish(studio, run_id), finish(studio, again)) == ("done", "done")
    path, other = (studio.resources.store.get(each).file("adapter.safetensors") for each in (run_id, again))
    assert same_tensors(path, other)
    with safe_open(path, framework="pt") as file:
        keys, header = list(file.keys()), file.metadata()
    assert header["kind"] == "lora"
    assert {block(key) for key in keys} == {"In0", "Out3"}
    assert {len(file_rank) for file_rank in read_lora(path).tensors.values() if file_rank.dim() == 2} >= {2}
    terms = [event["terms"] for event in studio.training.status(run_id)["events"] if event["kind"] == "step"]
    assert len(terms) == 2
    asked = SampleConfig(prompt="a {identifier} {class_noun}", steps=2, size_px=64)
    before, after = studio.generation.generate(asked, run_id=run_id, before_after=True)
    assert pixels(before) != pixels(after)
    middle = [{"run": run_id, "blocks": "0,1,1,1,1,1,1,1,0"}]  # blocks in which this run has no layers
    assert pixels(studio.generation.generate(asked, stack=middle)[0]) == pixels(before)
    for format in ("kohya", "diffusers", "peft"):
        assert "keys, largest difference" in studio.import_export.verified_export(run_id, format)[1]
    studio.generation.contributions(run_id, asked)
    moved, made = studio.inspection.views(run_id)
    assert {name for name, value in moved["values"].items() if value > 0} == {"In0", "Out3"}
    assert (made["kind"], list(made["values"])) == ("unet", list(BLOCKS))
    assert "seed 0" in made["help"]


def test_its_row_has_the_terms_of_dreambooth() -> None:
    method = METHODS["block_lora"]
    assert method.load().loss is METHODS["dreambooth"].load().loss
    assert method.config is BlockLoRAConfig
