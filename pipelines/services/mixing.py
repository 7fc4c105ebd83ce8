"""Mixes two runs live: one picture at a fixed seed in changing proportions, and the mix as a run of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.config import MIX_STRIP, SPECTRAL, MixConfig, SampleConfig, clean_text, to_dict
from pipelines.jobs.worker import Job
from pipelines.runs.library import adapter_hash, check_finished, kind_of
from pipelines.runs.origin import mixed_words
from pipelines.runs.store import MIXED, Run
from pipelines.sampling.image_metadata import picture_facts, save_png
from pipelines.sampling.stack import common_base
from pipelines.services.resources import Resources

if TYPE_CHECKING:
    from pipelines.adapters.mixture import Mixture
    from pipelines.jobs.model_cache import ModelCache
    from pipelines.models.base import Base

FOLDER = "mixes"
KINDS = (SPECTRAL, "lora")  # adapter kinds that can be mixed, each with its own


class MixingService:
    """Mixes two runs of one kind on one base. The last pair stays loaded, with the layers computed so far."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self._held: tuple[str, Mixture] | None = None

    def draw(self, run_ids: Sequence[str], mix: MixConfig, config: SampleConfig) -> Path:
        """Return the picture of a mix of two runs as a PNG file; a picture made before is read from its file.

        Blocks until the job is done. Raises ValueError for runs that cannot be mixed, or an empty prompt.
        """
        if not config.prompt:
            raise ValueError("The prompt is empty; describe the picture.")
        runs = self._pair(run_ids)
        path = self._path(runs, mix, config)
        if not path.is_file():
            self.resources.run_short("mix", lambda job: self._draw(job, runs, mix, config, path))
        return path

    def strip(self, run_ids: Sequence[str], mix: MixConfig, config: SampleConfig) -> list[tuple[float, Path]]:
        """Return the picture from the first run alone (0) to the second alone (1); each is a separate job."""
        return [(share, self.draw(run_ids, mix.between(share), config)) for share in MIX_STRIP]

    def save(
        self, run_ids: Sequence[str], mix: MixConfig, *, name: str = "", config: SampleConfig | None = None
    ) -> str:
        """Create a finished run that changes the base as the mix does; return its id.

        With ``config``, the mix's picture with these settings becomes the run's sample.
        """
        runs = self._pair(run_ids)
        picture = self.draw(run_ids, mix, config) if config else None

        def work(job: Job) -> str:
            model_cache = self.resources.model_cache(job)
            mixture, base = self._mixture(runs, model_cache)
            mixture.set(mix)
            with model_cache.aside(base):
                whole = mixture.whole(base)
            run_id = self.resources.store.keep_adapter(
                whole,
                base,
                config=_words(runs, mix),
                name=clean_text(name) or " + ".join(run.name for run in runs),
            )
            if picture and config:
                self.resources.store.get(run_id).keep_sample(picture, prompt=config.prompt, seed=config.seed)
            return run_id

        return self.resources.run_short("save the mix", work)

    def _pair(self, run_ids: Sequence[str]) -> list[Run]:
        """Return two finished runs of one kind. Raises ValueError if they cannot be mixed."""
        runs = [self.resources.library.find(run_id) for run_id in run_ids]
        if len(runs) != 2 or runs[0].path == runs[1].path:
            raise ValueError("A mix takes two different runs; choose another one.")
        for run in runs:
            check_finished(run)
        kinds = [kind_of(run) for run in runs]
        if kinds[0] not in KINDS or kinds[0] != kinds[1]:
            raise ValueError(
                f"{runs[0].name!r} and {runs[1].name!r} cannot be mixed; choose two runs of SVDiff or two LoRAs."
            )
        common_base(runs)
        return runs

    def _draw(self, job: Job, runs: Sequence[Run], mix: MixConfig, config: SampleConfig, path: Path) -> None:
        model_cache = self.resources.model_cache(job)
        mixture, base = self._mixture(runs, model_cache)
        mixture.set(mix)
        drawn = model_cache.draw(base, [(mixture, 1.0)], config, stop=lambda: job.stop_requested)  # type: ignore[list-item]  # merges as an adapter does
        if not drawn.images:
            raise ValueError("The picture was interrupted before it was finished; try again.")
        facts = picture_facts(config, index=0, stack=[], base=base)
        told = {"mix": {"runs": [run.id for run in runs], **to_dict(mix)}}
        path.parent.mkdir(parents=True, exist_ok=True)
        save_png(drawn.images[0], path, facts | told)

    def _mixture(self, runs: Sequence[Run], model_cache: ModelCache) -> tuple[Mixture, Base]:
        from pipelines.adapters.mixture import Mixture

        base = model_cache.base(runs[0].base["spec"])
        key = json.dumps([[run.id, adapter_hash(run)] for run in runs] + [base.hash, str(base.device)])
        if self._held is None or self._held[0] != key:
            self._held = None  # the old pair is freed before the new one is loaded
            first, second = (model_cache.adapter(run.file("adapter.safetensors"), base) for run in runs)
            with model_cache.aside(base):
                self._held = (key, Mixture(first, second, base))
        return self._held[1], base

    def _path(self, runs: Sequence[Run], mix: MixConfig, config: SampleConfig) -> Path:
        facts = [[run.id, adapter_hash(run)] for run in runs] + [to_dict(mix), to_dict(config)]
        name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:20]
        return self.resources.outbox / FOLDER / f"{name}.png"


def _words(runs: Sequence[Run], mix: MixConfig) -> dict[str, str]:
    words = [f"{run.config.get('identifier', '')} {run.config.get('class_noun', '')}".strip() for run in runs]
    shares = f"{mix.first:g} and {mix.second:g}, layer split {mix.split:g}"
    return {
        "identifier": clean_text(" and ".join(word for word in words if word)),
        "class_noun": "",
        "source": MIXED,
        "file": clean_text(f"mix: {', '.join(run.name for run in runs)} with {shares}"),
        "origin": mixed_words(runs, mix),
    }
