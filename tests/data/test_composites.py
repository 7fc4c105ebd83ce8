"""Composites: only the subject is pasted onto another background, and the mask marks its position."""

import numpy as np
from PIL import Image

from pipelines.data.composites import composite

RED, GREEN, BLUE = (200, 30, 30), (30, 200, 30), (30, 30, 200)


def test_the_subject_stands_in_the_new_background_and_nothing_of_the_old_one() -> None:
    photo = Image.new("RGB", (128, 128), GREEN)
    photo.paste(RED, (40, 40, 90, 128))
    mask = Image.new("L", (128, 128))
    mask.paste(255, (40, 40, 90, 128))
    for seed in range(4):
        picture, where = composite(photo, mask, Image.new("RGB", (64, 64), BLUE), np.random.default_rng(seed))
        pixels, inside = np.asarray(picture).astype(int), np.asarray(where) > 0
        assert picture.size == where.size == (128, 128)
        assert 0.7**2 * 0.9 < inside.mean() / (50 * 88 / 128**2) < 1.05
        assert inside[-1].any(), "it stands on the lower edge, as it did"
        green = (pixels[..., 1] > 150).mean()
        assert green < 0.01
        assert (np.abs(pixels[inside] - RED).max(1) < 100).mean() > 0.95
        assert (np.abs(pixels[~inside] - BLUE).max(1) < 100).mean() > 0.95


def test_one_seed_makes_one_picture() -> None:
    photo, mask = Image.new("RGB", (64, 64), RED), Image.new("L", (64, 64), 255)
    background = Image.new("RGB", (64, 64), BLUE)
    first, second = (composite(photo, mask, background, np.random.default_rng(3))[0] for _ in range(2))
    assert first.tobytes() == second.tobytes()
