"""Configs: every value is validated, regardless of its source, and every shipped preset is valid."""

import json
import math
from dataclasses import FrozenInstanceError, fields

import pytest

from pipelines.config import (
    DreamBoothConfig,
    LoopConfig,
    SampleConfig,
    Setting,
    SubjectConfig,
    TextualInversionConfig,
    from_dict,
    to_dict,
)
from pipelines.fields import GROUPS
from pipelines.methods.specs import METHODS, MethodSpec, methods_of, photograph_settings, preset, preset_names

ALL_CONFIGS = [SampleConfig, LoopConfig, *(spec.config for spec in METHODS.values())]


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
        ({"steps": 10**9}, "Steps is 1000000000; the largest allowed is 20000"),
        ({"steps": 0}, "smallest allowed is 1"),
        ({"steps": 2.5}, "whole number"),
        ({"steps": True}, "must be a number"),
        ({"learning_rate": math.nan}, "must be a number"),
        ({"rank": "8"}, "must be a number"),
        ({"weights": "everything"}, "must be one of lora, full"),
        ({"prior_preservation": 1}, "must be on or off"),
        ({"identifier": "x; rm"}, "letters, digits"),
        ({"class_noun": "", "prior_preservation": True}, "Prior preservation needs a class word"),
        ({"class_noun": "", "identifier": ""}, "are both empty"),
        ({"sample_prompts": []}, "smallest allowed is 1"),
        ({"sample_prompts": "a dog"}, "must be a list"),
        ({"sample_prompts": ["x" * 301]}, "too long"),
        ({"size_px": 100}, "multiple of 64"),
        ({"steps": 10, "warmup_steps": 20}, "fewer warm-up steps"),
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
    bare = DreamBoothConfig(identifier="zwx", class_noun="")
    assert bare.words("a {identifier} {class_noun} here") == "a zwx here"


@pytest.mark.parametrize("family", ["embedded", "sd1"])
def test_shipped_presets(family: str) -> None:
    names = preset_names("dreambooth", family)
    assert names == ["Quick", "Balanced", "Quality", "Full"]
    steps = [preset("dreambooth", family, name).steps for name in names[:3]]
    assert steps == sorted(steps)
    assert preset("dreambooth", family, "Full").weights == "full"


@pytest.mark.parametrize("spec", methods_of("train"), ids=lambda spec: spec.name)
def test_own_photographs_are_masked_on_the_embedded_base_alone(spec: MethodSpec) -> None:
    assert from_dict(spec.config, photograph_settings(spec.name, "embedded")).uses_masks
    assert photograph_settings(spec.name, "sd1") == {}


def test_unknown_preset_method_and_family_are_named() -> None:
    with pytest.raises(ValueError, match="no preset 'Instant'; choose one of Quick"):
        preset("dreambooth", "embedded", "Instant")
    with pytest.raises(ValueError, match="no method 'magic'"):
        preset("magic", "embedded")
    with pytest.raises(ValueError, match="base family 'sd9'"):
        preset("dreambooth", "sd9")


def test_every_method_of_one_subject_has_its_words_and_none_a_setting_that_it_must_refuse() -> None:
    for spec in METHODS.values():
        captioned = (
            spec.name == "image_edit"
        )  # a whole caption takes the place of an identifier and a class noun
        of_one = spec.inputs in ("one subject", "one image", "a sequence") and not captioned
        assert issubclass(spec.config, SubjectConfig) == of_one
        assert spec.title
    shared = {item.name for item in fields(SubjectConfig)}
    own = {name: {item.name for item in fields(spec.config)} - shared for name, spec in METHODS.items()}
    prior = {"prior_preservation", "prior_weight", "class_images"}
    assert own["dreambooth"] - prior == {
        "weights", "rank", "alpha", "targets", "text_encoder", "text_encoder_rank",
    }  # fmt: skip
    assert own["textual_inversion"] == {"initializer"}
    without_prior = {"textual_inversion", "w2w_inversion", "image_edit"}
    assert all(prior <= names for name, names in own.items() if name not in without_prior)
    assert not DreamBoothConfig().prior_preservation, "it is asked for"


def test_settings_that_a_method_had_before_are_dropped_where_they_meant_nothing() -> None:
    old = {"text_encoder": True, "prior_preservation": False, "prior_weight": 0.5, "class_images": 7}
    assert from_dict(TextualInversionConfig, old) == TextualInversionConfig()
    for name, value in (("text_encoder", False), ("prior_preservation", True)):
        with pytest.raises(ValueError, match=f"Unknown setting '{name}'"):
            from_dict(TextualInversionConfig, old | {name: value})
    with pytest.raises(ValueError, match="Unknown setting 'initializer'"):
        from_dict(DreamBoothConfig, {"initializer": "dog"})


@pytest.mark.parametrize("cls", [spec.config for spec in METHODS.values()])
def test_every_advanced_setting_has_a_group_and_needs_what_there_is(cls: type) -> None:
    names = {item.name for item in fields(cls)}
    for item in fields(cls):
        told = item.metadata["setting"]
        assert not told.advanced or told.group in GROUPS, item.name
        for need in told.needs:
            name, _, value = need.partition("=")
            assert name in names, f"{item.name} needs {name}"
            chosen = next(each for each in fields(cls) if each.name == name).metadata["setting"]
            assert not value or value in chosen.choices


def test_a_setting_applies_where_what_it_needs_is_on() -> None:
    told = {item.name: item.metadata["setting"] for item in fields(DreamBoothConfig)}
    assert told["rank"].applies({"weights": "lora"})
    assert not told["rank"].applies({"weights": "full"})
    assert told["background_weight"].applies({"mask_background": False, "scenes": 2})
    assert not told["background_weight"].applies({"mask_background": False, "scenes": 0})
    assert told["steps"].applies({})
