"""Masks of the subject in a photograph: automatic segmentation and display as an outline.

A mask is an "L" picture of the photograph's size, 255 on the subject and 0 elsewhere. It weights the training loss
(:func:`pipelines.training.losses.cell_weights`), so that the subject's surroundings are not learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

WORKING_PX = 192  # GrabCut's cost grows with the number of pixels; this is enough for an outline
ITERATIONS = 6
BORDER = 0.04  # of a side: this border of the crop is assumed to be background
SUBJECT = 0.35  # of a side: half-axis of the central ellipse that is probably the subject
SMALLEST, LARGEST = 0.02, 0.93  # fraction of the picture; a mask outside this range is rejected
SEED = 0  # of OpenCV's k-means, so that the same photograph has the same mask
FLAT = 4.0  # of 255; a picture with less contrast has no outline
GRAIN = 3.0  # of 255, standard deviation of added noise: areas of a single colour make GrabCut take minutes
OUTLINE = (255, 64, 32)
TINT = 115  # of 255, the opacity of the mask over its photograph
PAINTED = 64  # of 255; painted pixels with at least this opacity belong to the mask


@dataclass(frozen=True)
class FoundMask:
    """A mask. If ``found`` is False, it is the central ellipse, to be corrected by hand."""

    image: Image.Image  # "L", 0 or 255
    found: bool


def find_mask(photo: Image.Image) -> FoundMask:
    """Return the subject's mask in a square RGB photograph, by GrabCut (Rother et al. 2004).

    The border is initialised as certain background and the centre as probable subject. Of the result, the component
    that covers most of the centre is kept and its holes are filled.
    """
    import cv2

    small = np.asarray(photo.convert("RGB").resize((WORKING_PX, WORKING_PX), Image.Resampling.LANCZOS))
    if small.std(axis=(0, 1)).max() < FLAT:
        return FoundMask(image=_as_picture(_ellipse(SUBJECT), photo.size), found=False)
    grain = np.random.default_rng(SEED).normal(0.0, GRAIN, small.shape)
    small = (small + grain).clip(0, 255).astype(np.uint8)
    labels = _start()
    cv2.setRNGSeed(SEED)
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(
        np.ascontiguousarray(small[..., ::-1]),
        labels,
        (0, 0, 0, 0),  # the rectangle, unused when initialised by labels
        background,
        foreground,
        ITERATIONS,
        cv2.GC_INIT_WITH_MASK,
    )
    mask = _cleaned(np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)))
    found = SMALLEST <= mask.mean() <= LARGEST
    return FoundMask(image=_as_picture(mask if found else _ellipse(SUBJECT), photo.size), found=bool(found))


def outlined(photo: Image.Image, mask: Image.Image) -> Image.Image:
    """Return the photograph with the mask's outline drawn and everything outside it dimmed."""
    import cv2

    inside = np.asarray(_resized(mask, photo.size)) >= 128
    pixels = np.asarray(photo.convert("RGB")).copy()
    pixels[~inside] = pixels[~inside] // 2
    contours, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    drawn = cv2.drawContours(pixels, contours, -1, OUTLINE, thickness=max(1, photo.width // 160))
    return Image.fromarray(np.asarray(drawn, dtype=np.uint8))


def tinted(mask: Image.Image) -> Image.Image:
    """Return the mask as a translucent RGBA layer for the paint editor, to be shown over its photograph."""
    layer = Image.new("RGBA", mask.size, (*OUTLINE, 0))
    layer.putalpha(mask.point([0] * 128 + [TINT] * 128))
    return layer


def painted(layers: Sequence[Image.Image], size: tuple[int, int]) -> Image.Image:
    """Return the mask painted on RGBA layers, lowest layer first: all pixels that are opaque enough and not dark."""
    seen = Image.new("RGBA", size)
    for layer in layers:
        seen.alpha_composite(layer.convert("RGBA").resize(size, Image.Resampling.BILINEAR))
    pixels = np.asarray(seen)
    return _as_picture((pixels[..., 3] >= PAINTED) & (pixels[..., :3].max(axis=-1) >= 128), size)


def _as_picture(mask: np.ndarray, size: tuple[int, int]) -> Image.Image:
    return _resized(Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)), size)


def _resized(mask: Image.Image, size: tuple[int, int]) -> Image.Image:
    smooth = mask.convert("L").resize(size, Image.Resampling.BILINEAR)
    return smooth.point([0] * 128 + [255] * 128)


def _start() -> np.ndarray:
    """Return GrabCut's initial labels, (WORKING_PX, WORKING_PX) uint8."""
    import cv2

    labels = np.full((WORKING_PX, WORKING_PX), cv2.GC_PR_BGD, dtype=np.uint8)
    labels[_ellipse(SUBJECT)] = cv2.GC_PR_FGD
    edge = max(1, round(BORDER * WORKING_PX))
    labels[:edge], labels[:, :edge], labels[:, -edge:] = cv2.GC_BGD, cv2.GC_BGD, cv2.GC_BGD
    return labels


def _ellipse(radius: float) -> np.ndarray:
    axis = (np.arange(WORKING_PX) + 0.5) / WORKING_PX - 0.5
    return (axis[None, :] / radius) ** 2 + (axis[:, None] / (radius * 1.15)) ** 2 <= 1.0


def _cleaned(mask: np.ndarray) -> np.ndarray:
    """Remove specks, keep the component with the largest area in the centre, and fill its holes."""
    import cv2

    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
    opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, kernel)
    closed = cv2.morphologyEx(opened, cv2.MORPH_CLOSE, kernel)
    count, labels = cv2.connectedComponents(closed)
    if count < 2:
        return np.zeros_like(mask)
    middle = np.bincount(labels[_ellipse(SUBJECT)], minlength=count)
    middle[0] = 0
    sizes = np.bincount(labels.ravel(), minlength=count)
    kept = (middle >= 0.15 * middle.max()) & (middle > 0) & (sizes > 0)
    part = kept[labels].astype(np.uint8)
    contours, _ = cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(part, contours, -1, 1, thickness=-1).astype(bool)
