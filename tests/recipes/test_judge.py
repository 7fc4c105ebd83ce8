"""The caption loss of the embedded base: the fields that a caption names, and the pictures and fields it covers."""

import numpy as np
import pytest
import torch

from pipelines.evaluation.embedded_encoders import Layout
from recipes.dataset import CAPTIONS, captions_of, picture_of
from recipes.judge import Judge, Lesson, field_losses, named_fields
from recipes.train_instruments import layout_groups, truth
from recipes.world import attributes

COUNT = 40


@pytest.fixture(scope="module")
def layout() -> Layout:
    return Layout(layout_groups())


@pytest.fixture(scope="module")
def labels(layout: Layout) -> np.ndarray:
    """Labels as in the recipe: layout labels only for pictures with one subject."""
    pictures = map(picture_of, range(COUNT))
    return np.stack([truth(layout, p, p.placed[0] if len(p.placed) == 1 else None) for p in pictures])


@pytest.fixture(scope="module")
def named(layout: Layout) -> np.ndarray:
    rows = [[named_fields(layout, picture_of(i), text) for text in captions_of(i)] for i in range(COUNT)]
    return np.asarray(rows)


@pytest.fixture(scope="module")
def lesson(layout: Layout, labels: np.ndarray, named: np.ndarray) -> Lesson:
    torch.manual_seed(0)
    return Lesson(Judge(layout.size).eval().requires_grad_(False), layout.fields, labels, named)


def test_a_caption_names_what_its_words_say_and_nothing_else(layout: Layout) -> None:
    picture = next(
        p
        for p in map(picture_of, range(COUNT))
        if len(p.placed) == 1 and p.placed[0].subject.kind == "person"
    )
    known = attributes(picture.placed[0].subject, picture.placed[0].view)
    told = dict(
        zip(
            [(f.group, f.name) for f in layout.fields], named_fields(layout, picture, "a person"), strict=True
        )
    )
    assert [field for field, said in told.items() if said] == [("picture", "kind")]
    text = f"a photo of a person with {known['hair colour']} hair"
    told = dict(
        zip([(f.group, f.name) for f in layout.fields], named_fields(layout, picture, text), strict=True)
    )
    assert told["person", "hair colour"]
    assert not told["picture", "scene"]


def test_what_a_caption_names_is_known(labels: np.ndarray, named: np.ndarray) -> None:
    assert named.shape[:2] == (COUNT, CAPTIONS)
    assert named.any((1, 2)).sum() > COUNT / 2
    assert not (named.any(1) & np.isnan(labels)).any()


def test_only_pictures_whose_caption_was_given_are_asked(lesson: Lesson, named: np.ndarray) -> None:
    rows = torch.from_numpy(named[:, 0].any(1).nonzero()[0][:4])
    clean = torch.randn(4, 4, 16, 16, requires_grad=True)
    captions = torch.tensor([0, -1, 0, -1])
    generator = torch.Generator().manual_seed(1)
    lesson(clean, rows, captions, torch.tensor([100, 400, 700, 999]), generator).backward()
    reached = clean.grad.abs().sum((1, 2, 3)) > 0
    assert reached.tolist() == [True, False, True, False]


def test_a_field_counts_only_where_it_is_counted(layout: Layout) -> None:
    outputs = torch.randn(2, layout.size, requires_grad=True)
    field = layout.fields[0]
    counted = torch.zeros(2, len(layout.fields), dtype=torch.bool)
    counted[1, 0] = True
    losses = field_losses(layout.fields, outputs, torch.zeros(2, len(layout.fields)), counted)
    assert losses[0] == 0
    losses.sum().backward()
    touched = outputs.grad.abs().sum(0).nonzero()[:, 0].tolist()
    assert touched == list(range(field.start, field.start + field.size))
