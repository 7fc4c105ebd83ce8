"""Block-wise LoRA: three characters in two styles, none of them in the base model's training data.

    python -m bench.blocks --home DIR --json blocks.json --sheets sheets

Runs the experiment of the Compare page for each pair. Scores are (score - base) / (reference - base): identity
against the character's photographs, style against the style's pictures. The confidence interval of a mean comes from
a bootstrap over the pairs. The adapters of each character and style are trained once and reused for all its pairs.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from bench.dreambooth import SUBJECTS, make_case
from bench.experiments import keep_sheets, options_of, performed, studio_of, text_table, written
from pipelines.evaluation.metrics import load_encoders
from pipelines.experiments.settings import BlocksConfig
from pipelines.studio import Studio
from recipes.style_pictures import style_pictures
from recipes.world import UNSEEN_STYLES

CHARACTER_WORD, STYLE_WORD = "sks", "qev"
CHARACTERS = 3
DRAWS = 2000
SCORES = ("identity", "style", "clip_t")
COSTS = ("trainable", "character_seconds", "style_seconds")


def finished_runs(studio: Studio, name: str, photos: str) -> dict[str, str]:
    """Return the finished runs on one set of photographs, by key, from experiments whose name contains ``name``."""
    found = {}
    for told in studio.experiments.list():
        if name not in told["name"].split(" in ") or told["kind"] != "blocks":
            continue
        for run in studio.experiments.store.get(told["id"]).runs:
            if run.photos == photos and run.run and studio.resources.store.get(run.run).state == "done":
                found[run.key] = run.run
    return found


def mean_interval(values: Sequence[float], *, seed: int = 0) -> dict[str, float]:
    """Return the mean of one value per pair, with its central 95 % bootstrap interval over pairs."""
    drawn = np.random.default_rng(seed).choice(values, size=(DRAWS, len(values))).mean(1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return {"value": mean(values), "low": float(low), "high": float(high)}


def summary(pairs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the means over the pairs for every row."""
    rows: dict[str, dict[str, Any]] = {}
    for key in [row["key"] for row in pairs[0]["rows"]]:
        each = [next(row for row in pair["rows"] if row["key"] == key) for pair in pairs]
        rows[key] = {
            name: mean_interval([row["scores"][name]["value"] for row in each if name in row["scores"]])
            for name in SCORES
            if any(name in row["scores"] for row in each)
        }
        rows[key] |= {
            name: mean(row["facts"][name] for row in each)
            for name in COSTS
            if all(name in row["facts"] for row in each)
        }
    return rows


def told(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the summary as aligned text."""
    lines = [f"{'mean over the pairs':<22}" + "".join(f"{name:>24}" for name in (*SCORES, *COSTS))]
    for key, row in rows.items():
        scores = [
            f"{row[name]['value']:.3f} ({row[name]['low']:.2f}..{row[name]['high']:.2f})"
            if name in row
            else "-"
            for name in SCORES
        ]
        costs = [f"{row[name]:,.1f}" if name in row else "-" for name in COSTS]
        lines.append(f"{key:<22}" + "".join(f"{cell:>24}" for cell in (*scores, *costs)))
    return "\n".join(lines)


def main() -> None:
    parser = options_of(__doc__ or "")
    parser.add_argument("--characters", type=int, default=CHARACTERS, help="how many")
    parser.add_argument("--styles", nargs="+", default=list(UNSEEN_STYLES), help="of the illustrated world")
    args = parser.parse_args()
    config = BlocksConfig(preset=args.preset, steps=args.steps, seeds=args.seeds)
    pairs = []
    with studio_of(args) as studio, tempfile.TemporaryDirectory() as name:
        folder, encoders = Path(name), load_encoders("embedded")
        drawn = {style: style_pictures(style, folder / style) for style in args.styles}
        for kind, seed in SUBJECTS[: args.characters]:
            case = make_case(kind, seed, folder=folder / str(seed), encoders=encoders)
            for style in args.styles:
                ready = finished_runs(studio, case.name, "character") | finished_runs(studio, style, "style")
                status = performed(
                    studio, "blocks", config, list(case.photos), name=f"{case.name} in {style}", class_noun=kind,
                    identifier=CHARACTER_WORD, style_word=STYLE_WORD, style_paths=list(drawn[style]),
                    style_captions={path.name: text for path, text in drawn[style].items()}, runs=ready,
                )  # fmt: skip
                print(
                    "\n".join(["", status["name"], *map(text_table, status["tables"]), *status["sentences"]]),
                    flush=True,
                )
                keep_sheets(studio, status, args.sheets)
                pairs.append(status)
    print("\n" + told(summary(pairs)))
    written(args.json, {"setting": vars(args), "summary": summary(pairs), "pairs": pairs})


if __name__ == "__main__":
    main()
