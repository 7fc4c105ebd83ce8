"""How adapters are learned: one module per method, each a row of ``METHODS``."""

from pipelines.methods import block_lora, dreambooth, svdiff, textual_inversion
from pipelines.methods.core import Method, View

__all__ = ["METHODS", "Method", "View"]

METHODS: dict[str, Method] = {
    method.name: method
    for method in (dreambooth.METHOD, block_lora.METHOD, svdiff.METHOD, textual_inversion.METHOD)
}
