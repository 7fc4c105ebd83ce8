"""C-LoRA (Smith et al. 2023, 2304.06027): concepts learned one after another, without the earlier photographs.

A run learns one concept on top of its parent, the run of the concept before. The loss is DreamBooth's and the
self-regularization λ ‖S ∘ B_t A_t‖², which keeps the new change off the entries that the earlier ones changed.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pipelines.adapters.continual import Concept, Continual
from pipelines.adapters.registry import load_adapter
from pipelines.config import CLoRAConfig, SampleConfig, fill_words
from pipelines.data.photographs import Moments, to_tensor
from pipelines.data.subject import Subject
from pipelines.methods import subject as single
from pipelines.methods.concept_pictures import conclude
from pipelines.methods.continual_views import views
from pipelines.runs.store import Run
from pipelines.sampling.sample import sample
from pipelines.training.loop import Batches, Denoising

if TYPE_CHECKING:
    from pipelines.models.base import Base

__all__ = ["adapter", "batches", "conclude", "loss", "replayed", "views"]

REPLAY_SEED = 2_000_000  # picture i of a replayed concept uses this seed + i, which no sample of a run uses


def adapter(base: "Base", config: CLoRAConfig, parents: Sequence[Run]) -> Continual:
    """Return the parent's concepts, frozen, and a new one to train; not injected.

    The last of ``parents`` contains all earlier concepts. Raises ValueError if it is not a run of this method, or if
    the trigger word already names one of its concepts.
    """
    concept = Concept(
        word=config.identifier, rank=config.rank, targets=config.targets, weights=config.weights
    )
    settings = {
        "seed": config.seed,
        "initializer": config.initializer,
        "token_rate": config.token_learning_rate / config.learning_rate,
        "detach_start": config.detach_start,
    }
    if not parents:
        return Continual(concepts=[concept], **settings)
    earlier = load_adapter(parents[-1].file("adapter.safetensors"), base)
    if not isinstance(earlier, Continual):
        raise ValueError(
            f"The run {parents[-1].name!r} is not a concept of a sequence; choose a run of C-LoRA."
        )
    *before, last = earlier.concepts
    earlier.concepts = (*before, replace(last, run=parents[-1].id, name=parents[-1].name))
    return earlier.append(concept, base, **settings)


def batches(base: "Base", subjects: Sequence[Subject], config: CLoRAConfig) -> Batches:
    """Return the batches of one concept, or of several that are trained at once or replayed, with their own prompts."""
    if len(subjects) == 1:
        return single.batches(base, subjects, config)
    return single.batches(base, [pooled(subjects, config)], replace(config, use_captions=True))


def pooled(subjects: Sequence[Subject], config: CLoRAConfig) -> Subject:
    """Return several subjects as one, whose captions are their complete prompts.

    With generative replay the first subject is repeated so that it makes up half of each round.
    """
    first, *others = subjects
    rest = sum(len(one.deck) for one in others)
    times = max(1, round(rest / len(first.deck))) if config.replay_images else 1
    repeats = [(one.repeats or (1,) * len(one.names)) for one in subjects]
    repeats[0] = tuple(times * count for count in repeats[0])
    masks = [one.masks for one in subjects if one.masks is not None]
    sizes = [(len(one.names), *masks[0].shape[1:]) for one in subjects] if masks else []
    whole = [
        torch.ones(size) if one.masks is None else one.masks
        for one, size in zip(subjects, sizes, strict=False)
    ]
    return replace(
        first,
        names=tuple(name for one in subjects for name in one.names),
        captions=tuple(prompt for one in subjects for prompt in single.photo_prompts(one, config)),
        moments=Moments(
            mean=torch.cat([one.moments.mean for one in subjects]),
            logvar=torch.cat([one.moments.logvar for one in subjects]),
        ),
        repeats=tuple(count for each in repeats for count in each),
        masks=torch.cat(whole) if masks else None,
    )


def replayed(
    adapter: Continual, base: "Base", config: CLoRAConfig, on_progress: Callable[[int, int], None]
) -> list[Subject]:
    """Return every earlier concept as a subject, its pictures drawn by the earlier model; [] without replay.

    Generative replay (Shin et al. 2017, 1705.08690). A resumed run draws the same pictures again.
    """
    words = [word for concept in adapter.concepts[:-1] for word in concept.words]
    if not config.replay_images or not words:
        return []
    earlier = adapter.prefix(len(adapter.concepts) - 1, base)
    total, found = len(words) * config.replay_images, []
    for word in words:
        pictures = []
        for index in range(config.replay_images):
            on_progress(len(found) * config.replay_images + index, total)
            asked = SampleConfig(
                prompt=fill_words(config.instance_prompt, identifier=word, class_noun=""),
                seed=REPLAY_SEED + index,
                steps=config.sample_steps,
                guidance_scale=base.guidance_scale,
                size_px=config.size_px,
            )
            pictures += sample(base, [(earlier, 1.0)], asked).images
        names = tuple(f"{word} {index}" for index in range(len(pictures)))
        moments = base.encode_images(to_tensor(pictures))
        found.append(Subject(word, "", names=names, captions=("",) * len(names), moments=moments))
    on_progress(total, total)
    return found


def loss(denoising: Denoising, adapter: Any, config: CLoRAConfig) -> dict[str, Tensor]:
    """Return DreamBooth's loss terms and, from the second concept on, the self-regularization of a :class:`Continual`."""
    terms = single.loss(denoising, adapter, config)
    if config.forgetting_weight and adapter.past():
        weight = config.forgetting_weight * adapter.forgetting_scale
        terms["forgetting"] = weight * adapter.forgetting()
    return terms
