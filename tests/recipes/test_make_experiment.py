"""The recipe of the recorded experiment: a small folder that any installation shows, and nobody can change."""

from pathlib import Path

import pytest
from PIL import Image

from pipelines.experiments import store
from pipelines.experiments.method_comparison import candidates
from pipelines.experiments.store import SHIPPED, read_experiment
from pipelines.studio import Studio
from recipes.make_experiment import PROMPTS, TRIAL, make
from tests.fake_model import FakeModelCache
from ui.html import BrowserCopies
from ui.tabs.compare import experiment_results as results

MAX_BYTES = 300_000


def test_a_recorded_experiment_is_shown_whole_and_cannot_be_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = FakeModelCache()
    folder = make(tmp_path / "experiments", TRIAL, model_cache=cache)
    assert not (folder / "photos").exists()
    assert len(list((folder / "pictures").iterdir())) == len(PROMPTS) * (1 + len(candidates()))
    monkeypatch.setattr(store, "SHIPPED", tmp_path / "experiments")
    studio, copies = Studio(tmp_path / "studio", model_cache=cache), BrowserCopies()
    try:
        assert studio.experiments.list() == []
        (card,) = studio.experiments.list(shipped=True)
        assert (card["id"], card["state"], card["shipped"]) == ("example-methods", "done", True)
        status = studio.experiments.status("example-methods")
        assert status["done"] == status["total"]
        for column in status["tables"][0]["columns"]:
            assert status["tables"][0]["rows"][2]["cells"][column["key"]], column["label"]
        shown = results.recorded(status, copies=copies)
        assert shown.count("<img") == len(PROMPTS) * (1 + len(candidates()))
        assert "Recorded: “Florence” by every method" in shown
        assert "This recording ships with Atelier" in results.shown(status, copies=copies)
        assert {path.suffix for path in studio.experiments.files("example-methods").values()} == {
            ".json",
            ".png",
        }
        for change in (studio.experiments.delete, studio.experiments.stop, studio.experiments.resume):
            with pytest.raises(ValueError, match="A recorded experiment cannot be changed"):
                change("example-methods")
    finally:
        studio.close()
        copies.close()


def test_the_recorded_experiment_that_ships_is_small_and_readable() -> None:
    found = store.shipped_experiments()
    assert [each.kind for each in found] == ["methods"]
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) < MAX_BYTES
    experiment = read_experiment(found[0].path)
    for row, step in experiment.points():
        measured = experiment.scores(row.key, step)
        assert measured is not None
        assert measured["scores"]["dino"]["value"] <= 1
        for line in measured["pictures"]:
            with Image.open(experiment.path / line[0]) as picture:
                assert picture.format == "WEBP"
