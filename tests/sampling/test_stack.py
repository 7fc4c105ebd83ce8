"""Several runs in one picture, a strength for each of their blocks, and the contribution of each block."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from pipelines.adapters.block_lora import block_lora
from pipelines.adapters.core import Adapter, injected, save_adapter
from pipelines.config import SampleConfig, fill_words
from pipelines.models.base import Base
from pipelines.runs.store import RunStore
from pipelines.sampling.block_ablation import measure_blocks
from pipelines.sampling.sample import sample
from pipelines.sampling.stack import asked_stack, common_base
from pipelines.studio import Studio
from pipelines.unet_blocks import BLOCKS, BlockPlan, BlockStrengths
from tests.tiny import pixels, shop_with

PICTURE = SampleConfig(prompt="a photo of a {identifier} {class_noun}", steps=2, seed=5, size_px=64)
WORDS = {"character": ("zwx", "dog"), "style": ("qrt", "")}
PARTS = {"character": "all", "style": "upper"}


@pytest.fixture(scope="module")
def adapters(base: Base) -> dict[str, Adapter]:
    """A LoCon in every block and one in the upper part only; both change the picture visibly."""
    made = {}
    for seed, (name, part) in enumerate(PARTS.items()):
        adapter = block_lora(base, BlockPlan.of_part(part, rank=2, conv_rank=1), seed=seed)
        generator = torch.Generator().manual_seed(seed)
        with injected(adapter, base):
            for parameter in adapter.parameters():
                parameter.data.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
        made[name] = adapter
    return made


@pytest.fixture(scope="module")
def studio(
    base: Base, adapters: dict[str, Adapter], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Studio]:
    made = Studio(tmp_path_factory.mktemp("studio"), model_cache=shop_with(base))
    about = {"spec": base.spec, "family": base.family, "hash": base.hash, "name": base.name}
    for name, adapter in adapters.items():
        identifier, noun = WORDS[name]
        config = {"identifier": identifier, "class_noun": noun}
        with made.resources.store.draft("import", config, about, name=name) as run:
            save_adapter(run.file("adapter.safetensors"), adapter, extra={"config": config})
            run.append("state", state="done", message="")
    yield made
    made.close()


def ids(studio: Studio) -> dict[str, str]:
    return {row.name: row.id for row in studio.library.list_runs()}


def test_a_character_and_a_style_each_at_its_strength(studio: Studio, base: Base, adapters) -> None:
    run = ids(studio)
    blocks = "1,0,0,0,0.5,0,0,0,2"
    stack = [{"run": run["character"], "strength": 0.75}, {"run": run["style"], "blocks": blocks}]
    before, after = studio.generation.generate(PICTURE, stack=stack, before_after=True)
    asked = replace(PICTURE, prompt=fill_words(PICTURE.prompt, identifier="zwx", class_noun="dog"))
    expected = [(adapters["character"], 0.75), (adapters["style"], BlockStrengths.parse(blocks))]
    assert pixels(after) == sample(base, expected, asked).images[0].tobytes()
    assert pixels(before) == sample(base, [], asked).images[0].tobytes()
    found = studio.generation.recall(after)
    whole = BlockStrengths.parse(blocks).format(26)
    assert found["stack"] == [
        {"run": run["character"], "name": "character", "strength": 0.75},
        {"run": run["style"], "name": "style", "strength": 1.0, "blocks": whole},
    ]
    again = [
        {key: entry[key] for key in ("run", "strength", "blocks") if key in entry} for entry in found["stack"]
    ]
    assert pixels(studio.generation.generate(SampleConfig(**found["sample"]), stack=again)[0]) == pixels(
        after
    )


def test_noughts_in_every_block_are_the_base_to_the_bit(studio: Studio) -> None:
    run = ids(studio)
    stack = [{"run": run[name], "blocks": ",".join(["0"] * 26)} for name in PARTS]
    before, after = studio.generation.generate(PICTURE, stack=stack, before_after=True)
    assert pixels(before) == pixels(after)


def test_a_run_alone_is_a_stack_of_one(studio: Studio) -> None:
    run = ids(studio)["character"]
    alone = studio.generation.generate(PICTURE, run_id=run, strength=1.5)[0]
    stacked = studio.generation.generate(PICTURE, stack=[{"run": run, "strength": 1.5, "blocks": ""}])[0]
    assert alone.read_bytes() == stacked.read_bytes()
    assert "blocks" not in studio.generation.recall(alone)["stack"][0]


def test_a_stack_is_compared_with_what_it_is_made_of(studio: Studio) -> None:
    run = ids(studio)
    stack = [{"run": run["character"]}, {"run": run["style"], "blocks": "1,0,0,0,0,0,0,0,1"}]
    found = studio.generation.compare(
        [run["character"], stack], across="second", values=[0, 1.5], config=PICTURE
    )
    alone, (without, styled) = found["cells"]
    assert alone[0] == alone[1], "drawn once"
    assert pixels(without) == pixels(alone[0]) != pixels(styled)
    asked = [stack[0], stack[1] | {"strength": 1.5}]
    assert pixels(styled) == pixels(studio.generation.generate(PICTURE, stack=asked)[0])
    assert [layer["strength"] for layer in studio.generation.recall(styled)["stack"]] == [1.0, 1.5]
    assert found["rows"][1]["name"] == "character + style, by blocks"


def test_which_block_does_what(studio: Studio, base: Base, adapters) -> None:
    """The style changes only In0 and Out3, so disabling another block cannot change the picture."""
    run, steps = ids(studio)["style"], []
    found = studio.generation.contributions(
        run, PICTURE, progress=lambda done, total: steps.append((done, total))
    )
    assert list(found["values"]) == list(BLOCKS)
    assert {name for name, value in found["values"].items() if value > 0} == {"In0", "Out3"}
    assert list(found["pictures"]) == ["", "In0", "Out3"]
    assert steps == [(1, 3), (2, 3), (3, 3)]
    silenced = [(adapters["style"], BlockStrengths.of_blocks({"Out3": 0.0}))]
    asked = replace(PICTURE, prompt=fill_words(PICTURE.prompt, identifier="qrt", class_noun=""))
    assert pixels(found["pictures"]["Out3"]) == sample(base, silenced, asked).images[0].tobytes()
    kept = json.loads(studio.resources.store.get(run).file("contributions.json").read_text())
    assert kept == {"values": found["values"], "prompt": PICTURE.prompt, "seed": 5}


def test_a_change_of_the_picture_is_its_mean_over_the_pixels(tmp_path: Path) -> None:
    def draw(blocks: str) -> Path:
        shade = 0 if not blocks else 51 if blocks == BlockStrengths.of_blocks({"Mid": 0.0}).format() else 255
        path = tmp_path / f"{shade}.png"
        Image.new("RGB", (4, 4), (shade,) * 3).save(path)
        return path

    assert measure_blocks(["Mid", "Out3"], draw=draw).values == dict.fromkeys(BLOCKS, 0.0) | {
        "Mid": 0.2,
        "Out3": 1.0,
    }


@pytest.mark.parametrize(
    ("stack", "sentence"),
    [
        ("zwx", "is a list of tables"),
        ([3], "is a list of tables"),
        ([{"run": "a"}] * 5, "stack at most 4"),
        ([{"run": "a"}, {"run": "a"}], "in the stack twice"),
        ([{"strength": 1.0}], "names no run"),
        ([{"run": "a", "weight": 1.0}], "has 'weight'"),
        ([{"run": "a", "strength": 3}], "Strength is 3; it must lie between 0 and 2"),
        ([{"run": "a", "blocks": "1,1"}], "2 block weights fit no list"),
    ],
)
def test_stacks_that_cannot_be_used_are_refused(stack: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        asked_stack(stack)  # type: ignore[arg-type]  # clients can send a value of another type


def test_runs_of_different_bases_are_not_stacked(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "data")

    def run(spec: str, hash: str, name: str) -> object:
        return store.create(
            "import", {}, {"spec": spec, "family": "sd1", "hash": hash, "name": spec}, name=name
        )

    first, same, other = run("one", "aa", "Rex"), run("copy of one", "aa", "Ink"), run("two", "bb", "Ada")
    assert common_base([first, same]) == "one"
    assert common_base([]) is None
    with pytest.raises(ValueError, match="'Rex' and 'Ada' were made on different bases"):
        common_base([first, other])
