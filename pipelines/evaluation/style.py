"""A score for how strongly a picture shows a style, independent of its content.

The features are the mean and standard deviation over all positions of every channel in the shallow half of CLIP's
image encoder (AdaIN's statistics, Huang and Belongie 2017, 1703.06868). They discard position and keep colour, line
and texture. They replace Gram matrices (Li et al. 2017, 1701.01036), which separate the illustrated world's five styles
less well. For different subjects, two pictures of the same style are closer than two of different styles in 86 % of the
cases with these statistics, in 76 % with Gram matrices, in 83 % with the identity encoder (which is trained to ignore
style) and in 77 % with CLIP's embedding.

The score is the projection on the direction from plain pictures to pictures of the style (Fisher's discriminant with a
diagonal covariance). A plain similarity would also reward any other difference from the base model's pictures. The
plain pictures are those of the base model and the photographs of the character. The direction in which these two groups
differ (the character, its colours, the sharpness of photographs) is projected out, so that showing the character does
not count as style. The scale separates one style from plain pictures: another style with equally hard lines may get an
equally high score.
"""

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from pipelines.evaluation.metrics import Encoder

SMALLEST_SPREAD = 1e-6


def statistics(encoder: Encoder, pictures: Sequence[Image.Image]) -> Tensor:
    """Return (N, 2 C): means and standard deviations of the channels in the shallow half of an encoder's depths."""
    depths = encoder.layers(pictures)
    shallow = depths[: max(1, len(depths) // 2)]
    return torch.cat([torch.cat([depth.mean(2), depth.std(2)], dim=1) for depth in shallow], dim=1)


class StyleScale:
    """A linear scale from plain pictures (0 on average) to pictures in a style (1 on average)."""

    def __init__(
        self, encoder: Encoder, *, style: Sequence[Image.Image], plain: Sequence[Sequence[Image.Image]]
    ) -> None:
        """Fit the scale; ``plain`` are groups of pictures without the style, all with the same weight."""
        self.encoder = encoder
        styled, groups = statistics(encoder, style), [statistics(encoder, group) for group in plain]
        self.zero = torch.stack([group.mean(0) for group in groups]).mean(0)  # (2 C,)
        apart = torch.cat([group - group.mean(0) for group in (styled, *groups)])
        self.spread = apart.square().mean(0).sqrt().clamp(min=SMALLEST_SPREAD)
        differences = torch.stack([group.mean(0) - self.zero for group in groups]) / self.spread
        way = (styled.mean(0) - self.zero) / self.spread
        self.way = without(way, differences)
        self.length = (way @ self.way).clamp(min=SMALLEST_SPREAD)
        self.style = self._along(styled)

    def _along(self, found: Tensor) -> Tensor:
        """Return (N,): the position of each row of statistics on the scale."""
        return (found - self.zero) / self.spread @ self.way / self.length

    def scores(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Return (N,): the score of each picture."""
        return self._along(statistics(self.encoder, pictures))


def without(way: Tensor, differences: Tensor) -> Tensor:
    """Remove from ``way`` (D,) its projection on the span of the rows of ``differences`` (N, D)."""
    _, sizes, rows = torch.linalg.svd(differences, full_matrices=False)
    kept = rows[sizes > 1e-4 * sizes.max()]
    return way - (kept @ way) @ kept
