"""Merges separately trained concepts into one finished run, as Custom Diffusion does.

torch is imported by the functions that need it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.config import clean_text, fill_words
from pipelines.formats.core import Models
from pipelines.models.targets import KEY_VALUE
from pipelines.runs.library import kind_of
from pipelines.runs.origin import combined_words
from pipelines.runs.store import MIXED, Run, RunStore

if TYPE_CHECKING:
    from torch import Tensor

    from pipelines.adapters.continual import Continual
    from pipelines.models.base import Base

KIND = "continual"
MERGED_RUNS = "merged_runs"  # in the settings of a merged run: the ids of its concepts' runs
PROMPT = "a photo of {identifier}"


def check_merge(runs: Sequence[Run]) -> None:
    """Raise ValueError unless there are two or more runs of concepts, all of one base."""
    if len(runs) < 2:
        raise ValueError("A single concept cannot be merged; choose at least two runs.")
    for run in runs:
        if kind_of(run) != KIND:
            raise ValueError(f"The run {run.name!r} is not a concept; choose runs of C-LoRA.")


def merge_concepts(runs: Sequence[Run], *, name: str, models: Models, store: RunStore) -> str:
    """Create a finished run that draws the concepts of several runs, merged in closed form; return its id.

    See :mod:`pipelines.methods.custom_diffusion`. Each run holds one concept that changed nothing but keys and values
    of cross-attention. Raises ValueError otherwise, or for two concepts with the same trigger word.
    """
    check_merge(runs)
    base = models.base(runs[0].base["spec"])
    with models.aside(base):
        adapters = [_loaded(run, models) for run in runs]
        if {one.base_hash for one in adapters} != {base.hash}:
            raise ValueError("These runs are of different bases, so their weights differ; choose one base.")
        merged = _merged(adapters, runs, base)
    words = merged.concepts[0].word
    config = {
        "identifier": words,
        "class_noun": "",
        "source": MIXED,
        "file": clean_text(f"merge: {', '.join(run.name for run in runs)}"),
        "origin": combined_words(runs, how="merge"),
        MERGED_RUNS: [run.id for run in runs],
    }
    title = clean_text(name) or f"{' + '.join(run.name for run in runs)} (merged)"
    return store.keep_adapter(merged, base, config=config, name=title)


def _loaded(run: Run, models: Models) -> Continual:
    from pipelines.adapters.continual import Continual

    adapter = models.adapter(run.file("adapter.safetensors"), models.base(run.base["spec"]))
    assert isinstance(adapter, Continual), "checked by its kind"
    return adapter


def _merged(adapters: Sequence[Continual], runs: Sequence[Run], base: Base) -> Continual:
    """Return one change of the keys and values, and all tokens."""
    import torch

    from pipelines.adapters.continual import TOKEN, Concept, Continual
    from pipelines.methods.custom_diffusion import merged_changes

    told = [_told(adapter, run, base) for adapter, run in zip(adapters, runs, strict=True)]
    changes = merged_changes(base, everyday_captions(base.family), told)
    words = [word for one in adapters for word in one.vectors()]
    for word in words:
        if words.count(word) > 1:
            raise ValueError(f"Two of the runs have the trigger word {word!r}; give each concept its own.")
    whole = Continual(concepts=[Concept(" ".join(words), weights="full")])
    whole.inject(base).remove()
    state = {f"1.{name.removesuffix('.weight')}.lora_B.weight": change for name, change in changes.items()}
    rows = torch.cat([one.state_dict()[f"1.{TOKEN}"] for one in adapters])
    whole.load_state_dict({**whole.state_dict(), **state, f"1.{TOKEN}": rows})
    return whole


def _told(adapter: Continual, run: Run, base: Base) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the text features of a concept's photo prompt, and its change of the keys and values."""
    from pipelines.adapters.core import merged
    from pipelines.methods.custom_diffusion import own_features

    word, *others = adapter.vectors()
    if others:
        raise ValueError(
            f"The run {run.name!r} holds several concepts, and each was trained on the ones before; "
            "merge runs that were trained alone."
        )
    (changes,) = adapter.deltas(base)
    if not all(name.removesuffix(".weight").endswith(KEY_VALUE) for name in changes):
        raise ValueError(
            f"The run {run.name!r} has changed more than keys and values of cross-attention, which cannot be merged; "
            "train it with those layers only."
        )
    template = str(run.config.get("instance_prompt") or PROMPT)
    noun = str(run.config.get("class_noun") or "")
    with merged(base, [(adapter, 1.0)]):
        return own_features(base, fill_words(template, identifier=word, class_noun=noun), word), changes


def everyday_captions(family: str) -> list[str]:
    """Return ordinary captions of a base family: every shipped tag with every kind of subject that it applies to."""
    from pipelines.evaluation.tagging import vocabulary

    words = vocabulary(family)
    return [
        f"a photo of a {kind}, {tag}"
        for rivals in words.rivals
        for kind in ([rivals.kind] if rivals.kind else words.kinds)
        for tag in rivals.tags
    ]
