"""The adapter protocol and the operations shared by all adapters: merge, suspend, save, load."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from pipelines.files import disk_sentences
from pipelines.unet_blocks import Strength

if TYPE_CHECKING:
    from pipelines.models.base import Base


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share optimizer settings.

    Their learning rate is ``rate`` times the run's. Weight decay None means the run's own value.
    """

    parameters: list[nn.Parameter]
    rate: float = 1.0
    weight_decay: float | None = None


class Adapter(Protocol):
    """A change of a base model's weights that can be injected, trained, removed exactly, and saved.

    ``base`` is the base model it is injected into, or None. ``base_hash`` identifies the base model it was created
    for ("" until the first inject). ``note`` is a sentence for the user, or "".
    """

    kind: str
    base: "Base | None"
    base_hash: str
    note: str

    @classmethod
    def from_header(cls, header: Mapping[str, str]) -> Self:
        """Build the adapter described by a :meth:`header`, without weights."""
        ...

    def inject(self, base: "Base") -> Self:
        """Inject it and make it trainable. Injecting again after :meth:`remove` reuses the same parameters."""
        ...

    def remove(self) -> None:
        """Remove it. The base model then has no wrapped layers and its outputs equal the original ones bit for bit."""
        ...

    def parameters(self) -> list[nn.Parameter]:
        """The trainable tensors, float32, in a fixed order."""
        ...

    def parameter_groups(self) -> list[ParameterGroup]:
        """The same tensors, grouped by optimizer settings; no group is empty."""
        ...

    def materialise(self) -> None:
        """Compute the injected weights from the parameters, if needed; called before each forward pass."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of all trained tensors, float32 on the CPU."""
        ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load strictly: raises ValueError naming the first missing, unexpected or wrongly shaped tensor."""
        ...

    def changes(self, base: "Base", scale: Strength = 1.0) -> Iterable[tuple[str, Tensor]]:
        """Yield ("unet.<module>.weight", float32 ΔW at strength ``scale``); the adapter need not be injected.

        Layers with strength 0 are skipped, so their weights remain the same tensor objects.
        """
        ...

    def header(self) -> dict[str, str]:
        """The metadata from which :meth:`from_header` rebuilds the adapter."""
        ...


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the base model's own layer, below any number of adapter wrappers."""
    while isinstance(module, BaseTunerLayer):
        module = module.get_submodule("base_layer")
    return module


def own_forward(layer: nn.Module, x: Tensor) -> Tensor:
    """Return the output of the base model's own layer, bias included, ignoring any forward set by an adapter."""
    return type(layer).forward(layer, x)


def parent_of(base: "Base", key: str) -> tuple[nn.Module, str]:
    """Return the parent module and the attribute name of a layer, for a key such as "unet.conv_in"."""
    prefix, _, path = key.partition(".")
    parent_path, _, name = path.rpartition(".")
    return base.module(prefix).get_submodule(parent_path), name


def base_parameter(base: "Base", key: str) -> nn.Parameter:
    """Return the base model's own parameter for a key such as "unet.conv_in.weight", below any wrappers."""
    layer_key, _, name = key.rpartition(".")
    parent, attribute = parent_of(base, layer_key)
    parameter = unwrapped(parent.get_submodule(attribute))._parameters[name]
    assert parameter is not None, key
    return parameter


def check_state(state: Mapping[str, Tensor], expected: Mapping[str, torch.Size]) -> None:
    """Raise ValueError unless the state has exactly the expected names and shapes."""
    missing = sorted(expected.keys() - state.keys())
    unexpected = sorted(state.keys() - expected.keys())
    if missing or unexpected:
        raise ValueError(
            f"These weights belong to another adapter: {len(missing)} tensors are missing "
            f"(first: {missing[0] if missing else 'none'}) and {len(unexpected)} are unexpected "
            f"(first: {unexpected[0] if unexpected else 'none'}); load them with the settings they were made with."
        )
    for name, shape in expected.items():
        if state[name].shape != shape:
            raise ValueError(
                f"{name} has shape {tuple(state[name].shape)} but this base needs {tuple(shape)}; "
                "load the adapter on the base it was trained on."
            )


@contextmanager
def injected(adapter: Adapter, base: "Base") -> Iterator[Adapter]:
    """Inject the adapter for the duration of the block and remove it afterwards, also when the block raises."""
    adapter.inject(base)
    try:
        yield adapter
    finally:
        adapter.remove()


@contextmanager
def suspended(adapter: Adapter) -> Iterator["Base"]:
    """Remove an injected adapter for the duration of the block, then inject the same parameters again.

    Optimizer state stays valid, so a training run can be suspended between any two steps.
    """
    base = adapter.base
    assert base is not None, "only a live adapter can be suspended"
    adapter.remove()
    try:
        yield base
    finally:
        adapter.inject(base)


@contextmanager
def merged(base: "Base", stack: Iterable[tuple[Adapter, Strength]]) -> Iterator[None]:
    """Merge a stack of adapters into the base model's weights for the duration of the block.

    Each adapter has one strength, or one per UNet block. The sum is computed in float32 and rounded once, so the
    order of the stack does not matter. On exit, also after an exception, every original tensor is restored.
    """
    sums: dict[str, Tensor] = {}
    for adapter, scale in stack:
        assert adapter.base is None, "a live adapter would count twice; suspend it first"
        for key, change in adapter.changes(base, scale) if scale else ():
            sums[key] = sums[key].add_(change) if key in sums else change
    originals: list[tuple[nn.Parameter, Tensor]] = []
    try:
        for key in list(sums):
            parameter = base_parameter(base, key)
            originals.append((parameter, parameter.data))
            parameter.data = (parameter.data.float() + sums.pop(key)).to(parameter.dtype)
        yield
    finally:
        for parameter, data in originals:
            parameter.data = data


def save_adapter(path: Path, adapter: Adapter, *, extra: Mapping[str, Any]) -> None:
    """Write an adapter as safetensors. The metadata holds its header, the base model's hash and ``extra`` as JSON.

    The write is atomic: no partial file is ever visible.
    """
    own = {**adapter.header(), "kind": adapter.kind, "base_hash": adapter.base_hash}
    further = {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in extra.items()
        if name not in own
    }
    save_tensors(path, adapter.state_dict(), metadata={**further, **own})


@disk_sentences()
def save_tensors(path: Path, tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str] | None) -> None:
    """Write safetensors atomically: to a temporary file in the same folder, then rename. Raises DiskError.

    ``metadata`` None writes no metadata, as some programs expect.
    """
    neighbour = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
        save_file(whole, neighbour, metadata=None if metadata is None else {"format": "pt", **metadata})
        os.replace(neighbour, path)
    finally:
        neighbour.unlink(missing_ok=True)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return (tensors, metadata) of a safetensors file. Raises ValueError for any other file."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path.name} cannot be read as safetensors ({error}); choose a complete .safetensors file."
        ) from error
