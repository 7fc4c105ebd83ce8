"""A sequence of concepts for other programs: one LoRA with the concepts' factors concatenated, and an embedding per word.

The concatenation is exact: [B_1 .. B_t] [A_1; ..; A_t] is the sum of the concepts. Other programs add each word to their
vocabulary: diffusers as "<zwx>", A1111 and ComfyUI under the embedding's file name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.formats.core import Models
from pipelines.formats.textual_inversion import WEBUI_KEY, compare_embedding, write_embedding
from pipelines.runs.store import Run

if TYPE_CHECKING:
    from torch import Tensor

    from pipelines.formats.lora import LoRAState

LORA_FILE = {"diffusers": "pytorch_lora_weights.safetensors", "kohya": "lora.safetensors"}


@dataclass(frozen=True)
class Concepts:
    """The whole sequence as a LoRA, and the vectors (1, C) of each word; ``format`` is "diffusers" or "kohya"."""

    lora: "LoRAState"
    vectors: Mapping[str, "Tensor"]
    format: str

    def key(self, word: str) -> str:
        """Return the key of a word's vectors in its file."""
        return WEBUI_KEY if self.format == "kohya" else f"<{word}>"


def read_concepts(run: Run, models: Models, *, format: str) -> Concepts:
    """Return the sequence in a run's adapter. Raises ValueError if it changes no weights."""
    from pipelines.formats.lora import LoRAState

    adapter: Any = models.adapter(run.file("adapter.safetensors"), models.base(run.base["spec"]))
    return Concepts(LoRAState(tensors=adapter.concatenated()), adapter.vectors(), format)


def write_concepts(concepts: Concepts, folder: Path, facts: Mapping[str, str]) -> Path:
    """Write the LoRA and one embedding per word into a folder and return it."""
    from pipelines.formats.lora import write_diffusers, write_kohya

    folder.mkdir(parents=True)
    if concepts.lora.tensors:
        write = write_kohya if concepts.format == "kohya" else write_diffusers
        write(folder / LORA_FILE[concepts.format], concepts.lora, metadata=facts)
    for word, vectors in concepts.vectors.items():
        write_embedding(vectors, folder / f"{word}.safetensors", key=concepts.key(word), facts=facts)
    return folder


def check_concepts(concepts: Concepts, folder: Path) -> str:
    """Read the files with diffusers' loaders and report the difference. Raises ValueError for an incomplete file."""
    from pipelines.formats.lora import compare_loras, read_back

    told = []
    if concepts.lora.tensors:
        written = folder / LORA_FILE[concepts.format]
        found = read_back(written, format=concepts.format)
        told.append(compare_loras(concepts.lora, found, name=written.name)[0])
    for word, vectors in concepts.vectors.items():
        embedding = folder / f"{word}.safetensors"
        told.append(f"{word}: {compare_embedding(vectors, embedding, key=concepts.key(word))}")
    return "; ".join(told)
