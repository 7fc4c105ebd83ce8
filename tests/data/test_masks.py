"""Subject masks: detected in photographs, deterministic, accepted as files; a failed detection is reported."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pipelines.data.masks import find_mask, outlined, painted, tinted
from pipelines.data.photographs import read_photos
from pipelines.data.subject import SubjectPhotos, read_subject


def photograph(*, size_px: int = 192, radius: float = 0.25) -> tuple[Image.Image, np.ndarray]:
    """Return a red disc on a noisy green background, and the disc as a bool array (size, size)."""
    rng = np.random.default_rng(0)
    ground = rng.normal((60, 140, 70), 25, (size_px, size_px, 3)).clip(0, 255).astype(np.uint8)
    picture = Image.fromarray(ground)
    box = [size_px * (0.5 - radius)] * 2 + [size_px * (0.5 + radius)] * 2
    ImageDraw.Draw(picture).ellipse(box, fill=(190, 40, 50))
    truth = Image.new("L", picture.size)
    ImageDraw.Draw(truth).ellipse(box, fill=255)
    return picture, np.asarray(truth) > 0


def test_the_subject_is_found() -> None:
    picture, truth = photograph()
    found = find_mask(picture)
    ours = np.asarray(found.image) > 0
    assert found.found
    assert found.image.size == picture.size
    assert (ours & truth).sum() / (ours | truth).sum() > 0.9


def test_the_same_photograph_has_the_same_mask() -> None:
    picture, _ = photograph()
    assert find_mask(picture).image.tobytes() == find_mask(picture.copy()).image.tobytes()


def test_a_hole_in_the_subject_belongs_to_it() -> None:
    picture, _ = photograph()
    ImageDraw.Draw(picture).ellipse([88, 88, 104, 104], fill=(60, 140, 70))
    assert np.asarray(find_mask(picture).image)[96, 96] == 255


def test_nothing_to_find_is_said() -> None:
    found = find_mask(Image.new("RGB", (128, 128), (90, 90, 90)))
    assert not found.found
    assert (
        0.2 < (np.asarray(found.image) > 0).mean() < 0.6
    )  # the default ellipse in the middle, for the user to correct


def test_the_outline_dims_the_background_alone() -> None:
    picture, truth = photograph()
    mask = Image.fromarray((truth * 255).astype(np.uint8))
    shown, before = np.asarray(outlined(picture, mask)), np.asarray(picture)
    assert (shown[96, 96] == before[96, 96]).all()
    assert (shown[4, 4] == before[4, 4] // 2).all()


def written(folder: Path, *, side_px: int = 192) -> tuple[Path, Path]:
    """Write a photograph and a mask of ``side_px`` px; the subject covers its left half."""
    photo, mask = folder / "Disc.png", folder / "disc.mask.png"
    photograph()[0].save(photo)
    half = Image.new("L", (side_px, side_px))
    half.paste(255, (0, 0, side_px // 2, side_px))
    half.save(mask)
    return photo, mask


def test_a_mask_beside_its_photograph_is_taken_in_also_from_a_zip(tmp_path: Path) -> None:
    photo, mask = written(tmp_path)
    packed = tmp_path / "all.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(mask, "disc.mask.png")
        archive.write(photo, "Disc.png")
    for paths in ([photo, mask], [packed]):
        (read,) = read_photos(paths, size_px=64)
        assert read.mask is not None
        cells = np.asarray(read.mask)
        assert cells.shape == (64, 64)
        assert (cells[:, :31] == 255).all()
        assert (cells[:, 33:] == 0).all()


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    photo, mask = written(tmp_path, side_px=100)
    with pytest.raises(ValueError, match=r"The mask of Disc\.png has another size than the photograph"):
        read_photos([photo, mask], size_px=64)


def test_a_mask_without_its_photograph_is_refused(tmp_path: Path) -> None:
    photo, mask = written(tmp_path)
    alone = mask.rename(tmp_path / "other.mask.png")
    with pytest.raises(ValueError, match=r"other\.mask\.png is a mask without its photograph"):
        read_photos([photo, alone], size_px=64)


@pytest.mark.parametrize("source", ["handed over", "beside", "found", "none"])
def test_whose_mask_counts(tmp_path: Path, source: str) -> None:
    photo, mask = written(tmp_path)
    read = read_subject(
        SubjectPhotos(
            identifier="sks",
            class_noun="disc",
            photo_paths=[photo, mask] if source == "beside" else [photo],
            masks={"Disc.png": mask} if source == "handed over" else {},
        ),
        size_px=64,
        mask_background=source != "none",
    )
    if source == "none":
        assert not read.masks
        return
    share = (np.asarray(read.masks[0]) > 0).mean()
    assert share == pytest.approx(
        0.196 if source == "found" else 0.5, abs=0.02
    )  # a disc whose radius is a quarter of the side


def test_a_square_mask_is_that_of_the_photographs_square(tmp_path: Path) -> None:
    photo, mask = tmp_path / "wide.png", tmp_path / "drawn.png"
    Image.new("RGB", (300, 200), "wheat").save(photo)
    drawn = Image.new("L", (384, 384))
    drawn.paste(255, (0, 0, 384, 192))
    drawn.save(mask)
    handed = SubjectPhotos(identifier="sks", class_noun="disc", photo_paths=[photo], masks={"wide.png": mask})
    cells = np.asarray(read_subject(handed, size_px=64).masks[0])
    assert (cells[:31] == 255).all()
    assert (cells[33:] == 0).all()


def test_what_is_painted_on_the_tinted_layer_belongs_to_the_mask() -> None:
    _, truth = photograph()
    mask = Image.fromarray(np.where(truth, 255, 0).astype(np.uint8))
    layer = tinted(mask)
    assert (np.asarray(painted([layer], mask.size)) > 0).tolist() == truth.tolist()
    brush = ImageDraw.Draw(layer)
    brush.rectangle([0, 0, 40, 40], fill=(255, 255, 255, 150))  # a white stroke adds to the mask
    brush.rectangle([80, 80, 110, 110], fill=(0, 0, 0, 0))  # the eraser removes
    upper = Image.new("RGBA", mask.size)
    ImageDraw.Draw(upper).rectangle(
        [60, 95, 70, 99], fill=(0, 0, 0, 200)
    )  # a black stroke removes, also on another layer
    ours = painted([layer, upper.resize((384, 384))], mask.size)
    assert [ours.getpixel(place) for place in ((20, 20), (95, 95), (65, 97), (75, 96), (10, 100))] == [
        255, 0, 0, 255, 0,
    ]  # fmt: skip
    assert painted([], mask.size).getbbox() is None
