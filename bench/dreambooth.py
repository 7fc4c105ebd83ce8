"""DreamBooth on subjects outside the base model's training data: time, likeness, prompt fidelity, effect on the class.

    python -m bench.dreambooth --json dreambooth.json --sheet dreambooth.png

Four people and a dog from the held-out world, four pictures of each in four scenes; the prompts name five other
scenes. Everything goes through the Studio, as a click on the page would. The illustrated world provides ground truth
that photographs lack: each subject's fifty most similar strangers by true parameters, and the words that describe it.
"""

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import torch
from PIL import Image

from pipelines.config import ASSETS, PriorConfig, SampleConfig, SubjectConfig
from pipelines.evaluation.metrics import Encoders, clip_i, dino, div, load_encoders, pairwise, pres
from pipelines.methods.specs import METHODS, preset
from pipelines.studio import Studio
from recipes import world
from recipes.captions import SCENE_PHRASES, phrases_of

SUBJECTS = (
    ("person", 10_000_101),
    ("person", 10_000_202),
    ("person", 10_000_303),
    ("person", 10_000_404),
    ("dog", 10_000_505),
)
PHOTOS = 4
SCENES_ASKED = 5
DISTRACTORS = 50
RENDERS = 6  # pictures averaged into the embedding of one member of the line-up
CLASS_PICTURES = 8
WRONG_NOUNS = {"person": "teapot", "dog": "tower"}
CLASS_STAGE = "Drawing class images"
PARTS = ("headline", "prior", "noun")

BEFORE_NOUN = ("coat",)

Target = tuple[float, float | None, bool]  # floor, goal (None: no goal), True if higher is better
TARGETS: dict[str, dict[str, Target]] = {  # by method, then by row of the summary
    "dreambooth": {
        "click to final sample, s": (60.0, 30.0, False),
        "identity retrieved": (0.80, 0.90, True),
        "scene right": (0.75, 0.85, True),
    },
    "svdiff": {
        "click to final sample, s": (60.0, None, False),
        "identity retrieved": (0.70, 0.85, True),
    },
}


@dataclass(frozen=True)
class Case:
    """One subject: its photographs, the scenes of the prompts, and the line-up for the retrieval score."""

    name: str
    subject: world.Subject
    photos: tuple[Path, ...]
    scenes: tuple[str, ...]
    lineup: torch.Tensor  # (1 + DISTRACTORS, D) unit rows, the true subject first
    renders: tuple[
        Image.Image, ...
    ]  # of the true subject in the prompted scenes: what a perfect model would generate

    @property
    def pictures(self) -> list[Image.Image]:
        return [Image.open(path).convert("RGB") for path in self.photos]


@dataclass(frozen=True)
class Trained:
    """One finished run and its timings, in seconds from the click."""

    run_id: str
    final_sample_s: float  # without the time for class images
    class_images_s: float
    step_s: float


@dataclass(frozen=True)
class Scores:
    """Means over the pictures of one subject; retrieval and scene are shares of pictures."""

    identity_retrieved: float
    scene_right: float
    dino: float
    clip_i: float


# ---- subjects -------------------------------------------------------------------------------------------------------


def render(subject: world.Subject, scene: str, rng: np.random.Generator) -> Image.Image:
    """Render the subject in a scene, in the shaded style, without hat or scarf; pose, light and clothing are random."""
    choice = world.Choice(subject=subject, scene=scene, style="photo", wearable="")
    return world.draw(world.sample_picture(rng, choice))


def make_case(kind: str, seed: int, *, folder: Path, encoders: Encoders) -> Case:
    """Render everything needed for one held-out subject; deterministic for a given seed."""
    rng = np.random.default_rng(seed)
    subject = world.sample_subject(rng, kind)
    scenes = [str(scene) for scene in rng.permutation(world.SCENES)]
    seen, asked = scenes[:PHOTOS], scenes[-SCENES_ASKED:]
    folder.mkdir(parents=True, exist_ok=True)
    photos = []
    for index, scene in enumerate(seen):
        photos.append(folder / f"{index:02d}.png")
        render(subject, scene, rng).save(photos[-1])
    strangers = world.distractors(subject, seed + 1, count=DISTRACTORS)
    return Case(
        name=f"{kind} {seed - world.HELD_OUT_FROM}",
        subject=subject,
        photos=tuple(photos),
        scenes=tuple(asked),
        lineup=torch.stack([embedding(member, scenes, rng, encoders) for member in (subject, *strangers)]),
        renders=tuple(render(subject, scene, rng) for scene in asked for _ in range(4)),
    )


def embedding(
    subject: world.Subject, scenes: Sequence[str], rng: np.random.Generator, encoders: Encoders
) -> torch.Tensor:
    """Return (D,): the normalised mean of the identity features of several renders in different scenes."""
    pictures = [
        render(subject, scene, rng) for scene in rng.choice(np.asarray(scenes), RENDERS, replace=False)
    ]
    return torch.nn.functional.normalize(encoders.identity.image_features(pictures).mean(0), dim=0)


def in_words(subject: world.Subject) -> str:
    """Return the subject's true attributes that captions can name: "person with red hair and round glasses"."""
    known = world.attributes(subject)
    noun = " ".join([*(known[name] for name in BEFORE_NOUN if name in known), subject.kind])
    phrases = [phrases_of(subject.kind, name, known[name])[0] for name in known if name not in BEFORE_NOUN]
    if not phrases:
        return noun
    return f"{noun} with {' and '.join(filter(None, [', '.join(phrases[:-1]), phrases[-1]]))}"


def with_article(words: str) -> str:
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


# ---- runs and pictures ----------------------------------------------------------------------------------------------


def train(studio: Studio, case: Case, config: SubjectConfig) -> Trained:
    """Start a run, as a click would, and wait until it has finished. Raises ValueError if it failed."""
    clicked = time.time()
    method = next(name for name, spec in METHODS.items() if spec.config is type(config))
    run_id = studio.training.start(method, config, list(case.photos), name=case.name)
    while (status := studio.training.status(run_id))["state"] not in (
        "done",
        "failed",
        "stopped",
        "interrupted",
    ):
        time.sleep(0.25)
    if status["state"] != "done":
        raise ValueError(f"The run of {case.name} ended as {status['state']}: {status['error']}")
    return clock(run_id, status["events"], clicked=clicked)


def clock(run_id: str, events: Sequence[dict[str, Any]], *, clicked: float) -> Trained:
    """Read the timings from a run's events: the last row of samples is labelled "after"."""
    final = max(event["t"] for event in events if event["kind"] == "sample" and event["label"] == "after")
    drawing = [event["t"] for event in events if event["kind"] == "stage" and event["name"] == CLASS_STAGE]
    class_s = drawing[-1] - drawing[0] if drawing else 0.0
    steps = [event["seconds"] for event in events if event["kind"] == "step"]
    return Trained(
        run_id=run_id, final_sample_s=final - clicked - class_s, class_images_s=class_s, step_s=median(steps)
    )


def pictures(
    studio: Studio, prompt: str, *, run_id: str | None, count: int, guidance_scale: float, seed: int = 0
) -> list[Image.Image]:
    """Generate pictures for one prompt with consecutive seeds."""
    config = SampleConfig(prompt=prompt, count=count, guidance_scale=guidance_scale, seed=seed)
    return [Image.open(path).convert("RGB") for path in studio.generation.generate(config, run_id=run_id)]


@dataclass(frozen=True)
class Asker:
    """Generates "a photo of [words] [scene]" for every scene of a case, several seeds each."""

    studio: Studio
    seeds: int
    guidance_scale: float

    def scenes(self, case: Case, words: str, *, run_id: str | None) -> list[Image.Image]:
        """Return pictures in the order of the scenes, ``seeds`` for each."""
        drawn = []
        for scene in case.scenes:
            prompt = f"a photo of {with_article(words)} {SCENE_PHRASES[scene][0]}"
            drawn += self.one(prompt, run_id=run_id, count=self.seeds)
        return drawn

    def one(self, prompt: str, *, run_id: str | None, count: int) -> list[Image.Image]:
        return pictures(self.studio, prompt, run_id=run_id, count=count, guidance_scale=self.guidance_scale)


# ---- scores ---------------------------------------------------------------------------------------------------------


def score(case: Case, drawn: Sequence[Image.Image], encoders: Encoders) -> Scores:
    """Score pictures given in the order of the case's scenes, with the same number for each scene."""
    each = len(drawn) // len(case.scenes)
    asked = [scene for scene in case.scenes for _ in range(each)]
    return Scores(
        identity_retrieved=retrieved(drawn, case.lineup, encoders),
        scene_right=scene_right(drawn, asked, encoders, noun=case.subject.kind),
        dino=dino(encoders, drawn, case.pictures),
        clip_i=clip_i(encoders, drawn, case.pictures),
    )


def retrieved(drawn: Sequence[Image.Image], lineup: torch.Tensor, encoders: Encoders) -> float:
    """Return the share of pictures whose nearest member of the line-up is the first one (the subject)."""
    nearest = pairwise(encoders.identity.image_features(drawn), lineup).argmax(1)
    return float((nearest == 0).float().mean())


def scene_right(
    drawn: Sequence[Image.Image], asked: Sequence[str], encoders: Encoders, *, noun: str
) -> float:
    """Return the share of pictures that CLIP, zero-shot over all ten scenes, assigns to the prompted scene."""
    texts = encoders.clip.text_features(
        [f"a photo of a {noun} {SCENE_PHRASES[scene][0]}" for scene in world.SCENES]
    )
    assert texts is not None, "a CLIP reads words"
    found = pairwise(encoders.clip.image_features(drawn), texts).argmax(1)
    wanted = torch.tensor([world.SCENES.index(scene) for scene in asked])
    return float((found == wanted).float().mean())


def prior_scores(
    case: Case, config: SubjectConfig, run_id: str | None, ask: Asker, encoders: Encoders
) -> dict[str, float]:
    """Return PRES and DIV of one run; with run None, of the base model."""
    of_class = ask.one(config.words(config.class_prompt), run_id=run_id, count=CLASS_PICTURES)
    of_subject = ask.one(config.words(config.instance_prompt), run_id=run_id, count=CLASS_PICTURES)
    return {
        "pres": pres(encoders, of_class, case.pictures),
        "div": div(encoders, of_subject),
        "div of the class": div(encoders, of_class),
    }


# ---- the three benchmarks ----------------------------------------------------------------------------------------


def bench_case(
    case: Case, config: SubjectConfig, *, ask: Asker, encoders: Encoders, parts: Iterable[str]
) -> tuple[dict[str, Any], list[Image.Image]]:
    """Return all measurements of one subject, and its row of the contact sheet."""
    own = replace(config, class_noun=case.subject.kind, measure=False)
    run = train(ask.studio, case, own)
    drawn = ask.scenes(case, f"{own.identifier} {own.class_noun}", run_id=run.run_id)
    control = ask.scenes(case, in_words(case.subject), run_id=None)
    found: dict[str, Any] = {
        "name": case.name,
        "described as": in_words(case.subject),
        "clock": asdict(run),
        "dreambooth": asdict(score(case, drawn, encoders)),
        "control: untouched base, true words": asdict(score(case, control, encoders)),
        "renders: the world itself": asdict(score(case, case.renders, encoders)),
    }
    runs: dict[SubjectConfig, str] = {own: run.run_id}

    def of(changed: SubjectConfig) -> str:
        if changed not in runs:
            runs[changed] = train(ask.studio, case, changed).run_id
        return runs[changed]

    free = replace(own, prior_preservation=False) if isinstance(own, PriorConfig) else own
    if "prior" in parts and isinstance(own, PriorConfig):
        rows = {
            "untouched base": None,
            "with": of(replace(own, prior_preservation=True)),
            "without": of(free),
        }
        found["prior"] = {
            label: prior_scores(case, own, run_id, ask, encoders) for label, run_id in rows.items()
        }
    if "noun" in parts:
        found["noun"] = noun_scores(case, free, of(free), ask, encoders)
    every = len(drawn) // len(case.scenes)
    return found, [*case.pictures, *drawn[::every], *control[::every]]


def noun_scores(
    case: Case, config: SubjectConfig, run_id: str, ask: Asker, encoders: Encoders
) -> dict[str, dict[str, float]]:
    """Compare the right class noun (the given run), a wrong one and none, all without prior preservation."""
    found = {}
    for label, noun in (
        ("right", config.class_noun),
        ("wrong", WRONG_NOUNS[case.subject.kind]),
        ("none", ""),
    ):
        named = replace(config, class_noun=noun)
        used = run_id if label == "right" else train(ask.studio, case, named).run_id
        drawn = ask.scenes(case, f"{config.identifier} {noun}".strip(), run_id=used)
        found[label] = asdict(score(case, drawn, encoders))
    return found


def summary(cases: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the means over the subjects."""

    def over(*path: str) -> float:
        values = []
        for case in cases:
            value: Any = case
            for name in path:
                value = value[name]
            values.append(value)
        return mean(values)

    rows = ("dreambooth", "control: untouched base, true words", "renders: the world itself")
    found: dict[str, Any] = {
        "click to final sample, s": over("clock", "final_sample_s"),
        "class images, s": over("clock", "class_images_s"),
        "s/step": over("clock", "step_s"),
        "identity retrieved": over("dreambooth", "identity_retrieved"),
        "scene right": over("dreambooth", "scene_right"),
        "rows": {row: {name: over(row, name) for name in cases[0][row]} for row in rows},
    }
    for part in ("prior", "noun"):
        if part in cases[0]:
            found[part] = {
                label: {name: over(part, label, name) for name in scores}
                for label, scores in cases[0][part].items()
            }
    return found


# ---- output --------------------------------------------------------------------------------------------------------


def table(title: str, rows: dict[str, dict[str, float]]) -> str:
    """Format rows of named numbers as an aligned table."""
    names = list(next(iter(rows.values())))
    width = max(len(title), *map(len, rows))
    lines = [f"{title:<{width}}  " + "  ".join(f"{name.replace('_', ' '):>18}" for name in names)]
    lines += [
        f"{row:<{width}}  " + "  ".join(f"{cells[name]:>18.3f}" for name in names)
        for row, cells in rows.items()
    ]
    return "\n".join(lines)


def verdict(value: float, target: Target) -> str:
    """Compare a value with its floor and goal."""
    floor, goal, higher = target
    marks = {"floor": floor} | ({"goal": goal} if goal is not None else {})
    reached = [name for name, mark in marks.items() if (value >= mark if higher else value <= mark)]
    told = ", ".join(f"{name} {mark:g}" for name, mark in marks.items())
    return f"{told}: {reached[-1] if reached else 'BELOW THE FLOOR'}"


def verdicts(found: dict[str, Any], *, method: str) -> str:
    """Compare the measured values with floor and goal, and check the two orderings that must hold."""
    lines = [
        f"{name:<28}{found[name]:>8.3f}   {verdict(found[name], target)}"
        for name, target in TARGETS.get(method, {}).items()
    ]
    lines.append(
        f"{'class images, s':<28}{found['class images, s']:>8.3f}   0 where they are shipped or cached"
    )
    if "prior" in found:
        kept, free = found["prior"]["with"], found["prior"]["without"]
        for name, better in (("pres", kept["pres"] < free["pres"]), ("div", kept["div"] > free["div"])):
            lines.append(f"{name.upper()} with prior preservation: {free[name]:.3f} -> {kept[name]:.3f} "
                         f"({'as it should' if better else 'NOT as it should'})")  # fmt: skip
    return "\n".join(lines)


def sheet(rows: Sequence[Sequence[Image.Image]], *, side_px: int = 128) -> Image.Image:
    """One row per subject; from left to right its photographs, the generated pictures and the control."""
    whole = Image.new("RGB", (side_px * max(map(len, rows)), side_px * len(rows)), "white")
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            whole.paste(picture.resize((side_px, side_px)), (x * side_px, y * side_px))
    return whole


def options_for(description: str, *, subjects: int, seeds: int) -> argparse.ArgumentParser:
    """Options shared by benchmarks that train on held-out subjects; ``subjects`` is the maximum number."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--method", choices=METHODS, default="dreambooth", help="how the runs learn")
    parser.add_argument("--preset", default="Quick", help="the shipped preset to start from")
    parser.add_argument("--subjects", type=int, default=subjects, help=f"how many of the {subjects}")
    parser.add_argument("--seeds", type=int, default=seeds, help="pictures per scene")
    parser.add_argument("--threads", type=int, default=2, help="cores to use")
    parser.add_argument("--json", type=Path, help="write everything here")
    parser.add_argument(
        "--sheet", type=Path, help="write a contact sheet here, a row for each subject or run"
    )
    return parser


@contextmanager
def asking(args: argparse.Namespace, *, folder: Path) -> Iterator[Asker]:
    """Yield an Asker on its own Studio, closed at the end; the base is loaded, as on the page before any click."""
    torch.set_num_threads(args.threads)
    guidance = json.loads((ASSETS / "base" / "atelier.json").read_text())["guidance_scale"]
    studio = Studio(root=folder / "home")
    try:
        ask = Asker(studio=studio, seeds=args.seeds, guidance_scale=guidance)
        ask.one("a photo of a person", run_id=None, count=1)
        yield ask
    finally:
        studio.close()


def main() -> None:
    parser = options_for(__doc__, subjects=len(SUBJECTS), seeds=4)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    args = parser.parse_args()
    config = preset(args.method, "embedded", args.preset)
    encoders = load_encoders("embedded")
    cases, rows = [], []
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as name, asking(args, folder=Path(name)) as ask:
        for kind, seed in SUBJECTS[: args.subjects]:
            case = make_case(kind, seed, folder=Path(name) / str(seed), encoders=encoders)
            found, row = bench_case(case, config, ask=ask, encoders=encoders, parts=args.parts)
            print(json.dumps(found), flush=True)
            cases.append(found)
            rows.append(row)
    report(args, summary(cases), cases=cases, rows=rows, encoders=encoders)


def report(
    args: argparse.Namespace,
    found: dict[str, Any],
    *,
    cases: list[dict[str, Any]],
    rows: list[list[Image.Image]],
    encoders: Encoders,
) -> None:
    """Print the tables and write the requested files."""
    print(
        f"\n{args.method}, preset {args.preset}, {len(cases)} subjects, {args.seeds} seeds, {args.threads} threads\n"
    )
    print(table("line-up of 51", found["rows"]), "\n")
    for part, title in (("prior", "prior preservation"), ("noun", "class noun")):
        if part in found:
            print(table(title, found[part]), "\n")
    print(verdicts(found, method=args.method))
    if args.json:
        setting = {
            "method": args.method,
            "preset": args.preset,
            "threads": args.threads,
            "seeds": args.seeds,
            "encoders": encoders.names,
        }
        setting |= {
            "torch": torch.__version__,
            "machine": platform.machine(),
            "python": platform.python_version(),
        }
        args.json.write_text(json.dumps({"setting": setting, "summary": found, "cases": cases}, indent=1))
    if args.sheet:
        sheet(rows).save(args.sheet)


if __name__ == "__main__":
    main()
