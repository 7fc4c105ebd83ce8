"""The run queue on one and on two devices: order, dependencies, remaining time, stopping and saving."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.config import to_dict
from pipelines.jobs import devices
from pipelines.jobs import train_job as conduct
from pipelines.jobs.devices import Devices, device_names, finish_times
from pipelines.jobs.load_lock import LoadLock
from pipelines.jobs.worker import Job
from pipelines.models.base import Base
from pipelines.studio import Studio
from tests.tiny import PATIENCE_S, TINY, draw_photos, finish, same_tensors, shop_with

ROOT = Path(__file__).resolve().parents[2]
ENDLESS = replace(TINY, steps=5000, sample_every=5000, learning_rate=1e-4)


@pytest.fixture(scope="module")
def photo_paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return draw_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture
def studio(tmp_path: Path, base: Base) -> Iterator[Studio]:
    studio = Studio(tmp_path / "data", model_cache=shop_with(base))
    yield studio
    studio.close()


@contextmanager
def busy(studio: Studio) -> Iterator[None]:
    """Keep the first device busy inside the block, so that it starts nothing else."""
    release = threading.Event()
    studio.resources.worker.submit("before", lambda job: release.wait(PATIENCE_S))
    try:
        yield
    finally:
        release.set()


def until(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < ends, "it never came true"
        time.sleep(0.01)


def places(studio: Studio) -> list[tuple[str, int]]:
    return [(row.name, row.position) for row in studio.training.queue()]


def test_waiting_runs_are_listed_moved_and_begun_in_order(studio: Studio, photo_paths: list[Path]) -> None:
    with busy(studio):
        runs = {name: studio.training.start("dreambooth", TINY, photo_paths, name=name) for name in "abc"}
        assert places(studio) == [("a", 1), ("b", 2), ("c", 3)]
        left = [row.seconds_left for row in studio.training.queue()]
        assert 0 < left[0] < left[1] < left[2]
        studio.training.move(runs["c"], 1)
        studio.training.move(runs["a"], 99)
        assert places(studio) == [("c", 1), ("b", 2), ("a", 3)]
        assert [studio.training.status(runs[name])["queue_position"] for name in "cba"] == [1, 2, 3]
        assert {row.state for row in studio.training.queue()} == {"queued"}
        studio.training.stop(runs["b"], when="checkpoint")
        assert places(studio) == [("c", 1), ("a", 2)]
        with pytest.raises(ValueError, match="is in the queue"):
            studio.training.save_now(runs["a"])
    finish(studio, runs["a"])
    assert studio.training.queue() == []
    begun = {
        name: next(e["t"] for e in studio.training.status(run_id)["events"] if e.get("state") == "running")
        for name, run_id in runs.items()
        if name != "b"
    }
    assert begun["c"] < begun["a"]
    assert studio.training.status(runs["b"])["state"] == "stopped"
    for place, sentence in (
        (0, "1 is the next run"),
        (1.5, "whole number"),
        ("x", "a number"),
        (1, "is not in the queue"),
    ):
        with pytest.raises(ValueError, match=sentence):
            studio.training.move(runs["a"], place)  # type: ignore[arg-type]  # clients can send a value of another type


def test_a_run_waits_for_those_it_comes_after_and_fails_when_one_is_stopped(
    studio: Studio, photo_paths: list[Path]
) -> None:
    def start(name: str, **asked: list[str]) -> str:
        return studio.training.start("dreambooth", TINY, photo_paths, name=name, **asked)

    with busy(studio):
        first = start("first")
        stopped = start("stopped")
        second = start("second", after=[first])
        blocked = start("blocked", after=[second, stopped])
        assert [row.waits_for for row in studio.training.queue()] == [
            (), (), ("first",), ("second", "stopped")
        ]  # fmt: skip
        studio.training.stop(stopped)
        assert studio.training.queue()[2].waits_for == ("second",)
    assert finish(studio, second) == "done"
    assert studio.training.wait(blocked, PATIENCE_S) == "failed"
    assert "“stopped” was stopped, and “blocked” was to start" in studio.training.status(blocked)["error"]
    with pytest.raises(ValueError, match="The run 'stopped' is stopped, so no run can be started after it"):
        start("late", after=[stopped])
    studio.training.resume(stopped)
    studio.training.resume(blocked, after=[second, stopped])
    assert finish(studio, blocked) == "done"


def test_every_listener_hears_of_an_end_whatever_the_others_do(
    studio: Studio, photo_paths: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []

    def broken(run_id: str) -> None:
        raise RuntimeError("a listener's own fault")

    studio.resources.queue.end_listeners[:0] = [broken]
    studio.resources.queue.end_listeners.append(heard.append)
    with busy(studio):
        kept, discarded = (studio.training.start("dreambooth", TINY, photo_paths) for _ in range(2))
        studio.training.discard(discarded)
        studio.training.stop(kept)
    assert heard == [discarded, kept]
    assert studio.training.status(kept)["state"] == "stopped"
    assert "A listener failed" in caplog.text


def test_save_now_writes_what_another_program_can_use_and_disturbs_nothing(
    studio: Studio, photo_paths: list[Path]
) -> None:
    config = replace(TINY, steps=24, sample_every=24, learning_rate=1e-4)
    alone = studio.training.start("dreambooth", config, photo_paths)
    finish(studio, alone)
    run_id = studio.training.start("dreambooth", config, photo_paths)
    until(lambda: studio.training.status(run_id)["step"] >= 2)
    assert [row.position for row in studio.training.queue()] == [0]
    assert studio.training.queue()[0].device == studio.resources.devices.all[0].name
    step = studio.training.save_now(run_id)
    run = studio.resources.store.get(run_id)
    assert 2 <= step < 24
    assert step in [e["step"] for e in studio.training.status(run_id)["events"] if e["kind"] == "checkpoint"]
    assert run.file("checkpoint.safetensors").is_file()
    assert f"step    {step}" in run.file("card.md").read_text()
    assert studio.import_export.export(run_id, "kohya").is_file()
    finish(studio, run_id)
    assert same_tensors(
        run.file("adapter.safetensors"), studio.resources.store.get(alone).file("adapter.safetensors")
    )
    with pytest.raises(ValueError, match="not running"):
        studio.training.save_now(run_id)


def test_stop_at_the_checkpoint_ends_with_the_next_one(
    studio: Studio, photo_paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conduct, "CHECKPOINT_S", 3.0)
    run_id = studio.training.start("dreambooth", ENDLESS, photo_paths)
    until(lambda: studio.training.status(run_id)["step"] >= 1)
    with pytest.raises(ValueError, match="not 'soon'"):
        studio.training.stop(run_id, when="soon")
    studio.training.stop(run_id, when="checkpoint")
    assert studio.training.status(run_id)["state"] in ("stopping", "stopped")
    assert finish(studio, run_id) == "stopped"
    told = studio.training.status(run_id)
    checkpoints = [event["step"] for event in told["events"] if event["kind"] == "checkpoint"]
    assert checkpoints[-1] == told["step"] < ENDLESS.steps
    assert studio.resources.store.get(run_id).file("adapter.safetensors").is_file()


KILLED = """
import json, os, signal, sys, threading
from pathlib import Path
from pipelines.studio import Studio
studio = Studio(Path(sys.argv[1]))
studio.resources.worker.submit("before", lambda job: threading.Event().wait())
for name in "ab":
    studio.training.start("dreambooth", json.loads(sys.argv[2]), [Path(path) for path in sys.argv[3:]], name=name)
assert [row.position for row in studio.training.queue()] == [1, 2]
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is a POSIX word")
def test_runs_that_waited_when_the_program_was_killed_are_interrupted_and_resumed(
    studio: Studio, photo_paths: list[Path]
) -> None:
    words = [
        sys.executable,
        "-c",
        KILLED,
        str(studio.resources.root),
        json.dumps(to_dict(TINY)),
        *map(str, photo_paths),
    ]
    killed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    cards = {card.name: card for card in studio.library.list_runs()}
    assert {name: card.state for name, card in cards.items()} == {"a": "interrupted", "b": "interrupted"}
    assert studio.training.queue() == []
    studio.training.resume(cards["b"].id)
    assert finish(studio, cards["b"].id) == "done"
    studio.library.delete(cards["a"].id)
    assert [card.name for card in studio.library.list_runs()] == ["b"]


def test_two_devices_share_the_queue_and_learn_the_same(
    tmp_path: Path, base: Base, photo_paths: list[Path]
) -> None:
    studio = Studio(tmp_path / "two", devices=("cpu:0", "cpu:1"), model_cache=shop_with(base))
    try:
        config = replace(TINY, steps=12, sample_every=12, learning_rate=1e-4)
        runs = [studio.training.start("dreambooth", config, photo_paths, name=name) for name in "abc"]
        until(lambda: sum(row.position == 0 for row in studio.training.queue()) == 2)
        rows = studio.training.queue()
        assert {row.device for row in rows if row.position == 0} == {"cpu:0", "cpu:1"}
        assert [(row.name, row.device) for row in rows if row.position] == [("c", "")]
        until(lambda: studio.training.status(runs[1])["step"] >= 1)
        assert studio.training.save_now(runs[1]) >= 1
        assert [finish(studio, run_id) for run_id in runs] == ["done"] * 3
        files = [studio.resources.store.get(run_id).file("adapter.safetensors") for run_id in runs]
        assert same_tensors(files[0], files[1])
        assert same_tensors(files[0], files[2])
    finally:
        studio.close()


def test_a_long_job_goes_to_the_device_that_is_free_first() -> None:
    both = Devices(("cpu:0", "cpu:1"))
    try:
        release = {name: threading.Event() for name in "ab"}
        begun: list[tuple[str, str]] = []

        def long(name: str) -> Job:
            def work(job: Job) -> None:
                device = both.device_of(job)
                assert device is not None
                begun.append((name, device.name))
                if name in release:
                    release[name].wait(PATIENCE_S)

            return both.submit(name, work, then=lambda job: None)

        first, _, third = (long(name) for name in "abc")
        until(lambda: len(begun) == 2)
        assert both.queue.waiting() == [third]
        beside = both.submit_short("short", lambda job: None, beside=first)
        assert both.device_of(beside) is both.device_of(first)
        release["b"].set()
        assert third.wait(PATIENCE_S)
        assert dict(begun)["c"] == dict(begun)["b"] != dict(begun)["a"]
        idle = both.submit_short("short", lambda job: None)
        assert idle.wait(PATIENCE_S)
        assert both.device_of(idle) is not both.device_of(first)
        release["a"].set()
        assert beside.wait(PATIENCE_S)
    finally:
        both.close()


def test_whoever_loads_is_alone_and_the_others_wait_for_their_pause() -> None:
    lock, story = LoadLock(), []
    at_work, go_on, loaded = threading.Event(), threading.Event(), threading.Event()

    def train() -> None:
        with lock.shared(), lock.shared():
            at_work.set()
            go_on.wait(PATIENCE_S)
            story.append("step")
            lock.pause()
            story.append("next step")
            with lock.exclusive():
                story.append("loads itself")

    def load() -> None:
        with lock.shared(), lock.exclusive(), lock.shared():
            story.append("load")
            time.sleep(0.05)
            story.append("loaded")
        loaded.set()

    threads = [threading.Thread(target=train), threading.Thread(target=load)]
    threads[0].start()
    at_work.wait(PATIENCE_S)
    threads[1].start()
    time.sleep(0.05)
    assert story == []
    go_on.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert story == ["step", "load", "loaded", "next step", "loads itself"]
    assert loaded.is_set()
    lock.pause()


def test_remaining_times_follow_the_free_device() -> None:
    waiting = {"c": 5.0, "d": 5.0, "e": 1.0}
    assert finish_times({"a": 10.0, "b": 4.0}, waiting, devices=2) == {"c": 9.0, "d": 14.0, "e": 10.0 + 1.0}
    assert finish_times({}, {"a": 2.0, "b": 3.0}, devices=1) == {"a": 2.0, "b": 5.0}
    after = {"b": ["a"], "c": ["w"]}
    assert finish_times({}, {"a": 2.0, "b": 3.0}, devices=2, after=after) == {"a": 2.0, "b": 5.0}
    assert finish_times({"w": 9.0}, {"c": 1.0}, devices=2, after=after) == {"c": 10.0}
    assert finish_times({}, {"b": 3.0, "a": 2.0}, devices=1, after=after) == {"b": 5.0, "a": 2.0}
    with pytest.raises(ValueError, match="different names"):
        Devices(("cpu", "cpu"))


@pytest.mark.parametrize(
    ("listed", "visible", "names"),
    [
        ("GPU 0: A\nGPU 1: B\n", None, ("cuda:0", "cuda:1")),
        ("GPU 0: A\n  MIG 1g.10gb Device 0: x\n", None, ("cuda",)),
        ("GPU 0: A\nGPU 1: B\n", "1", ("cuda",)),
        ("GPU 0: A\nGPU 1: B\n", "", ("cpu",)),
        ("", None, ("cpu",)),
    ],
)
def test_devices_are_counted_without_torch(
    listed: str, visible: str | None, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices.shutil, "which", lambda name: "nvidia-smi")
    told = subprocess.CompletedProcess([], 0, stdout=listed)
    monkeypatch.setattr(devices.subprocess, "run", lambda *_, **__: told)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert device_names() == names
