"""Export and import of a run's settings as a JSON file, and the command line that repeats the run. No torch."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from pipelines.config import MAX_TEXT, clean_text, from_dict, to_dict
from pipelines.data.captions import checked_repeats
from pipelines.data.subject import stored_subjects
from pipelines.methods.specs import method_config
from pipelines.models.inspection import portable_spec
from pipelines.runs.store import IMPORTED, Run

FORMAT = 1
MAX_CHARACTERS = 200_000
NEEDED = ("atelier", "method", "config")
OPTIONAL = ("base", "name", "photos", "captions", "repeats", "command")
MODULE = "pipelines.cli"


def settings_of(run: Run) -> dict[str, Any]:
    """Return the settings to repeat a run, without its photographs and without local paths.

    Raises ValueError for an imported adapter, which has no settings, and for a run of several subjects.
    """
    if run.method == IMPORTED:
        raise ValueError(
            f"{run.name!r} was loaded from a file, so it has no settings; choose a run made here."
        )
    subjects = stored_subjects(run.path, run.config)
    if len(subjects) > 1:
        raise ValueError(
            f"{run.name!r} learned several subjects, which no settings file holds; repeat it on its page."
        )
    photos = [path.relative_to(run.path / "photos").as_posix() for one in subjects for path in one.photos]
    captions = {name: text for one in subjects for name, text in one.captions.items()}
    repeats = {name: times for one in subjects for name, times in one.repeats.items()}
    base = portable_spec(run.base["spec"])
    command = ["python", "-m", MODULE, "--settings", "run.json"]
    return {
        "atelier": FORMAT,
        "method": run.method,
        "config": run.config,
        "base": base,
        "name": run.name,
        "photos": photos,
        "captions": {name: text for name, text in captions.items() if text},
        "repeats": {name: times for name, times in repeats.items() if times != 1},
        "command": shlex.join([*command, *([] if base else ["--base", "BASE"]), *photos]),
    }


def read_settings(text: str) -> dict[str, Any]:
    """Parse exported settings: ``method``, ``config`` (validated), ``base``, ``name``, ``captions`` and ``repeats``.

    ``text`` is the result of :func:`settings_of` as JSON; missing entries are "" or {}. Raises ValueError with one
    sentence for anything else.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError("These settings are far too long; choose the JSON file that Atelier wrote.")
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(
            "These settings are not JSON; choose the file that Atelier wrote, unchanged."
        ) from None
    if not isinstance(told, dict) or any(name not in told for name in NEEDED):
        raise ValueError(
            f"These are not Atelier settings ({' or '.join(NEEDED)} is missing); choose a file written by Atelier."
        )
    if told["atelier"] != FORMAT:
        raise ValueError(
            f"These settings have format {str(told['atelier'])[:20]!r} and this program reads {FORMAT}; "
            "use the version of Atelier that wrote them."
        )
    unknown = sorted(set(told) - {*NEEDED, *OPTIONAL})
    if unknown:
        raise ValueError(f"These settings contain the unknown entry {unknown[0][:60]!r}; remove it.")
    if not isinstance(told["method"], str) or not isinstance(told["config"], Mapping):
        raise ValueError(
            "In these settings, method must be a name and config a table; use the file as Atelier wrote it."
        )
    checked = from_dict(method_config(told["method"]), told["config"])
    return {
        "method": told["method"],
        "config": to_dict(checked),
        "base": _text(told, "base"),
        "name": _text(told, "name"),
        "captions": _captions(told.get("captions", {})),
        "repeats": _repeats(told.get("repeats", {})),
    }


def _text(told: Mapping[str, Any], name: str) -> str:
    value = told.get(name, "")
    if not isinstance(value, str):
        raise ValueError(f"In these settings, {name} must be a text, not {str(value)[:60]!r}; correct it.")
    return clean_text(value)


def _captions(told: Any) -> dict[str, str]:
    if not isinstance(told, Mapping) or not all(isinstance(text, str) for text in told.values()):
        raise ValueError("In these settings, captions must be a table of texts by file name; correct it.")
    return {str(name)[:MAX_TEXT]: clean_text(text) for name, text in told.items()}


def _repeats(told: Any) -> dict[str, int]:
    if not isinstance(told, Mapping):
        raise ValueError("In these settings, repeats must be a table of numbers by file name; correct it.")
    return checked_repeats(told)
