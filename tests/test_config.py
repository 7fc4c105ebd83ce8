"""Configs: every value is checked wherever it comes from, and every shipped preset is one."""

import json
import math
from dataclasses import FrozenInstanceError, fields

import pytest

from pipelines.config import (
    METHOD_CONFIGS,
    DreamBoothConfig,
    LoopConfig,
    SampleConfig,
    Setting,
    SubjectConfig,
    from_dict,
    preset,
    preset_names,
    to_dict,
)
from pipelines.runs.costs import TRAINED_VALUES

ALL_CONFIGS = [SampleConfig, LoopConfig, *METHOD_CONFIGS.values()]


@pytest.mark.parametrize("cls", ALL_CONFIGS)
def test_every_field_has_a_label_a_help_line_and_bounds(cls: type) -> None:
    for item in fields(cls):
        described: Setting = item.metadata["setting"]
        assert described.label
        assert described.help.endswith(".")
        if isinstance(item.default, (int, float)) and not isinstance(item.default, bool):
            assert described.low is not None, item.name
            assert described.high is not None, item.name


@pytest.mark.parametrize("cls", ALL_CONFIGS)
def test_round_trip_through_json(cls: type) -> None:
    config = cls()
    assert from_dict(cls, json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"steps": 10**9}, "Steps is 1e\\+09; the largest allowed is 20000"),
        ({"steps": 0}, "smallest allowed is 1"),
        ({"steps": 2.5}, "whole number"),
        ({"steps": True}, "must be a number"),
        ({"learning_rate": math.nan}, "must be a number"),
        ({"rank": "8"}, "must be a number"),
        ({"weights": "everything"}, "must be one of lora, full"),
        ({"prior_preservation": 1}, "must be on or off"),
        ({"identifier": "x; rm"}, "letters, digits"),
        ({"class_noun": ""}, "Prior preservation needs a class word"),
        ({"class_noun": "", "identifier": "", "prior_preservation": False}, "Say what it is"),
        ({"sample_prompts": []}, "smallest allowed is 1"),
        ({"sample_prompts": "a dog"}, "must be a list"),
        ({"sample_prompts": ["x" * 301]}, "too long"),
        ({"size_px": 100}, "multiple of 64"),
        ({"steps": 10, "warmup_steps": 20}, "shorten"),
        ({"stepz": 10}, "Unknown setting 'stepz'"),
    ],
)
def test_bad_values_are_refused_in_a_sentence(values: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        from_dict(DreamBoothConfig, values)


def test_numbers_take_the_declared_type_and_texts_lose_control_characters() -> None:
    config = from_dict(DreamBoothConfig, {"steps": 25.0, "prior_weight": 1, "class_noun": " dog\x00\n"})
    assert type(config.steps) is int
    assert type(config.prior_weight) is float
    assert config.class_noun == "dog"


def test_configs_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        SampleConfig().steps = 3  # type: ignore[misc]


def test_words_are_filled_in_and_nothing_else_is() -> None:
    config = DreamBoothConfig(identifier="zwx", class_noun="dog")
    assert config.words("a {identifier} {class_noun}, {0} {config.seed}") == "a zwx dog, {0} {config.seed}"
    bare = DreamBoothConfig(identifier="zwx", class_noun="", prior_preservation=False)
    assert bare.words("a {identifier} {class_noun} here") == "a zwx here"


@pytest.mark.parametrize("family", ["embedded", "sd1"])
def test_shipped_presets(family: str) -> None:
    names = preset_names("dreambooth", family)
    assert names == ["Quick", "Balanced", "Quality", "Full"]
    steps = [preset("dreambooth", family, name).steps for name in names[:3]]
    assert steps == sorted(steps)
    assert preset("dreambooth", family, "Full").weights == "full"


def test_unknown_preset_method_and_family_are_named() -> None:
    with pytest.raises(ValueError, match="no preset 'Instant'; choose one of Quick"):
        preset("dreambooth", "embedded", "Instant")
    with pytest.raises(ValueError, match="no method 'magic'"):
        preset("magic", "embedded")
    with pytest.raises(ValueError, match="base family 'sd9'"):
        preset("dreambooth", "sd9")


def test_every_method_shares_what_single_subjects_have_and_says_its_title() -> None:
    for cls in METHOD_CONFIGS.values():
        assert issubclass(cls, SubjectConfig)
        assert cls.title
        assert cls in TRAINED_VALUES, "its cost can be told"
    shared = {item.name for item in fields(SubjectConfig)}
    own = {item.name for item in fields(DreamBoothConfig)} - shared
    assert own == {"weights", "rank", "alpha", "targets", "text_encoder_rank"}
