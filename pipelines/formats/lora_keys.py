"""Conversion of LoRA key names between other programs and Atelier, from a file's header. Does not need torch."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from pipelines.formats.core import PEFT_FILES, Examined, Shapes, Source, trigger_of
from pipelines.unet_blocks import unet_modules

MAX_RANK = 1280  # the widest layer of Stable Diffusion 1.x; a higher rank is never needed

# Other kinds of files: a fragment of their keys -> their name.
OTHER_KINDS = {
    "model.diffusion_model.": "a full Stable Diffusion checkpoint",
    "lokr_": "a LoKr (LyCORIS)",
    "oft_": "an OFT",
    ".on_input": "an IA3",
    "dora_scale": "a DoRA",
    "lora_magnitude_vector": "a DoRA",
    ".diff": "a LyCORIS file with full weight differences",
    ".w_norm": "a LyCORIS file with trained norms",
    ".b_norm": "a LyCORIS file with trained norms",
    "lora_te2_": "a LoRA for SDXL",
    "text_encoder_2.": "a LoRA for SDXL",
    "lora_unet_input_blocks": "a LoRA for SDXL",
    "lora_unet_double_blocks": "a LoRA for Flux",
    "lora_unet_joint_blocks": "a LoRA for SD 3",
    "transformer.": "a LoRA for a transformer model (SD 3, Flux, ...)",
    "string_to_param": "a textual inversion",
    "emb_params": "a textual inversion",
    "_custom_diffusion.": "a Custom Diffusion file",
}


KOHYA_PREFIXES = ("lora_unet_", "lora_te_", "lora_te1_")  # diffusers also writes lora_te1_ for SD 1.x
TEXT_PREFIXES = KOHYA_PREFIXES[1:]
TEXT_MODULE = re.compile(r"encoder\.layers\.\d{1,2}\.(self_attn\.(q|k|v|out)_proj|mlp\.fc[12])")
TEXT_KOHYA = re.compile(r"text_model_encoder_layers_(\d{1,2})_(self_attn|mlp)_((?:q|k|v|out)_proj|fc[12])")


@cache
def _kohya_names() -> dict[str, str]:
    """Return {flat name without prefix: UNet module}; flat names replace dots by underscores."""
    return {name.replace(".", "_"): name for name in unet_modules()}


def with_prefix(module: str) -> str:
    """Add the part's prefix; return "" if unknown.

    `mid_block...` -> `unet.mid_block...`, `text_model.encoder...` -> `text_encoder.encoder...`
    """
    text = module.removeprefix("text_encoder.").removeprefix("text_model.")
    if TEXT_MODULE.fullmatch(text):
        return f"text_encoder.{text}"
    unet = module.removeprefix("unet.")
    return f"unet.{unet}" if unet in unet_modules() else ""


def _from_kohya(name: str) -> str:
    """Convert `lora_unet_down_blocks_0_...` to `unet.down_blocks.0...`; return "" if unknown."""
    if name.startswith(TEXT_PREFIXES):
        match = TEXT_KOHYA.fullmatch(name.split("_", 2)[2])
        return f"text_encoder.encoder.layers.{match[1]}.{match[2]}.{match[3]}" if match else ""
    found = _kohya_names().get(name.removeprefix("lora_unet_"))
    return f"unet.{found}" if found else ""


def to_kohya(module: str) -> str:
    """Convert `unet.down_blocks.0...` to `lora_unet_down_blocks_0_...`, the flat name used by kohya's scripts."""
    prefix, _, name = module.partition(".")
    flat = name.replace(".", "_")
    return f"lora_unet_{flat}" if prefix == "unet" else f"lora_te_text_model_{flat}"


# Rewrites diffusers' key names of generations 1 and 2 to the current `<module>.<part>`.
OLD_SPELLINGS = (
    (re.compile(r"\.processor\.to_(q|k|v)_lora\."), r".to_\1."),
    (re.compile(r"\.processor\.to_out_lora\."), r".to_out.0."),
    (re.compile(r"\.self_attn\.to_(q|k|v|out)_lora\."), r".self_attn.\1_proj."),
    (re.compile(r"\.(lora|lora_linear_layer)\.(down|up|alpha)"), r".\2"),
    (re.compile(r"\.lora_A(\.\w+)?\.weight$"), r".down.weight"),
    (re.compile(r"\.lora_B(\.\w+)?\.weight$"), r".up.weight"),
    (re.compile(r"\.lora_(down|up|mid)\.weight$"), r".\1.weight"),
)
PART = re.compile(r"(.+)\.(down\.weight|up\.weight|mid\.weight|alpha|hada_w[12]_[ab]|hada_t[12])")


def parse_key(key: str) -> tuple[str, str]:
    """Return (Atelier module name, "down" | "up" | "mid" | "alpha" | "hada_...") for a file's key.

    Returns ("", "") if it is not a key of a LoRA for SD 1.x.
    """
    spelled = key.removeprefix("base_model.model.")
    for old, new in OLD_SPELLINGS:
        spelled = old.sub(new, spelled)
    match = PART.fullmatch(spelled)
    if not match:
        return "", ""
    kohya = match[1].startswith(KOHYA_PREFIXES)
    module = _from_kohya(match[1]) if kohya else with_prefix(match[1])
    return module, match[2].split(".")[0]


def sort_keys(name: str, keys: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return {Atelier module name: {"down" | "up" | "mid" | "alpha" | "hada_...": the file's key}}.

    Raises ValueError naming the actual kind of the file, or the first key that is not of a LoRA for SD 1.x.
    """
    keys = list(keys)
    for key in keys:
        kind = next((kind for fragment, kind in OTHER_KINDS.items() if fragment in key), "")
        if kind:
            raise ValueError(
                f"{name} is {kind}, which cannot be read here; choose a LoRA or LoCon made for SD 1.x."
            )
    groups: dict[str, dict[str, str]] = {}
    unknown = []
    for key in keys:
        module, part = parse_key(key)
        if not module or part in groups.get(module, {}):
            unknown.append(key)
        else:
            groups.setdefault(module, {})[part] = key
    if unknown or not groups:
        found = (
            f"{len(unknown)} of its keys are unknown, the first is {unknown[0][:120]!r}"
            if unknown
            else "it is empty"
        )
        raise ValueError(f"{name} is not a LoRA for SD 1.x: {found}; choose another.")
    return groups


def is_peft(source: Source) -> bool:
    """Whether the keys follow PEFT's naming."""
    return any(key.startswith("base_model.model.") for key in source.entries) or PEFT_FILES[1] in {
        name.rpartition("/")[2] for name in source.headers
    }


def is_kohya(source: Source) -> bool:
    """Whether the keys follow the naming of kohya's scripts."""
    return any(key.startswith(KOHYA_PREFIXES) for key in source.entries)


def is_diffusers(source: Source) -> bool:
    """Whether the keys follow any of the three generations of diffusers' LoRA naming."""
    named = any(parse_key(key)[0] for key in source.entries)
    return named and not is_kohya(source) and not is_peft(source)


def examine_lora(source: Source, shapes: Shapes) -> Examined:
    """Return the information in a LoRA's header. Raises ValueError for other files, naming their actual kind."""
    entries = source.entries
    modules = sort_keys(source.name, entries)
    stored = [parts.get("down") or parts.get("hada_w1_b") for parts in modules.values()]
    return Examined(
        problem=_misfit(modules, entries, shapes) if shapes else "",
        ranks=tuple(entries[key]["shape"][0] for key in stored if key and entries[key]["shape"]),
        trigger=trigger_of(source.metadata),
    )


def _misfit(modules: Mapping[str, Mapping[str, str]], entries: Mapping[str, Any], shapes: Shapes) -> str:
    """Return an error sentence for the first layer that the base model lacks or has in another shape; else ""."""
    for module, parts in modules.items():
        weight = shapes.get(f"{module}.weight")
        if weight is None:
            return f"This LoRA changes {module}, which this base does not have; load its own base."
        if not {"down", "up"} <= parts.keys() or "mid" in parts:
            continue
        down, up = entries[parts["down"]]["shape"], entries[parts["up"]]["shape"]
        if (*up[:1], *down[1:]) != weight:
            return (
                f"This LoRA was made for another base: its change of {module} has shape {(*up[:1], *down[1:])}, the "
                f"weight has {weight}; load the base it was trained on."
            )
    return ""
