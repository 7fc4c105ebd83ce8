"""Stores the settings of a picture in its PNG file and reads them to generate it again.

The text chunk ``atelier`` contains JSON: the fields of SampleConfig, ``stack`` (runs and strengths) and ``base``, but
no local paths. This module does not import torch.
"""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol

from PIL import Image, PngImagePlugin

from pipelines.config import SampleConfig, from_dict, real_number, to_dict, whole_number
from pipelines.files import file_stem, write_atomic
from pipelines.models.inspection import locate, portable_spec
from pipelines.runs.library import adapter_hash, trained_steps
from pipelines.runs.store import Run, snapshot_name
from pipelines.unet_blocks import BlockStrengths, Strength

FORMAT = 2  # version of the text chunk; 1 had ``run`` and ``strength`` instead of ``stack``
SETTINGS_KEY = "atelier"
MOST_STEPS = 10**6  # far more than any run has
HASH_LENGTH = 16  # characters of a hash stored in a picture
ELSEWHERE = {  # what a picture is that the playground cannot generate, by the name of its further settings
    "edit": "is an edited photograph; open its run on the page Edit to make it again.",
    "mix": "is a mix of two runs; mix them on the page Edit to make it again.",
}
MAX_CHUNK = 20_000  # maximum characters of settings; Atelier writes fewer than 2000


class Drawn(Protocol):
    """The facts about the base that are stored in a picture."""

    spec: str
    name: str
    hash: str


@dataclass(frozen=True)
class Layer:
    """One run's adapter in a picture: the finished adapter, or the run's snapshot after ``step``.

    In the settings stored in a picture, ``step`` is the training step of any adapter, and ``adapter`` is the beginning
    of the sha256 of a finished adapter's file. ``blocks`` is a list of 26 block weights that multiply the strength;
    "" is the whole adapter.
    """

    run: str
    name: str
    strength: float
    step: int | None = None
    blocks: str = ""
    adapter: str = ""

    @property
    def applied(self) -> Strength:
        """The strength to apply: one number, or one per block position."""
        return BlockStrengths.parse(self.blocks).times(self.strength) if self.blocks else self.strength

    def told(self) -> dict[str, Any]:
        """Return the layer as a dictionary for the text chunk and the API."""
        step = {} if self.step is None else {"step": self.step}
        blocks = {"blocks": self.blocks} if self.blocks else {}
        adapter = {"adapter": self.adapter} if self.adapter else {}
        return {"run": self.run, "name": self.name, "strength": self.strength, **blocks, **step, **adapter}


class GoneError(ValueError):
    """A picture's run or base no longer exists; ``recalled`` contains its other settings."""

    def __init__(self, sentence: str, *, recalled: dict[str, Any]) -> None:
        super().__init__(sentence)
        self.recalled = recalled


def picture_facts(config: SampleConfig, *, index: int, stack: Sequence[Layer], base: Drawn) -> dict[str, Any]:
    """Return the metadata of picture ``index`` of ``config.count``, which generates the same picture alone."""
    return {
        "atelier": FORMAT,
        **to_dict(config),
        "seed": config.seed + index,
        "count": 1,
        "stack": [layer.told() for layer in stack],
        "base": {"spec": portable_spec(base.spec), "name": base.name, "hash": base.hash[:HASH_LENGTH]},
    }


def picture_name(prompt: str, seed: int, *, ending: str = "") -> str:
    """Return a picture's file name, such as "a-photo-of-a-zwx-dog-seed-7.png"."""
    return f"{file_stem(prompt, default='picture')}-seed-{seed}{ending}.png"


def save_pictures(
    images: Sequence[Image.Image],
    config: SampleConfig,
    *,
    stack: Sequence[Layer],
    base: Drawn,
    path: Callable[[int], Path],
) -> list[Path]:
    """Save the pictures generated with ``config``, each with its settings; ``path`` maps a seed to its file."""
    paths = [path(config.seed + index) for index in range(len(images))]
    for index, image in enumerate(images):
        save_png(image, paths[index], picture_facts(config, index=index, stack=stack, base=base))
    return paths


def save_png(image: Image.Image, path: Path, meta: Mapping[str, Any]) -> None:
    """Write a picture with ``meta`` as JSON in a text chunk, atomically; equal input gives equal bytes."""
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text(SETTINGS_KEY, json.dumps(meta, sort_keys=True))
    stream = io.BytesIO()
    image.save(stream, format="PNG", pnginfo=chunks)
    write_atomic(path, stream.getvalue())


def read_png_settings(path: Path) -> dict[str, Any]:
    """Return the ``meta`` that :func:`save_png` wrote, without decoding pixels.

    Raises ValueError if the file contains no settings of Atelier.
    """
    try:
        with Image.open(path, formats=("PNG",)) as image:
            text = image.info[SETTINGS_KEY]
        settings = json.loads(text) if len(text) <= MAX_CHUNK else None
    except (
        OSError, KeyError, TypeError, ValueError, SyntaxError, RecursionError,
        Image.DecompressionBombError, Image.DecompressionBombWarning,
    ):  # fmt: skip
        settings = None
    if not isinstance(settings, dict):
        raise ValueError(f"{path.name} holds no settings of Atelier; choose a picture that was made here.")
    return settings


def recall(
    path: Path, *, find: Callable[[str], Run], rename: Callable[[str], str], bases: Sequence[str]
) -> dict[str, Any]:
    """Return ``sample``, ``stack``, ``base`` (a spec), ``base_name`` and ``note`` of a picture from Atelier.

    An entry of the stack has a ``step`` if the picture needs a snapshot of the run instead of its finished adapter.
    ``note`` is a sentence if the picture cannot be reproduced exactly, else "".

    ``find`` returns a run or raises ValueError; ``rename`` returns the current id of a run that has moved; ``bases``
    are the specs to search for a base that is stored only by name. Raises ValueError for a picture without valid
    settings, and :class:`GoneError` if a run or the base is missing.
    """
    told = read_png_settings(path)
    names = {item.name for item in fields(SampleConfig)}
    try:
        sample = from_dict(SampleConfig, {name: value for name, value in told.items() if name in names})
        layers = [_layer(entry) for entry in _stack(told)]
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise ValueError(
            f"{path.name} holds settings that cannot be used ({error}); choose a picture that was made here."
        ) from None
    spec, base_name = _base_told(told)
    runs, gone, shown, notes = [], [], [], [note for name, note in ELSEWHERE.items() if name in told]
    for layer in layers:
        found = _found(layer, find=find, rename=rename)
        if found is None:
            gone.append(layer)
            shown.append(layer)
            continue
        run, placed = found
        state, changed = _state(placed, run)
        runs.append(run)
        shown.append(state)
        notes.append(changed or _other_base(told, run))
    spec = spec or _spec_of(base_name, runs=runs, bases=bases)
    recalled = {
        "sample": to_dict(sample),
        "stack": [layer.told() for layer in shown],
        "base": spec,
        "base_name": base_name or spec,
        "note": next((f"{path.name} {note}" for note in notes if note), ""),
    }
    if gone:
        if unsaved := next((layer for layer in gone if not layer.run), None):
            raise GoneError(
                f"{path.name} shows {unsaved.name!r}, a person of the identity space who was not saved; open the picture "
                "there, or use its other settings with another run.",
                recalled=recalled,
            )
        what = ", ".join(f"{layer.name or layer.run!r} at strength {layer.strength:g}" for layer in gone)
        raise GoneError(
            f"{path.name} was made with {what}, which is not in the library any more; its other settings can be "
            "used with another run.",
            recalled=recalled,
        )
    if not spec:
        raise GoneError(
            f"{path.name} was made on the base {base_name!r}, which is not known here; start Atelier with that "
            "base, or use its settings with another one.",
            recalled=recalled,
        )
    return recalled


def _state(layer: Layer, run: Run) -> tuple[Layer, str]:
    """Return the layer that the run can provide now, and "" or the reason why it differs from the picture's.

    The layer keeps its step if the run has a snapshot of that step; otherwise the finished adapter is used.
    """
    finished = replace(layer, step=None, adapter="")
    if layer.adapter:
        same = adapter_hash(run).startswith(layer.adapter)
    else:
        same = layer.step is None or layer.step in (run.config.get("steps"), trained_steps(run))
    if same:
        return finished, ""
    if layer.step is not None and run.file(snapshot_name(layer.step)).is_file():
        return replace(layer, adapter=""), ""
    when = "" if layer.step is None else f" after step {layer.step}"
    return finished, (
        f"was made with {run.name!r} as it was{when}, which is not kept; its settings draw with the adapter that the run "
        "has now, so the picture will differ."
    )


def _other_base(told: Mapping[str, Any], run: Run) -> str:
    """Return "", or a sentence if the picture was generated on another base than the run's current one."""
    base = told.get("base")
    drawn_on = str(base.get("hash", "")) if isinstance(base, Mapping) else ""
    made_on = str(run.base.get("hash", ""))
    if not drawn_on or not made_on or made_on.startswith(drawn_on):
        return ""
    return f"was made on another base than {run.name!r} has now; its settings draw on that one, so the picture will differ."


def _stack(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    if "stack" in told:
        return list(told["stack"])
    if not told.get("run"):
        return []
    step = {"step": told["step"]} if "step" in told else {}
    return [{"run": told["run"], "name": "", "strength": told.get("strength", 1.0), **step}]


def whole_list(blocks: str) -> str:
    """Convert a list of block weights of any valid length to 26 values; "" if all of them are 1."""
    strengths = BlockStrengths.parse(blocks)
    return "" if strengths == BlockStrengths() else strengths.format(26)


def checked_step(value: Any) -> int | None:
    """Return a training step as an int, or None for None. Raises ValueError for an invalid step."""
    step = None if value is None else whole_number(value, label="Step")
    if step is not None and not 0 <= step <= MOST_STEPS:
        raise ValueError(f"{str(value)[:20]} is no step of a run; give one that it has done.")
    return step


def _layer(entry: Mapping[str, Any]) -> Layer:
    strength = real_number(entry.get("strength"), label="Strength")
    if not 0.0 <= strength <= 2.0:
        raise ValueError(f"a strength of {strength:g}")
    return Layer(
        run=str(entry["run"])[:60],
        name=str(entry.get("name", ""))[:300],
        strength=strength,
        step=checked_step(entry.get("step")),
        blocks=whole_list(str(entry.get("blocks", ""))),
        adapter=str(entry.get("adapter", ""))[:HASH_LENGTH],
    )


def _found(
    layer: Layer, *, find: Callable[[str], Run], rename: Callable[[str], str]
) -> tuple[Run, Layer] | None:
    """Return a layer's run and the layer with the run's current id; None if there is no such run."""
    for run_id in (layer.run, rename(layer.run)):
        try:
            run = find(run_id)
        except ValueError:
            continue
        return run, replace(layer, run=run_id, name=layer.name or run.name)
    return None


def _base_told(told: Mapping[str, Any]) -> tuple[str, str]:
    """Return (spec or "", name or "")."""
    base = told.get("base", "")
    if isinstance(base, Mapping):
        spec = str(base.get("spec", ""))
        return spec if portable_spec(spec) else "", str(base.get("name", ""))[:300]
    return "", str(base)[:300]


def _spec_of(name: str, *, runs: Sequence[Run], bases: Sequence[str]) -> str:
    """Return the spec of a base that a picture stores only by name, or ""."""
    for run in runs:
        if not name or run.base.get("name") == name:
            return str(run.base["spec"])
    for spec in bases:
        try:
            if name and locate(spec).name == name:
                return spec
        except ValueError:
            continue
    return bases[0] if bases and not name else ""
