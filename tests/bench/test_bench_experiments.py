"""Benchmarks of experiments: means over pairs with confidence intervals, and tables for the terminal."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bench import blocks, methods
from bench.experiments import text_table
from pipelines.experiments.report import Column, table
from recipes.style_pictures import style_pictures
from recipes.world import UNSEEN_STYLES


def row(key: str, *, state: str = "done", **scores: float) -> dict[str, Any]:
    told = {name: {"value": value, "low": value - 0.1, "high": value + 0.1} for name, value in scores.items()}
    facts = {"trainable": 1000, "character_seconds": 4.0, "style_seconds": 2.0} if state == "done" else {}
    return {"key": key, "label": key, "state": state, "message": "No memory.", "scores": told, "facts": facts}


def test_means_over_the_pairs_with_the_interval_of_the_pairs() -> None:
    pairs = [{"rows": [row("base"), row("all-all", identity=value, style=0.5)]} for value in (0.2, 0.4, 0.9)]
    found = blocks.summary(pairs)
    assert found["all-all"]["identity"]["value"] == pytest.approx(0.5)
    assert 0.2 <= found["all-all"]["identity"]["low"] < 0.5 < found["all-all"]["identity"]["high"] <= 0.9
    assert found["all-all"]["style"] == {"value": 0.5, "low": 0.5, "high": 0.5}
    assert (found["all-all"]["trainable"], found["all-all"]["style_seconds"]) == (1000, 2.0)
    assert "identity" not in found["base"]
    assert "0.500 (0.50..0.50)" in blocks.told(found)
    failed = [
        {"rows": [row("svdiff", dino=0.4), row("full", state="failed")], "recognised": {"svdiff": 0.75}}
    ]
    assert methods.summary(failed) == {"svdiff": {"dino": 0.4, "recognised": 0.75}, "full": {}}


def test_a_table_for_the_terminal_names_what_failed() -> None:
    columns = (Column("dino", "DINO", "score"), Column("trainable", "Trained", "count"))
    told = text_table(table("", columns, [row("svdiff", dino=0.4), row("full", state="failed")])).splitlines()
    assert len({len(line) for line in told[:2]}) == 1, "columns are aligned"
    assert "0.400 (0.30..0.50)" in told[1]
    assert told[2].split() == ["full", "-", "-", "failed:", "No", "memory."]


def test_pictures_in_a_style_carry_captions_that_do_not_name_it(tmp_path: Path) -> None:
    for style in UNSEEN_STYLES:
        told = style_pictures(style, tmp_path / style, count=3)
        assert len(set(told.values())) == 3
        for path, caption in told.items():
            assert style.split()[0] not in caption
            with Image.open(path) as picture:
                assert picture.size == (128, 128)
    with pytest.raises(ValueError, match="no style 'cubism'"):
        style_pictures("cubism", tmp_path)
