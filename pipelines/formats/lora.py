"""Conversion between LoRA files of other programs and Atelier's LoRA. Files that could run code are rejected.

Each file is converted to one `LoRAState` with the keys `unet.<module>.lora_A.weight` (r, in[, kh, kw]) and
`.lora_B.weight` (out, r[, 1, 1]), and likewise for `text_encoder.<module>`. Tensors are float32 and the scale alpha/r
is folded into lora_B, so that the change of a weight is B @ A. Supported for reading: diffusers (three generations of
key names), PEFT folders, and kohya / ComfyUI (with Tucker kernels and LyCORIS's LoHa). Supported for writing:
diffusers, PEFT and kohya, with alpha = rank, so that readers that ignore alpha also get the correct result.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pipelines.adapters.core import Adapter, injected, read_tensors, save_tensors
from pipelines.adapters.lora import LoRA
from pipelines.adapters.subspace import COORDINATES, Subspace
from pipelines.files import write_json
from pipelines.formats.core import PARTS, PEFT_FILES, Source, opened
from pipelines.formats.lora_keys import is_kohya, is_peft, sort_keys, to_kohya
from pipelines.formats.lycoris import plain_factors

if TYPE_CHECKING:
    from pipelines.models.base import Base

MAX_CONFIG_BYTES = 4 * 2**20
ROUNDING = 4e-3  # relative to the largest change: tolerance for the rounding of two float16 factors
LOOSE_PATTERN = re.compile(r"[+*?{]")


@dataclass(frozen=True)
class LoRAState:
    """A LoRA whose scale is folded in: the change of `<module>.weight` is lora_B @ lora_A."""

    tensors: dict[str, Tensor]
    source: str = "atelier"
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def modules(self) -> list[str]:
        """The sorted module names with prefix, for example `unet.mid_block.resnets.0.conv1`."""
        return sorted(
            key.removesuffix(".lora_A.weight") for key in self.tensors if key.endswith(".lora_A.weight")
        )

    @property
    def ranks(self) -> dict[str, int]:
        return {module: self.tensors[f"{module}.lora_A.weight"].shape[0] for module in self.modules}

    def factors(self, module: str) -> tuple[Tensor, Tensor]:
        """Return (A, B) of one module."""
        return self.tensors[f"{module}.lora_A.weight"], self.tensors[f"{module}.lora_B.weight"]

    def change(self, module: str) -> Tensor:
        """Return the float32 change of the module's weight, in the weight's shape (out, in[, kh, kw])."""
        down, up = self.factors(module)
        return (up.flatten(1) @ down.flatten(1)).reshape(up.shape[0], *down.shape[1:])


# ---- reading --------------------------------------------------------------------------------------------------------


def read_lora(path: Path) -> LoRAState:
    """Read the LoRA in a .safetensors file or in a PEFT folder (also zipped), of any supported program.

    Raises ValueError with one sentence for the user for pickles, damaged or oversized files, other kinds of adapters,
    unknown keys, tensors with inconsistent shapes and values that are not finite."""
    with opened(path) as source:
        return read_source(source)


def read_source(source: Source) -> LoRAState:
    """Read the LoRA in an opened file or folder; see :func:`read_lora`."""
    tensors: dict[str, Tensor] = {}
    origin = (
        "atelier" if source.metadata.get("kind") in (LoRA.kind, Subspace.kind) else "peft" if is_peft(source)
        else "kohya" if is_kohya(source) else "diffusers"
    )  # fmt: skip
    for place in source.headers:
        file = source.path / place if place else source.path
        config: dict[str, Any] = {}
        if origin == "peft":
            config = _peft_config(file, name=source.name)
        elif origin == "atelier":
            config = _own_config(source.metadata)
        elif origin == "diffusers":
            config = _stated_config(source.metadata)
        found = read_tensors(file)[0]
        if source.metadata.get("kind") == Subspace.kind:
            found.pop(COORDINATES, None)
        folded = fold(source.name, found, source=origin, metadata={}, config=config)
        tensors |= folded.tensors
    return LoRAState(tensors=tensors, source=origin, metadata=dict(source.metadata))


def _peft_config(file: Path, *, name: str) -> dict[str, Any]:
    config = file.with_name(PEFT_FILES[0])
    if not config.is_file():
        raise ValueError(
            f"{name} is part of a PEFT folder whose {config.name}, with the LoRA's scale, is missing; choose the "
            "whole folder."
        )
    return _read_json(config)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes()[:MAX_CONFIG_BYTES])
    except (ValueError, RecursionError):
        raise ValueError(f"{path.name} is not readable as JSON; save the adapter again.") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path.name} is not a PEFT configuration; save the adapter again.")
    if data.get("peft_type", "LORA") != "LORA":
        raise ValueError(
            f"This PEFT folder holds {data['peft_type']!r}, and only LORA can be read; choose a LoRA."
        )
    return data


def _own_config(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return the configuration from an Atelier header; alpha 0 means alpha = rank."""
    try:
        alpha = float(metadata.get("alpha", ""))
    except ValueError:
        raise ValueError("The file's header does not say its alpha; save the adapter again.") from None
    return {"lora_alpha": alpha} if alpha else {}


def _stated_config(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return diffusers' `lora_adapter_metadata`, if present: {"unet.r": 4, "unet.lora_alpha": 8, ...}."""
    try:
        stated = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    except (ValueError, RecursionError):
        raise ValueError("The file's lora_adapter_metadata is damaged; save the LoRA again.") from None
    return stated if isinstance(stated, dict) else {}


# ---- folding --------------------------------------------------------------------------------------------------------


def fold(
    name: str, tensors: Mapping[str, Tensor], *, source: str, metadata: dict[str, str], config: dict[str, Any]
) -> LoRAState:
    """Convert tensors under any program's key names to one LoRA with its scale folded into lora_B.

    ``config`` supplies alpha if no tensor does. Raises ValueError for incomplete A/B pairs, inconsistent shapes and
    values that are not finite.
    """
    folded: dict[str, Tensor] = {}
    for module, parts in sorted(_group(name, tensors).items()):
        down, up, rank = plain_factors(name, module, parts)
        scale = _scale(module, rank=rank, alpha=parts.get("alpha"), config=config)
        folded[f"{module}.lora_A.weight"] = down
        folded[f"{module}.lora_B.weight"] = up * scale
    for key, tensor in folded.items():
        if not tensor.isfinite().all():
            raise ValueError(
                f"{name} contains values that are not finite in {key}, because its training diverged; choose another."
            )
    return LoRAState(tensors=folded, source=source, metadata=metadata)


def _group(name: str, tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Return {Atelier module name: {"down" | "up" | "mid" | "alpha" | "hada_...": tensor}}."""
    places = sort_keys(name, tensors)
    return {module: {part: tensors[key] for part, key in parts.items()} for module, parts in places.items()}


def _scale(module: str, *, rank: int, alpha: Tensor | None, config: Mapping[str, Any]) -> float:
    """Return alpha/r (rank-stabilised LoRA: alpha/sqrt(r)); alpha is from the file, else the config, else alpha = r."""
    if alpha is not None:
        if alpha.numel() != 1 or not alpha.isfinite().all():
            raise ValueError(
                f"The alpha of {module} is not one finite number, so the file is damaged; download it again."
            )
        return float(alpha) / rank
    prefix, _, bare = module.partition(".")
    stated = {key.removeprefix(f"{prefix}."): value for key, value in config.items()}
    patterns = stated.get("alpha_pattern") or {}
    if not isinstance(patterns, dict):
        raise ValueError(
            f"The file's alpha_pattern {str(patterns)[:80]!r} is not a table; save the LoRA again."
        )
    matched = next((value for pattern, value in patterns.items() if _pattern_matches(pattern, bare)), None)
    value = matched if matched is not None else stated.get("lora_alpha", rank)
    if not isinstance(value, int | float) or abs(value) > 1e6:
        raise ValueError(
            f"The file states {value!r} as alpha of {module}, which is not a valid number; choose another."
        )
    return value / (rank**0.5 if stated.get("use_rslora") else rank)


def _pattern_matches(pattern: str, module: str) -> bool:
    """Apply PEFT's matching rule for alpha_pattern keys; regular expressions that may not terminate are rejected."""
    if len(pattern) > 300 or LOOSE_PATTERN.search(pattern.replace(".*", "")) or pattern.count(".*") > 4:
        raise ValueError(
            f"The adapter's alpha_pattern {pattern[:80]!r} is too complex; write out the module names."
        )
    try:
        return re.match(rf"(.*\.)?({pattern})$", module) is not None
    except re.error:
        raise ValueError(f"The adapter's alpha_pattern {pattern[:80]!r} is not a valid expression.") from None


def adopt(state: LoRAState, base: "Base") -> LoRA:
    """Convert a LoRA read from a file to an adapter for this base model, not injected; ranks may differ by layer."""
    adapter = LoRA(ranks=state.ranks)
    with injected(adapter, base):
        adapter.load_state_dict(state.tensors)
    adapter.base_hash = state.metadata.get("base_hash", base.hash)
    return adapter


# ---- writing --------------------------------------------------------------------------------------------------------


def as_lora(adapter: Adapter | LoRAState) -> LoRAState:
    """Return the adapter as a plain LoRA. Raises ValueError for other kinds of adapters (full weights, ...)."""
    if isinstance(adapter, LoRAState):
        return adapter
    if isinstance(adapter, Subspace):
        state = adapter.state_dict()
        state.pop(COORDINATES)
        return fold(adapter.space, state, source="atelier", metadata={}, config={"lora_alpha": adapter.alpha})
    if not isinstance(adapter, LoRA):
        raise ValueError(f"An adapter of kind {adapter.kind!r} is not a LoRA; export it in Atelier's format.")
    tensors = adapter.state_dict()
    for module, scale in adapter.scales().items():
        tensors[f"{module}.lora_B.weight"] *= scale
    return LoRAState(tensors=tensors)


def write_diffusers(
    path: Path,
    adapter: Adapter | LoRAState,
    *,
    dtype: torch.dtype = torch.float32,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write `pytorch_lora_weights.safetensors` for `pipe.load_lora_weights`; return the path.

    All keys use the newest generation of names, because diffusers checks only the first key to decide whether to
    convert all of them. They include `text_model.`, which older loaders need and the current loader removes."""
    state = as_lora(adapter)
    tensors = {
        key.replace("text_encoder.", "text_encoder.text_model.", 1): tensor
        for key, tensor in state.tensors.items()
    }
    stated: dict[str, Any] = {}
    for prefix in ("unet", "text_encoder"):
        stated |= {f"{prefix}.{name}": value for name, value in _lora_config(state, prefix).items()}
    header = {"format": "pt", **(metadata or {}), "lora_adapter_metadata": json.dumps(stated, sort_keys=True)}
    return _save(path, tensors, dtype=dtype, metadata=header)


def write_kohya(
    path: Path,
    adapter: Adapter | LoRAState,
    *,
    dtype: torch.dtype = torch.float16,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write one file for ComfyUI, A1111 and kohya's scripts, with flat names and a single alpha; return the path.

    With one rank, alpha = rank. With several ranks, alpha is the most common rank and lora_up is rescaled accordingly,
    because diffusers applies the file's most common alpha to attention layers instead of each layer's own."""
    state = as_lora(adapter)
    alpha = _common(state.ranks.values())
    tensors: dict[str, Tensor] = {}
    for module, rank in state.ranks.items():
        down, up = state.factors(module)
        name = to_kohya(module)
        tensors[f"{name}.lora_down.weight"] = down
        tensors[f"{name}.lora_up.weight"] = up * (rank / alpha)
        tensors[f"{name}.alpha"] = torch.tensor(float(alpha))
    header = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(alpha),
        "ss_network_alpha": str(alpha),
    }
    return _save(path, tensors, dtype=dtype, metadata={"format": "pt", **header, **(metadata or {})})


def write_peft(
    folder: Path,
    adapter: Adapter | LoRAState,
    *,
    base: str = "",
    dtype: torch.dtype = torch.float32,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write a PEFT adapter folder and return it; with a trained text encoder, `unet/` and `text_encoder/` inside it."""
    state = as_lora(adapter)
    prefixes = sorted({module.partition(".")[0] for module in state.modules})
    for prefix in prefixes:
        into = Path(folder) if prefixes == ["unet"] else Path(folder) / prefix
        into.mkdir(parents=True, exist_ok=True)
        tensors = {
            f"base_model.model.{key.removeprefix(f'{prefix}.')}": tensor
            for key, tensor in state.tensors.items()
            if key.startswith(f"{prefix}.")
        }
        _save(into / PEFT_FILES[1], tensors, dtype=dtype, metadata={"format": "pt", **(metadata or {})})
        config = {"peft_type": "LORA", "base_model_name_or_path": base, "bias": "none", "lora_dropout": 0.0}
        config |= {"inference_mode": True, "use_rslora": False, **_lora_config(state, prefix)}
        write_json(into / PEFT_FILES[0], config)
    return Path(folder)


def _lora_config(state: LoRAState, prefix: str) -> dict[str, Any]:
    """Return PEFT's LoraConfig for one part of the model, with alpha = rank; {} if the part is unchanged."""
    ranks = {
        module.removeprefix(f"{prefix}."): rank
        for module, rank in state.ranks.items()
        if module.startswith(f"{prefix}.")
    }
    if not ranks:
        return {}
    common = _common(ranks.values())
    others = {module: rank for module, rank in ranks.items() if rank != common}
    return {
        "r": common,
        "lora_alpha": common,
        "rank_pattern": others,
        "alpha_pattern": others,
        "target_modules": sorted(ranks),
    }


def _common(ranks: Iterable[int]) -> int:
    return Counter(ranks).most_common(1)[0][0]


def _save(path: Path, tensors: Mapping[str, Tensor], *, dtype: torch.dtype, metadata: dict[str, str]) -> Path:
    stored = {key: tensor.to(dtype).contiguous() for key, tensor in tensors.items()}
    for key, tensor in stored.items():
        if not tensor.isfinite().all():
            raise ValueError(
                f"{key} does not fit into {str(dtype).removeprefix('torch.')}; export in float32."
            )
    save_tensors(Path(path), stored, metadata=metadata)
    return Path(path)


# ---- reading back ---------------------------------------------------------------------------------------------------


def read_back(written: Path, *, format: str) -> LoRAState:
    """Read a file with another program's loader (diffusers for its own and kohya's files, or PEFT) and fold it."""
    if format == "peft":
        return _read_with_peft(written)
    from diffusers import StableDiffusionPipeline

    returned: Any = StableDiffusionPipeline.lora_state_dict(
        str(written.parent), weight_name=written.name, local_files_only=True, return_lora_metadata=True
    )
    state, alphas, metadata = returned
    alphas = {
        name.replace(".down.weight.alpha", ".alpha"): torch.tensor(float(alpha))
        for name, alpha in (alphas or {}).items()
    }
    config = {
        name: value
        for name, value in (metadata or {}).items()
        if name.endswith(("lora_alpha", "alpha_pattern"))
    }
    return fold(written.name, {**state, **alphas}, source=format, metadata={}, config=config)


def _read_with_peft(folder: Path) -> LoRAState:
    from peft import PeftConfig
    from peft.utils import load_peft_weights

    tensors: dict[str, Tensor] = {}
    for part in (folder, *(folder / each for each in PARTS)):
        if (part / PEFT_FILES[0]).is_file():
            config = PeftConfig.from_pretrained(str(part)).to_dict()
            read = load_peft_weights(str(part), device="cpu")
            tensors |= fold(folder.name, read, source="peft", metadata={}, config=config).tensors
    return LoRAState(tensors=tensors, source="peft")


def compare_loras(expected: LoRAState, found: LoRAState, *, name: str) -> tuple[str, float]:
    """Return a text such as "128/128 keys, largest difference 0" and the largest difference between two LoRAs.

    Raises ValueError when keys are missing or the difference is larger than rounding.
    """
    whole = [key for key in expected.modules if found.ranks.get(key) == expected.ranks[key]]
    extra = len(found.modules) - len(whole)
    total, worst, largest = 2 * len(expected.modules), 0.0, 0.0
    for key in whole:
        change = expected.change(key)
        worst = max(worst, float((found.change(key) - change).abs().max()))
        largest = max(largest, float(change.abs().max()))
    if 2 * len(whole) < total or extra:
        raise ValueError(
            f"Only {2 * len(whole)}/{total} keys of {name} were read back ({extra} others); export it again."
        )
    if worst > ROUNDING * max(largest, 1e-12):
        raise ValueError(
            f"{name} differs by {worst:.2g} of at most {largest:.2g}; export it in Atelier's format."
        )
    return f"{total}/{total} keys, largest difference {worst:.2g}", worst
