"""Automatic tags: CLIP classifies a photograph, using a vocabulary of sets of mutually exclusive tags."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from pipelines.config import ASSETS
from pipelines.data.captions import join_tags
from pipelines.evaluation.metrics import Encoder

CERTAIN = 0.6  # minimum softmax probability of a tag within its set
SHIPPED_TAGS = ASSETS / "tags"


@dataclass(frozen=True)
class Rivals:
    """A set of mutually exclusive tags. With ``maybe``, a picture may show none of them.

    ``kind`` restricts the set to pictures of this kind of subject; "" means all. ``of_subject`` marks properties of
    the subject itself, such as a person's hair or a teapot's glaze.
    """

    name: str
    tags: tuple[str, ...]
    kind: str = ""
    of_subject: bool = False
    maybe: bool = False


@dataclass(frozen=True)
class Vocabulary:
    """All tag sets for a base model family, and the ``template`` that combines a tag with the kind of subject for CLIP.

    ``familiar`` is the minimum :func:`certainty` at which CLIP's tags are reliable; 0 disables the check, for a CLIP
    trained on general pictures.
    """

    template: str
    rivals: tuple[Rivals, ...]
    familiar: float = 0.0

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of subjects in the vocabulary."""
        return next((each.tags for each in self.rivals if each.name == "kind"), ())


def vocabulary(family: str) -> Vocabulary:
    """Return the shipped vocabulary for a base model family. Raises ValueError when there is none."""
    path = SHIPPED_TAGS / f"{family}.json"
    if not path.is_file():
        raise ValueError(f"No tags are shipped for the base family {family!r}; write the captions by hand.")
    read = json.loads(path.read_text(encoding="utf-8"))
    rivals = (Rivals(**{**entry, "tags": tuple(entry["tags"])}) for entry in read["rivals"])
    return Vocabulary(
        template=read["template"], rivals=tuple(rivals), familiar=float(read.get("familiar", 0.0))
    )


@torch.no_grad()
def tag_pictures(
    images: Sequence[Image.Image],
    clip: Encoder,
    words: Vocabulary,
    *,
    kind: str = "",
    with_subject: bool = False,
) -> list[list[str]]:
    """Return the tags of each picture: the most likely tag of every set, if its probability is high enough.

    A picture with too low a :func:`certainty` gets no tags. ``kind`` is the known kind of subject, for example "dog";
    if the vocabulary does not contain it, CLIP chooses the kind. ``with_subject`` includes tags for the subject's own
    properties. Without it, only properties that vary between pictures are tagged, so that the identifier alone comes to
    represent the subject.
    """
    seen = clip.image_features(images)
    known = (
        (certainty(seen, clip, words) >= words.familiar).tolist() if words.familiar else [True] * len(images)
    )
    tags = _tags(seen, clip, words, kind=kind, with_subject=with_subject)
    return [found if sure else [] for found, sure in zip(tags, known, strict=True)]


@torch.no_grad()
def described(
    images: Sequence[Image.Image], clip: Encoder, words: Vocabulary, *, prompt: str, kind: str
) -> list[str]:
    """Return a caption for each picture: ``prompt`` and those tags of the surroundings that it does not contain.

    All captions are "" when the median :func:`certainty` is too low: a wrong caption is worse than none.
    """
    seen = clip.image_features(images)
    if words.familiar and float(certainty(seen, clip, words).quantile(0.5)) < words.familiar:
        return [""] * len(images)
    found = _tags(seen, clip, words, kind=kind, with_subject=False)
    return [join_tags([prompt, *(tag for tag in tags if tag not in prompt)]) for tags in found]


def certainty(seen: Tensor, clip: Encoder, words: Vocabulary) -> Tensor:
    """Return how reliably CLIP recognises each picture (B,), from image features ``seen`` (B, C) of unit length.

    The value is the largest cosine with any "kind in a scene" text, times the softmax probabilities of the most likely
    kind and of the most likely scene. These probabilities are low when CLIP is uncertain.
    """
    scenes = next(each.tags for each in words.rivals if each.name == "scene")
    pairs = [words.template.format(kind=kind, tag=scene) for kind in words.kinds for scene in scenes]
    cosines = (seen @ _read(clip, pairs).T).view(len(seen), len(words.kinds), len(scenes))
    nearest = cosines.amax(dim=(1, 2))
    of_kinds = (clip.scale * seen @ _read(clip, words.kinds).T).softmax(dim=1)
    kinds = of_kinds.argmax(dim=1)
    of_scenes = (clip.scale * cosines[torch.arange(len(seen)), kinds]).softmax(dim=1)
    return nearest * of_kinds.amax(dim=1) * of_scenes.amax(dim=1)


def _tags(
    seen: Tensor, clip: Encoder, words: Vocabulary, *, kind: str, with_subject: bool
) -> list[list[str]]:
    """Return the tags of :func:`tag_pictures` without the check of :func:`certainty`."""
    known = kind in words.kinds
    kinds = [kind] * len(seen) if known or not words.kinds else _nearest(seen, clip, words.kinds)
    tags: list[list[str]] = [[] for _ in kinds]
    for found in dict.fromkeys(kinds):
        of_it = [index for index, each in enumerate(kinds) if each == found]
        for rivals in words.rivals:
            if rivals.kind in ("", found) and (with_subject or not rivals.of_subject):
                chosen = _surest(seen[of_it], clip, rivals, template=words.template, kind=found)
                for index, tag in zip(of_it, chosen, strict=True):
                    tags[index] += [tag] if tag else []
    return tags


def _read(clip: Encoder, texts: Sequence[str]) -> Tensor:
    """Return the text features (N, C) of a CLIP."""
    read = clip.text_features(texts)
    assert read is not None, "a CLIP reads words"
    return read


def _nearest(seen: Tensor, clip: Encoder, texts: Sequence[str]) -> list[str]:
    read = _read(clip, texts)
    return [texts[int(index)] for index in (seen @ read.T).argmax(dim=1)]


def _surest(seen: Tensor, clip: Encoder, rivals: Rivals, *, template: str, kind: str) -> list[str]:
    """Return each picture's most likely tag, by softmax over scaled cosines; "" if uncertain or if none applies."""
    texts = [template.format(kind=kind, tag=tag) if rivals.name != "kind" else tag for tag in rivals.tags]
    read = _read(clip, [*texts, *([kind] if rivals.maybe else [])])
    shares = (clip.scale * seen @ read.T).softmax(dim=1)  # (B, number of tags, plus one for "none of them")
    best = shares.max(dim=1)
    return [
        (*rivals.tags, "")[int(index)] if float(share) >= CERTAIN else ""
        for share, index in zip(best.values, best.indices, strict=True)
    ]
