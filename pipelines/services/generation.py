"""Generates and compares pictures, measures block contributions, and restores a picture's settings."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.config import SampleConfig, fill_words, to_dict
from pipelines.data.subject import stored_subjects
from pipelines.files import DiskError
from pipelines.jobs.worker import Job
from pipelines.runs.library import EXAMPLE_PREFIX, adapter_hash, check_finished, trained_steps
from pipelines.runs.store import Run, snapshot_name
from pipelines.runs.together import Shown
from pipelines.sampling.block_ablation import FILE as CONTRIBUTIONS
from pipelines.sampling.block_ablation import measure_blocks, touched_blocks
from pipelines.sampling.grid import Cell, Row, compare
from pipelines.sampling.image_metadata import (
    HASH_LENGTH,
    Layer,
    picture_name,
    read_png_settings,
    recall,
    save_pictures,
)
from pipelines.sampling.picture_history import KeptPicture, PictureHistory
from pipelines.sampling.stack import asked_stack, common_base
from pipelines.services.resources import KNOWN_BASES, Resources
from pipelines.services.together import draw_together

if TYPE_CHECKING:
    from pipelines.jobs.model_cache import ModelCache


class GenerationService:
    """Generates and compares pictures, measures block contributions, and restores a picture's settings."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.history = PictureHistory(resources.root)
        self._drawing: set[Job] = set()  # queued and running sampling jobs

    def generate(
        self,
        config: SampleConfig,
        *,
        run_id: str | None = None,
        strength: float = 1.0,
        stack: Sequence[Mapping[str, Any]] | None = None,
        before_after: bool = False,
        base: str | None = None,
        on_preview: Callable[..., None] | None = None,
        on_note: Callable[[str], None] | None = None,
    ) -> list[Path]:
        """Generate pictures with a run's adapter (the current one if the run is training); return copies as PNG files.

        ``strength`` scales the adapter, 0..2. ``stack`` is used instead for several runs, such as a character and a
        style: entries {"run", "strength", "blocks", "step"}, see :func:`pipelines.sampling.stack.asked_stack`. With
        ``before_after`` pictures of the base model with the same seeds are returned first. Blocks until the job is
        done; it runs at once or between two training steps. ``on_note`` is called with each note for the user once,
        for example if the prompt is too long or an adapter was trained on another base.
        """
        if not config.prompt:
            raise ValueError("The prompt is empty; describe the picture.")
        wanted = asked_stack(stack, run_id=run_id, strength=strength)
        runs = [self.resources.library.find(layer.run) for layer in wanted]
        spec = common_base(runs) or base or self.resources.base
        asked = self._worded(config, runs[0]) if runs else config

        def work(job: Job) -> list[Path]:
            model_cache = self.resources.model_cache(job)
            loaded = model_cache.base(spec)
            pairs = list(zip(runs, wanted, strict=True))
            adapters = [
                (self._adapter(run, layer, model_cache=model_cache), layer.applied) for run, layer in pairs
            ]
            layers = [self._layer(run, layer, model_cache=model_cache) for run, layer in pairs]
            paths, notes = [], [adapter.note for adapter, _ in adapters if adapter.note]
            for label, used in (
                (("before", []), ("after", adapters)) if before_after and runs else (("picture", adapters),)
            ):
                drawn = model_cache.draw(
                    loaded, used, asked, on_preview=on_preview, stop=lambda: job.stop_requested
                )
                if drawn.interrupted and (before_after or not drawn.images):
                    raise ValueError("The picture was interrupted before it was finished; try again.")
                notes += drawn.notes
                folder = self.resources.outbox / secrets.token_hex(6)
                ending = "-before" if label == "before" else ""
                paths += save_pictures(
                    drawn.images,
                    asked,
                    stack=layers if used else [],
                    base=loaded,
                    path=partial(_picture_path, folder, prompt=asked.prompt, ending=ending),
                )
            for note in dict.fromkeys(notes):
                if on_note is not None:
                    on_note(note)
            return paths

        at_work = (layer.run for layer in wanted if self.resources.queue.alive(layer.run))
        beside = next(at_work, wanted[0].run if wanted else None)
        return self.resources.run_short("picture", work, among=self._drawing, beside=beside)

    def generate_kept(
        self,
        config: SampleConfig,
        *,
        stack: Sequence[Mapping[str, Any]],
        visitor: str,
        on_note: Callable[[str], None] | None = None,
    ) -> list[KeptPicture]:
        """Generate pictures with and without a stack of adapters and keep them in a visitor's history.

        A picture without the adapters that is in the history already is not generated again, so that a changed strength
        takes half the time. Raises ValueError, as :meth:`generate` does. If the disk is full, the pictures are returned
        but not kept, and ``on_note`` is called.
        """
        before = self.known_before(config, stack=stack, visitor=visitor)
        paths = self.generate(config, stack=stack, before_after=not before, on_note=on_note)
        if not before:
            before, paths = paths[: config.count], paths[config.count :]
        found = []
        for path, without in zip(paths, before, strict=True):
            try:
                found.append(self.history.add(visitor, path, before=without))
            except DiskError as error:
                found.append(KeptPicture("", path, without, read_png_settings(path)))
                if on_note is not None:
                    on_note(f"The picture is not in the history. {error}")
        return found

    def known_before(
        self, config: SampleConfig, *, stack: Sequence[Mapping[str, Any]], visitor: str
    ) -> list[Path]:
        """Return the pictures of a visitor's history without adapters that have these settings; [] unless all are there."""
        run = self.resources.library.find(str(stack[0]["run"]))
        asked = to_dict(replace(self._worded(config, run), count=1))
        known: dict[int, Path] = {}
        for kept in self.history.list(visitor):
            same = {name: kept.settings.get(name) for name in asked} == asked | {
                "seed": kept.settings.get("seed")
            }
            on = str(kept.settings.get("base", {}).get("hash", ""))
            if same and kept.before is not None and on and str(run.base.get("hash", "")).startswith(on):
                known[int(kept.settings["seed"])] = kept.before
        seeds = range(config.seed, config.seed + config.count)
        return [known[seed] for seed in seeds] if all(seed in known for seed in seeds) else []

    def _worded(self, config: SampleConfig, run: Run) -> SampleConfig:
        """Return the settings with a run's words instead of their placeholders in the prompt."""
        words = {name: str(run.config.get(name, "")) for name in ("identifier", "class_noun")}
        return replace(config, prompt=fill_words(config.prompt, **words))

    def compare(
        self,
        runs: Sequence[str | Sequence[Mapping[str, Any]] | None],
        *,
        across: str,
        values: Sequence[Any],
        config: SampleConfig,
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[str, Any]:
        """Generate a comparison grid: one row per run (None: the base model), one column per value of ``across``.

        ``across``: "prompts", "seeds", "strengths" (scales the whole row) or "second" (the strength of each stack's
        second run). Pictures in a column start from the same noise. A row is a run's id or a stack, see
        :meth:`generate`. Returns ``grid`` (a labelled PNG), ``json``, ``cells`` (rows of PNG files with settings) and
        ``rows`` (the table). Each picture is a separate job, so a training run continues between them.
        """
        rows = [self._compared(run) for run in runs]
        spec = next((row.runs[0].base["spec"] for row in rows if row.runs), self.resources.base)

        def draw(cell: Cell) -> Path:
            stack = [
                {"run": layer.run, "strength": layer.strength, "blocks": layer.blocks, "step": layer.step}
                for layer in cell.layers
            ]
            return self.generate(cell.config, stack=stack, base=None if stack else spec)[0]

        folder = self.resources.outbox / secrets.token_hex(6)
        return compare(
            rows, across=across, values=values, config=config, draw=draw, folder=folder, progress=progress
        )

    def _compared(self, run: str | Sequence[Mapping[str, Any]] | None) -> Row:
        layers = (
            asked_stack(run)
            if run is not None and not isinstance(run, str)
            else asked_stack(None, run_id=run)
        )
        return Row(tuple(layers), tuple(self.resources.library.find(layer.run) for layer in layers))

    def contributions(
        self,
        run_id: str,
        config: SampleConfig,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[str, Any]:
        """Generate a picture with a run, then with each block of its adapter disabled, and measure the difference.

        Returns ``values`` (for In0 to Out3 the mean change of a pixel, 0 to 1), ``prompt``, ``seed`` and ``pictures``
        (copies as PNG files; "" is the whole adapter). The result is saved in the run, except for shipped examples.
        """
        run = self.resources.library.find(run_id)
        check_finished(run)
        single = replace(config, count=1)

        def draw(blocks: str) -> Path:
            return self.generate(single, stack=[{"run": run_id, "blocks": blocks}])[0]

        touched = touched_blocks(run.file("adapter.safetensors"))
        found = measure_blocks(touched, draw=draw, progress=progress)
        told = found.told(prompt=single.prompt, seed=single.seed)
        if not run_id.startswith(EXAMPLE_PREFIX):
            run.write_json(CONTRIBUTIONS, told)
        return told | {"pictures": found.pictures}

    def word_attention(self, run_id: str, picture: Path) -> dict[str, Path]:
        """Return attention overlays of a generated picture as PNG files, by the words of each of the run's subjects.

        Subjects that are not in the picture's prompt are omitted. Raises ValueError for a picture without settings.
        """
        run = self.resources.library.find(run_id)
        prompt = str(self.recall(picture)["sample"]["prompt"])
        named = [
            f"{one.identifier} {one.class_noun}".strip() for one in stored_subjects(run.path, run.config)
        ]
        words = [each for each in named if each.lower() in prompt.lower()]

        def work(job: Job) -> dict[str, Path]:
            from PIL import Image

            from pipelines.methods.cut_mix_unmix import watched_layers
            from pipelines.methods.word_attention import overlays

            model_cache = self.resources.model_cache(job)
            base = model_cache.base(run.base["spec"])
            adapter = self._adapter(
                run, Layer(run=run.id, name=run.name, strength=1.0), model_cache=model_cache
            )
            with Image.open(picture) as opened, model_cache.aside(base):
                drawn = overlays(
                    base,
                    [(adapter, 1.0)],
                    opened.convert("RGB"),
                    prompt=prompt,
                    words=words,
                    layers=watched_layers(run.config),
                )
            found = {}
            for each, image in zip(words, drawn, strict=True):
                found[each] = self.resources.outbox / f"attention-{secrets.token_hex(4)}.png"
                image.save(found[each])
            return found

        return self.resources.run_short("attention", work, beside=run_id) if words else {}

    def together(
        self,
        run_id: str,
        config: SampleConfig,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Shown]:
        """Generate a picture of a run with several subjects, and what explains it, all with one seed.

        After the picture follow: the picture of the same run trained without the Unmix term, if there is such a run;
        the attention of each subject's words in the picture; each subject alone. The pictures are kept in the run,
        except for shipped examples. Each one is a separate job, so a training run continues between them.
        """
        return draw_together(self, run_id, config, progress=progress)

    def interrupt(self) -> None:
        """Cancel all queued and running sampling jobs."""
        for job in list(self._drawing):
            self.resources.devices.cancel(job)

    def recall(self, path: Path) -> dict[str, Any]:
        """Return the settings of a picture from Atelier: ``sample``, ``stack``, ``base``, ``base_name`` and ``note``.

        ``generate`` with these settings gives the same pixels (bit-exact on a CPU; a GPU batch may round differently)
        unless ``note`` gives a reason why not. Raises ValueError for a picture without settings, and its subclass
        ``image_metadata.GoneError``, which contains the settings, if a run or the base is missing.
        """
        return recall(
            Path(path),
            find=self.resources.library.find,
            rename=self.resources.library.id_of,
            bases=(self.resources.base, *KNOWN_BASES),
        )

    def _adapter(self, run: Run, layer: Layer, *, model_cache: ModelCache) -> Any:
        if layer.step is None and model_cache.session is not None and model_cache.session.run_id == layer.run:
            return model_cache.session.adapter
        path = run.file("adapter.safetensors" if layer.step is None else snapshot_name(layer.step))
        if layer.step is not None and not path.is_file():
            raise ValueError(
                f"The run {run.name!r} keeps no state after step {layer.step}; leave the step out to draw with its adapter."
            )
        if not path.is_file():
            raise ValueError(
                f"The run {run.name!r} has no adapter yet; wait for its first steps, or resume it if it was interrupted."
            )
        return model_cache.adapter(path, model_cache.base(run.base["spec"]))

    def _layer(self, run: Run, layer: Layer, *, model_cache: ModelCache) -> Layer:
        """Return the layer that describes the adapter of :meth:`_adapter` in the picture's metadata."""
        session = model_cache.session
        if layer.step is not None:
            return replace(layer, name=run.name)
        if session is not None and session.run_id == layer.run:
            return replace(layer, name=run.name, step=session.step.index if session.step is not None else 0)
        return replace(layer, name=run.name, step=trained_steps(run), adapter=adapter_hash(run)[:HASH_LENGTH])


def _picture_path(folder: Path, seed: int, *, prompt: str, ending: str) -> Path:
    return folder / picture_name(prompt, seed, ending=ending)
