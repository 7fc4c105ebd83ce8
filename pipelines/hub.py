"""The Hugging Face Hub: asked only when the owner of the machine allows it, for safetensors and configs."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

ALLOW = "ATELIER_HUB"
PARTS = ("unet", "text_encoder", "vae")
CONFIGS = ("model_index.json", "scheduler/scheduler_config.json", *(f"{part}/config.json" for part in PARTS))
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "special_tokens_map.json")


def hub_allowed() -> bool:
    """Whether downloads are switched on (``ATELIER_HUB=1``)."""
    return os.environ.get(ALLOW, "").strip().lower() in ("1", "true", "yes")


def hub_snapshot(name: str, *, revision: str | None = None) -> Path | None:
    """Return the folder that an earlier download of a model left on this machine, or None."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "model_index.json", revision=revision)
    return Path(found).parent if isinstance(found, str) else None


def choose_files(present: Collection[str], *, name: str) -> list[str]:
    """Return which files of a repository make a base: configs, tokenizer, and one weights file for each part.

    Full precision is preferred to a half copy. Raises ValueError when a part has no safetensors file.
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
    """Return the local folder of a Hub model: the copy already here, or a download when that is allowed.

    Raises ValueError when downloads are off, the repository cannot be reached, or it holds no safetensors.
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
    from huggingface_hub.errors import HfHubHTTPError

    try:
        present = HfApi().list_repo_files(name, revision=revision)
        wanted = choose_files(present, name=name)
        return Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
    except (HfHubHTTPError, OSError) as error:
        raise ValueError(
            f"{name} could not be fetched from the Hugging Face Hub ({type(error).__name__}); please check "
            "the name, the revision and the connection."
        ) from error
