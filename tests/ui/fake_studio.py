"""A Studio without a model: the same methods, scripted events, pictures drawn by the illustrator's hand.

The page and its tests talk to this one, so that they need neither torch nor weights; the pictures get from a stranger
to the subject as the steps go by.
"""

import json
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from fake_lab import FakeExperiments
from fake_shelf import FakeShelf
from PIL import Image, PngImagePlugin

from pipelines.config import SampleConfig, to_dict
from pipelines.runs.store import Run, RunStore, read_run
from pipelines.sampling.image_metadata import Layer
from pipelines.sampling.stack import asked_stack
from pipelines.unet_blocks import BLOCKS
from recipes import world

BASE = {"spec": "embedded", "family": "embedded", "hash": "fake"}
EXAMPLES = (
    ("ada", "Ada", "person", "zul", 11, "forest"),
    ("biscuit", "Biscuit", "dog", "qev", 4, "beach"),
    ("mochi", "Mochi", "cat", "wib", 8, "library"),
    ("button", "Button", "plush toy", "jux", 5, "kitchen"),
    ("florence", "Florence", "teapot", "vod", 3, "flower garden"),
    ("henrik", "Henrik", "person", "pyx", 26, "desert"),
)


@lru_cache(maxsize=512)
def picture_of(kind: str, *, subject_seed: int, seed: int, scene: str | None = None) -> Image.Image:
    """Draw one individual, 128x128 px, in a scene."""
    subject = world.sample_subject(np.random.default_rng(subject_seed), kind)
    choice = world.Choice(subject=subject, scene=scene, style="photo")
    return world.draw(world.sample_picture(np.random.default_rng(seed), choice))


def learned(kind: str, *, share: float, subject_seed: int, seed: int, scene: str | None) -> Image.Image:
    """Draw what a model that has learned a ``share`` of the subject would: a stranger fading into it."""
    stranger = picture_of(kind, subject_seed=subject_seed + 1000, seed=seed, scene=scene)
    return Image.blend(stranger, picture_of(kind, subject_seed=subject_seed, seed=seed, scene=scene), share)


class FakeStudio(FakeShelf):
    """See :class:`pipelines.studio.Studio`; ``step_s`` is how long a pretended step takes."""

    def __init__(
        self, root: Path, *, step_s: float = 0.01, sample_every: int = 25, examples: int = len(EXAMPLES)
    ) -> None:
        self.training = self.library = self.generation = self.inspection = self.import_export = self
        self.resources = self
        self.root = root
        self.step_s = step_s
        self.sample_every = sample_every
        self.store = RunStore(root)
        self.live: dict[str, threading.Event] = {}
        self.kept: dict[str, bool] = {}
        self.calls: list[tuple[str, Any]] = []
        self.line: list[tuple[Run, TextIO, int, int]] = []
        self.guard = threading.RLock()
        self.fail_at = -1
        self.experiments = FakeExperiments(self)
        self._examples = [self._make_example(*example) for example in EXAMPLES[:examples]]

    def _make_example(
        self, name: str, title: str, noun: str, identifier: str, subject_seed: int, scene: str
    ) -> dict[str, Any]:
        folder = self.root / "examples" / name
        (folder / "photos").mkdir(parents=True)
        photos = []
        for index in range(4):
            photos.append(folder / "photos" / f"{index:02d}.png")
            picture_of(noun, subject_seed=subject_seed, seed=subject_seed * 100 + index).save(photos[-1])
        config = {
            "identifier": identifier,
            "class_noun": noun,
            "steps": 200,
            "sample_prompts": [
                f"a photo of a {identifier} {noun}",
                f"a photo of a {identifier} {noun} in the {scene}",
            ],
        }
        run = self.store.create("dreambooth", config, BASE, name=f"{title}, shipped")
        run.append("created", method="dreambooth", base=BASE, config=config, photos=4)
        shutil.copytree(folder / "photos", run.path / "photos")
        for step in range(201):
            if step:
                run.append("step", **self._step(step, total=200))
            if step % 25 == 0:
                self._sample(run, step=step, total=200, subject_seed=subject_seed, scene=scene)
        run.append("state", state="done", message="")
        prompt = config["sample_prompts"][1]
        return {
            "name": name, "title": title, "class_noun": noun, "identifier": identifier, "prompt": prompt, "seed": 7,
            "photos": photos, "run": run.id, "preset": "Quick",
        }  # fmt: skip

    def _step(self, step: int, *, total: int) -> dict[str, Any]:
        rng = np.random.default_rng(step)
        falling = 0.05 + 0.2 * np.exp(-4 * step / total)
        return {
            "step": step, "total": total, "seconds": max(self.step_s, 0.08), "learning_rate": 1e-3, "grad_norm": 0.4,
            "terms": {
                "photographs": float(falling * rng.gamma(6, 1 / 6)),
                "prior": float((0.09 + 0.01 * step / total) * rng.gamma(9, 1 / 9)),
            },
        }  # fmt: skip

    def _sample(self, run: Run, *, step: int, total: int, subject_seed: int, scene: str) -> None:
        share = 1 - np.exp(-3.5 * step / total) if step else 0.0
        for row, prompt in enumerate(run.config["sample_prompts"]):
            name = f"samples/{step:06d}-{row}.png"
            place = scene if row else None
            picture = learned(
                run.config["class_noun"],
                share=float(share),
                subject_seed=subject_seed,
                seed=40 + row,
                scene=place,
            )
            run.file(name).parent.mkdir(exist_ok=True)
            picture.save(run.file(name))
            run.append("sample", step=step, prompt=prompt, seed=7, files=[name], label="")
        value = 0.9 * float(share)
        run.append(
            "similarity",
            step=step,
            identity={"value": value, "low": value - 0.08, "high": value + 0.06},
            prompt={"value": 0.85 - 0.15 * float(share), "low": 0.6, "high": 0.9},
        )

    def start(
        self,
        method: str,
        config: Any,
        photo_paths: list[Path],
        *,
        base: str | None = None,
        crops: dict[str, tuple[float, float]] | None = None,
        captions: dict[str, str] | None = None,
        repeats: dict[str, int] | None = None,
        name: str = "",
    ) -> str:
        self.calls.append(("captions", (captions, repeats)))
        if not photo_paths:
            raise ValueError("There is no photograph yet; choose an example or add between 1 and 20.")
        self.calls.append(("start", (method, config, [path.name for path in photo_paths], crops)))
        filled = {
            **to_dict(config),
            "sample_prompts": [config.words(prompt) for prompt in config.sample_prompts],
        }
        run = self.store.create(method, filled, BASE, name=name)
        run.append("created", method=method, base=BASE, config=filled, photos=len(photo_paths))
        (run.path / "photos").mkdir()
        for index, path in enumerate(photo_paths):
            with Image.open(path) as photo:
                photo.convert("RGB").resize((128, 128)).save(run.path / "photos" / f"{index:02d}.png")
        self._work(run, first=0, total=config.steps)
        return run.id

    def _work(self, run: Run, *, first: int, total: int) -> None:
        """Queue a run; one works at a time."""
        lock = run.acquire()
        run.append("state", state="queued", message="")
        with self.guard:
            self.live[run.id] = threading.Event()
            self.line.append((run, lock, first, total))
            if len(self.line) == 1:
                self._begin()

    def _begin(self) -> None:
        run, lock, first, total = self.line[0]
        run.append("state", state="running", message="")
        stop = self.live[run.id]
        threading.Thread(target=self._learn, args=(run, lock, stop, first, total), daemon=True).start()

    def _learn(self, run: Run, lock: TextIO, stop: threading.Event, first: int, total: int) -> None:
        known = run.config["class_noun"] in {example[2] for example in EXAMPLES}
        run.config = run.config | ({} if known else {"class_noun": "person"})  # what the illustrator can draw
        with lock:
            subject_seed = next((e[4] for e in EXAMPLES if e[2] == run.config["class_noun"]), 11)
            for done in range(0, 4) if first == 0 else ():
                run.append("stage", name="Reading the photographs", done=done + 1, total=4)
                time.sleep(self.step_s)
            message = ""
            for step in range(first, total + 1):
                if stop.wait(self.step_s):
                    break
                if step > first:
                    run.append("step", **self._step(step, total=total))
                if step % self.sample_every == 0:
                    self._sample(run, step=step, total=total, subject_seed=subject_seed, scene="beach")
                if step == self.fail_at:
                    message = "The loss is no number any more at step 3; take a lower learning rate."
                    break
            if stop.is_set() and not self.kept.get(run.id, True):
                state = "discarded"
            else:
                state = "failed" if message else "stopped" if stop.is_set() else "done"
            run.append("state", state=state, message=message)
        if state == "discarded":
            self.store.delete(run.id)
        with self.guard:
            self.line.pop(0)
            if self.line:
                self._begin()

    def _run(self, run_id: str) -> Run:
        return self.store.get(run_id)

    def queue(self) -> list[dict[str, Any]]:
        with self.guard:
            return [
                {"run": run.id, "name": run.name, "state": "queued" if place else "running", "position": place,
                 "device": "" if place else "cpu", "seconds_left": 0.08 * (total - first)}
                for place, (run, _, first, total) in enumerate(self.line)
            ]  # fmt: skip

    def move(self, run_id: str, position: int) -> None:
        self.calls.append(("move", (run_id, position)))
        with self.guard:
            place = next(place for place, (run, *_) in enumerate(self.line) if run.id == run_id)
            self.line.insert(position, self.line.pop(place))

    def stop(self, run_id: str, keep: bool = True, when: str = "now") -> None:
        self.calls.append(("stop", (run_id, keep, when)))
        self.kept[run_id] = keep
        with self.guard:
            waiting = next((entry for entry in self.line[1:] if entry[0].id == run_id), None)
            if waiting:
                self.line.remove(waiting)
        if waiting:
            waiting[0].append("state", state="stopped", message="")
            waiting[1].close()
            if not keep:
                self.store.delete(run_id)
        elif run_id in self.live:
            self.live[run_id].set()

    def save_now(self, run_id: str) -> int:
        self.calls.append(("save_now", run_id))
        return 1

    def discard(self, run_id: str) -> None:
        run = self._run(run_id)
        if run.state in ("running", "queued"):
            self.stop(run_id, keep=False)
        else:
            self.store.delete(run_id)

    def train_more(self, run_id: str, steps: int) -> None:
        self.calls.append(("train_more", (run_id, steps)))
        run = self._run(run_id)
        last = max((e["step"] for e in run.events() if e["kind"] == "step"), default=0)
        self._work(run, first=last, total=last + int(steps))

    def resume(self, run_id: str) -> None:
        self.calls.append(("resume", run_id))
        run = self._run(run_id)
        last = max((e["step"] for e in run.events() if e["kind"] == "step"), default=0)
        self._work(run, first=last, total=run.config["steps"])

    def sample_now(self, run_id: str) -> None:
        self.calls.append(("sample_now", run_id))

    def status(self, run_id: str, since: int = 0) -> dict[str, Any]:
        run = self._run(run_id)
        steps = [event for event in run.events() if event["kind"] == "step"]
        left = steps[-1]["total"] - steps[-1]["step"] if steps else run.config.get("steps", 0)
        places = [entry[0].id for entry in self.line]
        failed = run.last_state() if run.state == "failed" else {}
        return {
            "id": run.id, "name": run.name, "state": run.state, "config": run.config, "method": run.method,
            "path": str(run.path), "error": failed.get("message", ""), "events": run.events(since), "seconds_per_step": 0.08,
            "eta_s": 0.08 * left, "queue_position": places.index(run.id) if run.id in places else None,
        }  # fmt: skip

    def generate(
        self,
        config: SampleConfig,
        *,
        run_id: str | None = None,
        strength: float = 1.0,
        stack: Sequence[Mapping[str, Any]] | None = None,
        before_after: bool = False,
        on_note: Any = None,
    ) -> list[Path]:
        layers = asked_stack(stack, run_id=run_id, strength=strength)
        first = layers[0] if layers else None
        self.calls.append(
            ("generate", (config, first and first.run, first.strength if first else strength, before_after))
        )
        self.calls.append(("stack", layers))
        for layer in layers:
            self._run(layer.run)
        paths = []
        for used in ([], layers) if before_after else (layers,):
            for index in range(config.count):
                paths.append(self.draw(replace(config, seed=config.seed + index, count=1), layers=used))
        return paths

    def tags(
        self,
        paths: Sequence[Path],
        *,
        kind: str = "",
        with_subject: bool = False,
        crops: dict[str, tuple[float, float]] | None = None,
        base: str | None = None,
    ) -> dict[str, list[str]]:
        own = ["fluffy fur"] if with_subject else []
        return {path.name: [*own, "beach", f"{kind} {index}"] for index, path in enumerate(paths)}

    def contributions(
        self, run_id: str, config: SampleConfig, *, progress: Callable[[int, int], None] | None = None
    ) -> dict[str, Any]:
        self._run(run_id)
        self.calls.append(("contributions", (run_id, config)))
        if progress is not None:
            progress(1, 1)
        values = {name: round(0.01 * index, 3) for index, name in enumerate(BLOCKS)}
        return {"values": values, "prompt": config.prompt, "seed": config.seed, "pictures": {}}

    def draw(
        self,
        config: SampleConfig,
        *,
        run_id: str | None = None,
        strength: float = 0.0,
        layers: Sequence[Layer] | None = None,
    ) -> Path:
        layers = asked_stack(None, run_id=run_id, strength=strength) if layers is None else layers
        run = self._run(layers[0].run) if layers else None
        strength = layers[0].strength if layers else 0.0
        noun = (run.config["class_noun"] if run else "") or "person"
        subject_seed = next((e[4] for e in EXAMPLES if e[2] == noun), 11)
        scene = next((scene for scene in world.SCENES if scene.split()[0] in config.prompt), None)
        share = min(0.95 * strength, 1.0) if run else 0.0
        picture = learned(noun, share=share, subject_seed=subject_seed, seed=config.seed, scene=scene)
        stack = [replace(layer, name=self._run(layer.run).name).told() for layer in layers if layer.strength]
        facts = {"sample": to_dict(config), "stack": stack, "base": "embedded", "base_name": "Embedded base"}
        told = PngImagePlugin.PngInfo()
        told.add_itxt("atelier", json.dumps(facts))
        folder = self.root / "pictures" / str(time.time_ns())
        folder.mkdir(parents=True)
        path = folder / f"{'after' if share else 'before'}-{config.seed}.png"
        picture.save(path, pnginfo=told)
        return path

    def export(self, run_id: str, format: str, *, rank: int = 16) -> Path:
        run = self._run(run_id)
        path = self.root / f"{run.id}-{format}.safetensors"
        path.write_bytes(b"fake")
        return path

    def cost(self, method: str, config: Any, n_photos: int, *, base: str | None = None) -> dict[str, float]:
        return {"seconds": 0.12 * config.steps + 4, "memory_mb": 900.0, "disk_mb": 1.4, "file_mb": 1.3}

    def warm(self) -> None:
        self.calls.append(("warm", None))

    def identifiers(self, *, base: str | None = None) -> list[dict[str, Any]]:
        return [
            {"text": text, "rank": 4000 - index}
            for index, text in enumerate(
                ("zul", "qev", "wib", "jux", "vod", "kaq", "mub", "rix", "fen", "dov")
            )
        ]

    def bases(self) -> list[dict[str, Any]]:
        return [
            {"spec": "embedded", "name": "Embedded base", "family": "embedded", "present": True, "problem": "", "needs": "Nothing: it is shipped, and runs on two CPU cores."},
            {"spec": "stable-diffusion-v1-5/stable-diffusion-v1-5", "name": "Stable Diffusion 1.5", "family": "sd1", "present": False, "problem": "", "needs": "A 4 GB download and a GPU with 8 GB."},
        ]  # fmt: skip

    def examples(self) -> list[dict[str, Any]]:
        return self._examples

    def photos_preview(
        self,
        paths: list[Path],
        crops: dict[str, tuple[float, float]] | None = None,
        *,
        base: str | None = None,
    ) -> list[Path]:
        folder = self.root / "previews" / str(time.time_ns())
        folder.mkdir(parents=True)
        previews = []
        for path in paths:
            try:
                with Image.open(path) as photo:
                    side = min(photo.size)
                    across, down = (crops or {}).get(path.name, (0.0, 0.0))
                    left = (photo.width - side) / 2 * (1 + across)
                    top = (photo.height - side) / 2 * (1 + down)
                    square = photo.convert("RGB").crop(
                        (int(left), int(top), int(left) + side, int(top) + side)
                    )
            except OSError:
                raise ValueError(
                    f"{path.name} is not a JPEG, PNG or WebP picture; please leave it out."
                ) from None
            previews.append(folder / f"{path.stem}.png")
            square.resize((256, 256)).save(previews[-1])
        return previews


def example_run(studio: FakeStudio, name: str) -> Run:
    """Return the shipped run of an example."""
    found = next(example for example in studio.examples() if example["name"] == name)
    return read_run(studio.store.folder / found["run"])
