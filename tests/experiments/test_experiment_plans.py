"""Experiment plans: every preset gives a valid plan, and verdicts follow from the numbers. Nothing is trained."""

from typing import Any

import pytest

from pipelines.config import from_dict
from pipelines.experiments import block_comparison as blocks
from pipelines.experiments import method_comparison as methods
from pipelines.experiments.report import rivals
from pipelines.experiments.scatter import laid_out
from pipelines.experiments.settings import BlocksConfig, ExperimentConfig, MethodsConfig, filled
from pipelines.methods.specs import METHODS, method_config
from pipelines.services.experiments import planned

WORDS = {"class_noun": "dog", "identifier": "zwx", "style_word": "qev"}


# ---- plans ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["embedded", "sd1"])
@pytest.mark.parametrize("config", [MethodsConfig(), BlocksConfig(prompts=("a {subject}{style}",))])
def test_every_preset_of_a_family_makes_a_plan(family: str, config: ExperimentConfig) -> None:
    runs, rows = planned(config, family=family, words=WORDS, captioned={"style": True})
    assert rows[0].key == methods.BASE
    assert rows[0].parts == ()
    keys = {run.key for run in runs}
    assert {part.run for row in rows for part in row.parts} == keys
    for run in runs:
        own = from_dict(method_config(run.method), run.config)
        assert (own.seed, own.measure) == (config.seed, False)
        huge = (run.key, family) == ("dreambooth-full", "sd1")  # 3.4 GB per snapshot
        assert len(own.snapshot_steps) == (3 if isinstance(config, MethodsConfig) and not huge else 0)


def test_every_method_that_learns_one_subject_takes_part() -> None:
    runs, rows = planned(MethodsConfig(), family="embedded", words=WORDS, captioned={})
    assert {run.method for run in runs} == {
        name for name, spec in METHODS.items() if spec.inputs == "one subject"
    }
    assert {run.config["weights"] for run in runs if run.method == "dreambooth"} == {"lora", "full"}
    subjects = {row.key: row.subject for row in rows}
    assert subjects["textual_inversion"] == "zwx"  # its prompts do not contain the class word
    assert subjects["svdiff"] == "zwx dog"
    assert subjects["base"] == "dog"
    assert {row.said for row in rows} == {"dog"}  # text alignment uses the same text for all rows
    some, _ = planned(
        MethodsConfig(methods=("svdiff", "block_lora")), family="embedded", words=WORDS, captioned={}
    )
    assert [run.key for run in some] == ["block_lora", "svdiff"]
    with pytest.raises(ValueError, match="no method 'magic'"):
        planned(MethodsConfig(methods=("magic",)), family="embedded", words=WORDS, captioned={})
    with pytest.raises(ValueError, match=r"does not contain \{subject\}"):
        MethodsConfig(prompts=("a dog",))


def test_the_papers_experiments_are_all_planned() -> None:
    runs, rows = planned(BlocksConfig(style_strength=0.5), family="embedded", words=WORDS, captioned={})
    trained = {run.key: run.config["part"] for run in runs}
    assert trained == {
        "character-all": "all", "character-upper": "upper",
        "style-all": "all", "style-upper": "upper", "style-middle": "middle", "style-bottom": "bottom",
    }  # fmt: skip
    by_key = {row.key: row for row in rows}
    assert {key for _, _, keys in blocks.TABLES for key in keys} == set(by_key) - {"base"}
    chosen = by_key["all-chosen-upper"].parts[1]
    assert (chosen.run, chosen.strength, chosen.blocks) == ("style-all", 0.5, "1,0,0,0,0,0,0,0,1")
    assert filled(BlocksConfig().prompts[1], subject="zwx dog", style=by_key["all-all"].style) == (
        "a picture of a zwx dog on the beach, qev style"
    )
    assert filled(BlocksConfig().prompts[1], subject="zwx dog", style=by_key["character"].style) == (
        "a picture of a zwx dog on the beach"
    )
    with pytest.raises(ValueError, match="same trigger word"):
        planned(BlocksConfig(), family="embedded", words=WORDS | {"style_word": "zwx"}, captioned={})


# ---- verdicts from the numbers ------------------------------------------------------------------------------------


def row(
    key: str, *, dino: float, clip_t: float, size: int, seconds: float, spread: float = 0.01
) -> dict[str, Any]:
    scores = {
        name: {"value": value, "low": value - spread, "high": value + spread}
        for name, value in (("dino", dino), ("clip_t", clip_t))
    }
    facts = {"bytes": size, "seconds": seconds}
    points = [{"step": 0, "last": True, "scores": scores}]
    return {
        "key": key,
        "label": key.upper(),
        "state": "done",
        "message": "",
        "scores": scores,
        "facts": facts,
        "points": points,
    }


def test_the_sentence_follows_from_the_numbers() -> None:
    rows = [
        row("base", dino=0.1, clip_t=0.3, size=0, seconds=0),
        row("a", dino=0.7, clip_t=0.2, size=900_000, seconds=50),
        row("b", dino=0.695, clip_t=0.25, size=100, seconds=90),
        row("c", dino=0.105, clip_t=0.31, size=2_000, seconds=20),
    ]
    found = methods.report(rows, {"dino": {"value": 0.85, "low": 0.8, "high": 0.9}})
    told = " ".join(found["sentences"])
    assert "A is most similar to the photographs (DINO 0.70; the photographs among themselves: 0.85)" in told
    assert "Its confidence interval overlaps that of B, so" in told
    assert "C follows the prompt best (CLIP-T 0.31)" in told
    assert "B has the smallest file (100 bytes), C the shortest training time (20 s)" in told
    assert "C is not clearly more similar to the photographs than the untouched base" in told
    assert [entry["label"] for entry in found["tables"][0]["rows"]] == [
        "The photographs",
        "BASE",
        "A",
        "B",
        "C",
    ]
    assert rivals(rows[1], rows, "dino") == ["B"]
    assert methods.report(rows[:2], {})["sentences"] == []


def test_a_class_that_turned_into_the_subject_is_told_of() -> None:
    rows = [row(key, dino=0.5, clip_t=0.3, size=1, seconds=1) for key in ("base", "a", "b", "c")]
    for found, drift in zip(rows, (0.0, 0.1, 0.6, 0.5), strict=True):
        found["scores"] |= {"pres": {"value": drift}, "drift": {"value": drift}}
    reference = {"dino": {"value": 0.9, "low": 0.8, "high": 1.0}}
    told = " ".join(methods.report(rows, reference)["sentences"])
    assert "With B and C the plain class has also turned into the subject (PRES drift up to 0.60; " in told
    rows[2]["scores"]["drift"] = rows[3]["scores"]["drift"] = {"value": 0.2}
    assert "turned into" not in " ".join(methods.report(rows, reference)["sentences"])


def test_the_papers_questions_are_answered_from_the_numbers() -> None:
    def combined(key: str, identity: float, style: float, seconds: float = 20.0) -> dict[str, Any]:
        found = row(key, dino=0.0, clip_t=0.3, size=1, seconds=1)
        found["scores"] = {
            name: {"value": value, "low": value - 0.1, "high": value + 0.1}
            for name, value in (("identity", identity), ("style", style))
        }
        found["points"][0]["scores"] = found["scores"]
        return found | {"facts": {"style_seconds": seconds}}

    rows = [
        combined("base", 0.0, 0.0),
        combined("all-all", 0.3, 0.9, 20.0),
        combined("all-upper", 0.6, 0.7, 10.0),
        combined("upper-all", 0.2, 0.95),
        combined("upper-upper", 0.4, 0.5),
        combined("all-middle", 0.7, 0.2, 12.0),
        combined("all-bottom", 0.65, 0.1, 14.0),
        combined("all-chosen-upper", 0.5, 0.4),
    ]
    found = blocks.report(rows, {})
    told = " ".join(found["sentences"])
    assert "“ALL-UPPER” keeps most of both: identity 0.60 (0.50 to 0.70) and style 0.70" in told
    assert "“ALL-ALL” has the highest style score" in told
    assert "“ALL-MIDDLE” the highest identity score" in told
    assert "Style in the upper blocks: only these trained identity 0.60" in told
    assert "middle blocks: only" not in told, "the other half of that pair is missing"
    assert "all 20 s, upper 10 s, middle 12 s, bottom 14 s" in told
    assert [series["key"] for series in found["charts"][0]["series"]] == [entry["key"] for entry in rows[1:]]


def test_the_chart_has_a_place_for_every_point_and_label() -> None:
    rows = [
        row(f"method number {index}", dino=0.5 + index / 1000, clip_t=0.3, size=1, seconds=1)
        for index in range(5)
    ]
    rows[0]["points"].insert(0, {"step": 60, "last": False, "scores": rows[4]["scores"]})
    layout = laid_out(methods.report(rows, {})["charts"][0], width=880, height=620)
    assert layout is not None
    left, top, right, bottom = layout.frame
    for series in layout.series:
        for mark in series.marks:
            assert left <= mark.x <= right
            assert top <= mark.y <= bottom
    places = [(series.text_x, round(series.text_y)) for series in layout.series]
    assert len(set(places)) == 5, "no label lies on another"
    assert layout.series[0].marks[0].text.startswith("step 60, CLIP-T 0.300")
    assert [x for x, _ in layout.x_ticks] == sorted(x for x, _ in layout.x_ticks)
    assert laid_out({"series": [], "title": "", "x": "", "y": ""}, width=100, height=100) is None
