"""Sequential training: each run starts from the adapter of the previous run."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.adapters.core import injected, read_tensors
from pipelines.adapters.lora import LoRA
from pipelines.config import SubjectConfig
from pipelines.methods.core import View
from pipelines.methods.specs import MethodSpec
from pipelines.methods.subject import batches, loss
from pipelines.models.base import Base
from pipelines.runs.costs import Size
from pipelines.runs.store import Run

__all__ = ["adapter", "batches", "loss", "views"]


@dataclass(frozen=True)
class SequenceConfig(SubjectConfig):
    """Config for the next subject of a sequence."""

    def trained_values(self, size: Size) -> float:
        return size.rank_values["attention"]


SPEC = MethodSpec(
    name="sequence",
    title="A sequence",
    config=SequenceConfig,
    adapter_kinds=("lora",),
    implementation=__name__,
    inputs="a sequence",
    tab="toys",
    about="A method of the tests.",
)


def adapter(base: Base, config: SequenceConfig, parents: Sequence[Run]) -> LoRA:
    lora = LoRA(rank=1, seed=config.seed)
    for parent in parents[-1:]:
        with injected(lora, base):
            lora.load_state_dict(read_tensors(parent.file("adapter.safetensors"))[0])
    return lora


def views(run: Run) -> list[View]:
    return []
