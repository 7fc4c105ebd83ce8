"""How much a picture has of a style, whatever it shows.

The features are, for every channel of the shallow half of CLIP's picture encoder, the mean and the standard deviation
over all places (AdaIN's statistics, Huang and Belongie 2017, 1703.06868): where a thing stands drops out, colour, line
and grain stay. They are counted in standard deviations over the style's and the untouched base's pictures, because
otherwise what all pictures share outweighs the rest. Gram matrices, which these stand for (Li et al. 2017, 1701.01036),
tell the illustrated world's five styles apart less well: a pair of one style is nearer than a pair of two, of different
subjects, in 76 % of the cases, with these statistics in 86 %; in the identity encoder, which learns to overlook style,
in 83 %; with CLIP's own vector in 77 %.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from pipelines.metrics import Encoder

SMALLEST_SPREAD = 1e-6


def statistics(encoder: Encoder, pictures: Sequence[Image.Image]) -> Tensor:
    """(N, 2 C) means and standard deviations of the channels at the shallow half of an encoder's depths."""
    depths = encoder.layers(pictures)
    shallow = depths[: max(1, len(depths) // 2)]
    return torch.cat([torch.cat([depth.mean(2), depth.std(2)], dim=1) for depth in shallow], dim=1)


class StyleSpace:
    """The scale on which pictures are nearer to, or farther from, the ``style`` pictures; ``base`` gives its zero."""

    def __init__(
        self, encoder: Encoder, *, style: Sequence[Image.Image], base: Sequence[Image.Image]
    ) -> None:
        self.encoder = encoder
        mine, plain = statistics(encoder, style), statistics(encoder, base)
        self.spread, self.middle = torch.std_mean(torch.cat([mine, plain]), dim=0)
        self.style = self._placed(mine)

    def _placed(self, found: Tensor) -> Tensor:
        """(N, D) unit rows."""
        return F.normalize((found - self.middle) / self.spread.clamp(min=SMALLEST_SPREAD), dim=1)

    def scores(self, pictures: Sequence[Image.Image]) -> Tensor:
        """(N,) mean cosine of each picture with the style's pictures."""
        return (self._placed(statistics(self.encoder, pictures)) @ self.style.T).mean(1)
