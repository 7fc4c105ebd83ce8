"""The experiments of Block-wise LoRA (Li et al. 2024, 2403.07500): a character and a style, in all or some blocks.

(a) Which adapter is block-wise: the character in all blocks and the style in the upper ones, vice versa, or both.
(b) Which blocks for the style: upper (In0, Out3), middle (In1, Out2), bottom (In2, Out1), all.
(c) Blocks selected for training compared with the same blocks selected at inference from an adapter of all blocks.
Scores are (score - base) / (reference - base): 0 is the base model without adapters, 1 is the mean score of the
character's photographs, or of the style's pictures, against each other.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pipelines.config import BlockLoRAConfig, to_dict
from pipelines.experiments.method_comparison import BASE, BASE_LABEL
from pipelines.experiments.report import Column, Row, best, cell, chart, measured, number, table
from pipelines.experiments.settings import BlocksConfig
from pipelines.experiments.store import Part, PlannedRow, PlannedRun
from pipelines.methods.specs import preset, preset_names
from pipelines.unet_blocks import BLOCKS, PARTS

CHARACTER, STYLE = "character", "style"  # the two sets of photographs
WHOLE, BLOCK = "all", "upper"
STYLE_PARTS = ("upper", "middle", "bottom")
STYLE_NOUN = "style"

IDENTITY, STYLE_SCORE = Column.of("identity", "score"), Column.of("style", "score")
COLUMNS = (
    IDENTITY,
    STYLE_SCORE,
    Column.of("clip_t", "score"),
    Column.of("trainable", "count", better=False),
    Column.of("character_seconds", "seconds"),
    Column.of("style_seconds", "seconds"),
)
TABLES = (
    (
        "Which adapter is block-wise",
        "The blocks are the upper ones, In0 and Out3.",
        ("character", "style", "all-all", "all-upper", "upper-all", "upper-upper"),
    ),
    (
        "Which blocks for the style",
        "The character is trained in all blocks.",
        ("all-all", "all-upper", "all-middle", "all-bottom"),
    ),
    (
        "Blocks selected for training or for inference",
        "For inference: the style was trained in all blocks, and the block weights of the others are set to 0.",
        (
            "all-upper",
            "all-chosen-upper",
            "all-middle",
            "all-chosen-middle",
            "all-bottom",
            "all-chosen-bottom",
        ),
    ),
)


def run_config(
    config: BlocksConfig, *, part: str, family: str, class_noun: str, identifier: str
) -> BlockLoRAConfig:
    """Return the settings of one run: the preset's, with nonzero ranks only in one part of the UNet."""
    names = preset_names("block_lora", family)
    start = preset("block_lora", family, config.preset if config.preset in names else names[0])
    assert isinstance(start, BlockLoRAConfig)
    steps = config.steps or start.steps
    return replace(
        start, part=part, ranks="", conv_ranks="", rank=config.rank, conv_rank=config.conv_rank,
        class_noun=class_noun, identifier=identifier, steps=steps, warmup_steps=min(start.warmup_steps, steps),
        seed=config.seed, sample_seed=config.seed, sample_prompts=start.sample_prompts[:1],
        sample_every=min(steps, 5_000), sample_steps=min(start.sample_steps, config.sample_steps), measure=False,
    )  # fmt: skip


def plan(
    config: BlocksConfig,
    *,
    family: str,
    class_noun: str,
    identifier: str,
    style_word: str,
    captioned: bool,
    style_captioned: bool,
) -> tuple[list[PlannedRun], list[PlannedRow]]:
    """Return six runs (character: all and upper blocks; style: all blocks and each part) and twelve rows.

    Raises ValueError when both have the same identifier.
    """
    if style_word == identifier:
        raise ValueError(
            f"Character and style have the same trigger word, {identifier!r}; choose another one for the style."
        )
    runs = []
    for part in (WHOLE, BLOCK):
        own = run_config(config, part=part, family=family, class_noun=class_noun, identifier=identifier)
        own = replace(own, use_captions=captioned)
        runs.append(_run(f"{CHARACTER}-{part}", f"Character, {part} blocks", own, photos=CHARACTER))
    for part in (WHOLE, *STYLE_PARTS):
        own = run_config(config, part=part, family=family, class_noun=STYLE_NOUN, identifier=style_word)
        own = replace(
            own,
            instance_prompt=f"a picture, {style_word} {STYLE_NOUN}",
            prior_preservation=False,
            use_captions=style_captioned,
            auto_captions=False,  # the photographs' own captions would not contain the style's words
            sample_prompts=(f"a picture of a {class_noun}, {style_word} {STYLE_NOUN}",),
        )
        runs.append(_run(f"{STYLE}-{part}", f"Style, {part} blocks", own, photos=STYLE))
    return runs, _rows(config, class_noun=class_noun, subject=f"{identifier} {class_noun}", style=style_word)


def _run(key: str, label: str, config: BlockLoRAConfig, *, photos: str) -> PlannedRun:
    return PlannedRun(key=key, label=label, method="block_lora", config=to_dict(config), photos=photos)


def _rows(config: BlocksConfig, *, class_noun: str, subject: str, style: str) -> list[PlannedRow]:
    asked = f", {style} {STYLE_NOUN}"

    def parts(character: str, of_style: str, blocks: str = "") -> tuple[Part, ...]:
        return (
            *([Part(f"{CHARACTER}-{character}", config.character_strength)] if character else []),
            *([Part(f"{STYLE}-{of_style}", config.style_strength, blocks)] if of_style else []),
        )

    def row(
        key: str, label: str, made: tuple[Part, ...], *, who: str = subject, how: str = asked
    ) -> PlannedRow:
        return PlannedRow(key=key, label=label, parts=made, subject=who, said=class_noun, style=how)

    combined = [
        row("all-all", "Both in all blocks", parts(WHOLE, WHOLE)),
        row("all-upper", "Character all, style upper", parts(WHOLE, BLOCK)),
        row("upper-all", "Character upper, style all", parts(BLOCK, WHOLE)),
        row("upper-upper", "Both upper", parts(BLOCK, BLOCK)),
        *(row(f"all-{part}", f"Character all, style {part}", parts(WHOLE, part)) for part in STYLE_PARTS[1:]),
        *(
            row(
                f"all-chosen-{part}",
                f"Character all, style {part} at inference",
                parts(WHOLE, WHOLE, _weights(part)),
            )
            for part in STYLE_PARTS
        ),
    ]
    return [
        row(BASE, BASE_LABEL, (), who=class_noun, how=""),
        row("character", "Character alone", parts(WHOLE, ""), how=""),
        row("style", "Style alone", parts("", WHOLE), who=class_noun),
        *combined,
    ]


def _weights(part: str) -> str:
    """Return nine block weights: 1 in a part of the UNet, 0 elsewhere."""
    return ",".join(str(int(name in PARTS[part])) for name in BLOCKS)


def report(rows: Sequence[Row], reference: dict[str, Any]) -> dict[str, Any]:
    """Return the three tables, the scatter plot of identity against style, and the summary."""
    by_key = {row["key"]: row for row in rows}
    tables = [
        table(title, COLUMNS, [by_key[key] for key in keys if key in by_key], told=help_text)
        for title, help_text, keys in TABLES
    ]
    return {
        "tables": tables,
        "charts": [
            chart(
                STYLE_SCORE, IDENTITY, [row for row in rows if row["key"] != BASE], title="Identity and style"
            )
        ],
        "sentences": [*_which_adapter(by_key), *_which_blocks(by_key), *_when(by_key), *_time(by_key)],
    }


def _both(row: Row) -> float | None:
    """Return the smaller of the identity and style scores: how much of both a combination keeps."""
    values = [number(row, name) for name in (IDENTITY.key, STYLE_SCORE.key)]
    return None if None in values else min(value for value in values if value is not None)


def _scores(row: Row) -> str:
    return " and ".join(
        f"{column.label.lower()} {number(row, column.key):.2f}{_within(row, column.key)}"
        for column in (IDENTITY, STYLE_SCORE)
        if number(row, column.key) is not None
    )


def _within(row: Row, key: str) -> str:
    found = cell(row, key)
    return f" ({found['low']:.2f} to {found['high']:.2f})" if found and found["low"] is not None else ""


def _which_adapter(rows: dict[str, Row]) -> list[str]:
    known = measured(
        [rows[key] for key in ("all-all", "all-upper", "upper-all", "upper-upper") if key in rows]
    )
    found = best(known, _both)
    if len(known) < 4 or found is None:
        return []
    plain = rows["all-all"]
    compared = "" if found is plain else f" With both in all blocks: {_scores(plain)}."
    return [f"“{found['label']}” keeps most of both: {_scores(found)}.{compared}"]


def _which_blocks(rows: dict[str, Row]) -> list[str]:
    known = measured([rows[key] for key in TABLES[1][2] if key in rows])
    styled, alike = (
        best(known, lambda row: number(row, "style")),
        best(known, lambda row: number(row, "identity")),
    )
    if len(known) < 4 or styled is None or alike is None:
        return []
    return [
        f"Of the style's blocks, “{styled['label']}” has the highest style score ({_scores(styled)}) and “{alike['label']}” the "
        f"highest identity score ({_scores(alike)})."
    ]


def _when(rows: dict[str, Row]) -> list[str]:
    sentences = []
    for part in STYLE_PARTS:
        trained, picked = rows.get(f"all-{part}"), rows.get(f"all-chosen-{part}")
        if trained and picked and len(measured([trained, picked])) == 2:
            sentences.append(
                f"Style in the {part} blocks: only these trained {_scores(trained)}; selected at inference {_scores(picked)}."
            )
    return sentences


def _time(rows: dict[str, Row]) -> list[str]:
    times = {
        part: number(rows[key], "style_seconds")
        for part, key in ((WHOLE, "all-all"), *((part, f"all-{part}") for part in STYLE_PARTS))
        if key in rows and rows[key]["state"] == "done"
    }
    if len(times) < 4 or not all(times.values()):
        return []
    words = ", ".join(f"{part} {seconds:.0f} s" for part, seconds in times.items())
    return [f"Training time of the style: {words}."]
