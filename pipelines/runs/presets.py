"""A user's own presets: the settings of a method under a name, one JSON file each. Nothing here needs torch.

A file is ``presets/<method>.<family>.<words of the name>-<hash>.json`` in the data folder and holds its format, owner,
method, base family, name and settings. The words of a subject (its class noun and trigger word) are not part of it.
"""

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from pipelines.config import TrainConfig, clean_text, from_dict, to_dict
from pipelines.files import disk_sentences, file_stem, write_json
from pipelines.methods.specs import method_config, preset_names

FORMAT = 1
NAME = re.compile(r"[^\W_](?:[\w .,()+-]{0,38}[\w.)+])?")
ENTRIES = {"format": int, "owner": str, "method": str, "family": str, "name": str, "settings": dict}

log = logging.getLogger(__name__)


class PresetStore:
    """The presets of one owner below a data folder; those of other owners are treated as missing."""

    def __init__(self, root: Path, *, owner: str = "") -> None:
        self.folder = root / "presets"
        self.owner = owner

    def names(self, method: str, family: str) -> list[str]:
        """Return the names of the readable presets of a method for a base family, in alphabetical order."""
        return sorted((told["name"] for told in self._all(method, family)), key=str.lower)

    def read(self, method: str, family: str, name: str) -> TrainConfig:
        """Return a preset as a config with the default words.

        Raises ValueError if there is none of that name, or its file is damaged or of another version.
        """
        path = self._path(method, family, name)
        if not path.is_file():
            raise ValueError(f"There is no preset {name[:60]!r} any more; choose another.")
        settings = self._told(path)["settings"]
        try:
            return from_dict(method_config(method), settings)
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"The preset {name!r} cannot be used: {error} Delete it and save it again."
            ) from None

    def save(self, method: str, family: str, name: str, config: TrainConfig) -> str:
        """Write a preset atomically and return its name.

        Raises ValueError for an invalid name, or one that another preset of this method and family has.
        """
        name = clean_text(name)
        if not NAME.fullmatch(name):
            raise ValueError(
                "A preset's name has 1 to 40 letters, digits, spaces or .,()+-_ and begins with a letter or digit; "
                "enter such a name."
            )
        taken = [*preset_names(method, family), *self.names(method, family)]
        if same := next((other for other in taken if other.lower() == name.lower()), ""):
            raise ValueError(f"There is already a preset {same!r} of this method; choose another name.")
        told = {
            "format": FORMAT,
            "owner": self.owner,
            "method": method,
            "family": family,
            "name": name,
            "settings": _without_words(config),
        }
        write_json(self._path(method, family, name), told)
        return name

    def delete(self, method: str, family: str, name: str) -> None:
        """Delete a preset, also a damaged one. Raises ValueError if there is none of that name."""
        path = self._path(method, family, name)
        if not path.is_file():
            raise ValueError(f"There is no preset {name[:60]!r} any more; choose another.")
        with disk_sentences():
            path.unlink()

    def _all(self, method: str, family: str) -> Iterator[dict[str, Any]]:
        for path in self.folder.glob(f"{method}.{family}.*.json"):
            try:
                told = self._told(path)
            except ValueError as error:
                log.warning("%s", error)
                continue
            if (told["owner"], told["method"], told["family"]) == (self.owner, method, family):
                yield told

    def _told(self, path: Path) -> dict[str, Any]:
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            told = None
        if not isinstance(told, dict) or not all(
            isinstance(told.get(key), kind) for key, kind in ENTRIES.items()
        ):
            raise ValueError(f"The preset file {path.name} is damaged; delete it and save the preset again.")
        if told["format"] != FORMAT:
            raise ValueError(
                f"The preset file {path.name} has format {told['format']} and this version reads {FORMAT}; "
                "use the version of Atelier that wrote it."
            )
        return told

    def _path(self, method: str, family: str, name: str) -> Path:
        method_config(method)  # an unknown method is refused, so that no other folder is reached
        key = "\n".join((self.owner, method, family, name.lower()))
        words = file_stem(name, default="preset", most_bytes=40)
        return self.folder / f"{method}.{family}.{words}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.json"


def _without_words(config: TrainConfig) -> Mapping[str, Any]:
    """Return the settings without the fields that belong to a subject."""
    words = {item.name for item in fields(config) if not item.metadata["setting"].advanced}
    return {name: value for name, value in to_dict(config).items() if name not in words}
