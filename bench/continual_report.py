"""The tables, the trade-off chart and the picture sheet of bench.continual."""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from bench.continual_cells import Case
from pipelines.evaluation.forgetting import ForgettingMatrix

COLUMNS = (
    "plasticity", "final identity", "forgetting", "likeness", "A_mmd", "F_mmd", "KID", "both found", "s/concept",
    "N_param %", "stored MB",
)  # fmt: skip
SEQUENTIAL = ("Sequential LoRA", "Sequential Custom Diffusion", "Generative replay")
SIDE, MARGIN = 360, 52  # of the chart, in pixels


@dataclass(frozen=True)
class Score:
    """One method on one sequence: its forgetting matrix, its numbers by column, and some pictures of each cell."""

    matrix: ForgettingMatrix
    numbers: Mapping[str, float]
    shown: Mapping[tuple[int, int], Tensor]

    def rounded(self) -> dict[str, float]:
        """Return the numbers with three digits."""
        return {name: round(value, 3) for name, value in self.numbers.items()}


def spread(values: Sequence[float]) -> str:
    """Return mean ± standard deviation over the sequences; without ± for a single one."""
    if not values:
        return "–"
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def table_of(title: str, rows: Mapping[str, Sequence[Score]]) -> str:
    """Return a text table: a row for each method, a column for each number that occurs."""
    names = [
        name for name in COLUMNS if any(name in one.numbers for scores in rows.values() for one in scores)
    ]
    wide = max(len(title), *map(len, rows))
    lines = [f"{title:<{wide}}  " + "  ".join(f"{name:>15}" for name in names)]
    for label, scores in rows.items():
        told = [spread([one.numbers[name] for one in scores if name in one.numbers]) for name in names]
        lines.append(f"{label:<{wide}}  " + "  ".join(f"{text:>15}" for text in told))
    return "\n".join(lines)


def matrix_text(label: str, matrix: ForgettingMatrix) -> str:
    """Return a forgetting matrix as text: rows after task t, columns concepts."""
    lines = [f"{label}: share of pictures nearest to concept j, after task t"]
    lines.append("  after  " + " ".join(f"{word:>5}" for word in matrix.concepts))
    for word, row in zip(matrix.concepts, matrix.scores, strict=True):
        lines.append(f"  {word:<6} " + " ".join("    ·" if one is None else f"{one:5.2f}" for one in row))
    return "\n".join(lines)


def verdicts(means: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Compare C-LoRA's means with the floors and goals; [] without C-LoRA and sequential LoRA."""
    ours, theirs = means.get("C-LoRA"), means.get("Sequential LoRA")
    if not ours or not theirs:
        return []
    points = 100 * (ours["final identity"] - theirs["final identity"])
    ratio = ours["F_mmd"] / theirs["F_mmd"] if theirs["F_mmd"] > 0 else float("inf")
    best = min(means[name]["A_mmd"] for name in SEQUENTIAL if name in means)
    return [
        _verdict("plasticity", ours["plasticity"], floor=0.75, goal=0.9),
        _verdict("identity points above sequential LoRA", points, floor=15, goal=30),
        _verdict("F_mmd, share of sequential LoRA's", ratio, floor=0.5, goal=0.33, higher=False),
        f"A_mmd {ours['A_mmd']:.1f}, best other sequential {best:.1f}: {'best' if ours['A_mmd'] <= best else 'NOT THE BEST'}",
        _verdict("seconds of training for each concept", ours["s/concept"], floor=30, goal=30, higher=False),
    ]


def _verdict(name: str, value: float, *, floor: float, goal: float, higher: bool = True) -> str:
    def reached(mark: float) -> bool:
        return value >= mark if higher else value <= mark

    told = "goal reached" if reached(goal) else "floor reached" if reached(floor) else "BELOW THE FLOOR"
    return f"{name}: {value:.2f} (floor {floor:g}, goal {goal:g}): {told}"


def chart(points: Mapping[str, Score]) -> str:
    """Return an SVG of the trade-off: average forgetting (up) against plasticity (right), one point for each weight."""
    inner = SIDE - 2 * MARGIN
    numbers = [(label, one.numbers["plasticity"], one.numbers["forgetting"]) for label, one in points.items()]
    most = max(1.0, *(x for _, x, _ in numbers))
    places = [
        (label, MARGIN + inner * x / most, SIDE - MARGIN - inner * max(0.0, y)) for label, x, y in numbers
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for _, x, y in places)
    marks = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/><text x="{x - 6:.1f}" y="{y - 8:.1f}" text-anchor="end">{label}</text>'
        for label, x, y in places
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIDE} {SIDE}" font-family="sans-serif" font-size="11">'
        f'<rect x="{MARGIN}" y="{MARGIN}" width="{inner}" height="{inner}" fill="none" stroke="#999"/>'
        f'<polyline points="{line}" fill="none" stroke="#36c"/>{marks}'
        f'<text x="{MARGIN}" y="{SIDE - 18}">plasticity, 0 to {most:.2f} of separate training</text>'
        f'<text x="{MARGIN}" y="{MARGIN - 18}">average forgetting, 0 to 1</text></svg>\n'
    )


def sheet(found: Mapping[str, Mapping[str, Score]], case: Case) -> Image.Image:
    """Return a picture: photographs on top; then for each method concept j after task j, and below after the last."""
    count, side = len(case.words), 128
    lines = [[Image.open(paths[0]).convert("RGB") for paths in case.photos]]
    for rows in found.values():
        shown = rows[case.name].shown
        for task in (None, count - 1):
            cells = [shown[place if task is None else task, place][0].numpy() for place in range(count)]
            lines.append([Image.fromarray(np.asarray(cell)) for cell in cells])
    whole = Image.new("RGB", (side * count, side * len(lines)), "white")
    for y, line in enumerate(lines):
        for x, picture in enumerate(line):
            whole.paste(picture.resize((side, side)), (side * x, side * y))
    return whole


def report(
    found: Mapping[str, Mapping[str, Score]],
    sides: Mapping[str, Mapping[str, Score]],
    *,
    cases: Sequence[Case],
    args: argparse.Namespace,
) -> None:
    """Print the tables and write the requested files."""
    told: dict[str, Any] = {"setting": {name: str(value) for name, value in vars(args).items()}}
    for title, rows in sides.items():
        print("\n" + table_of(title, {label: [one] for label, one in rows.items()}))
        told[title] = {label: dict(one.numbers) for label, one in rows.items()}
    for kind in dict.fromkeys(case.kind for case in cases) if found else ():
        names = [case.name for case in cases if case.kind == kind]
        rows = {label: [scores[name] for name in names] for label, scores in found.items()}
        print(f"\n{table_of(f'{len(names)} x {args.concepts} {kind}', rows)}\n")
        means = {
            label: {name: mean(one.numbers[name] for one in scores) for name in scores[0].numbers}
            for label, scores in rows.items()
        }
        print("\n".join(verdicts(means)) + "\n")
        for label in (one for one in ("C-LoRA", "Sequential LoRA") if one in rows):
            print(matrix_text(label, rows[label][0].matrix))
        told[kind] = {
            label: [{"numbers": dict(one.numbers), "matrix": one.matrix.to_dict()} for one in scores]
            for label, scores in rows.items()
        }
    if args.json:
        args.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    if args.sheet and found:
        sheet(found, cases[0]).save(args.sheet)
    if args.chart and "self-regularization" in sides:
        args.chart.write_text(chart(sides["self-regularization"]), encoding="utf-8")
