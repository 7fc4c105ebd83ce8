"""Build a weight space of illustrated people: ``python -m recipes.build_space --home <folder>``.

Four stages, each of which continues where it was interrupted: draw the identities and encode them, train a LoRA for each
(many at a time), decompose their weights and fit the directions, write the space with its card. ``--engine ray`` trains
on a Ray cluster (see docs/weight_spaces.md). The shipped space is written with ``--out weights_index``; it belongs to the
base it was trained on.
"""

import argparse
import json
import logging
import math
import time
from dataclasses import replace
from pathlib import Path

import torch

from pipelines.config import LoopConfig
from pipelines.data.photographs import Moments, to_tensor
from pipelines.models.base import Base, load_base
from pipelines.weightspace.components import Components, principal_components
from pipelines.weightspace.directions import VECTORS, Directions, fit_directions
from pipelines.weightspace.engines import ENGINES, train_population
from pipelines.weightspace.index import Manifest
from pipelines.weightspace.population import PopulationConfig
from pipelines.weightspace.shards import Population
from pipelines.weightspace.space import Space
from recipes.space_card import card
from recipes.space_people import STREAM, TRAITS, identity_of, labels, portrait, prompts, stages
from recipes.space_picture import draw_first

log = logging.getLogger(__name__)

# Chosen with bench.space_identity --people 5 or 6 on the base 53935d7a3901; similarity, attributes, processor seconds per
# identity. One photograph per step: 80 steps at 0.008: 0.37, 0.43, 3.2; at 0.016: 0.37, 0.46; rank 4: 0.43, 0.52, 4.1;
# A ~ N(0, 1): 0.38, 0.39; 240 steps: 0.51, 0.66, 11.2. Four per step, 80 steps at 0.012: 0.57, 0.75, 8.8; of these,
# attention layers only (scale 8): 0.36, 0.32, 6.7. Four per step, 160 steps at 0.008: 0.77, 0.82, 19.2.
EMBEDDED = PopulationConfig(
    loop=LoopConfig(
        steps=160, batch_size=4, learning_rate=8e-3, schedule="cosine", warmup_steps=5, snr_gamma=5.0
    ),
    targets="attention+conv",
    alpha=4.0,
    prior_weight=0.0,
    identities_at_once=16,
)
NOTE = (
    "Identities drawn by recipes/space_people.py; each has a rank-1 LoRA trained on pictures of the same views. "
    "No picture of a real person was used."
)


def draw_people(population: Population, base: Base, count: int) -> None:
    """Stage 1: draw and encode the identities that are missing, one shard after the other."""
    views, at_once = stages(len(population.prompts)), population.config.identities_at_once
    for shard in range(math.ceil(count / at_once)):
        if population.people_path(shard).is_file():
            continue
        numbers = range(shard * at_once, min((shard + 1) * at_once, count))
        subjects = [identity_of(number) for number in numbers]
        encoded = [
            base.encode_images(to_tensor([portrait(subject, view) for view in views])) for subject in subjects
        ]
        moments = Moments(
            mean=torch.cat([each.mean for each in encoded]),
            logvar=torch.cat([each.logvar for each in encoded]),
        )
        names = [f"{STREAM}/{number}" for number in numbers]
        population.write_people(shard, moments, labels(subjects), names)
        log.info("drawn: %d of %d identities", numbers[-1] + 1, count)


def decompose(population: Population, components: int, *, vector: str) -> tuple[Components, Directions]:
    """Stage 3: principal components of the weights and directions of the attributes."""
    rows = population.weights()
    found = principal_components(rows, min(components, len(rows) - 1))
    words = [(trait.name, trait.label, trait.low, trait.high) for trait in TRAITS]
    return found, fit_directions(found.scores, population.labels(), words, vector=vector)


def space_of(
    population: Population, base: Base, found: Components, directions: Directions, *, name: str, title: str
) -> Space:
    """Return the space of a decomposed population."""
    config = population.config
    manifest = Manifest(
        name=name, title=title, note=NOTE, base=base.name, base_hash=base.hash, family=base.family,
        prompt=f"a photo of a {config.identifier} {config.class_noun}", identifier=config.identifier,
        class_noun=config.class_noun, rank=config.rank, alpha=config.alpha, components=len(found.basis),
        population=len(found.scores), keys=population.keys, attributes=directions.attributes,
        members=population.names(), files={},
    )  # fmt: skip
    return Space(
        manifest=manifest, mean=found.mean, std=found.std, basis=found.basis, variance=found.variance,
        scores=found.scores, labels=population.labels(), vectors=directions.vectors, readers=directions.readers,
    )  # fmt: skip


def main() -> None:
    """Run the stages that are not done yet and write the space."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--home", type=Path, required=True, help="a folder for populations, one per base")
    parser.add_argument("--out", type=Path, help="write the space here (default: --home)")
    parser.add_argument("--name", default="faces")
    parser.add_argument("--title", default="Illustrated faces")
    parser.add_argument("--base", default="embedded")
    parser.add_argument("--identities", type=int, default=1000)
    parser.add_argument("--components", type=int, default=128)
    parser.add_argument("--steps", type=int, default=EMBEDDED.loop.steps)
    parser.add_argument("--engine", choices=ENGINES, default="process")
    parser.add_argument("--vector", choices=VECTORS, default="effect", help="what a slider adds")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    base = load_base(args.base, dtype=torch.float32)
    config = replace(EMBEDDED, loop=replace(EMBEDDED.loop, steps=args.steps))
    population = Population.create(
        args.home / base.hash[:12], base, config, prompts=prompts(f"{config.identifier} {config.class_noun}", stages()),
        attributes=[trait.name for trait in TRAITS],
    )  # fmt: skip
    draw_people(population, base, args.identities)
    started, fresh = time.perf_counter(), train_population(population, engine=args.engine, base=base)
    log.info("trained %d shards in %.0f s", len(fresh), time.perf_counter() - started)
    found, directions = decompose(population, args.components, vector=args.vector)
    space = space_of(population, base, found, directions, name=args.name, title=args.title)
    folder = space.write(args.out or args.home)
    (folder / "README.md").write_text(card(space, found, directions, config), encoding="utf-8")
    draw_first(folder, base)
    log.info(
        "%s", json.dumps({each.name: round(each.balanced_accuracy, 3) for each in directions.attributes})
    )


if __name__ == "__main__":
    main()
