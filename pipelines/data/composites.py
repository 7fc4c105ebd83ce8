"""Composites: the subject of a photograph, cut out by its mask and pasted into another background.

Training on them, each with its background in the caption, keeps the photograph's own background out of the subject
(cut-and-paste augmentation, Dwibedi et al. 2017, 1708.01642).
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

SMALLEST = 0.7  # of the photograph's side
FEATHER = 128  # a side of so many pixels has an edge blurred by one


def composite(
    photo: Image.Image, mask: Image.Image, background: Image.Image, rng: np.random.Generator
) -> tuple[Image.Image, Image.Image]:
    """Return the subject in front of ``background`` and where it stands there (L, 0 or 255), both of the photo's size.

    The photograph is scaled by 0.7 to 1, stands on the lower edge as it did, and is moved sideways.
    """
    side = photo.width
    scaled = max(1, round(side * rng.uniform(SMALLEST, 1.0)))
    place = (int(rng.integers(0, side - scaled + 1)), side - scaled)
    subject = photo.convert("RGB").resize((scaled, scaled), Image.Resampling.LANCZOS)
    shape = mask.convert("L").resize((scaled, scaled), Image.Resampling.BILINEAR)
    picture = background.convert("RGB").resize(photo.size, Image.Resampling.LANCZOS)
    picture.paste(subject, place, shape.filter(ImageFilter.GaussianBlur(side / FEATHER)))
    where = Image.new("L", photo.size)
    where.paste(shape.point([0] * 128 + [255] * 128), place)
    return picture, where
