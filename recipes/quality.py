"""Similarity of the base's pictures to the renderer's: Fréchet distance, pairs of subjects, sharpness.

All compared pictures have passed through the base's autoencoder, so that only the UNet is measured.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from pipelines.evaluation.embedded_encoders import Instruments
from recipes.captions import SCENE_PHRASES
from recipes.kit import CANVAS_PX, PICTURE_PX, View
from recipes.world import Choice, Picture, held_out, sample_companion, sample_picture, sample_subject

COMPONENTS = 16
REFERENCE_RENDERS, OTHER_RENDERS = 1_500, 500


@torch.no_grad()
def pooled_features(instruments: Instruments, pixels: torch.Tensor) -> np.ndarray:
    """Return (B, D) float64: mean and standard deviation over the cells of the identity encoder's levels 2 to 4.

    ``pixels`` (B, 3, 128, 128) in [-1, 1].
    """
    rows = []
    for part in pixels.split(50):
        maps = instruments.features(part)[1:]
        rows.append(torch.cat([f(level) for level in maps for f in (_means, _deviations)], dim=1))
    return torch.cat(rows).double().numpy()


def _means(level: torch.Tensor) -> torch.Tensor:
    return level.mean((2, 3))


def _deviations(level: torch.Tensor) -> torch.Tensor:
    return level.flatten(2).std(2)


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return |μ₁ - μ₂|² + tr(C₁ + C₂ - 2 (C₁ C₂)^½) of two row sets (N, D) (Heusel et al. 2017, 1706.08500, eq. 6)."""
    covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    # up to rounding, the eigenvalues of a product of two covariances are real and not negative
    roots = np.sqrt(np.linalg.eigvals(covariances[0] @ covariances[1]).real.clip(min=0.0))
    gap = a.mean(0) - b.mean(0)
    return float(gap @ gap + np.trace(covariances[0]) + np.trace(covariances[1]) - 2.0 * roots.sum())


class Whitening:
    """Projects rows onto the reference's first ``COMPONENTS`` principal components, scaled to unit variance."""

    def __init__(self, reference: np.ndarray) -> None:
        self.mean = reference.mean(0)
        values, vectors = np.linalg.eigh(np.cov(reference, rowvar=False))
        self.axes = vectors[:, -COMPONENTS:] / np.sqrt(values[-COMPONENTS:])

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Project (N, D) to (N, COMPONENTS)."""
        return (rows - self.mean) @ self.axes


def sharpness(pixels: torch.Tensor) -> float:
    """Return the mean absolute difference between neighbouring pixels of (B, 3, H, W) pictures in [-1, 1]."""
    return float((pixels.diff(dim=-1).abs().mean() + pixels.diff(dim=-2).abs().mean()) / 2.0)


@dataclass(frozen=True)
class Reference:
    """Statistics of renders after an autoencoder round trip, with which all other pictures are compared."""

    whitening: Whitening
    rows: np.ndarray  # (N, COMPONENTS)
    sharpness: float

    @classmethod
    def of(cls, instruments: Instruments, renders: torch.Tensor) -> "Reference":
        features = pooled_features(instruments, renders)
        whitening = Whitening(features)
        return cls(whitening, whitening(features), sharpness(renders))

    def distance(self, instruments: Instruments, pixels: torch.Tensor) -> float:
        """Return the Fréchet distance of (B, 3, 128, 128) pictures to the reference."""
        return frechet_distance(self.rows, self.whitening(pooled_features(instruments, pixels)))


def pairs(count: int) -> list[Picture]:
    """Return held-out pictures of two subjects in the "photo" style."""
    found = []
    for index in range(count):
        rng = held_out(12, index)
        choice = Choice(subject=sample_subject(rng), companion=sample_companion(rng), style="photo")
        found.append(sample_picture(rng, choice))
    return found


def pair_prompt(picture: Picture) -> str:
    """Return a prompt with both kinds, their positions and the scene."""
    left, right = (placed.subject.kind for placed in picture.placed)
    return f"a photo of a {left} on the left and a {right} on the right {SCENE_PHRASES[picture.scene][0]}"


def square_around(view: View) -> tuple[int, int, int]:
    """Return left, top and side (px) of the square in which the renderer places a subject, inside the picture."""
    scale = PICTURE_PX / CANVAS_PX
    side = round(min(max(view.height * scale * 1.12, 64.0), 88.0))
    left = round(view.x * scale - side / 2)
    top = round(view.base * scale + 4.0) - side
    return (*(min(max(corner, 0), PICTURE_PX - side) for corner in (left, top)), side)


@torch.no_grad()
def both_found(instruments: Instruments, pixels: torch.Tensor, pictures: list[Picture]) -> list[bool]:
    """Return, for each two-subject picture, whether the parameter reader predicts both kinds in their own squares."""
    found = []
    for image, picture in zip(pixels, pictures, strict=True):
        crops, kinds = [], [placed.subject.kind for placed in picture.placed]
        for placed in picture.placed:
            left, top, side = square_around(placed.view)
            crop = image[None, :, top : top + side, left : left + side]
            crops.append(F.interpolate(crop, (PICTURE_PX, PICTURE_PX), mode="bilinear", align_corners=False))
        read = instruments.read(torch.cat(crops), "picture")
        found.append([row["kind"] for row in read] == kinds)
    return found
