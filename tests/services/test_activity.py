"""What the devices are doing is told in one call, and every change that a page may show changes its version."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.config import DreamBoothConfig
from pipelines.experiments.store import ExperimentStore
from pipelines.jobs.worker import Job
from pipelines.runs.status import Working
from pipelines.services import activity as module
from pipelines.studio import Studio
from ui.run.activity import chip, clock

CONFIG = DreamBoothConfig(steps=8, identifier="zwx", class_noun="dog")


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    made = Studio(tmp_path / "data", devices=("cpu",))
    yield made
    made.close()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.effect_noise((96, 96), 60).convert("RGB").save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def held(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Runs wait here instead of being trained, so that no model is loaded."""
    free = threading.Event()

    class Waiting:
        def __init__(self, *, run: Any, job: Job, **_: Any) -> None:
            self.run, self.job = run, job

        def perform(self) -> None:
            self.run.append("state", state="running", message="")
            self.run.append("step", step=2, total=8, terms={"instance": 0.1}, seconds=0.5)
            while not free.wait(0.01) and not self.job.stop_requested:
                pass

    import pipelines.jobs.train_job as train_job

    monkeypatch.setattr(train_job, "TrainJob", Waiting)
    monkeypatch.setattr(studio.resources.devices, "model_cache", lambda job=None: None)
    yield free
    free.set()


def until(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_run_is_told_with_its_progress_then_its_end(
    studio: Studio, photo: Path, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert studio.activity.now().running == ()
    assert chip(studio.activity.now()) == ""
    first = studio.training.start("dreambooth", CONFIG, [photo], name="Florence")
    until(lambda: studio.activity.now().running and studio.activity.now().running[0].share)
    studio.training.start("dreambooth", CONFIG, [photo], name="Rex")
    now = studio.activity.now()
    (working,) = now.running
    assert (working.kind, working.id, working.name, working.method) == (
        "run",
        first,
        "Florence",
        "DreamBooth",
    )
    assert (working.share, now.queued) == (0.25, 1)
    drawn = chip(now)
    assert f'data-opens="run:{first}"' in drawn
    for word in ("Florence", "DreamBooth", "25 %", f"{clock(working.seconds_left or 0)} left", "1 queued"):
        assert f"<span>{word}</span>" in drawn
    held.set()
    until(lambda: not studio.activity.now().running and not studio.activity.now().queued)
    ended = studio.activity.now().ended
    assert ended is not None
    assert (ended.name, ended.state) == ("Rex", "done")
    assert "finished" in chip(studio.activity.now())
    monkeypatch.setattr(module, "ENDED_S", 0.0)
    assert studio.activity.now().ended is None


def test_another_owners_run_is_not_told(studio: Studio, photo: Path, held: threading.Event) -> None:
    studio.for_owner("ada").training.start("dreambooth", CONFIG, [photo], name="Secret")
    until(lambda: studio.for_owner("ada").activity.now().running)
    assert studio.activity.now().running == ()
    held.set()
    until(lambda: studio.for_owner("ada").activity.now().ended)
    assert studio.activity.now().ended is None


def test_a_short_job_is_told_when_it_takes_long(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    studio.resources.devices.submit_short("mix", lambda job: release.wait(20))
    until(lambda: studio.resources.worker.current is not None)
    assert studio.activity.now().running == ()
    monkeypatch.setattr(module, "SHORT_S", 0.0)
    until(lambda: studio.activity.now().running)
    drawn = chip(studio.activity.now())
    release.set()
    assert "Mixing two runs" in drawn
    assert "<button" not in drawn


def test_a_measurement_of_an_experiment_is_told(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    class Told:
        experiment, name, row, done, total = "id-1", "Ada", "SVDiff", 3, 4

    monkeypatch.setattr(studio.experiments, "measuring", lambda: [Told()])
    (working,) = studio.activity.now().running
    assert working == Working("experiment", "id-1", "Ada", doing="measuring SVDiff", share=0.75)
    assert "measuring SVDiff" in chip(studio.activity.now())
    assert studio.activity.now().queued == 0


def test_the_version_changes_with_every_change_also_by_another_program(
    studio: Studio, tmp_path: Path
) -> None:
    versions = [studio.activity.now().version]

    def changed() -> bool:
        versions.append(studio.activity.now().version)
        return versions[-1] != versions[-2]

    assert not changed()
    other = Studio(tmp_path / "data", devices=("cpu",))  # such as the command line
    run = other.resources.store.create("dreambooth", {"steps": 8}, {"spec": "embedded", "family": "embedded"})
    assert changed()
    run.append("state", state="running", message="")
    assert changed()
    run.append("step", step=1, total=8, terms={}, seconds=0.1)
    assert changed()
    other.library.note(run.id, "dark")
    assert changed()
    other.library.delete(run.id)
    assert changed()
    store = ExperimentStore(tmp_path / "data")
    with store.draft("methods", name="Ada", config={}, base={}, words={}, runs=[], rows=[]) as made:
        pass
    assert changed()
    made.keep_scores("base", 0, {"scores": {}})
    assert changed()
    other.close()
    assert not changed()
