"""bench.continual: real runs of one step through the Studio, taken up again without training, and its tables."""

import json
import sys
from pathlib import Path

import pytest
import torch

from bench import continual
from bench.continual_report import Score, chart, matrix_text, spread, table_of, verdicts
from pipelines.evaluation.forgetting import ForgettingMatrix
from pipelines.services.training import TrainingService


def run(
    monkeypatch: pytest.MonkeyPatch, home: Path, *more: str
) -> dict[str, dict[str, list[dict[str, dict]]]]:
    told = home / "told.json"
    asked = [
        "bench.continual", "--home", str(home), "--quick", "--concepts", "2", "--pictures", "2", "--steps", "1",
        "--sample-steps", "1", "--preset", "Keys and values", "--threads", "1", "--json", str(told),
        "--sheet", str(home / "sheet.png"), *more,
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", asked)
    continual.main()
    return json.loads(told.read_text(encoding="utf-8"))


def test_a_benchmark_is_taken_up_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    methods = ["separate", "c_lora", "merged", "joint"]
    found = run(monkeypatch, tmp_path, "--methods", *methods, "--full")["person"]
    assert list(found) == [continual.METHODS[key].label for key in methods]
    (separate,), (ours,), (merged,), (joint,) = found.values()
    assert ours["matrix"]["scores"][0][1] is None
    assert separate["numbers"]["F_mmd"] == pytest.approx(0.0, abs=1e-9), (
        "nothing is forgotten without a sequence"
    )
    assert "F_mmd" not in joint["numbers"]
    assert merged["numbers"]["N_param %"] > ours["numbers"]["N_param %"]
    assert set(ours["numbers"]) >= {"final identity", "A_mmd", "KID", "both found", "s/concept", "stored MB"}
    assert (tmp_path / "sheet.png").stat().st_size > 1000
    started = []
    monkeypatch.setattr(TrainingService, "start", lambda *args, **named: started.append(named))
    assert run(monkeypatch, tmp_path, "--methods", *methods, "--full")["person"] == found
    assert not started
    assert "C-LoRA" in capsys.readouterr().out


def score(plasticity: float, final: float, f_mmd: float, a_mmd: float = 5.0) -> Score:
    matrix = ForgettingMatrix(concepts=("a", "b"), scores=((1.0, None), (final, 1.0)))
    numbers = {
        "plasticity": plasticity, "final identity": final, "F_mmd": f_mmd, "A_mmd": a_mmd, "s/concept": 20.0,
        "forgetting": 1.0 - final,
    }  # fmt: skip
    return Score(matrix=matrix, numbers=numbers, shown={(0, 0): torch.zeros(1, 2, 2, 3)})


def test_the_tables_say_what_was_reached() -> None:
    rows = {
        "C-LoRA": [score(0.8, 0.9, 1.0), score(0.9, 0.7, 3.0)],
        "Sequential LoRA": [score(1.0, 0.5, 8.0, 7.0)],
    }
    text = table_of("2 x 2 person", rows)
    assert "0.800 ± 0.141" in text
    assert "KID" not in text
    means = {"C-LoRA": rows["C-LoRA"][0].numbers, "Sequential LoRA": rows["Sequential LoRA"][0].numbers}
    told = verdicts(means)
    assert [line.rsplit(": ", 1)[1] for line in told] == [
        "floor reached", "goal reached", "goal reached", "best", "goal reached",
    ]  # fmt: skip
    means["C-LoRA"] = {**means["C-LoRA"], "plasticity": 0.7, "A_mmd": 9.0}
    assert verdicts(means)[0].endswith("BELOW THE FLOOR")
    assert verdicts(means)[3].endswith("NOT THE BEST")
    assert verdicts({"C-LoRA": {}}) == []
    assert spread([]) == "–"
    assert " 0.90  1.00" in matrix_text("C-LoRA", rows["C-LoRA"][0].matrix)
    svg = chart({"λ = 1": rows["C-LoRA"][0]})
    assert svg.count("<circle") == 1
    assert "λ = 1" in svg


def test_the_settings_of_the_methods() -> None:
    start = continual.preset("c_lora", "embedded")
    configs = {
        key: continual.configured(method, "tower", start, concepts=3)
        for key, method in continual.METHODS.items()
    }
    assert configs["word"].initializer == "tower"
    assert configs["noun"].usage_prompt == "a photo of a sks tower"
    assert configs["inversion"].weights == "token"
    assert configs["custom"].weights == configs["merged"].weights == "full"
    assert configs["sequential"].forgetting_weight == 0.0
    assert configs["c_lora"].forgetting_weight == start.forgetting_weight > 0
    assert configs["replay"].replay_images == 4
    assert configs["joint"].steps == 3 * start.steps
    assert configs["custom"].targets == "cross-attention-kv"
    assert not any(config.measure for config in configs.values())
