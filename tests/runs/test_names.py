"""Runs of the same name are told apart by their method, their preset and their time, by the same name everywhere."""

import time
from dataclasses import replace

import pytest

from pipelines.config import to_dict
from pipelines.methods.specs import METHODS, preset, preset_names, preset_of
from pipelines.runs.names import moment, run_names
from pipelines.runs.status import Card

NOON = time.mktime((2026, 11, 3, 12, 0, 0, 0, 0, -1))


def card(name: str, method: str = "svdiff", preset: str = "Quick", **facts: object) -> Card:
    facts = {"created": NOON} | facts
    key = f"{name}-{method}-{preset}-{facts['created']}-{facts.get('shipped', False)}"
    return Card(id=key, name=name, state="done", method=method, preset=preset, **facts)  # type: ignore[arg-type]


def named(*cards: Card, mark_examples: bool = False) -> list[str]:
    return [*run_names(cards, mark_examples=mark_examples).values()]


def test_a_name_gets_only_what_tells_it_apart() -> None:
    runs = [card("Florence", "dreambooth"), card("Florence"), card("Florence", preset="Quality"), card("Ada")]
    assert named(*runs) == [
        "Florence · DreamBooth",
        "Florence · SVDiff · Quick",
        "Florence · SVDiff · Quality",
        "Ada",
    ]


def test_the_same_settings_differ_in_their_time_and_at_last_in_their_number() -> None:
    first, later = card("Florence", created=NOON), card("Florence", created=NOON + 120)
    assert named(first, later) == ["Florence · 3 Nov, 12:00", "Florence · 3 Nov, 12:02"]
    soon = card("Florence", created=NOON + 7)
    assert named(first, soon, later) == [
        "Florence · 3 Nov, 12:00:00", "Florence · 3 Nov, 12:00:07", "Florence · 3 Nov, 12:02:00",
    ]  # fmt: skip
    twin = replace(first, id="twin")
    assert named(first, twin) == ["Florence (1)", "Florence (2)"]
    assert moment(time.time()) == time.strftime("%H:%M")


def test_an_example_is_marked_where_a_run_has_its_name_or_on_request() -> None:
    own, shipped = card("Ada", created=NOON + 60), card("Ada", shipped=True)
    assert named(own, shipped) == ["Ada", "Ada · example"]
    assert named(shipped) == ["Ada"]
    assert named(shipped, mark_examples=True) == ["Ada · example"]


@pytest.mark.parametrize("family", ["embedded", "sd1"])
@pytest.mark.parametrize("method", METHODS)
def test_settings_tell_their_preset_for_any_number_of_photographs(method: str, family: str) -> None:
    for name in preset_names(method, family):
        config = to_dict(preset(method, family, name))
        assert preset_of(method, family, config) == name
        words = {"steps": round(0.9 * config["steps"]), "warmup_steps": 1, "identifier": "zwx"}
        assert preset_of(method, family, config | words) == name
    assert preset_of("svdiff", "embedded", {"learning_rate": 0.5}) == ""
    assert preset_of("import", family, {}) == ""
