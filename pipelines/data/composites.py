"""Composites: the subject of a photograph, cut out by its mask and pasted onto another background.

Each composite's caption describes its background. Training on composites keeps the model from learning the
photograph's background as part of the subject (cut-and-paste augmentation, Dwibedi et al. 2017, 1708.01642).
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

SMALLEST = 0.7  # smallest scale of the subject, relative to the photograph
FEATHER = 128  # the edge is blurred by one pixel per this many pixels of the image side


def composite(
    photo: Image.Image, mask: Image.Image, background: Image.Image, rng: np.random.Generator
) -> tuple[Image.Image, Image.Image]:
    """Return the subject in front of ``background`` and its new mask (L, 0 or 255), both of the photo's size.

    The photograph is scaled by a factor from 0.7 to 1, aligned with the lower edge, and moved horizontally.
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
