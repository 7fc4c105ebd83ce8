"""Learned words as files of other programs: diffusers' textual inversion, and the embeddings of A1111 and ComfyUI."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.runs import Run

if TYPE_CHECKING:
    from torch import Tensor

    from pipelines.workshop import Workshop

KIND = "words"
WEBUI_KEY = "emb_params"


def placeholder(run: Run) -> str:
    """Return the new token that stands for the word elsewhere: "<zwx>", for "zwx" is in every vocabulary already."""
    return f"<{'-'.join(str(run.config['identifier']).split())}>"


def write_embedding(run: Run, target: Path, *, format: str, facts: dict[str, str], shop: "Workshop") -> Path:
    """Write a run's word for diffusers (`load_textual_inversion`) or, as "kohya", for A1111 and ComfyUI.

    Raises ValueError for programs that know no learned words.
    """
    from pipelines.adapters.core import save_tensors

    key = {"diffusers": placeholder(run), "kohya": WEBUI_KEY}.get(format)
    if key is None:
        raise ValueError(
            f"A learned word cannot be written as {format}; choose diffusers, kohya (for A1111 and ComfyUI) or our own."
        )
    path = target.with_suffix(".safetensors")
    save_tensors(path, {key: _vectors(run, shop)}, metadata=facts)
    return path


def compare_embedding(run: Run, written: Path, *, format: str, shop: "Workshop") -> str:
    """Read a written word through diffusers' own reader (or as A1111 does) and say how it differs from the run."""
    from diffusers.loaders.textual_inversion import load_textual_inversion_state_dicts

    from pipelines.adapters.core import read_tensors

    own = _vectors(run, shop)
    if format == "diffusers":
        (read,) = load_textual_inversion_state_dicts(
            [str(written)], local_files_only=True, use_safetensors=True
        )
        found: Any = read.get(placeholder(run))
    else:
        found = read_tensors(written)[0].get(WEBUI_KEY)
    if found is None or found.shape != own.shape:
        raise ValueError(f"The word in {written.name} did not come back; export it again.")
    return f"1/1 keys, largest difference {float((found.float() - own).abs().max()):.2g}"


def _vectors(run: Run, shop: "Workshop") -> "Tensor":
    """(n, C): the learned rows."""
    adapter: Any = shop.adapter(run.file("adapter.safetensors"), shop.base(run.base["spec"]))
    return adapter.vectors()
