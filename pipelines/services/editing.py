"""Edits a photograph with the run that learned it, and keeps the pictures in the run's folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.config import EDIT_STRIP, INVERTED_WITH, EditConfig, from_dict, to_dict
from pipelines.data.subject import stored_photos
from pipelines.jobs.worker import Job
from pipelines.runs.library import EXAMPLE_PREFIX, adapter_hash, check_finished, trained_as, trained_steps
from pipelines.runs.store import Run
from pipelines.sampling.image_metadata import HASH_LENGTH, Layer, picture_facts, save_png
from pipelines.services.resources import Resources

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = "edits"
LAST = "edits/last.json"
MOST_KEPT = 60  # pictures in a run's folder; the oldest are removed
MOST_INVERTED = 32  # noises in memory, 4 kB each on the embedded base


@dataclass(frozen=True)
class Reconstruction:
    """A photograph, its picture after inversion and sampling with its own caption, and their PSNR."""

    original: Path
    picture: Path
    psnr_db: float


class EditingService:
    """Edits photographs; a picture that was made before is read from its file."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self._inverted: dict[str, Tensor] = {}  # by run, prompt, steps and weights

    def edit(
        self,
        run_id: str,
        config: EditConfig,
        *,
        fine_tuned: bool = True,
        on_note: Callable[[str], None] | None = None,
    ) -> Path:
        """Return the edited photograph as a PNG file; without ``fine_tuned`` it is edited by the untouched base.

        Blocks until the job is done. Raises ValueError for a run that did not learn one photograph, an unfinished run,
        or an empty edited caption.
        """
        if not config.prompt:
            raise ValueError("The edited caption is empty; write what the picture should show.")
        run = self.learned(run_id)
        check_finished(run)
        known = self._known(run, config, fine_tuned=fine_tuned)
        if known is not None:
            return known

        def work(job: Job) -> Path:
            return self._draw(job, run, config, fine_tuned=fine_tuned, on_note=on_note)

        return self.resources.run_short("edit", work, beside=run_id)

    def reconstruct(self, run_id: str, *, steps: int) -> Reconstruction:
        """Return the photograph of a run as the inversion and the sampler reproduce it, without guidance."""
        from PIL import Image

        from pipelines.evaluation.pictures import psnr

        picture, original = self.edit(run_id, self.same_words(run_id, steps=steps)), self.photograph(run_id)
        with Image.open(original) as before, Image.open(picture) as after:
            return Reconstruction(original, picture, psnr(before.convert("RGB"), after.convert("RGB")))

    def same_words(self, run_id: str, *, steps: int) -> EditConfig:
        """Return the edit that changes nothing: the caption of the run, without guidance."""
        caption = str(self.learned(run_id).config["caption"])
        return EditConfig(prompt=caption, guidance_scale=1.0, steps=steps)

    def strip(self, run_id: str, config: EditConfig) -> list[tuple[float, Path]]:
        """Return the edit for each value of :data:`EDIT_STRIP`. Each picture is a separate job."""
        return [(share, self.edit(run_id, replace(config, change=share))) for share in EDIT_STRIP]

    def shown(self, run_id: str, config: EditConfig, *, fine_tuned: bool = True) -> Path | None:
        """Return the edited photograph if it was made before, else None; nothing is computed."""
        return self._known(self.learned(run_id), config, fine_tuned=fine_tuned)

    def last(self, run_id: str) -> EditConfig | None:
        """Return the settings of the last edit of a run; None if it has none."""
        found = self.learned(run_id).read_json(LAST)
        return from_dict(EditConfig, found) if found else None

    def keep_last(self, run_id: str, config: EditConfig) -> None:
        """Store the settings of an edit as the last one of its run, which the page opens with."""
        if not run_id.startswith(EXAMPLE_PREFIX):
            run = self.learned(run_id)
            run.file(FOLDER).mkdir(exist_ok=True)
            run.write_json(LAST, to_dict(config))

    def learned(self, run_id: str) -> Run:
        """Return a run that learned one photograph. Raises ValueError for another run."""
        run = self.resources.library.find(run_id)
        if "caption" not in run.config or len(stored_photos(run.path)) != 1:
            raise ValueError(
                f"The run {run.name!r} did not learn one photograph; train one on the page Edit."
            )
        return run

    def photograph(self, run_id: str) -> Path:
        """Return the one photograph of a run, as it was learned."""
        (path,) = stored_photos(self.learned(run_id).path)
        return path

    def _known(self, run: Run, config: EditConfig, *, fine_tuned: bool) -> Path | None:
        name = f"{_key(run, config, fine_tuned=fine_tuned)}.png"
        for folder in (run.file(FOLDER), self.resources.outbox / FOLDER / run.id):
            if (folder / name).is_file():
                return folder / name
        return None

    def _draw(
        self,
        job: Job,
        run: Run,
        config: EditConfig,
        *,
        fine_tuned: bool,
        on_note: Callable[[str], None] | None,
    ) -> Path:
        from pipelines.sampling.ddim_inversion import edit, photograph

        model_cache = self.resources.model_cache(job)
        base = model_cache.base(run.base["spec"])
        adapter = model_cache.adapter(run.file("adapter.safetensors"), base)
        caption = str(run.config["caption"])
        words = caption if config.inverted_with == INVERTED_WITH[1] else config.prompt
        noise_of = json.dumps([run.id, trained_steps(run), words, config.steps, fine_tuned])
        with model_cache.aside(base):
            found = edit(
                base,
                [(adapter, 1.0)] if fine_tuned else [],
                photograph(base, *stored_photos(run.path)),
                config,
                caption=caption,
                inverted=self._inverted.get(noise_of),
                stop=lambda: job.stop_requested,
            )
        if found is None:
            raise ValueError("The edit was interrupted before it was finished; try again.")
        if found.inverted is not None:
            self._inverted[noise_of] = found.inverted
            while len(self._inverted) > MOST_INVERTED:
                del self._inverted[next(iter(self._inverted))]
        for note in (adapter.note, *found.notes):
            if note and on_note is not None:
                on_note(note)
        layer = Layer(
            run=run.id,
            name=run.name,
            strength=1.0,
            step=trained_steps(run),
            adapter=adapter_hash(run)[:HASH_LENGTH],
        )
        facts = picture_facts(found.settings, index=0, stack=[layer] if fine_tuned else [], base=base)
        return self._save(
            run, found.image, facts | {"edit": {"change": config.change}}, config, fine_tuned=fine_tuned
        )

    def _save(
        self, run: Run, image: Any, facts: dict[str, Any], config: EditConfig, *, fine_tuned: bool
    ) -> Path:
        """Save a picture in the run's folder, or in the outbox for a shipped example."""
        own = (self.resources.store.folder / run.id).exists()
        folder = run.file(FOLDER) if own else self.resources.outbox / FOLDER / run.id
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{_key(run, config, fine_tuned=fine_tuned)}.png"
        save_png(image, path, facts)
        oldest = sorted(folder.glob("*.png"), key=lambda each: each.stat().st_mtime)
        for surplus in oldest[: max(0, len(oldest) - MOST_KEPT)]:
            surplus.unlink(missing_ok=True)
        return path


def _key(run: Run, config: EditConfig, *, fine_tuned: bool) -> str:
    """Return a name for everything that a picture depends on, the same for a run and its shipped copy."""
    facts = [trained_as(run), trained_steps(run), fine_tuned, to_dict(config)]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:20]
