"""Training a population: identities per hour, many in one forward pass against one after the other.

    python -m bench.space_population [--threads 2] [--rounds 5] [--at-once 1 2 4 8 16]

One after the other is the app's own training loop with its own LoRA of the same layers and rank, one photograph and one
class image per step. All variants are timed alternately, a few steps at a time, and compared within each round, so that
load on the machine affects all of them equally. The identities are noise: the time of a step does not depend on them.
"""

import argparse
import itertools
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bench.step import random_moments
from pipelines.adapters import LoRA
from pipelines.config import DreamBoothConfig, to_dict
from pipelines.data.subject import Subject
from pipelines.methods import subject
from pipelines.models.base import Base, load_base
from pipelines.training.loop import Step, train
from pipelines.weightspace.population import Identities, PopulationConfig, space_keys, train_identities
from recipes.build_space import EMBEDDED

ON_CPU = (1.3, 1.6)  # floor, goal: times as many identities per hour
ON_GPU = (4.0, 8.0)
STEPS = 2  # that are timed in one turn
PHOTOGRAPHS = 4
PROMPT = "a photo of a sks person"


def one_by_one(base: Base, config: PopulationConfig) -> Callable[[], float]:
    """Return a turn of the app's training loop: the seconds of one step of one identity."""
    keys = space_keys(base.unet, config)
    ranks = {key.name.partition(".lora_A.")[0]: config.rank for key in keys if ".lora_A." in key.name}
    lora = LoRA(ranks=ranks, alpha=config.alpha, seed=config.loop.seed)
    photographs = Subject(
        identifier=config.identifier, class_noun=config.class_noun, moments=random_moments(base, PHOTOGRAPHS),
        captions=("",) * PHOTOGRAPHS, names=("",) * PHOTOGRAPHS, class_moments=random_moments(base, 64),
    )  # fmt: skip
    settings = DreamBoothConfig(
        **{**to_dict(config.loop), "steps": 10_000}, identifier=config.identifier, class_noun=config.class_noun,
        prior_preservation=True, prior_weight=config.prior_weight, class_images=64,
    )  # fmt: skip

    def run() -> Iterator[Step]:
        lora.inject(base)
        yield from train(base, lora, subject.batches(base, [photographs], settings), subject.loss, settings)

    steps = run()
    next(steps)
    lora.remove()

    def turn() -> float:
        lora.inject(base)
        seconds = [step.seconds for step in itertools.islice(steps, STEPS)]
        lora.remove()
        return statistics.mean(seconds)

    return turn


def together(base: Base, config: PopulationConfig, count: int) -> Callable[[], float]:
    """Return a turn of the population's loop with ``count`` identities: the seconds of one step of one identity."""
    few = replace(config, loop=replace(config.loop, steps=STEPS + 1, warmup_steps=0))
    identities = Identities(random_moments(base, count * PHOTOGRAPHS), (PROMPT,) * PHOTOGRAPHS)
    prior = random_moments(base, 64)

    def turn() -> float:
        ends: list[float] = []
        train_identities(base, identities, few, prior=prior, on_step=lambda *_: ends.append(_now(base)))
        return (ends[-1] - ends[0]) / (STEPS * count)

    return turn


def _now(base: Base) -> float:
    if base.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def measure(base: Base, config: PopulationConfig, *, at_once: list[int], rounds: int) -> list[dict[str, Any]]:
    """Return a row per number of identities at once; 0 stands for the app's own loop, one after the other."""
    turns = {0: one_by_one(base, config), **{count: together(base, config, count) for count in at_once}}
    times: dict[int, list[float]] = {count: [] for count in turns}
    for number in range(rounds):
        order = list(turns) if number % 2 == 0 else list(reversed(turns))
        for count in order:
            times[count].append(turns[count]())
    return [
        {
            "at once": count,
            "seconds per step and identity": statistics.median(times[count]),
            "identities per hour": 3600 / (statistics.median(times[count]) * config.loop.steps),
            "times one by one": statistics.median(
                alone / own for alone, own in zip(times[0], times[count], strict=True)
            ),
        }
        for count in turns
    ]


def show(rows: list[dict[str, Any]], config: PopulationConfig, *, gpu: bool) -> None:
    """Print the table and compare the best row with floor and goal."""
    print(
        f"{config.targets}, rank {config.rank}, {config.loop.steps} steps of one photograph and one class image\n"
    )
    print(
        f"{'at once':>12}{'ms per step and identity':>28}{'identities per hour':>22}{'times one by one':>20}"
    )
    for row in rows:
        name = row["at once"] or "own loop"
        print(f"{name:>12}{row['seconds per step and identity'] * 1e3:>28.1f}{row['identities per hour']:>22.1f}"
              f"{row['times one by one']:>20.2f}")  # fmt: skip
    best = max(rows, key=lambda row: row["times one by one"])
    floor, goal = ON_GPU if gpu else ON_CPU
    reached = [name for name, mark in (("floor", floor), ("goal", goal)) if best["times one by one"] >= mark]
    print(f"\nbest at {best['at once']} at once: {best['times one by one']:.2f} times; floor {floor:g}, goal {goal:g}: "
          f"{reached[-1] if reached else 'BELOW THE FLOOR'}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default="embedded")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    base = load_base(args.base, dtype=torch.float32)
    config = replace(EMBEDDED, prior_weight=1.0, loop=replace(EMBEDDED.loop, batch_size=1))
    rows = measure(base, config, at_once=args.at_once, rounds=args.rounds)
    show(rows, config, gpu=base.device.type == "cuda")
    if args.json:
        setting = {
            "threads": args.threads,
            "machine": platform.machine(),
            "torch": torch.__version__,
            "base": base.hash,
        }
        args.json.write_text(json.dumps({"setting": setting, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
