"""Settings are exported as JSON and validated on import; the command line reports invalid settings in one sentence."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines import cli as command
from pipelines.config import DreamBoothConfig, to_dict
from pipelines.runs.settings import read_settings, settings_of
from pipelines.runs.store import RunStore

CONFIG = to_dict(DreamBoothConfig(steps=3, identifier="zwx", class_noun="dog"))
WHOLE = {"atelier": 1, "method": "dreambooth", "config": CONFIG}


def test_settings_make_the_round_trip_and_name_no_folder(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "data")
    (tmp_path / "private").mkdir()
    for spec in ("embedded", str(tmp_path / "private")):
        run = store.create("dreambooth", CONFIG, {"spec": spec, "family": "embedded", "hash": ""}, name="Rex")
        (run.path / "photos").mkdir()
        for name in ("01.png", "00.png"):
            (run.path / "photos" / name).touch()
        run.write_json("captions.json", {"00.png": "a dog", "01.png": ""})
        told = settings_of(run)
        text = json.dumps(told)
        assert "private" not in text
        assert told["photos"] == ["00.png", "01.png"]
        base = "" if spec == "embedded" else "--base BASE "
        assert told["command"] == f"python -m pipelines.cli --settings run.json {base}00.png 01.png"
        found = read_settings(text)
        assert (found["method"], found["config"], found["name"]) == ("dreambooth", CONFIG, "Rex")
        assert found["base"] == ("embedded" if spec == "embedded" else "")
        assert found["captions"] == {"00.png": "a dog"}


def test_a_loaded_lora_has_no_settings(tmp_path: Path) -> None:
    run = RunStore(tmp_path).create(
        "import", {}, {"spec": "embedded", "family": "embedded", "hash": ""}, name="x"
    )
    with pytest.raises(ValueError, match="loaded from a file"):
        settings_of(run)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("not json", "are not JSON"),
        ("[" * 100_000, "are not JSON"),
        ("x" * 300_000, "far too long"),
        ("[]", "not Atelier settings"),
        (json.dumps({"network_dim": 8}), "not Atelier settings"),
        (json.dumps(WHOLE | {"atelier": 9}), "format '9'"),
        (json.dumps(WHOLE | {"extra": 1}), "unknown entry 'extra'"),
        (json.dumps(WHOLE | {"config": []}), "config a table"),
        (json.dumps(WHOLE | {"method": "magic"}), "no method 'magic'"),
        (json.dumps(WHOLE | {"config": {"stepz": 1}}), "Unknown setting 'stepz'"),
        (json.dumps(WHOLE | {"config": {"steps": 10**6}}), "the largest allowed"),
        (json.dumps(WHOLE | {"base": 5}), "base must be a text"),
        (json.dumps(WHOLE | {"captions": {"a.png": 5}}), "captions must be a table"),
    ],
)
def test_other_settings_are_refused_in_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        read_settings(text)


def full(folder: Path) -> list[str]:
    (folder / "out").mkdir()
    (folder / "out" / "mine.txt").touch()
    return ["--out", str(folder / "out")]


@pytest.mark.parametrize(
    ("settings", "more", "sentence"),
    [
        (b"{}", lambda folder: [], "not Atelier settings"),
        (b"\xff\xfe\x00\x80", lambda folder: [], "is not text"),
        (b"0" * 900_000, lambda folder: [], "far too large"),
        (json.dumps(WHOLE).encode(), full, "not an empty folder"),
        (json.dumps(WHOLE).encode(), lambda folder: ["--format", "docx"], "no export format 'docx'"),
        (json.dumps(WHOLE).encode(), lambda folder: ["--base", "nowhere at all"], "no base"),
        (json.dumps(WHOLE).encode(), lambda folder: [], "cannot be opened"),
        (None, lambda folder: [], "run.json cannot be used"),
    ],
)
def test_the_command_line_refuses_with_exit_code_two(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    settings: bytes | None,
    more: Callable[[Path], list[str]],
    sentence: str,
) -> None:
    if settings is not None:
        (tmp_path / "run.json").write_bytes(settings)
    words = ["--settings", str(tmp_path / "run.json"), *more(tmp_path), str(tmp_path / "gone.png")]
    assert command.main(words) == 2
    assert sentence in capsys.readouterr().err


class Scripted:
    """A Studio whose run advances with every status call; the third call raises KeyboardInterrupt (Ctrl-C)."""

    def __init__(self) -> None:
        self.training = self
        self.looks = 0
        self.stopped = False

    def status(self, run_id: str, since: int = 0) -> dict[str, Any]:
        self.looks += 1
        if self.looks == 3:
            raise KeyboardInterrupt
        step = {"kind": "step", "step": self.looks, "total": 9, "terms": {"photographs": 0.25}}
        state = "stopped" if self.stopped else "running"
        return {"state": state, "events": [step], "next": self.looks, "eta_s": 4.0, "error": ""}

    def stop(self, run_id: str) -> None:
        self.stopped = True


def test_progress_is_told_and_ctrl_c_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "LOOK_S", 0.0)
    studio, screen = Scripted(), io.StringIO()
    assert command.follow(studio, "x", screen=screen) == "stopped"
    assert studio.stopped
    assert "running: step 2/9, photographs 0.2500, about 4 s left" in screen.getvalue()
