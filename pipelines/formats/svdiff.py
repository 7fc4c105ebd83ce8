"""svdiff-pytorch's files: ``spectral_shifts.safetensors`` and ``spectral_shifts_te.safetensors``.

They contain one ``<module path>.delta`` for every Linear, Conv2d, GroupNorm and LayerNorm, in float32, and no metadata.
For a norm layer they store ONE value, a shift of ‖w‖, whereas Atelier (like the paper) stores one per gain. The text
encoder's paths include "text_model.", as in transformers at that time. Reading headers does not need torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.formats.core import SHIFT_FILES, Examined, Shapes, Source
from pipelines.models.targets import shift_size

if TYPE_CHECKING:
    from torch import Tensor

    from pipelines.adapters.spectral import Spectral
    from pipelines.models.base import Base

FORMAT = "svdiff"
ENDING = ".delta"
THEIR_PREFIX = {"unet": "", "text_encoder": "text_model."}


@dataclass(frozen=True)
class Written:
    """The written files, and the error caused by storing a single value per norm layer."""

    files: list[Path]
    norm_error: float  # ‖lost part of norm shifts‖ / ‖all norm shifts‖; 0 if nothing is lost


# ---- headers --------------------------------------------------------------------------------------------------------


def is_svdiff(source: Source) -> bool:
    """Whether a file or folder contains only svdiff-pytorch's shifts."""
    return bool(source.entries) and all(key.endswith(ENDING) for key in source.entries)


def examine_svdiff(source: Source, shapes: Shapes) -> Examined:
    """Report shifts for which the base model has no weight or a weight of another size."""
    parts = files_of(source)
    if "unet" not in parts:
        return Examined(
            problem=f"There is no {SHIFT_FILES['unet']} beside the text encoder's; zip both files."
        )
    for part, place in parts.items() if shapes else ():
        for name, entry in source.headers[place].items():
            path = name.removesuffix(ENDING).removeprefix(THEIR_PREFIX[part])
            if entry["shape"] not in _sizes(shapes.get(f"{part}.{path}.weight", ())):
                problem = (
                    f"The shifts of {path} do not fit this base; load the base that they were trained on."
                )
                return Examined(problem=problem)
    return Examined()


def files_of(source: Source) -> dict[str, str]:
    """Return {"unet" | "text_encoder": relative path of its shifts}; a single file belongs to the UNet.

    Raises ValueError for a single file of the text encoder.
    """
    if "" not in source.headers:
        return {
            part: place for part, name in SHIFT_FILES.items() for place in source.headers if place == name
        }
    if all(key.startswith(THEIR_PREFIX["text_encoder"]) for key in source.headers[""]):
        raise ValueError(
            f"{source.name} holds the shifts of the text encoder alone; zip it together with {SHIFT_FILES['unet']}."
        )
    return {"unet": ""}


def _sizes(shape: tuple[int, ...]) -> list[list[int]]:
    """Return the allowed shapes of δ for a weight: one value or one per gain for a norm, min(M, N) for a matrix."""
    if not shape:
        return []
    return [[1], [shape[0]]] if len(shape) == 1 else [[min(shape[0], prod(shape[1:]))]]


# ---- export and import ----------------------------------------------------------------------------------------------


def write_svdiff(adapter: Spectral, base: Base, folder: Path) -> Written:
    """Write the UNet's file, and the text encoder's if the adapter trains it; other weights get zeros."""
    import torch

    from pipelines.adapters.core import save_tensors
    from pipelines.adapters.spectral import shifted_weights

    folder.mkdir(parents=True, exist_ok=True)
    lost, whole, files = 0.0, 0.0, []
    state = adapter.state_dict()
    for prefix, name in SHIFT_FILES.items():
        if prefix == "text_encoder" and not adapter.text_encoder:
            continue
        tensors = {}
        for path, weight in shifted_weights(base.module(prefix)).items():
            delta = state.get(f"{prefix}.{path}{ENDING}")
            if delta is None:
                delta = torch.zeros(1 if weight.dim() == 1 else shift_size(weight.shape))
            elif weight.dim() == 1:
                own = weight.detach().float().cpu()
                one = (own @ delta.expand_as(own) / own.norm().clamp(min=1e-12)).view(1)
                lost += float((delta - one * own / own.norm().clamp(min=1e-12)).square().sum())
                whole += float(delta.square().sum())
                delta = one
            else:
                delta = torch.nn.functional.pad(delta, (0, shift_size(weight.shape) - len(delta)))
            tensors[f"{THEIR_PREFIX[prefix]}{path}{ENDING}"] = delta.contiguous()
        target = folder / name
        save_tensors(target, tensors, metadata=None)  # as in svdiff-pytorch
        files.append(target)
    return Written(files, (lost / whole) ** 0.5 if whole else 0.0)


def read_svdiff(files: Mapping[str, Path], base: Base) -> Spectral:
    """Read svdiff-pytorch's files, keyed by "unet" and "text_encoder", as an adapter, not injected.

    A norm's single value is converted to shifts of its gains, (ReLU(‖w‖ + δ)/‖w‖ − 1) w. Raises ValueError naming the
    first tensor that does not fit this base model or is not finite.
    """
    from pipelines.adapters.core import injected, read_tensors
    from pipelines.adapters.spectral import Spectral

    adapter = Spectral(text_encoder="text_encoder" in files)
    with injected(adapter, base):
        own, theirs = adapter.state_dict(), {}
        for part, path in files.items():
            theirs |= _ours(read_tensors(path)[0], prefix=part, base=base)
        unknown = sorted(theirs.keys() - own.keys())
        if unknown:
            raise ValueError(
                f"{unknown[0]} is not a weight of {base.name}; the shifts belong to another base model."
            )
        wild = next((name for name, delta in theirs.items() if not delta.isfinite().all()), "")
        if wild:
            raise ValueError(f"{wild} holds numbers that are not finite; choose another file.")
        adapter.load_state_dict({**own, **theirs})
    return adapter


def compare_shifts(adapter: Spectral, folder: Path, base: Base) -> str:
    """Read svdiff-pytorch's files back and report the difference, which is in the norms: these have one value each."""
    files = {part: folder / name for part, name in SHIFT_FILES.items() if (folder / name).is_file()}
    mine, theirs = adapter.state_dict(), read_svdiff(files, base).state_dict()
    gains = {key for key, shift in adapter.shifts.items() if shift.form == "gain"}
    worst, lost, whole = 0.0, 0.0, 0.0
    for name, delta in mine.items():
        found = theirs[name][: len(delta)]
        if name.removesuffix(ENDING) in gains:
            lost += float((found - delta).square().sum())
            whole += float(delta.square().sum())
        else:
            worst = max(worst, float((found - delta).abs().max()))
    if worst:
        raise ValueError(f"{folder.name} differs by {worst:.2g}; export it in Atelier's format.")
    told = f"{len(mine)}/{len(mine)} shifts, largest difference {worst:.2g} in the matrices"
    share = (lost / whole) ** 0.5 if whole else 0.0
    return told + (f"; one value for each norm loses {share:.1%} of the norms' shifts" if share else "")


def _ours(tensors: Mapping[str, Tensor], *, prefix: str, base: Base) -> dict[str, Tensor]:
    import torch

    from pipelines.adapters.core import base_parameter

    found: dict[str, Any] = {}
    for name, delta in tensors.items():
        path = name.removesuffix(ENDING).removeprefix(THEIR_PREFIX[prefix])
        key = f"{prefix}.{path}"
        try:
            weight = base_parameter(base, f"{key}.weight").detach().float().cpu()
        except (AttributeError, KeyError) as error:
            raise ValueError(
                f"{name} is not a weight of {base.name}; the shifts belong to another base model."
            ) from error
        delta = delta.float()
        if weight.dim() == 1 and len(delta) == 1:
            norm = weight.norm().clamp(min=1e-12)
            delta = (torch.relu(norm + delta) / norm - 1.0) * weight
        found[f"{key}{ENDING}"] = delta
    return found
