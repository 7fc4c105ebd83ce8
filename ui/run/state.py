"""One run as the page shows it, built from its events in the same way for a live run, a reloaded page and a test."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.data.subject import stored_masks, stored_photos, stored_scenes
from pipelines.runs.costs import row_distance
from pipelines.runs.store import IMPORTED

LIVE = ("queued", "running", "stopping")
WORDS = {
    "queued": "Queued",
    "running": "Training",
    "stopping": "Stopping",
    "done": "Finished",
    "stopped": "Stopped and kept",
    "failed": "Failed",
    "interrupted": "Interrupted",
    "replaying": "Replay",
    "broken": "Damaged",
}


@dataclass(frozen=True)
class Sample:
    """One sample generated during training; ``row`` is the index of its prompt."""

    step: int
    row: int
    prompt: str
    seed: int
    file: Path


@dataclass
class RunView:
    """What the page shows of a run; ``imported`` runs were loaded from a file.

    ``terms`` and ``similarity`` hold (step, value) points for each named curve.
    """

    id: str
    name: str = ""
    imported: bool = False
    state: str = "queued"
    message: str = ""
    notes: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    stage: str = ""
    stage_done: int = 0
    stage_total: int = 0
    step: int = 0
    total: int = 0
    seconds_per_step: float = 0.0
    eta_s: float | None = None
    queue_position: int | None = None
    terms: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    similarity: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    band: list[tuple[int, float, float]] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    photos: list[Path] = field(default_factory=list)
    masks: dict[Path, Path] = field(default_factory=dict)  # by photograph
    scenes: list[Path] = field(default_factory=list)  # one composite per photograph
    metrics: dict[str, Any] = field(default_factory=dict)

    @property
    def live(self) -> bool:
        """True while the run is queued or running."""
        return self.state in LIVE

    @property
    def moving(self) -> bool:
        """True while more events are expected: of a live run or of a replay."""
        return self.live or self.state == "replaying"

    @property
    def rows_ahead(self) -> int:
        """Number of rows of samples that are not generated yet."""
        latest = max((sample.step for sample in self.samples), default=-1)
        if not self.moving or latest >= self.total:
            return 0
        every = row_distance(self.total, int(self.config.get("sample_every") or 0))
        return self.total // every - max(latest, 0) // every + bool(self.total % every) + (latest < 0)

    @property
    def prompts(self) -> list[str]:
        """The sample prompts, in the order of their rows."""
        return [sample.prompt for sample in self.row_firsts]

    @property
    def row_firsts(self) -> list[Sample]:
        """The earliest sample of every prompt."""
        firsts: dict[int, Sample] = {}
        for sample in self.samples:
            firsts.setdefault(sample.row, sample)
        return [firsts[row] for row in sorted(firsts)]

    def pair(self) -> tuple[Sample, Sample] | None:
        """Return the first and the latest sample of the last prompt (the one farthest from the photographs)."""
        if not self.samples:
            return None
        row = max(sample.row for sample in self.samples if sample.step == self.samples[0].step)
        same = [sample for sample in self.samples if sample.row == row]
        return same[0], same[-1]


def fold(status: dict[str, Any]) -> RunView:
    """Build the view of a run from ``Studio.training.status`` with all its events."""
    view = RunView(id=status["id"], name=status.get("name", ""), config=dict(status.get("config", {})))
    view.imported = status.get("method") == IMPORTED
    folder = Path(status["path"])
    for event in status["events"]:
        _apply(event, view=view, folder=folder)
    view.state = status["state"]
    view.eta_s = status.get("eta_s")
    view.seconds_per_step = status.get("seconds_per_step") or view.seconds_per_step
    view.queue_position = status.get("queue_position")
    view.message = status.get("error") or view.message
    view.photos = stored_photos(folder)
    view.masks, view.scenes = stored_masks(folder), stored_scenes(folder)
    return view


def _apply(event: dict[str, Any], *, view: RunView, folder: Path) -> None:
    kind = event["kind"]
    if kind == "created":
        view.config = view.config or dict(event.get("config", {}))
        view.total = view.total or int(view.config.get("steps", 0))
    elif kind == "state":
        view.message = event.get("message", "")
    elif kind == "stage":
        view.stage, view.stage_done, view.stage_total = event["name"], event["done"], event["total"]
    elif kind == "step":
        _apply_step(event, view=view)
    elif kind == "sample":
        for row, name in enumerate(event["files"]):
            view.samples.append(_sample(event, name=name, row=row, view=view, folder=folder))
    elif kind == "similarity":
        _apply_similarity(event, view=view)
    elif kind == "note":
        view.notes += [event["text"]] if event["text"] not in view.notes else []
    elif kind == "metrics":
        view.metrics = {name: value for name, value in event.items() if name not in ("t", "kind")}


def _apply_step(event: dict[str, Any], *, view: RunView) -> None:
    step = event["step"]
    view.step, view.total, view.stage = step, event["total"], ""
    view.seconds_per_step = event["seconds"]
    for name, value in event["terms"].items():
        points = view.terms.setdefault(name, [])
        while points and points[-1][0] >= step:
            points.pop()
        points.append((step, float(value)))


def _sample(event: dict[str, Any], *, name: str, row: int, view: RunView, folder: Path) -> Sample:
    prompt = event["prompt"]
    prompts = [prompt] if isinstance(prompt, str) else prompt
    if len(event["files"]) == 1 and isinstance(prompt, str):
        row = _row_of(prompt, view=view)
    return Sample(
        step=event["step"],
        row=row,
        prompt=prompts[row % len(prompts)],
        seed=event["seed"],
        file=folder / name,
    )


def _row_of(prompt: str, *, view: RunView) -> int:
    for sample in view.samples:
        if sample.prompt == prompt:
            return sample.row
    return len({sample.row for sample in view.samples})


def _apply_similarity(event: dict[str, Any], *, view: RunView) -> None:
    for name in ("identity", "prompt"):
        measured = event.get(name)
        if measured is None:
            continue
        value = measured["value"] if isinstance(measured, dict) else measured
        points = view.similarity.setdefault(name, [])
        while points and points[-1][0] >= event["step"]:
            points.pop()
        points.append((event["step"], float(value)))
        if name == "identity" and isinstance(measured, dict) and "low" in measured:
            view.band = [point for point in view.band if point[0] < event["step"]]
            view.band.append((event["step"], float(measured["low"]), float(measured["high"])))
