"""The playground with a second run and a weight for each block, without a browser (real Studio, fake UNet)."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Served
from gradio_client import Client
from gradio_client.exceptions import AppError

from pipelines.config import SampleConfig
from pipelines.sampling.image_metadata import Layer
from pipelines.studio import Studio
from pipelines.unet_blocks import BLOCKS, BlockStrengths
from ui import forms as form
from ui.html import BrowserCopies
from ui.run.monitor import RunMonitor
from ui.run.unet_diagram import unet_map
from ui.tabs.train import stack as stacking
from ui.tabs.train.playground_handlers import PlaygroundHandlers

FIELDS = form.shown(SampleConfig(prompt="a photo", seed=3, steps=4))
NINE = "0,1,1,1,1,1,1,1,0.5"


@pytest.fixture
def monitor(studio: Studio, copies: BrowserCopies) -> RunMonitor:
    return RunMonitor(studio, copies)


@pytest.fixture
def layers(monitor: RunMonitor) -> stacking.Layers:
    return stacking.Layers(monitor)


def runs(monitor: RunMonitor) -> list[str]:
    return [example["run"] for example in monitor.examples.values()]


def stacked(studio: Studio, picture: str) -> list[Layer]:
    """Return the layers of a picture, read from its own metadata."""
    return [replace(Layer(**layer), name="") for layer in studio.generation.recall(Path(picture))["stack"]]


def test_a_part_of_the_unet_fills_in_its_weights(layers: stacking.Layers) -> None:
    assert layers.choose_part("upper") == {"blocks": "1,0,0,0,0,0,0,0,1"}
    assert layers.choose_part("all") == {"blocks": ""}
    assert layers.choose_part(stacking.OWN) == {}
    for _, part in stacking.CHOICES:
        BlockStrengths.parse(layers.choose_part(part).get("blocks", ""))


def test_weights_are_shown_as_other_programs_write_them(layers: stacking.Layers) -> None:
    shown = str(layers.elsewhere(NINE)["elsewhere"])
    for told in (
        "A1111, LoRA (17): <code>1,0,0,1,1,1,1,1,1,1,1,1,1,1,0.5,0.5,0.5</code>",
        "A1111, LoCon (26): <code>1,1,0,0,0,1,",
        "kohya (25): <code>1,0,0,0,1,",
    ):
        assert told in shown
    with_text = str(layers.elsewhere("0.5" + ",1" * 25)["elsewhere"])
    assert "kohya" not in with_text, "its list has no word for the text encoder"
    assert str(layers.elsewhere("")["elsewhere"]) == str(layers.elsewhere("1,2")["elsewhere"]) == ""


def test_a_second_run_is_chosen_among_those_there_are(layers: stacking.Layers, monitor: RunMonitor) -> None:
    offered = layers.open("a run that is gone")["second"]
    assert next(run_id for _, run_id in offered["choices"]) == ""
    assert set(runs(monitor)) <= {run_id for _, run_id in offered["choices"]}
    assert offered["value"] == ""
    assert layers.open(runs(monitor)[0])["second"]["value"] == runs(monitor)[0]


def test_a_picture_takes_both_runs_and_gives_them_back(monitor: RunMonitor, studio: Studio) -> None:
    first, second = runs(monitor)[:2]
    playground = PlaygroundHandlers(monitor)
    values = playground.generate(
        first, 0.75, blocks=NINE, second=second, second_strength=1.5, second_blocks="", **FIELDS
    )
    whole = BlockStrengths.parse(NINE).format(26)
    assert stacked(studio, values["download"]["value"]) == [
        Layer(run=first, name="", strength=0.75, blocks=whole),
        Layer(run=second, name="", strength=1.5),
    ]
    for told in (NINE, f"{studio.training.status(second)['name']} at 1.5"):
        assert told in values["result_caption"]
    restored = playground.recall(values["download"]["value"])
    assert (restored["shown"], restored["strength"], restored["blocks"]) == (first, 0.75, NINE)
    assert (restored["second"]["value"], restored["second_strength"]) == (second, 1.5)
    assert (restored["part"], restored["second_blocks"]) == (stacking.OWN, "")
    assert "and with block weights and" in restored["recalled"]


def test_a_picture_of_one_run_clears_what_a_stack_had(monitor: RunMonitor, studio: Studio) -> None:
    playground = PlaygroundHandlers(monitor)
    values = playground.generate(
        runs(monitor)[0], 1.0, blocks="", second="", second_strength=1.0, second_blocks="", **FIELDS
    )
    assert stacked(studio, values["download"]["value"]) == [
        Layer(run=runs(monitor)[0], name="", strength=1.0)
    ]
    restored = playground.recall(values["download"]["value"])
    assert (restored["part"], restored["blocks"], restored["second"]["value"]) == ("all", "", "")
    with pytest.raises(ValueError, match="2 block weights fit no list"):
        playground.generate(
            runs(monitor)[0], 1.0, blocks="1,2", second=None, second_strength=1.0, second_blocks="", **FIELDS
        )


def test_the_first_page_asks_for_one_run_alone(monitor: RunMonitor, studio: Studio) -> None:
    values = PlaygroundHandlers(monitor).generate(runs(monitor)[0], 0.5, **FIELDS)
    assert stacked(studio, values["download"]["value"]) == [
        Layer(run=runs(monitor)[0], name="", strength=0.5)
    ]
    assert "Block weights" not in values["result_caption"]


def test_a_list_that_nine_values_cannot_say_stays_whole() -> None:
    one_position = BlockStrengths.parse("1,1,0.5" + ",1" * 23).format(26)
    assert stacking.shortest(one_position) == one_position


def test_the_blocks_are_asked_what_they_do(
    layers: stacking.Layers, monitor: RunMonitor, studio: Studio
) -> None:
    told: list[tuple[int, int]] = []
    values = layers.contributions(runs(monitor)[0], lambda at, **words: told.append(at), **FIELDS)
    assert told == [(done, len(BLOCKS) + 1) for done in range(1, len(BLOCKS) + 2)]
    assert "seed 3" in values["unet_map"]
    with pytest.raises(ValueError, match="Choose an example"):
        layers.contributions("", None, **FIELDS)


def test_the_map_has_every_block_with_its_number_beside_its_colour() -> None:
    values = dict.fromkeys(("In0", "In1", "In2", "In3", "Out0", "Out1", "Out2", "Out3"), 0.0)
    drawn = unet_map(values | {"Mid": 0.25, "Out3": 0.5}, title="Blocks", text="<i>")
    assert drawn.count('class="unet-block') == 9
    order = re.findall(r'class="unet-name">(\w+)<', drawn)
    assert order == ["In0", "Out3", "In1", "Out2", "In2", "Out1", "In3", "Out0", "Mid"]
    assert "0.500" in drawn
    assert drawn.count("--share:100%") == 1
    assert drawn.count("--share:50%") == 1
    assert "largest in Out3" in drawn
    assert "&lt;i&gt;" in drawn
    assert "zero in every block" in unet_map(values | {"Mid": 0.0}, title="Blocks", text="")


def test_the_api_takes_a_stack(served: Served) -> None:
    client = Client(served.url, verbose=False)
    try:
        entries = [{"run": run["run"], "strength": 0.5} for run in served.studio.library.examples()[:2]]
        entries[0]["blocks"] = NINE
        pictures = client.predict(
            prompt="a photo", stack=entries, settings={"seed": 8, "count": 2}, api_name="/generate_stack"
        )
        assert [picture["caption"] for picture in pictures] == ["seed 8", "seed 9"]
        assert all(Path(picture["image"]).exists() for picture in pictures)
        assert [layer.run for layer in stacked(served.studio, pictures[0]["image"])] == [
            entry["run"] for entry in entries
        ]
        with pytest.raises(AppError, match="The same run is in the stack twice"):
            client.predict(prompt="x", stack=[entries[0]] * 2, settings={}, api_name="/generate_stack")
    finally:
        client.close()
