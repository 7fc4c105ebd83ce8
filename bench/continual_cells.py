"""The parts of bench.continual that train and draw: sequences of concepts, runs by their settings, and measured cells."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from bench.dreambooth import render
from bench.pairs import SQUARES, SQUARES_OF_OTHERS
from pipelines.adapters.core import read_tensors, save_tensors
from pipelines.config import ASSETS, CLoRAConfig, SampleConfig, to_dict
from pipelines.data.subject import SubjectPhotos
from pipelines.evaluation.metrics import Encoders, pairwise
from pipelines.models.inspection import read_header
from pipelines.runs.costs import SIZES
from pipelines.studio import Studio
from recipes import world
from recipes.captions import RARE_TOKENS

WORDS = tuple(word for word in RARE_TOKENS if len(word) == 3)
PHOTOS = 4
RENDERS = 24  # true pictures of each concept: for the line-up, and the real pictures of A_mmd
STRANGERS = 20
LOOKS = 6  # renders of each stranger
SHOWN = 2  # pictures kept of each cell
FIRST_SEED = 700


@dataclass(frozen=True)
class Case:
    """One sequence: its concepts' words and photographs, and what the true pictures look like to the encoders."""

    name: str
    kind: str
    words: tuple[str, ...]
    photos: tuple[tuple[Path, ...], ...]
    lineup: Tensor  # (N, D) unit rows: the mean identity features of each concept's renders
    real: tuple[Tensor, ...]  # CLIP features (RENDERS, D) of each concept's renders
    strangers: Tensor  # (STRANGERS, D): other individuals of the kind, for pictures of two concepts
    reference: float  # mean cosine of a render with its own row of the line-up


@dataclass(frozen=True)
class Cell:
    """The pictures of one prompt by one model, as features; ``halves`` are those of the left and the right square."""

    identity: Tensor  # (n, D)
    clip: Tensor  # (n, D)
    halves: Tensor  # (n, 2, D)
    shown: Tensor  # (at most SHOWN, H, W, 3) uint8


@dataclass(frozen=True)
class Learned:
    """A finished run; ``mark`` is a hash of everything that it depends on."""

    run_id: str
    mark: str


def make_case(kind: str, seed: int, *, count: int, folder: Path, encoders: Encoders) -> Case:
    """Render the photographs and the true pictures of ``count`` individuals of one kind; deterministic for a seed."""
    photos, means, real, own = [], [], [], []
    for place in range(count):
        rng = np.random.default_rng((seed, place))
        subject = world.sample_subject(rng, kind)
        scenes = [str(scene) for scene in rng.permutation(world.SCENES)]
        where = folder / f"{kind}-{seed}-{place:02d}"
        where.mkdir(parents=True, exist_ok=True)
        paths = tuple(where / f"{index:02d}.png" for index in range(PHOTOS))
        for path, scene in zip(paths, scenes, strict=False):
            render(subject, scene, rng).save(path)
        renders = [render(subject, scenes[index % len(scenes)], rng) for index in range(RENDERS)]
        features = encoders.identity.image_features(renders)
        photos.append(paths)
        means.append(F.normalize(features.mean(0), dim=0))
        real.append(encoders.clip.image_features(renders))
        own.append(float((features @ means[-1]).mean()))
    rng = np.random.default_rng((seed, count))
    others = [world.sample_subject(rng, kind) for _ in range(STRANGERS)]
    return Case(
        name=f"{kind} {seed - world.HELD_OUT_FROM}",
        kind=kind,
        words=WORDS[:count],
        photos=tuple(photos),
        lineup=torch.stack(means),
        real=tuple(real),
        strangers=torch.stack([_look(other, rng, encoders) for other in others]),
        reference=sum(own) / len(own),
    )


def _look(subject: world.Subject, rng: np.random.Generator, encoders: Encoders) -> Tensor:
    """Return (D,): the normalised mean of the identity features of renders in random scenes."""
    renders = [render(subject, str(rng.choice(world.SCENES)), rng) for _ in range(LOOKS)]
    return F.normalize(encoders.identity.image_features(renders).mean(0), dim=0)


def marked(*parts: object) -> str:
    """Return a short hash of JSON-compatible values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


class Lab:
    """Trains and draws through a Studio; every run and cell is found again by a hash of what it depends on."""

    def __init__(
        self, studio: Studio, *, home: Path, encoders: Encoders, pictures: int, sample_steps: int
    ) -> None:
        self.studio, self.encoders, self.pictures = studio, encoders, pictures
        self.sample_steps = sample_steps
        self.cells = home / "cells"
        self.cells.mkdir(parents=True, exist_ok=True)
        weights = ASSETS / "base" / "unet" / "diffusion_pytorch_model.safetensors"
        self.base = hashlib.sha256(weights.read_bytes()).hexdigest()[:16]
        self.guidance_scale = json.loads((ASSETS / "base" / "atelier.json").read_text())["guidance_scale"]
        self.unet_values = round(1e6 * SIZES["embedded"].unet_values)
        self._known = {run.name: run.id for run in studio.library.list_runs() if run.state == "done"}

    def one(self, case: Case, place: int, config: CLoRAConfig, *, parent: Learned | None) -> Learned:
        """Return the run of one concept, on its parent if it has one."""
        subjects = [SubjectPhotos(case.words[place], case.kind, case.photos[place])]
        return self._run(replace(config, identifier=case.words[place]), subjects, parent)

    def together(self, case: Case, config: CLoRAConfig) -> Learned:
        """Return the run that learns all concepts of a sequence at once."""
        subjects = [
            SubjectPhotos(word, case.kind, paths) for word, paths in zip(case.words, case.photos, strict=True)
        ]
        return self._run(config, subjects, None)

    def merged(self, runs: Sequence[Learned]) -> Learned:
        """Return the closed-form merge of concepts that were trained alone."""
        mark = marked("merged", [run.mark for run in runs])
        if mark not in self._known:
            self._known[mark] = self.studio.library.merge_concepts([run.run_id for run in runs], name=mark)
        return Learned(self._known[mark], mark)

    def _run(self, config: CLoRAConfig, subjects: Sequence[SubjectPhotos], parent: Learned | None) -> Learned:
        seen = [
            hashlib.sha256(Path(path).read_bytes()).hexdigest()
            for subject in subjects
            for path in subject.photo_paths
        ]
        usual = to_dict(CLoRAConfig())  # a setting that is added later does not change the hash
        told = {
            name: value
            for name, value in to_dict(config).items()
            if value != usual[name] and not name.startswith("sample_")
        }
        told["sample_steps"] = config.sample_steps if config.replay_images else 0
        mark = marked(self.base, told, seen, parent.mark if parent else "")
        if mark not in self._known:
            parents = [parent.run_id] if parent else []
            run_id = self.studio.training.start(
                "c_lora", config, subjects=subjects, parents=parents, name=mark
            )
            if self.studio.training.wait(run_id) != "done":
                raise SystemExit(f"{mark}: {self.studio.training.status(run_id)['error']}")
            self._known[mark] = run_id
        return Learned(self._known[mark], mark)

    def cell(self, stack: Sequence[Learned], prompt: str, *, kind: str) -> Cell:
        """Return the measured pictures of a prompt; they are drawn only once, and written atomically."""
        facts = [prompt, self.pictures, self.sample_steps, self.guidance_scale, FIRST_SEED]
        path = self.cells / f"{marked(*facts, *[run.mark for run in stack])}.safetensors"
        if not path.is_file():
            asked = SampleConfig(
                prompt=prompt,
                count=self.pictures,
                steps=self.sample_steps,
                guidance_scale=self.guidance_scale,
                seed=FIRST_SEED,
            )
            layers = [{"run": run.run_id, "strength": 1.0} for run in stack]
            files = self.studio.generation.generate(asked, stack=layers)
            save_tensors(path, self._measured(files, kind), metadata={"prompt": prompt})
            for file in files:
                file.unlink()
        return Cell(**read_tensors(path)[0])

    def _measured(self, files: Sequence[Path], kind: str) -> dict[str, Tensor]:
        images = [Image.open(file).convert("RGB").resize((128, 128)) for file in files]
        boxes = SQUARES.get(kind, SQUARES_OF_OTHERS)
        halves = [image.crop(box).resize((128, 128)) for image in images for box in boxes]
        return {
            "identity": self.encoders.identity.image_features(images),
            "clip": self.encoders.clip.image_features(images),
            "halves": self.encoders.identity.image_features(halves).unflatten(0, (-1, 2)),
            "shown": torch.stack([torch.from_numpy(np.asarray(image).copy()) for image in images[:SHOWN]]),
        }

    def likeness(self, case: Case, identity: Sequence[Tensor]) -> float:
        """Return the mean cosine with the concept's line-up row: 0 is the untouched base's pictures, 1 true renders."""
        plain = self.cell([], f"a photo of a {case.kind}", kind=case.kind).identity
        zero = float(pairwise(plain, case.lineup).mean())
        values = [float((rows @ case.lineup[place]).mean()) for place, rows in enumerate(identity)]
        return (sum(values) / len(values) - zero) / max(1e-3, case.reference - zero)

    def seconds(self, run: Learned) -> float:
        """Return the seconds of a run's training steps."""
        events = self.studio.training.status(run.run_id)["events"]
        return sum(event["seconds"] for event in events if event["kind"] == "step")

    def values(self, run: Learned) -> int:
        """Return the number of values in a run's adapter file."""
        header = read_header(self._file(run))
        return sum(prod(each["shape"]) for name, each in header.items() if name != "__metadata__")

    def trained(self, run: Learned) -> int:
        """Return the number of values that a run has trained."""
        return int(read_header(self._file(run))["__metadata__"]["trained_values"])

    def _file(self, run: Learned) -> Path:
        return self.studio.resources.store.get(run.run_id).file("adapter.safetensors")
