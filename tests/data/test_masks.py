"""Masks of subjects: found in photographs, deterministic, honest when nothing is found, averaged into latent cells."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from pipelines.data.masks import find_mask, mask_cells, outlined


def photograph(*, size_px: int = 192, radius: float = 0.25) -> tuple[Image.Image, np.ndarray]:
    """Return a red disc on a noisy green ground, and the disc as bool (size, size)."""
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
    )  # the ellipse in the middle, to be corrected by hand


def test_the_outline_dims_the_background_alone() -> None:
    picture, truth = photograph()
    mask = Image.fromarray((truth * 255).astype(np.uint8))
    shown, before = np.asarray(outlined(picture, mask)), np.asarray(picture)
    assert (shown[96, 96] == before[96, 96]).all()
    assert (shown[4, 4] == before[4, 4] // 2).all()


def test_cells_are_shares_of_the_subject() -> None:
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 60))
    cells = mask_cells([mask], rows=8, columns=8)
    assert cells.shape == (1, 1, 8, 8)
    assert cells.dtype == torch.float32
    assert cells[0, 0, 0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert cells[0, 0, 7, 0] == pytest.approx(0.5, abs=0.01)
