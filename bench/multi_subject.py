"""Two subjects of one class in one picture: with and without Cut-Mix, with and without Unmix.

    python -m bench.multi_subject --home multi --json multi.json --sheet multi.png
    python -m bench.multi_subject --home multi --quick                         # one pair, spectral shifts, 8 pictures
    python -m bench.multi_subject --home multi --quick --try unmix_weight=1 --try steps=600,learning_rate=0.02

Four pairs of the held-out world (two of people, dogs, plush toys). A picture fails unless each subject is found on one
side. The identity encoder and the parameter reader decide independently of each other: each finds, for the left and the
right square of the picture, the nearest of the two subjects and ten strangers of the same class. Runs and rows are kept
in ``--home``; a command that was interrupted, or that asks for more, continues there.
"""

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

from PIL import Image

from bench.dreambooth import table
from bench.pairs import Pair, alone_right, both_found, make_pair, true_pictures
from bench.sweep import candidate
from pipelines.config import CutMixUnmixConfig, SampleConfig, to_dict
from pipelines.evaluation.embedded_encoders import Instruments
from pipelines.evaluation.metrics import Encoders, load_encoders
from pipelines.methods.specs import preset
from pipelines.studio import Studio

METHOD = "cut_mix_unmix"
PAIRS = (
    ("person", 10_001_101),
    ("person", 10_001_303),
    ("dog", 10_001_505),
    ("plush toy", 10_001_707),
)
PRESETS = {"spectral": "Quick", "lora": "LoRA", "full": "Full"}  # by what is trained
VARIANTS: dict[str, dict[str, Any]] = {
    "joint": {"mix_probability": 0.0},
    "Cut-Mix": {"unmix_weight": 0.0},
    "Cut-Mix-Unmix": {},
}
GUIDANCE = 3.0
FIRST_SEED = 1000
AT_ONCE = 8  # pictures of one job


@dataclass(frozen=True)
class Row:
    """The measurements of one run. Shares are between 0 and 1; ``leakage`` and ``own`` are those of its last step.

    ``failed`` and ``unread``: pictures without one subject on each side, by identity encoder and parameter reader.
    ``alone``: pictures of a single subject that show this subject. ``seconds``: all training steps.
    """

    pair: str
    weights: str
    variant: str
    changes: str
    failed: float
    unread: float
    alone: float
    leakage: float
    own: float
    seconds: float


@dataclass(frozen=True)
class Bench:
    """A Studio with the measuring models, and where results are kept."""

    studio: Studio
    encoders: Encoders
    reader: Instruments
    home: Path
    seeds: int
    sample_steps: int

    def trained(self, name: str, config: CutMixUnmixConfig, pair: Pair) -> dict[str, Any]:
        """Return the status of the finished run of this name; train it if it does not exist."""
        known = [run.id for run in self.studio.library.list_runs() if (run.name, run.state) == (name, "done")]
        run_id = (
            known[0]
            if known
            else self.studio.training.start(METHOD, config, subjects=pair.photographs, name=name)
        )
        if self.studio.training.wait(run_id) != "done":
            raise SystemExit(f"{name}: {self.studio.training.status(run_id)['error']}")
        return self.studio.training.status(run_id)

    def drawn(self, run_id: str, prompt: str, config: CutMixUnmixConfig, *, count: int) -> list[Image.Image]:
        """Return pictures of one prompt with consecutive seeds."""
        asked = SampleConfig(
            prompt=prompt,
            negative_prompt=config.negative_prompt,
            guidance_scale=GUIDANCE,
            steps=self.sample_steps,
        )
        parts = [
            replace(asked, seed=FIRST_SEED + first, count=min(AT_ONCE, count - first))
            for first in range(0, count, AT_ONCE)
        ]
        paths = [path for part in parts for path in self.studio.generation.generate(part, run_id=run_id)]
        return [Image.open(path).convert("RGB") for path in paths]

    def measure(self, pair: Pair, config: CutMixUnmixConfig, *, variant: str, changes: str) -> Row:
        """Train (or find) one run, generate and judge its pictures, and keep the row and its sheet."""
        name = run_name(pair, config)
        kept = self.home / "rows" / f"{name}, {self.seeds} x {self.sample_steps}.json"
        if kept.is_file():
            told = json.loads(kept.read_text(encoding="utf-8"))
            return Row(**told | {"variant": variant, "changes": changes})
        status = self.trained(name, config, pair)
        told = [event for event in status["events"] if event["kind"] == "leakage"][-1]
        together = self.drawn(status["id"], pair.prompt, config, count=self.seeds)
        each = max(2, self.seeds // 6)
        alone = [self.drawn(status["id"], prompt, config, count=each) for prompt in pair.prompts_alone]
        (_, other), (another, _) = told["matrix"]
        failed, unread = (
            1 - mean(found)
            for found in both_found(together, pair, encoders=self.encoders, reader=self.reader)
        )
        row = Row(
            pair=pair.name,
            weights=config.weights,
            variant=variant,
            changes=changes,
            failed=failed,
            unread=unread,
            alone=mean(alone_right(alone, pair, encoders=self.encoders)),
            leakage=(other + another) / 2,
            own=mean(told["own"]),
            seconds=sum(event["seconds"] for event in status["events"] if event["kind"] == "step"),
        )
        kept.parent.mkdir(exist_ok=True)
        photos = [Image.open(one.photo_paths[0]).convert("RGB") for one in pair.photographs]
        strip([*photos, *together[:8], *(shown[0] for shown in alone)]).save(kept.with_suffix(".png"))
        kept.write_text(json.dumps(asdict(row)), encoding="utf-8")
        return row


def run_name(pair: Pair, config: CutMixUnmixConfig) -> str:
    """Return a name that identifies the pair and every setting of a run."""
    settings = json.dumps(to_dict(config), sort_keys=True)
    return f"{pair.name} {hashlib.sha256(settings.encode()).hexdigest()[:10]}"


def config_of(weights: str, changes: str, variant: str) -> CutMixUnmixConfig:
    """Return the preset of ``weights`` with the changes of a ``--try`` and of a variant, without measurements."""
    changed = candidate(changes) | VARIANTS[variant]
    config = replace(preset(METHOD, "embedded", PRESETS[weights]), measure=False)
    steps = changed.get("steps", config.steps)
    return replace(config, **{"sample_every": steps, "sample_prompts": ("a photo of {beside}",), **changed})


def summary(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Return the means over the pairs: one row for each combination of weights, changes and variant."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.weights, row.changes, row.variant), []).append(row)
    shown = ("failed", "unread", "alone", "leakage", "own", "seconds")
    return {
        " ".join(filter(None, key)): {name: mean(getattr(row, name) for row in group) for name in shown}
        for key, group in groups.items()
    }


def verdicts(rows: Sequence[Row]) -> list[str]:
    """Return the ratios between the variants of each weights and changes that have all three."""
    found = summary(rows)
    lines = []
    for weights, changes in dict.fromkeys((row.weights, row.changes) for row in rows):
        names = {variant: " ".join(filter(None, (weights, changes, variant))) for variant in VARIANTS}
        if not set(names.values()) <= found.keys():
            continue
        joint, mixed, full = (found[names[variant]] for variant in VARIANTS)
        failures = ", ".join(
            f"{label} {full[key]:.2f} of {joint[key]:.2f} ({100 * (joint[key] - full[key]):+.0f} points)"
            for label, key in (("identity encoder", "failed"), ("reader", "unread"))
        )
        lines.append(
            f"{weights} {changes}: failures with Cut-Mix-Unmix, of joint training: {failures}; goal 1/3 or +40 points.\n"
            f"  Leakage {full['leakage'] / mixed['leakage']:.2f} x that without Unmix (goal 0.4, floor 0.6), own region "
            f"{full['own'] / mixed['own']:.2f} x (at least 0.8); {full['seconds']:.0f} s a pair."
        )
    return lines


def strip(pictures: Sequence[Image.Image]) -> Image.Image:
    """Return pictures of 128 px side by side."""
    whole = Image.new("RGB", (128 * len(pictures), 128))
    for place, picture in enumerate(pictures):
        whole.paste(picture.resize((128, 128)), (128 * place, 0))
    return whole


def sheet(strips: Sequence[Path]) -> Image.Image:
    """Return the strips of all rows, one below the other: two photographs, eight together, each alone."""
    opened = [Image.open(path) for path in strips]
    whole = Image.new("RGB", (max(each.width for each in opened), 128 * len(opened)))
    for place, each in enumerate(opened):
        whole.paste(each, (0, 128 * place))
    return whole


def parsed() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--home", type=Path, required=True, help="where runs are kept, to go on from")
    parser.add_argument("--pairs", type=int, nargs="+", default=list(range(len(PAIRS))), help="0 to 3")
    parser.add_argument("--seeds", type=int, default=24, help="pictures of each run")
    parser.add_argument("--sample-steps", type=int, default=25)
    parser.add_argument("--weights", nargs="+", default=["spectral", "full"], choices=PRESETS)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--try", dest="tries", action="append", help="changes of the preset; repeatable")
    parser.add_argument("--quick", action="store_true", help="one pair, spectral shifts, 8 pictures")
    parser.add_argument("--base", default="embedded", help="the base model")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sheet", type=Path)
    args = parser.parse_args()
    if args.quick:
        args.pairs, args.seeds, args.weights = args.pairs[:1], 8, args.weights[:1]
    return args


def main() -> None:
    """Measure every pair and print one row per run, then the means and the ratios."""
    args = parsed()
    encoders = load_encoders("embedded")
    assert encoders is not None, "the measuring models ship in assets/instruments"
    studio = Studio(args.home, base=args.base)
    bench = Bench(studio, encoders, Instruments(), args.home, args.seeds, args.sample_steps)
    rows, strips = [], []
    for kind, seed in [PAIRS[place] for place in args.pairs]:
        pair = make_pair(kind, seed, folder=args.home / "photos" / str(seed), encoders=encoders)
        seen = both_found(true_pictures(pair, 24), pair, encoders=encoders, reader=bench.reader)
        print(f"{pair.name}: renders of both are recognised in {[round(mean(each), 2) for each in seen]}")
        for weights in args.weights:
            for changes in args.tries or [""]:
                for variant in args.variants:
                    config = config_of(weights, changes, variant)
                    row = bench.measure(pair, config, variant=variant, changes=changes)
                    print(json.dumps(asdict(row)), flush=True)
                    rows.append(row)
                    name = f"{run_name(pair, config)}, {args.seeds} x {args.sample_steps}.png"
                    strips.append(args.home / "rows" / name)
    studio.close()
    print("\n" + table("means", summary(rows)), *verdicts(rows), sep="\n")
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")
    if args.sheet:
        sheet(strips).save(args.sheet)


if __name__ == "__main__":
    main()
