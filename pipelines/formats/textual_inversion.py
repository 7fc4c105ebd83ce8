"""Learned words as files of other programs: diffusers' textual inversion, and the embeddings of A1111 and ComfyUI.

Other programs add a new word to the vocabulary; here a word is one the vocabulary has already, so what comes from
elsewhere is called by rare words that no run uses yet, one for each vector. Headers are told without torch.
"""

import re
from collections.abc import Collection, Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.formats.lora_keys import check_file
from pipelines.models.inspection import (
    SD1_TEXT_WIDTH,
    TEXT_WIDTHS,
    locate,
    read_header,
    weights_file,
)
from pipelines.runs.store import Run

if TYPE_CHECKING:
    from torch import Tensor

    from pipelines.adapters.textual_inversion import Words
    from pipelines.jobs.model_cache import ModelCache
    from pipelines.models.base import Base

KIND = "words"
WEBUI_KEY = "emb_params"
XL_KEYS = frozenset({"clip_l", "clip_g"})
PLACEHOLDER = re.compile(r"<[^<>]{1,100}>")
PLAIN_WORD = re.compile(r"[A-Za-z0-9_-]{1,100}")
KNOWN_WIDTHS = (SD1_TEXT_WIDTH, *TEXT_WIDTHS)
MOST_VECTORS = 16  # and tokens, of a word that is learned here
CANDIDATES = 64  # rare words to choose from


def placeholder(run: Run) -> str:
    """Return the new token that stands for the word elsewhere: "<zwx>", for "zwx" is in every vocabulary already.

    A word that came from elsewhere keeps the name that it had there.
    """
    own = f"<{'-'.join(str(run.config['identifier']).split())}>"
    return str(run.config.get("placeholder") or own)


# ---- what a header tells --------------------------------------------------------------------------------------------


def holds_words(path: Path) -> bool:
    """Return whether a file holds a learned word: of diffusers, of A1111 and ComfyUI, or our own."""
    try:
        if path.suffix.lower() != ".safetensors" or not path.is_file():
            return False
        header = read_header(path)
    except (ValueError, OSError):
        return False  # whoever reads it next says what is wrong with it
    return header.get("__metadata__", {}).get("kind") == KIND or bool(_key(header))


def _key(header: Mapping[str, Any]) -> str:
    """The key under which the word's vectors lie, "" where there is none."""
    names = [name for name in header if name != "__metadata__"]
    if WEBUI_KEY in names:
        return WEBUI_KEY
    if XL_KEYS & set(names):
        return sorted(XL_KEYS & set(names))[0]
    if len(names) != 1 or not 1 <= len(header[names[0]]["shape"]) <= 2:
        return ""
    width = header[names[0]]["shape"][-1]
    plain = PLAIN_WORD.fullmatch(names[0]) and width in KNOWN_WIDTHS
    return names[0] if plain or PLACEHOLDER.fullmatch(names[0]) else ""


def inspect_words(path: Path, *, base: str) -> dict[str, Any]:
    """Return what the header of a learned word says, under the keys of ``exchange.inspect_lora``."""
    header = check_file(path)
    metadata = header.get("__metadata__", {})
    shapes = [entry["shape"] for name, entry in header.items() if name != "__metadata__"]
    own, key = metadata.get("kind") == KIND, _key(header)
    return {
        "format": "atelier" if own else "A1111 embedding" if key == WEBUI_KEY else "diffusers embedding",
        "keys": len(shapes),
        "rank": 0,
        "ranks": [],
        "parameters": sum(prod(shape) for shape in shapes),
        "base": "",
        "trigger": str(metadata.get("words", "") if own else called(path, key))[:200],
        "problem": "" if own else _misfit(path.name, header, key=key, width=_width_of(base)),
        "metadata": {name[:200]: str(text)[:200] for name, text in list(metadata.items())[:40]},
    }


def called(path: Path, key: str) -> str:
    """Return what a word is called where it comes from: its placeholder, or in A1111 the name of its file."""
    return path.stem if key == WEBUI_KEY or key in XL_KEYS else key


def _width_of(base: str) -> int:
    """C of a base, told by its header where it is a folder; every other base is a Stable Diffusion 1.x."""
    place = locate(base)
    if place.kind != "folder" or place.path is None:
        return SD1_TEXT_WIDTH
    weights = read_header(weights_file(place.path / "text_encoder"))
    ending = "embeddings.token_embedding.weight"
    return next(int(entry["shape"][1]) for name, entry in weights.items() if name.endswith(ending))


def _misfit(name: str, header: Mapping[str, Any], *, key: str, width: int) -> str:
    """Return the sentence for why a word cannot be used on a base of text width C, else ""."""
    shape = header[key]["shape"]
    vectors, found = (1, *shape)[-2:] if shape else (0, 0)
    if key in XL_KEYS:
        return f"{name} is a learned word for Stable Diffusion XL; choose one made for Stable Diffusion 1.x."
    if found != width:
        made_for = {SD1_TEXT_WIDTH: "Stable Diffusion 1.x", **TEXT_WIDTHS}.get(found)
        of = f", as those of {made_for} have" if made_for else ""
        return (
            f"The word in {name} has {found} numbers{of}, and a word of this base has {width}; load the base it was "
            "made for."
        )
    if not 1 <= vectors <= MOST_VECTORS or len(shape) > 2:
        return f"{name} holds {vectors} vectors; a learned word has 1 to {MOST_VECTORS} here: choose another."
    return ""


# ---- in -------------------------------------------------------------------------------------------------------------


def read_words(path: Path, base: "Base", *, taken: Collection[str]) -> tuple["Words", dict[str, str]]:
    """Return a file's word as an adapter of ours, not live, and what its run says: ``identifier``, ``placeholder``.

    ``taken`` are words that runs use already. Raises ValueError for what does not fit, naming the widths.
    """
    from pipelines.adapters.core import injected, load_adapter, read_tensors
    from pipelines.adapters.textual_inversion import Words

    header = check_file(path)
    if header.get("__metadata__", {}).get("kind") == KIND:
        own: Any = load_adapter(path, base)
        return own, {"identifier": own.words, "placeholder": ""}
    key = _key(header)
    width = int(base.text_encoder.config.hidden_size)
    if problem := _misfit(path.name, header, key=key, width=width):
        raise ValueError(problem)
    vectors = read_tensors(path)[0][key].float().reshape(-1, width)
    if not vectors.isfinite().all():
        raise ValueError(
            f"{path.name} holds numbers that are not finite; its training diverged: choose another."
        )
    name = called(path, key)
    adapter = Words(words=_word_for(name, len(vectors), base, taken=taken))
    with injected(adapter, base):
        adapter.learn(vectors)
    return adapter, {"identifier": adapter.words, "placeholder": name if PLACEHOLDER.fullmatch(name) else ""}


def _word_for(name: str, vectors: int, base: "Base", *, taken: Collection[str]) -> str:
    """Rare words of the vocabulary, one for each vector: the word's own where it is one, else ones that nobody uses."""
    from pipelines.models.tokens import rare_identifiers

    rare = [each.text for each in rare_identifiers(base.tokenizer, count=CANDIDATES, avoid=base.avoid)]
    own = name.strip("<>")
    if vectors == 1 and own in rare:
        return own
    free = [word for word in rare if word not in taken]
    if len(free) < vectors:
        raise ValueError(
            f"{name} needs {vectors} rare words and {len(free)} are free; delete a run that uses one."
        )
    return " ".join(free[-vectors:])  # the rarest are offered first to whoever trains


# ---- out ------------------------------------------------------------------------------------------------------------


def write_embedding(
    run: Run, target: Path, *, format: str, facts: dict[str, str], shop: "ModelCache"
) -> Path:
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


def compare_embedding(run: Run, written: Path, *, format: str, shop: "ModelCache") -> str:
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


def _vectors(run: Run, shop: "ModelCache") -> "Tensor":
    """(n, C): the learned rows."""
    adapter: Any = shop.adapter(run.file("adapter.safetensors"), shop.base(run.base["spec"]))
    return adapter.vectors()
