"""Runs and experiments have an owner; other users' services do not list or open them."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.config import SampleConfig, to_dict
from pipelines.runs.store import read_run
from pipelines.studio import Studio
from tests.tiny import PATIENCE_S, TINY, draw_photos

BASE = {"spec": "embedded", "family": "embedded", "hash": ""}
PICTURE = SampleConfig(prompt="a dog")


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    studio = Studio(tmp_path / "data", devices=["cpu"])
    yield studio
    studio.close()


ACTIONS: dict[str, Callable[[Studio, str], Any]] = {
    "status": lambda studio, run: studio.training.status(run),
    "stop": lambda studio, run: studio.training.stop(run),
    "discard": lambda studio, run: studio.training.discard(run),
    "train_more": lambda studio, run: studio.training.train_more(run, 5),
    "resume": lambda studio, run: studio.training.resume(run),
    "sample_now": lambda studio, run: studio.training.sample_now(run),
    "save_now": lambda studio, run: studio.training.save_now(run),
    "move": lambda studio, run: studio.training.move(run, 1),
    "wait": lambda studio, run: studio.training.wait(run, 0.0),
    "rename": lambda studio, run: studio.library.rename(run, "mine"),
    "note": lambda studio, run: studio.library.note(run, "mine"),
    "delete": lambda studio, run: studio.library.delete(run),
    "settings": lambda studio, run: studio.library.settings(run),
    "combine": lambda studio, run: studio.library.combine([run], how="truncate"),
    "generate": lambda studio, run: studio.generation.generate(PICTURE, run_id=run),
    "compare": lambda studio, run: studio.generation.compare(
        [run], across="seeds", values=[1], config=PICTURE
    ),
    "contributions": lambda studio, run: studio.generation.contributions(run, PICTURE),
    "views": lambda studio, run: studio.inspection.views(run),
    "shifted_layers": lambda studio, run: studio.inspection.shifted_layers(run),
    "spectrum": lambda studio, run: studio.inspection.spectrum(run, "unet.conv_in"),
    "correlation": lambda studio, run: studio.inspection.correlation([run]),
    "export": lambda studio, run: studio.import_export.export(run),
    "verified_export": lambda studio, run: studio.import_export.verified_export(run),
    "merge_into_base": lambda studio, run: studio.import_export.merge_into_base(run),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_another_owners_run_is_refused_as_if_it_did_not_exist(studio: Studio, action: str) -> None:
    ada = studio.for_owner("ada").resources.store.create("dreambooth", to_dict(TINY), BASE, name="Ada's")
    for other in (studio, studio.for_owner("ben")):
        with pytest.raises(ValueError, match=f"There is no run '{ada.id}'; it may have been deleted"):
            ACTIONS[action](other, ada.id)
    assert studio.for_owner("ada").library.list_runs()[0].name == "Ada's"


def test_listings_and_the_queue_show_an_owners_own(studio: Studio, tmp_path: Path) -> None:
    photos, release = draw_photos(tmp_path), threading.Event()
    studio.resources.worker.submit("before", lambda job: release.wait(PATIENCE_S))
    ada, ben = studio.for_owner("ada"), studio.for_owner("ben")
    first, second = (each.training.start("dreambooth", TINY, photos) for each in (ada, ben))
    assert [row.run for row in ada.training.queue()] == [first]
    assert [(row.run, row.position) for row in ben.training.queue()] == [(second, 2)]
    assert studio.training.queue() == studio.library.list_runs() == []
    with pytest.raises(ValueError, match="There is no run"):
        ben.training.start("dreambooth", TINY, photos, after=[first])
    ben.training.stop(second, keep=False)
    ada.training.stop(first)
    release.set()
    assert ben.library.list_runs() == []
    assert [card.state for card in ada.library.list_runs()] == ["stopped"]
    assert json.loads((ada.resources.store.get(first).path / "run.json").read_text())["owner"] == "ada"
    assert studio.for_owner("ada") is ada.for_owner("ada") is ada
    assert ada.for_owner("") is studio


def test_another_owners_experiment_is_refused_as_if_it_did_not_exist(studio: Studio) -> None:
    ada, ben = studio.for_owner("ada"), studio.for_owner("ben")
    with ada.experiments.store.draft(
        "methods", name="Rex", config={"prompts": []}, base=BASE, words={}, runs=[], rows=[]
    ) as made:
        pass
    for ask in ("status", "stop", "resume", "delete", "files"):
        with pytest.raises(ValueError, match=f"There is no experiment '{made.id}'"):
            getattr(ben.experiments, ask)(made.id)
    assert ben.experiments.list() == studio.experiments.list() == []
    assert [each.id for each in ada.experiments.store.list()] == [made.id]


def test_runs_of_before_owners_belong_to_the_machines_own(studio: Studio) -> None:
    run = studio.resources.store.create("dreambooth", to_dict(TINY), BASE, name="Rex")
    path = run.path / "run.json"
    told = json.loads(path.read_text())
    del told["owner"]
    path.write_text(json.dumps(told))
    assert read_run(run.path).owner == ""
    assert studio.library.settings(run.id)["name"] == "Rex"
    assert studio.for_owner("ada").library.list_runs() == []
