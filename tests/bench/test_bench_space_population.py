"""bench.space_population times the same work in both loops and compares it with its floor and goal."""

from dataclasses import replace

import pytest

from bench.space_population import measure, show
from pipelines.models.base import Base
from pipelines.weightspace.population import PopulationConfig


def test_a_row_per_number_of_identities(base: Base, capsys: pytest.CaptureFixture) -> None:
    config = replace(PopulationConfig(), alpha=4.0)
    rows = measure(base, config, at_once=[2], rounds=1)
    assert [row["at once"] for row in rows] == [0, 2]
    for row in rows:
        assert row["identities per hour"] == pytest.approx(
            3600 / (800 * row["seconds per step and identity"])
        )
    assert rows[0]["times one by one"] == 1
    show([{**rows[1], "times one by one": 1.4}], config, gpu=False)
    assert "floor 1.3, goal 1.6: floor" in capsys.readouterr().out
    show([{**rows[1], "times one by one": 1.1}], config, gpu=False)
    assert "BELOW THE FLOOR" in capsys.readouterr().out
