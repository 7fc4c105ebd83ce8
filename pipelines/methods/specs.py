"""The registry of methods, used by forms, tabs, costs, model cards, exports and experiments. Does not import torch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from math import log
from typing import TYPE_CHECKING, Any, Literal, cast

from pipelines.config import (
    ASSETS,
    BlockLoRAConfig,
    CLoRAConfig,
    CutMixUnmixConfig,
    DreamBoothConfig,
    ImageEditConfig,
    SVDiffConfig,
    TextualInversionConfig,
    TrainConfig,
    W2WInversionConfig,
    from_dict,
    to_dict,
)

if TYPE_CHECKING:
    from pipelines.methods.core import Method

UNCOMPARED = ("steps", "warmup_steps", "sample_every", "sample_prompts", "sample_steps")
Inputs = Literal["one subject", "several subjects", "a sequence", "one image", "none"]


@dataclass(frozen=True)
class Compared:
    """A row of the experiment "Which method?"; with ``preset`` "" the experiment selects the preset."""

    key: str
    label: str
    preset: str = ""


@dataclass(frozen=True)
class MethodSpec:
    """The description of a method, available before its module is imported.

    ``inputs`` is the training data: "one subject", "several subjects", "a sequence" (one subject after another, each
    run building on its parents), "one image", or "none" (no photographs). ``tab`` is the tab that offers the method.
    ``adapter_kinds`` are the kinds of adapters that its runs may contain, keys of ``pipelines.adapters.KINDS``.
    ``implementation`` is the module that implements :class:`pipelines.methods.core.Method`. ``keeps_pixels``: its
    batches mix pictures, so subjects include their pixels. ``preparing`` is the status text during its ``prepare``.
    ``about`` says in one sentence what it trains.
    """

    name: str
    title: str
    about: str
    config: type[TrainConfig]
    adapter_kinds: tuple[str, ...]
    implementation: str
    inputs: Inputs = "one subject"
    tab: str = "train"
    compared: tuple[Compared, ...] = ()
    keeps_pixels: bool = False
    preparing: str = ""

    def load(self) -> "Method":
        """Import and return the implementation, which imports torch."""
        return cast("Method", import_module(self.implementation))


METHODS: dict[str, MethodSpec] = {
    "dreambooth": MethodSpec(
        name="dreambooth",
        title="DreamBooth",
        about="Binds a rare word to your subject; trains a LoRA, or in “Full” every weight of the UNet.",
        config=DreamBoothConfig,
        adapter_kinds=("lora", "full"),
        implementation="pipelines.methods.dreambooth",
        compared=(
            Compared("dreambooth-full", "DreamBooth, full", preset="Full"),
            Compared("dreambooth-lora", "DreamBooth, LoRA"),
        ),
    ),
    "block_lora": MethodSpec(
        name="block_lora",
        title="Block LoRA",
        about="A LoRA whose rank is set for each block of the UNet, so that parts stay untrained.",
        config=BlockLoRAConfig,
        adapter_kinds=("lora",),
        implementation="pipelines.methods.block_lora",
        compared=(Compared("block_lora", "Block LoRA"),),
    ),
    "svdiff": MethodSpec(
        name="svdiff",
        title="SVDiff",
        about="Trains only the singular values of the base's weights, which makes a small file.",
        config=SVDiffConfig,
        adapter_kinds=("spectral",),
        implementation="pipelines.methods.svdiff",
        compared=(Compared("svdiff", "SVDiff"),),
        preparing="Taking the weights apart",
    ),
    "textual_inversion": MethodSpec(
        name="textual_inversion",
        title="Textual inversion",
        about="Trains only the embedding of the trigger word; the weights stay as they are.",
        config=TextualInversionConfig,
        adapter_kinds=("words",),
        implementation="pipelines.methods.textual_inversion",
        compared=(Compared("textual_inversion", "Textual inversion"),),
    ),
    "cut_mix_unmix": MethodSpec(
        name="cut_mix_unmix",
        title="Cut-Mix-Unmix",
        about="Trains two or three subjects on mixed pictures, so that they stay separate in one picture.",
        config=CutMixUnmixConfig,
        adapter_kinds=("spectral", "lora", "full"),
        implementation="pipelines.methods.cut_mix_unmix",
        inputs="several subjects",
        tab="multi_subject",
        keeps_pixels=True,
        preparing="Preparing the weights",
    ),
    "c_lora": MethodSpec(
        name="c_lora",
        title="C-LoRA",
        about="Learns one concept after another, and keeps each off the weights of the earlier ones.",
        config=CLoRAConfig,
        adapter_kinds=("continual",),
        implementation="pipelines.methods.c_lora",
        inputs="a sequence",
        tab="continual",
    ),
    "w2w_inversion": MethodSpec(
        name="w2w_inversion",
        title="w2w inversion",
        about="Finds the point of a weight space whose model draws the person in one photograph.",
        config=W2WInversionConfig,
        adapter_kinds=("subspace",),
        implementation="pipelines.methods.w2w_inversion",
        inputs="one image",
        tab="identity_space",
    ),
    "image_edit": MethodSpec(
        name="image_edit",
        title="Image editing",
        about="Learns one photograph with its caption, so that a changed caption edits it.",
        config=ImageEditConfig,
        adapter_kinds=("spectral",),
        implementation="pipelines.methods.image_edit",
        inputs="one image",
        tab="edit",
        preparing="Taking the weights apart",
    ),
}


def method_spec(method: str) -> MethodSpec:
    """Return a method's spec. Raises ValueError that lists the available methods for an unknown one."""
    if method not in METHODS:
        raise ValueError(f"There is no method {method!r}; choose one of {', '.join(METHODS)}.")
    return METHODS[method]


def method_config(method: str) -> type[TrainConfig]:
    """Return a method's config class. Raises ValueError that lists the available methods for an unknown one."""
    return method_spec(method).config


def methods_of(tab: str) -> Sequence[MethodSpec]:
    """Return the methods that a tab offers, in the registry's order."""
    return [spec for spec in METHODS.values() if spec.tab == tab]


def method_of_kind(adapter_kind: str) -> MethodSpec:
    """Return the first method with this kind of adapter; its views are used for imported adapters."""
    return next(
        (spec for spec in METHODS.values() if adapter_kind in spec.adapter_kinds), METHODS["dreambooth"]
    )


def preset_names(method: str, family: str) -> list[str]:
    """Return the names of the presets of a method for a base family, the fastest first."""
    return list(_presets(method, family))


def preset(method: str, family: str, name: str = "Quick") -> Any:
    """Return a shipped preset as a config. Raises ValueError that lists the available presets for an unknown one."""
    presets = _presets(method, family)
    if name not in presets:
        raise ValueError(f"There is no preset {name!r}; choose one of {', '.join(presets)}.")
    return from_dict(method_config(method), presets[name])


def preset_of(method: str, family: str, config: Mapping[str, Any]) -> str:
    """Return the preset that a run's settings come from; "" if they were changed, or if there is no such preset.

    Compared are the settings in which the presets of a method differ, except for those of the samples and for the steps,
    which depend on the number of photographs.
    """
    differing = _differing(method, family)
    found = [
        (abs(log(values["steps"] / max(1, config.get("steps") or 1))), name)
        for name, values in differing.items()
        if all(config.get(key) == value for key, value in values.items() if key not in UNCOMPARED)
    ]
    return min(found, default=(0.0, ""))[1]


@cache
def _differing(method: str, family: str) -> dict[str, dict[str, Any]]:
    """Return, for each preset, its steps and the settings in which the presets differ."""
    try:
        values = {name: to_dict(preset(method, family, name)) for name in preset_names(method, family)}
    except ValueError:  # an imported run, or a method or base without presets
        return {}
    first = next(iter(values.values()))
    names = [key for key in first if any(each[key] != first[key] for each in values.values())]
    return {
        preset_name: {key: each[key] for key in (*names, "steps")} for preset_name, each in values.items()
    }


def photograph_settings(method: str, family: str) -> dict[str, Any]:
    """Return the settings that override a preset's for the user's own photographs on a base family; {} for none."""
    return _preset_file(method, family).get("photographs", {})


def _presets(method: str, family: str) -> dict[str, dict[str, Any]]:
    return _preset_file(method, family)["presets"]


def _preset_file(method: str, family: str) -> dict[str, Any]:
    method_spec(method)
    path = ASSETS / "presets" / f"{method}.{family}.json"
    if not path.is_file():
        raise ValueError(f"No presets are shipped for {method} on the base family {family!r}.")
    return json.loads(path.read_text(encoding="utf-8"))
