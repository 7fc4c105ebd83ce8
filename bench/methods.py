"""Compare all training methods on subjects outside the base model's training data.

    python -m bench.methods --json methods.json --sheets sheets

Runs the experiment of the Compare page on the held-out subjects of bench.dreambooth (one unless --subjects is higher)
and adds the recognition rate among fifty similar strangers, which needs the illustrated world's ground truth.
"""

import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

from PIL import Image

from bench.dreambooth import SUBJECTS, Case, make_case, retrieved
from bench.experiments import keep_sheets, options_of, performed, studio_of, text_table, written
from pipelines.evaluation.metrics import load_encoders
from pipelines.experiments.settings import MethodsConfig
from pipelines.experiments.store import LAST
from pipelines.studio import Studio

IDENTIFIER = "sks"
SUMMED = ("dino", "clip_i", "clip_t", "div", "drift")


def recognised(studio: Studio, status: dict[str, Any], case: Case) -> dict[str, float]:
    """Return, per row, the share of pictures that the identity encoder matches to this subject, not to a stranger."""
    experiment, encoders = studio.experiments.store.get(status["id"]), load_encoders("embedded")
    found = {}
    for row in experiment.rows:
        scores = experiment.scores(row.key, LAST) or {}
        files = [experiment.path / name for line in scores.get("pictures", ()) for name in line]
        if files:
            found[row.key] = retrieved(
                [Image.open(path).convert("RGB") for path in files], case.lineup, encoders
            )
    return found


def summary(found: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the means over the subjects, by row."""
    rows: dict[str, dict[str, float]] = {}
    for key in [row["key"] for row in found[0]["rows"]]:
        each = [next(row for row in one["rows"] if row["key"] == key) for one in found]
        rows[key] = {
            name: mean(row["scores"][name]["value"] for row in each if name in row["scores"])
            for name in SUMMED
            if any(name in row["scores"] for row in each)
        }
        shares = [one["recognised"][key] for one in found if key in one["recognised"]]
        rows[key] |= {"recognised": mean(shares)} if shares else {}
    return rows


def main() -> None:
    parser = options_of(__doc__ or "")
    parser.add_argument("--subjects", type=int, default=1, help=f"how many of the {len(SUBJECTS)}")
    parser.add_argument("--methods", nargs="+", default=[], help="leave out all others")
    parser.add_argument(
        "--snapshots", type=int, default=3, help="earlier states of each run that are measured"
    )
    args = parser.parse_args()
    config = MethodsConfig(
        preset=args.preset,
        steps=args.steps,
        seeds=args.seeds,
        snapshots=args.snapshots,
        methods=tuple(args.methods),
    )
    found = []
    with studio_of(args) as studio, tempfile.TemporaryDirectory() as folder:
        for kind, seed in SUBJECTS[: args.subjects]:
            case = make_case(kind, seed, folder=Path(folder) / str(seed), encoders=load_encoders("embedded"))
            words = {"class_noun": kind, "identifier": IDENTIFIER}
            status = performed(studio, "methods", config, list(case.photos), name=case.name, **words)
            shares = recognised(studio, status, case)
            for table in status["tables"]:
                print(f"\n{case.name}\n{text_table(table)}")
            print("recognised among 51: " + ", ".join(f"{key} {share:.0%}" for key, share in shares.items()))
            print("\n".join(status["sentences"]), flush=True)
            keep_sheets(studio, status, args.sheets)
            found.append(status | {"recognised": shares})
    if len(found) > 1:
        for key, values in summary(found).items():
            print(f"{key:<22}" + "  ".join(f"{name} {value:.3f}" for name, value in values.items()))
    written(args.json, {"setting": vars(args), "summary": summary(found), "subjects": found})


if __name__ == "__main__":
    main()
