"""Rebuild everything derived from the embedded base: ``python -m recipes.make_all``.

Order of dependencies: the measuring models (only if the autoencoder changed), class images, tags, style pictures,
examples, the recorded experiment, the sequence of concepts, the weight space, preset sweeps, README's picture, model
card. A part already built from the same weights is skipped, so an interrupted command can be resumed. The values in ``assets/presets`` are chosen by hand from the sweeps, which are
written to ``--work``/sweeps.
"""

import argparse
import hashlib
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from pipelines.config import ASSETS
from pipelines.files import data_root
from pipelines.weightspace.index import SHIPPED

log = logging.getLogger(__name__)

SWEPT = (("dreambooth", "Quick"), ("block_lora", "Quick"), ("svdiff", "Quick"))
BASE_PARTS, AUTOENCODER = ("unet", "text_encoder", "vae"), ("vae",)


@dataclass(frozen=True)
class Part:
    """One build step: a command of this repository, and the parts of the base that it depends on."""

    name: str
    command: tuple[str, ...]
    made_from: tuple[str, ...] = BASE_PARTS


def parts(work: Path, photos: Path | None, beside: Path | None) -> list[Part]:
    """Return everything derived from the base, in build order."""
    train = ("recipes.train_base", "--work", str(work))
    measured = [
        *(("--photos", str(photos)) if photos else ()),
        *(("--beside", str(beside)) if beside else ()),
    ]
    sweeps = []
    for method, preset in SWEPT:
        rows = str(work / "sweeps" / f"{method}.json")
        command = ("bench.sweep", "--method", method, "--preset", preset, "--json", rows)
        sweeps.append(Part(f"sweep of {method}", command))
    return [  # steps that depend only on the renderer run once
        Part("instruments", (*train, "--stage", "instruments", "--stage", "install"), AUTOENCODER),
        Part("class images", ("recipes.make_class_images",)),
        Part("tags", ("recipes.make_tags",), ()),
        Part("pictures of styles", ("recipes.style_pictures",), ()),
        Part("examples", ("recipes.make_examples",)),
        Part("recorded experiment", ("recipes.make_experiment",)),
        Part("sequence", ("recipes.make_sequence",)),
        Part("weight space", ("recipes.build_space", "--home", str(work / "space"), "--out", str(SHIPPED))),
        *sweeps,
        Part("README's picture", ("recipes.make_readme",)),
        Part("card", (*train, "--stage", "evaluate", *measured)),
    ]


def fingerprint(base: Path, names: Iterable[str]) -> str:
    """Return the SHA-256 of the weights of the named parts of the base."""
    digest = hashlib.sha256()
    for name in names:
        for path in sorted((base / name).glob("*.safetensors")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def run_command(command: tuple[str, ...]) -> None:
    """Run ``python -m command`` and raise if it fails."""
    subprocess.run([sys.executable, "-m", *command], check=True)


def make(
    todo: list[Part], base: Path, marks: Path, *, run: Callable[[tuple[str, ...]], None] = run_command
) -> list[str]:
    """Rebuild the parts whose weights changed since their last build; return the names of the rebuilt parts.

    ``marks`` is a JSON file: part -> fingerprint of the weights that it was built from.
    """
    made: dict[str, str] = json.loads(marks.read_text()) if marks.exists() else {}
    names = []
    for part in todo:
        weights = fingerprint(base, part.made_from)
        if made.get(part.name) == weights:
            log.info("%s: made from these weights already", part.name)
            continue
        log.info("%s: %s", part.name, " ".join(part.command))
        run(part.command)
        names.append(part.name)
        made[part.name] = weights
        marks.write_text(json.dumps(made, indent=1) + "\n")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--work", type=Path, default=data_root() / "train_base", help="as of recipes.train_base"
    )
    parser.add_argument("--photos", type=Path, help="a folder of real photographs, measured for the card")
    parser.add_argument("--beside", type=Path, help="an earlier base, measured for the card")
    parser.add_argument(
        "--same-autoencoder", action="store_true", help="the instruments that ship fit this autoencoder"
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    (options.work / "sweeps").mkdir(parents=True, exist_ok=True)
    todo = parts(options.work, options.photos, options.beside)
    make(todo[options.same_autoencoder :], ASSETS / "base", options.work / "made.json")


if __name__ == "__main__":
    main()
