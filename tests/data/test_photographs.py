"""Photographs: type detected by content, rotated, metadata removed, cropped; invalid files refused by name."""

import io
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.data.photographs import MAX_PHOTOS, Moments, encode, read_photos, to_images, to_tensor
from pipelines.models.base import Base


def picture(*, width: int = 160, height: int = 120) -> Image.Image:
    """Left half red, right half blue, with a row of white blocks at the top."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[:, : width // 2, 0] = 200
    pixels[:, width // 2 :, 2] = 200
    pixels[: height // 4] = 255
    return Image.fromarray(pixels)


def save(path: Path, image: Image.Image | None = None, **options: object) -> Path:
    """Save a picture in the format of its file extension."""
    (image or picture()).save(path, **options)
    return path


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_content_decides_and_not_the_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "photo.dat"
    picture().save(path, format=kind)
    (photo,) = read_photos([path], size_px=64)
    assert (photo.name, photo.image.size, photo.image.mode) == ("photo.dat", (64, 64), "RGB")
    assert photo.crop == (20, 0, 120)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "BMP"])
def test_other_formats_are_refused_by_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "drawing.jpg"
    picture().save(path, format=kind)
    with pytest.raises(ValueError, match=r"drawing\.jpg is not a JPEG, PNG or WebP"):
        read_photos([path], size_px=64)


def test_every_bad_file_is_named_in_one_sentence(tmp_path: Path) -> None:
    good = save(tmp_path / "good.png")
    text = tmp_path / "text.png"
    text.write_text("not a picture")
    cut = tmp_path / "cut.jpg"
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8))
    noise.save(cut)
    cut.write_bytes(cut.read_bytes()[:4000])
    tiny = save(tmp_path / "tiny.png", Image.new("RGB", (20, 20)))
    moving = save(tmp_path / "moving.webp", save_all=True, append_images=[Image.new("RGB", (160, 120))])
    with pytest.raises(ValueError) as refused:
        read_photos([good, text, cut, tiny, moving, tmp_path / "gone.png"], size_px=64)
    sentences = str(refused.value).split("\n")
    assert [sentence.split()[0] for sentence in sentences] == [
        "text.png",
        "cut.jpg",
        "tiny.png",
        "moving.webp",
        "gone.png",
    ]
    assert "cut short" in sentences[1]
    assert "20 x 20" in sentences[2]
    assert "animation" in sentences[3]


def bomb(width: int, height: int) -> bytes:
    """Write a PNG of a few bytes whose header declares an arbitrary size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [8_000, 10_000, 13_500, 60_000])
def test_bombs_are_refused_from_their_header(tmp_path: Path, side: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb(side, side))
    with pytest.raises(ValueError, match=r"bomb\.png has more than 50 megapixels"):
        read_photos([path], size_px=64)


def test_exif_is_obeyed_and_then_forgotten(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise for upright display
    exif[0x010F] = "maker"
    path = save(tmp_path / "turned.jpg", exif=exif, quality=95)
    (photo,) = read_photos([path], size_px=64)
    upright = np.asarray(photo.image).astype(int)
    assert upright[5, 20, 0] > 150  # the left half is now at the top, and the white edge on the right
    assert upright[5, 20, 2] < 60
    assert upright[55, 20, 2] > 150
    assert photo.image.info == {}
    assert len(photo.image.getexif()) == 0
    assert photo.crop == (0, 20, 120)


def test_crops_move_the_square_and_stay_inside(tmp_path: Path) -> None:
    path = save(tmp_path / "wide.png", picture(width=200, height=100))
    lefts = []
    for across in (-1.0, 0.0, 1.0, 5.0):
        (photo,) = read_photos([path], size_px=64, crops={"wide.png": (across, 0.3)})
        lefts.append(photo.crop)
    assert lefts == [(0, 0, 100), (50, 0, 100), (100, 0, 100), (100, 0, 100)]
    (left,) = read_photos([path], size_px=64, crops={"wide.png": (-1.0, 0.0)})
    assert np.asarray(left.image)[40, :, 2].max() == 0


def test_a_large_jpeg_gives_the_picture_of_its_small_copy(tmp_path: Path) -> None:
    large = save(tmp_path / "large.jpg", picture(width=2000, height=1500), quality=95)
    (photo,) = read_photos([large], size_px=64)
    expected = (
        picture(width=2000, height=1500).crop((250, 0, 1750, 1500)).resize((64, 64), Image.Resampling.LANCZOS)
    )
    assert photo.crop == (250, 0, 1500)
    assert np.abs(np.asarray(photo.image).astype(int) - np.asarray(expected).astype(int)).mean() < 3


def test_transparency_becomes_white_and_deep_greys_keep_their_light(tmp_path: Path) -> None:
    glass = save(tmp_path / "glass.png", Image.new("RGBA", (80, 80), (255, 0, 0, 0)))
    deep = save(tmp_path / "deep.png", Image.fromarray(np.full((80, 80), 128 * 256, dtype=np.uint16)))
    clear, grey = read_photos([glass, deep], size_px=64)
    assert clear.image.getpixel((5, 5)) == (255, 255, 255)
    assert grey.image.getpixel((5, 5)) == (128, 128, 128)


def test_a_zip_brings_photographs_and_captions(tmp_path: Path) -> None:
    stream = io.BytesIO()
    picture().save(stream, format="PNG")
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../set/one.png", stream.getvalue())
        archive.writestr("set/one.txt", "a sks dog\non grass")
        archive.writestr("two.png", stream.getvalue())
        archive.writestr("__MACOSX/._two.png", b"clutter")
        archive.writestr(".", b"a name that is none")
    photos = read_photos([path], size_px=64)
    assert [(photo.name, photo.caption) for photo in photos] == [
        ("one.png", "a sks dog on grass"),
        ("two.png", ""),
    ]
    assert sorted(file.name for file in tmp_path.iterdir() if file.suffix) == ["photos.zip"]


def test_a_damaged_or_overfull_zip_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.png", bytes(10**6))
    content = bytearray(path.read_bytes())
    monkeypatch.setattr("pipelines.data.photographs.MAX_ZIP_BYTES", 10**5)
    with pytest.raises(ValueError, match=r"photos\.zip unpacks to more than"):
        read_photos([path], size_px=64)
    monkeypatch.undo()
    content[60:90] = bytes(30)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"photos\.zip is a zip that is damaged|zeros\.png is not"):
        read_photos([path], size_px=64)


def test_the_number_of_photographs_is_bounded(tmp_path: Path) -> None:
    path = save(tmp_path / "one.png")
    with pytest.raises(ValueError, match="More than 60"):
        read_photos([path] * (MAX_PHOTOS + 1), size_px=64)
    with pytest.raises(ValueError, match="no photograph"):
        read_photos([], size_px=64)


def test_an_archive_of_wrong_files_is_told_in_short(tmp_path: Path) -> None:
    path = tmp_path / "report.docx"
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(30):
            archive.writestr(f"word/{index}.xml", "<x/>")
    with pytest.raises(ValueError, match="22 more files") as refused:
        read_photos([path], size_px=64)
    assert str(refused.value).startswith("0.xml is not a JPEG")
    assert len(str(refused.value).split("\n")) == 9


def test_captions_too_long_or_no_text_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "one.png")
    caption = tmp_path / "one.txt"
    caption.write_text("a" * 301)
    with pytest.raises(ValueError, match=r"one\.txt is too long"):
        read_photos([path, caption], size_px=64)
    caption.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"one\.txt is not plain text"):
        read_photos([path, caption], size_px=64)


def test_names_in_messages_are_harmless(tmp_path: Path) -> None:
    path = tmp_path / ("evil\x1b[31m" + "x" * 100 + ".png")
    path.write_bytes(b"no")
    with pytest.raises(ValueError) as refused:
        read_photos([path], size_px=64)
    assert "\x1b" not in str(refused.value)
    assert len(str(refused.value)) < 160


def test_pixels_make_the_round_trip() -> None:
    image = picture()
    pixels = to_tensor([image])
    assert pixels.shape == (1, 3, 120, 160)
    assert (float(pixels.min()), float(pixels.max())) == (-1.0, 1.0)
    assert to_images(pixels)[0].tobytes() == image.tobytes()
    assert to_images(torch.full((1, 3, 2, 2), 7.0))[0].getpixel((0, 0)) == (255, 255, 255)


def test_moments_draw_the_same_latents_from_the_same_seed() -> None:
    moments = Moments(
        mean=torch.arange(3.0).reshape(3, 1, 1, 1).expand(3, 4, 2, 2), logvar=torch.zeros(3, 4, 2, 2)
    )
    first = moments.sample(torch.Generator().manual_seed(1), [2, 0])
    again = moments.sample(torch.Generator().manual_seed(1), torch.tensor([2, 0]))
    assert torch.equal(first, again)
    certain = Moments(mean=moments.mean, logvar=torch.full((3, 4, 2, 2), -60.0))
    assert certain.sample(torch.Generator(), [2, 0])[:, 0, 0, 0].tolist() == pytest.approx(
        [2.0, 0.0], abs=1e-6
    )
    assert len(moments) == 3


def test_encoding_keeps_order_and_does_not_depend_on_the_other_pictures(base: Base, tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{name}.png", picture(width=130 + 20 * name)) for name in range(3)]
    pictures = {photo.name: photo.image for photo in read_photos(paths, size_px=base.size_px)}
    together = encode(base, pictures)
    alone = encode(base, {"1.png": pictures["1.png"]})
    assert together.mean.shape[0] == 3
    assert together.mean.dtype == torch.float32
    assert torch.equal(together.mean[1:2], alone.mean)


def test_photographs_are_read_without_torch() -> None:
    program = "import sys, pipelines.data.photographs, pipelines.models.inspection; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0


def test_a_drawn_latent_is_the_mean_plus_the_posteriors_deviation_times_noise() -> None:
    """σ = exp(logvar / 2): 2 in the first picture, 1/4 in the second."""
    deviation = torch.tensor([2.0, 0.25]).view(2, 1, 1, 1)
    mean = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(1))
    moments = Moments(mean=mean, logvar=(2 * deviation.log()).expand(2, 4, 3, 3))
    drawn = moments.sample(torch.Generator().manual_seed(7), [1, 0, 0])
    noise = torch.randn(3, 4, 3, 3, generator=torch.Generator().manual_seed(7))
    torch.testing.assert_close(drawn, mean[[1, 0, 0]] + deviation[[1, 0, 0]] * noise)
