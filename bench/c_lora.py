"""C-LoRA's settings: what one concept keeps of a person, and what self-regularization costs and saves in a sequence.

    python -m bench.c_lora --home c_lora --concepts 1 --try targets=cross-attention-kv --try targets=attention+conv
    python -m bench.c_lora --home c_lora --concepts 4 --weights 0 0.01 0.1 1 10 --json c_lora.json --chart c_lora.svg

People of the held-out world, four pictures of each, learned one after another; no person is one of those that
``bench.continual`` measures. Plasticity is the identity of each person right after it was learned, "kept" that of the
earlier people after the last one: the share of pictures that the identity encoder finds among 51 people. A sequence
that is finished in ``--home`` is not trained again.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

from PIL import Image

from bench.dreambooth import Case, dino, make_case, retrieved
from bench.sweep import candidate
from pipelines.config import CLoRAConfig, SampleConfig
from pipelines.evaluation.metrics import Encoders, load_encoders
from pipelines.methods.specs import preset
from pipelines.studio import Studio

PEOPLE = tuple(10_002_000 + 11 * place for place in range(8))
WORDS = ("zwx", "qev", "pll", "ktn", "vxq", "bzd", "hqs", "wqf")
SIDE, MARGIN = 320, 48  # of the chart, in pixels


@dataclass(frozen=True)
class Result:
    """One sequence: the shares of recognised pictures and the DINO similarities, and the seconds of a concept."""

    plasticity: float
    kept: float
    dino_learned: float
    dino_kept: float
    seconds: float


def learn(studio: Studio, config: CLoRAConfig, cases: Sequence[Case], *, name: str) -> list[str]:
    """Return the runs of a sequence, one per case; finished ones of this name are not trained again.

    The first concept has no self-regularization, so sequences that differ only in its weight share it.
    """
    known = {run.name: run.id for run in studio.library.list_runs() if run.state == "done"}
    runs: list[str] = []
    for place, (case, word) in enumerate(zip(cases, WORDS, strict=False), start=1):
        weight = f" weight {config.forgetting_weight:g}" if place > 1 else ""
        title = f"{name}{weight} · {place}"
        if title not in known:
            own = replace(config, identifier=word, class_noun=case.subject.kind, measure=False)
            known[title] = studio.training.start("c_lora", own, case.photos, parents=runs[-1:], name=title)
            if studio.training.wait(known[title]) != "done":
                raise SystemExit(f"{title}: {studio.training.status(known[title])['error']}")
        runs.append(known[title])
    return runs


def drawn(studio: Studio, run_id: str, word: str, *, count: int) -> list[Image.Image]:
    """Return pictures of one concept by a run of the sequence."""
    asked = SampleConfig(prompt=f"a photo of {word}", count=count, steps=15, guidance_scale=3.0, seed=500)
    return [Image.open(path).convert("RGB") for path in studio.generation.generate(asked, run_id=run_id)]


def measure(
    studio: Studio, runs: Sequence[str], cases: Sequence[Case], *, count: int, encoders: Encoders
) -> tuple[Result, list[list[Image.Image]]]:
    """Return the scores of a finished sequence, and for each concept its pictures then and at the end."""
    then = [drawn(studio, run, word, count=count) for run, word in zip(runs, WORDS, strict=False)]
    last = [drawn(studio, runs[-1], word, count=count) for word, _ in zip(WORDS, runs[:-1], strict=False)]
    told = [studio.training.status(run)["events"] for run in runs]
    spent = [sum(event["seconds"] for event in events if event["kind"] == "step") for events in told]
    found = [retrieved(pictures, case.lineup, encoders) for pictures, case in zip(then, cases, strict=True)]
    kept = [retrieved(pictures, case.lineup, encoders) for pictures, case in zip(last, cases, strict=False)]
    alike = [dino(encoders, pictures, case.pictures) for pictures, case in zip(then, cases, strict=True)]
    still = [dino(encoders, pictures, case.pictures) for pictures, case in zip(last, cases, strict=False)]
    result = Result(
        plasticity=mean(found),
        kept=mean(kept) if kept else mean(found),
        dino_learned=mean(alike),
        dino_kept=mean(still) if still else mean(alike),
        seconds=mean(spent),
    )
    rows = [[*case.pictures[:1], *pictures[:4]] for case, pictures in zip(cases, then, strict=True)]
    for row, pictures in zip(rows, last, strict=False):
        row += pictures[:4]
    return result, rows


def chart(points: dict[str, Result]) -> str:
    """Return an SVG of the trade-off: kept identity (up) against plasticity (right), one labelled point per weight."""
    inner = SIDE - 2 * MARGIN
    places = {
        label: (MARGIN + inner * one.plasticity, SIDE - MARGIN - inner * one.kept)
        for label, one in points.items()
    }
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places.values())
    marks = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/><text x="{x + 6:.1f}" y="{y - 6:.1f}">{label}</text>'
        for label, (x, y) in places.items()
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIDE} {SIDE}" font-family="sans-serif" font-size="11">'
        f'<rect x="{MARGIN}" y="{MARGIN}" width="{inner}" height="{inner}" fill="none" stroke="#999"/>'
        f'<polyline points="{line}" fill="none" stroke="#36c"/>{marks}'
        f'<text x="{MARGIN}" y="{SIDE - 14}">identity right after learning, 0 to 1</text>'
        f'<text x="{MARGIN}" y="{MARGIN - 14}">identity of the earlier concepts at the end, 0 to 1</text></svg>\n'
    )


def sheet(rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Return the pictures as one image, a row per concept."""
    whole = Image.new("RGB", (128 * max(map(len, rows)), 128 * len(rows)))
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            whole.paste(picture, (128 * x, 128 * y))
    return whole


def candidates(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return the changes of the preset to try by label: one per ``--weights`` for each of ``--try``."""
    tries = {text or "as shipped": candidate(text) for text in args.tries or [""]}
    if not args.weights:
        return tries
    return {
        f"{label} {weight:g}": changed | {"forgetting_weight": weight}
        for label, changed in tries.items()
        for weight in args.weights
    }


def family_name(preset_name: str, changed: dict[str, Any]) -> str:
    """Return the common name of sequences that differ only in the weight of the self-regularization."""
    others = {name: value for name, value in changed.items() if name != "forgetting_weight"}
    return " ".join([preset_name, *(f"{name}={value}" for name, value in sorted(others.items()))])


def main() -> None:
    """Learn a sequence with every candidate and print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--home", type=Path, required=True, help="where runs are kept, to go on from")
    parser.add_argument("--preset", default="Quick")
    parser.add_argument("--concepts", type=int, default=4)
    parser.add_argument("--pictures", type=int, default=8, help="of each concept")
    parser.add_argument("--try", dest="tries", action="append", default=[], help="changes of the preset")
    parser.add_argument("--weights", nargs="*", type=float, default=[], help="of the self-regularization")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--chart", type=Path)
    parser.add_argument("--sheet", type=Path)
    args = parser.parse_args()
    encoders = load_encoders("embedded")
    studio = Studio(args.home)
    cases = []
    for seed in PEOPLE[: args.concepts]:
        folder = args.home / "photos" / str(seed)
        cases.append(make_case("person", seed, folder=folder, encoders=encoders))
    results: dict[str, Result] = {}
    rows: list[list[Image.Image]] = []
    for label, changed in candidates(args).items():
        config = replace(preset("c_lora", "embedded", args.preset), **changed)
        runs = learn(studio, config, cases, name=family_name(args.preset, changed))
        results[label], pictures = measure(studio, runs, cases, count=args.pictures, encoders=encoders)
        rows += pictures
        told = {name: round(value, 3) for name, value in vars(results[label]).items()}
        print(json.dumps({label: told}), flush=True)
    studio.close()
    if args.json:
        told = {label: vars(one) for label, one in results.items()}
        args.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    if args.chart:
        args.chart.write_text(chart(results), encoding="utf-8")
    if args.sheet:
        sheet(rows).save(args.sheet)


if __name__ == "__main__":
    main()
