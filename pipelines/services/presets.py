"""The presets of a method: the shipped ones and a user's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipelines.config import TrainConfig
from pipelines.methods.specs import method_spec, preset, preset_names
from pipelines.runs.presets import PresetStore
from pipelines.services.resources import Resources


@dataclass(frozen=True)
class PresetRow:
    """A preset to choose from; ``own`` tells one that the user has saved from a shipped one."""

    name: str
    own: bool = False


class PresetService:
    """The presets of a method: the shipped ones and a user's own."""

    def __init__(self, resources: Resources) -> None:
        self.store = PresetStore(resources.root, owner=resources.owner)

    def list(self, method: str, family: str) -> list[PresetRow]:
        """Return the presets of a method for a base family: the shipped ones, the fastest first, then the user's own."""
        shipped = [PresetRow(name) for name in preset_names(method, family)]
        return shipped + [PresetRow(name, own=True) for name in self.store.names(method, family)]

    def read(self, method: str, family: str, row: PresetRow) -> Any:
        """Return a preset as a config. Raises ValueError for a missing or damaged one."""
        return self.store.read(method, family, row.name) if row.own else preset(method, family, row.name)

    def save(self, method: str, family: str, name: str, config: TrainConfig) -> PresetRow:
        """Save settings under a name. Raises ValueError for an invalid name or one that is taken."""
        if not isinstance(config, method_spec(method).config):
            raise ValueError(
                f"These settings are not those of {method_spec(method).title}; choose its preset first."
            )
        return PresetRow(self.store.save(method, family, name, config), own=True)

    def delete(self, method: str, family: str, row: PresetRow) -> None:
        """Delete one of the user's own presets. Raises ValueError for a shipped or missing one."""
        if not row.own:
            raise ValueError(
                f"The preset {row.name!r} is shipped with Atelier and stays; delete one of your own."
            )
        self.store.delete(method, family, row.name)
