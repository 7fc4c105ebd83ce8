"""Concepts learned one after another: C-LoRA and what it is compared with.

    python -m bench.continual --home continual --json continual.json --sheet continual.png
    python -m bench.continual --home continual --quick

Ten people with three seeds and ten towers of the held-out world, four photographs of each. Every method learns them in
the same order through the Studio. The identity encoder finds, for each of 16 pictures, the nearest of the sequence's
concepts; the mean distance to true renders is A_mmd, to the method's own earlier pictures F_mmd (both times 1000, see
``pipelines.evaluation.forgetting``). By default only the diagonal and the last row of the forgetting matrix are drawn;
``--full`` draws all of it. Finished runs and cells are kept in ``--home``, so an interrupted benchmark resumes.

Parts: ``main`` is the table, ``pairs`` two concepts in one picture, ``sweep`` the learning rate of the sequential LoRA
(whose best enters the table), ``lambda`` the trade-off of the self-regularization, ``layers`` what a concept trained
alone reaches with keys and values, all attention, and attention and convolutions.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bench.continual_cells import Case, Cell, Lab, Learned, make_case
from bench.continual_report import Score, report
from pipelines.config import CLoRAConfig, from_dict
from pipelines.evaluation.forgetting import Footprint, ForgettingMatrix, a_mmd, f_mmd, found_together, kid
from pipelines.evaluation.forgetting import retrieved as retrieval
from pipelines.evaluation.metrics import load_encoders
from pipelines.methods.baselines import BASELINES, PLAIN, Baseline, baseline_config, without_past
from pipelines.methods.specs import preset
from pipelines.studio import Studio

SEQUENCES = (("person", 10_003_000, 3), ("tower", 10_004_000, 1))  # kind, first seed, number of sequences
SWEPT = ("person", 10_005_000)  # of the sweeps, whose concepts are in no table
PARTS = ("main", "pairs", "sweep", "lambda", "layers")
RATES = (0.25, 0.5, 1.0, 2.0)  # of the preset's learning rate, tried for the sequential LoRA
WEIGHTS = (0.0, 0.01, 0.1, 1.0, 10.0, 100.0)  # of the self-regularization
LAYERS = ("cross-attention-kv", "attention", "attention+conv")
PAIRS = 5
TOGETHER = "a photo of {0} beside {1}"  # the words of the embedded base's captions
METHODS = {
    "separate": BASELINES["separate"],
    "c_lora": Baseline("C-LoRA"),
    **{key: one for key, one in BASELINES.items() if key != "separate"},
}
QUICK = ("separate", "c_lora", "sequential", "custom", "inversion")


@dataclass(frozen=True)
class Trained:
    """The runs of one method on one sequence: those that draw after task t, and the cost of one concept."""

    after: tuple[Callable[[int], Learned], ...]  # after[t](j) draws concept j after task t
    config: CLoRAConfig
    order: str
    seconds: float
    footprint: Footprint


def configured(method: Baseline, kind: str, start: CLoRAConfig, *, concepts: int) -> CLoRAConfig:
    """Return the settings of a method for one kind of subject, without samples on the way."""
    config = baseline_config(method, replace(start, class_noun=kind), family="embedded", concepts=concepts)
    return replace(
        config,
        measure=False,
        sample_prompts=("a photo of {identifier}",),
        sample_every=config.steps,
        sample_steps=start.sample_steps if config.replay_images else 1,  # the replayed pictures', too
    )


def learn(lab: Lab, case: Case, method: Baseline, start: CLoRAConfig) -> Trained:
    """Train what is not trained yet; the first run of every sequence is that of the concept alone."""
    count = len(case.words)
    config = configured(method, case.kind, start, concepts=count)
    if method.order == "joint":
        whole = lab.together(case, config)
        return _trained(lab, [lambda j: whole] * count, [whole] * count, config, method)
    runs: list[Learned] = []
    for place in range(count):
        parent = runs[-1] if runs and method.order == "sequence" else None
        own = config if parent else from_dict(CLoRAConfig, without_past(config))
        runs.append(lab.one(case, place, own, parent=parent))
    if method.order == "sequence":
        return _trained(lab, [lambda j, run=run: run for run in runs], runs, config, method)
    alone = [lambda j: runs[j]] * count
    if method.order == "merged":
        whole = lab.merged(runs)
        alone = [*alone[:-1], lambda j: whole]
    return _trained(lab, alone, runs, config, method)


def _trained(
    lab: Lab,
    after: Sequence[Callable[[int], Learned]],
    runs: Sequence[Learned],
    config: CLoRAConfig,
    method: Baseline,
) -> Trained:
    """Return the runs with the mean seconds of a concept, and the values that it trains and stores."""
    count = len(runs)
    joint = method.order == "joint"
    values = lab.values(runs[-1]) if method.order in ("sequence", "joint") else sum(map(lab.values, runs))
    trained = lab.trained(runs[-1]) // (count if joint else 1)
    footprint = Footprint(trained=trained, stored=round(values / count), unet=lab.unet_values)
    seconds = sum(lab.seconds(run) for run in (runs[:1] if joint else runs)) / count
    return Trained(
        after=tuple(after), config=config, order=method.order, seconds=seconds, footprint=footprint
    )


def drawn(lab: Lab, case: Case, trained: Trained, *, full: bool) -> dict[tuple[int, int], Cell]:
    """Return the cells (task t, concept j): diagonal and last row, or with ``full`` all that the model has met."""
    count = len(case.words)
    last = count - 1
    wanted = [(t, j) for t in range(count) for j in range(count) if j <= t and (full or t in (j, last))]
    cells = {}
    for t, j in wanted:
        prompt = replace(trained.config, identifier=case.words[j]).usage_prompt
        cells[t, j] = lab.cell([trained.after[t](j)], prompt, kind=case.kind)
    return cells


def matrix_of(case: Case, cells: Mapping[tuple[int, int], Cell]) -> ForgettingMatrix:
    """Return the shares of pictures of concept j after task t that are nearest to concept j among the sequence's."""
    scores = [
        tuple(
            retrieval(cells[t, j].identity, case.lineup, concept=j) if (t, j) in cells else None
            for j in range(len(case.words))
        )
        for t in range(len(case.words))
    ]
    return ForgettingMatrix(concepts=case.words, scores=tuple(scores))


def scored(
    lab: Lab, case: Case, trained: Trained, *, alone: Sequence[float], args: argparse.Namespace
) -> Score:
    """Return the scores of one method on one sequence."""
    cells = drawn(lab, case, trained, full=args.full)
    matrix, count = matrix_of(case, cells), len(case.words)
    first = [cells[j, j].clip for j in range(count)]
    final = [cells[count - 1, j].clip for j in range(count)]
    numbers = {
        "final identity": sum(matrix.final) / count,
        "likeness": lab.likeness(case, [cells[count - 1, j].identity for j in range(count)]),
        "A_mmd": 1000 * a_mmd(case.real, final),
        "KID": 1000 * sum(map(kid, case.real, final)) / count,
        "s/concept": trained.seconds,
        "N_param %": trained.footprint.trained_percent,
        "stored MB": trained.footprint.stored_mb,
    }
    if trained.order != "joint":
        reference = alone or matrix.diagonal
        numbers |= {"plasticity": matrix.plasticity(reference)} if sum(reference) else {}
        numbers |= {
            "forgetting": matrix.average_forgetting,
            "F_mmd": 1000 * f_mmd(first, final),
        }
    if "pairs" in args.parts:
        numbers["both found"] = pairs_found(lab, case, trained)
    return Score(matrix=matrix, numbers=numbers, shown={place: cell.shown for place, cell in cells.items()})


def pairs_found(lab: Lab, case: Case, trained: Trained) -> float:
    """Return the share of pictures of two concepts in which both are found, over up to ``PAIRS`` pairs of neighbours.

    Found: one half is nearest to the one and the other half to the other, among all concepts and the strangers.
    """
    last, found, lineup = len(case.words) - 1, [], torch.cat([case.lineup, case.strangers])
    for one in range(min(PAIRS, last)):
        other = one + 1
        runs = [trained.after[last](one), trained.after[last](other)]
        stack = runs if runs[0] != runs[1] else runs[:1]
        names = [
            trained.config.instance_prompt.removeprefix("a photo of ")
            .replace("{identifier}", case.words[place])
            .replace("{class_noun}", case.kind)
            for place in (one, other)
        ]
        cell = lab.cell(stack, TOGETHER.format(*names), kind=case.kind)
        found.append(found_together(cell.halves, lineup, pair=(one, other)).double().mean())
    return float(torch.stack(found).mean()) if found else 0.0


def table(
    lab: Lab, cases: Sequence[Case], start: CLoRAConfig, args: argparse.Namespace
) -> dict[str, dict[str, Score]]:
    """Return the scores by method and sequence; separate training comes first, because plasticity refers to it."""
    found: dict[str, dict[str, Score]] = {}
    keys = [key for key in METHODS if key in args.methods]
    alone = {}
    if "separate" not in keys:
        raise SystemExit("The table needs the method separate, to which plasticity refers.")
    for key in keys:
        for case in cases:
            trained = learn(lab, case, METHODS[key], tuned(start, key, args))
            score = scored(lab, case, trained, alone=alone.get(case.name, ()), args=args)
            alone.setdefault(case.name, score.matrix.diagonal)
            found.setdefault(key, {})[case.name] = score
            print(json.dumps({key: {case.name: score.rounded()}}), flush=True)
    return found


def tuned(start: CLoRAConfig, key: str, args: argparse.Namespace) -> CLoRAConfig:
    """Return the preset, for the sequential LoRA and its replay with the best learning rate of the sweep."""
    if key not in ("sequential", "replay") or not args.best_rate:
        return start
    rate = args.best_rate
    return replace(
        start,
        learning_rate=start.learning_rate * rate,
        token_learning_rate=start.token_learning_rate * rate,
    )


def swept(
    lab: Lab, case: Case, start: CLoRAConfig, tries: Mapping[str, Baseline], args: argparse.Namespace
) -> dict[str, Score]:
    """Return the scores of several settings on the sequence of the sweeps."""
    alone = scored(
        lab, case, learn(lab, case, METHODS["separate"], start), alone=(), args=args
    ).matrix.diagonal
    found = {}
    for label, method in tries.items():
        found[label] = scored(lab, case, learn(lab, case, method, start), alone=alone, args=args)
        print(json.dumps({label: found[label].rounded()}), flush=True)
    return found


def sweeps(lab: Lab, start: CLoRAConfig, args: argparse.Namespace) -> dict[str, dict[str, Score]]:
    """Return the requested sweeps by name; sets ``args.best_rate`` from that of the sequential LoRA."""
    found: dict[str, dict[str, Score]] = {}
    args.best_rate = 0.0
    wanted = [part for part in ("sweep", "lambda", "layers") if part in args.parts]
    if not wanted:
        return found
    case = make_case(*SWEPT, count=args.concepts, folder=args.home / "photos", encoders=lab.encoders)
    if "sweep" in wanted:
        rates = {
            f"learning rate x {rate:g}": Baseline(
                "",
                changes={
                    "forgetting_weight": 0.0,
                    "learning_rate": start.learning_rate * rate,
                    "token_learning_rate": start.token_learning_rate * rate,
                },
            )
            for rate in RATES
        }
        found["sequential LoRA"] = swept(lab, case, start, rates, args)
        best = max(found["sequential LoRA"].items(), key=lambda row: row[1].numbers["final identity"])[0]
        args.best_rate = RATES[list(rates).index(best)]
    if "lambda" in wanted:
        weights = {
            f"λ = {weight:g}": Baseline("", changes={"forgetting_weight": weight}) for weight in WEIGHTS
        }
        found["self-regularization"] = swept(lab, case, start, weights, args)
    if "layers" in wanted:
        layers = {
            name: Baseline("", changes={"targets": name, "forgetting_weight": 0.0}, order="alone")
            for name in LAYERS
        }
        layers["keys and values, every entry"] = Baseline(
            "", "alone", changes=PLAIN, preset="Custom Diffusion"
        )
        found["layers, trained alone"] = swept(lab, case, start, layers, args)
    return found


def options() -> argparse.Namespace:
    """Return the command line, with the defaults of ``--quick``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--home", type=Path, required=True, help="where runs and cells are kept, to go on from"
    )
    parser.add_argument("--quick", action="store_true", help="3 people, 1 seed, 4 pictures, the main methods")
    parser.add_argument("--full", action="store_true", help="draw the whole forgetting matrix")
    parser.add_argument("--parts", nargs="+", choices=PARTS)
    parser.add_argument("--methods", nargs="+", choices=METHODS)
    parser.add_argument("--kinds", nargs="+", choices=[kind for kind, _, _ in SEQUENCES])
    parser.add_argument("--concepts", type=int)
    parser.add_argument("--seeds", type=int, help="sequences of people")
    parser.add_argument("--pictures", type=int, help="of each cell")
    parser.add_argument("--steps", type=int, default=0, help="of each concept; 0: the preset's")
    parser.add_argument("--sample-steps", type=int, default=15)
    parser.add_argument("--preset", default="Quick")
    parser.add_argument("--threads", type=int, default=2, help="cores to use")
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--sheet", type=Path, help="rows: methods; columns: concepts right away and at the end"
    )
    parser.add_argument("--chart", type=Path, help="the trade-off of the self-regularization, as SVG")
    args = parser.parse_args()
    quick: dict[str, Any] = {
        "parts": ["main", "pairs"], "methods": list(QUICK), "kinds": ["person"], "concepts": 3, "seeds": 1, "pictures": 4,
    }  # fmt: skip
    whole = {
        "parts": list(PARTS), "methods": list(METHODS), "kinds": [kind for kind, _, _ in SEQUENCES], "concepts": 10,
        "seeds": 3, "pictures": 16,
    }  # fmt: skip
    for name, value in (quick if args.quick else whole).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    return args


def main() -> None:
    """Train and draw what is missing in ``--home``, and print the tables."""
    args = options()
    torch.set_num_threads(args.threads)
    encoders = load_encoders("embedded")
    start = preset("c_lora", "embedded", args.preset)
    steps = args.steps or start.steps
    warmup = min(steps, start.warmup_steps)
    start = replace(start, steps=steps, warmup_steps=warmup, sample_steps=args.sample_steps)
    studio = Studio(args.home.resolve() / "studio")
    lab = Lab(
        studio, home=args.home, encoders=encoders, pictures=args.pictures, sample_steps=args.sample_steps
    )
    try:
        sides = sweeps(lab, start, args)
        cases = [
            make_case(
                kind, seed + 100 * index, count=args.concepts, folder=args.home / "photos", encoders=encoders
            )
            for kind, seed, most in SEQUENCES
            if kind in args.kinds
            for index in range(min(most, args.seeds))
        ]
        found = table(lab, cases, start, args) if "main" in args.parts else {}
        report({METHODS[key].label: rows for key, rows in found.items()}, sides, cases=cases, args=args)
    finally:
        studio.close()


if __name__ == "__main__":
    main()
