"""The photographs of an experiment and the pictures of a style: square crops with captions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.data.captions import TRIGGER, caption_of
from pipelines.data.photographs import read_photos
from pipelines.models.inspection import BaseFacts
from pipelines.runs.costs import SIZES

if TYPE_CHECKING:
    from PIL import Image

log = logging.getLogger(__name__)

Captioned = list[tuple["Image.Image", str]]
Tags = Callable[..., Mapping[str, Sequence[str]]]


def squares(
    paths: Sequence[Path],
    facts: BaseFacts,
    *,
    crops: dict[str, tuple[float, float]] | None = None,
    captions: Mapping[str, str] | None,
) -> Captioned:
    """Return each photograph as used for training, with its caption or ""; ``facts`` describes the base.

    Raises ValueError naming a file that is not a photograph.
    """
    photos = read_photos(paths, size_px=SIZES[facts.family].side_px, crops=crops)
    return [(photo.image, str((captions or {}).get(photo.name, photo.caption))) for photo in photos]


def style_squares(
    paths: Sequence[Path], facts: BaseFacts, *, captions: Mapping[str, str] | None, tags: Tags
) -> Captioned:
    """Return the pictures of a style with captions that describe them and contain the style's trigger words.

    For pictures without a caption, ``tags`` (``InspectionService.tags``) supplies CLIP's tags; without CLIP, the photo
    prompt is used as the caption of all pictures. Raises ValueError when there are no pictures.
    """
    if not paths:
        raise ValueError("There are no pictures of the style yet; choose a style, or add 1 to 60 pictures.")
    found = squares(paths, facts, captions=captions)
    if not any(text for _, text in found):
        seen = _seen(paths, tags=tags, spec=facts.spec)
        texts = [caption_of(seen[Path(path).name]) if Path(path).name in seen else "" for path in paths]
        if len(texts) == len(found):  # not for pictures from a zip
            found = [(image, text) for (image, _), text in zip(found, texts, strict=True)]
    return [
        (image, f"{text}, {TRIGGER}" if text and "{identifier}" not in text else text)
        for image, text in found
    ]


def _seen(paths: Sequence[Path], *, tags: Tags, spec: str) -> Mapping[str, Sequence[str]]:
    try:
        return tags(paths, with_subject=True, base=spec)
    except ValueError as error:
        log.info("Style pictures get no captions: %s", error)
        return {}
