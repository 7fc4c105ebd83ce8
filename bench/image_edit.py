"""Ten known edits of the illustrated world: each edited picture against the true edited rendering and its original.

    python -m bench.image_edit --home edits --json edits.json --sheet edits.png

Each case is one held-out picture with a caption, learned through the Studio as on the page Edit, and an edited caption.
The world renders the same picture with that edit, which says how the picture should look and which region the edit
leaves alone. The parameter reader must see the edit in the edited picture. The same is measured without inversion (fresh
noise), and with inversion but without fine-tuning. A case already finished in ``--home`` is not trained again.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from PIL import Image

from bench.dreambooth import sheet, table
from pipelines.config import INVERTED_WITH, EditConfig
from pipelines.data.photographs import to_tensor
from pipelines.evaluation.embedded_encoders import Instruments
from pipelines.evaluation.pictures import psnr
from pipelines.methods.specs import preset
from pipelines.studio import Studio
from recipes import world

CHANGED = 0.06  # mean difference of a pixel's channels, 0 to 1, from which the true edit touches it
GROWN_PX = 9  # width of the margin around the pixels that the true edit touches


@dataclass(frozen=True)
class Case:
    """One edit: what the picture shows, the words before and after, and the reader's field that must change.

    ``identity`` and ``after`` set the subject's parameters by name and word; ``view`` and ``view_after`` fields of its
    view; ``picture_after`` fields of the picture.
    """

    name: str
    kind: str
    scene: str
    caption: str
    edited: str
    reads: tuple[str, str, str]  # the reader's group, field and the word that it must read
    identity: Mapping[str, str] = field(default_factory=dict)
    after: Mapping[str, str] = field(default_factory=dict)
    view: Mapping[str, Any] = field(default_factory=dict)
    view_after: Mapping[str, Any] = field(default_factory=dict)
    picture_after: Mapping[str, Any] = field(default_factory=dict)


CASES = (
    Case(
        "hat", "person", "beach", "a photo of a person on the beach", "a photo of a person wearing a red hat on the beach",
        ("picture", "wearable", "hat"), {"glasses": "none", "beard": "none"},
        view_after={"wearable": "hat", "wearable_colour": "red"},
    ),
    Case(
        "glasses", "person", "library", "a photo of a person in the library",
        "a photo of a person with round glasses in the library", ("person", "glasses", "round glasses"),
        {"glasses": "none", "beard": "none"}, {"glasses": "round glasses"},
    ),
    Case(
        "hair colour", "person", "city street", "a photo of a person with black hair on a city street",
        "a photo of a person with blond hair on a city street", ("person", "hair colour", "blond"),
        {"hair colour": "black", "hair style": "bob with a fringe", "glasses": "none"}, {"hair colour": "blond"},
    ),
    Case(
        "smile", "person", "forest", "a photo of a person in the forest", "a photo of a laughing person in the forest",
        ("picture", "expression", "laughing"), {"beard": "none", "glasses": "none"},
        view={"expression": "calm"}, view_after={"expression": "laughing"},
    ),
    Case(
        "scene", "person", "forest", "a photo of a person in the forest", "a photo of a person on the beach",
        ("picture", "scene", "beach"), picture_after={"scene": "beach"},
    ),
    Case(
        "scarf", "cat", "living room", "a photo of a cat in the living room",
        "a photo of a cat wearing a blue scarf in the living room", ("picture", "wearable", "scarf"),
        view_after={"wearable": "scarf", "wearable_colour": "blue"},
    ),
    Case(
        "coat", "dog", "flower garden", "a photo of a brown dog in a flower garden",
        "a photo of a cream dog in a flower garden", ("dog", "coat", "cream"),
        {"coat": "brown"}, {"coat": "cream"},
    ),
    Case(
        "glaze", "teapot", "kitchen", "a photo of a red teapot in the kitchen", "a photo of a blue teapot in the kitchen",
        ("teapot", "glaze", "blue"), {"glaze": "red"}, {"glaze": "blue"},
    ),
    Case(
        "sunglasses", "person", "desert", "a photo of a person in the desert",
        "a photo of a person with sunglasses in the desert", ("person", "glasses", "sunglasses"),
        {"glasses": "none", "beard": "none"}, {"glasses": "sunglasses"},
    ),
    Case(
        "fabric", "plush toy", "beach", "a photo of a pink plush toy on the beach",
        "a photo of a teal plush toy on the beach", ("plush toy", "fabric", "teal"),
        {"fabric": "pink"}, {"fabric": "teal"},
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Drawn:
    """A case as pictures of the world: the original, the true edit, and where the edit leaves it alone, (H, W) bool."""

    original: Image.Image
    true: Image.Image
    kept: np.ndarray


def draw(case: Case, seed: int) -> Drawn:
    """Render the original and the true edit of a case from a held-out seed."""
    rng = np.random.default_rng(seed)
    subject = _with_words(world.sample_subject(rng, case.kind), case.identity)
    light = world.lights_of(case.scene)[0]
    choice = world.Choice(
        subject=subject, scene=case.scene, light=light, style="photo", wearable="", expression="calm"
    )
    picture = world.sample_picture(rng, choice)
    (placed,) = picture.placed
    before = replace(picture, placed=(replace(placed, view=replace(placed.view, **case.view)),))
    changed = replace(
        placed,
        subject=_with_words(subject, case.after),
        view=replace(placed.view, **{**case.view, **case.view_after}),
    )
    after = replace(picture, placed=(changed,), **case.picture_after)
    original, true = world.draw(before), world.draw(after)
    return Drawn(original, true, _kept(original, true))


def _with_words(subject: world.Subject, words: Mapping[str, str]) -> world.Subject:
    values = {param.name: param.values for param in world.PARAMS[subject.kind]}
    chosen = {name: float(values[name].index(word)) for name, word in words.items()}
    return world.Subject(subject.kind, {**subject.identity, **chosen})


def _kept(original: Image.Image, true: Image.Image) -> np.ndarray:
    """Return where the two renderings agree, away from where they differ."""
    gap = (to_tensor([original]) - to_tensor([true])).abs().mean(1, keepdim=True) / 2
    touched = torch.nn.functional.max_pool2d(
        (gap > CHANGED).float(), 2 * GROWN_PX + 1, stride=1, padding=GROWN_PX
    )
    return touched[0, 0].numpy() < 0.5


# ---- measuring -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One picture of a case: whether the reader sees the edit, and its PSNR in dB against the original, where the edit
    leaves it alone, and against the true edit."""

    case: str
    variant: str
    seen: float
    kept_db: float
    true_db: float


VARIANTS: dict[
    str, dict[str, Any]
] = {  # what is edited with: changes of EditConfig, and whether with the run
    "inversion": {},
    "inversion with the caption": {"inverted_with": INVERTED_WITH[1]},
    "no inversion": {"change": 1.0},
    "no fine-tuning": {"fine_tuned": False},
}


def kept_psnr(found: Image.Image, drawn: Drawn) -> float:
    """Return the PSNR in dB against the original, where the true edit leaves it alone."""
    error = (to_tensor([found]) - to_tensor([drawn.original])).square().mean(1)[0].numpy()
    return float(10 * np.log10(4 / error[drawn.kept].mean()))


def sees(reader: Instruments, found: Image.Image, case: Case) -> float:
    """Return 1.0 if the reader sees the edit in a picture, else 0.0."""
    group, name, word = case.reads
    return float(reader.read(to_tensor([found]), group)[0][name] == word)


def learned(studio: Studio, case: Case, photo: Path, config: Any) -> str:
    """Return the id of the finished run that learned a case; train it if it does not exist."""
    name = f"{case.name} {config.steps}"
    known = [run.id for run in studio.library.list_runs() if (run.name, run.state) == (name, "done")]
    run_id = known[0] if known else studio.training.start("image_edit", config, [photo], name=name)
    if not known and studio.training.wait(run_id) != "done":
        raise SystemExit(f"{name}: {studio.training.status(run_id)['error']}")
    return run_id


def measure(
    studio: Studio, case: Case, seed: int, args: argparse.Namespace
) -> tuple[list[Row], list[Image.Image]]:
    """Return a row for each variant and for the pictures that bound them, and the pictures of the contact sheet."""
    drawn, reader = draw(case, seed), Instruments()
    photo = args.home / "photos" / f"{case.name}.png"
    photo.parent.mkdir(parents=True, exist_ok=True)
    drawn.original.save(photo)
    quick = preset("image_edit", "embedded")
    config = replace(quick, caption=case.caption, measure=False, steps=args.steps or quick.steps)
    run_id = learned(studio, case, photo, config)
    asked = EditConfig(prompt=case.edited, steps=args.edit_steps, guidance_scale=args.guidance)
    again = studio.editing.reconstruct(run_id, steps=args.edit_steps)
    pictures = {
        "the photograph": drawn.original,
        "true edit": drawn.true,
        "reconstruction": _opened(again.picture),
    }
    for variant, changed in VARIANTS.items():
        more = dict(changed)
        fine_tuned = more.pop("fine_tuned", True)
        path = studio.editing.edit(run_id, replace(asked, **more), fine_tuned=fine_tuned)
        pictures[variant] = _opened(path)
    rows = [
        Row(case.name, label, sees(reader, found, case), kept_psnr(found, drawn), psnr(found, drawn.true))
        for label, found in pictures.items()
        if label != "the photograph"
    ]
    return rows, list(pictures.values())


def _opened(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB")


def verdict(rows: Sequence[Row]) -> str:
    """Compare the share of edits that the reader sees with floor and goal, and inversion with editing without it."""
    by_case = {(row.case, row.variant): row for row in rows}
    cases = list(dict.fromkeys(row.case for row in rows))
    seen = mean(by_case[case, "inversion"].seen for case in cases)
    better = sum(by_case[case, "inversion"].kept_db > by_case[case, "no inversion"].kept_db for case in cases)
    reached = "goal 0.8" if seen >= 0.8 else "floor 0.6" if seen >= 0.6 else "BELOW THE FLOOR 0.6"
    return (
        f"the reader sees {seen:.0%} of the edits: {reached}\n"
        f"unedited region: inversion is closer to the original than no inversion in {better} of {len(cases)} cases"
    )


def main() -> None:
    """Measure every case and print the means of each variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--home", type=Path, required=True, help="where runs are kept, to go on from")
    parser.add_argument("--cases", type=int, default=len(CASES))
    parser.add_argument("--steps", type=int, default=0, help="training steps; 0: the preset's")
    parser.add_argument("--edit-steps", type=int, default=EditConfig().steps)
    parser.add_argument("--guidance", type=float, default=EditConfig().guidance_scale)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sheet", type=Path)
    args = parser.parse_args()
    studio, rows, sheets = Studio(args.home), [], []
    for index, case in enumerate(CASES[: args.cases]):
        found, pictures = measure(studio, case, world.HELD_OUT_FROM + 70_000 + index, args)
        rows += found
        sheets.append(pictures)
        for row in found:
            print(json.dumps(asdict(row)), flush=True)
        if args.sheet:
            sheet(sheets).save(args.sheet)
    studio.close()
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")
    labels = list(dict.fromkeys(row.variant for row in rows))
    means = {
        label: {
            "seen": mean(row.seen for row in rows if row.variant == label),
            "unedited region, dB": mean(row.kept_db for row in rows if row.variant == label),
            "true edit, dB": mean(min(row.true_db, 99.0) for row in rows if row.variant == label),
        }
        for label in labels
    }
    print(f"\n{table(f'{len(sheets)} edits', means)}\n\n{verdict(rows)}")


if __name__ == "__main__":
    main()
