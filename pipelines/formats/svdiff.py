"""svdiff-pytorch's files, read and written: ``spectral_shifts.safetensors`` and ``spectral_shifts_te.safetensors``.

They hold a ``<module path>.delta`` for every Linear, Conv2d, GroupNorm and LayerNorm, float32 and no metadata. A norm
has ONE value there, a shift of ‖w‖, where we (like the paper) have one for each gain. The text encoder's paths carry
"text_model.", as transformers' did then.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import Tensor

from pipelines.adapters.core import base_parameter, injected, read_tensors
from pipelines.adapters.spectral import Spectral, shift_size, shifted_weights
from pipelines.formats.spectral_shifts import ENDING, FILES, TEXT_FILE, THEIR_PREFIX, UNET_FILE

if TYPE_CHECKING:
    from pipelines.models.base import Base


@dataclass(frozen=True)
class Written:
    """What was written, and what a single value for each norm could not say."""

    files: list[Path]
    norm_error: float  # ‖what is lost‖ / ‖all norm shifts‖, 0 when nothing is


def write_svdiff(adapter: Spectral, base: "Base", folder: Path) -> Written:
    """Write the UNet's file, and the text encoder's when the adapter moves it; weights not moved get zeros."""
    folder.mkdir(parents=True, exist_ok=True)
    lost, whole, files = 0.0, 0.0, []
    state = adapter.state_dict()
    for prefix, name in FILES.items():
        if prefix == "text_encoder" and not adapter.text_encoder:
            continue
        tensors = {}
        for path, weight in shifted_weights(base.module(prefix)).items():
            delta = state.get(f"{prefix}.{path}{ENDING}")
            if delta is None:
                delta = torch.zeros(1 if weight.dim() == 1 else shift_size(weight))
            elif weight.dim() == 1:
                own = weight.detach().float().cpu()
                one = (own @ delta.expand_as(own) / own.norm().clamp(min=1e-12)).view(1)
                lost += float((delta - one * own / own.norm().clamp(min=1e-12)).square().sum())
                whole += float(delta.square().sum())
                delta = one
            else:
                delta = torch.nn.functional.pad(delta, (0, shift_size(weight) - len(delta)))
            tensors[f"{THEIR_PREFIX[prefix]}{path}{ENDING}"] = delta.contiguous()
        target = folder / name
        part = target.with_name(f".{name}.part")
        save_file(tensors, part)
        part.replace(target)
        files.append(target)
    return Written(files, (lost / whole) ** 0.5 if whole else 0.0)


def read_svdiff(folder: Path, base: "Base") -> Spectral:
    """Read a folder of svdiff-pytorch (or only its UNet file) as our adapter, not live.

    A norm's single value becomes its gains' shifts, (ReLU(‖w‖ + δ)/‖w‖ − 1) w. Raises ValueError naming the first
    tensor that does not fit this base.
    """
    if not (folder / UNET_FILE).is_file():
        raise ValueError(f"{folder.name} holds no {UNET_FILE}; choose the folder that svdiff-pytorch wrote.")
    adapter = Spectral(text_encoder=(folder / TEXT_FILE).is_file())
    with injected(adapter, base):
        own = adapter.state_dict()
        theirs = {}
        for prefix, name in FILES.items():
            if (folder / name).is_file():
                theirs |= _ours(read_tensors(folder / name)[0], prefix=prefix, base=base)
        unknown = sorted(theirs.keys() - own.keys())
        if unknown:
            raise ValueError(f"{unknown[0]} is no weight of {base.name}; the shifts belong to another base.")
        adapter.load_state_dict({**own, **theirs})
    return adapter


def _ours(tensors: Mapping[str, Tensor], *, prefix: str, base: "Base") -> dict[str, Tensor]:
    found = {}
    for name, delta in tensors.items():
        path = name.removesuffix(ENDING).removeprefix(THEIR_PREFIX[prefix])
        key = f"{prefix}.{path}"
        try:
            weight = base_parameter(base, f"{key}.weight").detach().float().cpu()
        except (AttributeError, KeyError) as error:
            raise ValueError(
                f"{name} is no weight of {base.name}; the shifts belong to another base."
            ) from error
        delta = delta.float()
        if weight.dim() == 1 and len(delta) == 1:
            norm = weight.norm().clamp(min=1e-12)
            delta = (torch.relu(norm + delta) / norm - 1.0) * weight
        found[f"{key}{ENDING}"] = delta
    return found
