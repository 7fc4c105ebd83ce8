"""Widgets from config dataclasses and configs from widgets: no number of a knob is written down twice."""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields
from typing import Any, TypeVar, get_origin, get_type_hints

import gradio as gr
from gradio.components import Component

from pipelines.config import Checked, Knob, from_dict

MOST_SLIDER_STOPS = 320
ConfigT = TypeVar("ConfigT", bound=Checked)


def field_names(cls: type[Checked], *, advanced: bool | None = None) -> list[str]:
    """Return the names of a config's fields; ``advanced`` picks those behind, or before, "Advanced"."""
    return [item.name for item in fields(cls) if advanced is None or _knob(item).advanced == advanced]


def widgets(config: Checked, names: Iterable[str]) -> dict[str, Component]:
    """Create one labelled widget per named field, in the current Blocks context, holding the config's values."""
    kinds = get_type_hints(type(config))
    by_name = {item.name: item for item in fields(config)}
    values = shown(config)
    return {name: _widget(_knob(by_name[name]), kind=kinds[name], value=values[name]) for name in names}


def shown(config: Checked) -> dict[str, Any]:
    """Return the values as widgets hold them: a tuple of texts is one text of several lines."""
    values = {item.name: getattr(config, item.name) for item in fields(config)}
    return {name: "\n".join(value) if isinstance(value, tuple) else value for name, value in values.items()}


def parse(cls: type[ConfigT], values: Mapping[str, Any]) -> ConfigT:
    """Build a config from what widgets hold; fields that are left out keep their default.

    Raises ValueError naming an empty number or a value out of bounds.
    """
    kinds = get_type_hints(cls)
    labels = {item.name: _knob(item).label for item in fields(cls)}
    typed: dict[str, Any] = {}
    for name, value in values.items():
        if value is None and kinds[name] is not str:
            raise ValueError(f"{labels[name]} is empty; please type a value.")
        if get_origin(kinds[name]) is tuple and isinstance(value, str):
            value = tuple(line.strip() for line in value.splitlines() if line.strip())
        typed[name] = "" if value is None else value
    return from_dict(cls, typed)


def default(cls: type[Checked], name: str) -> Any:
    """Return the default of a field."""
    item = next(item for item in fields(cls) if item.name == name)
    return None if item.default is MISSING else item.default


def _knob(item: Field) -> Knob:
    return item.metadata["knob"]


def _widget(described: Knob, *, kind: Any, value: Any) -> Component:
    words = {"label": described.label, "info": described.help, "value": value, "interactive": True}
    if get_origin(kind) is tuple:
        return gr.Textbox(**words, lines=2, max_lines=6)
    if kind is bool:
        return gr.Checkbox(**words)
    if described.choices:
        return gr.Dropdown(**words, choices=list(described.choices))
    if kind is str:
        return gr.Textbox(**words, max_lines=2)
    whole = 0 if kind is int else None
    if described.step and described.low is not None and described.high is not None:
        stops = (described.high - described.low) / described.step
        if stops <= MOST_SLIDER_STOPS:
            return gr.Slider(
                **words, minimum=described.low, maximum=described.high, step=described.step, precision=whole
            )
    return gr.Number(**words, minimum=described.low, maximum=described.high, precision=whole)
