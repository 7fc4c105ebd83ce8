"""Cut-mix pictures: each half shows the right subject, and the prompt names the subject of each side."""

import pytest
import torch

from pipelines.data.cut_mix import JITTER, Mix, middles, plan_mixes, regions

SIDE = 32


def pictures(subject: int, count: int) -> torch.Tensor:
    """(N, 3, 32, 32): the channels of each pixel encode the subject, the photograph and the column."""
    found = torch.zeros(count, 3, SIDE, SIDE)
    found[:, 0], found[:, 2] = subject, torch.arange(SIDE).float()
    found[:, 1] = torch.arange(count).view(-1, 1, 1)
    return found


def planned(decks: list[list[int]], seed: int = 0, **more: int) -> tuple[list[Mix], list[Mix]]:
    places = [[0.5] * 9 for _ in decks]
    generator = torch.Generator().manual_seed(seed)
    return plan_mixes(decks, places, side_px=SIDE, generator=generator, **more)


def test_a_mix_is_a_column_of_each_photograph_on_the_side_its_words_say() -> None:
    mix = Mix(subjects=(1, 0), photos=(2, 1), columns=(5, 9))
    picture = mix.picture([pictures(0, 3), pictures(1, 3)])
    assert picture.shape == (3, SIDE, SIDE)
    for side, (subject, photo, column) in enumerate(((1, 2, 5), (0, 1, 9))):
        half = picture[:, :, side * 16 : side * 16 + 16]
        assert (half[0] == subject).all()
        assert (half[1] == photo).all()
        assert half[2, 0].tolist() == list(range(column, column + 16))
    words = ["zwx dog", "qev cat"]
    told = {
        (True, False): "a photo of a qev cat on the left and a zwx dog on the right",
        (True, True): "a photo of a zwx dog on the right and a qev cat on the left",
        (False, False): "a photo of a qev cat and a zwx dog",
        (False, True): "a photo of a zwx dog and a qev cat",
    }
    for (explicit, turned), text in told.items():
        assert mix.prompt(words, explicit=explicit, turned=turned) == text


def test_the_regions_cover_a_picture_exactly_once() -> None:
    left, right = regions(8, 8)
    assert (left + right == 1).all()
    assert left[:, :4].all()
    assert right[:, 4:].all()


@pytest.mark.parametrize("subjects", [2, 3])
def test_every_ordered_pair_of_subjects_and_every_photograph_takes_part(subjects: int) -> None:
    decks = [[0, 1, 2, 3], [0, 1, 2], [0, 1]][:subjects]
    learned, held_out = planned(decks, most=4)
    pairs = {(i, j) for i in range(subjects) for j in range(subjects) if i != j}
    assert {mix.subjects for mix in learned} == {mix.subjects for mix in held_out} == pairs
    for pair in pairs:
        of_pair = [mix.photos for mix in learned if mix.subjects == pair]
        assert len(set(of_pair)) == len(of_pair) <= 4
        assert {photos[0] for photos in of_pair} == set(decks[pair[0]])
    assert not {(mix.subjects, mix.photos) for mix in learned} & {
        (mix.subjects, mix.photos) for mix in held_out
    }
    assert planned(decks, most=4) == (learned, held_out), "the same generator plans the same"
    assert planned(decks, seed=1, most=4)[0] != learned


def test_one_photograph_each_is_enough() -> None:
    learned, held_out = planned([[0], [0]])
    assert [mix.subjects for mix in learned] == [(0, 1), (1, 0)]
    assert held_out == learned


def test_a_column_stands_about_its_subject_and_within_the_photograph() -> None:
    masks = torch.zeros(3, 1, SIDE, SIDE)
    masks[0, ..., 4:8] = 1
    masks[1, ..., 20:24] = 1  # the third mask is empty
    assert middles(masks, 3) == pytest.approx([6 / SIDE, 22 / SIDE, 0.5])
    assert middles(None, 2) == [0.5, 0.5]
    learned, _ = plan_mixes(
        [[0], [0]], [[0.0], [0.7]], side_px=SIDE, generator=torch.Generator().manual_seed(0)
    )
    for mix in learned:
        column = dict(zip(mix.subjects, mix.columns, strict=True))
        assert 0 <= column[0] <= JITTER * SIDE
        assert abs(column[1] - 0.45 * SIDE) <= JITTER * SIDE + 1
        assert column[1] + SIDE // 2 <= SIDE
