"""Comparison grids are planned, labelled and written without a model; with one, every cell is a recallable picture."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.config import SampleConfig
from pipelines.runs.store import RunStore
from pipelines.sampling.grid import BASE_NAME, Cell, Row, compare, plan
from pipelines.sampling.image_metadata import Layer, save_png

CONFIG = SampleConfig(prompt="a photo of a {identifier} {class_noun}", steps=2, seed=5, count=4)
COLOURS = ("teal", "gold", "plum", "tan")


@pytest.fixture
def rows(tmp_path: Path) -> list[Row]:
    """The base, and two finished runs; the second one has metrics."""
    store = RunStore(tmp_path / "data")
    found = [Row()]
    for name, word in (("Rex", "zwx"), ("Bello, trained for very much longer than the other", "qev")):
        words = {"identifier": word, "class_noun": "dog", "steps": 4}
        run = store.create(
            "dreambooth", words, {"spec": "embedded", "family": "embedded", "hash": ""}, name=name
        )
        run.file("adapter.safetensors").write_bytes(bytes(40))
        found.append(Row((Layer(run=run.id, name="", strength=1.0),), (run,)))
    run.write_json("metrics.json", {"dino": 0.5, "encoders": {"clip": "small"}, "real_images": {"dino": 0.9}})
    run.append("similarity", step=4, identity={"value": 0.4, "low": 0.3, "high": 0.5})
    return found


class Drawer:
    """A fake sampler: it returns a plain colour for each cell."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cells: list[Cell] = []

    def __call__(self, cell: Cell) -> Path:
        path = self.folder / f"cell-{len(self.cells)}.png"
        save_png(
            Image.new("RGB", (16, 16), COLOURS[len(self.cells) % 4]), path, {"prompt": cell.config.prompt}
        )
        self.cells.append(cell)
        return path


def test_the_noise_is_one_in_a_column_and_words_are_each_runs_own(rows: list[Row]) -> None:
    cells = plan(rows, across="seeds", values=[3, 4.0], config=CONFIG)
    assert [[cell.config.seed for cell in line] for line in cells] == [[3, 4]] * 3
    assert {cell.config.count for line in cells for cell in line} == {1}
    assert [line[0].config.prompt for line in cells] == [
        "a photo of a dog",
        "a photo of a zwx dog",
        "a photo of a qev dog",
    ]
    prompts = plan(rows, across="prompts", values=["a {identifier}", "x"], config=CONFIG)
    assert [cell.config.prompt for cell in prompts[1]] == ["a zwx", "x"]
    assert {cell.config.seed for line in prompts for cell in line} == {5}


def test_grid_table_and_cells(rows: list[Row], tmp_path: Path) -> None:
    drawer, told = Drawer(tmp_path), []
    found = compare(
        rows, across="strengths", values=[0.5, 1], config=CONFIG, draw=drawer, folder=tmp_path / "out",
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert told == [(done, 6) for done in range(7)]
    strengths = [[layer.strength for layer in cell.layers] for cell in drawer.cells]
    assert strengths == [[], [0.5], [1.0], [0.5], [1.0]]  # the base is sampled only once
    assert found["cells"][0][0] == found["cells"][0][1]
    assert found["rows"][0]["name"] == BASE_NAME
    assert found["rows"][0]["trainable"] == 0
    measured = found["rows"][2]
    assert measured["bytes"] == 40
    assert measured["metrics"] == {
        "dino": {"value": 0.5, "low": None, "high": None},
        "identity": {"value": 0.4, "low": 0.3, "high": 0.5},
    }
    with Image.open(found["grid"]) as grid:
        assert grid.format == "PNG"
        colours = {colour for _, colour in grid.getcolors(maxcolors=100_000) or ()}
        assert len(colours) > 10  # the labels are rendered
        assert grid.width > 2 * 192
        assert grid.height > 3 * 192
    table = json.loads(found["json"].read_text())
    assert (table["across"], table["values"], len(table["cells"])) == ("strengths", [0.5, 1], 3)
    assert table["cells"][1][0]["prompt"] == "a photo of a zwx dog"
    assert table["rows"] == found["rows"]


def both(rows: list[Row], *, strengths: tuple[float, float] = (1.0, 0.5)) -> Row:
    """Combine the two runs into one row."""
    layers = [replace(row.layers[0], strength=each) for row, each in zip(rows[1:], strengths, strict=True)]
    return Row(tuple(layers), (*rows[1].runs, *rows[2].runs))


def test_a_stack_is_a_row_like_any_other(rows: list[Row], tmp_path: Path) -> None:
    stack = both(rows)
    assert stack.name == "Rex + Bello, trained for very much longer than the other at 0.5"
    drawer = Drawer(tmp_path)
    found = compare(
        [rows[0], rows[1], stack],
        across="strengths",
        values=[0, 2],
        config=CONFIG,
        draw=drawer,
        folder=tmp_path,
    )
    assert [[layer.strength for layer in cell.layers] for cell in drawer.cells] == [
        [],
        [0],
        [2],
        [0, 0],
        [2, 1],
    ]
    assert drawer.cells[-1].config.prompt == "a photo of a zwx dog", "the first run's words"
    alone, together = found["rows"][1:]
    assert (together["run"], together["method"], together["bytes"]) == (None, "stack", 80)
    assert [layer["strength"] for layer in together["stack"]] == [1.0, 0.5]
    assert [layer["name"] for layer in alone["stack"]] == ["Rex"]
    assert together["metrics"] == {}, "what was measured of each alone is not true of both"


def test_the_second_runs_strength_is_an_axis(rows: list[Row], tmp_path: Path) -> None:
    drawer = Drawer(tmp_path)
    compare(
        [*rows[:2], both(rows)], across="second", values=[0, 1.5], config=CONFIG, draw=drawer, folder=tmp_path
    )
    strengths = [[layer.strength for layer in cell.layers] for cell in drawer.cells]
    assert strengths == [[], [1.0], [1.0, 0], [1.0, 1.5]], "rows without a second run are drawn once"
    with pytest.raises(ValueError, match="No row has a second run"):
        plan(rows, across="second", values=[1], config=CONFIG)
    with pytest.raises(ValueError, match="exceeds strength 2"):
        plan([both(rows, strengths=(1.5, 1.0))], across="strengths", values=[1.5], config=CONFIG)
    rows[2].runs[0].base["spec"] = "elsewhere"
    with pytest.raises(ValueError, match="made on different bases"):
        compare([both(rows)], across="seeds", values=[1], config=CONFIG, draw=drawer, folder=tmp_path)


@pytest.mark.parametrize(
    ("across", "values", "sentence"),
    [
        ("moods", [1], "no comparison across 'moods'"),
        ("seeds", [], "0 seeds were given"),
        ("seeds", list(range(9)), "9 seeds were given"),
        ("seeds", ["x"], "must be a number"),
        ("seeds", [-1], "smallest allowed"),
        ("strengths", [3], "between 0 and 2"),
        ("strengths", [float("nan")], "must be a number"),
        ("prompts", [""], "enter a prompt for each column"),
        ("prompts", [5], "enter a prompt for each column"),
    ],
)
def test_columns_that_cannot_be_are_refused(
    rows: list[Row], across: str, values: list[Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        plan(rows, across=across, values=values, config=CONFIG)


def test_rows_that_cannot_be_are_refused(rows: list[Row], tmp_path: Path) -> None:
    def refused(chosen: list[Row], sentence: str, config: SampleConfig = CONFIG) -> None:
        with pytest.raises(ValueError, match=sentence):
            compare(
                chosen,
                across="seeds",
                values=[1],
                config=config,
                draw=Drawer(tmp_path),
                folder=tmp_path / "out",
            )

    refused([], "0 runs were chosen")
    refused([rows[0]] * 2, "chosen twice")
    refused(rows, "prompt is empty", SampleConfig())
    (rex,) = rows[1].runs
    rex.base["family"] = "sd1"
    refused(rows, r"different families \(embedded, sd1\)")
    rex.file("adapter.safetensors").unlink()
    refused(rows, "no finished adapter yet")
