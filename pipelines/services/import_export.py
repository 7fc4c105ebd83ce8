"""Import and export of adapters."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Any

from pipelines.config import whole_number
from pipelines.formats.exchange import LOW_RANK, export_run, import_run, inspect_file
from pipelines.formats.lora_keys import MAX_RANK
from pipelines.formats.merged_base import check_merge, write_merged
from pipelines.formats.table import OWN, check_format
from pipelines.jobs.worker import Job
from pipelines.models.hub import fetch_lora
from pipelines.models.inspection import describe_base
from pipelines.runs.library import check_finished
from pipelines.services.resources import Resources


class ImportExportService:
    """Import and export of adapters."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources

    def import_lora(self, path: Path, *, name: str = "", base: str | None = None) -> str:
        """Make a finished run of a LoRA file that another program wrote, or Atelier elsewhere, and return its id.

        ``path`` is a .safetensors file of diffusers, kohya / ComfyUI or Atelier, or a PEFT folder, also zipped; spectral
        shifts and learned words (textual inversion of diffusers, embeddings of A1111) come in the same way. Waits for its
        turn on the device. Raises ValueError for what cannot be read, or not on this base; then no run is made.
        """
        facts = describe_base(base or self.resources.base)
        if facts.problem:
            raise ValueError(facts.problem)

        def work(job: Job) -> str:
            models = self.resources.model_cache(job)
            return import_run(
                Path(path), spec=facts.spec, name=name, models=models, store=self.resources.store
            )

        return self.resources.run_short("import", work)

    def load_from_hub(self, repo_id: str, *, name: str = "", base: str | None = None) -> str:
        """Make a finished run of the LoRA in a Hub repository ("owner/name", also "@revision") and return its id.

        Only with ``ATELIER_HUB=1``, only safetensors, up to 500 MB. Raises ValueError for whatever stands in the way.
        """
        with tempfile.TemporaryDirectory(prefix="atelier-hub-") as folder:
            fetched = fetch_lora(repo_id, into=Path(folder))
            return self.import_lora(fetched, name=name or repo_id.partition("@")[0].strip(), base=base)

    def inspect_lora(self, path: Path, *, base: str | None = None) -> dict[str, Any]:
        """Return what the header of a LoRA file says, before anything is loaded: rank, keys, base, metadata, ...

        ``problem`` is "" or the sentence for why it cannot be used. Raises ValueError for what is no LoRA at all.
        """
        return inspect_file(Path(path), base=base or self.resources.base)

    def export(self, run_id: str, format: str = OWN.name, *, rank: int = LOW_RANK) -> Path:
        """Return a copy of a run's adapter as a file of another program: diffusers, peft (a zip), kohya or svdiff.

        Spectral shifts become svdiff-pytorch's two files (a zip); they and fully trained weights become the nearest LoRA
        of a ``rank``. The file was read back before it is returned.
        """
        return self.verified_export(run_id, format, rank=rank)[0]

    def verified_export(
        self, run_id: str, format: str = OWN.name, *, rank: int = LOW_RANK
    ) -> tuple[Path, str]:
        """Export a run, read that very file back through the other program's reader, and say how it differs.

        Returns the file and for example "128/128 keys, largest difference 0", and how near a LoRA comes to what is
        none; raises ValueError when it did not come back whole.
        """
        check_format(format)
        if not 1 <= whole_number(rank, label="The LoRA's rank") <= MAX_RANK:
            raise ValueError(f"The LoRA's rank is {rank}; it must lie between 1 and {MAX_RANK}.")
        run = self.resources.library.find(run_id)
        check_finished(run)
        folder = self.resources.outbox / secrets.token_hex(6)
        folder.mkdir()

        def work(job: Job) -> tuple[Path, str]:
            models = self.resources.model_cache(job)
            return export_run(run, format=format, run_id=run_id, folder=folder, rank=rank, models=models)

        written, told = self.resources.run_short("export", work, beside=run_id)
        return _as_file(written), told

    def merge_into_base(
        self, run_id: str, format: str = "diffusers", *, strength: float = 1.0
    ) -> tuple[Path, str]:
        """Merge a run into its base and return that as a file of its own, with how it compares when it is read back.

        ``format``: "diffusers", a zipped folder for ``StableDiffusionPipeline.from_pretrained``, or "checkpoint", one
        .safetensors file (not of the embedded base). The base here stays as it was.
        """
        run = self.resources.library.find(run_id)
        checked = check_merge(run, format=format, strength=strength)
        folder = self.resources.outbox / secrets.token_hex(6)
        folder.mkdir()

        def work(job: Job) -> tuple[Path, str]:
            return write_merged(
                run,
                format=format,
                strength=checked,
                folder=folder,
                shop=self.resources.model_cache(job),
            )

        return self.resources.run_short("merge", work, beside=run_id)


def _as_file(written: Path) -> Path:
    """Return what was written as one file: a folder zipped."""
    return Path(shutil.make_archive(str(written), "zip", written)) if written.is_dir() else written
