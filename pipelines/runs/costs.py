"""Cost estimates shown before a run starts, based on measurements on this machine if there are any.

Speeds are kept per base and device in ``speeds.json`` of the data folder; before the first run the shipped guesses
stand in. Nothing here needs torch.
"""

import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from pipelines.config import ASSETS, PhotosConfig, TrainConfig, from_dict
from pipelines.files import write_json
from pipelines.methods.specs import method_config
from pipelines.models.inspection import read_header
from pipelines.runs.store import Run

SMOOTHING = 0.5  # how much the newest measurement counts
MEASURED_PICTURES = 4  # drawn of the class, and of the subject, to measure a finished run


@dataclass(frozen=True)
class Speed:
    """Seconds on one base and device, each for one picture: a training step, a sampling step, and starting up."""

    train_s: float
    sample_s: float
    start_s: float


@dataclass(frozen=True)
class Cost:
    """What a run will take: ``seconds``, of which ``class_seconds`` for class images; megabytes of memory at work; megabytes
    on the disk, of which ``file_mb`` (10^6 bytes) are the adapter's float32 values.
    """

    seconds: float
    class_seconds: float
    memory_mb: float
    disk_mb: float
    file_mb: float


@dataclass(frozen=True)
class Size:
    """One base family: side of its pictures, megabytes at work and per picture, millions of trained values."""

    side_px: int
    weights_mb: float
    activations_mb: float
    unet_values: float
    rank_values: dict[str, float]  # per rank, by targets
    text_rank_values: float  # per rank
    word_values: float  # per token
    block_values: Mapping[
        str, tuple[float, float, float]
    ]  # per rank of each block, as BlockPlan.values takes them
    shifts: dict[str, tuple[int, ...]]  # spectral shifts of the UNet, by subset, for each of SPECTRAL_RANKS
    text_shifts: tuple[int, ...]
    factors_mb: float  # singular vectors of all weights, float32


GUESSES = {
    ("embedded", "cpu"): Speed(train_s=0.05, sample_s=0.03, start_s=6),
    ("embedded", "cuda"): Speed(train_s=0.02, sample_s=0.01, start_s=8),
    ("sd1", "cuda"): Speed(train_s=0.25, sample_s=0.06, start_s=20),
    ("sd1", "cpu"): Speed(train_s=20, sample_s=8, start_s=40),
}
SIZES = {
    "embedded": Size(
        side_px=128,
        weights_mb=600,
        activations_mb=60,
        unet_values=4.3,
        rank_values={"attention": 0.0175, "attention+conv": 0.0809},
        text_rank_values=0.0031,
        word_values=128e-6,
        block_values={
            "In0": (2560e-6, 320e-6, 1600e-6),
            "In1": (4608e-6, 480e-6, 2912e-6),
            "In2": (5632e-6, 560e-6, 3856e-6),
            "In3": (0.0, 416e-6, 3200e-6),
            "Mid": (2816e-6, 416e-6, 3200e-6),
            "Out0": (0.0, 1344e-6, 7760e-6),
            "Out1": (8448e-6, 1328e-6, 7616e-6),
            "Out2": (6912e-6, 1136e-6, 6064e-6),
            "Out3": (3840e-6, 800e-6, 3072e-6),
        },
        shifts={
            "UNet": (24_772, 7_754, 8_600, 11_972, 22_836, 24_772),
            "UNet-CA": (3_840, 64, 256, 1_024, 3_456, 3_840),
            "UNet-CA-KV": (1_920, 32, 128, 512, 1_728, 1_920),
            "UNet-1D": (7_472, 7_472, 7_472, 7_472, 7_472, 7_472),
            "UNet-2D": (11_200, 184, 736, 2_944, 9_984, 11_200),
            "UNet-4D": (6_100, 98, 392, 1_556, 5_380, 6_100),
            "Up-Blocks": (14_048, 4_575, 5_052, 6_960, 13_056, 14_048),
            "Down-Blocks": (8_416, 2_485, 2_788, 4_000, 7_824, 8_416),
            "Mid-Block": (2_080, 658, 712, 928, 1_792, 2_080),
            "Up-CA": (2_112, 36, 144, 576, 1_920, 2_112),
            "Down-CA": (1_408, 24, 96, 384, 1_280, 1_408),
            "Mid-CA": (320, 4, 16, 64, 256, 320),
        },
        text_shifts=(3_368, 916, 976, 1_216, 2_152, 3_368),
        factors_mb=25,
    ),
    "sd1": Size(
        side_px=512,
        weights_mb=3000,
        activations_mb=2500,
        unet_values=859.5,
        rank_values={"attention": 0.1993, "attention+conv": 1.0508},
        text_rank_values=0.0737,
        word_values=768e-6,
        block_values={
            "In0": (23552e-6, 3200e-6, 16000e-6),
            "In1": (44032e-6, 4800e-6, 29120e-6),
            "In2": (84992e-6, 7040e-6, 58240e-6),
            "In3": (0.0, 5120e-6, 51200e-6),
            "Mid": (42496e-6, 5120e-6, 51200e-6),
            "Out0": (0.0, 19200e-6, 124160e-6),
            "Out1": (127488e-6, 18560e-6, 118400e-6),
            "Out2": (66048e-6, 11840e-6, 64960e-6),
            "Out3": (35328e-6, 8000e-6, 30720e-6),
        },
        shifts={
            "UNet": (322_856, 100_442, 101_288, 104_660, 118_120, 171_880),
            "UNet-CA": (43_776, 64, 256, 1_024, 4_096, 16_384),
            "UNet-CA-KV": (18_816, 32, 128, 512, 2_048, 8_192),
            "UNet-1D": (100_160, 100_160, 100_160, 100_160, 100_160, 100_160),
            "UNet-2D": (140_416, 184, 736, 2_944, 11_776, 47_104),
            "UNet-4D": (82_280, 98, 392, 1_556, 6_184, 24_616),
            "Up-Blocks": (181_568, 58_719, 59_196, 61_104, 68_736, 99_264),
            "Down-Blocks": (107_072, 31_141, 31_444, 32_656, 37_504, 56_896),
            "Mid-Block": (32_256, 10_258, 10_312, 10_528, 11_392, 14_848),
            "Up-CA": (23_808, 36, 144, 576, 2_304, 9_216),
            "Down-CA": (15_872, 24, 96, 384, 1_536, 6_144),
            "Mid-CA": (4_096, 4, 16, 64, 256, 1_024),
        },
        text_shifts=(75_341, 19_274, 19_496, 20_384, 23_936, 37_965),
        factors_mb=4_700,
    ),
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
