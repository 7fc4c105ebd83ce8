"""Uploaded files are sorted into photographs, masks and captions, each under a name of its own."""

import zipfile
from pathlib import Path

import pytest
from PIL import Image

from pipelines.data.intake import check_mask, sort_files
from pipelines.data.photographs import overview, read_photos


def picture(path: Path, size: tuple[int, int] = (96, 64), *, colour: str = "teal") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


@pytest.fixture
def into(tmp_path: Path) -> Path:
    (tmp_path / "into").mkdir()
    return tmp_path / "into"


def test_an_archive_is_unpacked_with_its_masks_and_captions(tmp_path: Path, into: Path) -> None:
    one, mask = picture(tmp_path / "rex.png"), picture(tmp_path / "rex.mask.png", colour="white")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.write(one, "a/rex.png")
        archive.write(mask, "a/rex.mask.png")
        archive.writestr("a/rex.txt", "a {identifier} dog asleep")
        archive.writestr("readme.txt", "of no photograph")
        archive.writestr("../../evil.png", one.read_bytes())
    found = sort_files([tmp_path / "photos.zip"], into=into)
    assert list(found.photos) == ["rex.png", "evil.png"]
    assert found.captions == {"rex.png": "a {identifier} dog asleep"}
    assert [path.name for path in found.masks.values()] == ["rex.mask.png"]
    assert found.refused == []
    for path in (*found.photos.values(), *found.masks.values()):
        assert path.resolve().is_relative_to(into.resolve())
    photos = read_photos([*found.photos.values(), *found.masks.values()], size_px=64)
    assert [photo.mask is not None for photo in photos] == [True, False]


def test_two_photographs_of_one_name_keep_their_own_companions(tmp_path: Path, into: Path) -> None:
    first, second = picture(tmp_path / "1" / "image.png"), picture(tmp_path / "2" / "image.jpg")
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.write(first, "IMAGE.png")
        archive.writestr("image.txt", "the third")
    found = sort_files([first, second, tmp_path / "more.zip"], into=into, taken=["image.webp"])
    assert list(found.photos) == ["IMAGE-2.png", "image-3.png", "image-4.jpg"], "archives come first"
    assert found.captions == {"IMAGE-2.png": "the third"}
    assert {name: path.name for name, path in found.photos.items()} == {name: name for name in found.photos}


def test_what_comes_later_belongs_to_the_photograph_that_is_there(tmp_path: Path, into: Path) -> None:
    (tmp_path / "rex.txt").write_text("asleep")
    mask, lost = picture(tmp_path / "rex.mask.png"), picture(tmp_path / "gone.mask.png")
    (tmp_path / "long.txt").write_text("a" * 400)
    found = sort_files(
        [tmp_path / "rex.txt", mask, lost, tmp_path / "long.txt"], into=into, taken=["rex.jpg", "long.jpg"]
    )
    assert found.photos == {}
    assert found.captions == {"rex.jpg": "asleep"}
    assert found.masks == {"rex.jpg": mask}
    assert found.refused == [
        "gone.mask.png is a mask without its photograph; add the photograph.",
        "long.txt is too long for a caption; please keep it under 300 characters.",
    ]


def test_a_mask_of_another_size_and_a_damaged_archive_are_refused(tmp_path: Path, into: Path) -> None:
    photo = picture(tmp_path / "rex.png")
    check_mask(photo, picture(tmp_path / "rex.mask.png"))
    with pytest.raises(ValueError, match="has another size than the photograph"):
        check_mask(photo, picture(tmp_path / "rex.mask.png", (64, 96)))
    torn = tmp_path / "torn.zip"
    with zipfile.ZipFile(torn, "w") as archive:
        archive.write(photo, "rex.png")
    torn.write_bytes(torn.read_bytes().replace(photo.read_bytes()[:40], b"x" * 40, 1))
    found = sort_files([torn, photo], into=into)
    assert list(found.photos) == ["rex.png"]
    assert found.refused == [
        "torn.zip is a zip that is damaged or protected by a password; please pack it again."
    ]


def test_an_overview_shows_the_whole_upright_photograph(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (1600, 800), "teal").save(tmp_path / "wide.jpg", exif=turned)
    assert overview(tmp_path / "wide.jpg", side_px=320).size == (160, 320)
    (tmp_path / "words.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"words\.png is not a JPEG, PNG or WebP picture"):
        overview(tmp_path / "words.png", side_px=320)
    with pytest.raises(ValueError, match=r"gone\.png cannot be opened"):
        overview(tmp_path / "gone.png", side_px=320)
