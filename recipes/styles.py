"""Picture styles: each filters the finished 128-pixel picture and keeps its subject recognisable."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from recipes.kit import PICTURE_PX

TRAINING_STYLES: tuple[str, ...] = ("photo", "ink manga", "watercolour")
UNSEEN_STYLES: tuple[str, ...] = ("stained glass", "pixel mosaic")
STYLES: tuple[str, ...] = TRAINING_STYLES + UNSEEN_STYLES

_LUMA = np.asarray((0.30, 0.59, 0.11), np.float32)
_PAPER = np.asarray((0.99, 0.98, 0.95), np.float32)
_BEVEL = np.asarray(
    [[1.1, 1.1, 1.1, 0.9], [1.1, 1.0, 1.0, 0.8], [1.1, 1.0, 1.0, 0.8], [0.9, 0.8, 0.8, 0.72]], np.float32
)
_ROWS, _COLUMNS = np.mgrid[0:PICTURE_PX, 0:PICTURE_PX]
_BORDER = np.minimum(
    np.minimum(_ROWS, PICTURE_PX - 1 - _ROWS), np.minimum(_COLUMNS, PICTURE_PX - 1 - _COLUMNS)
).astype(np.float32)


def _floats(image: Image.Image) -> np.ndarray:
    return np.asarray(image, np.float32) * (1.0 / 255.0)


def _picture(rgb: np.ndarray) -> Image.Image:
    return Image.fromarray((np.clip(rgb, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8))


def _saturated(rgb: np.ndarray, gain: float) -> np.ndarray:
    grey = (rgb @ _LUMA)[..., None]
    return grey + (rgb - grey) * gain


def _edges(rgb: np.ndarray) -> np.ndarray:
    """Return the strength of colour edges at each pixel, (h, w), about 0 to 1."""
    change = np.zeros(rgb.shape[:2], np.float32)
    change[:, 1:-1] += ((rgb[:, 2:] - rgb[:, :-2]) ** 2).sum(axis=2)
    change[1:-1] += ((rgb[2:] - rgb[:-2]) ** 2).sum(axis=2)
    return np.sqrt(change) * 0.5


def _grain(rng: np.random.Generator, cells: int) -> np.ndarray:
    """Return smooth noise in [-1, 1], (h, w), with ``cells`` bumps across."""
    grid = Image.fromarray((rng.random((cells, cells)) * 255).astype(np.uint8))
    return _floats(grid.resize((PICTURE_PX, PICTURE_PX), Image.Resampling.BICUBIC)) * 2.0 - 1.0


def _ink_manga(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Black outlines and four flat tones on white paper, with a slight tint of the original colours."""
    smooth = _floats(image.filter(ImageFilter.MedianFilter(3)))
    luma = smooth @ _LUMA
    low, high = np.quantile(luma[::4, ::4], (0.03, 0.97))
    luma = np.clip((luma - low) / (high - low + 1e-3), 0.0, 1.0)
    tone = 0.20 + 0.24 * _step(luma, 0.16) + 0.28 * _step(luma, 0.36) + 0.26 * _step(luma, 0.62)
    line = np.clip((_edges(smooth) - 0.10) * 7.0, 0.0, 1.0) * np.clip(1.25 - luma, 0.25, 0.95)
    hint = smooth - smooth.mean(axis=2, keepdims=True)
    paper = (tone + 0.012 * _grain(rng, 32))[..., None] + np.clip(hint, -0.4, 0.4) * 0.46
    return _picture(paper * (1.0 - line)[..., None] + np.float32(0.05) * line[..., None])


def _step(values: np.ndarray, at: float) -> np.ndarray:
    """Return 0 below ``at`` and 1 above, with a soft transition a few hundredths wide."""
    return np.clip((values - at) * 16.0 + 0.5, 0.0, 1.0)


def _watercolour(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Pale, blurred colour areas with dark edges, granulation and white paper at the borders."""
    sway = (np.stack([_grain(rng, 14), _grain(rng, 14)]) * 1.7).round().astype(int)
    across = np.clip(_COLUMNS + sway[0], 0, PICTURE_PX - 1)
    down = np.clip(_ROWS + sway[1], 0, PICTURE_PX - 1)
    rgb = _floats(image.filter(ImageFilter.MedianFilter(3)))[down, across]
    rim = np.clip(_edges(rgb) - 0.06, 0.0, 0.30)
    pigment = 0.80 + 0.16 * _grain(rng, 8) + 0.05 * _grain(rng, 60)
    dry = np.clip((_BORDER + 4.0 * _grain(rng, 14) - 3.0) * 0.25, 0.0, 1.0)
    wash = (1.0 - _saturated(rgb, 1.25)) * (pigment * dry)[..., None] + (rim * 0.55 * dry)[..., None]
    return _picture(_PAPER - wash)


def _cells(rng: np.random.Generator, pitch: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a Voronoi tiling (cells about ``pitch`` px wide): cell indices (h, w), lead lines (h, w) in [0, 1]."""
    count = PICTURE_PX // pitch + 2
    seeds = (np.stack(np.meshgrid(np.arange(count), np.arange(count), indexing="ij"), -1) - 0.5) * pitch
    seeds = seeds + rng.uniform(-0.36, 0.36, seeds.shape) * pitch
    axis = np.arange(PICTURE_PX)
    home = np.clip(axis // pitch + 1, 1, count - 2)
    nearest = np.full((PICTURE_PX, PICTURE_PX), 1e9, np.float32)
    second = nearest.copy()
    cell = np.zeros((PICTURE_PX, PICTURE_PX), int)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            rows, columns = home[:, None] + dy, home[None, :] + dx
            spot = seeds[rows, columns]
            away = np.hypot(spot[..., 0] - axis[:, None], spot[..., 1] - axis[None, :]).astype(np.float32)
            closer = away < nearest
            second = np.where(closer, nearest, np.minimum(second, away))
            cell = np.where(closer, rows * count + columns, cell)
            nearest = np.minimum(nearest, away)
    return cell, np.clip(1.3 - (second - nearest) * 0.8, 0.0, 1.0)


def _stained_glass(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Bright glass cells with lead lines: coarse cells that keep half of the picture's own shading."""
    smooth = _floats(image.filter(ImageFilter.MedianFilter(3)))
    cell, lead = _cells(rng, 14)
    flat = cell.ravel()
    tally = np.maximum(np.bincount(flat), 1)
    mean = np.stack([np.bincount(flat, smooth[..., i].ravel()) / tally for i in range(3)], -1)[cell].astype(
        np.float32
    )
    glass = _saturated(smooth * 0.62 + mean * 0.38, 1.6) * 1.15
    outline = np.clip((_edges(smooth) - 0.17) * 4.0, 0.0, 0.75)
    dark = np.maximum(lead * 0.85, outline)[..., None]
    glint = 1.0 + 0.16 * _grain(rng, 20)[..., None]
    return _picture(glass * glint * (1.0 - dark) + 0.07 * dark)


def _pixel_mosaic(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Square tiles of four pixels with slight colour variation and lit and shaded edges."""
    tiles = _floats(image.filter(ImageFilter.UnsharpMask(2, 120, 0)).reduce(4))
    tiles = _saturated(tiles, 1.3) * (1.05 + 0.05 * rng.uniform(-1.0, 1.0, (*tiles.shape[:2], 1)))
    big = np.repeat(np.repeat(tiles, 4, axis=0), 4, axis=1)
    return _picture(big * np.tile(_BEVEL, (PICTURE_PX // 4, PICTURE_PX // 4))[..., None])


_ARTISTS: dict[str, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    "ink manga": _ink_manga,
    "watercolour": _watercolour,
    "stained glass": _stained_glass,
    "pixel mosaic": _pixel_mosaic,
}


def apply_style(image: Image.Image, style: str, rng: np.random.Generator) -> Image.Image:
    """Return a 128-pixel RGB picture in ``style`` (one of ``STYLES``); "photo" returns it unchanged."""
    return image if style == "photo" else _ARTISTS[style](image, rng)
