"""The recipe of the shipped sequence: small files, read back whole, and continued with a fifth concept."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from pipelines.adapters.core import read_tensors
from pipelines.methods.specs import preset
from pipelines.runs import shipped
from pipelines.studio import Studio
from recipes.make_sequence import PEOPLE, make, settings
from tests.fake_model import FakeModelCache
from tests.tiny import draw_photos, finish


def test_a_shipped_sequence_of_four_is_shown_and_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each shipped file holds one concept; the page sees both sequences, and a fifth concept builds on the first."""
    cache = FakeModelCache()
    folders = make(tmp_path / "sequences", trial=True, model_cache=cache)
    assert len(folders) == 4 + 3, "the first concept is shared"
    for folder in folders:
        with safe_open(folder / "adapter.safetensors", framework="pt") as file:
            names = list(file.keys())
        assert {name.partition(".")[0] for name in names} == {folder.name}
    monkeypatch.setattr(shipped, "SEQUENCES", tmp_path / "sequences")
    monkeypatch.setenv("ATELIER_HOME", str(tmp_path / "home"))
    studio = Studio(tmp_path / "studio", model_cache=cache)
    try:
        assert [card.id for card in studio.sequences.list()] == [
            "example-people-4",
            "example-people-unregularized-4",
        ]
        tasks = studio.sequences.tasks("example-people-4")
        assert [task.name for task in tasks] == list(PEOPLE)
        assert [len(row) for row in studio.sequences.pictures("example-people-4")] == [1, 2, 3, 4]
        assert studio.sequences.counterpart("example-people-4") == "example-people-unregularized-4"
        assert len(studio.sequences.forgetting("example-people-4")[0]["rows"]) == 4
        four = read_tensors(shipped.shipped_run("example-people-4").file("adapter.safetensors"))[0]
        assert {name.partition(".")[0] for name in four} == {"1", "2", "3", "4"}
        config = settings("zwx", weight=None, trial=True)
        fifth = studio.training.start(
            "c_lora", config, draw_photos(tmp_path / "photos"), parents=["example-people-4"], name="Ada"
        )
        assert finish(studio, fifth) == "done"
        five = read_tensors(studio.resources.store.get(fifth).file("adapter.safetensors"))[0]
        assert all(torch.equal(five[name], value.float()) for name, value in four.items())
        assert [task.name for task in studio.sequences.tasks(fifth)] == [*PEOPLE, "Ada"]
    finally:
        studio.close()


def test_the_sequence_is_made_with_the_preset() -> None:
    quick = preset("c_lora", "embedded", "Quick")
    made = settings("zwx", weight=None, trial=False)
    assert (made.steps, made.rank, made.forgetting_weight) == (
        quick.steps,
        quick.rank,
        quick.forgetting_weight,
    )
    assert settings("zwx", weight=0.0, trial=False).forgetting_weight == 0.0
