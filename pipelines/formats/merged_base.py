"""A run merged into its base model and written as a new base model: a diffusers folder or one checkpoint file.

The checks before merging do not need torch.
"""

from __future__ import annotations

import os
import re
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.files import write_atomic, write_json
from pipelines.models.inspection import EMBEDDED, locate, read_json
from pipelines.runs.library import check_finished
from pipelines.runs.model_card import modelspec
from pipelines.runs.store import Run
from pipelines.sampling.stack import checked_strength

if TYPE_CHECKING:
    from torch import Tensor

    from pipelines.jobs.model_cache import ModelCache
    from pipelines.models.base import Base

CHECKPOINT = "checkpoint"
FORMATS = ("diffusers", CHECKPOINT)
OLD_PREFIX = "text_model."  # of the text encoder's keys; required by transformers before version 5
ROOM = 1.1  # required disk space relative to the size of the weights
NO_LETTERS = re.compile(r"[^A-Za-z0-9]+")
MAX_NAME = 60  # maximum number of characters in a file name


def check_merge(run: Run, *, format: str, strength: Any) -> float:
    """Return the strength as a number. Raises ValueError with a sentence if the run cannot be merged."""
    if format not in FORMATS:
        raise ValueError(
            f"A base model cannot be written as {str(format)[:40]!r}; choose one of {', '.join(FORMATS)}."
        )
    check_finished(run)
    checked = checked_strength(strength)
    if not checked:
        raise ValueError("At strength 0 the base model would be unchanged; choose a strength up to 2.")
    if format == CHECKPOINT and run.base["family"] == EMBEDDED:
        raise ValueError(
            "A single checkpoint file is for a full-size Stable Diffusion 1.x model, which the embedded base model "
            "is not; save it as a diffusers folder."
        )
    return checked


def write_merged(
    run: Run, *, format: str, strength: float, folder: Path, shop: ModelCache
) -> tuple[Path, str]:
    """Merge a run into its base model at a strength, write the result, read it back and report the difference.

    The file is named after the run and written to ``folder``; a diffusers folder is packed as a zip. The loaded base
    model is restored bit for bit. Returns the file and a text such as "1130/1130 tensors, largest difference 0".
    """
    from pipelines.adapters.core import merged

    loaded = shop.base(run.base["spec"])
    adapter = shop.adapter(run.file("adapter.safetensors"), loaded)
    _check_room(folder, loaded, copies=1 if format == CHECKPOINT else 2)
    target = folder / f"{NO_LETTERS.sub('-', run.name).strip('-')[:MAX_NAME] or run.id}-merged"
    facts = _facts(run, loaded, strength=strength)
    with shop.aside(loaded), merged(loaded, [(adapter, strength)]):
        if format == CHECKPOINT:
            path = _write_checkpoint(loaded, target.with_suffix(".safetensors"), facts=facts)
        else:
            path = _write_folder(loaded, target, facts=facts)
        told = _compare(_read_back(path, loaded), _parts(loaded), name=path.name)
    return (_packed(path) if path.is_dir() else path), told


def _facts(run: Run, base: Base, *, strength: float) -> dict[str, str]:
    """Return the file's metadata, under ModelSpec's keys."""
    told = f"{base.name} with {run.name} ({run.method}) merged into it at {strength:g}."
    return {**modelspec(run, kind="", description=told), "modelspec.prediction_type": "epsilon"}


def _check_room(folder: Path, base: Base, *, copies: int) -> None:
    weights = sum(value.numel() * value.element_size() for part in _parts(base) for value in part.values())
    needed_mb, free_mb = ROOM * copies * weights / 1e6, shutil.disk_usage(folder).free / 1e6
    if free_mb < needed_mb:
        raise ValueError(
            f"The disk of temporary files has {free_mb:,.0f} MB left and this needs {needed_mb:,.0f} MB; free some first."
        )


def _parts(base: Base) -> list[Mapping[str, Tensor]]:
    """Return the current tensors of UNet, VAE and text encoder."""
    return [part.state_dict() for part in (base.unet, base.vae, base.text_encoder)]


def _write_checkpoint(base: Base, path: Path, *, facts: Mapping[str, str]) -> Path:
    """Write one file under LDM names, for ComfyUI, A1111 and diffusers' ``from_single_file``."""
    from pipelines.adapters.core import save_tensors
    from pipelines.formats.ldm_keys import ldm_tensors

    save_tensors(path, dict(ldm_tensors(base.unet, base.vae, base.text_encoder)), metadata=facts)
    return path


def _write_folder(base: Base, target: Path, *, facts: Mapping[str, str]) -> Path:
    """Write a folder for ``StableDiffusionPipeline.from_pretrained`` with current and earlier transformers."""
    import diffusers

    from pipelines.adapters.core import save_tensors

    unfinished = target.with_name(f".{target.name}.part")
    parts: dict[str, Any] = dict(base.pipeline("DDIM").components)
    scheduler: Any = getattr(
        diffusers, str(base.scheduler_config.get("_class_name")), diffusers.DDIMScheduler
    )
    parts["scheduler"] = scheduler.from_config(base.scheduler_config)
    diffusers.StableDiffusionPipeline(**parts, requires_safety_checker=False).save_pretrained(unfinished)
    text = {
        OLD_PREFIX + name.removeprefix(OLD_PREFIX): value
        for name, value in base.text_encoder.state_dict().items()
    }
    save_tensors(unfinished / "text_encoder" / "model.safetensors", text, metadata={})
    place = locate(base.spec)
    own = place.path / "atelier.json" if place.kind == "folder" and place.path is not None else None
    if own is not None and own.is_file():
        write_json(unfinished / own.name, {**read_json(own), "name": facts["modelspec.title"]})
    write_atomic(unfinished / "README.md", _card(facts).encode())
    os.replace(unfinished, target)
    return target


def _card(facts: Mapping[str, str]) -> str:
    trigger = facts["modelspec.trigger_phrase"]
    told = [f"# {facts['modelspec.title']}", facts["modelspec.description"]]
    told += [f"Trigger words: {trigger}"] if trigger else []
    return (
        "\n\n".join([*told, 'Open it with `StableDiffusionPipeline.from_pretrained("this folder")`.']) + "\n"
    )


def _read_back(path: Path, base: Base) -> list[Mapping[str, Tensor]]:
    """Return the tensors read by diffusers: its pipeline loader for a folder, its converters for a checkpoint."""
    if path.is_file():
        from pipelines.models.base import load_base

        return _parts(load_base(str(path), device="cpu", dtype=base.dtype))
    from diffusers import StableDiffusionPipeline

    pipe: Any = StableDiffusionPipeline.from_pretrained(
        path, torch_dtype=base.dtype, local_files_only=True, use_safetensors=True
    )
    return [part.state_dict() for part in (pipe.unet, pipe.vae, pipe.text_encoder)]


def _compare(found: list[Mapping[str, Tensor]], expected: list[Mapping[str, Tensor]], *, name: str) -> str:
    """Return the number of tensors read back and the largest difference. Raises ValueError unless all are identical."""
    total, whole, worst = 0, 0, 0.0
    for before, after in zip(expected, found, strict=True):
        total += len(before)
        for key, value in before.items():
            if key in after and after[key].shape == value.shape:
                whole += 1
                worst = max(worst, float((after[key].float() - value.float().cpu()).abs().max()))
    told = f"{whole}/{total} tensors, largest difference {worst:.2g}"
    if whole < total or worst:
        raise ValueError(f"{name} was not read back as it was written ({told}); save it again.")
    return told


def _packed(folder: Path) -> Path:
    """Replace a folder by an uncompressed zip (weights are hardly compressible) and return the zip."""
    target = folder.with_suffix(".zip")
    unfinished = target.with_suffix(".part")
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            archive.write(path, Path(folder.name) / path.relative_to(folder))
    os.replace(unfinished, target)
    shutil.rmtree(folder)
    return target
