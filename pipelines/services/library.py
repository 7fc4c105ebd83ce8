"""The finished runs: listed, named, looked up, mixed and deleted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipelines.config import SampleConfig, clean_text, real_number, whole_number
from pipelines.jobs.worker import Job
from pipelines.models.inspection import EMBEDDED
from pipelines.runs.library import check_finished
from pipelines.runs.names import run_names
from pipelines.runs.settings import read_settings, settings_of
from pipelines.runs.status import Card
from pipelines.runs.together import Shown, kept
from pipelines.services.concept_merge import check_merge, merge_concepts
from pipelines.services.resources import Resources
from pipelines.services.spectral_runs import check_mix, combine
from pipelines.services.together import without_unmix

if TYPE_CHECKING:
    from pipelines.jobs.model_cache import ModelCache


class LibraryService:
    """The finished runs: listed, named, looked up, mixed and deleted."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources

    def list_runs(self, *, shipped: bool = False) -> list[Card]:
        """Return the user's runs, the newest first; with ``shipped`` the examples follow."""
        return self.resources.library.cards(shipped=shipped)

    def names(self, *, mark_examples: bool = False) -> dict[str, str]:
        """Return the name under which each run and example is told apart, by its id; see :func:`run_names`."""
        return run_names(self.list_runs(shipped=True), mark_examples=mark_examples)

    def examples(self, *, tab: str = "") -> list[dict[str, Any]]:
        """Return the shipped examples, or those of one tab; ``run`` is the id of their finished run."""
        return self.resources.library.examples(tab=tab)

    def kept_together(self, run_id: str) -> list[Shown]:
        """Return the latest pictures of ``generation.together`` of a run; [] if there are none."""
        return kept(self.resources.library.find(run_id))

    def without_unmix(self, run_id: str) -> str:
        """Return the id of the finished run that differs from a run only in an Unmix weight of 0; "" if there is none."""
        return without_unmix(self.resources, run_id)

    def rename(self, run_id: str, name: str) -> None:
        """Rename a run. Raises ValueError for an empty name or a shipped example."""
        run = self.resources.library.own(run_id)
        if not clean_text(name):
            raise ValueError(f"The new name of {run.name!r} is empty; type one.")
        self.resources.store.rename(run_id, name)

    def note(self, run_id: str, text: str) -> None:
        """Set a run's note; an empty text clears it. Raises ValueError for a shipped example."""
        self.resources.library.own(run_id)
        self.resources.store.note(run_id, text)

    def delete(self, run_id: str) -> None:
        """Delete a run and all its files. Raises ValueError for a running run or a shipped example."""
        self.resources.library.own(run_id)
        self.resources.store.delete(run_id)
        self.resources.queue.jobs.pop(run_id, None)

    def settings(self, run_id: str) -> dict[str, Any]:
        """Return a run's settings as JSON-compatible values, with the command line that repeats the run."""
        return settings_of(self.resources.library.find(run_id))

    def read_settings(self, text: str) -> dict[str, Any]:
        """Return ``method`` and ``config`` (and ``base``, ``name``, ``captions``) of exported settings."""
        return read_settings(text)

    def combine(
        self, run_ids: Sequence[str], *, how: str, share: float = 0.5, rank: int = 16, name: str = ""
    ) -> str:
        """Create a finished run by combining the spectral shifts of runs on one base; return its id.

        ``how``: "add" sums them; "interpolate" mixes two, with weight ``share`` for the first; "style" takes the
        geometry of the first and the appearance of the second; "truncate" keeps the first ``rank`` singular values of
        one run.
        """
        runs = [self.resources.library.find(run_id) for run_id in run_ids]
        share, rank = real_number(share, label="The share"), whole_number(rank, label="The rank to keep")
        check_mix(runs, how=how, share=share, rank=rank)
        for run in runs:
            check_finished(run)

        def work(job: Job) -> str:
            models = self.resources.model_cache(job)
            run_id = combine(
                runs, how=how, share=share, rank=rank, name=name, models=models, store=self.resources.store
            )
            self._draw_first(run_id, models)
            return run_id

        return self.resources.run_short("combine", work)

    def merge_concepts(self, run_ids: Sequence[str], *, name: str = "") -> str:
        """Create a finished run that draws the concepts of several runs of C-LoRA trained alone; return its id.

        Their keys and values are merged in closed form, as in Custom Diffusion; no training.
        """
        runs = [self.resources.library.find(run_id) for run_id in run_ids]
        check_merge(runs)
        for run in runs:
            check_finished(run)

        def work(job: Job) -> str:
            models = self.resources.model_cache(job)
            run_id = merge_concepts(runs, name=name, models=models, store=self.resources.store)
            self._draw_first(run_id, models)
            return run_id

        return self.resources.run_short("merge", work)

    def _draw_first(self, run_id: str, models: ModelCache) -> None:
        """Draw the picture that the Library shows for a combined run, unless that would take minutes."""
        from pipelines.sampling.image_metadata import Layer, save_pictures

        run = self.resources.store.get(run_id)
        base = models.base(run.base["spec"])
        if base.family != EMBEDDED and base.device.type == "cpu":
            return
        adapter = models.adapter(run.file("adapter.safetensors"), base)
        asked = SampleConfig(
            prompt=f"a photo of a {run.config['identifier']}", guidance_scale=base.guidance_scale
        )
        images = models.draw(base, [(adapter, 1.0)], asked).images
        layer = Layer(run=run.id, name=run.name, strength=1.0)
        folder = self.resources.outbox / run.id
        paths = save_pictures(
            images, asked, stack=[layer], base=base, path=lambda seed: folder / f"{seed}.png"
        )
        run.keep_sample(paths[0], prompt=asked.prompt, seed=asked.seed)
