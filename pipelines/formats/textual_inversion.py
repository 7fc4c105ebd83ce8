"""Textual inversion files of other programs: embeddings of diffusers, A1111 and ComfyUI.

Other programs add a new token to the vocabulary. In Atelier the trigger word is an existing rare token, so an imported
embedding is assigned unused rare tokens, one per vector. Reading headers does not need torch.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.config import MOST_VECTORS
from pipelines.formats.core import MAX_SHOWN, Examined, Imported, Shapes, Source
from pipelines.models.inspection import SD1_TEXT_WIDTH, TEXT_WIDTHS
from pipelines.runs.store import Run

if TYPE_CHECKING:
    from torch import Tensor

    from pipelines.models.base import Base

TOKEN_TABLE = "embeddings.token_embedding.weight"
WEBUI_KEY = "emb_params"
XL_KEYS = frozenset({"clip_l", "clip_g"})
PLACEHOLDER = re.compile(r"<[^<>]{1,100}>")
PLAIN_WORD = re.compile(r"[A-Za-z0-9_-]{1,100}")
KNOWN_WIDTHS = (SD1_TEXT_WIDTH, *TEXT_WIDTHS)
CANDIDATES = 64  # number of rare tokens to choose from


def placeholder(run: Run) -> str:
    """Return the new token for the word in other programs: "<zwx>", because "zwx" is already in their vocabulary.

    An imported word keeps its original name.
    """
    own = f"<{'-'.join(str(run.config['identifier']).split())}>"
    return str(run.config.get("placeholder") or own)


# ---- headers --------------------------------------------------------------------------------------------------------


def key_of(source: Source) -> str:
    """Return the key of a learned word's vectors; "" if the file contains none."""
    names, entries = list(source.entries), source.entries
    if WEBUI_KEY in names:
        return WEBUI_KEY
    if XL_KEYS & set(names):
        return sorted(XL_KEYS & set(names))[0]
    if len(names) != 1 or not 1 <= len(entries[names[0]]["shape"]) <= 2:
        return ""
    width = entries[names[0]]["shape"][-1]
    plain = PLAIN_WORD.fullmatch(names[0]) and width in KNOWN_WIDTHS
    return names[0] if plain or PLACEHOLDER.fullmatch(names[0]) else ""


def is_webui(source: Source) -> bool:
    """Whether a file is an A1111 embedding."""
    return key_of(source) == WEBUI_KEY


def is_embedding(source: Source) -> bool:
    """Whether a file is a diffusers textual inversion, possibly for another model (which is rejected later by name)."""
    return bool(key_of(source))


def examine_embedding(source: Source, shapes: Shapes) -> Examined:
    """Return a learned word's name and, if it does not fit the base model, the reason."""
    key = key_of(source)
    table = shapes.get(f"text_encoder.{TOKEN_TABLE}")
    width = table[1] if table else SD1_TEXT_WIDTH
    problem = _misfit(source.name, source.entries[key]["shape"], key=key, width=width)
    return Examined(problem=problem, trigger=called(source.name, key)[:MAX_SHOWN])


def called(name: str, key: str) -> str:
    """Return a word's name in the program it comes from: its placeholder, or in A1111 the file name."""
    return Path(name).stem if key == WEBUI_KEY or key in XL_KEYS else key


def _misfit(name: str, shape: Sequence[int], *, key: str, width: int) -> str:
    """Return an error sentence if a word does not fit a base model with text width C (``width``), else ""."""
    vectors, found = (1, *shape)[-2:] if shape else (0, 0)
    if key in XL_KEYS:
        return f"{name} is an embedding for Stable Diffusion XL; choose one made for Stable Diffusion 1.x."
    if found != width:
        made_for = {SD1_TEXT_WIDTH: "Stable Diffusion 1.x", **TEXT_WIDTHS}.get(found)
        of = f" (as for {made_for})" if made_for else ""
        return (
            f"The embedding in {name} has width {found}{of}, and this base model needs {width}; load the base model it was "
            "made for."
        )
    if not 1 <= vectors <= MOST_VECTORS or len(shape) > 2:
        return f"{name} contains {vectors} vectors, and 1 to {MOST_VECTORS} are supported; choose another."
    return ""


# ---- import ---------------------------------------------------------------------------------------------------------


def read_embedding(source: Source, base: "Base", taken: Collection[str]) -> Imported:
    """Return a file's word as an adapter; ``facts`` contains its ``identifier`` and ``placeholder``.

    ``taken`` are identifiers already used by runs. Raises ValueError for vectors that are not finite.
    """
    from pipelines.adapters.core import injected, read_tensors
    from pipelines.adapters.textual_inversion import Words

    key = key_of(source)
    width = int(base.text_encoder.config.hidden_size)
    vectors = read_tensors(source.path)[0][key].float().reshape(-1, width)
    if not vectors.isfinite().all():
        raise ValueError(
            f"{source.name} contains values that are not finite, because its training diverged; choose another."
        )
    name = called(source.name, key)
    adapter = Words(words=_word_for(name, len(vectors), base, taken=taken))
    with injected(adapter, base):
        adapter.learn(vectors)
    own = name if PLACEHOLDER.fullmatch(name) else ""
    return Imported(adapter, {"source": "words", "identifier": adapter.words, "placeholder": own})


def _word_for(name: str, vectors: int, base: "Base", *, taken: Collection[str]) -> str:
    """Return one rare token per vector: the word itself if it is a single rare token, else unused tokens."""
    from pipelines.models.tokens import rare_identifiers

    rare = [each.text for each in rare_identifiers(base.tokenizer, count=CANDIDATES, avoid=base.avoid)]
    own = name.strip("<>")
    if vectors == 1 and own in rare:
        return own
    free = [word for word in rare if word not in taken]
    if len(free) < vectors:
        raise ValueError(
            f"{name} needs {vectors} rare tokens and {len(free)} are unused; delete a run that uses one."
        )
    return " ".join(
        free[-vectors:]
    )  # from the end, because new runs are offered tokens from the start of the list


# ---- export ---------------------------------------------------------------------------------------------------------


def write_embedding(vectors: "Tensor", path: Path, *, key: str, facts: Mapping[str, str]) -> Path:
    """Write a word's vectors (n, C) under a key: its placeholder for diffusers, ``WEBUI_KEY`` for A1111 and ComfyUI."""
    from pipelines.adapters.core import save_tensors

    save_tensors(path, {key: vectors}, metadata=facts)
    return path


def compare_embedding(vectors: "Tensor", written: Path, *, key: str) -> str:
    """Read a written word with diffusers' loader (or as A1111 does) and report the difference."""
    from diffusers.loaders.textual_inversion import load_textual_inversion_state_dicts

    from pipelines.adapters.core import read_tensors

    if key == WEBUI_KEY:
        found: Any = read_tensors(written)[0].get(key)
    else:
        (read,) = load_textual_inversion_state_dicts(
            [str(written)], local_files_only=True, use_safetensors=True
        )
        found = read.get(key)
    if found is None or found.shape != vectors.shape:
        raise ValueError(f"The embedding in {written.name} was not read back; export it again.")
    return f"1/1 keys, largest difference {float((found.float() - vectors).abs().max()):.2g}"
