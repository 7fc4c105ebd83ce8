"""Cut-mixed pictures (SVDiff, Han et al. 2023, 2303.11305, section 3.3): two subjects side by side, and their words.

A half is a column of the photograph, half as wide as it, that stands about the subject: the left half of a portrait
would show half a face. Everything follows from the generators that are passed in.
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
MOST_MIXES = 24  # of one subject on the left and another on the right; each is encoded once
HELD_OUT = 2  # of them, where there are more pairs of photographs than these, no update sees
JITTER = 1 / 16  # of a side: how far a column may stand from the subject's middle


@dataclass(frozen=True)
class Mix:
    """One cut-mixed picture: photograph ``photos[0]`` of subject ``subjects[0]`` on the left, the other on the right.

    ``columns`` are the left edges of the two columns in their photographs, in pixels.
    """

    subjects: tuple[int, int]
    photos: tuple[int, int]
    columns: tuple[int, int]

    def picture(self, pixels: Sequence[Tensor]) -> Tensor:
        """Return it, (C, H, W), of each subject's pictures (N, C, H, W): photographs, or their masks."""
        halves = [
            pixels[subject][photo, ..., column : column + pixels[subject].shape[-1] // 2]
            for subject, photo, column in zip(self.subjects, self.photos, self.columns, strict=True)
        ]
        return torch.cat(halves, dim=-1)

    def prompt(self, words: Sequence[str], *, explicit: bool, turned: bool) -> str:
        """Return its prompt with each subject's words, "zwx dog"; ``turned`` names the right one first."""
        left, right = (words[subject] for subject in self.subjects)
        return (EXPLICIT if explicit else VAGUE)[turned].format(left=left, right=right)


def regions(height: int, width: int) -> Tensor:
    """Return where the left and the right subject of any mix stand, (2, h, w): 1 there, 0 elsewhere."""
    found = torch.zeros(2, height, width)
    found[0, :, : width // 2] = found[1, :, width // 2 :] = 1
    return found


def middles(masks: Tensor | None, count: int) -> list[float]:
    """Return how far from the left each photograph's subject stands, 0 to 1: its mask's middle, else the picture's.

    ``masks`` are (N, 1, H, W); one that covers nothing tells nothing.
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
    """Return the mixes to learn from and those held out, over every ordered pair of subjects.

    ``decks`` are each subject's photographs, as often as they are repeated; ``places`` where the subject stands in each,
    see :func:`middles`. The photographs of a pair take turns, so that each takes part however few mixes there are.
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
    """Return the left edges of two columns about their subjects, moved a little, within the photographs."""
    shifts = ((torch.rand(2, generator=generator) * 2 - 1) * JITTER).tolist()
    left, right = (
        round(min(0.5, max(0.0, places[one][photo] + shift - 0.25)) * side_px)
        for one, photo, shift in zip(pair, photos, shifts, strict=True)
    )
    return left, right
