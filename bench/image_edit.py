"""Ten known edits of the illustrated world: each edited picture against the true edited rendering and its original.

    python -m bench.image_edit --home edits --json edits.json --sheet edits.png

Each case is one held-out picture with a caption, learned through the Studio as on the page Edit, and an edited caption.
The world renders the same picture with that edit, which says how the picture should look and which region the edit
leaves alone. The parameter reader must see the edit in the edited picture. The same is measured without inversion (fresh
noise), and with inversion but without fine-tuning. A case already finished in ``--home`` is not trained again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from pipelines.data.photographs import to_tensor
from recipes import world

CHANGED = 0.06  # mean difference of a pixel's channels, 0 to 1, from which the true edit touches it
GROWN_PX = 9  # width of the margin around the pixels that the true edit touches
BLURRED_PX = 5


@dataclass(frozen=True)
class Case:
    """One edit: what the picture shows, the words before and after, and the reader's field that must change.

    ``identity`` and ``after`` set the subject's parameters by name and word; ``view`` and ``view_after`` fields of its
    view; ``picture_after`` fields of the picture.
    """

    name: str
    kind: str
    scene: str
    caption: str
    edited: str
    reads: tuple[str, str, str]  # the reader's group, field and the word that it must read
    identity: Mapping[str, str] = field(default_factory=dict)
    after: Mapping[str, str] = field(default_factory=dict)
    view: Mapping[str, Any] = field(default_factory=dict)
    view_after: Mapping[str, Any] = field(default_factory=dict)
    picture_after: Mapping[str, Any] = field(default_factory=dict)


CASES = (
    Case(
        "hat", "person", "beach", "a photo of a person on the beach", "a photo of a person wearing a red hat on the beach",
        ("picture", "wearable", "hat"), {"glasses": "none", "beard": "none"},
        view_after={"wearable": "hat", "wearable_colour": "red"},
    ),
    Case(
        "glasses", "person", "library", "a photo of a person in the library",
        "a photo of a person with round glasses in the library", ("person", "glasses", "round glasses"),
        {"glasses": "none", "beard": "none"}, {"glasses": "round glasses"},
    ),
    Case(
        "hair colour", "person", "city street", "a photo of a person with black hair on a city street",
        "a photo of a person with blond hair on a city street", ("person", "hair colour", "blond"),
        {"hair colour": "black", "hair style": "bob with a fringe", "glasses": "none"}, {"hair colour": "blond"},
    ),
    Case(
        "smile", "person", "forest", "a photo of a person in the forest", "a photo of a laughing person in the forest",
        ("picture", "expression", "laughing"), {"beard": "none", "glasses": "none"},
        view={"expression": "calm"}, view_after={"expression": "laughing"},
    ),
    Case(
        "scene", "person", "forest", "a photo of a person in the forest", "a photo of a person on the beach",
        ("picture", "scene", "beach"), picture_after={"scene": "beach"},
    ),
    Case(
        "scarf", "cat", "living room", "a photo of a cat in the living room",
        "a photo of a cat wearing a blue scarf in the living room", ("picture", "wearable", "scarf"),
        view_after={"wearable": "scarf", "wearable_colour": "blue"},
    ),
    Case(
        "coat", "dog", "flower garden", "a photo of a brown dog in a flower garden",
        "a photo of a cream dog in a flower garden", ("dog", "coat", "cream"),
        {"coat": "brown"}, {"coat": "cream"},
    ),
    Case(
        "glaze", "teapot", "kitchen", "a photo of a red teapot in the kitchen", "a photo of a blue teapot in the kitchen",
        ("teapot", "glaze", "blue"), {"glaze": "red"}, {"glaze": "blue"},
    ),
    Case(
        "sunglasses", "person", "desert", "a photo of a person in the desert",
        "a photo of a person with sunglasses in the desert", ("person", "glasses", "sunglasses"),
        {"glasses": "none", "beard": "none"}, {"glasses": "sunglasses"},
    ),
    Case(
        "fabric", "plush toy", "beach", "a photo of a pink plush toy on the beach",
        "a photo of a teal plush toy on the beach", ("plush toy", "fabric", "teal"),
        {"fabric": "pink"}, {"fabric": "teal"},
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Drawn:
    """A case as pictures of the world: the original, the true edit, and where the edit leaves it alone, (H, W) bool."""

    original: Image.Image
    true: Image.Image
    kept: np.ndarray


def draw(case: Case, seed: int) -> Drawn:
    """Render the original and the true edit of a case from a held-out seed."""
    rng = np.random.default_rng(seed)
    subject = _with_words(world.sample_subject(rng, case.kind), case.identity)
    light = world.lights_of(case.scene)[0]
    choice = world.Choice(
        subject=subject, scene=case.scene, light=light, style="photo", wearable="", expression="calm"
    )
    picture = world.sample_picture(rng, choice)
    (placed,) = picture.placed
    before = replace(picture, placed=(replace(placed, view=replace(placed.view, **case.view)),))
    changed = replace(
        placed,
        subject=_with_words(subject, case.after),
        view=replace(placed.view, **{**case.view, **case.view_after}),
    )
    after = replace(picture, placed=(changed,), **case.picture_after)
    original, true = world.draw(before), world.draw(after)
    return Drawn(original, true, _kept(original, true))


def _with_words(subject: world.Subject, words: Mapping[str, str]) -> world.Subject:
    values = {param.name: param.values for param in world.PARAMS[subject.kind]}
    chosen = {name: float(values[name].index(word)) for name, word in words.items()}
    return world.Subject(subject.kind, {**subject.identity, **chosen})


def _kept(original: Image.Image, true: Image.Image) -> np.ndarray:
    """Return where the two renderings agree, away from where they differ."""
    gap = (to_tensor([original]) - to_tensor([true])).abs().mean(1, keepdim=True) / 2
    touched = torch.nn.functional.max_pool2d(
        (gap > CHANGED).float(), 2 * GROWN_PX + 1, stride=1, padding=GROWN_PX
    )
    return touched[0, 0].numpy() < 0.5
