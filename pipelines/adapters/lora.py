"""LoRA (Hu et al. 2021, 2106.09685): W + s·B·A at each chosen layer; the layers are PEFT's."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Self, cast

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from pipelines.adapters.core import ParameterGroup, check_state, own_forward, parent_of, unwrapped
from pipelines.models.targets import LORA_TARGETS, LORA_TEXT_TARGETS, matrix_shape
from pipelines.unet_blocks import Strength, strength_at

if TYPE_CHECKING:
    from pipelines.models.base import Base

MAX_RANK = 1280  # the widest layer of Stable Diffusion 1.x
NARROW = (
    2**17
)  # number of weights below which W + s·B·A is cheaper on a CPU than a separate branch (bench.step)
LIVE = "default"  # PEFT's adapter name inside a layer; each of our layers holds exactly one adapter


@dataclass
class Branch:
    """One adapted layer: PEFT's wrapper and its matrices, with scale s = alpha / rank.

    A has shape (r, in) or (r, in, kh, kw); B has shape (out, r) or (out, r, 1, 1).
    """

    wrapper: nn.Module
    down: Tensor
    up: Tensor
    scale: float

    @cached_property
    def layers(self) -> tuple[nn.Module, nn.Module]:
        """PEFT's layers of A and B."""
        first, second = (self.wrapper.get_submodule(f"{name}.{LIVE}") for name in ("lora_A", "lora_B"))
        return first, second


class LoRA:
    """A low-rank change of the UNet and, when ``text_encoder_rank`` is not 0, of the text encoder.

    ``alpha`` 0 means alpha = rank, that is a scale of 1. ``ranks`` ({"unet.<module>": rank}), when given, lists every
    adapted layer with its rank; ``rank``, ``targets`` and ``text_encoder_rank`` are then ignored. A LoRA without
    layers leaves the base model unchanged. With ``dense`` every entry of the UNet's target layers is trained: the rank
    is the layer's number of inputs, A is the identity and not trained, so B is ΔW itself; only B is stored.
    """

    kind = "lora"

    def __init__(
        self,
        *,
        rank: int = 4,
        alpha: float = 0.0,
        targets: str = "attention",
        text_encoder_rank: int = 0,
        seed: int = 0,
        ranks: Mapping[str, int] | None = None,
        dense: bool = False,
    ) -> None:
        if targets not in LORA_TARGETS:
            raise ValueError(f"LoRA targets must be one of {', '.join(LORA_TARGETS)}, not {targets!r}.")
        wanted = [rank, *(ranks or {}).values(), *([text_encoder_rank] if text_encoder_rank else [])]
        if not all(1 <= value <= MAX_RANK for value in wanted):
            raise ValueError(f"A LoRA's rank must lie between 1 and {MAX_RANK}; got {wanted}.")
        self.rank, self.alpha, self.targets = rank, alpha, targets
        self.text_encoder_rank, self.seed = text_encoder_rank, seed
        self.ranks = dict(ranks) if ranks is not None else None
        self.dense = dense
        self.base: Base | None = None
        self.base_hash = self.note = ""
        self._branches: dict[str, Branch] = {}  # by "unet.<module>", sorted

    @classmethod
    def from_header(cls, header: Mapping[str, str]) -> Self:
        try:
            return cls(
                rank=int(header["rank"]),
                alpha=float(header["alpha"]),
                targets=header["targets"],
                text_encoder_rank=int(header["text_encoder_rank"]),
                seed=int(header["seed"]),
                ranks=json.loads(header["ranks"]) if "ranks" in header else None,
                dense=header.get("dense") == "True",
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"The file's header does not describe a LoRA ({error!r}).") from error

    def header(self) -> dict[str, str]:
        own = {name: str(getattr(self, name)) for name in ("rank", "alpha", "text_encoder_rank", "seed")}
        ranks = {} if self.ranks is None else {"ranks": json.dumps(self.ranks)}
        dense = {"dense": "True"} if self.dense else {}
        return {**own, "targets": self.targets, **ranks, **dense}

    def inject(self, base: "Base") -> Self:
        assert self.base is None, "this LoRA is live already"
        if not self._branches:
            self._branches = self._build(base)
            self.base_hash = base.hash
        for key, branch in self._branches.items():
            parent, name = parent_of(base, key)
            branch.wrapper.base_layer = parent.get_submodule(name)
            setattr(parent, name, branch.wrapper)
        self.base = base
        return self

    def remove(self) -> None:
        assert self.base is not None, "this LoRA is not live"
        for key, branch in self._branches.items():
            parent, name = parent_of(self.base, key)
            while (found := parent.get_submodule(name)) is not branch.wrapper:
                parent, name = found, "base_layer"  # an adapter injected later wraps this one
            setattr(parent, name, branch.wrapper.base_layer)
            branch.wrapper._modules["base_layer"] = None
        self.base = None

    def parameters(self) -> list[nn.Parameter]:
        return [value for value in self._named_parameters().values() if isinstance(value, nn.Parameter)]

    def parameter_groups(self) -> list[ParameterGroup]:
        return [ParameterGroup(self.parameters())]

    def materialise(self) -> None:
        """Do nothing: the layers compute with the parameters directly."""

    def state_dict(self) -> dict[str, Tensor]:
        return {name: value.detach().to("cpu", copy=True) for name, value in self._named_parameters().items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        own = self._named_parameters()
        check_state(state, {name: value.shape for name, value in own.items()})
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(state[name])

    @torch.no_grad()
    def changes(self, base: "Base", scale: Strength = 1.0) -> Iterator[tuple[str, Tensor]]:
        """Yield ΔW = scale·s·B·A.

        For a convolution, A has the kernel's size and B is 1x1: ΔW[o,i] = s Σ_r B[o,r] A[r,i].
        """
        if not self._branches:
            self.inject(base).remove()
        for key, branch in self._branches.items():
            if at := strength_at(scale, key) * branch.scale:
                change = at * (branch.up.flatten(1) @ branch.down.flatten(1))  # (out, in * kernel)
                yield f"{key}.weight", change.view(branch.up.shape[0], *branch.down.shape[1:])

    def compute_with(self, tensors: Mapping[str, Tensor]) -> None:
        """Compute with these tensors, by the names of :meth:`state_dict`, instead of parameters of its own.

        Gradients flow to what the tensors are computed from. The LoRA then has no parameters.
        """
        for key, branch in self._branches.items():
            branch.down, branch.up = tensors[f"{key}.lora_A.weight"], tensors[f"{key}.lora_B.weight"]
            for layer, value in zip(branch.layers, (branch.down, branch.up), strict=True):
                layer._parameters.pop("weight", None)
                layer.__dict__["weight"] = value

    def scales(self) -> dict[str, float]:
        """Return {"unet.<module>": alpha / rank} for all adapted layers."""
        return {key: branch.scale for key, branch in self._branches.items()}

    def factors(self) -> dict[str, Tensor]:
        """Return A and B of every layer by the names of :meth:`state_dict`, also the A that a dense LoRA does not store."""
        both = {
            f"{key}.{name}.weight": value
            for key, branch in self._branches.items()
            for name, value in (("lora_A", branch.down), ("lora_B", branch.up))
        }
        return {name: value.detach().to("cpu", copy=True) for name, value in both.items()}

    def _named_parameters(self) -> dict[str, Tensor]:
        assert self._branches or self.ranks == {}, "a LoRA has its tensors from the first inject on"
        named: dict[str, Tensor] = {}
        for key, branch in self._branches.items():
            named |= {} if self.dense else {f"{key}.lora_A.weight": branch.down}
            named[f"{key}.lora_B.weight"] = branch.up
        return named

    def _build(self, base: "Base") -> dict[str, Branch]:
        wrappers: dict[str, nn.Module] = {}
        meant = self._inputs(base) if self.dense else self.ranks
        for prefix, (pattern, rank, rank_pattern) in self._plan(meant).items():
            config = LoraConfig(r=rank, lora_alpha=1, target_modules=pattern, rank_pattern=rank_pattern)
            found = _wrap(base.module(prefix), config)
            wrappers |= {f"{prefix}.{path}": wrapper for path, wrapper in found.items()}
        generator = torch.Generator().manual_seed(self.seed)
        branches: dict[str, Branch] = {}
        for key, wrapper in sorted(wrappers.items()):
            branches[key] = _initialised(wrapper, alpha=self.alpha, generator=generator, dense=self.dense)
            parent, name = parent_of(base, key)
            _use_fused_forward(branches[key], unwrapped(parent.get_submodule(name)))
        if meant is not None:
            _check_meant(meant, {key: len(branch.down) for key, branch in branches.items()})
        return branches

    def _inputs(self, base: "Base") -> dict[str, int]:
        """Return the number of inputs of each target layer of the UNet, the rank of a dense ΔW."""
        own = ((path, unwrapped(module)) for path, module in base.unet.named_modules())
        wanted = re.compile(LORA_TARGETS[self.targets])
        return {
            f"unet.{path}": matrix_shape(layer.get_parameter("weight").shape)[1]
            for path, layer in own
            if wanted.fullmatch(path)
        }

    def _plan(self, meant: Mapping[str, int] | None) -> dict[str, tuple[str, int, dict[str, int]]]:
        """Return (layer pattern, rank, PEFT's rank_pattern) for each part of the base model, from ``ranks`` if given."""
        if meant is None:
            text = {"text_encoder": (LORA_TEXT_TARGETS, self.text_encoder_rank, {})}
            return {
                "unet": (LORA_TARGETS[self.targets], self.rank, {}),
                **(text if self.text_encoder_rank else {}),
            }
        plan = {}
        for prefix in sorted({key.partition(".")[0] for key in meant}):
            ranks = {
                key.partition(".")[2]: rank for key, rank in meant.items() if key.startswith(prefix + ".")
            }
            by_rank = {
                rank: [re.escape(path) for path in ranks if ranks[path] == rank] for rank in ranks.values()
            }
            rank_pattern = {f"({'|'.join(paths)})": rank for rank, paths in by_rank.items()}
            plan[prefix] = ("|".join(map(re.escape, ranks)), max(by_rank), rank_pattern)
        return plan


def _check_meant(meant: Mapping[str, int], found: Mapping[str, int]) -> None:
    """Raise ValueError unless exactly the expected layers have the expected ranks.

    PEFT reports neither a pattern that matches no layer nor one that matches an unintended layer.
    """
    wrong = sorted(key for key in meant.keys() | found.keys() if meant.get(key) != found.get(key))
    if wrong:
        raise ValueError(
            f"{wrong[0]} should get rank {meant.get(wrong[0], 0)} and gets {found.get(wrong[0], 0)} on this base "
            f"({len(wrong)} layers differ); load the base that the LoRA was made for."
        )


def _wrap(module: nn.Module, config: LoraConfig) -> dict[str, nn.Module]:
    """Let PEFT build its layers for a module, then detach them. Returns {path: detached layer}."""
    with _bare(module), torch.random.fork_rng(devices=[]):
        trainable = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
        inject_adapter_in_model(config, module, adapter_name=LIVE)
        del module.peft_config
        paths = [path for path, child in module.named_modules() if isinstance(child, LoraLayer)]
        wrappers = {path: module.get_submodule(path) for path in paths}
        for path, wrapper in wrappers.items():
            parent_path, _, name = path.rpartition(".")
            setattr(module.get_submodule(parent_path), name, wrapper.base_layer)
            wrapper._modules["base_layer"] = None
        for parameter, flag in trainable:
            parameter.requires_grad_(flag)
    return wrappers


@contextmanager
def _bare(module: nn.Module) -> Iterator[None]:
    """Temporarily remove other adapters' wrappers, so that PEFT sees the base model's own layers."""
    wrapped = [
        (parent, name, child)
        for parent in list(module.modules())
        for name, child in parent.named_children()
        if isinstance(child, BaseTunerLayer) and not isinstance(parent, BaseTunerLayer)
    ]
    for parent, name, child in wrapped:
        setattr(parent, name, unwrapped(child))
    try:
        yield
    finally:
        for parent, name, child in wrapped:
            setattr(parent, name, child)


def _initialised(wrapper: nn.Module, *, alpha: float, generator: torch.Generator, dense: bool) -> Branch:
    """Initialise A ~ N(0, 1/r²) from ``generator`` and B = 0, both float32; the scale is alpha / r.

    With ``dense`` A is the identity and frozen, and the scale is 1.
    """
    down, up = (
        wrapper.get_submodule(f"{name}.{LIVE}").float().requires_grad_(True).get_parameter("weight")
        for name in ("lora_A", "lora_B")
    )
    rank = len(down)
    if dense:
        down.requires_grad_(False).data.copy_(torch.eye(rank).view(down.shape))
    else:
        down.data.copy_(torch.randn(down.shape, generator=generator) / rank)
    up.data.zero_()
    scale = alpha / rank if alpha and not dense else 1.0
    branch = Branch(wrapper=wrapper, down=down, up=up, scale=scale)
    cast("dict[str, float]", wrapper.scaling)[LIVE] = branch.scale
    return branch


def _use_fused_forward(branch: Branch, base_layer: nn.Module) -> None:
    """Use the fused forward for a narrow layer on a CPU; all other layers keep PEFT's forward."""
    weight = base_layer.get_parameter("weight")
    narrow = weight.device.type == "cpu" and weight.numel() <= NARROW
    if narrow and isinstance(base_layer, (nn.Linear, nn.Conv2d)):
        branch.wrapper.forward = partial(_narrow_forward, branch)


def _narrow_forward(branch: Branch, x: Tensor) -> Tensor:
    """Compute (W + s·B·A) x: the same function as W x + s·B (A x), in one pass over x instead of five.

    The sum is computed in float32 and rounded once to the layer's dtype, as in a merge. Around another adapter's
    wrapper, PEFT's sum is used. Whatever another adapter's forward adds to the base model's layer is added.
    """
    base_layer = branch.wrapper.base_layer
    if not isinstance(base_layer, (nn.Linear, nn.Conv2d)):
        return type(branch.wrapper).forward(branch.wrapper, x)
    weight = base_layer.weight
    changed = torch.addmm(
        weight.flatten(1).float(), branch.up.flatten(1), branch.down.flatten(1), alpha=branch.scale
    ).to(weight.dtype)
    if isinstance(base_layer, nn.Linear):
        answer = nn.functional.linear(x, changed, base_layer.bias)
    else:
        answer = base_layer._conv_forward(x, changed.view(weight.shape), base_layer.bias)
    if "forward" in base_layer.__dict__:
        answer = answer + (base_layer(x) - own_forward(base_layer, x))
    return answer
