"""A full disk, a read-only disk or missing permissions give one error sentence and leave no partial files."""

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import SafetensorError

from pipelines.adapters import core
from pipelines.files import DiskError, TemporaryFolder, disk_error, prepare_data_root, write_atomic
from pipelines.jobs import train_job
from pipelines.models.base import Base
from pipelines.runs.store import RunStore
from pipelines.sampling.image_metadata import save_png
from pipelines.studio import Studio
from tests.tiny import TINY, draw_photos, finish, shop_with

FULL = "The disk is full, so this could not be saved; free some space"


def refuse(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


def refuse_tensors(_: Any, path: Path, **__: Any) -> None:
    path.write_bytes(b"half of it")
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.fixture
def studio(base: Base, tmp_path: Path) -> Iterator[Studio]:
    studio = Studio(tmp_path / "data", model_cache=shop_with(base))
    yield studio
    studio.close()


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, "x"), "The disk is full"),
        (OSError(errno.EDQUOT, "x"), "Your quota on this disk is used up"),
        (OSError(errno.EROFS, "x"), "The disk is read-only"),
        (PermissionError(errno.EACCES, "x"), "The system refused access"),
        (PermissionError(errno.EPERM, "x"), "The system refused access"),
        (SafetensorError("I/O error: Read-only file system (os error 30)"), "The disk is read-only"),
    ],
)
def test_trouble_of_the_disk_has_a_sentence(error: Exception, says: str) -> None:
    assert str(disk_error(error)).startswith(says)
    assert isinstance(disk_error(error), ValueError)


@pytest.mark.parametrize("error", [OSError("a fault"), FileNotFoundError(errno.ENOENT, "x"), KeyError("28")])
def test_other_faults_stay_what_they_are(error: Exception) -> None:
    assert disk_error(error) is None


def test_files_appear_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "replace", refuse)
    writers: list[Callable[[Path], None]] = [
        lambda path: write_atomic(path, b"x"),
        lambda path: save_png(Image.new("RGB", (8, 8)), path, {}),
        lambda path: core.save_tensors(path, {"a": torch.zeros(1)}, metadata={}),
    ]
    for write in writers:
        with pytest.raises(DiskError, match=FULL):
            write(tmp_path / "file")
        assert list(tmp_path.iterdir()) == []


def test_tensors_that_do_not_fit_leave_the_file_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.safetensors"
    core.save_tensors(path, {"a": torch.ones(1)}, metadata={})
    monkeypatch.setattr(core, "save_file", refuse_tensors)
    with pytest.raises(DiskError, match=FULL):
        core.save_tensors(path, {"a": torch.zeros(1)}, metadata={})
    assert list(tmp_path.iterdir()) == [path]
    assert core.read_tensors(path)[0]["a"].item() == 1.0


def test_a_run_that_cannot_be_saved_leaves_no_folder(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    with pytest.raises(DiskError, match=FULL), store.draft("dreambooth", {}, {"spec": "embedded"}):
        refuse()
    assert list((tmp_path / "runs").iterdir()) == []


def test_starting_on_a_full_disk_is_refused(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = draw_photos(tmp_path / "photos")
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ValueError, match=FULL):
        studio.training.start("dreambooth", TINY, photos)
    with pytest.raises(ValueError, match=FULL):
        studio.experiments.start("methods", {}, photos, class_noun="dog", identifier="zwx")
    monkeypatch.undo()
    assert studio.library.list_runs() == []


def test_a_training_keeps_its_last_checkpoint(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full after the first checkpoint: the run fails with the error sentence and can be resumed."""
    save, made = core.save_file, []

    def second_is_too_much(tensors: Any, path: Path, **more: Any) -> None:
        if "checkpoint" in path.name:
            made.append(path)
        if len(made) > 1:
            refuse_tensors(tensors, path)
        save(tensors, path, **more)

    monkeypatch.setattr(core, "save_file", second_is_too_much)
    monkeypatch.setattr(train_job, "CHECKPOINT_S", 0.0)
    monkeypatch.setattr(train_job, "CHECKPOINT_SHARE", 0.0)
    run_id = studio.training.start("dreambooth", replace(TINY, steps=3), draw_photos(tmp_path / "photos"))
    assert studio.training.wait(run_id, 120) == "failed"
    run = studio.resources.store.get(run_id)
    assert run.last_state()["message"].startswith(FULL)
    assert not list(run.path.rglob("*.part"))
    assert run.file("checkpoint.safetensors").is_file()
    monkeypatch.undo()
    studio.training.resume(run_id)
    assert finish(studio, run_id) == "done"
    assert [event["step"] for event in run.events() if event["kind"] == "resumed"] == [1]

    monkeypatch.setattr(core, "save_file", refuse_tensors)
    with pytest.raises(ValueError, match=FULL):
        studio.import_export.export(run_id, "diffusers")
    assert not list(studio.resources.outbox.rglob("*.part"))
    monkeypatch.undo()
    monkeypatch.setattr(os, "replace", refuse)
    for change in (studio.library.rename, studio.library.note):
        with pytest.raises(ValueError, match=FULL):
            change(run_id, "Bello")
    monkeypatch.undo()
    assert studio.resources.store.get(run_id).name != "Bello"


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.EROFS, "cannot be used: the disk is read-only"),
        (errno.EACCES, "cannot be used: the system refused"),
    ],
)
def test_the_start_names_a_data_folder_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, says: str
) -> None:
    def refuse_folder(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", refuse_folder)
    with pytest.raises(ValueError, match=says) as told:
        prepare_data_root(tmp_path / "home")
    assert str(tmp_path / "home") in str(told.value)
    assert "set ATELIER_HOME to a folder" in str(told.value)


def test_the_start_refuses_a_file_for_the_data_folder_and_lets_a_full_disk_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    for root in (tmp_path / "file", tmp_path / "file" / "home"):
        with pytest.raises(ValueError, match="because a file has that name"):
            prepare_data_root(root)
    prepare_data_root(tmp_path / "home")
    assert list((tmp_path / "home").iterdir()) == []
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    prepare_data_root(tmp_path / "home")  # restore permissions, so that runs can be deleted


def test_temporary_files_without_a_place_get_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    with pytest.raises(ValueError, match=FULL):
        TemporaryFolder("atelier-test-")
    monkeypatch.setattr("tempfile.gettempdir", nowhere)
    with pytest.raises(ValueError, match="no folder for temporary files"):
        TemporaryFolder("atelier-test-")
