"""Downloads from the Hugging Face Hub: only if enabled, and only safetensors and configs."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

ALLOW = "ATELIER_HUB"
PARTS = ("unet", "text_encoder", "vae")
CONFIGS = ("model_index.json", "scheduler/scheduler_config.json", *(f"{part}/config.json" for part in PARTS))
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "special_tokens_map.json")
PEFT_WEIGHTS, PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"
LORA_FILES = ("pytorch_lora_weights.safetensors", PEFT_WEIGHTS)
MAX_LORA_MB = 500
ASK_S = 10.0  # timeout of requests to the Hub
REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
REVISION = re.compile(r"[\w.-]{1,96}", re.ASCII)


def hub_allowed() -> bool:
    """Return whether downloads are enabled (``ATELIER_HUB=1``)."""
    return os.environ.get(ALLOW, "").strip().lower() in ("1", "true", "yes")


def downloads_off() -> str:
    """Return why the Hub cannot be asked, with the setting that changes it; "" if downloads are enabled."""
    if not hub_allowed():
        return f"downloads are off; start Atelier with {ALLOW}=1 to allow them"
    if os.environ.get("HF_HUB_OFFLINE", "").strip().lower() in ("1", "true", "yes", "on"):
        return "HF_HUB_OFFLINE is set; start Atelier without it to download"
    return ""


def hub_snapshot(name: str, *, revision: str | None = None) -> Path | None:
    """Return the folder of a model in the local Hub cache, or None."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "model_index.json", revision=revision)
    return Path(found).parent if isinstance(found, str) else None


def choose_files(present: Collection[str], *, name: str) -> list[str]:
    """Return the files of a repository that a base needs: configs, tokenizer, and one weights file per module.

    Full precision is preferred to fp16. Raises ValueError if a module has no safetensors file.
    """
    chosen = [file for file in (*CONFIGS, *(f"tokenizer/{file}" for file in TOKENIZER)) if file in present]
    for part in PARTS:
        stem = f"{part}/model" if part == "text_encoder" else f"{part}/diffusion_pytorch_model"
        weights = next((f for f in (f"{stem}.safetensors", f"{stem}.fp16.safetensors") if f in present), None)
        if weights is None:
            raise ValueError(
                f"{name} has no {stem}.safetensors; Atelier reads no pickled weights, because opening them "
                "can run any program, so please choose a repository with safetensors in the diffusers layout."
            )
        chosen.append(weights)
    return chosen


def fetch_model(name: str, *, revision: str | None = None) -> Path:
    """Return the local folder of a Hub model: from the cache, or downloaded if downloads are enabled.

    Raises ValueError if downloads are disabled, the repository cannot be reached, or it has no safetensors.
    """
    if not hub_allowed():
        found = hub_snapshot(name, revision=revision)
        if found is not None:
            return found
        raise ValueError(
            f"{name} is not on this machine and downloads are off; start Atelier with {ALLOW}=1 to allow "
            "them (about 4 GB), or give a folder or a .safetensors file."
        )
    from huggingface_hub import HfApi, snapshot_download

    try:
        present = HfApi().list_repo_files(name, revision=revision)
        wanted = choose_files(present, name=name)
        return Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
    except network_errors() as error:
        raise ValueError(_unreachable(name, error)) from error


def fetch_lora(repo_id: str, *, into: Path) -> Path:
    """Download a LoRA's files into ``into`` and return the .safetensors file, or the PEFT folder.

    ``repo_id`` is "owner/name", optionally with "@revision". Raises ValueError for an invalid name, if downloads are
    disabled or the Hub cannot be reached, and if the repository does not contain exactly one LoRA in safetensors of at
    most ``MAX_LORA_MB``.
    """
    name, _, revision = repo_id.strip().partition("@")
    _check_name(name, revision=revision)
    if not hub_allowed():
        raise ValueError(
            f"Downloads are off, so {name} was not downloaded; start Atelier with {ALLOW}=1 to allow them, or "
            "download the .safetensors file yourself and import it."
        )
    from huggingface_hub import HfApi, hf_hub_download

    options: dict[str, Any] = {"revision": revision or None}
    try:
        told = HfApi().model_info(name, files_metadata=True, timeout=ASK_S, **options)
        sizes = {file.rfilename: file.size or 0 for file in told.siblings or ()}
        chosen = choose_lora(sizes, name=name)
        paths = [
            Path(hf_hub_download(name, file, local_dir=into, etag_timeout=ASK_S, **options))
            for file in chosen
        ]
    except network_errors() as error:
        raise ValueError(_unreachable(name, error)) from error
    return paths[0].parent if len(paths) > 1 else paths[0]


def choose_lora(sizes: Mapping[str, int], *, name: str) -> list[str]:
    """Return the LoRA's files among a repository's (name -> bytes). ValueError for none, several, or too large."""
    weights = [file for file in sizes if file.endswith(".safetensors")]
    known = [file for file in LORA_FILES if file in weights]
    if not weights:
        raise ValueError(
            f"{name} holds no .safetensors file; Atelier opens no pickles, because they can run any program, so "
            "choose another repository."
        )
    if "model_index.json" in sizes:
        raise ValueError(f"{name} is a base model and not a LoRA; start Atelier with --base {name} instead.")
    if not known and len(weights) > 1:
        raise ValueError(
            f"{name} holds {len(weights)} .safetensors files; download the one you want and import that."
        )
    chosen = known[:1] or weights
    if chosen == [PEFT_WEIGHTS]:
        chosen = [PEFT_WEIGHTS, PEFT_CONFIG] if PEFT_CONFIG in sizes else chosen
    size_mb = sum(sizes[file] for file in chosen) / 1e6
    if size_mb > MAX_LORA_MB:
        raise ValueError(
            f"The LoRA in {name} has {size_mb:,.0f} MB and {MAX_LORA_MB} MB are allowed; choose a smaller one."
        )
    return chosen


def network_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions that huggingface_hub raises for failed downloads."""
    from huggingface_hub.errors import HfHubHTTPError

    transport = next(kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")
    return (HfHubHTTPError, transport, OSError)


def _check_name(name: str, *, revision: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    sentence = f"{name[:80]!r} is not a valid Hub repository; write it as owner/name."
    if not REPO_ID.fullmatch(name) or (revision and not REVISION.fullmatch(revision)):
        raise ValueError(sentence)
    try:
        validate_repo_id(name)
    except HFValidationError:
        raise ValueError(sentence) from None


def _unreachable(name: str, error: Exception) -> str:
    return (
        f"{name} could not be fetched from the Hugging Face Hub ({type(error).__name__}); please check "
        "the name, the revision and the connection."
    )
