"""The shipped examples: each stores the settings that it was made with."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

from pipelines.config import ASSETS, Setting, from_dict
from pipelines.methods.specs import method_config, preset
from pipelines.runs.store import read_run

OWN = {
    "identifier",
    "class_noun",
    "caption",
    "sample_prompts",
    "sample_seed",
}  # an example's own fields


def shown(value: object) -> str:
    return (
        ("off", "on")[value]
        if isinstance(value, bool)
        else f"{value:g}"
        if isinstance(value, float)
        else f"{value}"
    )


@pytest.mark.parametrize(
    "path", sorted((ASSETS / "examples").glob("*/example.json")), ids=lambda path: path.parent.name
)
def test_an_example_was_made_with_the_preset_that_it_names_or_says_with_what(path: Path) -> None:
    told = json.loads(path.read_text(encoding="utf-8"))
    run = read_run(path.parent / told["run"])
    cls = method_config(run.method)
    made, named = from_dict(cls, run.config), preset(run.method, run.base["family"], told["preset"])
    changed = []
    for item in fields(cls):
        name = item.name
        described: Setting = item.metadata["setting"]
        if name not in OWN and getattr(made, name) != getattr(named, name):
            changed.append(f"{described.label} {shown(getattr(made, name))}")
    card = (run.path / "card.md").read_text(encoding="utf-8")
    for text in (run.note, card):
        assert ("earlier version of the preset" in text) == bool(changed)
        missing = [setting for setting in changed if setting not in text]
        assert not missing, f"the example's card does not say {missing}"
