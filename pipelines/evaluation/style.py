"""A score for how much of a style a picture has, independent of its content.

The features are, for every channel of the shallow half of CLIP's picture encoder, the mean and the standard deviation
over all places (AdaIN's statistics, Huang and Belongie 2017, 1703.06868): where a thing stands drops out, colour, line
and grain stay. Gram matrices, which these stand for (Li et al. 2017, 1701.01036), tell the illustrated world's five
styles apart less well: a pair of one style is nearer than a pair of two, of different subjects, in 76 % of the cases,
with these statistics in 86 %; in the identity encoder, which learns to overlook style, in 83 %; with CLIP's own vector in
77 %.

A picture's score is its place along the way from plain pictures to the style's (Fisher's discriminant with a diagonal
covariance): mere nearness would also reward whoever looks less like the base's own pictures, in whatever respect. Plain
are the base's pictures and the character's photographs; what tells these two from each other, the character, its
colours, the sharpness of a photograph, is taken out of the way, so that to show the character is no style. The scale is
made for one style against plain pictures: another style with lines as hard may score as high.
"""

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from pipelines.evaluation.metrics import Encoder

SMALLEST_SPREAD = 1e-6


def statistics(encoder: Encoder, pictures: Sequence[Image.Image]) -> Tensor:
    """(N, 2 C) means and standard deviations of the channels at the shallow half of an encoder's depths."""
    depths = encoder.layers(pictures)
    shallow = depths[: max(1, len(depths) // 2)]
    return torch.cat([torch.cat([depth.mean(2), depth.std(2)], dim=1) for depth in shallow], dim=1)


class StyleScale:
    """The way from plain pictures (0 on average) to pictures in a style (1 on average)."""

    def __init__(
        self, encoder: Encoder, *, style: Sequence[Image.Image], plain: Sequence[Sequence[Image.Image]]
    ) -> None:
        """``plain``: groups of pictures without the style, each of which counts the same."""
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
        """(N,) how far along the way."""
        return (found - self.zero) / self.spread @ self.way / self.length

    def scores(self, pictures: Sequence[Image.Image]) -> Tensor:
        """(N,) the score of each picture."""
        return self._along(statistics(self.encoder, pictures))


def without(way: Tensor, differences: Tensor) -> Tensor:
    """Return ``way`` (D,) less its part in the space that the rows of ``differences`` (N, D) span."""
    _, sizes, rows = torch.linalg.svd(differences, full_matrices=False)
    kept = rows[sizes > 1e-4 * sizes.max()]
    return way - (kept @ way) @ kept
