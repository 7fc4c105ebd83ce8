"""The pictures of all concepts of a sequence after one of its runs: a row of the grid and of the forgetting matrix.

Nothing of an earlier concept is read but its word and, for the score, the feature vector of its photographs, which its
own run has stored in ``concepts.json`` and each later run copies.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from pipelines.adapters.continual import Continual
from pipelines.config import SampleConfig, TrainConfig, fill_words
from pipelines.evaluation.metrics import Encoders, pairwise
from pipelines.runs.sequences import CONCEPTS, concept_tables
from pipelines.runs.store import Run
from pipelines.sampling.image_metadata import Layer, save_pictures

if TYPE_CHECKING:
    from pipelines.models.base import Base

PICTURES = 2  # of each concept, with consecutive seeds
PROMPT = "a photo of {identifier}"

Draw = Callable[[SampleConfig], list[Image.Image]]


def conclude(
    run: Run,
    adapter: Continual,
    base: "Base",
    config: TrainConfig,
    *,
    draw: Draw,
    encoders: Encoders | None,
    photos: Sequence[Image.Image],
    parents: Sequence[Run],
) -> None:
    """Draw every concept of the finished run, score the pictures, and write ``concepts.json`` and its pictures."""
    known = {each["word"]: each for parent in parents[-1:] for each in concept_tables(parent)}
    new = adapter.concepts[-1].words
    own = encoders.identity.image_features(photos).mean(0) if encoders is not None and len(new) == 1 else None
    (run.path / "concepts").mkdir(exist_ok=True)
    told: list[dict[str, Any]] = []
    words = [word for concept in adapter.concepts for word in concept.words]
    for place, word in enumerate(words, start=1):
        reference = own if word in new else _vector(known.get(word, {}).get("reference"))
        asked = SampleConfig(
            prompt=fill_words(PROMPT, identifier=word, class_noun=""),
            steps=config.sample_steps,
            seed=config.sample_seed,
            guidance_scale=base.guidance_scale,
            size_px=config.size_px,
            count=PICTURES,
        )
        images = draw(asked)
        names = {asked.seed + index: f"concepts/{place:02d}-{index}.png" for index in range(PICTURES)}
        stack = [Layer(run=run.id, name=run.name, strength=1.0)]
        save_pictures(
            images, asked, stack=stack, base=base, path=lambda seed, names=names: run.file(names[seed])
        )
        told.append(
            {
                "word": word,
                "files": list(names.values()),
                "prompt": asked.prompt,
                "seed": asked.seed,
                "score": _score(images, reference, encoders),
                "reference": None if reference is None else [round(float(x), 6) for x in reference],
            }
        )
    run.write_json(CONCEPTS, told)


def _score(
    images: Sequence[Image.Image], reference: torch.Tensor | None, encoders: Encoders | None
) -> float | None:
    """Return the mean cosine of the pictures with the photographs, whose mean feature is ``reference`` (D,)."""
    if encoders is None or reference is None:
        return None
    return round(float(pairwise(encoders.identity.image_features(images), reference[None]).mean()), 5)


def _vector(values: Sequence[float] | None) -> torch.Tensor | None:
    return None if values is None else torch.tensor(values)
