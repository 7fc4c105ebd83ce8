"""Coordinates in a space of LoRAs (weights2weights, Dravid et al. 2024, 2406.09413, section 3) as an adapter.

θ = mean + std ⊙ (basisᵀ β) are the A and B of every layer of a LoRA. Only β is trained.
"""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from pipelines.adapters.core import ParameterGroup, check_state
from pipelines.adapters.lora import LoRA
from pipelines.unet_blocks import Strength

if TYPE_CHECKING:
    from pipelines.models.base import Base
    from pipelines.weightspace.space import Space

COORDINATES = "coordinates"
OTHER_SPACE = 1e-2  # relative difference of the weights above which a space is taken for another one


class Subspace:
    """β (k,) float32, the leading k coordinates of a space; all further ones are 0, and β = 0 is the mean identity.

    A file contains β and the LoRA that it gives, so that pictures need no space. Without ``axes`` the weights are those
    of the file, and β cannot be trained.
    """

    kind = "subspace"

    def __init__(
        self,
        *,
        space: str,
        ranks: Mapping[str, int],
        alpha: float,
        components: int,
        axes: "Space | None" = None,
    ) -> None:
        if components < 1:
            raise ValueError(f"A point of a weight space needs at least one coordinate, not {components}.")
        self.space, self.alpha, self.axes = space, alpha, axes
        self.base: Base | None = None
        self.base_hash = self.note = ""
        self._lora = LoRA(ranks=ranks, alpha=alpha)
        self._beta = nn.Parameter(torch.zeros(components))
        self._fixed: Tensor | None = None  # θ (d,), without axes
        self._bound = False  # whether the layers compute with views of it
        self._placed: tuple[Tensor, Tensor, Tensor] | None = (
            None  # mean, std and basis[:k] on the base's device
        )
        self._shapes: dict[str, torch.Size] = {}  # of the LoRA's tensors, in the order of θ

    @classmethod
    def of(cls, axes: "Space", *, components: int = 0, beta: Tensor | None = None) -> Self:
        """Return the adapter of a space: at ``beta`` (k,), else at the mean with ``components`` (0: all) coordinates."""
        told = axes.manifest
        count = len(beta) if beta is not None else min(components or told.components, told.components)
        found = cls(space=told.name, ranks=told.ranks(), alpha=told.alpha, components=count, axes=axes)
        if beta is not None:
            found._beta.data.copy_(beta)
        return found

    @classmethod
    def from_header(cls, header: Mapping[str, str]) -> Self:
        try:
            return cls(
                space=header["space"],
                ranks=json.loads(header["ranks"]),
                alpha=float(header["alpha"]),
                components=int(header["components"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"The file's header does not describe a point of a weight space ({error!r})."
            ) from error

    def header(self) -> dict[str, str]:
        return {
            "space": self.space,
            "ranks": json.dumps(self._lora.ranks),
            "alpha": str(self.alpha),
            "components": str(len(self._beta)),
        }

    def use(self, theta: Tensor) -> None:
        """Use the weights θ (d,) of an adapter without axes, for example those that a slider changed."""
        assert self.axes is None, "with axes, the weights follow from the coordinates"
        if self._bound and self._fixed is not None:
            self._fixed.copy_(theta)
        else:
            self._fixed = theta.clone()

    @property
    def beta(self) -> Tensor:
        """The coordinates (k,), a float32 copy on the CPU."""
        return self._beta.detach().to("cpu", copy=True)

    def inject(self, base: "Base") -> Self:
        assert self.base is None, "these coordinates are live already"
        self._lora.inject(base)
        self.base, self.base_hash = base, base.hash
        self._place(base.device)
        self.materialise()
        return self

    def remove(self) -> None:
        assert self.base is not None, "these coordinates are not live"
        self._lora.remove()
        self.base = None

    def distance(self) -> Tensor:
        """Return the root mean square of β in the population's standard deviations: about 1 for its members."""
        if self.axes is None:
            raise ValueError(
                f"The weight space {self.space!r} is not loaded; it is needed to measure a distance."
            )
        variance = self.axes.variance[: len(self._beta)].to(self._beta.device)
        return (self._beta.square() / variance).mean().clamp(min=1e-12).sqrt()

    def parameters(self) -> list[nn.Parameter]:
        return [self._beta]

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return β with a learning rate in standard deviations of the population, the mean over the coordinates."""
        spread = 1.0 if self.axes is None else float(self.axes.variance[: len(self._beta)].mean().sqrt())
        return [ParameterGroup([self._beta], rate=spread)]

    def materialise(self) -> None:
        """Compute θ once and let every layer use its part, so that the backward pass has one product with the basis."""
        if not self._bound:
            self._lora.compute_with(self._parts(self._theta()))
            self._bound = self.axes is None

    def state_dict(self) -> dict[str, Tensor]:
        with torch.no_grad():
            parts = self._parts(self._theta())
        return {COORDINATES: self.beta} | {name: value.to("cpu", copy=True) for name, value in parts.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load β and, without axes, the weights. Raises ValueError for the weights of another space of this name."""
        check_state(state, {COORDINATES: self._beta.shape, **self._shapes})
        theta = torch.cat([state[name].flatten() for name in self._shapes])
        with torch.no_grad():
            self._beta.copy_(state[COORDINATES])
            if self.axes is None:
                self._fixed, self._bound = theta.float().to(self._beta.device), False
            else:
                ours = self._theta().cpu()
                if (ours - theta).norm() > OTHER_SPACE * theta.norm():
                    raise ValueError(
                        f"These coordinates belong to another weight space called {self.space!r}; "
                        "invert the photograph again, or use the space it was made with."
                    )
        if self.base is not None:
            self.materialise()

    @torch.no_grad()
    def changes(self, base: "Base", scale: Strength = 1.0) -> Iterator[tuple[str, Tensor]]:
        """Yield ΔW = scale·(alpha / r)·B·A of every layer."""
        self.low_rank(base)
        yield from self._lora.changes(base, scale)

    @torch.no_grad()
    def low_rank(self, base: "Base") -> LoRA:
        """Return the LoRA of the present coordinates, with its alpha; valid until the coordinates change."""
        if not self._shapes:
            self.inject(base).remove()
        self.materialise()
        return self._lora

    def _place(self, device: torch.device) -> None:
        if not self._shapes:
            self._shapes = {name: value.shape for name, value in sorted(self._lora.state_dict().items())}
            self._beta.data = self._beta.data.to(device)
        if self.axes is not None and self._placed is None:
            kept = self.axes.basis[: len(self._beta)]
            mean, std, basis = (each.to(device) for each in (self.axes.mean, self.axes.std, kept))
            self._placed = mean, std, basis

    def _theta(self) -> Tensor:
        if self._placed is None:
            if self._fixed is None:
                self._fixed = torch.zeros(sum(map(torch.Size.numel, self._shapes.values())))
            self._fixed = self._fixed.to(self._beta.device)
            return self._fixed
        mean, std, basis = self._placed
        return mean + std * (self._beta.to(basis.dtype) @ basis).to(std.dtype)

    def _parts(self, theta: Tensor) -> dict[str, Tensor]:
        """Return θ (d,) as the LoRA's tensors: views from one split, so that their gradients are joined once."""
        pieces = theta.split([shape.numel() for shape in self._shapes.values()])
        return {
            name: piece.view(shape) for (name, shape), piece in zip(self._shapes.items(), pieces, strict=True)
        }
