"""Changes of a base's weights: injected and removed again without a trace, merged, stacked, saved and loaded."""

from pipelines.adapters.core import Adapter
from pipelines.adapters.full import Full
from pipelines.adapters.lora import LoRA
from pipelines.adapters.spectral import Spectral
from pipelines.adapters.textual_inversion import Words

KINDS: dict[str, type[Adapter]] = {"lora": LoRA, "full": Full, "spectral": Spectral, "words": Words}
