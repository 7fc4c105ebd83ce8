"""What the numbers of a DreamBooth preset should be: every candidate on the same held-out subjects, one row each.

    python -m bench.sweep --preset Quick --try learning_rate=0.001 --try rank=8,steps=300 --json sweep.json

The subjects are not those of ``bench.dreambooth``, so that the preset is not chosen on what it is judged by.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from bench.dreambooth import Asker, Case, make_case, score, sheet, table, train
from pipelines.config import ASSETS, DreamBoothConfig, preset
from pipelines.metrics import Encoders, load_encoders
from pipelines.studio import Studio

SUBJECTS = (("person", 10_000_606), ("dog", 10_000_707), ("person", 10_000_808))


def candidate(text: str) -> dict[str, Any]:
    """``"rank=8,learning_rate=0.001"`` as a dict; values are JSON, or plain words."""
    found: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        try:
            found[name.strip()] = json.loads(value)
        except json.JSONDecodeError:
            found[name.strip()] = value.strip()
    return found


def judge(
    config: DreamBoothConfig, cases: list[Case], *, ask: Asker, encoders: Encoders
) -> tuple[dict[str, float], list[list[Any]]]:
    """Means over the subjects, and a row of pictures for each."""
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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="Quick", help="the shipped preset the candidates start from")
    parser.add_argument("--try", dest="tries", action="append", default=[], help="changes of it; repeatable")
    parser.add_argument("--subjects", type=int, default=2, help=f"how many of the {len(SUBJECTS)}")
    parser.add_argument("--seeds", type=int, default=2, help="pictures per scene")
    parser.add_argument("--threads", type=int, default=2, help="cores to use")
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet here, a row for each run")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    start = preset("dreambooth", "embedded", args.preset)
    guidance = json.loads((ASSETS / "base" / "atelier.json").read_text())["guidance_scale"]
    encoders = load_encoders("embedded")
    rows: dict[str, dict[str, float]] = {}
    pictures = []
    with tempfile.TemporaryDirectory(prefix="atelier-sweep-") as folder:
        studio = Studio(root=Path(folder) / "home")
        try:
            ask = Asker(studio=studio, seeds=args.seeds, guidance_scale=guidance)
            cases = [
                make_case(kind, seed, folder=Path(folder) / str(seed), encoders=encoders)
                for kind, seed in SUBJECTS[: args.subjects]
            ]
            for text in ["", *args.tries]:
                config = replace(start, **candidate(text))
                rows[text or "as shipped"], drawn = judge(config, cases, ask=ask, encoders=encoders)
                pictures += drawn
                print(json.dumps({text or "as shipped": rows[text or "as shipped"]}), flush=True)
        finally:
            studio.close()
    print("\n" + table(f"{args.preset}, {args.subjects} subjects, {args.seeds} seeds", rows))
    if args.json:
        args.json.write_text(json.dumps({"preset": args.preset, "rows": rows}, indent=1))
    if args.sheet:
        sheet(pictures).save(args.sheet)


if __name__ == "__main__":
    main()
