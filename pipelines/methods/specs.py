"""The one registry of methods, without torch: forms, tabs, costs, cards, exports and experiments read it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, cast

from pipelines.config import (
    ASSETS,
    BlockLoRAConfig,
    CutMixUnmixConfig,
    DreamBoothConfig,
    SVDiffConfig,
    TextualInversionConfig,
    TrainConfig,
    from_dict,
)

if TYPE_CHECKING:
    from pipelines.methods.core import Method

Inputs = Literal["one subject", "several subjects", "a sequence", "one image", "none"]


@dataclass(frozen=True)
class Compared:
    """A row of the experiment "Which method?"; ``preset`` "" is the experiment's own choice."""

    key: str
    label: str
    preset: str = ""


@dataclass(frozen=True)
class MethodSpec:
    """What is known of a method before its module is imported.

    ``inputs`` is what it learns from: "one subject", "several subjects", "a sequence" (one subject after the other, each
    on its parents), "one image", or "none" (no photographs). ``tab`` is the page that offers it. ``adapter_kinds`` are
    keys of ``pipelines.adapters.KINDS``: what its runs may hold. ``implementation`` is the module that is the
    :class:`pipelines.methods.core.Method`. ``keeps_pixels``: its batches mix pictures, so subjects come with their
    pixels. ``preparing`` is what the page says during its ``prepare``.
    """

    name: str
    title: str
    config: type[TrainConfig]
    adapter_kinds: tuple[str, ...]
    implementation: str
    inputs: Inputs = "one subject"
    tab: str = "train"
    compared: tuple[Compared, ...] = ()
    keeps_pixels: bool = False
    preparing: str = ""

    def load(self) -> "Method":
        """Import the implementation, which brings torch along."""
        return cast("Method", import_module(self.implementation))


METHODS: dict[str, MethodSpec] = {
    "dreambooth": MethodSpec(
        name="dreambooth",
        title="DreamBooth",
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
        config=BlockLoRAConfig,
        adapter_kinds=("lora",),
        implementation="pipelines.methods.block_lora",
        compared=(Compared("block_lora", "Block LoRA"),),
    ),
    "svdiff": MethodSpec(
        name="svdiff",
        title="SVDiff",
        config=SVDiffConfig,
        adapter_kinds=("spectral",),
        implementation="pipelines.methods.svdiff",
        compared=(Compared("svdiff", "SVDiff"),),
        preparing="Taking the weights apart",
    ),
    "textual_inversion": MethodSpec(
        name="textual_inversion",
        title="Textual inversion",
        config=TextualInversionConfig,
        adapter_kinds=("words",),
        implementation="pipelines.methods.textual_inversion",
        compared=(Compared("textual_inversion", "Textual inversion"),),
    ),
    "cut_mix_unmix": MethodSpec(
        name="cut_mix_unmix",
        title="Cut-Mix-Unmix",
        config=CutMixUnmixConfig,
        adapter_kinds=("spectral", "lora", "full"),
        implementation="pipelines.methods.cut_mix_unmix",
        inputs="several subjects",
        tab="multi_subject",
        keeps_pixels=True,
        preparing="Preparing the weights",
    ),
}


def method_spec(method: str) -> MethodSpec:
    """Return a method of the registry. Raises ValueError naming the methods there are."""
    if method not in METHODS:
        raise ValueError(f"There is no method {method!r}; choose one of {', '.join(METHODS)}.")
    return METHODS[method]


def method_config(method: str) -> type[TrainConfig]:
    """Return the config class of a method. Raises ValueError naming the methods there are."""
    return method_spec(method).config


def methods_of(tab: str) -> Sequence[MethodSpec]:
    """Return the methods that a page offers, in the registry's order."""
    return [spec for spec in METHODS.values() if spec.tab == tab]


def method_of_kind(adapter_kind: str) -> MethodSpec:
    """Return the first method whose runs hold this kind of adapter: its views suit an imported one."""
    return next(
        (spec for spec in METHODS.values() if adapter_kind in spec.adapter_kinds), METHODS["dreambooth"]
    )


def preset_names(method: str, family: str) -> list[str]:
    """Return the names of the presets that suit a method on a base family, the quickest first."""
    return list(_presets(method, family))


def preset(method: str, family: str, name: str = "Quick") -> Any:
    """Return a shipped preset, a config of the method's class. Raises ValueError naming the presets there are."""
    presets = _presets(method, family)
    if name not in presets:
        raise ValueError(f"There is no preset {name!r}; choose one of {', '.join(presets)}.")
    return from_dict(method_config(method), presets[name])


def photograph_settings(method: str, family: str) -> dict[str, Any]:
    """Return the settings that suit photographs of the user's own on a base family, instead of a preset's; {}: none."""
    return _preset_file(method, family).get("photographs", {})


def _presets(method: str, family: str) -> dict[str, dict[str, Any]]:
    return _preset_file(method, family)["presets"]


def _preset_file(method: str, family: str) -> dict[str, Any]:
    method_spec(method)
    path = ASSETS / "presets" / f"{method}.{family}.json"
    if not path.is_file():
        raise ValueError(f"No presets are shipped for {method} on the base family {family!r}.")
    return json.loads(path.read_text(encoding="utf-8"))
