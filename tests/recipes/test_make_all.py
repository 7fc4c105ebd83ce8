"""A derived asset is rebuilt if, and only if, the weights it depends on have changed."""

from pathlib import Path

import pytest

from recipes.make_all import Part, fingerprint, make, parts


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for name in ("unet", "vae", "text_encoder"):
        (tmp_path / "base" / name).mkdir(parents=True)
        (tmp_path / "base" / name / "model.safetensors").write_bytes(name.encode())
    return tmp_path / "base"


TODO = [Part("instruments", ("a",), ("vae",)), Part("examples", ("b",)), Part("tags", ("c",), ())]


def test_everything_is_made_once(base: Path, tmp_path: Path):
    seen: list[tuple[str, ...]] = []
    assert make(TODO, base, tmp_path / "made.json", run=seen.append) == ["instruments", "examples", "tags"]
    assert seen == [("a",), ("b",), ("c",)]
    assert make(TODO, base, tmp_path / "made.json", run=seen.append) == []


def test_another_unet_leaves_the_instruments(base: Path, tmp_path: Path):
    make(TODO, base, tmp_path / "made.json", run=lambda command: None)
    (base / "unet" / "model.safetensors").write_bytes(b"trained further")
    assert make(TODO, base, tmp_path / "made.json", run=lambda command: None) == ["examples"]


def test_a_part_that_failed_is_made_next_time(base: Path, tmp_path: Path):
    def fail_at_b(command: tuple[str, ...]) -> None:
        if command == ("b",):
            raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        make(TODO, base, tmp_path / "made.json", run=fail_at_b)
    assert make(TODO, base, tmp_path / "made.json", run=lambda command: None) == ["examples", "tags"]


def test_fingerprint_tells_weights_apart(base: Path):
    before = fingerprint(base, ("unet", "vae"))
    assert before == fingerprint(base, ("unet", "vae"))
    (base / "vae" / "model.safetensors").write_bytes(b"sharper")
    assert before != fingerprint(base, ("unet", "vae"))


def test_every_command_is_a_module_of_this_repository(tmp_path: Path):
    root = Path(__file__).parents[2]
    for part in parts(tmp_path, tmp_path, tmp_path):
        assert root.joinpath(*part.command[0].split(".")).with_suffix(".py").is_file(), part.name
