"""The training loop: yields a Step per update; independent of run folders, the user interface and the method."""

import json
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pipelines.adapters.core import Adapter, ParameterGroup, read_tensors, save_tensors
from pipelines.config import LoopConfig
from pipelines.training.attention import recorded_attention
from pipelines.training.losses import add_noise

if TYPE_CHECKING:
    from pipelines.models.base import Base

FIRST_LOSS_SCALE = 2.0**15  # float16 only: prevents gradient underflow; halved on overflow
MOMENTS = {"exp_avg": 1, "exp_avg_sq": 2}  # AdamW's tensors, and the power of the gradient that each averages


@dataclass(frozen=True)
class Batch:
    """The data of one update: ``config.batch_size * config.accumulation`` items of each group, on the CPU.

    ``latents`` are (B, 4, h, w) float32, multiplied by the VAE's scaling factor. ``prompts`` are embeddings (B, T, C),
    or token ids (B, T) int64 if the text encoder is trained. ``groups`` are named slices that cover the batch.
    ``extra`` contains other inputs of the loss, such as masks: tensors (B, ...) that are split and moved with the batch.
    """

    latents: Tensor
    prompts: Tensor
    groups: Mapping[str, slice]
    extra: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in self.extra.items():
            assert len(value) == len(self.latents), (
                f"{name} needs a row for each of {len(self.latents)} items"
            )

    def split(self, parts: int) -> "list[tuple[Tensor | slice, Mapping[str, slice]]]":
        """Return ``parts`` micro-batches as (rows of this batch, groups within them), each an equal share."""
        if parts == 1:
            return [(slice(None), self.groups)]
        shares: list[tuple[Tensor | slice, Mapping[str, slice]]] = []
        for part in range(parts):
            rows, groups, start = [], {}, 0
            for name, group in self.groups.items():
                share = torch.arange(group.start, group.stop).chunk(parts)[part]
                rows.append(share)
                groups[name] = slice(start, start + len(share))
                start += len(share)
            shares.append((torch.cat(rows), groups))
        return shares


@dataclass(frozen=True)
class Denoising:
    """One micro-batch after its forward pass: the inputs of a loss."""

    noise: Tensor  # (B, 4, h, w) float32
    noise_pred: Tensor  # (B, 4, h, w) float32
    timesteps: Tensor  # (B,)
    latents: Tensor  # (B, 4, h, w) float32
    groups: Mapping[str, slice]
    alphas_cumprod: Tensor  # (1000,) float32
    extra: Mapping[str, Tensor] = field(default_factory=dict)  # Batch.extra's rows, on the device
    attention: Mapping[str, Tensor] = field(default_factory=dict)  # layer -> (B, heads, places, T) float32


@dataclass(frozen=True)
class TrainState:
    """The complete state to resume a run with the same result as without interruption."""

    tensors: dict[str, Tensor]
    meta: dict[str, Any]

    def save(self, path: Path) -> None:
        """Write one safetensors file, atomically."""
        save_tensors(path, self.tensors, metadata={"state": json.dumps(self.meta)})

    @classmethod
    def load(cls, path: Path) -> "TrainState":
        """Read a file of :meth:`save`. Raises ValueError if it is not a checkpoint."""
        tensors, metadata = read_tensors(path)
        if "state" not in metadata:
            raise ValueError(f"{path.name} is not a training checkpoint; choose the run's checkpoint file.")
        return cls(tensors=tensors, meta=json.loads(metadata["state"]))


@dataclass(frozen=True)
class Step:
    """One finished update. ``index`` counts from 1; ``grad_norm`` is before clipping.

    ``state()`` copies the whole training state; call it before requesting the next step.
    """

    index: int
    total: int
    terms: dict[str, float]
    learning_rate: float
    grad_norm: float
    seconds: float
    state: Callable[[], TrainState] = field(repr=False, compare=False)


Batches = Callable[[int, torch.Generator], Batch]  # (update number from 0, the loop's generator)
Loss = Callable[[Denoising, Adapter, Any], dict[str, Tensor]]  # named, weighted terms; their sum is minimised
AttentionLayers = Callable[
    [Any, int], Collection[str]
]  # (config, update number from 0) -> names of UNet modules


def learning_rate_at(index: int, config: LoopConfig, *, since: int = 0) -> float:
    """Return the learning rate of update ``index`` (from 0): linear warm-up, then constant or half a cosine.

    ``since`` is the update at which a finished run was extended. The cosine has reached its end there, so a new cosine
    with warm-up covers the added updates; stretching the old one would make the learning rate jump.
    """
    if config.schedule == "constant":
        return config.learning_rate * min(1.0, (index + 1) / max(1, config.warmup_steps))
    done, total = index - since, config.steps - since
    warmup = min(config.warmup_steps, total // 2) if since else config.warmup_steps
    if done < warmup:
        return config.learning_rate * (done + 1) / warmup
    share = (done - warmup) / max(1, total - warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


def train(
    base: "Base",
    adapter: Adapter,
    batches: Batches,
    loss: Loss,
    config: LoopConfig,
    *,
    resume: TrainState | None = None,
    attention_layers: AttentionLayers | None = None,
) -> Iterator[Step]:
    """Train an injected adapter; yield a :class:`Step` after each update, until ``config.steps`` or until closed.

    All randomness comes from one CPU generator with the seed ``config.seed``. Its state is part of :class:`TrainState`,
    so a resumed run continues the same random stream; resuming with more ``config.steps`` extends the run (see
    :func:`learning_rate_at`). ``attention_layers(config, index)`` returns the cross-attention layers whose maps an
    update records in ``Denoising.attention``; all other layers keep their fused attention. Between two steps the
    adapter may be suspended and the base used for other work. Raises ValueError if a loss or gradient is not finite
    (the adapter keeps the state of the last valid step) or if ``resume`` does not fit.
    """
    assert adapter.base is base, "inject the adapter first"
    run = _Run(base, adapter, loss=loss, config=config, attention_layers=attention_layers)
    first = run.restore(resume) if resume is not None else 0
    if config.gradient_checkpointing:
        base.unet.enable_gradient_checkpointing()
    try:
        for index in range(first, config.steps):
            yield run.update(index, batches)
    finally:
        if config.gradient_checkpointing:
            base.unet.disable_gradient_checkpointing()
        for parameter in adapter.parameters():
            parameter.grad = None


class _Run:
    """The optimizer, buffers and random state of one training run."""

    def __init__(
        self,
        base: "Base",
        adapter: Adapter,
        *,
        loss: Loss,
        config: LoopConfig,
        attention_layers: AttentionLayers | None,
    ) -> None:
        self.base, self.adapter, self.loss, self.config = base, adapter, loss, config
        self.attention_layers = attention_layers
        self.generator = torch.Generator().manual_seed(config.seed)
        self.alphas_cumprod = base.alphas_cumprod.float().cpu()
        self.groups = adapter.parameter_groups()
        self.flats, self.gradient = _flatten(self.groups)
        decays = [
            config.weight_decay if one.weight_decay is None else one.weight_decay for one in self.groups
        ]
        settings = [
            {"params": [flat], "weight_decay": decay} for flat, decay in zip(self.flats, decays, strict=True)
        ]
        self.optimizer = torch.optim.AdamW(settings, fused=True)
        self.since = 0  # the update at which the run was extended
        self.loss_scale = FIRST_LOSS_SCALE if base.dtype == torch.float16 else 1.0

    def update(self, index: int, batches: Batches) -> Step:
        started = time.perf_counter()
        batch = batches(index, self.generator)
        noise = torch.randn(batch.latents.shape, generator=self.generator)
        timesteps = torch.randint(len(self.alphas_cumprod), (len(batch.latents),), generator=self.generator)
        terms, grad_norm = self._gradients(index, batch, noise=noise, timesteps=timesteps)
        learning_rate = learning_rate_at(index, self.config, since=self.since)
        self._apply(learning_rate=learning_rate, grad_norm=grad_norm)
        return Step(
            index=index + 1,
            total=self.config.steps,
            terms=terms,
            learning_rate=learning_rate,
            grad_norm=grad_norm,
            seconds=time.perf_counter() - started,
            state=lambda: self.snapshot(index + 1),
        )

    def _gradients(
        self, index: int, batch: Batch, *, noise: Tensor, timesteps: Tensor
    ) -> tuple[dict[str, float], float]:
        """Fill the flat gradient (times the loss scale); return the terms and the true gradient norm."""
        layers = self.attention_layers(self.config, index) if self.attention_layers else ()
        while True:
            terms = self._backward(batch, noise=noise, timesteps=timesteps, layers=layers)
            norm = self.gradient.norm() / self.loss_scale
            *values, grad_norm = torch.stack(
                [*terms.values(), norm]
            ).tolist()  # the only device synchronization of a step
            named = dict(zip(terms, values, strict=True))
            for name, value in named.items():
                _refuse_non_finite(value, f"the {name} loss", index=index)
            if math.isfinite(grad_norm) or self.loss_scale <= 1.0:
                _refuse_non_finite(grad_norm, "the gradient", index=index)
                return named, grad_norm
            self.loss_scale /= 2  # repeat the step with the same noise

    def _backward(
        self, batch: Batch, *, noise: Tensor, timesteps: Tensor, layers: Collection[str]
    ) -> dict[str, Tensor]:
        """Forward and backward through every micro-batch; return each term's mean over them."""
        device = self.base.device
        noisy = add_noise(batch.latents, noise, self.alphas_cumprod[timesteps])
        noisy = noisy.to(device, self.base.dtype)
        latents, noise, timesteps = (each.to(device) for each in (batch.latents, noise, timesteps))
        prompts = batch.prompts.to(device)
        extra = {name: value.to(device) for name, value in batch.extra.items()}
        totals: dict[str, Tensor] = {}
        self.gradient.zero_()
        for rows, groups in batch.split(self.config.accumulation):
            self.adapter.materialise()
            contexts = _contexts(self.base, prompts[rows])
            with recorded_attention(self.base.unet, layers) as attention:
                noise_pred = self.base.unet(noisy[rows], timesteps[rows], contexts, return_dict=False)[0]
                denoising = Denoising(
                    noise=noise[rows],
                    noise_pred=noise_pred.float(),
                    timesteps=timesteps[rows],
                    latents=latents[rows],
                    groups=groups,
                    alphas_cumprod=self.alphas_cumprod,
                    extra={name: value[rows] for name, value in extra.items()},
                    attention=attention,
                )
                terms = self.loss(denoising, self.adapter, self.config)
                objective = torch.stack(list(terms.values())).sum()
                (objective * (self.loss_scale / self.config.accumulation)).backward()
            for name, value in terms.items():
                share = value.detach() / self.config.accumulation
                totals[name] = totals[name] + share if name in totals else share
        return totals

    def _apply(self, *, learning_rate: float, grad_norm: float) -> None:
        limit = self.config.max_grad_norm
        factor = min(1.0, limit / (grad_norm + 1e-6)) if limit else 1.0
        if factor / self.loss_scale != 1.0:
            self.gradient.mul_(factor / self.loss_scale)
        for group, settings in zip(self.groups, self.optimizer.param_groups, strict=True):
            settings["lr"] = learning_rate * group.rate
        self.optimizer.step()

    def snapshot(self, steps_done: int) -> TrainState:
        states = [self.optimizer.state[flat] for flat in self.flats]
        moments = {name: torch.cat([state[name].cpu() for state in states]) for name in MOMENTS}
        optimizer = {f"optimizer.{name}": value for name, value in moments.items()}
        optimizer["optimizer.step"] = states[0]["step"].to("cpu", copy=True)
        adapter = {f"adapter.{name}": value for name, value in self.adapter.state_dict().items()}
        meta = {
            "step": steps_done,
            "total": self.config.steps,
            "since": self.since,
            "base_hash": self.adapter.base_hash,
            "layout": _layout(self.groups),
            "loss_scale": self.loss_scale,
        }
        return TrainState({**adapter, **optimizer, "generator": self.generator.get_state()}, meta)

    def restore(self, state: TrainState) -> int:
        """Load a training state and return its number of finished steps. Raises ValueError if it does not fit."""
        state = _in_groups(state, self.adapter)
        if state.meta["layout"] != _layout(self.groups) or state.meta["base_hash"] != self.adapter.base_hash:
            raise ValueError(
                "This checkpoint was written with another adapter or on another base; "
                "continue it with the settings and the base of its own run."
            )
        parts: dict[str, dict[str, Tensor]] = {"adapter": {}, "optimizer": {}}
        for name, value in state.tensors.items():
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = value
        self.adapter.load_state_dict(parts["adapter"])
        sizes = [flat.numel() for flat in self.flats]
        moments = [parts["optimizer"][name].clone().split(sizes) for name in MOMENTS]
        states = {
            index: {"step": parts["optimizer"]["step"].clone(), **dict(zip(MOMENTS, group, strict=True))}
            for index, group in enumerate(zip(*moments, strict=True))
        }
        settings = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": states, "param_groups": settings})
        self.generator.set_state(state.tensors["generator"])
        self.loss_scale = state.meta["loss_scale"]
        self.since = state.meta["since" if state.meta["total"] == self.config.steps else "step"]
        return state.meta["step"]


def _flatten(groups: list[ParameterGroup]) -> tuple[list[nn.Parameter], Tensor]:
    """Make all parameters views of one buffer, and their gradients views of another; the same for each group.

    A step then needs one norm, one scaling, and one AdamW kernel per group instead of hundreds of small kernels.
    Returns one parameter (n,) with its gradient per group, and the gradient buffer of all groups.
    """
    parameters = [parameter for group in groups for parameter in group.parameters]
    whole = torch.cat([parameter.detach().flatten() for parameter in parameters])
    gradient = torch.zeros_like(whole)
    places = zip(whole.split(_sizes(parameters)), gradient.split(_sizes(parameters)), strict=True)
    for parameter, (values, slopes) in zip(parameters, places, strict=True):
        parameter.data, parameter.grad = values.view_as(parameter), slopes.view_as(parameter)
    lengths = [sum(_sizes(group.parameters)) for group in groups]
    flats = [nn.Parameter(values) for values in whole.split(lengths)]
    for flat, slopes in zip(flats, gradient.split(lengths), strict=True):
        flat.grad = slopes
    return flats, gradient


def _sizes(parameters: list[nn.Parameter]) -> list[int]:
    return [parameter.numel() for parameter in parameters]


def _layout(groups: list[ParameterGroup]) -> list[list[int]]:
    """Return the size of each parameter by group, in the order of the optimizer's tensors in a checkpoint."""
    return [_sizes(group.parameters) for group in groups]


def _in_groups(state: TrainState, adapter: Adapter) -> TrainState:
    """Return a checkpoint with the optimizer's tensors ordered by parameter group.

    Older checkpoints have them in the order of ``adapter.parameters()``. At that time only spectral shifts had a second
    learning rate: they trained δ / u instead of δ, where u is the power of two nearest to the rate. So the first moment
    was u times and the second moment u² times that of δ.
    """
    groups, parameters = adapter.parameter_groups(), adapter.parameters()
    if state.meta["layout"] != _sizes(parameters):
        return state
    tensors = dict(state.tensors)
    for name, power in MOMENTS.items():
        own = dict(
            zip(map(id, parameters), tensors[f"optimizer.{name}"].split(_sizes(parameters)), strict=True)
        )
        tensors[f"optimizer.{name}"] = torch.cat(
            [
                own[id(parameter)] / 2.0 ** (power * round(math.log2(group.rate)))
                for group in groups
                for parameter in group.parameters
            ]
        )
    return TrainState(tensors, {**state.meta, "layout": _layout(groups)})


def _contexts(base: "Base", prompts: Tensor) -> Tensor:
    """Return (B, T, C) embeddings; the text encoder encodes token ids, each distinct prompt once."""
    if prompts.is_floating_point():
        return prompts
    distinct, rows = torch.unique(prompts, dim=0, return_inverse=True)
    return base.text_encoder(distinct)[0].to(base.dtype)[rows]


def _refuse_non_finite(value: float, what: str, *, index: int) -> None:
    if not math.isfinite(value):
        raise ValueError(
            f"Training stopped at step {index + 1}: {what} became {value}; "
            "start again with a lower learning rate, for example a third of it."
        )
