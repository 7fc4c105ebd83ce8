"""How adapters are learned: one module per method, each a row of ``METHODS``."""

from pipelines.methods import dreambooth
from pipelines.methods.core import Method, View

__all__ = ["METHODS", "Method", "View"]

METHODS: dict[str, Method] = {dreambooth.METHOD.name: dreambooth.METHOD}
