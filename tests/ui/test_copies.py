"""Temporary copies for the browser are deleted by age, and after a killed process at the next start."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import app
from pipelines.files import LOCK, UNUSED_S, TemporaryFolder
from ui.html import BrowserCopies

ROOT = Path(__file__).resolve().parents[2]
KILLED = """
import os, sys
from pathlib import Path
from ui.html import BrowserCopies
copies = BrowserCopies()
copies.write("note.txt", "x" * 100)
print(copies.folder, flush=True)
if len(sys.argv) > 1:
    os._exit(9)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use a separate temporary folder, so that files of other programs are not affected."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


def test_copies_of_a_killed_process_go_at_the_next_start_and_those_of_a_living_one_stay() -> None:
    script = [sys.executable, "-c", KILLED]
    killed = subprocess.run([*script, "die"], cwd=ROOT, capture_output=True, text=True, check=False)
    left = Path(killed.stdout.strip())
    assert (left / LOCK).is_file(), killed.stderr
    with subprocess.Popen(
        script, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as living:
        assert living.stdout is not None
        kept = Path(living.stdout.readline().strip())
        copies = BrowserCopies()
        try:
            assert not left.exists()
            assert list(kept.glob("*/note.txt"))
        finally:
            copies.close()
            living.communicate("")
    assert not copies.folder.exists()


def test_folders_of_an_earlier_version_go_after_a_day(temporary: Path) -> None:
    young, old = temporary / "atelier-handout-young", temporary / "atelier-handout-old"
    for folder in (young, old):
        folder.mkdir()
        (folder / "copy.png").write_bytes(b"x")
    two_days_ago = time.time() - 2 * 24 * 3600
    os.utime(old, (two_days_ago, two_days_ago))
    BrowserCopies().close()
    assert young.exists()
    assert not old.exists()


def test_a_copy_that_is_not_asked_for_goes_and_is_made_again(tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    Image.new("RGB", (64, 64), "red").save(picture)
    copies = BrowserCopies()
    made = [copies.copy(picture), copies.write("a.json", "{}"), copies.copy(picture, name="b.png")]
    assert "picture-x12" in copies.enlarged(picture)
    long_ago = time.time() - UNUSED_S - 60
    for path in copies.folder.rglob("*"):
        os.utime(path, (long_ago, long_ago))
    assert copies.copy(picture) == made[0], "asked for again, so it is in use"
    copies._temporary.sweep(every_s=0)
    assert sorted(path.name for path in copies.folder.rglob("*") if path.is_file()) == [LOCK, "picture.png"]
    assert copies.copy(picture, name="b.png").read_bytes() == picture.read_bytes()
    assert copies.write("a.json", "{}").read_text() == "{}"
    copies.close()


OWN_UPLOADS = """
import app
app.prepare_environment()
app.keep_own_uploads()
from gradio.utils import get_upload_folder
print(get_upload_folder(), flush=True)
"""


def test_gradio_keeps_the_copies_of_every_process_in_a_folder_of_its_own(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradio deletes its copies when a server ends, and another server of this user may still show them."""
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    script = [sys.executable, "-c", OWN_UPLOADS]
    said = subprocess.run(script, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    used = Path(said.strip())
    assert used.parent == temporary
    assert used.name.startswith("atelier-gradio-")
    assert not used.exists(), "it goes with its process"
    ends: list[Callable[[], None]] = []
    monkeypatch.setattr(app.atexit, "register", ends.append)
    folders = []
    for _ in range(2):
        monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
        app.keep_own_uploads()
        folders.append(Path(os.environ["GRADIO_TEMP_DIR"]))
    app.keep_own_uploads()
    assert os.environ["GRADIO_TEMP_DIR"] == str(folders[1]), "one that is set stays"
    assert folders[0] != folders[1]
    ends[0]()
    assert [folder.is_dir() for folder in folders] == [False, True]
    ends[1]()


def test_a_folder_is_swept_now_and_then_only() -> None:
    folder = TemporaryFolder("atelier-test-")
    old = folder.path / "old.png"
    old.write_bytes(b"x")
    os.utime(old, (0, 0))
    folder.sweep()
    assert old.exists(), "it has just begun"
    folder.sweep(every_s=0)
    assert not old.exists()
    folder.close()
