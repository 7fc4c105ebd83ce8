"""Two subjects of one class in one picture: with and without Cut-Mix, with and without Unmix.

    python -m bench.multi_subject --home multi --json multi.json --sheet multi.png

Four pairs of the held-out world (two of people, dogs, plush toys). For the left and right square of each picture, the
identity encoder picks the nearest of the two subjects and the strangers, and the parameter reader predicts the kind. A
picture fails unless each subject is found on one side. A variant already finished in ``--home`` is not trained again.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from bench.dreambooth import embedding, render
from pipelines.config import ASSETS, SampleConfig
from pipelines.data.photographs import to_tensor
from pipelines.data.subject import SubjectPhotos
from pipelines.evaluation.embedded_encoders import Instruments
from pipelines.evaluation.metrics import Encoders, load_encoders, pairwise
from pipelines.methods.specs import preset
from pipelines.studio import Studio
from recipes import world

PAIRS = (
    ("person", 10_001_101),
    ("person", 10_001_303),
    ("dog", 10_001_505),
    ("plush toy", 10_001_707),
)
WORDS = ("zwx", "qev")
PHOTOS = 4
STRANGERS = 10
SQUARES = (
    (0, 40, 80, 120),
    (48, 40, 128, 120),
)  # in a 128 px picture: where the renderer places each of two subjects
VARIANTS: dict[str, dict[str, Any]] = {
    "joint": {"mix_probability": 0.0},
    "Cut-Mix": {"unmix_weight": 0.0},
    "Cut-Mix-Unmix": {},
}
GUIDANCE = 3.0


def make_pair(
    kind: str, seed: int, *, folder: Path, encoders: Encoders
) -> tuple[list[SubjectPhotos], torch.Tensor]:
    """Return two subjects with photographs, and the line-up (2 + STRANGERS, D), which begins with the subjects."""
    rng = np.random.default_rng(seed)
    members = [world.sample_subject(rng, kind) for _ in WORDS]
    scenes = [str(scene) for scene in rng.permutation(world.SCENES)]
    subjects = []
    for word, member in zip(WORDS, members, strict=True):
        (folder / word).mkdir(parents=True, exist_ok=True)
        paths = [folder / word / f"{index:02d}.png" for index in range(PHOTOS)]
        for path, scene in zip(paths, scenes, strict=False):
            render(member, scene, rng).save(path)
        subjects.append(SubjectPhotos(word, kind, paths))
    strangers = [world.sample_subject(rng, kind) for _ in range(STRANGERS)]
    return subjects, torch.stack([embedding(one, scenes, rng, encoders) for one in (*members, *strangers)])


def judged(
    pictures: Sequence[Image.Image],
    kind: str,
    *,
    lineup: torch.Tensor,
    encoders: Encoders,
    reader: Instruments,
) -> tuple[float, float]:
    """Return the shares of failed pictures according to the identity encoder and to the reader (kind on both sides)."""
    sides = [
        [picture.crop(box).resize((128, 128), Image.Resampling.BICUBIC) for picture in pictures]
        for box in SQUARES
    ]
    found = [pairwise(encoders.identity.image_features(side), lineup).argmax(1).tolist() for side in sides]
    kinds = [[row["kind"] for row in reader.read(to_tensor(side), "picture")] for side in sides]
    alike = [{left, right} == {0, 1} for left, right in zip(*found, strict=True)]
    seen = [left == right == kind for left, right in zip(*kinds, strict=True)]
    return 1 - sum(alike) / len(alike), 1 - sum(seen) / len(seen)


def trained(studio: Studio, name: str, config: Any, subjects: Sequence[SubjectPhotos]) -> dict[str, Any]:
    """Return the status of the finished run of this name; train it if it does not exist."""
    known = [run.id for run in studio.library.list_runs() if (run.name, run.state) == (name, "done")]
    run_id = known[0] if known else ""
    if not run_id:
        run_id = studio.training.start("cut_mix_unmix", config, subjects=subjects, name=name)
        if studio.training.wait(run_id) != "done":
            raise SystemExit(f"{name}: {studio.training.status(run_id)['error']}")
    return studio.training.status(run_id)


def measure(
    studio: Studio, args: argparse.Namespace, *, kind: str, seed: int, weights: str
) -> tuple[list[dict[str, Any]], list[list[Image.Image]]]:
    """Return one row per variant for one pair, and the first pictures of each."""
    encoders, reader = load_encoders("embedded"), Instruments()
    assert encoders is not None, f"the instruments are in {ASSETS}"
    subjects, lineup = make_pair(kind, seed, folder=args.home / "photos" / str(seed), encoders=encoders)
    quick = preset("cut_mix_unmix", "embedded")
    full = {"weights": "full", "learning_rate": 1e-3, "text_encoder": False} if weights == "full" else {}
    steps = {"steps": args.steps, "warmup_steps": min(10, args.steps), "sample_every": args.steps}
    rows, sheets = [], []
    for variant, changed in VARIANTS.items():
        config = replace(quick, **{"measure": False, **full, **steps, **changed})
        name = f"{kind} {seed} {weights} {variant} {args.steps}"
        status = trained(studio, name, config, subjects)
        told = [event for event in status["events"] if event["kind"] == "leakage"][-1]
        asked = SampleConfig(
            prompt=f"a photo of a {WORDS[0]} {kind} beside a {WORDS[1]} {kind}",
            negative_prompt=config.negative_prompt,
            guidance_scale=GUIDANCE,
        )
        paths = [
            path
            for first in range(0, args.seeds, 8)
            for path in studio.generation.generate(
                replace(asked, seed=1000 + first, count=min(8, args.seeds - first)), run_id=status["id"]
            )
        ]
        drawn = [Image.open(path).convert("RGB") for path in paths]
        failed, unread = judged(drawn, kind, lineup=lineup, encoders=encoders, reader=reader)
        matrix = told["matrix"]
        seconds = sum(event["seconds"] for event in status["events"] if event["kind"] == "step")
        row = {
            "pair": f"{kind} {seed}", "weights": weights, "variant": variant, "failed": failed,
            "unread": unread, "leakage": (matrix[0][1] + matrix[1][0]) / 2, "own": sum(told["own"]) / 2,
            "seconds": seconds,
        }  # fmt: skip
        print(
            json.dumps({key: round(v, 3) if isinstance(v, float) else v for key, v in row.items()}),
            flush=True,
        )
        rows.append(row)
        sheets.append(drawn[:8])
    return rows, sheets


def main() -> None:
    """Measure every pair and print one row per variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--home", type=Path, required=True, help="where runs are kept, to go on from")
    parser.add_argument("--pairs", type=int, default=len(PAIRS))
    parser.add_argument("--seeds", type=int, default=24, help="pictures of each variant")
    parser.add_argument("--steps", type=int, default=480)
    parser.add_argument(
        "--weights", nargs="+", default=["spectral", "full"], choices=["spectral", "lora", "full"]
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sheet", type=Path)
    args = parser.parse_args()
    studio = Studio(args.home)
    rows, sheets = [], []
    for kind, seed in PAIRS[: args.pairs]:
        for weights in args.weights:
            found, drawn = measure(studio, args, kind=kind, seed=seed, weights=weights)
            rows += found
            sheets += drawn
    studio.close()
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    if args.sheet:
        whole = Image.new("RGB", (128 * max(map(len, sheets)), 128 * len(sheets)))
        for y, line in enumerate(sheets):
            for x, picture in enumerate(line):
                whole.paste(picture, (128 * x, 128 * y))
        whole.save(args.sheet)


if __name__ == "__main__":
    main()
