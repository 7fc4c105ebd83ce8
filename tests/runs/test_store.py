"""Run folders: events survive crashes, ids cannot escape the folder, and a dead process leaves an interrupted run."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.files import data_root, write_atomic
from pipelines.runs.store import Run, RunStore, read_run

BASE = {"spec": "embedded", "family": "embedded", "hash": "00"}


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "data")


def new_run(store: RunStore, name: str = "my dog") -> Run:
    return store.create("dreambooth", {"seed": 3, "steps": 10}, BASE, name=name)


def test_a_run_reads_back_as_it_was_made(store: RunStore) -> None:
    run = new_run(store)
    again = store.get(run.id)
    assert (again.name, again.method, again.config, again.base) == ("my dog", "dreambooth", run.config, BASE)
    written = json.loads((run.path / "run.json").read_text())
    assert written["seed"] == 3
    assert set(written["versions"]) == {"torch", "diffusers", "transformers", "peft", "safetensors"}
    assert run.path.stat().st_mode & 0o077 == 0


def test_a_run_that_cannot_be_made_whole_is_not_made(store: RunStore) -> None:
    with store.draft("dreambooth", {"seed": 3}, BASE, name="a draft") as whole:
        whole.file("adapter.safetensors").write_bytes(b"1")
        assert store.list() == []
    assert [run.name for run in store.list()] == ["a draft"]
    assert whole.file("adapter.safetensors").read_bytes() == b"1"

    def fail() -> None:
        with store.draft("dreambooth", {}, BASE) as half:
            half.append("created")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk is full"):
        fail()
    assert [path.name for path in store.folder.iterdir()] == [whole.id]


def test_one_unreadable_run_hides_no_other(store: RunStore, caplog: pytest.LogCaptureFixture) -> None:
    good, newer, torn = new_run(store, "good"), new_run(store, "newer"), new_run(store, "torn")
    told = json.loads((newer.path / "run.json").read_text())
    (newer.path / "run.json").write_text(json.dumps(told | {"format": 99}))
    (torn.path / "run.json").write_text("{")
    assert [run.id for run in store.list()] == [good.id]
    assert "format 99" in caplog.text
    with pytest.raises(ValueError, match="format 99"):
        store.get(newer.id)
    with pytest.raises(ValueError, match="cannot be read"):
        store.get(torn.id)


def test_what_a_crash_left_is_swept_away_later(store: RunStore) -> None:
    new_run(store)
    old, young = store.folder / ".draft-old", store.folder / ".draft-young"
    for folder in (old, young):
        folder.mkdir()
        (folder / "run.json").touch()
    os.utime(old, (0, 0))
    new_run(store)
    assert not old.exists()
    assert young.exists()


def test_the_last_state_of_a_long_run_is_found_from_its_end(store: RunStore) -> None:
    run = new_run(store)
    run.append("state", state="running", message="")
    for step in range(3000):
        run.append("step", step=step, terms={"photographs": 0.125})
    assert (run.path / "events.jsonl").stat().st_size > 200_000
    assert run.last_state()["state"] == "running"
    run.append("state", state="done", message="")
    run.append("metrics", scores=1)
    assert run.last_state()["state"] == "done"
    (run.path / "events.jsonl").write_bytes(b"")
    assert run.last_state() == {}


def test_an_event_cut_by_a_full_disk_spoils_no_later_one(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run(store)
    run.append("step", step=1)
    write = os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda descriptor, line: write(descriptor, line[:9]))
        with pytest.raises(OSError, match="disk"):
            run.append("step", step=2)
    run.append("step", step=3)
    assert [event["step"] for event in run.events()] == [1, 3]


def test_events_are_counted_and_a_torn_line_is_none(store: RunStore) -> None:
    run = new_run(store)
    run.append("state", state="running", message='a "kind": "state" in words')
    run.append("step", step=1)
    with (run.path / "events.jsonl").open("a") as stream:
        stream.write('{"t": 1, "kind": "st')
    assert [event["kind"] for event in run.events()] == ["state", "step"]
    again = store.get(run.id)
    again.append("step", step=2)
    assert [event.get("step") for event in again.events(since=1)] == [1, 2]
    assert again.last_state()["state"] == "running"


def test_state_is_interrupted_when_nobody_holds_the_run(store: RunStore) -> None:
    run = new_run(store)
    run.append("state", state="running", message="")
    with run.hold():
        assert store.get(run.id).state == "running"
        with pytest.raises(ValueError, match="already running"):
            store.get(run.id).acquire()
        with pytest.raises(ValueError, match="still running"):
            store.delete(run.id)
    assert store.get(run.id).state == "interrupted"
    run.append("state", state="done", message="")
    assert store.get(run.id).state == "done"


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is a POSIX word")
def test_kill_minus_nine_lets_go_of_the_run(store: RunStore) -> None:
    run = new_run(store)
    run.append("state", state="running", message="")
    script = (
        "import sys, time; from pathlib import Path; from pipelines.runs.store import read_run\n"
        "lock = read_run(Path(sys.argv[1])).acquire(); print('held', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", script, str(run.path)], stdout=subprocess.PIPE, text=True)
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        assert run.state == "running"
        os.kill(child.pid, signal.SIGKILL)
    assert run.state == "interrupted"


def test_ids_and_names_cannot_lead_out(store: RunStore) -> None:
    run = new_run(store)
    for bad in ("../x", "/etc", "", "20260101-000000-zzzzzzzzzzzz", run.id + "/..", "\0"):
        with pytest.raises(ValueError, match="no run"):
            store.get(bad)
    for bad in ("../../secret", "/etc/passwd"):
        with pytest.raises(ValueError, match="not a file of this run"):
            run.file(bad)


def test_list_rename_note_copy_delete(store: RunStore, tmp_path: Path) -> None:
    first, second = new_run(store, "first"), new_run(store, "second\x07")
    second.created = first.created + 1
    second.save()
    assert [run.name for run in store.list()] == ["second", "first"]
    store.rename(first.id, "  premier ")
    store.note(first.id, "kept for the talk")
    assert store.get(first.id).name == "premier"
    assert store.get(first.id).note == "kept for the talk"
    write_atomic(first.path / "samples" / "a.png", b"png")
    copy = first.copy_out("samples/a.png", tmp_path / "out")
    assert copy.read_bytes() == b"png"
    assert copy.parent == tmp_path / "out"
    with pytest.raises(ValueError, match="no file"):
        first.copy_out("samples/b.png", tmp_path / "out")
    store.delete(first.id)
    assert [run.name for run in store.list()] == ["second"]
    assert store.size() > 0


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.json"
    write_atomic(path, b"old")
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_quota_and_format_speak_in_sentences(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    run = new_run(store)
    monkeypatch.setenv("ATELIER_QUOTA_MB", "1")
    with pytest.raises(ValueError, match="delete a run, or raise ATELIER_QUOTA_MB"):
        new_run(store)
    data = json.loads((run.path / "run.json").read_text())
    run.write_json("run.json", data | {"format": 99})
    with pytest.raises(ValueError, match="format 99"):
        read_run(run.path)


def test_data_root_is_never_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATELIER_HOME", str(tmp_path / "here"))
    assert data_root() == tmp_path / "here"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="choose a folder elsewhere"):
        data_root()
    monkeypatch.delenv("ATELIER_HOME")
    assert data_root().is_relative_to(Path.home()) or "XDG_DATA_HOME" in os.environ
