"""Full fine-tuning as an adapter: while injected, float32 copies of all weights replace the base model's tensors."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from pipelines.adapters.core import ParameterGroup, base_parameter, check_state, unwrapped
from pipelines.unet_blocks import Strength, strength_at

if TYPE_CHECKING:
    from pipelines.models.base import Base


class Full:
    """Every weight and bias of the UNet and, optionally, of the text encoder.

    The base model's parameters stay registered. While injected, a plain attribute of the same name on the layer
    shadows each of them; deleting the attribute restores the original exactly. The state contains the trained tensors
    themselves, because a stored difference could not be restored bit for bit.
    """

    kind = "full"

    def __init__(self, *, text_encoder: bool = False) -> None:
        self.text_encoder = text_encoder
        self.base: Base | None = None
        self.base_hash = self.note = ""
        self._masters: dict[str, nn.Parameter] = {}  # "unet.<parameter>", in the model's own order
        self._shadowed: list[tuple[nn.Module, str, nn.Parameter, torch.dtype]] = []  # while injected

    @classmethod
    def from_header(cls, header: Mapping[str, str]) -> Self:
        return cls(text_encoder=header.get("text_encoder") == "True")

    def header(self) -> dict[str, str]:
        return {"text_encoder": str(self.text_encoder)}

    def inject(self, base: "Base") -> Self:
        assert self.base is None, "these weights are live already"
        places = list(self._places(base))
        if not self._masters:
            self._masters = {
                key: nn.Parameter(own.detach().to(torch.float32, copy=True)) for key, _, _, own in places
            }
            self.base_hash = base.hash
        if any(name in layer.__dict__ for _, layer, name, _ in places):
            raise ValueError(
                "Two fully trained models cannot be live at once; remove the first or merge both."
            )
        self._shadowed = [(layer, name, self._masters[key], own.dtype) for key, layer, name, own in places]
        self.base = base
        self.materialise()
        return self

    def remove(self) -> None:
        assert self.base is not None, "these weights are not live"
        for layer, name, _, _ in self._shadowed:
            del layer.__dict__[name]
        self._shadowed = []
        self.base = None

    def parameters(self) -> list[nn.Parameter]:
        return list(self._masters.values())

    def parameter_groups(self) -> list[ParameterGroup]:
        return [ParameterGroup(self.parameters())]

    def materialise(self) -> None:
        """Set the master weights on the layers, cast to the base model's dtype; gradients flow through the cast."""
        for layer, name, master, dtype in self._shadowed:
            layer.__dict__[name] = master.to(dtype)

    def state_dict(self) -> dict[str, Tensor]:
        return {key: master.detach().to("cpu", copy=True) for key, master in self._masters.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        check_state(state, {key: master.shape for key, master in self._masters.items()})
        with torch.no_grad():
            for key, master in self._masters.items():
                master.copy_(state[key])

    @torch.no_grad()
    def changes(self, base: "Base", scale: Strength = 1.0) -> Iterator[tuple[str, Tensor]]:
        for key, master in self._masters.items():
            if at := strength_at(scale, key):
                yield key, (master.detach() - base_parameter(base, key).data.float()) * at

    def _places(self, base: "Base") -> Iterator["Place"]:
        for prefix in ("unet", "text_encoder") if self.text_encoder else ("unet",):
            yield from _own_parameters(base.module(prefix), prefix=prefix)


Place = tuple[str, nn.Module, str, nn.Parameter]  # key, layer, attribute, the base model's own parameter


def _own_parameters(module: nn.Module, *, prefix: str) -> Iterator[Place]:
    """Yield every parameter of the base model, below other adapters' wrappers."""
    layer = unwrapped(module)
    for name, parameter in layer._parameters.items():
        if parameter is not None:
            yield f"{prefix}.{name}", layer, name, parameter
    for name, child in layer.named_children():
        yield from _own_parameters(child, prefix=f"{prefix}.{name}")
