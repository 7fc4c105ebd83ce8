"""The seed of an example's picture: pictures that the small CLIP reads are preferred, then a large difference."""

import numpy as np
import torch

from pipelines.data.photographs import to_tensor
from pipelines.evaluation.embedded_encoders import Instruments
from recipes.example_seed import Candidate, best, count_right
from recipes.world import Choice, draw, held_out, lights_of, sample_picture, sample_subject


def test_a_readable_pair_is_preferred_to_a_larger_difference() -> None:
    candidates = [
        Candidate(1, right=3, gain=0.9),
        Candidate(2, right=4, gain=0.2),
        Candidate(3, right=4, gain=0.3),
    ]
    assert best(candidates) == 3


def test_the_right_kind_and_scene_are_counted_in_each_picture() -> None:
    instruments = Instruments()
    pixels = torch.cat([_render("dog", "beach"), _render("teapot", "beach")])
    assert count_right(instruments, pixels[:1], kind="dog", scene="beach") == 2
    assert count_right(instruments, pixels, kind="dog", scene="beach") == 3
    assert count_right(instruments, pixels[:1], kind="teapot", scene="kitchen") == 0


def _render(kind: str, scene: str) -> torch.Tensor:
    rng = np.random.default_rng(5)
    choice = Choice(
        subject=sample_subject(held_out(3, 1), kind),
        scene=scene,
        light=lights_of(scene)[0],
        style="photo",
        wearable="",
    )
    return to_tensor([draw(sample_picture(rng, choice))])
