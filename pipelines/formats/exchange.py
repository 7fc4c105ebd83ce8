"""Adapters that come and go as files: read, written for other programs, and the written file checked.

The header of a LoRA is told without torch; the rest imports it when it is called.
"""

from __future__ import annotations

import json
import shutil
import struct
import zipfile
from collections import Counter
from collections.abc import Mapping
from math import prod
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pipelines.config import MAX_TEXT, clean_text
from pipelines.formats.lora_keys import PARTS, PEFT_FILES, check_entries, check_file, sort_keys
from pipelines.formats.nearest import LOW_RANK, NEAR_KINDS, nearest_lora, nearness, stands_for
from pipelines.formats.spectral_shifts import FORMAT as SHIFTS
from pipelines.formats.spectral_shifts import (
    compare_shifts,
    holds_shifts,
    inspect_shifts,
    read_shifts,
    shelve,
    shifts_of,
)
from pipelines.formats.textual_inversion import KIND as WORDS
from pipelines.formats.textual_inversion import (
    compare_embedding,
    holds_words,
    inspect_words,
    read_words,
    write_embedding,
)
from pipelines.models.inspection import MAX_HEADER_BYTES, locate, parse_header, read_header, weights_file
from pipelines.runs.library import kind_of
from pipelines.runs.store import Run, RunStore

if TYPE_CHECKING:
    from pipelines.formats.lora import LoRAState
    from pipelines.jobs.model_cache import ModelCache

FORMATS = ("safetensors", "diffusers", "peft", "kohya", SHIFTS)
MAX_METADATA = 40  # entries shown of a header
MAX_SHOWN = 200  # characters shown of one
OWN_KIND = "lora"
ROUNDING = 4e-3  # of the largest change: what two factors in float16 may differ by


def inspect_lora(path: Path, *, base: str) -> dict[str, Any]:
    """Return what the header of a LoRA (or of shifts, or of a learned word) says, nothing else of it being read.

    ``format`` (atelier, kohya, diffusers or peft), ``keys`` (how many tensors), ``rank`` (the commonest; ``ranks`` has
    all), ``parameters``, ``base``, ``trigger``, ``metadata`` (shortened), and ``problem``: "" or why it does not fit the
    base of spec ``base``, as far as headers tell. Raises ValueError for what is no LoRA.
    """
    if holds_shifts(path):
        return inspect_shifts(path, base=base)
    if holds_words(path):
        return inspect_words(path, base=base)
    name = path.name
    headers = _headers(path)
    entries = {key: entry for header in headers for key, entry in header.items() if key != "__metadata__"}
    metadata = {key: text for header in headers for key, text in header.get("__metadata__", {}).items()}
    if "base_hash" in metadata and metadata.get("kind") != OWN_KIND:
        modules, format = {}, "atelier"
    else:
        modules, format = sort_keys(name, entries), _format(entries, metadata)
    stored = [parts.get("down") or parts.get("hada_w1_b") for parts in modules.values()]
    ranks = [entries[key]["shape"][0] for key in stored if key and entries[key]["shape"]]
    return {
        "format": format,
        "keys": len(entries),
        "rank": Counter(ranks).most_common(1)[0][0] if ranks else 0,
        "ranks": sorted(set(ranks)),
        "parameters": sum(prod(entry["shape"]) for entry in entries.values()),
        "base": _base_of(metadata),
        "trigger": _trigger_of(metadata),
        "problem": _misfit(modules, entries, base=base),
        "metadata": {
            key[:MAX_SHOWN]: str(text)[:MAX_SHOWN] for key, text in list(metadata.items())[:MAX_METADATA]
        },
    }


def _misfit(modules: Mapping[str, Mapping[str, str]], entries: Mapping[str, Any], *, base: str) -> str:
    """Return the sentence for the first layer that a base in a folder has not, or in another shape; else ""."""
    place = locate(base)
    if place.kind != "folder" or place.path is None:
        return ""
    weights = {part: read_header(weights_file(place.path / part)) for part in PARTS}
    for module, parts in modules.items():
        if not {"down", "up"} <= parts.keys() or "mid" in parts:
            continue
        prefix, _, name = module.partition(".")
        found = weights[prefix].get(f"{name}.weight") or weights[prefix].get(f"text_model.{name}.weight")
        if found is None:
            return f"This LoRA changes {module}, which this base does not have; load its own base."
        down, up = entries[parts["down"]]["shape"], entries[parts["up"]]["shape"]
        if [*up[:1], *down[1:]] != found["shape"]:
            return (
                f"This LoRA was made for another base: its change of {module} has shape {(*up[:1], *down[1:])}, the "
                f"weight has {tuple(found['shape'])}; load the base it was trained on."
            )
    return ""


def _headers(path: Path) -> list[dict[str, Any]]:
    """Return the header of a file, or those of a PEFT folder's parts, also zipped."""
    if path.suffix.lower() == ".zip":
        return _zipped_headers(path)
    if not path.is_dir():
        return [check_file(path)]
    inside = [part / PEFT_FILES[1] for part in (path, *(path / each for each in PARTS))]
    found = [check_file(file) for file in inside if file.is_file()]
    if not found:
        raise ValueError(
            f"{path.name} has no {PEFT_FILES[1]}, so it is no PEFT folder; give the folder PEFT wrote."
        )
    return found


def _zipped_headers(path: Path) -> list[dict[str, Any]]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [one for one in archive.infolist() if PurePosixPath(one.filename).name == PEFT_FILES[1]]
            found = []
            for member in members[: len(PARTS)]:
                with archive.open(member) as stream:
                    start = stream.read(8)
                    length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
                    raw = stream.read(min(length, MAX_HEADER_BYTES))
                header, _ = parse_header(path.name, raw)
                check_entries(path.name, header)
                found.append(header)
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError):
        raise ValueError(
            f"{path.name} is damaged or locked with a password; pack the PEFT folder again."
        ) from None
    if not found:
        raise ValueError(f"{path.name} holds no {PEFT_FILES[1]}; pack the folder that PEFT wrote.")
    return found


def _format(entries: Mapping[str, Any], metadata: Mapping[str, str]) -> str:
    if metadata.get("kind") == OWN_KIND:
        return "atelier"
    if any(key.startswith("base_model.model.") for key in entries):
        return "peft"
    return "kohya" if any(key.startswith(("lora_unet_", "lora_te_")) for key in entries) else "diffusers"


def _base_of(metadata: Mapping[str, str]) -> str:
    """The base that a header names, under the keys of ours, kohya's scripts and ModelSpec."""
    own = _table(metadata.get("base", "")).get("name", "")
    told = (own, metadata.get("ss_sd_model_name", ""), metadata.get("modelspec.architecture", ""))
    return next((str(each)[:MAX_SHOWN] for each in told if each), "")


def _trigger_of(metadata: Mapping[str, str]) -> str:
    config = _table(metadata.get("config", ""))
    words = [config.get(name) for name in ("identifier", "class_noun")]
    own = " ".join(word for word in words if isinstance(word, str) and word)
    return (metadata.get("modelspec.trigger_phrase", "") or own)[:MAX_SHOWN]


def _table(text: str) -> dict[str, Any]:
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def take_in(path: Path, *, spec: str, name: str, shop: ModelCache, store: RunStore) -> str:
    """Make a finished run of a file and return its id. ValueError for what does not fit the base ``spec``."""
    told = {"identifier": "", "class_noun": "", "file": clean_text(path.name[:MAX_TEXT])}
    title = path.stem
    if holds_words(path):
        taken = {word for run in store.list() for word in str(run.config.get("identifier", "")).split()}
        loaded = shop.base(spec)
        with shop.aside(loaded):
            adapter, words = read_words(path, loaded, taken=taken)
        told |= {"source": WORDS, **words}
    elif holds_shifts(path):
        loaded = shop.base(spec)
        with shop.aside(loaded):
            adapter = read_shifts(path, loaded)
        told |= {"source": SHIFTS}
    else:
        from pipelines.formats import lora as formats

        state = formats.read_lora(path)
        loaded = shop.base(spec)
        with shop.aside(loaded):
            adapter = formats.adopt(state, loaded)
        told |= {"source": state.source, "identifier": clean_text(formats.trigger_words(state)[:MAX_TEXT])}
        title = state.metadata.get("modelspec.title", title)
    return shelve(adapter, loaded, config=told, name=name or title[:MAX_TEXT], store=store)


def check_format(format: str) -> None:
    """Raise ValueError unless a run can be written in this format."""
    if format not in FORMATS:
        raise ValueError(
            f"There is no export format {str(format)[:40]!r}; choose one of {', '.join(FORMATS)}."
        )


def check_finished(run: Run) -> None:
    """Raise ValueError unless a run has something to write."""
    if not run.file("adapter.safetensors").is_file():
        raise ValueError(
            f"The run {run.name!r} has no finished adapter yet; wait for it, or stop and keep it."
        )


def write_copy(
    run: Run, *, format: str, run_id: str, folder: Path, shop: ModelCache, rank: int = LOW_RANK
) -> Path:
    """Write a run's adapter as another program's file below ``folder``; peft and svdiff as a folder.

    Spectral shifts become svdiff-pytorch's files; they and fully trained weights become the nearest LoRA of a ``rank``.
    """
    from pipelines.formats import lora as formats
    from pipelines.runs.model_card import file_facts

    facts, target = file_facts(run), folder / f"{run_id}-{format}"
    if kind_of(run) == WORDS:
        return write_embedding(run, target, format=format, facts=facts, shop=shop)
    if format == SHIFTS:
        from pipelines.formats.svdiff import write_svdiff

        adapter, loaded = shifts_of(run, shop)
        write_svdiff(adapter, loaded, target)
        return target
    if kind_of(run) in NEAR_KINDS:
        state, near = nearest_lora(run, rank=rank, shop=shop)
        facts["modelspec.description"] += f" {stands_for(run, near, rank=rank)}"
    else:
        state = formats.read_lora(run.file("adapter.safetensors"))
    if format == "peft":
        formats.write_peft(target, state, base=facts["ss_sd_model_name"], metadata=facts)
        if run.file("card.md").is_file():
            shutil.copyfile(run.file("card.md"), target / "README.md")
        return target
    write = formats.write_diffusers if format == "diffusers" else formats.write_kohya
    return write(target.with_suffix(".safetensors"), state, metadata=facts)


def verify(run: Run, written: Path, *, format: str, shop: ModelCache, rank: int = LOW_RANK) -> str:
    """Read a written file through the reader of the program it is for, and say how it differs from the run.

    diffusers' own converter reads diffusers and kohya files, PEFT's loader its folders. Returns a sentence such as
    "128/128 keys, largest difference 0". Raises ValueError when keys are missing or the difference is no rounding.
    """
    from pipelines.adapters.core import read_tensors

    original = run.file("adapter.safetensors")
    if format == "safetensors":
        return _same_tensors(read_tensors(original)[0], read_tensors(written)[0], name=written.name)
    if kind_of(run) == WORDS:
        return compare_embedding(run, written, format=format, shop=shop)
    if format == SHIFTS:
        adapter, loaded = shifts_of(run, shop)
        with shop.aside(loaded):
            return compare_shifts(adapter, written, loaded)
    from pipelines.formats import lora as formats

    told = ""
    if kind_of(run) in NEAR_KINDS:
        expected, near = nearest_lora(run, rank=rank, shop=shop)
        told = f"; {nearness(near, rank=rank)}"
    else:
        expected = formats.read_lora(original)
    found = _read_back(written, format=format)
    whole = [
        name for name in expected.modules if name in found.ranks and found.ranks[name] == expected.ranks[name]
    ]
    extra = len(found.modules) - len(whole)
    total, worst, largest = 2 * len(expected.modules), 0.0, 0.0
    for name in whole:
        change = expected.change(name)
        worst = max(worst, float((found.change(name) - change).abs().max()))
        largest = max(largest, float(change.abs().max()))
    if 2 * len(whole) < total or extra:
        raise ValueError(
            f"Only {2 * len(whole)}/{total} keys of {written.name} came back ({extra} others); export it again."
        )
    if worst > ROUNDING * max(largest, 1e-12):
        raise ValueError(
            f"{written.name} differs by {worst:.2g} of at most {largest:.2g}; export it in our own format."
        )
    return f"{total}/{total} keys, largest difference {worst:.2g}" + _rounded(worst, format=format) + told


def _rounded(worst: float, *, format: str) -> str:
    return " (the file is float16)" if worst and format == "kohya" else ""


def _same_tensors(first: Mapping[str, Any], second: Mapping[str, Any], *, name: str) -> str:
    same = [key for key in first if key in second and first[key].shape == second[key].shape]
    if len(same) < len(first) or len(second) > len(same):
        raise ValueError(f"Only {len(same)}/{len(first)} keys of {name} came back; export it again.")
    worst = max((float((first[key].float() - second[key].float()).abs().max()) for key in same), default=0.0)
    return f"{len(same)}/{len(first)} keys, largest difference {worst:.2g}"


def _read_back(written: Path, *, format: str) -> LoRAState:
    """Return what the other program's reader makes of a file, folded."""
    import torch

    from pipelines.formats import lora as formats

    if format == "peft":
        return _read_peft(written)
    from diffusers import StableDiffusionPipeline

    returned: Any = StableDiffusionPipeline.lora_state_dict(
        str(written.parent), weight_name=written.name, local_files_only=True, return_lora_metadata=True
    )
    state, alphas, metadata = returned
    stated = {
        name.replace(".down.weight.alpha", ".alpha"): torch.tensor(float(alpha))
        for name, alpha in (alphas or {}).items()
    }
    config = {
        name: value
        for name, value in (metadata or {}).items()
        if name.endswith(("lora_alpha", "alpha_pattern"))
    }
    return formats.fold(written.name, {**state, **stated}, source=format, metadata={}, config=config)


def _read_peft(folder: Path) -> LoRAState:
    from peft import PeftConfig
    from peft.utils import load_peft_weights

    from pipelines.formats import lora as formats

    tensors: dict[str, Any] = {}
    for part in (folder, *(folder / each for each in PARTS)):
        if (part / PEFT_FILES[0]).is_file():
            config = PeftConfig.from_pretrained(str(part)).to_dict()
            read = load_peft_weights(str(part), device="cpu")
            tensors |= formats.fold(folder.name, read, source="peft", metadata={}, config=config).tensors
    return formats.LoRAState(tensors=tensors, source="peft")
