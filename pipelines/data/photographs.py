"""Reading photographs and converting pictures: all conversions between PIL 0..255 and float32 [-1, 1] are here.

torch is imported inside the functions that need it, so that photographs can be checked and shown while torch
is still loading.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from pipelines.archives import RefusedError, zip_members
from pipelines.config import clean_text

if TYPE_CHECKING:
    import torch

    from pipelines.models.base import Base

FORMATS = ("JPEG", "PNG", "WEBP")
MAX_PHOTOS = 60
MAX_FILE_BYTES = 40 * 2**20
MAX_ZIP_BYTES = 400 * 2**20  # unpacked size of all members together
MAX_ZIP_MEMBERS = 200
MAX_PIXELS = 50_000_000  # accepts 48-megapixel phone photographs and rejects decompression bombs
MIN_SIDE_PX = 64
MASK_ENDING = ".mask.png"
MAX_SENTENCES = 8  # maximum number of error sentences, also for an archive full of invalid files
ORIENTATION = 0x0112  # the EXIF tag
SIDEWAYS = (5, 6, 7, 8)  # the values that swap width and height
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


@dataclass(frozen=True)
class Photo:
    """A photograph, prepared for training."""

    name: str
    image: Image.Image  # RGB, square, without metadata
    caption: str
    crop: tuple[int, int, int]  # left, top, side in pixels of the upright original
    mask: Image.Image | None = None  # L, of the image's size, white where the subject is


@dataclass
class Moments:
    """The VAE's output for N pictures: a Gaussian per latent cell, float32 on the CPU, not yet scaled."""

    mean: torch.Tensor  # (N, 4, h, w)
    logvar: torch.Tensor  # (N, 4, h, w)

    def __len__(self) -> int:
        return len(self.mean)

    def sample(self, generator: torch.Generator, indices: Sequence[int] | torch.Tensor) -> torch.Tensor:
        """Sample unscaled latents (B, 4, h, w) of the pictures ``indices``; ``generator`` must be on the CPU."""
        import torch

        chosen = torch.as_tensor(indices, dtype=torch.long)
        mean = self.mean[chosen]
        noise = torch.randn(mean.shape, generator=generator)
        return mean + torch.exp(0.5 * self.logvar[chosen]) * noise


def encode(base: Base, pictures: Mapping[str, Image.Image]) -> Moments:
    """Encode pictures, given by name, one at a time. Raises ValueError when half precision overflows."""
    import torch

    moments = [base.encode_images(to_tensor([picture])) for picture in pictures.values()]
    for name, one in zip(pictures, moments, strict=True):
        if not one.mean.isfinite().all():
            raise ValueError(f"The VAE of {base.name} overflows on {name}; load the base in float32.")
    return Moments(
        mean=torch.cat([one.mean for one in moments]), logvar=torch.cat([one.logvar for one in moments])
    )


def to_tensor(images: Sequence[Image.Image]) -> torch.Tensor:
    """Return RGB pictures of one size as float32 (B, 3, H, W) in [-1, 1]."""
    import torch

    arrays = np.stack([np.asarray(image.convert("RGB"), dtype=np.float32) for image in images])
    return torch.from_numpy(arrays).permute(0, 3, 1, 2).contiguous() / 127.5 - 1.0


def to_images(pixels: torch.Tensor) -> list[Image.Image]:
    """Return (B, 3, H, W) in [-1, 1] as RGB pictures; values outside this range are clipped."""
    import torch

    levels = ((pixels.detach().float().cpu().clamp(-1.0, 1.0) + 1.0) * 127.5).round().to(torch.uint8)
    return [Image.fromarray(picture) for picture in levels.permute(0, 2, 3, 1).contiguous().numpy()]


def read_photos(
    paths: Sequence[Path], *, size_px: int, crops: Mapping[str, tuple[float, float]] | None = None
) -> list[Photo]:
    """Read 1 to ``MAX_PHOTOS`` photographs, or zips of them, as clean squares of ``size_px``.

    The file type (JPEG, PNG or WebP) is determined by content, not by name. Photographs are rotated according to their
    EXIF data, which is then removed. A .txt file with a photograph's name is its caption, a .mask.png file its mask
    (white on the subject, of the photograph's size). ``crops`` moves the crop by file name: (dx, dy), each from -1
    (left, top) through 0 (centre) to 1 (right, bottom). Raises ValueError with one sentence for each unusable file, up
    to eight.
    """
    _check_crops(crops or {})
    photos, captions, masks, refusals = [], {}, {}, []
    for name, content in _files(paths, refusals):
        try:
            if name.lower().endswith(".txt"):
                captions[_stem(name)] = read_caption(content)
            elif name.lower().endswith(MASK_ENDING):
                masks[name[: -len(MASK_ENDING)].lower()] = content
            elif len(photos) <= MAX_PHOTOS:
                photos.append(
                    _read_photo(name, content, size_px=size_px, shift=(crops or {}).get(name, (0.0, 0.0)))
                )
        except ValueError as error:
            refusals.append(f"{shown_name(name)} {error}")
    found = _read_masks(photos, masks, refusals, size_px=size_px, crops=crops or {})
    if refusals:
        more = len(refusals) - MAX_SENTENCES
        told = refusals[:MAX_SENTENCES] + ([f"{more} more files cannot be used."] if more > 0 else [])
        raise ValueError("\n".join(told))
    if not photos:
        raise ValueError(
            f"There is no photograph here; please choose 1 to {MAX_PHOTOS} JPEG, PNG or WebP files."
        )
    if len(photos) > MAX_PHOTOS:
        raise ValueError(
            f"More than {MAX_PHOTOS} photographs were chosen; please keep the best {MAX_PHOTOS}."
        )
    return [
        replace(photo, caption=captions.get(_stem(photo.name), ""), mask=found.get(photo.name))
        for photo in photos
    ]


def _read_masks(
    photos: Sequence[Photo],
    contents: Mapping[str, bytes],
    refusals: list[str],
    *,
    size_px: int,
    crops: Mapping[str, tuple[float, float]],
) -> dict[str, Image.Image]:
    """Return the masks among the files by photograph name; reasons for unusable ones are added to ``refusals``."""
    found, left = {}, dict(contents)
    for photo in photos:
        content = left.pop(_stem(photo.name), None)
        try:
            if content is not None:
                shift = crops.get(photo.name, (0.0, 0.0))
                found[photo.name] = read_mask(photo, content, size_px=size_px, shift=shift)
        except ValueError as error:
            refusals.append(str(error))
    refusals += [
        f"{shown_name(stem + MASK_ENDING)} is a mask without its photograph; add the photograph."
        for stem in left
    ]
    return found


def read_mask(
    photo: Photo, content: bytes, *, size_px: int, shift: tuple[float, float], of_square: bool = False
) -> Image.Image:
    """Return a mask file's content as an L picture of 0 and 255, cropped as its photograph is.

    With ``of_square``, a square picture of any size is taken as the mask of the photograph's square crop. Raises
    ValueError, with a complete sentence, when it is not a picture or its size differs from the photograph's.
    """
    try:
        mask = _read_photo(photo.name, content, size_px=size_px, shift=shift)
    except ValueError as error:
        raise ValueError(f"The mask of {shown_name(photo.name)} {error}") from None
    square = of_square and len(set(Image.open(io.BytesIO(content)).size)) == 1
    if mask.crop != photo.crop and not square:
        raise ValueError(
            f"The mask of {shown_name(photo.name)} has another size than the photograph; draw it again."
        )
    return mask.image.convert("L").point([0] * 128 + [255] * 128)


def _check_crops(crops: Mapping[str, tuple[float, float]]) -> None:
    for name, shift in crops.items():
        pair = list(shift) if isinstance(shift, (list, tuple)) else []
        if len(pair) != 2 or not all(isinstance(value, (int, float)) and isfinite(value) for value in pair):
            raise ValueError(
                f"The crop of {shown_name(str(name))} must be two numbers from -1 to 1; move it again."
            )


def _files(paths: Sequence[Path], refusals: list[str]) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of every file, also inside zips; errors are added to ``refusals``."""
    for path in map(Path, paths):
        try:
            if zipfile.is_zipfile(path):
                yield from zip_files(path)
            elif path.stat().st_size > MAX_FILE_BYTES:
                raise ValueError(f"is larger than {MAX_FILE_BYTES >> 20} MB; please make it smaller.")
            else:
                yield path.name, path.read_bytes()
        except OSError:
            refusals.append(f"{shown_name(path.name)} cannot be opened; please upload it again.")
        except ValueError as error:
            refusals.append(f"{shown_name(path.name)} {error}")


def zip_files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a zip without unpacking to disk. Raises ValueError for damaged or oversized archives."""
    with zip_members(
        path,
        wanted=lambda inside: not _is_clutter(inside),
        max_bytes=MAX_ZIP_BYTES,
        damaged="is a zip that is damaged or protected by a password; please pack it again.",
    ) as (archive, members):
        if len(members) > MAX_ZIP_MEMBERS:
            raise RefusedError(f"holds too much; please pack 1 to {MAX_PHOTOS} photographs.")
        for member in members:
            if member.file_size > MAX_FILE_BYTES:
                raise RefusedError(
                    f"holds {shown_name(member.filename)}, over {MAX_FILE_BYTES >> 20} MB; make it smaller."
                )
            with archive.open(member) as stream:
                content = stream.read(member.file_size)
            yield PurePosixPath(member.filename).name, content


def _is_clutter(inside: PurePosixPath) -> bool:
    """Whether a member of a zip is an operating system's metadata file."""
    parts = inside.parts
    hidden = any(part.startswith((".", "__MACOSX")) and part != ".." for part in parts)
    return hidden or not parts or parts[-1].lower() in ("thumbs.db", "desktop.ini")


def _read_photo(name: str, content: bytes, *, size_px: int, shift: tuple[float, float]) -> Photo:
    """Decode one picture into a square. Raises ValueError with the file's name, the reason and what to do."""
    with _opened(content) as image:
        square, crop = _square(image, size_px=size_px, shift=shift)
    return Photo(name=name, image=square, caption="", crop=crop)


def overview(path: Path, *, side_px: int) -> Image.Image:
    """Return a whole photograph, upright and in RGB, with sides of at most ``side_px``.

    Raises ValueError with one sentence if the file cannot be used as a photograph.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ValueError(f"is larger than {MAX_FILE_BYTES >> 20} MB; please make it smaller.")
        with _opened(path.read_bytes()) as image:
            image.draft("RGB", (2 * side_px, 2 * side_px))
            upright = _opaque(ImageOps.exif_transpose(image))
            upright.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
            return Image.fromarray(np.array(upright))
    except OSError:
        raise ValueError(f"{shown_name(path.name)} cannot be opened; please upload it again.") from None
    except ValueError as error:
        raise ValueError(f"{shown_name(path.name)} {error}") from None


@contextmanager
def _opened(content: bytes) -> Iterator[Image.Image]:
    """Open one picture of an allowed format and size for the block.

    Raises ValueError with the reason and what to do, also if the block finds that the picture is damaged.
    """
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(f"has more than {MAX_PIXELS // 10**6} megapixels; please make it smaller.") from None
    except DAMAGE:
        raise ValueError("is not a JPEG, PNG or WebP picture; please convert it or leave it out.") from None
    with image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"has more than {MAX_PIXELS // 10**6} megapixels; please make it smaller.")
        if min(image.size) < MIN_SIDE_PX:
            raise ValueError(
                f"is only {image.width} x {image.height} pixels; please choose a larger picture."
            )
        if getattr(image, "is_animated", False) and image.format != "MPO":
            raise ValueError("is an animation; please choose a still picture.")
        try:
            yield image
        except DAMAGE:
            raise ValueError("is damaged or cut short; please choose another copy.") from None


def _square(
    image: Image.Image, *, size_px: int, shift: tuple[float, float]
) -> tuple[Image.Image, tuple[int, int, int]]:
    """Return the upright, cropped and resized picture, and the crop (left, top, side) in original pixels."""
    turned = image.getexif().get(ORIENTATION, 1) in SIDEWAYS
    width, height = image.size[::-1] if turned else image.size
    image.draft("RGB", (2 * size_px, 2 * size_px))  # a large JPEG is decoded at a fraction of its size
    upright = _opaque(ImageOps.exif_transpose(image))
    side = min(width, height)
    across, down = (min(1.0, max(-1.0, float(value))) for value in shift)
    left, top = round((width - side) / 2 * (1 + across)), round((height - side) / 2 * (1 + down))
    decoded = min(upright.size)
    x, y = round(left * decoded / side), round(top * decoded / side)
    x, y = min(x, upright.width - decoded), min(y, upright.height - decoded)
    reduced = upright.crop((x, y, x + decoded, y + decoded)).resize(
        (size_px, size_px), Image.Resampling.LANCZOS
    )
    return Image.fromarray(np.array(reduced)), (left, top, side)


def _opaque(image: Image.Image) -> Image.Image:
    """Convert any picture to RGB: transparent pixels become white, 16-bit greys keep their upper eight bits."""
    if image.mode.startswith("I"):
        return Image.fromarray(
            (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        ).convert("RGB")
    if image.has_transparency_data:
        layers = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers).convert("RGB")
    return image.convert("RGB")


def read_caption(content: bytes) -> str:
    """Return the cleaned text of a caption file. Raises ValueError when it is not text or too long."""
    try:
        return clean_text(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ValueError("is not plain text in UTF-8; please save it again as text.") from None
    except ValueError:
        raise ValueError("is too long for a caption; please keep it under 300 characters.") from None


def _stem(name: str) -> str:
    """Return the name part that a photograph shares with its caption file."""
    return PurePosixPath(name).stem.lower()


def shown_name(name: str) -> str:
    """Return a file's name in a form that is safe to show in a message."""
    return "".join(letter for letter in PurePosixPath(name).name if letter.isprintable())[:80] or "A file"
