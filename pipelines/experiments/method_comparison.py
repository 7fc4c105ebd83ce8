""" "Which method?": every method of one subject on the same photographs, prompts and seeds.

Image alignment is measured by DINO (Ruiz et al. 2022). Text alignment is measured by CLIP on prompts without the
identifier and with the class noun, so that textual inversion, whose prompts have no class noun, is comparable. PRES is
reported as drift: the increase in similarity to the photographs for pictures of the plain class, relative to pictures
of the base model from the same noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipelines.config import SubjectConfig, to_dict
from pipelines.experiments.report import (
    Column,
    Row,
    best,
    chart,
    listed,
    measured,
    number,
    rivals,
    size_words,
    table,
)
from pipelines.experiments.settings import MethodsConfig
from pipelines.experiments.store import Part, PlannedRow, PlannedRun
from pipelines.methods.specs import METHODS, preset, preset_names
from pipelines.runs.costs import SIZES, trained_values

BASE = "base"
BASE_LABEL = "Untouched base"
SNAPSHOT_MB = 200.0  # size of the largest adapter whose earlier states are kept
PHOTOS = "character"  # the set of photographs that the runs are trained on


@dataclass(frozen=True)
class Candidate:
    """A method, and the preset that it always uses ("": the preset of the experiment)."""

    label: str
    method: str
    preset: str = ""


def candidates() -> dict[str, Candidate]:
    """Return the candidates by key, as listed in the methods' specs."""
    return {
        row.key: Candidate(row.label, spec.name, preset=row.preset)
        for spec in METHODS.values()
        for row in spec.compared
    }


DINO, CLIP_T = Column.of("dino", "score"), Column.of("clip_t", "score")
COLUMNS = (
    Column.of("trainable", "count"),
    Column.of("bytes", "bytes"),
    Column.of("seconds", "seconds"),
    DINO,
    Column.of("clip_i", "score"),
    CLIP_T,
    Column.of("div", "score"),
    Column.of("drift", "score"),
)


def chosen(config: MethodsConfig) -> list[str]:
    """Return the keys of the chosen methods. ValueError for an unknown one."""
    known = candidates()
    unknown = [key for key in config.methods if key not in known]
    if unknown:
        raise ValueError(f"There is no method {unknown[0][:40]!r}; choose among {', '.join(known)}.")
    return [key for key in known if not config.methods or key in config.methods]


def run_config(
    candidate: Candidate, config: MethodsConfig, *, family: str, class_noun: str, identifier: str
) -> SubjectConfig:
    """Return the settings of one run: the preset's, with the experiment's words, seed and steps."""
    names = preset_names(candidate.method, family)
    wanted = candidate.preset or config.preset
    start = preset(candidate.method, family, wanted if wanted in names else names[0])
    steps = config.steps or start.steps
    return replace(
        start,
        class_noun=class_noun,
        identifier=identifier,
        steps=steps,
        warmup_steps=min(start.warmup_steps, steps),
        seed=config.seed,
        sample_seed=config.seed,
        sample_prompts=start.sample_prompts[:1],
        sample_every=min(steps, 5_000),
        sample_steps=min(start.sample_steps, config.sample_steps),
        snapshots=min(config.snapshots, steps - 1),
        measure=False,
    )


def affordable(config: SubjectConfig, *, family: str) -> int:
    """Return the number of earlier states that a run keeps; 0 if each is as large as a whole model."""
    return config.snapshots if 4 * trained_values(config, size=SIZES[family]) <= SNAPSHOT_MB else 0


def plan(
    config: MethodsConfig, *, family: str, class_noun: str, identifier: str, captioned: bool
) -> tuple[list[PlannedRun], list[PlannedRow]]:
    """Return the runs and the rows; the first row is the base model without adapters."""
    runs = []
    rows = [PlannedRow(key=BASE, label=BASE_LABEL, parts=(), subject=class_noun, said=class_noun)]
    for key in chosen(config):
        candidate = candidates()[key]
        own = run_config(candidate, config, family=family, class_noun=class_noun, identifier=identifier)
        own = replace(own, use_captions=captioned, snapshots=affordable(own, family=family))
        runs.append(
            PlannedRun(
                key=key, label=candidate.label, method=candidate.method, config=to_dict(own), photos=PHOTOS
            )
        )
        words = "{identifier} {class_noun}" if "{class_noun}" in own.instance_prompt else "{identifier}"
        rows.append(
            PlannedRow(
                key=key,
                label=candidate.label,
                parts=(Part(run=key),),
                subject=own.words(words),
                said=class_noun,
                steps=own.snapshot_steps,
            )
        )
    return runs, rows


def report(rows: Sequence[Row], reference: dict[str, Any]) -> dict[str, Any]:
    """Return the table, the scatter plot and the summary. ``reference``: the photographs' scores against each other."""
    photographs = {
        "key": "photographs", "label": "The photographs", "state": "done", "message": "",
        "scores": reference, "facts": {}, "points": [],
    }  # fmt: skip
    base, others = [row for row in rows if row["key"] == BASE], [row for row in rows if row["key"] != BASE]
    return {
        "tables": [table("", COLUMNS, [*([photographs] if reference else []), *base, *others])],
        "charts": [chart(CLIP_T, DINO, rows, title="Similarity to the photographs and to the prompt")],
        "sentences": sentences(others, base=base[0] if base else None, reference=reference),
    }


def sentences(rows: Sequence[Row], *, base: Row | None, reference: dict[str, Any]) -> list[str]:
    """Return a summary of the finished rows in sentences; [] if there are fewer than two."""
    known = measured(rows)
    if len(known) < 2:
        return []
    most_similar, most_faithful = (
        best(known, lambda row: number(row, "dino")),
        best(known, lambda row: number(row, "clip_t")),
    )
    smallest = best(known, lambda row: number(row, "bytes"), lowest=True)
    fastest = best(known, lambda row: number(row, "seconds"), lowest=True)
    lines = []
    if most_similar is not None:
        among = f"; the photographs among themselves: {reference['dino']['value']:.2f}" if reference else ""
        lines.append(
            f"{most_similar['label']} is most similar to the photographs (DINO {number(most_similar, 'dino'):.2f}{among})."
            + _unsure(most_similar, known, "dino")
        )
    if most_faithful is not None:
        lines.append(
            f"{most_faithful['label']} follows the prompt best (CLIP-T {number(most_faithful, 'clip_t'):.2f})."
            + _unsure(most_faithful, known, "clip_t")
        )
    if smallest is not None and fastest is not None:
        lines.append(_cheapest(smallest, fastest))
    lines += _drifted(known, base=base, reference=reference)
    idle = [
        row["label"]
        for row in known
        if base is not None and row["label"] in rivals(base, [base, row], "dino")
    ]
    if idle:
        verb = "is" if len(idle) == 1 else "are"
        lines.append(
            f"{listed(idle)} {verb} not clearly more similar to the photographs than the untouched base: a method that "
            "has not learned the subject follows the prompt as well as the base does."
        )
    return lines


def _drifted(rows: Sequence[Row], *, base: Row | None, reference: dict[str, Any]) -> list[str]:
    """Return sentences naming the methods whose drift exceeds half of the distance to the photographs."""
    zero = number(base, "pres") if base is not None else None
    if zero is None or "dino" not in reference:
        return []
    way = reference["dino"]["value"] - zero
    far = [(row["label"], drift) for row in rows if (drift := number(row, "drift") or 0.0) > way / 2 > 0]
    if not far:
        return []
    most = max(drift for _, drift in far)
    return [
        f"With {listed([label for label, _ in far])} the plain class has also turned into the subject (PRES drift up to "
        f"{most:.2f}; {way:.2f} is the photographs' level): prior preservation reduces this."
    ]


def _cheapest(smallest: Row, fastest: Row) -> str:
    size, seconds = size_words(number(smallest, "bytes") or 0), f"{number(fastest, 'seconds') or 0:.0f} s"
    if smallest is fastest:
        return (
            f"{smallest['label']} has the smallest file ({size}) and the shortest training time ({seconds})."
        )
    return f"{smallest['label']} has the smallest file ({size}), {fastest['label']} the shortest training time ({seconds})."


def _unsure(row: Row, rows: Sequence[Row], key: str) -> str:
    others = rivals(row, rows, key)
    if not others:
        return ""
    return f" Its confidence interval overlaps that of {listed(others)}, so this order is not certain."
