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
        """Import an adapter file of another program or of Atelier as a finished run; return its id.

        ``path`` is a LoRA as a .safetensors file of diffusers, kohya / ComfyUI or Atelier, or a PEFT folder or its zip
        file; spectral shifts and textual inversion embeddings (diffusers, A1111) are supported, too. Blocks until the
        job is done. Raises ValueError, without creating a run, if the file cannot be read or does not fit the base.
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
        """Import a LoRA from a Hub repository ("owner/name", optionally "@revision") as a finished run; return its id.

        Requires ``ATELIER_HUB=1`` and safetensors of at most 500 MB; raises ValueError otherwise.
        """
        with tempfile.TemporaryDirectory(prefix="atelier-hub-") as folder:
            fetched = fetch_lora(repo_id, into=Path(folder))
            return self.import_lora(fetched, name=name or repo_id.partition("@")[0].strip(), base=base)

    def inspect_lora(self, path: Path, *, base: str | None = None) -> dict[str, Any]:
        """Return facts from the header of a LoRA file without loading it: rank, keys, base, metadata, ...

        ``problem`` is "" or a sentence that explains why it cannot be used. ValueError if the file is not a LoRA.
        """
        return inspect_file(Path(path), base=base or self.resources.base)

    def export(self, run_id: str, format: str = OWN.name, *, rank: int = LOW_RANK) -> Path:
        """Export a run's adapter in another program's format: diffusers, peft (a zip), kohya or svdiff.

        svdiff writes the two files of svdiff-pytorch (a zip). In the LoRA formats, spectral shifts and fully trained
        weights are approximated by a LoRA of the given ``rank``. The file is verified by reading it back.
        """
        return self.verified_export(run_id, format, rank=rank)[0]

    def verified_export(
        self, run_id: str, format: str = OWN.name, *, rank: int = LOW_RANK
    ) -> tuple[Path, str]:
        """Export a run and verify the file by loading it with the other program's loader.

        Returns the file and a report such as "128/128 keys, largest difference 0", with the approximation error if a
        LoRA approximates another adapter. Raises ValueError if the file read back is not complete.
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
        """Merge a run into a copy of its base and return the file with a report of the verification.

        ``format``: "diffusers", a zipped folder for ``StableDiffusionPipeline.from_pretrained``, or "checkpoint", one
        .safetensors file (not for the embedded base). The loaded base is not changed.
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
    """Return a written file as it is, and a folder as a zip file."""
    return Path(shutil.make_archive(str(written), "zip", written)) if written.is_dir() else written
