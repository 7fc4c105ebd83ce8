"""The history of a visitor's pictures: order, limits, privacy, and file names."""

import dataclasses
from pathlib import Path

import pytest
from PIL import Image

from pipelines.config import SampleConfig
from pipelines.files import file_stem
from pipelines.sampling import picture_history
from pipelines.sampling.image_metadata import Layer, picture_facts, picture_name, save_png
from pipelines.sampling.picture_history import PictureHistory


@dataclasses.dataclass
class Base:
    spec: str = "embedded"
    name: str = "Embedded base"
    hash: str = "0123456789abcdef0123"


@pytest.fixture
def history(tmp_path: Path) -> PictureHistory:
    return PictureHistory(tmp_path / "data")


@pytest.fixture
def visitor(history: PictureHistory) -> str:
    return history.new_visitor()


def picture(folder: Path, *, seed: int, strength: float = 1.0, colour: str = "red") -> Path:
    config = SampleConfig(prompt="a photo of a zwx dog", seed=seed)
    layer = Layer(run="r", name="Rex", strength=strength)
    path = folder / f"{seed}-{strength}-{colour}.png"
    save_png(
        Image.new("RGB", (8, 8), colour), path, picture_facts(config, index=0, stack=[layer], base=Base())
    )
    return path


def test_pictures_are_kept_newest_first_with_their_settings(
    history: PictureHistory, visitor: str, tmp_path: Path
) -> None:
    for seed in (3, 1, 2):
        history.add(visitor, picture(tmp_path, seed=seed), before=picture(tmp_path, seed=seed, colour="blue"))
    found = PictureHistory(tmp_path / "data").list(visitor)
    assert [kept.settings["seed"] for kept in found] == [2, 1, 3], "also after a restart"
    first = history.find(visitor, found[0].id)
    assert first.settings["stack"][0]["strength"] == 1.0
    assert first.before is not None
    assert first.before.read_bytes() == picture(tmp_path, seed=2, colour="blue").read_bytes()
    assert first.file_name == "a-photo-of-a-zwx-dog-seed-2.png"


def test_the_same_settings_are_one_picture_and_another_strength_is_another(
    history: PictureHistory, visitor: str, tmp_path: Path
) -> None:
    history.add(visitor, picture(tmp_path, seed=1))
    history.add(visitor, picture(tmp_path, seed=2))
    history.add(visitor, picture(tmp_path, seed=1))
    assert [kept.settings["seed"] for kept in history.list(visitor)] == [1, 2]
    history.add(visitor, picture(tmp_path, seed=1, strength=0.5))
    assert len(history.list(visitor)) == 3


def test_the_oldest_pictures_and_visitors_go_first(
    history: PictureHistory, visitor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_history, "MOST_PICTURES", 3)
    monkeypatch.setattr(picture_history, "MOST_VISITORS", 2)
    for seed in range(5):
        history.add(visitor, picture(tmp_path, seed=seed), before=picture(tmp_path, seed=seed))
    assert [kept.settings["seed"] for kept in history.list(visitor)] == [4, 3, 2]
    assert len(list((history.folder / visitor).rglob("*.png"))) == 6, "and their pictures without the adapter"
    others = [history.new_visitor() for _ in range(2)]
    for other in others:
        history.add(other, picture(tmp_path, seed=0))
    assert history.list(visitor) == []
    assert all(history.list(other) for other in others)


def test_nobody_sees_the_pictures_of_others(history: PictureHistory, visitor: str, tmp_path: Path) -> None:
    kept = history.add(visitor, picture(tmp_path, seed=1))
    other = history.new_visitor()
    assert history.list(other) == history.list("") == history.list("../..") == []
    for key, name in ((other, kept.id), (visitor, "../" + kept.id), (visitor, "")):
        with pytest.raises(ValueError, match="no longer in the history"):
            history.find(key, name)
    with pytest.raises(ValueError, match="key of the picture history"):
        history.add("../../elsewhere", picture(tmp_path, seed=1))
    with pytest.raises(ValueError, match="key of the picture history"):
        history.remove("..")


def test_one_picture_or_all_are_removed(history: PictureHistory, visitor: str, tmp_path: Path) -> None:
    first, second = (
        history.add(visitor, picture(tmp_path, seed=seed), before=picture(tmp_path, seed=seed))
        for seed in (1, 2)
    )
    history.remove(visitor, second.id)
    assert [kept.id for kept in history.list(visitor)] == [first.id]
    history.remove(visitor)
    assert history.list(visitor) == []
    assert not list(history.folder.rglob("*.png"))


def test_a_damaged_picture_is_left_out(history: PictureHistory, visitor: str, tmp_path: Path) -> None:
    kept = history.add(visitor, picture(tmp_path, seed=1))
    history.add(visitor, picture(tmp_path, seed=2))
    kept.path.write_bytes(b"no picture")
    assert [each.settings["seed"] for each in history.list(visitor)] == [2]


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("a photo of a zwx dog", "a-photo-of-a-zwx-dog-seed-7.png"),
        ("../../etc/passwd", "etc-passwd-seed-7.png"),
        ('CON: a|b*?<>"\\\n\t', "con-a-b-seed-7.png"),
        ("un été à la plage", "un-été-à-la-plage-seed-7.png"),
        ("海辺の犬", "海辺の犬-seed-7.png"),
        ("समुद्र", "समुद्र-seed-7.png"),
        ("🐕 ‮", "picture-seed-7.png"),
    ],
)
def test_a_picture_is_called_after_its_prompt_and_seed(prompt: str, name: str) -> None:
    assert picture_name(prompt, 7) == name


@pytest.mark.parametrize("prompt", ["word " * 200, "x" * 2000, "犬" * 500])
def test_a_long_prompt_gives_a_short_name(prompt: str, tmp_path: Path) -> None:
    name = picture_name(prompt, 2**32 - 1, ending="-before")
    assert len(name.encode()) <= 120
    (tmp_path / name).write_bytes(b"")
    assert len(file_stem(prompt, default="run", most_bytes=20).encode()) <= 20
