"""Spectral shifts (SVDiff, Han et al. 2023, 2303.11305): only the singular values of the weights are trained.

W_δ = U diag(ReLU(σ + δ)) Vᵀ is computed as W + U diag(ReLU(σ + δ) − σ) Vᵀ. At δ = 0 the correction is then exactly
zero in any dtype, whereas rebuilding W_δ directly would add a rounding error. Norm gains are shifted element by
element, w + δ, as in the author's code. Biases are not trained.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.adapters.core import ParameterGroup, base_parameter, check_state, own_forward, unwrapped
from pipelines.adapters.svd_cache import MATRICES, NORMS, Factors, Spectra, cache_folder, matrix
from pipelines.models.targets import KEY_VALUE, SPECTRAL_TARGETS, shift_size
from pipelines.unet_blocks import Strength, strength_at

if TYPE_CHECKING:
    from pipelines.models.base import Base

DISPATCH = 2e6  # multiplications in the time that a CPU needs to launch a branch's extra operations
LEAST_RATIO = 1e-3  # smallest σ_min / σ_max that allows the one-sided form, which divides by σ
NORM_RATE = 1e-3  # learning rate of norm gains relative to that of matrices: the author's 1e-6 / 1e-3


def shifted_weights(module: nn.Module, subset: str = "UNet") -> dict[str, Tensor]:
    """Return the weights that a subset trains, sorted by module path, without biases.

    These are the base model's own weights, also below the wrappers of other injected adapters.
    """
    return {path: _own_weight(layer) for path, layer in _bare_layers(module, subset).items()}


@dataclass
class Shift:
    """One trained weight: its layer, its δ, and how the layer applies it while injected.

    ``form`` is "gain" (norms), "rebuild" (W_δ itself, together with all weights of its shape), "output" and "input"
    (the one-sided forms on the small side), "branch" (two-sided) or "rows" (an embedding, row by row).
    """

    layer: nn.Module
    parameter: nn.Parameter
    form: str
    factors: Factors | None = None
    gain: Tensor | None = None  # ReLU(σ + δ) − σ, or ρ for the one-sided forms; set by ``materialise``

    @torch.no_grad()
    def change_of_values(self, scale: float = 1.0) -> Tensor:
        """Return ReLU(σ + sδ) − σ of a matrix, (k,): the signed singular values of ΔW."""
        assert self.factors is not None, "a norm has no singular values"
        return _gain(self.factors.values, scale * self.parameter.detach())


@dataclass(frozen=True)
class Pack:
    """All "rebuild" weights of one shape, stacked, so that one batched product computes them all."""

    shifts: list[Shift]
    weights: Tensor  # (L, M, N)
    left: Tensor  # (L, M, k)
    values: Tensor  # (L, k)
    right: Tensor  # (L, k, N)


class Spectral:
    """Shifts of singular values of the UNet (``SPECTRAL_TARGETS``: twelve subsets) and, optionally, the text encoder.

    ``rank`` is the number of singular values trained per matrix, largest first; 0 trains all. ``batch`` (items per
    forward) only selects each layer's form and does not affect the result. ``norm_rate`` is the learning rate of norm
    gains relative to that of matrices.
    """

    kind = "spectral"

    def __init__(
        self,
        *,
        subset: str = "UNet",
        text_encoder: bool = False,
        rank: int = 0,
        batch: int = 2,
        norm_rate: float = NORM_RATE,
    ) -> None:
        if subset not in SPECTRAL_TARGETS:
            raise ValueError(f"The subset must be one of {', '.join(SPECTRAL_TARGETS)}, not {subset!r}.")
        if rank < 0:
            raise ValueError(f"The rank is the number of trained singular values, 0 for all; got {rank}.")
        if not 0 < norm_rate < math.inf:
            raise ValueError(f"The norms' learning rate must be above 0; got {norm_rate:g} of the matrices'.")
        self.subset, self.text_encoder, self.rank, self.batch = subset, text_encoder, rank, batch
        self.norm_rate = norm_rate
        self.base: Base | None = None
        self.base_hash = self.note = ""
        self._shifts: dict[str, Shift] = {}  # by "unet.<module>", sorted
        self._packs: list[Pack] = []
        self._gains: list[list[Shift]] = []  # norms grouped by width

    @classmethod
    def from_header(cls, header: Mapping[str, str]) -> Self:
        try:
            return cls(
                subset=header["subset"],
                text_encoder=header["text_encoder"] == "True",
                rank=int(header["rank"]),
                norm_rate=float(header["norm_rate"]),
            )
        except (KeyError, ValueError) as error:
            raise ValueError(f"The file's header does not describe spectral shifts ({error!r}).") from error

    def header(self) -> dict[str, str]:
        return {
            "subset": self.subset,
            "text_encoder": str(self.text_encoder),
            "rank": str(self.rank),
            "norm_rate": str(self.norm_rate),
        }

    @property
    def shifts(self) -> Mapping[str, Shift]:
        """All shifts by "unet.<module>", sorted; empty before the first inject."""
        return self._shifts

    def inject(self, base: "Base") -> Self:
        assert self.base is None, "these shifts are live already"
        if not self._shifts:
            self._build(base)
            self.base_hash = base.hash
        for shift in self._shifts.values():
            if "weight" in shift.layer.__dict__ or "forward" in shift.layer.__dict__:
                raise ValueError(
                    "Spectral shifts cannot be live beside a fully trained model or other spectral shifts; "
                    "merge them, or remove the other one first."
                )
        for shift in self._shifts.values():
            if forward := FORWARDS.get(shift.form):
                shift.layer.__dict__["forward"] = partial(forward, shift)
        self.base = base
        self.materialise()
        return self

    def remove(self) -> None:
        assert self.base is not None, "these shifts are not live"
        for shift in self._shifts.values():
            shift.layer.__dict__.pop("weight", None)
            shift.layer.__dict__.pop("forward", None)
            shift.gain = None
        self.base = None

    def parameters(self) -> list[nn.Parameter]:
        return [shift.parameter for shift in self._shifts.values()]

    def parameter_groups(self) -> list[ParameterGroup]:
        norms = [shift.parameter for shift in self._shifts.values() if shift.form == "gain"]
        matrices = [shift.parameter for shift in self._shifts.values() if shift.form != "gain"]
        groups = [ParameterGroup(matrices), ParameterGroup(norms, rate=self.norm_rate)]
        return [group for group in groups if group.parameters]

    def materialise(self) -> None:
        """Compute the injected weights from the shifts, or the gains for layers whose weight is never built."""
        for pack in self._packs:
            delta = torch.stack([shift.parameter for shift in pack.shifts])
            gain = _gain(pack.values, delta)
            built = pack.weights + (pack.left * gain[:, None]) @ pack.right
            for shift, weight in zip(pack.shifts, built.unbind(0), strict=True):
                own = _own_weight(shift.layer)
                shift.layer.__dict__["weight"] = weight.view(own.shape).to(own.dtype)
        for shifts in self._gains:
            own = torch.stack([_own_weight(shift.layer).detach().float() for shift in shifts])
            moved = own + torch.stack([shift.parameter for shift in shifts])
            for shift, weight in zip(shifts, moved.unbind(0), strict=True):
                shift.layer.__dict__["weight"] = weight.to(_own_weight(shift.layer).dtype)
        for shift in self._shifts.values():
            if shift.form in FORWARDS:
                assert shift.factors is not None
                gain = _gain(shift.factors.values, shift.parameter)
                one_sided = shift.form in ("output", "input")
                shift.gain = gain / shift.factors.values if one_sided else gain

    def state_dict(self) -> dict[str, Tensor]:
        """Return {"unet.<module>.delta": δ}: shifts of a matrix's singular values or of a norm's gains."""
        return {
            f"{key}.delta": shift.parameter.detach().to("cpu", copy=True)
            for key, shift in self._shifts.items()
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        check_state(state, {f"{key}.delta": shift.parameter.shape for key, shift in self._shifts.items()})
        with torch.no_grad():
            for key, shift in self._shifts.items():
                shift.parameter.copy_(state[f"{key}.delta"])

    @torch.no_grad()
    def changes(self, base: "Base", scale: Strength = 1.0) -> Iterator[tuple[str, Tensor]]:
        """Yield U diag(ReLU(σ + sδ) − σ) Vᵀ for every matrix and sδ for every norm gain; s = ``scale``."""
        for key in self._shifts:
            if at := strength_at(scale, key):
                yield f"{key}.weight", self.change(base, key, at)

    @torch.no_grad()
    def change(self, base: "Base", key: str, scale: float = 1.0) -> Tensor:
        """Return ΔW of one weight, by its "unet.<module>", float32 in the weight's shape."""
        shift = self._shifts[key]
        if shift.factors is None:
            return scale * shift.parameter.detach()
        gain = shift.change_of_values(scale)
        factors = shift.factors.on(gain.device)
        return ((factors.left * gain) @ factors.right).view(base_parameter(base, f"{key}.weight").shape)

    def weights(self, base: "Base") -> dict[str, Tensor]:
        """Return the base model's weights that are trained, by "unet.<module>", also below wrappers."""
        return {key: _own_weight(layer) for key, layer in self._layers(base).items()}

    def _layers(self, base: "Base") -> dict[str, nn.Module]:
        parts = {"text_encoder": "UNet"} if self.text_encoder else {}
        return {
            f"{prefix}.{path}": layer
            for prefix, subset in (parts | {"unet": self.subset}).items()
            for path, layer in _bare_layers(base.module(prefix), subset).items()
        }

    def _build(self, base: "Base") -> None:
        spectra = Spectra(base, cache_folder())
        for key, layer in self._layers(base).items():
            self._shifts[key] = self._shift(base, key, layer, spectra)
        spectra.keep()
        self._pack()

    def _shift(self, base: "Base", key: str, layer: nn.Module, spectra: Spectra) -> Shift:
        weight = _own_weight(layer)
        parameter = nn.Parameter(torch.zeros(shift_size(weight.shape, self.rank), device=weight.device))
        if weight.dim() == 1:
            return Shift(layer, parameter, "gain")
        factors = spectra.factors(key, weight)
        form = chosen_form(layer, weight, factors, tokens=self.batch * token_count(key, base))
        needed = factors.on(weight.device, left=form != "input", right=form != "output")
        if weight.device.type == "cpu" and form in ("output", "input", "branch"):
            needed = needed.copied(left=form != "input", right=form != "output")
        return Shift(layer, parameter, form, needed)

    def _pack(self) -> None:
        by_shape: dict[tuple[int, ...], list[Shift]] = {}
        by_width: dict[int, list[Shift]] = {}
        for shift in self._shifts.values():
            if shift.form == "gain":
                by_width.setdefault(len(shift.parameter), []).append(shift)
            elif shift.form == "rebuild":
                by_shape.setdefault(tuple(matrix(_own_weight(shift.layer)).shape), []).append(shift)
        self._gains = list(by_width.values())
        self._packs = []
        for shifts in by_shape.values():
            factors = [shift.factors for shift in shifts if shift.factors is not None]
            self._packs.append(
                Pack(
                    shifts,
                    torch.stack([matrix(_own_weight(shift.layer).detach()).float() for shift in shifts]),
                    torch.stack([each.left for each in factors]),
                    torch.stack([each.values for each in factors]),
                    torch.stack([each.right for each in factors]),
                )
            )
            pack = self._packs[-1]
            for index, shift in enumerate(shifts):  # views of the stacks, not copies
                shift.factors = Factors(pack.left[index], pack.values[index], pack.right[index])


def _gain(values: Tensor, delta: Tensor) -> Tensor:
    """Return ReLU(σ + δ) − σ over the last axis. If δ is shorter than σ (truncated rank), it is padded with 0."""
    moved = values[..., : delta.shape[-1]]
    gain = F.relu(moved + delta) - moved
    return F.pad(gain, (0, values.shape[-1] - delta.shape[-1]))


def _own_weight(layer: nn.Module) -> nn.Parameter:
    weight = layer._parameters["weight"]
    assert weight is not None
    return weight


def _bare_layers(module: nn.Module, subset: str) -> dict[str, nn.Module]:
    """Return the layers of :func:`shifted_weights`, also below the wrappers of other injected adapters."""
    wanted = SPECTRAL_TARGETS[subset]

    def walk(current: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
        layer = unwrapped(current)
        if isinstance(layer, (*MATRICES, *NORMS)):
            weight = layer._parameters["weight"]
            if weight is not None and wanted(path, weight.dim()):
                yield path, layer
            return
        for name, child in layer.named_children():
            yield from walk(child, f"{path}.{name}" if path else name)

    return dict(sorted(walk(module, "")))


# ---- which form a layer takes ---------------------------------------------------------------------------------------


def token_count(key: str, base: "Base") -> int:
    """Return the number of positions per item that a layer processes: latent cells at its level or prompt tokens."""
    prefix, _, path = key.partition(".")
    if prefix == "text_encoder" or path.endswith(KEY_VALUE):
        return base.context
    if path.startswith("time_embedding") or path.endswith("time_emb_proj"):
        return 1
    side = base.size_px // base.vae_factor
    block, _, rest = path.partition(".")
    level = int(rest.partition(".")[0]) if block in ("down_blocks", "up_blocks") else 0
    depth = {"down_blocks": level, "mid_block": 3, "up_blocks": 3 - level}.get(block, 0)
    depth += {"downsamplers": 1, "upsamplers": -1}.get(rest.split(".")[1] if "." in rest else "", 0)
    return max(side >> depth, 1) ** 2


def chosen_form(layer: nn.Module, weight: Tensor, factors: Factors, *, tokens: int) -> str:
    """Return the cheapest exact form for a layer that processes ``tokens`` positions, by number of multiplications.

    With T = ``tokens`` and k = min(M, N), forward and backward cost: rebuild 4kMN + 2TMN (which includes the gradient
    of the whole weight), two-sided 4Tk(M+N), one-sided 8Tk². The one-sided form divides by σ and so needs a
    well-conditioned weight. On a CPU, a layer that is not rebuilt in a batch with all weights of its shape also pays
    for launching its extra operations.
    """
    if isinstance(layer, nn.Embedding):
        return "rows"
    rows, columns = matrix(weight).shape
    size = min(rows, columns)
    more = DISPATCH if weight.device.type == "cpu" else 0.0
    costs = {
        "rebuild": 4.0 * size * rows * columns + 2 * tokens * rows * columns,
        "branch": more + 4 * tokens * size * (rows + columns),
    }
    pointwise = not isinstance(layer, nn.Conv2d) or layer.kernel_size == (1, 1)
    if float(factors.values[-1]) > LEAST_RATIO * float(factors.values[0]):
        if rows <= columns:
            costs["output"] = more + 8 * tokens * size * size
        elif pointwise:
            costs["input"] = more + 8 * tokens * size * size
    return min(costs, key=costs.__getitem__)


# ---- forwards of layers whose weight is never built -----------------------------------------------------------------


def _channels(x: Tensor, factor: Tensor, *, convolution: bool) -> Tensor:
    """Multiply the channels of x by a matrix (out, in)."""
    return F.conv2d(x, factor[:, :, None, None]) if convolution else F.linear(x, factor)


def _each(values: Tensor, *, convolution: bool) -> Tensor:
    """Reshape one value per channel so that it broadcasts over a layer's output."""
    return values[:, None, None] if convolution else values


def _live(shift: Shift) -> tuple[Factors, Tensor, bool]:
    assert shift.factors is not None
    assert shift.gain is not None, "materialise comes before the forward"
    return shift.factors, shift.gain, isinstance(shift.layer, nn.Conv2d)


def _output_forward(shift: Shift, x: Tensor) -> Tensor:
    """Return y + U(ρ ∘ Uᵀy) with y = W x and ρ = ReLU(σ + δ)/σ − 1: exact for M ≤ N, because W = U diag(σ) Vᵀ."""
    factors, gain, convolution = _live(shift)
    answer = own_forward(shift.layer, x)
    bias = shift.layer._parameters["bias"]
    product = (
        answer.float() if bias is None else answer.float() - _each(bias.float(), convolution=convolution)
    )
    inner = _channels(product, factors.left.T, convolution=convolution) * _each(gain, convolution=convolution)
    return answer + _channels(inner, factors.left, convolution=convolution).to(answer.dtype)


def _input_forward(shift: Shift, x: Tensor) -> Tensor:
    """Return W (x + V(ρ ∘ Vᵀx)): exact for M > N on layers that process each position independently."""
    factors, gain, convolution = _live(shift)
    inner = _channels(x.float(), factors.right, convolution=convolution) * _each(
        gain, convolution=convolution
    )
    return own_forward(
        shift.layer, x + _channels(inner, factors.right.T, convolution=convolution).to(x.dtype)
    )


def _branch_forward(shift: Shift, x: Tensor) -> Tensor:
    """Return W x + U(g ∘ Vᵀx) with g = ReLU(σ + δ) − σ: two thin products in addition to W x."""
    factors, gain, convolution = _live(shift)
    answer = own_forward(shift.layer, x)
    if isinstance(shift.layer, nn.Conv2d):
        kernel = factors.right.view(-1, *_own_weight(shift.layer).shape[1:])
        inner = shift.layer._conv_forward(x.float(), kernel, None)
    else:
        inner = F.linear(x.float(), factors.right)
    inner = inner * _each(gain, convolution=convolution)
    return answer + _channels(inner, factors.left, convolution=convolution).to(answer.dtype)


def _rows_forward(shift: Shift, ids: Tensor) -> Tensor:
    """Look up embedding rows: the requested rows are gathered from U first, so the table is never rebuilt."""
    factors, gain, _ = _live(shift)
    rows = own_forward(shift.layer, ids)
    return rows + ((F.embedding(ids, factors.left) * gain) @ factors.right).to(rows.dtype)


FORWARDS: dict[str, Callable[[Shift, Tensor], Tensor]] = {
    "output": _output_forward,
    "input": _input_forward,
    "branch": _branch_forward,
    "rows": _rows_forward,
}
