"""The registry of adapter kinds by the name stored in their files, and the loader of such files."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.adapters.continual import Continual
from pipelines.adapters.core import Adapter, injected, read_tensors
from pipelines.adapters.full import Full
from pipelines.adapters.lora import LoRA
from pipelines.adapters.spectral import Spectral
from pipelines.adapters.subspace import Subspace
from pipelines.adapters.textual_inversion import Words

if TYPE_CHECKING:
    from pipelines.models.base import Base

logger = logging.getLogger(__name__)

KINDS: dict[str, type[Adapter]] = {
    "lora": LoRA, "full": Full, "spectral": Spectral, "words": Words, "continual": Continual,
    "subspace": Subspace,
}  # fmt: skip


def load_adapter(path: Path, base: Base) -> Adapter:
    """Load an adapter from a file of :func:`save_adapter` and check it against the base model; do not inject it.

    A LoRA of another base model is accepted with a warning, which is also its ``note``. Every other kind raises
    ValueError, because it only works on its own base model.
    """
    state, header = read_tensors(path)
    kind = header.get("kind", "")
    if kind not in KINDS:
        raise ValueError(
            f"{path.name} is not an adapter of Atelier (kind {kind!r}); import other programs' LoRA files instead."
        )
    note = _foreign_note(path, header=header, base=base)
    adapter = KINDS[kind].from_header(header)
    with injected(adapter, base):
        adapter.load_state_dict(state)
    adapter.base_hash = header.get("base_hash", "")
    adapter.note = note
    return adapter


def _foreign_note(path: Path, *, header: Mapping[str, str], base: Base) -> str:
    if header.get("base_hash") == base.hash:
        return ""
    if header["kind"] != "lora":
        raise ValueError(
            f"{path.name} was trained on another base model and only works on that one; "
            f"choose the base whose hash starts with {header.get('base_hash', '')[:12]!r}."
        )
    note = f"{path.name} was trained on another base model than {base.name}; results may be less similar to the subject."
    logger.warning(note)
    return note
