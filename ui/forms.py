"""Widgets from config dataclasses and configs from widgets, so that bounds and defaults are written only once."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, TypeVar, get_origin, get_type_hints

import gradio as gr
from gradio.components import Component

from pipelines.config import Checked, Setting, SubjectConfig, from_dict
from pipelines.fields import GROUPS
from pipelines.methods.specs import method_config, methods_of

MOST_SLIDER_STOPS = 320
GROUP_TITLES = {name: name.capitalize() for name in GROUPS}
ConfigT = TypeVar("ConfigT", bound=Checked)


def field_names(cls: type[Checked], *, advanced: bool | None = None) -> list[str]:
    """Return the names of a config's fields; ``advanced`` selects those inside or outside the "Advanced" section."""
    return [
        item.name for item in fields(cls) if advanced is None or _setting_widget(item).advanced == advanced
    ]


@dataclass
class OwnRow:
    """Fields of one group that only some methods of a tab have; ``widgets`` maps each to the name of its widget."""

    group: str = ""
    methods: list[str] = field(default_factory=list)
    widgets: dict[str, str] = field(default_factory=dict)


def own_rows(tab: str) -> dict[str, OwnRow]:
    """Return the fields that a tab shows only for some of its methods, by the name of their row.

    In each group of the advanced settings, a method's own fields form a row, and so does each class of settings that
    several methods inherit.
    """
    rows: dict[str, OwnRow] = {}
    for spec in methods_of(tab):
        for name, widget in own_names(spec.name).items():
            owner, group = _owner(spec.config, name), group_of(spec.config, name)
            title = f"own_{spec.name if owner is spec.config else owner.__name__}"
            row = rows.setdefault(title if group == GROUPS[0] else f"{title}_{group}", OwnRow(group))
            row.widgets[name] = widget
            row.methods += [] if spec.name in row.methods else [spec.name]
    return rows


def group_of(cls: type[Checked], name: str) -> str:
    """Return the part of the advanced settings that a field belongs to, one of ``GROUPS``."""
    return next(_setting_widget(item).group for item in fields(cls) if item.name == name)


def applicable(method: str, values: Mapping[str, Any]) -> dict[str, bool]:
    """Return whether each dependent field of a method has an effect next to these values, all by widget name."""
    names = widget_names(method)
    by_field = {name: values.get(widget) for name, widget in names.items()}
    return {
        names[item.name]: _setting_widget(item).applies(by_field)
        for item in fields(method_config(method))
        if _setting_widget(item).needs
    }


def deciding(tab: str) -> list[str]:
    """Return the widgets of a tab on whose values it depends whether other fields have an effect."""
    return _widgets_of(tab, lambda item, config: any(item.name in _needed(each) for each in fields(config)))


def dependent(tab: str) -> list[str]:
    """Return the widgets of a tab that have an effect only next to certain values of others."""
    return _widgets_of(tab, lambda item, config: bool(_setting_widget(item).needs))


def _needed(item: Field) -> set[str]:
    return {need.partition("=")[0] for need in _setting_widget(item).needs}


def _widgets_of(tab: str, wanted: Callable[[Field, type[Checked]], bool]) -> list[str]:
    found = [
        widget_names(spec.name)[item.name]
        for spec in methods_of(tab)
        for item in fields(spec.config)
        if wanted(item, spec.config)
    ]
    return list(dict.fromkeys(found))


def common_name(field_name: str) -> str:
    """Return the name of the widget of a field that all methods have; the widget "seed" is the playground's."""
    return {"seed": "training_seed"}.get(field_name, field_name)


def widget_names(method: str) -> dict[str, str]:
    """Return every field of a method, mapped to the name of its widget."""
    own = own_names(method)
    return {name: own.get(name, common_name(name)) for name in field_names(method_config(method))}


def own_names(method: str) -> dict[str, str]:
    """Return the fields a method has in addition to the common ones, mapped to the names of their widgets."""
    cls, shared = method_config(method), set(field_names(SubjectConfig))
    own = [name for name in field_names(cls) if name not in shared]
    return {name: f"{method}_{name}" if _owner(cls, name) is cls else name for name in own}


def _owner(cls: type[Checked], name: str) -> type:
    """Return the class that first declares a field."""
    return [each for each in cls.__mro__ if name in vars(each).get("__annotations__", {})][-1]


def filled(method: str, config: Checked) -> dict[str, Any]:
    """Return the values of a method's config by widget name."""
    names = widget_names(method)
    return {names[name]: value for name, value in shown(config).items()}


def parse_method(method: str, values: Mapping[str, Any]) -> Any:
    """Build a method's config from the widgets of all methods. Raises ValueError like :func:`parse`."""
    given = {name: values[widget] for name, widget in widget_names(method).items() if widget in values}
    return parse(method_config(method), given)


def widgets(config: Checked, names: Iterable[str]) -> dict[str, Component]:
    """Create one labelled widget per field in the current Blocks context, with the config's values.

    A field without effect next to the other values is hidden.
    """
    kinds = get_type_hints(type(config))
    by_name = {item.name: item for item in fields(config)}
    values = shown(config)
    made = {
        name: _widget(_setting_widget(by_name[name]), kind=kinds[name], value=values[name]) for name in names
    }
    for name, widget in made.items():
        widget.visible = _setting_widget(by_name[name]).applies(values)
    return made


def shown(config: Checked) -> dict[str, Any]:
    """Return the values in the form that widgets use: a tuple of strings becomes one text with one string per line."""
    values = {item.name: getattr(config, item.name) for item in fields(config)}
    return {name: "\n".join(value) if isinstance(value, tuple) else value for name, value in values.items()}


def parse(cls: type[ConfigT], values: Mapping[str, Any]) -> ConfigT:
    """Build a config from widget values; missing fields keep their default.

    Raises ValueError naming an empty number field or a value out of bounds.
    """
    kinds = get_type_hints(cls)
    labels = {item.name: _setting_widget(item).label for item in fields(cls)}
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


def _setting_widget(item: Field) -> Setting:
    return item.metadata["setting"]


def _widget(described: Setting, *, kind: Any, value: Any) -> Component:
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
    return gr.Number(
        **words, precision=whole
    )  # without bounds: Gradio's error message about bounds does not name the field
