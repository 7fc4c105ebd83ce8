"""Make the shipped sequence of concepts: ``python -m recipes.make_sequence``.

Four held-out people of the illustrated world are learned one after another with C-LoRA's Quick preset, and again without
self-regularization, which the page Continual shows beside it. Rerun it when the base or the preset changes.
"""

import argparse
import json
import logging
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file

from pipelines.config import CLoRAConfig
from pipelines.jobs.model_cache import ModelCache
from pipelines.methods.specs import preset
from pipelines.runs.shipped import ADAPTER, EXAMPLE_PREFIX, SEQUENCES
from pipelines.runs.store import Run
from pipelines.studio import Studio
from recipes import world
from recipes.make_examples import EXAMPLES, Example, draw_photos

log = logging.getLogger(__name__)

PEOPLE = {"Mira": 83, "Tomas": 107, "Ines": 131, "Oskar": 151}  # name -> held-out seed
NAMES = {"regularized": "people", "plain": "people-unregularized"}  # folders of the two sequences
KEPT = ("run.json", "metrics.json", "card.md", "concepts.json")
LEFT_OUT = ("step", "sample", "similarity", "checkpoint", "stage")  # events of a run that are not shipped


def settings(word: str, *, weight: float | None, trial: bool) -> CLoRAConfig:
    """Return the Quick preset for one person; ``weight`` None keeps the preset's self-regularization."""
    config = replace(
        preset("c_lora", "embedded", "Quick"), identifier=word, class_noun="person", measure=False
    )
    if weight is not None:
        config = replace(config, forgetting_weight=weight)
    short = {"steps": 2, "warmup_steps": 0, "sample_steps": 1, "rank": 2, "auto_captions": False}
    return replace(config, **short) if trial else config


def learn(
    studio: Studio, photos: dict[str, list[Path]], words: Sequence[str], *, trial: bool
) -> dict[str, list[Run]]:
    """Train both sequences, which share their first run; return their runs. Raises ValueError if one failed."""
    made: dict[str, list[Run]] = {}
    for kind, weight in (("regularized", None), ("plain", 0.0)):
        runs = made["regularized"][:1] if made else []
        for name, word in list(zip(PEOPLE, words, strict=True))[len(runs) :]:
            config = settings(word, weight=weight, trial=trial)
            parents = [run.id for run in runs[-1:]]
            run_id = studio.training.start("c_lora", config, photos[name], parents=parents, name=name)
            if (state := studio.training.wait(run_id)) != "done":
                raise ValueError(
                    f"The run of {name} ended {state}: {studio.training.status(run_id)['error']}"
                )
            runs = [*runs, studio.resources.store.get(run_id)]
            log.info("%s, %s: done", kind, name)
        made[kind] = runs
    return made


def ship(made: dict[str, list[Run]], out: Path) -> list[Path]:
    """Write both sequences below ``out``: each run with its own concept's tensors, and its parent's shipped id."""
    folders = []
    places: dict[str, str] = {}  # run id -> shipped name
    for kind, runs in made.items():
        shutil.rmtree(out / NAMES[kind], ignore_errors=True)
        for place, run in enumerate(runs, start=1):
            if run.id in places:  # the concept that both sequences share
                continue
            places[run.id] = f"{NAMES[kind]}-{place}"
            parents = [EXAMPLE_PREFIX + places[parent] for parent in run.parents]
            folders.append(_ship_run(run, out / NAMES[kind] / str(place), place=place, parents=parents))
    return folders


def _ship_run(run: Run, folder: Path, *, place: int, parents: list[str]) -> Path:
    folder.mkdir(parents=True)
    for name in KEPT:
        if run.file(name).is_file():
            shutil.copy(run.file(name), folder / name)
    for name in ("photos", "concepts"):
        shutil.copytree(run.file(name), folder / name, ignore=shutil.ignore_patterns("moments.safetensors"))
    told = json.loads((folder / "run.json").read_text(encoding="utf-8")) | {"parents": parents}
    (folder / "run.json").write_text(json.dumps(told, indent=1, ensure_ascii=False), encoding="utf-8")
    events = [event for event in run.events() if event["kind"] not in LEFT_OUT]
    lines = "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in events)
    (folder / "events.jsonl").write_text(lines, encoding="utf-8")
    with safe_open(run.file(ADAPTER), framework="pt") as file:
        own = [name for name in file.keys() if name.startswith(f"{place}.")]  # noqa: SIM118 (not a dict)
        tensors = {name: file.get_tensor(name) for name in own}
        halves = {name: value.half() if "lora" in name else value for name, value in tensors.items()}
        save_file(halves, folder / ADAPTER, metadata=file.metadata())
    return folder


def make(out: Path, *, trial: bool = False, model_cache: ModelCache | None = None) -> list[Path]:
    """Train and write both sequences below ``out``; return the folders of their runs."""
    with tempfile.TemporaryDirectory(prefix="atelier-sequence-") as scratch:
        studio = Studio(Path(scratch) / "data", model_cache=model_cache)
        try:
            taken = {example.identifier for example in EXAMPLES}
            words = [each["text"] for each in studio.inspection.identifiers() if each["text"] not in taken]
            photos = {
                name: draw_photos(_person(name, seed), Path(scratch) / name) for name, seed in PEOPLE.items()
            }
            return ship(learn(studio, photos, words[: len(PEOPLE)], trial=trial), out)
        finally:
            studio.close()


def _person(name: str, seed: int) -> Example:
    return Example(name.lower(), name, "person", "", world.HELD_OUT_FROM + seed, "on the beach", "beach")


def main() -> None:
    """Parse the command line and make the sequence."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=SEQUENCES)
    parser.add_argument("--trial", action="store_true", help="two steps only, to try the recipe out")
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    make(chosen.out, trial=chosen.trial)


if __name__ == "__main__":
    main()
