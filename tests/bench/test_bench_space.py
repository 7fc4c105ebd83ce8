"""The measurements of the identity space: the authors' layout, and every figure of the explorer on a toy."""

import pytest

from bench import space as bench
from pipelines.models.base import Base
from tests.weightspace.synthetic import synthetic_space


def test_random_numbers_have_the_authors_layout() -> None:
    """2406.09413's files: 64 layers, 99,648 values, down, mid and up blocks in alphabetical order."""
    keys = bench.sd1_keys()
    assert len(keys) == 128
    starts = {key.name.partition(".transformer_blocks")[0]: key.offset for key in reversed(keys)}
    assert starts["unet.down_blocks.0.attentions.0"] == 0
    assert starts["unet.down_blocks.2.attentions.1"] == 26_240
    assert starts["unet.mid_block.attentions.0"] == 35_968
    assert starts["unet.up_blocks.3.attentions.2"] == 96_640


def test_a_turn_may_take_its_own_time() -> None:
    times = bench.timed({"own": lambda: 0.5, "other": lambda: 0.25}, rounds=2)
    assert times == {"own": [0.5, 0.5], "other": [0.25, 0.25]}
    assert bench.ratio(times, "own", "other") == 2.0


def test_every_goal_has_a_figure(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "WARM_UP", 0)
    monkeypatch.setattr(bench, "AUTHORS_COMPONENTS", 4)
    space = synthetic_space(base)
    rows = bench.change(space, rounds=1) | bench.authors_change(rounds=1) | bench.inversion(space, rounds=1)
    missing = bench.GOALS.keys() - rows.keys()
    assert missing == {"picture / steps and decoding", "delayed picture / steps and decoding"}
    assert all(value > 0 for value in rows.values())
