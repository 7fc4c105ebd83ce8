"""The only door for pages and API clients: runs are started, watched, stopped and used through here.

Heavy libraries are imported when the first piece of work needs them, never when this module is.
"""

from __future__ import annotations

import json
import logging
import secrets
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from pipelines.captions import checked_repeats
from pipelines.checkpoints import EMBEDDED, describe_base, read_header
from pipelines.compare import Cell, Row, compare
from pipelines.config import (
    SampleConfig,
    SubjectConfig,
    clean_text,
    fill_words,
    from_dict,
    method_config,
    real_number,
    to_dict,
    whole_number,
)
from pipelines.contributions import FILE as CONTRIBUTIONS
from pipelines.contributions import measure_blocks, touched_blocks
from pipelines.costs import SIZES, Costs
from pipelines.devices import Devices, device_names
from pipelines.exchange import (
    LOW_RANK,
    check_finished,
    check_format,
    inspect_lora,
    take_in,
    verify,
    write_copy,
)
from pipelines.hub import fetch_lora
from pipelines.jobs import Job, Worker
from pipelines.library import EXAMPLE_PREFIX, Library, kind_of
from pipelines.lora_names import MAX_RANK
from pipelines.recall import Layer, picture_facts, recall, save_png
from pipelines.runs import IMPORTED, LIVE_STATES, Run, RunStore, data_root
from pipelines.settings import read_settings, settings_of
from pipelines.shifts import KIND, check_mix, combine, correlation_of, shifted_layers, shifts_of
from pipelines.stack import asked_stack, common_base
from pipelines.trainings import OUT_OF_MEMORY, Trainings, ran_out_of_memory

if TYPE_CHECKING:
    from pipelines.workshop import Learning, Workshop

log = logging.getLogger(__name__)

KNOWN_BASES = (EMBEDDED, "stable-diffusion-v1-5/stable-diffusion-v1-5", "CompVis/stable-diffusion-v1-4")
STOPS = ("now", "checkpoint")


class Studio:
    """Runs below ``root`` (default: the user's data folder), trained and drawn on one worker thread per device.

    ``devices`` are names such as "cuda:0" (default: every CUDA device, else the processor). ``workshop`` hands over
    bases that are loaded already, from a Studio that has been closed, to the first of them.
    """

    def __init__(
        self,
        root: Path | None = None,
        base: str = EMBEDDED,
        *,
        devices: Sequence[str] | None = None,
        workshop: Workshop | None = None,
    ) -> None:
        self.root = root if root is not None else data_root()
        self.base = base
        self.store = RunStore(self.root)
        self.library = Library(self.store)
        self.costs = Costs(self.root)
        self.devices = Devices(devices if devices is not None else device_names(), workshop=workshop)
        self.trainings = Trainings(self.store, devices=self.devices, costs=self.costs)
        self._pictures: set[Job] = set()
        self._outbox = Path(tempfile.mkdtemp(prefix="atelier-"))

    @property
    def worker(self) -> Worker:
        """The thread of the first device."""
        return self.devices.all[0].worker

    def close(self) -> None:
        """Stop what runs (its checkpoint is kept), and remove the copies made for browsers."""
        self.devices.close()
        shutil.rmtree(self._outbox, ignore_errors=True)

    def warm(self) -> None:
        """Load the heavy libraries and the base in the background, so that the first click need not wait."""
        self.devices.everywhere("warm up", lambda job: self._workshop(job).base(self.base))

    # Training

    def start(
        self,
        method: str,
        config: SubjectConfig | Mapping[str, Any],
        photo_paths: Sequence[Path],
        *,
        base: str | None = None,
        crops: dict[str, tuple[float, float]] | None = None,
        captions: Mapping[str, str] | None = None,
        repeats: Mapping[str, int] | None = None,
        name: str = "",
    ) -> str:
        """Check everything, copy the photographs clean into a new run, queue it, and return its id at once.

        ``crops`` nudges a photo's square by (dx, dy), by file name; ``captions`` are by file name, too, and so are
        ``repeats``: how often a photo is shown while the others are shown once. Raises ValueError, in one sentence, for
        whatever the user can mend.
        """
        wanted = method_config(method)
        checked = from_dict(wanted, config) if isinstance(config, Mapping) else config
        if not isinstance(checked, wanted):
            raise ValueError(f"The settings are not those of {method}; reset them to a preset.")
        facts = describe_base(base or self.base)
        if facts["problem"]:
            raise ValueError(facts["problem"])
        shown_often = checked_repeats(repeats)
        self.store.check_space(self.cost(method, checked, len(photo_paths), base=base)["disk_mb"] + 50)
        photos = self._read_photos(
            photo_paths, size_px=checked.size_px or SIZES[facts["family"]].side_px, crops=crops
        )
        about = {"spec": facts["spec"], "family": facts["family"], "hash": ""}
        title = clean_text(name) or f"{checked.identifier} {checked.class_noun}".strip()
        with self.store.draft(method, to_dict(checked), about, name=title) as run:
            (run.path / "photos").mkdir()
            texts, times = {}, {}
            for index, photo in enumerate(photos):
                place = f"{index:02d}.png"
                photo.image.save(run.path / "photos" / place)
                texts[place] = clean_text(str((captions or {}).get(photo.name, photo.caption)))
                times[place] = shown_often.get(photo.name, 1)
            run.write_json("captions.json", texts)
            if set(times.values()) != {1}:
                run.write_json("repeats.json", times)
            run.append("created", method=method, base=about, config=run.config, photos=len(photos))
        self.trainings.begin(run)
        return run.id

    def import_lora(self, path: Path, *, name: str = "", base: str | None = None) -> str:
        """Make a finished run of a LoRA file that another program wrote, or Atelier elsewhere, and return its id.

        ``path`` is a .safetensors file of diffusers, kohya / ComfyUI or Atelier, or a PEFT folder, also zipped. Waits
        for its turn on the device. Raises ValueError for what cannot be read, or not on this base; then no run is made.
        """
        facts = describe_base(base or self.base)
        if facts["problem"]:
            raise ValueError(facts["problem"])

        def work(job: Job) -> str:
            shop = self._workshop(job)
            return take_in(Path(path), spec=facts["spec"], name=name, shop=shop, store=self.store)

        return self._soon("import", work)

    def combine(
        self, run_ids: Sequence[str], *, how: str, share: float = 0.5, rank: int = 16, name: str = ""
    ) -> str:
        """Make a finished run from the spectral shifts of others on one base, and return its id.

        ``how``: "add" them; "interpolate" two, ``share`` of the first; "style", the geometry of the first and the
        appearance of the second; "truncate" one to its first ``rank`` singular values.
        """
        runs = [self.library.find(run_id) for run_id in run_ids]
        share, rank = real_number(share, label="The share"), whole_number(rank, label="The rank to keep")
        check_mix(runs, how=how, share=share, rank=rank)
        for run in runs:
            check_finished(run)

        def work(job: Job) -> str:
            shop = self._workshop(job)
            return combine(runs, how=how, share=share, rank=rank, name=name, shop=shop, store=self.store)

        return self._soon("combine", work)

    def load_from_hub(self, repo_id: str, *, name: str = "", base: str | None = None) -> str:
        """Make a finished run of the LoRA in a Hub repository ("owner/name", also "@revision") and return its id.

        Only with ``ATELIER_HUB=1``, only safetensors, up to 500 MB. Raises ValueError for whatever stands in the way.
        """
        with tempfile.TemporaryDirectory(prefix="atelier-hub-") as folder:
            fetched = fetch_lora(repo_id, into=Path(folder))
            return self.import_lora(fetched, name=name or repo_id.partition("@")[0].strip(), base=base)

    def stop(self, run_id: str, keep: bool = True, when: str = "now") -> None:
        """Stop a run after its current step, or ``when`` it has written its next "checkpoint".

        ``keep`` writes what it has learned, else the run is deleted, at once.
        """
        run = self.library.find(run_id)
        job = self.trainings.alive(run_id)
        if when not in STOPS:
            raise ValueError(f"A run is stopped {' or at the next '.join(STOPS)}, not {when!r}; choose one.")
        if job is None:
            raise ValueError(f"The run {run.name!r} is not at work, so there is nothing to stop.")
        if not keep:
            self.discard(run_id)
        elif when == "checkpoint" and job.state != "queued":
            job.stop_at_rest()
        else:
            self.devices.cancel(job)

    def discard(self, run_id: str) -> None:
        """Delete a run and all that belongs to it, stopping it first when it is at work."""
        job = self.trainings.alive(run_id)
        if job is not None:
            self.devices.cancel(job, keep=False)
            if job.state in LIVE_STATES:
                return  # it deletes itself when it has seen the word
            job.wait()
            if not (self.store.folder / run_id).exists():
                return
        self.library.own(run_id)
        self.store.delete(run_id)

    def train_more(self, run_id: str, steps: int) -> None:
        """Continue a run for ``steps`` more than it has done, with its optimizer as it was at the last checkpoint."""
        run = self.library.own(run_id)
        checkpoint = run.file("checkpoint.safetensors")
        if not checkpoint.is_file():
            raise ValueError(f"The run {run.name!r} has no checkpoint to continue from; start a new one.")
        more_steps = whole_number(steps, label="More steps")
        if more_steps < 1:
            raise ValueError(f"More steps is {more_steps}; ask for at least 1.")
        reached = json.loads(read_header(checkpoint)["__metadata__"]["state"])["step"]
        config = from_dict(method_config(run.method), run.config)
        total = reached + more_steps
        more = replace(config, steps=total, warmup_steps=min(config.warmup_steps, total))
        lock = run.acquire()
        run.config = to_dict(more)
        run.save()
        self.trainings.begin(run, lock=lock)

    def resume(self, run_id: str) -> None:
        """Continue an interrupted, stopped or failed run from its last checkpoint, or from its photographs."""
        run = self.library.own(run_id)
        if run.state == "done":
            raise ValueError(f"The run {run.name!r} is finished; use “train more” to go on.")
        self.trainings.begin(run)

    def sample_now(self, run_id: str) -> list[Path]:
        """Draw the run's sample prompts with what it has learned by now, between two of its steps."""

        def work(run: Run, learning: Learning, shop: Workshop) -> list[Path]:
            from pipelines.conduct import draw_row

            step = learning.step.index if learning.step else 0
            row = draw_row(run, learning, workshop=shop, step=step, label="now")
            return [run.copy_out(name, self._outbox) for name in row.files]

        return self._between_steps(run_id, "sample now", work)

    def save_now(self, run_id: str) -> int:
        """Write a checkpoint and the adapter as it is now, between two steps, and return the step they are of."""

        def work(run: Run, learning: Learning, shop: Workshop) -> int:
            from pipelines.conduct import keep, save_checkpoint

            if learning.step is None:
                raise ValueError(f"The run {run.name!r} has made no step yet; ask again in a moment.")
            save_checkpoint(run, learning.step)
            keep(run, learning.adapter, step=learning.step.index)
            return learning.step.index

        return self._between_steps(run_id, "save now", work)

    def _between_steps(self, run_id: str, name: str, work: Callable[[Run, Learning, Workshop], Any]) -> Any:
        """Do something with what a run at work has learned so far, on its own device."""
        run = self.library.own(run_id)
        training = self.trainings.alive(run_id)
        if training is None:
            raise ValueError(f"The run {run.name!r} is not at work; use the playground instead.")
        if training.state == "queued":
            raise ValueError(f"The run {run.name!r} waits for its turn; ask again when it has begun.")

        def short(job: Job) -> Any:
            shop = self._workshop(job)
            if shop.learning is None or shop.learning.run_id != run_id:
                raise ValueError("The run has not begun to learn yet; ask again in a moment.")
            return work(run, shop.learning, shop)

        return self._soon(name, short, beside=run_id)

    def queue(self) -> list[dict[str, Any]]:
        """Return the runs at work (position 0, each on its ``device``) and those that wait (1 is next), in order.

        ``seconds_left`` is the time until a run will be done, with what stands before it.
        """
        return self.trainings.queue()

    def move(self, run_id: str, position: int) -> None:
        """Give a waiting run another place in the queue: 1 is next, a number beyond the end is last."""
        self.trainings.move(self.library.own(run_id), position)

    # Watching

    def status(self, run_id: str, since: int = 0) -> dict[str, Any]:
        """Return all a page shows about a run; ``events`` are those from number ``since`` on, ``next`` the next."""
        run = self.library.find(run_id)
        events = run.events()
        state = "done" if run_id.startswith(EXAMPLE_PREFIX) else run.state
        steps = [event for event in events if event["kind"] == "step"]
        recent = [event["seconds"] for event in steps[-20:]]
        if state == "running" and self.trainings.ends(run_id):
            state = "stopping"
        failed = run.last_state() if state == "failed" else {}
        return {
            "id": run_id,
            "name": run.name,
            "method": run.method,
            "state": state,
            "error": failed.get("message", ""),
            "config": run.config,
            "base": run.base,
            "path": str(run.path),
            "created": run.created,
            "step": steps[-1]["step"] if steps else 0,
            "total": run.config.get("steps", 0),
            "seconds_per_step": median(recent) if recent else None,
            "eta_s": self.costs.seconds_left(run, events) if state in LIVE_STATES else None,
            "queue_position": self.trainings.place(run_id),
            "note": run.note,
            "events": events[since:],
            "next": len(events),
        }

    def wait(self, run_id: str, timeout_s: float | None = None) -> str:
        """Wait until a run of this program has ended and return its state. TimeoutError after ``timeout_s``."""
        job = self.trainings.jobs.get(run_id)
        if job is not None and not job.wait(timeout_s):
            raise TimeoutError(f"The run {run_id} is still at work after {timeout_s:g} seconds.")
        return self.store.get(run_id).state

    # The library

    def list_runs(self, *, shipped: bool = False) -> list[dict[str, Any]]:
        """Return the user's runs, the newest first, as cards want them; with ``shipped`` the examples follow.

        ``seconds`` is the time at work, ``bytes`` the whole folder, ``trainable`` the number of trained values (None
        before there is an adapter), ``kind`` "lora", "full" or "spectral", ``thumbnail`` the path of the best sample or None.
        """
        return self.library.cards(shipped=shipped)

    def rename(self, run_id: str, name: str) -> None:
        """Give a run another display name. ValueError for an empty one and for a shipped example."""
        run = self.library.own(run_id)
        if not clean_text(name):
            raise ValueError(f"The new name of {run.name!r} is empty; type one.")
        self.store.rename(run_id, name)

    def note(self, run_id: str, text: str) -> None:
        """Keep a note with a run; an empty one clears it. ValueError for a shipped example."""
        self.library.own(run_id)
        self.store.note(run_id, text)

    def delete(self, run_id: str) -> None:
        """Delete a run that is not at work, with all its files. ValueError for a living or a shipped one."""
        self.library.own(run_id)
        self.store.delete(run_id)
        self.trainings.jobs.pop(run_id, None)

    def settings(self, run_id: str) -> dict[str, Any]:
        """Return a run's settings, ready for JSON, with the command line that repeats it."""
        return settings_of(self.library.find(run_id))

    def read_settings(self, text: str) -> dict[str, Any]:
        """Return ``method`` and ``config`` (and ``base``, ``name``, ``captions``) of exported settings."""
        return read_settings(text)

    def recall(self, path: Path) -> dict[str, Any]:
        """Return how a picture of ours was made: ``sample``, ``stack``, ``base`` and ``base_name``.

        ``generate`` with these draws the same pixels (on a processor to the bit; a GPU that drew several at once may
        round otherwise). Raises ValueError for a picture without
        settings, and its kind ``recall.GoneError``, which has them all the same, when a run or the base is gone.
        """
        return recall(
            Path(path), find=self.library.find, rename=self.library.id_of, bases=(self.base, *KNOWN_BASES)
        )

    # Pictures and files

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
    ) -> list[Path]:
        """Draw pictures with a run's adapter (the one in training as it is now) and return copies as PNG files.

        ``strength`` scales the adapter, 0..2. ``stack`` takes several runs instead, such as a character and a style:
        entries {"run", "strength", "blocks"} as :func:`pipelines.stack.asked_stack` reads them. With ``before_after``
        the pictures without any adapter come first, from the same seeds. Waits for its turn: at once, or between two
        steps of the run that trains.
        """
        if not config.prompt:
            raise ValueError("The prompt is empty; say what the picture should show.")
        wanted = asked_stack(stack, run_id=run_id, strength=strength)
        runs = [self.library.find(layer.run) for layer in wanted]
        spec = common_base(runs) or base or self.base
        asked = config
        if runs:
            words = {name: str(runs[0].config.get(name, "")) for name in ("identifier", "class_noun")}
            asked = replace(config, prompt=fill_words(config.prompt, **words))

        def work(job: Job) -> list[Path]:
            shop = self._workshop(job)
            loaded = shop.base(spec)
            pairs = list(zip(runs, wanted, strict=True))
            adapters = [(self._adapter(run, layer.run, shop=shop), layer.applied) for run, layer in pairs]
            layers = [self._layer(run, layer, shop=shop) for run, layer in pairs]
            paths = []
            for label, used in (
                (("before", []), ("after", adapters)) if before_after and runs else (("picture", adapters),)
            ):
                drawn = shop.draw(loaded, used, asked, on_preview=on_preview, stop=lambda: job.stop_requested)
                if drawn.interrupted and (before_after or not drawn.images):
                    raise ValueError("The picture was interrupted before it was finished; ask again.")
                for index, image in enumerate(drawn.images):
                    told = picture_facts(asked, index=index, stack=layers if used else [], base=loaded)
                    path = self._outbox / f"{label}-{asked.seed + index}-{secrets.token_hex(4)}.png"
                    save_png(image, path, told)
                    paths.append(path)
            return paths

        at_work = (layer.run for layer in wanted if self.trainings.alive(layer.run))
        beside = next(at_work, wanted[0].run if wanted else None)
        return self._soon("picture", work, among=self._pictures, beside=beside)

    def compare(
        self,
        runs: Sequence[str | None],
        *,
        across: str,
        values: Sequence[Any],
        config: SampleConfig,
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[str, Any]:
        """Draw runs (None: the untouched base) across "prompts", "seeds" or "strengths", a column from one noise.

        Returns ``grid`` (a labelled PNG), ``json``, ``cells`` (rows of PNG files that can be recalled) and ``rows`` (the
        table). Every picture waits for its own turn, so a run that trains meanwhile goes on between them.
        """
        rows = [Row(run_id=run_id, run=self.library.find(run_id) if run_id else None) for run_id in runs]
        spec = next((row.run.base["spec"] for row in rows if row.run is not None), self.base)

        def draw(cell: Cell) -> Path:
            base = None if cell.run_id else spec
            return self.generate(cell.config, run_id=cell.run_id, strength=cell.strength, base=base)[0]

        folder = self._outbox / secrets.token_hex(6)
        return compare(
            rows, across=across, values=values, config=config, draw=draw, folder=folder, progress=progress
        )

    def contributions(
        self,
        run_id: str,
        config: SampleConfig,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[str, Any]:
        """Draw one picture with a run, then the same with each block of its adapter silenced, and say what changed.

        Returns ``values`` (for In0 to Out3 the mean change of a pixel, 0 to 1), ``prompt``, ``seed`` and ``pictures``
        (copies as PNG files; "" is the whole adapter). Kept with the run, for its views; a shipped example keeps none.
        """
        run = self.library.find(run_id)
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

    def interrupt(self) -> None:
        """End the pictures that are being drawn or wait to be."""
        for job in list(self._pictures):
            self.devices.cancel(job)

    def export(self, run_id: str, format: str = "safetensors", *, rank: int = LOW_RANK) -> Path:
        """Return a copy of a run's adapter as a file of another program: diffusers, peft (a zip), kohya or svdiff.

        Spectral shifts leave as svdiff-pytorch's two files (a zip), or as the nearest LoRA of a ``rank``.
        """
        written = self._write(run_id, format, rank=rank)
        return Path(shutil.make_archive(str(written), "zip", written)) if written.is_dir() else written

    def verify_export(self, run_id: str, format: str = "safetensors", *, rank: int = LOW_RANK) -> str:
        """Write a run for another program, read the file back through that program's reader, and say what differs.

        Returns for example "128/128 keys, largest difference 0", and how near a LoRA comes to spectral
        shifts; raises ValueError when it did not come back whole.
        """
        run, written = self.library.find(run_id), self._write(run_id, format, rank=rank)

        def work(job: Job) -> str:
            return verify(run, written, format=format, rank=rank, shop=self._workshop(job))

        return self._soon("export check", work)

    def _write(self, run_id: str, format: str, *, rank: int) -> Path:
        check_format(format)
        if not 1 <= whole_number(rank, label="The LoRA's rank") <= MAX_RANK:
            raise ValueError(f"The LoRA's rank is {rank}; it must lie between 1 and {MAX_RANK}.")
        run = self.library.find(run_id)
        check_finished(run)
        folder = self._outbox / secrets.token_hex(6)
        folder.mkdir()
        if format == "safetensors":
            return run.copy_out("adapter.safetensors", folder)

        def work(job: Job) -> Path:
            shop = self._workshop(job)
            return write_copy(run, format=format, run_id=run_id, folder=folder, rank=rank, shop=shop)

        return self._soon("export", work, beside=run_id)

    def inspect_lora(self, path: Path, *, base: str | None = None) -> dict[str, Any]:
        """Return what the header of a LoRA file says, before anything is loaded: rank, keys, base, metadata, ...

        ``problem`` is "" or the sentence for why it cannot be used. Raises ValueError for what is no LoRA at all.
        """
        return inspect_lora(Path(path), base=base or self.base)

    def photos_preview(
        self,
        paths: Sequence[Path],
        crops: dict[str, tuple[float, float]] | None = None,
        *,
        base: str | None = None,
    ) -> list[Path]:
        """Return the squares that training will see, as PNG copies in the photos' order."""
        family = describe_base(base or self.base)["family"]
        photos = self._read_photos(paths, size_px=SIZES[family].side_px, crops=crops)
        folder = self._outbox / secrets.token_hex(6)
        folder.mkdir()
        for index, photo in enumerate(photos):
            photo.image.save(folder / f"{index:02d}.png")
        return sorted(folder.iterdir())

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
        family = describe_base(base or self.base)["family"]
        photos = self._read_photos(paths, size_px=SIZES[family].side_px, crops=crops)

        def work(job: Job) -> dict[str, list[str]]:
            from pipelines.tagger import tag_pictures, vocabulary

            encoders = self._workshop(job).encoders(family)
            if encoders is None:
                raise ValueError(
                    "There is no CLIP here that could read photographs; write the captions by hand."
                )
            images = [photo.image for photo in photos]
            told = tag_pictures(
                images, encoders.clip, vocabulary(family), kind=kind, with_subject=with_subject
            )
            return {photo.name: tags for photo, tags in zip(photos, told, strict=True)}

        return self._soon("tags", work)

    # Facts

    def cost(
        self,
        method: str,
        config: SubjectConfig | Mapping[str, Any],
        n_photos: int,
        *,
        base: str | None = None,
    ) -> dict[str, Any]:
        """Return what a run will take: seconds, of which class_seconds for class images; memory_mb; disk_mb; file_mb."""
        wanted = method_config(method)
        checked = from_dict(wanted, config) if isinstance(config, Mapping) else config
        facts = describe_base(base or self.base)
        told = self.costs.estimate(checked, spec=facts["spec"], family=facts["family"])
        told["disk_mb"] += 0.1 * n_photos
        return told

    def views(self, run_id: str) -> list[dict[str, Any]]:
        """Return what the run's method can show about its finished adapter; [] before there is one."""
        from pipelines.methods import METHODS, dreambooth, svdiff

        run = self.library.find(run_id)
        imported = svdiff.METHOD if kind_of(run) == KIND else dreambooth.METHOD  # a LoRA is a LoRA
        method = imported if run.method == IMPORTED else METHODS[run.method]
        return [asdict(view) for view in method.views(run)]

    def shifted_layers(self, run_id: str) -> list[str]:
        """Return the layers whose singular values a run moves, as "unet.<module>"; [] when it holds no shifts."""
        return shifted_layers(self.library.find(run_id))

    def spectrum(self, run_id: str, layer: str, *, strength: float = 1.0) -> dict[str, Any]:
        """Return the view of one layer's singular values before and after a run, at a strength."""
        run = self.library.find(run_id)
        check_finished(run)

        def work(job: Job) -> dict[str, Any]:
            from pipelines.methods.spectral_views import spectrum

            return asdict(spectrum(shifts_of(run, self._workshop(job))[0], layer, scale=strength))

        return self._soon("spectrum", work, beside=run_id)

    def correlation(self, run_ids: Sequence[str]) -> dict[str, Any]:
        """Return the view of how alike the spectral shifts of several runs on one base are."""
        return asdict(correlation_of([self.library.find(run_id) for run_id in run_ids]))

    def identifiers(self, *, base: str | None = None) -> list[dict[str, Any]]:
        """Return rare words of the base's own vocabulary, the rarest first."""

        def work(job: Job) -> list[dict[str, Any]]:
            from pipelines.tokens import rare_identifiers

            loaded = self._workshop(job).base(base or self.base)
            found = rare_identifiers(loaded.tokenizer, avoid=loaded.avoid)
            return [{"text": each.text, "token_id": each.token_id, "rank": each.rank} for each in found]

        return self._soon("identifiers", work)

    def bases(self) -> list[dict[str, Any]]:
        """Return what the picker shows: each base, whether it is here, and what it needs."""
        return [describe_base(spec) for spec in dict.fromkeys((*KNOWN_BASES, self.base))]

    def examples(self) -> list[dict[str, Any]]:
        """Return the shipped examples; ``run`` is the id of their finished run, ``photos`` are paths."""
        return self.library.examples()

    # Inside

    def _soon(
        self,
        name: str,
        work: Callable[[Job], Any],
        *,
        among: set[Job] | None = None,
        beside: str | None = None,
    ) -> Any:
        """Do a short job, where the run ``beside`` is at work, and wait for its result; it is one of ``among``."""
        job = self.devices.soon(name, work, beside=self.trainings.jobs.get(beside or ""))
        kept = among if among is not None else set()
        kept.add(job)
        try:
            return job.outcome()
        except (MemoryError, RuntimeError) as error:
            if ran_out_of_memory(error):
                raise ValueError(OUT_OF_MEMORY) from error
            raise
        finally:
            kept.discard(job)

    def _workshop(self, job: Job | None = None) -> Workshop:
        """What stands on the device of a job, made on its worker's thread at the first need."""
        return self.devices.workshop(job)

    def _adapter(self, run: Run, run_id: str, *, shop: Workshop) -> Any:
        if shop.learning is not None and shop.learning.run_id == run_id:
            return shop.learning.adapter
        path = run.file("adapter.safetensors")
        if not path.is_file():
            raise ValueError(
                f"The run {run.name!r} has no adapter yet; wait for its first steps, or resume it if it was cut off."
            )
        return shop.adapter(path, shop.base(run.base["spec"]))

    def _layer(self, run: Run, layer: Layer, *, shop: Workshop) -> Layer:
        """What a picture tells of the adapter that :meth:`_adapter` gives."""
        learning = shop.learning
        step = None
        if learning is not None and learning.run_id == layer.run:
            step = learning.step.index if learning.step is not None else 0
        return replace(layer, name=run.name, step=step)

    def _read_photos(
        self, paths: Sequence[Path], *, size_px: int, crops: dict[str, tuple[float, float]] | None
    ) -> list[Any]:
        from pipelines.data import read_photos

        return read_photos([Path(path) for path in paths], size_px=size_px, crops=crops)
