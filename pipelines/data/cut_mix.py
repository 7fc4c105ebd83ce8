"""CutMix pictures (SVDiff, Han et al. 2023, 2303.11305, section 3.3): two subjects side by side, and their prompts.

Each half is a column of the photograph, half its width and centred near the subject, because the left half of a
portrait would show only half a face. All randomness comes from the generators that are passed in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import torch
from torch import Tensor

EXPLICIT = (
    "a photo of a {left} on the left and a {right} on the right",
    "a photo of a {right} on the right and a {left} on the left",
)
VAGUE = ("a photo of a {left} and a {right}", "a photo of a {right} and a {left}")
MOST_MIXES = 24  # per ordered pair of subjects (left, right); each mix is encoded once
HELD_OUT = 2  # additional mixes per pair that are not trained on, if there are enough pairs of photographs
JITTER = 1 / 16  # of a side: largest offset of a column from the subject's centre


@dataclass(frozen=True)
class Mix:
    """One CutMix picture: photograph ``photos[0]`` of subject ``subjects[0]`` on the left, the other on the right.

    ``columns`` are the left edges of the two columns in their photographs, in pixels.
    """

    subjects: tuple[int, int]
    photos: tuple[int, int]
    columns: tuple[int, int]

    def picture(self, pixels: Sequence[Tensor]) -> Tensor:
        """Build the mix (C, H, W) from each subject's pictures (N, C, H, W), which may be photographs or masks."""
        halves = [
            pixels[subject][photo, ..., column : column + pixels[subject].shape[-1] // 2]
            for subject, photo, column in zip(self.subjects, self.photos, self.columns, strict=True)
        ]
        return torch.cat(halves, dim=-1)

    def prompt(self, words: Sequence[str], *, explicit: bool, turned: bool) -> str:
        """Return the prompt with each subject's words ("zwx dog"); ``turned`` names the right subject first."""
        left, right = (words[subject] for subject in self.subjects)
        return (EXPLICIT if explicit else VAGUE)[turned].format(left=left, right=right)


def regions(height: int, width: int) -> Tensor:
    """Return the masks (2, h, w) of the left and the right half of a mix: 1 inside, 0 outside."""
    found = torch.zeros(2, height, width)
    found[0, :, : width // 2] = found[1, :, width // 2 :] = 1
    return found


def middles(masks: Tensor | None, count: int) -> list[float]:
    """Return the horizontal centre of each photograph's subject, 0 (left) to 1 (right), computed from its mask.

    ``masks`` are (N, 1, H, W). Without masks, or for an empty mask, the centre is 0.5.
    """
    if masks is None:
        return [0.5] * count
    across = (torch.arange(masks.shape[-1]) + 0.5) / masks.shape[-1]
    weights = masks.sum(dim=(1, 2))  # (N, W)
    covered = weights.sum(1)
    found = torch.where(covered > 0, (weights * across).sum(1) / covered.clamp(min=1e-8), 0.5)
    return found.tolist()


def plan_mixes(
    decks: Sequence[Sequence[int]],
    places: Sequence[Sequence[float]],
    *,
    side_px: int,
    generator: torch.Generator,
    most: int = MOST_MIXES,
) -> tuple[list[Mix], list[Mix]]:
    """Return (training mixes, held-out mixes) for every ordered pair of subjects.

    ``decks`` lists each subject's photographs, with repeats. ``places`` holds the subject's horizontal centre in each
    photograph, see :func:`middles`. The photographs of a pair alternate, so that even few mixes use as many
    photographs as possible.
    """
    learned: list[Mix] = []
    held_out: list[Mix] = []
    for pair in permutations(range(len(decks)), 2):
        left, right = (
            [decks[one][place] for place in torch.randperm(len(decks[one]), generator=generator).tolist()]
            for one in pair
        )
        photos = [
            (left[i % len(left)], right[(i % len(left) + i // len(left)) % len(right)])
            for i in range(len(left) * len(right))
        ]
        kept_back = max(0, min(HELD_OUT, len(photos) - 2))
        made = [
            Mix(pair, chosen, _columns(pair, chosen, places, side_px=side_px, generator=generator))
            for chosen in photos[: most + kept_back]
        ]
        until = len(made) - kept_back
        learned += made[:until]
        held_out += made[until:] or made[-1:]
    return learned, held_out


def _columns(
    pair: tuple[int, int],
    photos: tuple[int, int],
    places: Sequence[Sequence[float]],
    *,
    side_px: int,
    generator: torch.Generator,
) -> tuple[int, int]:
    """Return the left edges (px) of two columns centred near their subjects, with jitter, inside the photographs."""
    shifts = ((torch.rand(2, generator=generator) * 2 - 1) * JITTER).tolist()
    left, right = (
        round(min(0.5, max(0.0, places[one][photo] + shift - 0.25)) * side_px)
        for one, photo, shift in zip(pair, photos, shifts, strict=True)
    )
    return left, right
