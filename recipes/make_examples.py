"""Make the shipped examples: ``python -m recipes.make_examples``.

Each example is a held-out individual of the illustrated world: four pictures of it and the finished run of the Quick
preset on them, reduced to the files the page needs. Rerun it when the base or the presets change.
"""

import argparse
import json
import logging
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.torch import save_file

from pipelines.config import ASSETS
from pipelines.jobs.model_cache import ModelCache
from pipelines.methods.specs import preset
from pipelines.runs.store import Run
from pipelines.studio import Studio
from recipes import world

log = logging.getLogger(__name__)

PHOTOS = 4
KEPT = ("run.json", "events.jsonl", "metrics.json", "card.md")


@dataclass(frozen=True)
class Example:
    """One subject: ``subject_seed`` is a held-out seed, ``place`` ends the prompt, ``seed`` is the picture's seed."""

    name: str
    title: str
    kind: str
    identifier: str
    subject_seed: int
    place: str
    seed: int = 7


EXAMPLES = (
    Example("ada", "Ada", "person", "zwx", world.HELD_OUT_FROM + 37, "on the beach"),
    Example("henrik", "Henrik", "person", "qev", world.HELD_OUT_FROM + 61, "in the forest"),
    Example("biscuit", "Biscuit", "dog", "pll", world.HELD_OUT_FROM + 4, "in the kitchen"),
    Example("florence", "Florence", "teapot", "ktn", world.HELD_OUT_FROM + 3, "in the library"),
)


def draw_photos(example: Example, folder: Path) -> list[Path]:
    """Render one individual in four different scenes, without hat or scarf, in the "photo" style."""
    folder.mkdir(parents=True)
    subject = world.sample_subject(np.random.default_rng(example.subject_seed), example.kind)
    rng = np.random.default_rng(example.subject_seed + 1)
    others = [scene for scene in world.SCENES if scene not in example.place and scene != "starry night"]
    scenes = rng.permutation(others)[:PHOTOS]
    paths = []
    for index, scene in enumerate(scenes):
        light = world.lights_of(str(scene))[0]
        choice = world.Choice(subject=subject, scene=str(scene), light=light, style="photo", wearable="")
        paths.append(folder / f"{index:02d}.png")
        world.draw(world.sample_picture(rng, choice)).save(paths[-1])
    return paths


def train(example: Example, photos: Sequence[Path], *, studio: Studio, trial: bool) -> Run:
    """Run the Quick preset (``trial``: only two steps) and return the run. Raises ValueError if it failed."""
    words = "{identifier} {class_noun}"
    chosen = preset("dreambooth", "embedded", "Quick")
    config = replace(
        chosen,
        identifier=example.identifier,
        class_noun=example.kind,
        sample_prompts=(f"a photo of a {words}", f"a photo of a {words} {example.place}"),
        sample_seed=example.seed,
    )
    if trial:
        config = replace(config, steps=2, warmup_steps=0, class_images=2, sample_steps=2)
    run_id = studio.training.start("dreambooth", config, photos, name=example.title)
    state = studio.training.wait(run_id)
    if state != "done":
        raise ValueError(
            f"The run of {example.title} ended {state}: {studio.training.status(run_id)['error']}"
        )
    return studio.resources.store.get(run_id)


def ship(example: Example, run: Run, folder: Path) -> None:
    """Copy the files of a run that the page needs; the adapter's tensors become float16, its header is unchanged."""
    shutil.rmtree(folder, ignore_errors=True)
    target = folder / "run"
    target.mkdir(parents=True)
    for name in KEPT:
        if run.file(name).is_file():
            shutil.copy(run.file(name), target / name)
    for name in ("photos", "samples"):
        shutil.copytree(run.file(name), target / name, ignore=shutil.ignore_patterns("moments.safetensors"))
    with safe_open(run.file("adapter.safetensors"), framework="pt") as file:
        tensors = {name: file.get_tensor(name).half() for name in file.keys()}  # noqa: SIM118 (not a dict)
        save_file(tensors, target / "adapter.safetensors", metadata=file.metadata())
    told = {
        "title": example.title,
        "class_noun": example.kind,
        "identifier": example.identifier,
        "prompt": f"a photo of a {example.identifier} {example.kind} {example.place}",
        "seed": example.seed,
        "preset": "Quick",
        "run": "run",
    }
    (folder / "example.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def make(
    out: Path, *, names: Sequence[str] = (), trial: bool = False, model_cache: ModelCache | None = None
) -> list[Path]:
    """Make the named examples (default: all) below ``out`` and return their folders."""
    folders = []
    with tempfile.TemporaryDirectory(prefix="atelier-examples-") as scratch:
        studio = Studio(Path(scratch) / "data", model_cache=model_cache)
        try:
            for example in EXAMPLES:
                if names and example.name not in names:
                    continue
                photos = draw_photos(example, Path(scratch) / example.name)
                run = train(example, photos, studio=studio, trial=trial)
                ship(example, run, out / example.name)
                folders.append(out / example.name)
                log.info("%s: %s", example.title, run.read_json("metrics.json"))
        finally:
            studio.close()
    return folders


def main() -> None:
    """Parse the command line and make the examples."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="examples to make (default: all)")
    parser.add_argument("--out", type=Path, default=ASSETS / "examples")
    parser.add_argument("--trial", action="store_true", help="two steps only, to try the recipe out")
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    make(chosen.out, names=chosen.names, trial=chosen.trial)


if __name__ == "__main__":
    main()
