"""Does a model of a population carry its identity? One row per setting, to choose targets, rate and steps by measure.

    python -m bench.space_identity --try steps=80 --try steps=150,learning_rate=0.005 --sheet identities.png

People outside the population are trained as in recipes.build_space and generated in two scenes that no training picture
shows. ``similarity`` is the cosine of the identity encoder with the drawn pictures, ``attributes`` the share of
attributes that the parameter reader finds right (the same choice; 1 − |error| for a scale); both as
(score − untouched base) / (drawn pictures through the autoencoder − untouched base), with a bootstrap interval.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from bench.dreambooth import sheet
from pipelines.adapters import LoRA
from pipelines.config import LoopConfig, SampleConfig
from pipelines.data.photographs import Moments, to_images, to_tensor
from pipelines.evaluation.embedded_encoders import Instruments
from pipelines.evaluation.metrics import Encoders, Interval, load_encoders, normalised_score, pairwise
from pipelines.models.base import Base, load_base
from pipelines.weightspace.population import (
    Identities,
    PopulationConfig,
    initial_weights,
    space_keys,
    train_identities,
)
from recipes.build_space import EMBEDDED
from recipes.captions import SCENE_PHRASES
from recipes.space_people import JUDGED_STREAM, PARAMS, VIEWS, identity_of, portrait, prompts, stages
from recipes.world import SCENES, Subject

ASKED = SCENES[VIEWS:]  # scenes that the training pictures do not show
READ = ("skin tone", "age", "hair colour", "hair style", "glasses", "beard")


@dataclass(frozen=True)
class Person:
    """A judged person with the drawn pictures: those to learn from, and the same person in the scenes that are asked."""

    subject: Subject
    learned: list[Image.Image]
    asked: list[Image.Image]


@dataclass(frozen=True)
class Scores:
    """One value per picture, (N,)."""

    similarity: torch.Tensor
    attributes: torch.Tensor


def people(count: int) -> list[Person]:
    """Draw the judged people."""
    views = stages(len(SCENES))
    found = []
    for number in range(count):
        subject = identity_of(number, stream=JUDGED_STREAM)
        drawn = [portrait(subject, view) for view in views]
        found.append(Person(subject, drawn[:VIEWS], drawn[VIEWS:]))
    return found


def score(person: Person, pictures: Sequence[Image.Image], encoders: Encoders, reader: Instruments) -> Scores:
    """Compare pictures with the drawn person."""
    own, drawn = (encoders.identity.image_features(images) for images in (pictures, person.learned))
    right = []
    with torch.no_grad():
        for read in reader.read(to_tensor(pictures), "person"):
            marks = []
            for param in (param for param in PARAMS if param.name in READ):
                true = person.subject.identity[param.name]
                marks.append(
                    float(read[param.name] == param.values[int(true)])
                    if param.values
                    else 1 - abs(float(read[param.name]) - true)
                )
            right.append(sum(marks) / len(marks))
    return Scores(pairwise(own, drawn).mean(1), torch.tensor(right))


def together(parts: Sequence[Scores]) -> Scores:
    """Join the scores of several people."""
    return Scores(
        torch.cat([each.similarity for each in parts]), torch.cat([each.attributes for each in parts])
    )


def generated(base: Base, lora: LoRA | None, config: PopulationConfig, *, steps: int) -> list[Image.Image]:
    """Generate one picture per asked scene; without a LoRA, of the untouched base."""
    from pipelines.sampling.sample import sample

    words = f"{config.identifier} {config.class_noun}" if lora else config.class_noun
    stack = [(lora, 1.0)] if lora else []
    images = []
    for scene in ASKED:
        settings = SampleConfig(
            prompt=f"a photo of a {words} {SCENE_PHRASES[scene][0]}",
            steps=steps,
            seed=3,
            guidance_scale=base.guidance_scale,
        )
        images += sample(base, stack, settings).images
    return images


def trained(base: Base, cast: Sequence[Person], config: PopulationConfig) -> tuple[list[LoRA], float]:
    """Return a LoRA per person and the seconds of processor time that each took."""
    encoded = [base.encode_images(to_tensor(person.learned)) for person in cast]
    moments = Moments(
        mean=torch.cat([each.mean for each in encoded]), logvar=torch.cat([each.logvar for each in encoded])
    )
    identities = Identities(moments, prompts(f"{config.identifier} {config.class_noun}", stages()))
    started = time.process_time()
    theta = train_identities(base, identities, config)
    seconds = (time.process_time() - started) / len(cast)
    keys = space_keys(base.unet, config)
    assert theta.shape[1] == len(initial_weights(keys, config))
    ranks = {key.name.partition(".lora_A.")[0]: config.rank for key in keys if ".lora_A." in key.name}
    found = []
    for row in theta:
        lora = LoRA(ranks=ranks, alpha=config.alpha)
        lora.inject(base).remove()
        lora.load_state_dict(
            {key.name: row[key.offset : key.offset + key.size].view(key.shape) for key in keys}
        )
        found.append(lora)
    return found, seconds


def changed(words: str) -> PopulationConfig:
    """Return the recipe's settings with changes such as "steps=150,targets=attention"."""
    loop, own = {}, {}
    for entry in filter(None, words.split(",")):
        name, _, value = entry.partition("=")
        place = loop if name in {field.name for field in fields(LoopConfig)} else own
        if place is own and name not in {field.name for field in fields(PopulationConfig)}:
            raise SystemExit(f"There is no setting {name!r} of a population or its loop.")
        place[name] = type(getattr(EMBEDDED.loop if place is loop else EMBEDDED, name))(value)
    return replace(EMBEDDED, loop=replace(EMBEDDED.loop, **loop), **own)


def told(value: Interval | None) -> str:
    return "undefined" if value is None else f"{value.value:.2f} [{value.low:.2f}, {value.high:.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--try", dest="tries", action="append", help="changes of the recipe's settings; may be repeated"
    )
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20, help="denoising steps of a picture")
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    base, encoders, reader = (
        load_base("embedded", dtype=torch.float32),
        load_encoders("embedded"),
        Instruments(),
    )
    cast = people(args.people)
    nobody = generated(base, None, EMBEDDED, steps=args.steps)
    zero = together([score(person, nobody, encoders, reader) for person in cast])
    round_trips = [
        to_images(base.decode(base.encode_images(to_tensor(person.asked)).mean * base.scaling_factor))
        for person in cast
    ]
    one = together([score(*each, encoders, reader) for each in zip(cast, round_trips, strict=True)])
    print(f"{'settings':<50}{'similarity':>22}{'attributes':>22}{'seconds':>9}")
    rows, found = [[person.learned[0] for person in cast]], []
    for words in args.tries or [""]:
        loras, seconds = trained(base, cast, changed(words))
        drawn = [generated(base, lora, changed(words), steps=args.steps) for lora in loras]
        own = together([score(*each, encoders, reader) for each in zip(cast, drawn, strict=True)])
        row: dict[str, Any] = {"settings": words, "seconds": seconds}
        for name in ("similarity", "attributes"):
            value = normalised_score(
                getattr(own, name), base=getattr(zero, name), reference=getattr(one, name)
            )
            row[name] = told(value)
        print(
            f"{words or 'recipe':<50}{row['similarity']:>22}{row['attributes']:>22}{seconds:>9.1f}",
            flush=True,
        )
        found.append(row)
        rows += [list(column) for column in zip(*drawn, strict=True)]
    if args.json:
        args.json.write_text(json.dumps({"base": base.hash, "people": args.people, "rows": found}, indent=1))
    if args.sheet:
        sheet(rows).save(args.sheet)


if __name__ == "__main__":
    main()
