"""Defines settings and validates their values; :mod:`pipelines.config` lists the settings.

Nothing in this file needs torch.
"""

import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeVar, get_args, get_origin, get_type_hints

MAX_TEXT = 300  # maximum length of any text that a user types, in characters
GROUPS = ("adapter", "optimizer", "data", "samples")  # the parts of the advanced settings, in their order


@dataclass(frozen=True)
class Setting:
    """The description of a form field. ``low`` and ``high`` are bounds of a number or of the length of a tuple.

    ``group`` is the part of the advanced settings that it belongs to, one of ``GROUPS``. ``needs`` names settings of
    which one must be on ("scenes") or have a value ("weights=lora"), or else this setting has no effect.
    """

    label: str
    help: str
    low: float | None = None
    high: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()
    advanced: bool = True
    group: str = ""
    needs: tuple[str, ...] = ()

    def applies(self, values: Mapping[str, Any]) -> bool:
        """Return whether the setting has an effect next to these values of the other settings."""
        return not self.needs or any(_met(need, values) for need in self.needs)


def _met(need: str, values: Mapping[str, Any]) -> bool:
    name, equals, wanted = need.partition("=")
    return values.get(name) == wanted if equals else bool(values.get(name))


def setting(
    default: Any,
    *,
    label: str,
    help: str,
    low: float | None = None,
    high: float | None = None,
    step: float | None = None,
    choices: tuple[str, ...] = (),
    advanced: bool = True,
    group: str = "",
    needs: tuple[str, ...] = (),
) -> Any:
    """Return a dataclass field with its :class:`Setting` in the metadata."""
    described = Setting(
        label=label,
        help=help,
        low=low,
        high=high,
        step=step,
        choices=choices,
        advanced=advanced,
        group=group,
        needs=needs,
    )
    return field(default=default, metadata={"setting": described})


def clean_text(text: str) -> str:
    """Return a user's text without control characters and with single spaces.

    Raises ValueError if the result is longer than ``MAX_TEXT`` characters.
    """
    visible = "".join(
        " " if unicodedata.category(letter) in ("Cc", "Cf", "Cs") else letter for letter in text
    )
    tidy = " ".join(visible.split())
    if len(tidy) > MAX_TEXT:
        raise ValueError(
            f"A text of {len(tidy)} characters is too long; please keep it under {MAX_TEXT + 1}."
        )
    return tidy


@dataclass(frozen=True)
class Checked:
    """Base class of all configs: values are converted to the declared type and checked against their settings.

    ``retired`` maps settings of earlier versions that are no longer used to the values that can be dropped without
    changing the result; () allows every value. :func:`from_dict` drops these and rejects any other value as unknown.
    """

    retired: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

    def __post_init__(self) -> None:
        kinds = get_type_hints(type(self))
        for item in fields(self):
            described: Setting = item.metadata["setting"]
            value = _typed(getattr(self, item.name), kind=kinds[item.name], label=described.label)
            _check_bounds(value, described)
            object.__setattr__(self, item.name, value)


ConfigT = TypeVar("ConfigT", bound=Checked)


def _typed(value: Any, *, kind: Any, label: str) -> Any:
    if get_origin(kind) is tuple:
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"{label} must be a list, not {_written(value)}.")
        return tuple(_typed(entry, kind=get_args(kind)[0], label=label) for entry in value)
    if kind is bool:
        if not isinstance(value, bool):
            raise ValueError(f"{label} must be on or off, not {_written(value)}.")
        return value
    if kind is str:
        if not isinstance(value, str):
            raise ValueError(f"{label} must be a text, not {_written(value)}.")
        return clean_text(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not _is_finite(value):
        raise ValueError(f"{label} must be a number, not {_written(value)}.")
    if kind is int and value != int(value):
        raise ValueError(f"{label} must be a whole number, not {_written(value)}.")
    return kind(value)


def _is_finite(value: float) -> bool:
    """Whether a number is finite as a float; an int of 400 digits is not."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _written(value: Any) -> str:
    """Format a value for a message: whole numbers in full, at most 60 characters."""
    try:
        text = f"{value:g}" if isinstance(value, float) and value != int(value) else repr(value)
    except (ValueError, OverflowError):  # NaN, infinity, or more digits than Python converts to text
        text = repr(value) if isinstance(value, float) else "a number of thousands of digits"
    return text if len(text) <= 60 else text[:57] + "..."


def whole_number(value: Any, *, label: str) -> int:
    """Return a client's value as an int. Raises ValueError if it is not a whole number."""
    return _typed(value, kind=int, label=label)


def real_number(value: Any, *, label: str) -> float:
    """Return a client's value as a float. Raises ValueError if it is not a finite number."""
    return _typed(value, kind=float, label=label)


def _check_bounds(value: Any, described: Setting) -> None:
    if described.choices and value not in described.choices:
        raise ValueError(f"{described.label} must be one of {', '.join(described.choices)}, not {value!r}.")
    if isinstance(value, (str, bool)):
        return
    size = len(value) if isinstance(value, tuple) else value
    if described.low is not None and size < described.low:
        raise ValueError(
            f"{described.label} is {_written(size)}; the smallest allowed is {_written(described.low)}."
        )
    if described.high is not None and size > described.high:
        raise ValueError(
            f"{described.label} is {_written(size)}; the largest allowed is {_written(described.high)}."
        )
    if isinstance(value, int) and described.step and value % described.step:
        raise ValueError(f"{described.label} is {value}; it must be a multiple of {described.step:g}.")


def fill_words(template: str, *, identifier: str, class_noun: str) -> str:
    """Return a prompt with {identifier} and {class_noun} filled in; an empty word leaves no extra space."""
    filled = template.replace("{identifier}", identifier).replace("{class_noun}", class_noun)
    return " ".join(filled.split())


def to_dict(config: Checked) -> dict[str, Any]:
    """Return a config as a dictionary of JSON-compatible values, one entry per field."""
    values = {item.name: getattr(config, item.name) for item in fields(config)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def from_dict(cls: type[ConfigT], data: Mapping[str, Any]) -> ConfigT:
    """Build a config from JSON values, including those saved by older versions (see :class:`Checked`).

    Raises ValueError that names the unknown fields or the value out of bounds.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"Settings must be a table of names and values, not {_written(data)}.")
    data = {name: value for name, value in data.items() if not _is_retired(cls, name, value)}
    known = {item.name for item in fields(cls)}
    unknown = sorted(set(data) - known)
    if unknown:
        raise ValueError(
            f"Unknown setting {', '.join(map(repr, unknown))}; known ones are {', '.join(sorted(known))}."
        )
    return cls(**data)


def _is_retired(cls: type[Checked], name: str, value: Any) -> bool:
    return name in cls.retired and (not cls.retired[name] or value in cls.retired[name])
