"""Hyperparameter sweep for a preset: every candidate on the same held-out subjects, one row each.

    python -m bench.sweep --preset Quick --try learning_rate=0.001 --try rank=8,steps=300 --json sweep.json
    python -m bench.sweep --method svdiff --try learning_rate=0.01 --try subset=UNet-CA

The subjects differ from those of ``bench.dreambooth``, so that the preset is not tuned on its test set.
"""

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from bench.dreambooth import Asker, Case, asking, make_case, options_for, score, sheet, table, train
from pipelines.config import SubjectConfig
from pipelines.evaluation.metrics import Encoders, load_encoders
from pipelines.methods.specs import preset

SUBJECTS = (("person", 10_000_606), ("dog", 10_000_707), ("person", 10_000_808))


def candidate(text: str) -> dict[str, Any]:
    """Parse ``"rank=8,learning_rate=0.001"`` into a dict; values are JSON or plain words."""
    found: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        try:
            found[name.strip()] = json.loads(value)
        except json.JSONDecodeError:
            found[name.strip()] = value.strip()
    return found


def judge(
    config: SubjectConfig, cases: list[Case], *, ask: Asker, encoders: Encoders
) -> tuple[dict[str, float], list[list[Any]]]:
    """Return the means over the subjects, and a row of pictures for each subject."""
    rows, drawn_rows = [], []
    for case in cases:
        own = replace(config, class_noun=case.subject.kind, measure=False)
        run = train(ask.studio, case, own)
        drawn = ask.scenes(case, f"{own.identifier} {own.class_noun}", run_id=run.run_id)
        found = score(case, drawn, encoders)
        rows.append(
            {
                "identity": found.identity_retrieved,
                "scene": found.scene_right,
                "dino": found.dino,
                "seconds": run.final_sample_s,
            }
        )
        drawn_rows.append([*case.pictures, *drawn[:: ask.seeds]])
    return {name: mean(row[name] for row in rows) for name in rows[0]}, drawn_rows


def main() -> None:
    parser = options_for(__doc__, subjects=len(SUBJECTS), seeds=2)
    parser.add_argument("--try", dest="tries", action="append", default=[], help="changes of it; repeatable")
    args = parser.parse_args()
    start = preset(args.method, "embedded", args.preset)
    encoders = load_encoders("embedded")
    rows: dict[str, dict[str, float]] = {}
    pictures = []
    with tempfile.TemporaryDirectory(prefix="atelier-sweep-") as name, asking(args, folder=Path(name)) as ask:
        cases = [
            make_case(kind, seed, folder=Path(name) / str(seed), encoders=encoders)
            for kind, seed in SUBJECTS[: args.subjects]
        ]
        for text in ["", *args.tries]:
            config = replace(start, **candidate(text))
            rows[text or "as shipped"], drawn = judge(config, cases, ask=ask, encoders=encoders)
            pictures += drawn
            print(json.dumps({text or "as shipped": rows[text or "as shipped"]}), flush=True)
    print("\n" + table(f"{args.method}, {args.preset}, {args.subjects} subjects, {args.seeds} seeds", rows))
    if args.json:
        args.json.write_text(
            json.dumps({"method": args.method, "preset": args.preset, "rows": rows}, indent=1)
        )
    if args.sheet:
        sheet(pictures).save(args.sheet)


if __name__ == "__main__":
    main()
