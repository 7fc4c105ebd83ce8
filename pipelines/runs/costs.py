"""Cost estimates shown before a run starts, based on measurements on this machine if there are any.

Speeds are kept per base and device in ``speeds.json`` of the data folder; before the first run the shipped guesses
stand in. Nothing here needs torch.
"""

import json
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from math import prod
from pathlib import Path
from statistics import median
from typing import Any

from pipelines.config import ASSETS, KEPT_RANKS, PhotosConfig, TrainConfig, from_dict
from pipelines.files import write_json
from pipelines.methods.specs import method_config
from pipelines.models.inspection import EMBEDDED, family_shapes, read_header
from pipelines.models.targets import (
    LORA_TARGETS,
    LORA_TEXT_TARGETS,
    SPECTRAL_TARGETS,
    matrix_shape,
    shift_size,
)
from pipelines.runs.store import Run
from pipelines.unet_blocks import BLOCKS, block, kernel, unet_modules

SMOOTHING = 0.5  # how much the newest measurement counts
MEASURED_PICTURES = 4  # drawn of the class, and of the subject, to measure a finished run
TOKENS = "embeddings.token_embedding"
Shapes = dict[str, tuple[int, ...]]  # by name


@dataclass(frozen=True)
class Speed:
    """Seconds on one base and device, each for one picture: a training step, a sampling step, and starting up."""

    train_s: float
    sample_s: float
    start_s: float


@dataclass(frozen=True)
class Cost:
    """What a run will take: ``seconds``, of which ``class_seconds`` for class images; megabytes of memory at work; megabytes
    on the disk, of which ``file_mb`` (10^6 bytes) are the adapter's float32 values. ``measured`` tells whether the
    speed was measured by runs on this base and machine; otherwise it is a shipped estimate.
    """

    seconds: float
    class_seconds: float
    memory_mb: float
    disk_mb: float
    file_mb: float
    measured: bool = False


@dataclass(frozen=True)
class Size:
    """One base family: side of its pictures, megabytes at work and per picture, and what its weights' shapes tell.

    ``shapes`` are by "unet.<module>.weight" and "text_encoder.<module>.weight", biases among them. Values are in
    millions, megabytes are 10^6 bytes.
    """

    side_px: int
    weights_mb: float
    activations_mb: float
    shapes: Callable[[], Shapes]

    @cached_property
    def unet_values(self) -> float:
        """Values of the whole UNet."""
        return sum(prod(shape) for name, shape in self.shapes().items() if name.startswith("unet.")) / 1e6

    @cached_property
    def word_values(self) -> float:
        """Values per token."""
        return self._layers("text_encoder")[TOKENS][1] / 1e6

    @cached_property
    def rank_values(self) -> dict[str, float]:
        """Values of a LoRA of the UNet per rank, by targets."""
        return {name: _lora_values(self._layers("unet"), target) for name, target in LORA_TARGETS.items()}

    @cached_property
    def dense_values(self) -> dict[str, float]:
        """Values of all weights of the layers that a LoRA of the UNet changes, by targets."""
        layers = self._layers("unet")
        return {
            name: sum(prod(shape) for path, shape in layers.items() if re.fullmatch(target, path)) / 1e6
            for name, target in LORA_TARGETS.items()
        }

    @cached_property
    def text_rank_values(self) -> float:
        """Values of a LoRA of the text encoder per rank."""
        return _lora_values(self._layers("text_encoder"), LORA_TEXT_TARGETS)

    @cached_property
    def block_values(self) -> dict[str, tuple[float, float, float]]:
        """Values of a LoRA per rank of each block, as :meth:`BlockPlan.values` takes them."""
        counts = {name: [0, 0, 0] for name in BLOCKS}
        layers = self._layers("unet")
        for path in unet_modules():
            if (name := block(path)) and path in layers:
                part = 2 if kernel(path) == 3 else 0 if ".attentions." in path else 1
                counts[name][part] += sum(matrix_shape(layers[path]))
        return {name: (at / 1e6, res / 1e6, conv / 1e6) for name, (at, res, conv) in counts.items()}

    @cached_property
    def shifts(self) -> dict[str, tuple[int, ...]]:
        """Number of spectral shifts of the UNet, by subset, for each of SPECTRAL_RANKS."""
        layers = self._layers("unet")
        return {subset: _shifts(layers, subset) for subset in SPECTRAL_TARGETS}

    @cached_property
    def text_shifts(self) -> tuple[int, ...]:
        """Number of spectral shifts of the text encoder, for each of SPECTRAL_RANKS."""
        return _shifts(self._layers("text_encoder"), "UNet")

    @cached_property
    def factors_mb(self) -> dict[str, float]:
        """Megabytes of the singular vectors of the UNet's matrices, by subset."""
        layers = self._layers("unet")
        return {subset: _factors_mb(layers, subset) for subset in SPECTRAL_TARGETS}

    @cached_property
    def text_factors_mb(self) -> float:
        """Megabytes of the singular vectors of the text encoder's matrices."""
        return _factors_mb(self._layers("text_encoder"), "UNet")

    def _layers(self, part: str) -> Shapes:
        """Return the shapes of a part's weights by module path; biases are not among them."""
        return {
            name.removeprefix(f"{part}.").removesuffix(".weight"): shape
            for name, shape in self.shapes().items()
            if name.startswith(f"{part}.") and name.endswith(".weight")
        }


def _lora_values(layers: Shapes, target: str) -> float:
    """Return the millions of values per rank of a LoRA of all layers that a pattern names: A (r, N) and B (M, r)."""
    return sum(sum(matrix_shape(shape)) for path, shape in layers.items() if re.fullmatch(target, path)) / 1e6


def _moved(layers: Shapes, subset: str) -> list[tuple[int, ...]]:
    """Return the shapes of the weights that a subset of the spectral shifts moves."""
    return [shape for path, shape in layers.items() if SPECTRAL_TARGETS[subset](path, len(shape))]


def _shifts(layers: Shapes, subset: str) -> tuple[int, ...]:
    """Return how many values spectral shifts of a subset have, for each of SPECTRAL_RANKS."""
    moved = _moved(layers, subset)
    return tuple(sum(shift_size(shape, rank) for shape in moved) for rank in (0, *KEPT_RANKS))


def _factors_mb(layers: Shapes, subset: str) -> float:
    """Return the megabytes of U (M, k), S (k,) and V (k, N) of a subset's matrices, k = min(M, N), float32."""
    matrices = [shape for shape in _moved(layers, subset) if len(shape) > 1]
    return sum(4e-6 * shift_size(shape) * (1 + sum(matrix_shape(shape))) for shape in matrices)


GUESSES = {
    ("embedded", "cpu"): Speed(train_s=0.05, sample_s=0.03, start_s=6),
    ("embedded", "cuda"): Speed(train_s=0.02, sample_s=0.01, start_s=8),
    ("sd1", "cuda"): Speed(train_s=0.25, sample_s=0.06, start_s=20),
    ("sd1", "cpu"): Speed(train_s=20, sample_s=8, start_s=40),
}
SIZES = {
    EMBEDDED: Size(side_px=128, weights_mb=600, activations_mb=60, shapes=partial(family_shapes, EMBEDDED)),
    "sd1": Size(side_px=512, weights_mb=3000, activations_mb=2500, shapes=partial(family_shapes, "sd1")),
}
CHECKPOINTED = 0.35  # share of the activations that gradient checkpointing leaves


def likely_device() -> str:
    """Return "cuda" where an NVIDIA driver is installed, else "cpu"; a guess that needs no torch."""
    return "cuda" if shutil.which("nvidia-smi") else "cpu"


def sample_every(config: TrainConfig) -> int:
    """Return the steps between two sample rows: the config's own, or a quarter of the run."""
    return row_distance(config.steps, config.sample_every)


def row_distance(steps: int, asked: int) -> int:
    """Return the steps between two sample rows of a run of so many; ``asked`` is 0 for a quarter of it."""
    return asked or max(1, -(-steps // 4))


class Costs:
    """The speeds seen so far, in a file of the data folder ``root``."""

    def __init__(self, root: Path) -> None:
        self.path = root / "speeds.json"
        self.class_folders = (ASSETS / "class_moments", root / "class_images")

    def speed(self, spec: str, *, family: str, device: str) -> Speed:
        """Return what was measured for a base on a device, else the shipped guess for its family."""
        kept = self._read().get(f"{spec} on {device}")
        return Speed(**kept) if kept else GUESSES[(family, device)]

    def measured(self, spec: str, *, device: str) -> bool:
        """Return whether a finished run has measured the speed of a base on a device."""
        return f"{spec} on {device}" in self._read()

    def record(self, spec: str, *, device: str, family: str, measured: Speed) -> None:
        """Blend a finished run's speeds into what is known."""
        known = self._read()
        before = (
            self.speed(spec, family=family, device=device) if f"{spec} on {device}" in known else measured
        )
        blended = {
            name: round(SMOOTHING * value + (1 - SMOOTHING) * getattr(before, name), 6)
            for name, value in asdict(measured).items()
        }
        write_json(self.path, known | {f"{spec} on {device}": blended})

    def estimate(self, config: TrainConfig, *, spec: str, family: str) -> Cost:
        """Return what a run of this config will take on a base."""
        speed = self.speed(spec, family=family, device=likely_device())
        pictures = config.pictures_per_forward * config.accumulation
        rows = 1 + -(-config.steps // sample_every(config))
        pictures_drawn = rows * len(config.sample_prompts) + (2 * MEASURED_PICTURES if config.measure else 0)
        class_seconds = 0.0
        if config.class_images_needed and not self._class_images_ready(config, side_px=SIZES[family].side_px):
            class_seconds = config.class_images_needed * 25 * speed.sample_s
        seconds = (
            speed.start_s
            + class_seconds
            + config.steps * pictures * speed.train_s
            + pictures_drawn * config.sample_steps * speed.sample_s
        )
        return Cost(
            seconds=round(seconds, 1),
            class_seconds=round(class_seconds, 1),
            memory_mb=round(_memory_mb(config, size=SIZES[family])),
            disk_mb=round(_disk_mb(config, size=SIZES[family]), 1),
            file_mb=round(4 * trained_values(config, size=SIZES[family]), 4),
            measured=self.measured(spec, device=likely_device()),
        )

    def seconds_per_picture(self, spec: str, family: str, *, steps: int) -> float:
        """Return how long a picture of so many denoising steps takes."""
        return steps * self.speed(spec, family=family, device=likely_device()).sample_s

    def seconds_left(self, run: Run, events: list[dict[str, Any]]) -> float:
        """Return what a run still takes: steps and sample rows at the speed of the latest, else the estimate."""
        config = from_dict(method_config(run.method), run.config)
        steps = [event for event in events if event["kind"] == "step"]
        if not steps:
            return self.estimate(config, spec=run.base["spec"], family=run.base["family"]).seconds
        pictures = [event["seconds"] for event in events if event["kind"] == "sample"]
        every, done = sample_every(config), steps[-1]["step"]
        rows_left = max(0, -(-config.steps // every) - done // every)
        pictures_left = rows_left * len(config.sample_prompts) + (
            2 * MEASURED_PICTURES if config.measure else 0
        )
        learning = (config.steps - done) * median(event["seconds"] for event in steps[-20:])
        return round(learning + (pictures_left * median(pictures[-6:]) if pictures else 0.0), 1)

    def _class_images_ready(self, config: TrainConfig, *, side_px: int) -> bool:
        """Whether class images of this prompt and size are at hand, as the headers of their files tell."""
        if not isinstance(config, PhotosConfig):
            return False
        wanted = (config.words(config.class_prompt), config.size_px or side_px)
        for folder in self.class_folders:
            for path in folder.glob("*.safetensors"):
                with suppress(ValueError, KeyError):
                    header = read_header(path)
                    key = json.loads(header["__metadata__"]["key"])
                    enough = header["mean"]["shape"][0] >= config.class_images_needed
                    if enough and (key["prompt"], key["size_px"]) == wanted:
                        return True
        return False

    def _read(self) -> dict[str, Any]:
        return json.loads(self.path.read_text(encoding="utf-8")) if self.path.is_file() else {}


def trained_values(config: TrainConfig, *, size: Size) -> float:
    """Return the millions of values that a run trains."""
    return config.trained_values(size)


def _memory_mb(config: TrainConfig, *, size: Size) -> float:
    """Weights, activations of one batch, and for each trained float32 value its gradient and Adam's two moments."""
    share = CHECKPOINTED if config.gradient_checkpointing else 1.0
    kept = size.weights_mb + config.decomposition_mb(size)
    return (
        kept
        + config.pictures_per_forward * share * size.activations_mb
        + 16 * trained_values(config, size=size)
    )


def _disk_mb(config: TrainConfig, *, size: Size) -> float:
    """The adapter, and the checkpoint with the adapter and Adam's two moments; pictures are small beside them."""
    kept = 16 + 4 * len(config.snapshot_steps)  # bytes per trained value
    return 2 + kept * trained_values(config, size=size) + config.decomposition_mb(size)
