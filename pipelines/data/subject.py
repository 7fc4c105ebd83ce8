"""Subjects: as passed by a client, as stored in a run's folder, and as used by training.

A run stores each of its subjects in ``photos/<subject>/``: the photographs as PNG, optional masks of the same names in
``masks/``, optional pictures of the subject composited into scenes in ``scenes/``, and ``subject.json`` with the words,
captions and repeats of :class:`StoredSubject`. Older runs have a single subject: ``photos/*.png``, the words in the
config, ``captions.json`` and ``repeats.json``. torch is only imported where it is needed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.config import clean_text, fill_words
from pipelines.data.captions import checked_repeats

if TYPE_CHECKING:
    from torch import Tensor

    from pipelines.data.photographs import Moments, Photo

WORDS = "subject.json"
MASKS = "masks"
SCENES = "scenes"


@dataclass(frozen=True)
class SubjectPhotos:
    """One subject as passed by a client; all mappings are keyed by the photographs' file names.

    ``crops`` moves a photograph's square crop by (dx, dy). ``masks`` are white on the subject and have either the
    photograph's size or the square shape of its crop. ``repeats`` is the number of times that a photograph is used per
    round (others: once).
    """

    identifier: str
    class_noun: str
    photo_paths: Sequence[Path]
    crops: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    captions: Mapping[str, str] = field(default_factory=dict)
    repeats: Mapping[str, int] = field(default_factory=dict)
    masks: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class ReadSubject:
    """A subject whose files were read and checked; ``masks`` has one L picture per photo, or is ()."""

    words: tuple[str, str]  # identifier, class noun
    photos: Sequence[Photo]
    captions: Sequence[str]
    repeats: Sequence[int]
    masks: Sequence[Any] = ()

    def write(self, folder: Path) -> None:
        """Write it into ``photos/<subject>/`` of a run."""
        folder.mkdir(parents=True)
        names = [f"{index:02d}.png" for index in range(len(self.photos))]
        for name, photo in zip(names, self.photos, strict=True):
            photo.image.save(folder / name)
        if self.masks:
            (folder / MASKS).mkdir()
        for name, mask in zip(names, self.masks, strict=False):
            mask.save(folder / MASKS / name)
        told = {
            "identifier": self.words[0],
            "class_noun": self.words[1],
            "captions": dict(zip(names, self.captions, strict=True)),
            "repeats": dict(zip(names, self.repeats, strict=True)) if set(self.repeats) != {1} else {},
        }
        (folder / WORDS).write_text(json.dumps(told, indent=1, ensure_ascii=False), encoding="utf-8")


@dataclass(frozen=True)
class StoredSubject:
    """A subject in a run's folder; ``captions`` and ``repeats`` are keyed by the photographs' file names."""

    folder: Path  # contains the files stored with the photographs
    identifier: str
    class_noun: str
    photos: tuple[Path, ...]
    captions: Mapping[str, str]
    repeats: Mapping[str, int]
    masks: tuple[Path, ...] = ()  # one for each photograph, or none

    def as_photos(self) -> SubjectPhotos:
        """Return it as a client would pass it, for another run on the same photographs."""
        return SubjectPhotos(
            self.identifier,
            self.class_noun,
            self.photos,
            captions=dict(self.captions),
            repeats=dict(self.repeats),
            masks={photo.name: mask for photo, mask in zip(self.photos, self.masks, strict=False)},
        )


@dataclass(frozen=True)
class Subject:
    """A subject ready for training: all VAE encodings are computed, so the VAE is not needed any more.

    ``repeats`` is how often each photograph is used per round; () means once each.
    """

    identifier: str
    class_noun: str
    names: tuple[str, ...]
    captions: tuple[str, ...]
    moments: Moments  # of N photographs
    repeats: tuple[int, ...] = ()
    class_moments: Moments | None = None  # of the class images, if prior preservation is enabled
    pixels: Tensor | None = None  # (N, 3, H, W) float32 in [-1, 1], only for methods that need them
    masks: Tensor | None = None  # (N, 1, H, W) float32 in [0, 1], 1 where the subject is

    @property
    def deck(self) -> list[int]:
        """Return the photographs' indices for one round, with repeats."""
        times = self.repeats or (1,) * len(self.names)
        return [index for index, count in enumerate(times) for _ in range(count)]

    def words(self, template: str) -> str:
        """Return a prompt with this subject's words filled in."""
        return fill_words(template, identifier=self.identifier, class_noun=self.class_noun)


def read_subject(subject: SubjectPhotos, *, size_px: int, mask_background: bool = False) -> ReadSubject:
    """Read a subject's photographs and masks as squares of ``size_px``; ``mask_background`` finds missing masks.

    Raises ValueError with one sentence for each unusable file.
    """
    from pipelines.data.photographs import read_photos

    often = checked_repeats(subject.repeats)
    photos = read_photos([Path(path) for path in subject.photo_paths], size_px=size_px, crops=subject.crops)
    return ReadSubject(
        words=(clean_text(subject.identifier), clean_text(subject.class_noun)),
        photos=photos,
        captions=[clean_text(str(subject.captions.get(photo.name, photo.caption))) for photo in photos],
        repeats=[often.get(photo.name, 1) for photo in photos],
        masks=_masks(subject, photos, size_px=size_px, find=mask_background),
    )


def _masks(subject: SubjectPhotos, photos: Sequence[Photo], *, size_px: int, find: bool) -> Sequence[Any]:
    """Return one L picture for each photograph, or () when none has a mask and ``find`` is False.

    A mask passed by the client takes precedence over the mask file stored with the photograph, and that over an
    automatic mask. A photograph without a mask gets a mask that covers all of it.
    """
    from PIL import Image

    unknown = sorted(set(subject.masks) - {photo.name for photo in photos})
    if unknown:
        raise ValueError(f"There is a mask for {unknown[0][:60]!r}, but no such photograph; take it out.")
    masks = [_own_mask(subject, photo, size_px=size_px) or photo.mask for photo in photos]
    if find:
        from pipelines.data.masks import find_mask

        return [mask or find_mask(photo.image).image for mask, photo in zip(masks, photos, strict=True)]
    whole = Image.new("L", (size_px, size_px), 255)
    return [mask or whole for mask in masks] if any(masks) else ()


def _own_mask(subject: SubjectPhotos, photo: Photo, *, size_px: int) -> Any | None:
    from pipelines.data.photographs import read_mask

    path = subject.masks.get(photo.name)
    if path is None:
        return None
    shift = subject.crops.get(photo.name, (0.0, 0.0))
    try:
        content = Path(path).read_bytes()
    except OSError:
        raise ValueError(f"The mask of {photo.name} is no longer there; draw it again.") from None
    return read_mask(photo, content, size_px=size_px, shift=shift, of_square=True)


def named_together(prompts: Sequence[str], words: Sequence[str]) -> tuple[str, ...]:
    """Fill the placeholders of prompts for several subjects; ``words`` has entries such as "zwx dog".

    {all} becomes all subjects in one prompt ("a zwx dog and a qev cat"), as does {beside} ("a zwx dog beside a qev
    cat"). A prompt with {each} becomes one prompt per subject ("a photo of a zwx dog", ...).
    """
    articled = [f"a {each}" for each in words]
    together = " and ".join([", ".join(articled[:-1]), articled[-1]])
    beside = " beside ".join(articled)
    filled = [
        prompt.replace("{all}", together).replace("{beside}", beside).replace("{each}", each)
        for prompt in prompts
        for each in (articled if "{each}" in prompt else articled[:1])
    ]
    return tuple(filled)


def stored_subjects(run_folder: Path, config: Mapping[str, Any]) -> list[StoredSubject]:
    """Return the subjects in a run's folder in order; [] for a run without photographs."""
    folder = run_folder / "photos"
    told = sorted(folder.glob(f"*/{WORDS}"))
    if told:
        return [_stored(path.parent, json.loads(path.read_text(encoding="utf-8"))) for path in told]
    photos = tuple(sorted(folder.glob("*.png")))
    if not photos:
        return []
    flat = StoredSubject(
        folder=run_folder,
        **_words(config),
        photos=photos,
        captions=_read_json(run_folder / "captions.json"),
        repeats=_read_json(run_folder / "repeats.json"),
    )
    return [flat]


def trigger_words(run_folder: Path, config: Mapping[str, Any]) -> str:
    """Return the trigger words of all of a run's subjects, for example "zwx dog, qev cat"; "" without subjects."""
    if "identifier" in config or "class_noun" in config:
        return fill_words("{identifier} {class_noun}", **_words(config))
    subjects = stored_subjects(run_folder, config)
    return ", ".join(f"{subject.identifier} {subject.class_noun}".strip() for subject in subjects)


def stored_photos(run_folder: Path) -> list[Path]:
    """Return the photographs of all subjects in a run's folder."""
    return [photo for subject in stored_subjects(run_folder, {}) for photo in subject.photos]


def stored_masks(run_folder: Path) -> dict[Path, Path]:
    """Return the masks in a run's folder, keyed by photograph."""
    subjects = stored_subjects(run_folder, {})
    return {photo: mask for each in subjects for photo, mask in zip(each.photos, each.masks, strict=False)}


def stored_scenes(run_folder: Path) -> list[Path]:
    """Return the pictures in a run's folder that show its subjects composited into scenes."""
    return sorted((run_folder / "photos").glob(f"*/{SCENES}/*.png"))


def _stored(folder: Path, told: Mapping[str, Any]) -> StoredSubject:
    return StoredSubject(
        folder=folder,
        identifier=told["identifier"],
        class_noun=told["class_noun"],
        photos=tuple(sorted(folder.glob("*.png"))),
        captions=told["captions"],
        repeats=told["repeats"],
        masks=tuple(sorted((folder / MASKS).glob("*.png"))),
    )


def _words(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: str(config.get(name) or "") for name in ("identifier", "class_noun")}


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
