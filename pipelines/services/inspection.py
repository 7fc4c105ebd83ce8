"""What can be told without drawing: views, spectra, bases, and what is in photographs."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipelines.data.photographs import Photo, read_photos
from pipelines.jobs.worker import Job
from pipelines.methods.specs import method_of_kind, method_spec
from pipelines.models.inspection import describe_base
from pipelines.runs.costs import SIZES
from pipelines.runs.library import check_finished, kind_of
from pipelines.runs.store import IMPORTED
from pipelines.services.resources import KNOWN_BASES, Resources
from pipelines.services.spectral_runs import correlation_of, shifted_layers, shifts_of

MASK_SIDE_PX = 384  # large enough to be corrected with a brush


@dataclass(frozen=True)
class PhotoMask:
    """A photograph's square, its mask (L, of the same size) and the square with the mask's outline, as PNG files."""

    name: str
    square: Path
    mask: Path
    outlined: Path
    found: bool  # else the mask is an ellipse in the middle, to be corrected


class InspectionService:
    """What can be told without drawing: views, spectra, bases, and what is in photographs."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources

    def views(self, run_id: str) -> list[dict[str, Any]]:
        """Return what the run's method can show about its finished adapter; [] before there is one."""
        run = self.resources.library.find(run_id)
        spec = method_of_kind(kind_of(run)) if run.method == IMPORTED else method_spec(run.method)
        return [asdict(view) for view in spec.load().views(run)]

    def shifted_layers(self, run_id: str) -> list[str]:
        """Return the layers whose singular values a run moves, as "unet.<module>"; [] when it holds no shifts."""
        return shifted_layers(self.resources.library.find(run_id))

    def spectrum(self, run_id: str, layer: str, *, strength: float = 1.0) -> dict[str, Any]:
        """Return the view of one layer's singular values before and after a run, at a strength."""
        run = self.resources.library.find(run_id)
        check_finished(run)

        def work(job: Job) -> dict[str, Any]:
            from pipelines.methods.spectral_views import spectrum

            return asdict(spectrum(shifts_of(run, self.resources.model_cache(job))[0], layer, scale=strength))

        return self.resources.run_short("spectrum", work, beside=run_id)

    def correlation(self, run_ids: Sequence[str]) -> dict[str, Any]:
        """Return the view of how alike the spectral shifts of several runs on one base are."""
        return asdict(correlation_of([self.resources.library.find(run_id) for run_id in run_ids]))

    def identifiers(self, *, base: str | None = None) -> list[dict[str, Any]]:
        """Return rare words of the base's own vocabulary, the rarest first."""

        def work(job: Job) -> list[dict[str, Any]]:
            from pipelines.models.tokens import rare_identifiers

            loaded = self.resources.model_cache(job).base(base or self.resources.base)
            found = rare_identifiers(loaded.tokenizer, avoid=loaded.avoid)
            return [{"text": each.text, "token_id": each.token_id, "rank": each.rank} for each in found]

        return self.resources.run_short("identifiers", work)

    def bases(self) -> list[dict[str, Any]]:
        """Return what the picker shows: each base, whether it is here, and what it needs."""
        return [describe_base(spec) for spec in dict.fromkeys((*KNOWN_BASES, self.resources.base))]

    def photos_preview(
        self,
        paths: Sequence[Path],
        crops: dict[str, tuple[float, float]] | None = None,
        *,
        base: str | None = None,
    ) -> list[Path]:
        """Return the squares that training will see, as PNG copies in the photos' order."""
        family = describe_base(base or self.resources.base)["family"]
        photos = read_photos(paths, size_px=SIZES[family].side_px, crops=crops)
        folder = self.resources.outbox / secrets.token_hex(6)
        folder.mkdir()
        for index, photo in enumerate(photos):
            photo.image.save(folder / f"{index:02d}.png")
        return sorted(folder.iterdir())

    def masks(
        self, paths: Sequence[Path], crops: dict[str, tuple[float, float]] | None = None
    ) -> list[PhotoMask]:
        """Return each photograph's square with its mask: the one beside it, else one that is found."""
        folder = self.resources.outbox / secrets.token_hex(6)
        folder.mkdir()
        return [
            _write_mask(photo, folder / f"{index:02d}")
            for index, photo in enumerate(read_photos(paths, size_px=MASK_SIDE_PX, crops=crops))
        ]

    def tags(
        self,
        paths: Sequence[Path],
        *,
        kind: str = "",
        with_subject: bool = False,
        crops: dict[str, tuple[float, float]] | None = None,
        base: str | None = None,
    ) -> dict[str, list[str]]:
        """Return what CLIP sees in each photograph, by name: tags for its caption, to be corrected by hand.

        ``kind`` is the class word. Without ``with_subject`` what belongs to the subject is left to its rare word. Waits
        for its turn; ValueError where there is no CLIP for this base's family.
        """
        family = describe_base(base or self.resources.base)["family"]
        photos = read_photos(paths, size_px=SIZES[family].side_px, crops=crops)

        def work(job: Job) -> dict[str, list[str]]:
            from pipelines.evaluation.tagging import tag_pictures, vocabulary

            encoders = self.resources.model_cache(job).encoders(family)
            if encoders is None:
                raise ValueError(
                    "There is no CLIP here that could read photographs; write the captions by hand."
                )
            images = [photo.image for photo in photos]
            told = tag_pictures(
                images, encoders.clip, vocabulary(family), kind=kind, with_subject=with_subject
            )
            return {photo.name: tags for photo, tags in zip(photos, told, strict=True)}

        return self.resources.run_short("tags", work)


def _write_mask(photo: Photo, stem: Path) -> PhotoMask:
    from pipelines.data.masks import FoundMask, find_mask, outlined

    mask = FoundMask(photo.mask, found=True) if photo.mask is not None else find_mask(photo.image)
    files = PhotoMask(
        name=photo.name,
        square=stem.with_suffix(".png"),
        mask=stem.with_suffix(".mask.png"),
        outlined=stem.with_suffix(".outlined.png"),
        found=mask.found,
    )
    photo.image.save(files.square)
    mask.image.save(files.mask)
    outlined(photo.image, mask.image).save(files.outlined)
    return files
