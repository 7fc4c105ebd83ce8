"""Where a run that was not trained comes from, in words. Does not import torch."""

from collections.abc import Sequence

from pipelines.config import SPECTRAL, MixConfig, clean_text
from pipelines.runs.library import kind_of
from pipelines.runs.store import Run

TITLES = {SPECTRAL: "SVDiff", "lora": "LoRA", "continual": "C-LoRA"}  # by kind of adapter


def combined_words(runs: Sequence[Run], *, how: str, share: float = 0.5, rank: int = 0) -> str:
    """Return "Florence 0.7 + Biscuit 0.3, SVDiff" for a combination; ``how`` is one of ``spectral_runs.MIXES``."""
    names = [run.name for run in runs]
    told = {
        "interpolate": _sum(names, (share, 1 - share)),
        "style": f"geometry of {names[0]}, appearance of {names[-1]}",
        "truncate": f"{rank} singular values of {names[0]}",
    }
    return _with_kind(told.get(how, " + ".join(names)), runs)


def mixed_words(runs: Sequence[Run], mix: MixConfig) -> str:
    """Return "Florence 0.7 + Biscuit 0.3, SVDiff" for a mix, with its layer split unless that is 0."""
    split = f", layer split {mix.split:g}" if mix.split else ""
    return _with_kind(_sum([run.name for run in runs], (mix.first, mix.second)) + split, runs)


def _sum(names: Sequence[str], shares: Sequence[float]) -> str:
    return " + ".join(f"{name} {share:.3g}" for name, share in zip(names, shares, strict=False))


def _with_kind(told: str, runs: Sequence[Run]) -> str:
    kind = TITLES.get(kind_of(runs[0]), "")
    return clean_text(f"{told}, {kind}" if kind else told)
