"""Information without image generation: views, spectra, base models, and the contents of photographs."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.data.intake import Intake, check_mask, sort_files
from pipelines.data.photographs import Photo, read_photos
from pipelines.data.subject import stored_subjects
from pipelines.jobs.worker import Job
from pipelines.methods.specs import method_of_kind, method_spec
from pipelines.models.inspection import BaseFacts, describe_base
from pipelines.models.prompt_words import PromptWords, prompt_words
from pipelines.runs.costs import SIZES
from pipelines.runs.library import check_finished, kind_of
from pipelines.runs.store import IMPORTED, Run
from pipelines.services.resources import KNOWN_BASES, Resources
from pipelines.services.spectral_runs import correlation_of, shifted_layers, shifts_of

if TYPE_CHECKING:
    from PIL import Image

    from pipelines.data.masks import FoundMask

MASK_SIDE_PX = 384  # large enough to be corrected with a brush


@dataclass(frozen=True)
class PhotoMask:
    """A photograph's square crop and its mask, as PNG files.

    ``mask`` is a mode "L" image of the same size, ``outlined`` the square with the mask's outline, ``layer`` the mask
    as a translucent layer for the mask editor.
    """

    name: str
    square: Path
    mask: Path
    outlined: Path
    layer: Path
    found: bool  # if False, the mask is a default ellipse in the center


class InspectionService:
    """Information without image generation: views, spectra, base models, and the contents of photographs."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources

    def views(self, run_id: str) -> list[dict[str, Any]]:
        """Return the charts of the run's finished adapter; [] if there is none."""
        run = self.resources.library.find(run_id)
        spec = method_of_kind(kind_of(run)) if run.method == IMPORTED else method_spec(run.method)
        return [asdict(view) for view in spec.load().views(run)]

    def shifted_layers(self, run_id: str) -> list[str]:
        """Return the layers with trained singular values, as "unet.<module>"; [] for a run without spectral shifts."""
        return shifted_layers(self.resources.library.find(run_id))

    def spectrum(self, run_id: str, layer: str, *, strength: float = 1.0) -> dict[str, Any]:
        """Return the chart of one layer's singular values before and after a run, at a strength."""
        run = self.resources.library.find(run_id)
        check_finished(run)

        def work(job: Job) -> dict[str, Any]:
            from pipelines.methods.spectral_views import spectrum

            return asdict(spectrum(shifts_of(run, self.resources.model_cache(job))[0], layer, scale=strength))

        return self.resources.run_short("spectrum", work, beside=run_id)

    def correlation(self, run_ids: Sequence[str]) -> dict[str, Any]:
        """Return the chart of the similarity between the spectral shifts of several runs on one base."""
        return asdict(correlation_of([self.resources.library.find(run_id) for run_id in run_ids]))

    def entry_map(self, run_id: str, layer: str = "") -> dict[str, Any]:
        """Return the entries of one layer that each concept of a sequence moved: ``picture``, a PNG file, and facts.

        The facts are ``layer``, ``words`` (in the order of ``colours``), and the ``shared`` share of entries with
        ``chance``, what concepts that know nothing of each other would share. "" chooses the layer that changed most.
        """
        from pipelines.methods.continual_views import COLOURS, entry_map, read_changes

        found = entry_map(read_changes(self.resources.library.find(run_id)), layer)
        path = self.resources.outbox / f"entries-{secrets.token_hex(4)}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        found.image.save(path)
        facts = {"layer": found.layer, "words": found.words, "shared": found.shared, "chance": found.chance}
        return {**facts, "picture": path, "colours": [list(colour) for colour in COLOURS]}

    def identifiers(self, *, base: str | None = None) -> list[dict[str, Any]]:
        """Return suggested identifiers: rare tokens of the base's vocabulary, the rarest first."""

        def work(job: Job) -> list[dict[str, Any]]:
            from pipelines.models.tokens import rare_identifiers

            loaded = self.resources.model_cache(job).base(base or self.resources.base)
            found = rare_identifiers(loaded.tokenizer, avoid=loaded.avoid)
            return [{"text": each.text, "token_id": each.token_id, "rank": each.rank} for each in found]

        return self.resources.run_short("identifiers", work)

    def bases(self) -> list[BaseFacts]:
        """Return the base models to choose from, whether each is available locally, and its requirements."""
        return [describe_base(spec) for spec in dict.fromkeys((*KNOWN_BASES, self.resources.base))]

    def prompt_words(self, run_id: str, *others: str) -> PromptWords:
        """Return the words that a run's base and the runs were trained on, and phrases to offer for a prompt."""
        runs = [self.resources.library.find(each) for each in (run_id, *others)]
        learned = tuple(text for run in runs for text in _learned(run))
        return replace(prompt_words(str(runs[0].base.get("spec", ""))), learned=learned)

    def base(self, spec: str) -> BaseFacts:
        """Return the facts about any base: a name, a folder, a file or a Hub id; its ``problem`` if it is refused."""
        return describe_base(str(spec or "").strip())

    def sort_files(self, paths: Sequence[Path], *, taken: Collection[str] = ()) -> Intake:
        """Sort uploaded files into photographs, masks and captions; archives are unpacked into temporary files.

        ``taken`` are the names of the photographs that are already there. A mask that does not fit is refused.
        """
        folder = self.resources.outbox / secrets.token_hex(6)
        folder.mkdir()
        intake = sort_files(paths, into=folder, taken=taken)
        for name, mask in list(intake.masks.items()):
            try:
                if name in intake.photos:
                    check_mask(intake.photos[name], mask)
            except ValueError as error:
                intake.refused += str(error).splitlines()
                del intake.masks[name]
        return intake

    def photos_preview(
        self,
        paths: Sequence[Path],
        crops: dict[str, tuple[float, float]] | None = None,
        *,
        base: str | None = None,
    ) -> list[Path]:
        """Return the square crops used for training, as PNG copies in the photos' order."""
        family = describe_base(base or self.resources.base).family
        photos = read_photos(paths, size_px=SIZES[family].side_px, crops=crops)
        folder = self.resources.outbox / secrets.token_hex(6)
        folder.mkdir()
        for index, photo in enumerate(photos):
            photo.image.save(folder / f"{index:02d}.png")
        return sorted(folder.iterdir())

    def masks(
        self,
        paths: Sequence[Path],
        crops: dict[str, tuple[float, float]] | None = None,
        *,
        known: Mapping[str, PhotoMask] | None = None,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[PhotoMask]:
        """Return each photograph's square with its mask.

        The mask is the one in ``known`` for its name, else the photograph's own mask file, else an automatic one.
        ``on_progress(done, total)`` is called before each photograph.
        """
        photos = read_photos(paths, size_px=MASK_SIDE_PX, crops=crops)
        made = []
        for done, photo in enumerate(photos):
            on_progress(done, len(photos))
            made.append((known or {}).get(photo.name) or self._first_mask(photo))
        return made

    def _first_mask(self, photo: Photo) -> PhotoMask:
        from pipelines.data.masks import FoundMask, find_mask

        mask = FoundMask(photo.mask, found=True) if photo.mask is not None else find_mask(photo.image)
        return self._write_mask(photo.name, photo.image, mask)

    def mask_again(self, photo: PhotoMask) -> PhotoMask:
        """Replace a photograph's mask by a new automatic one and discard manual corrections."""
        from pipelines.data.masks import find_mask

        square = _opened(photo.square)
        return self._write_mask(photo.name, square, find_mask(square))

    def mask_whole(self, photo: PhotoMask) -> PhotoMask:
        """Return the photograph with a mask that covers all of it."""
        from PIL import Image

        from pipelines.data.masks import FoundMask

        square = _opened(photo.square)
        return self._write_mask(photo.name, square, FoundMask(Image.new("L", square.size, 255), found=True))

    def mask_painted(self, photo: PhotoMask, layers: Sequence[Image.Image]) -> PhotoMask:
        """Return the photograph with the mask painted on RGBA layers. Raises ValueError if the mask is empty."""
        from pipelines.data.masks import FoundMask, painted

        square = _opened(photo.square)
        mask = painted(layers, square.size)
        if mask.getbbox() is None:
            raise ValueError(
                f"Nothing is left of the mask of {photo.name}; brush over the subject, or take the whole photo."
            )
        return self._write_mask(photo.name, square, FoundMask(mask, found=True))

    def painted(self, layers: Sequence[Image.Image], size: tuple[int, int]) -> Image.Image | None:
        """Return the mask painted on RGBA layers, mode "L" of this size; None if nothing is painted."""
        from pipelines.data.masks import painted

        mask = painted(layers, size)
        return mask if mask.getbbox() is not None else None

    def _write_mask(self, name: str, square: Image.Image, mask: FoundMask) -> PhotoMask:
        from pipelines.data.masks import outlined, tinted

        stem = self.resources.outbox / secrets.token_hex(8)
        files = {what: stem.with_suffix(f".{what}.png") for what in ("square", "mask", "outlined", "layer")}
        square.save(files["square"])
        mask.image.save(files["mask"])
        outlined(square, mask.image).save(files["outlined"])
        tinted(mask.image).save(files["layer"])
        return PhotoMask(name=name, found=mask.found, **files)

    def tags(
        self,
        paths: Sequence[Path],
        *,
        kind: str = "",
        with_subject: bool = False,
        crops: dict[str, tuple[float, float]] | None = None,
        base: str | None = None,
    ) -> dict[str, list[str]]:
        """Return CLIP's tags for each photograph's caption, by name; the user can edit them.

        ``kind`` is the class noun. Without ``with_subject``, tags of the subject are omitted, so that the identifier
        learns them. Blocks until the job is done. Raises ValueError if there is no CLIP for this base's family.
        """
        family = describe_base(base or self.resources.base).family
        photos = read_photos(paths, size_px=SIZES[family].side_px, crops=crops)

        def work(job: Job) -> dict[str, list[str]]:
            from pipelines.evaluation.tagging import tag_pictures, vocabulary

            encoders = self.resources.model_cache(job).encoders(family)
            if encoders is None:
                raise ValueError(
                    "There is no CLIP on this machine to tag photographs; write the captions by hand."
                )
            images = [photo.image for photo in photos]
            told = tag_pictures(
                images, encoders.clip, vocabulary(family), kind=kind, with_subject=with_subject
            )
            return {photo.name: tags for photo, tags in zip(photos, told, strict=True)}

        return self.resources.run_short("tags", work)


def _learned(run: Run) -> list[str]:
    """Return the texts that a run was trained with: trigger words and captions."""
    subjects = stored_subjects(run.path, run.config)
    told = [
        str(run.config.get(name) or "") for name in ("identifier", "class_noun", "photo_prompt", "caption")
    ]
    told += [word for one in subjects for word in (one.identifier, one.class_noun)]
    told += [caption for one in subjects for caption in one.captions.values()]
    return [text for text in told if text]


def _opened(path: Path) -> Image.Image:
    from PIL import Image

    with Image.open(path) as picture:
        return picture.convert("RGB")
