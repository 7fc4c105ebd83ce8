"""A population of LoRAs, one per identity, trained many at a time (Dravid et al. 2024, 2406.09413, section 3.1).

All identities share the initialisation, the noise, the timesteps and the prompts, so that two models differ by their
photographs alone. This is a second training loop beside ``training.loop`` because of that: one random stream serves all
rows, and gradients are clipped per identity.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pipelines.config import LoopConfig
from pipelines.data.photographs import Moments
from pipelines.models.targets import LORA_TARGETS
from pipelines.training.loop import learning_rate_at
from pipelines.training.losses import add_noise, min_snr_weights
from pipelines.weightspace.batched import BatchedLoRA
from pipelines.weightspace.index import Key, key_order

if TYPE_CHECKING:
    from torch import nn

    from pipelines.models.base import Base

TARGETS = {**LORA_TARGETS, "query+value": r".*\.attn[12]\.(to_q|to_v)"}  # full-match patterns on module paths
INITIALISATIONS = ("uniform", "normal")
AUTHORS_LOOP = LoopConfig(steps=800, batch_size=1, learning_rate=1e-4)
OnStep = Callable[[int, int], None]  # (updates done, updates in total)


@dataclass(frozen=True)
class PopulationConfig:
    """How every identity of a population is trained. The defaults are those of the authors for Stable Diffusion 1.x.

    ``initialisation`` of A: "uniform" is PEFT's default, U(−1/√in, 1/√in); "normal" is N(0, 1/r²). B is 0.
    """

    loop: LoopConfig = AUTHORS_LOOP
    targets: str = "query+value"
    rank: int = 1
    alpha: float = 27.0
    initialisation: str = "uniform"
    identifier: str = "sks"
    class_noun: str = "person"
    prior_weight: float = 1.0  # 0: no prior preservation
    identities_at_once: int = 16  # rows of one forward pass: this number x (photographs + class images)

    def __post_init__(self) -> None:
        for name, value, known in (
            ("targets", self.targets, tuple(TARGETS)),
            ("initialisation", self.initialisation, INITIALISATIONS),
        ):
            if value not in known:
                raise ValueError(f"A population's {name} must be one of {', '.join(known)}, not {value!r}.")
        if self.loop.accumulation != 1 or self.loop.gradient_checkpointing:
            raise ValueError(
                "A population is trained without accumulation and gradient checkpointing; use fewer identities at once."
            )

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


EMBEDDED = replace(PopulationConfig(), loop=LoopConfig(steps=300, batch_size=2, learning_rate=1e-2))


@dataclass(frozen=True)
class Identities:
    """The training data of n identities: the same P views of each, so that photograph p has prompt p for everyone."""

    moments: Moments  # (n·P, 4, h, w), the photographs of one identity after the other
    prompts: tuple[str, ...]  # P, with the identifier filled in

    def __post_init__(self) -> None:
        if not len(self.moments) or len(self.moments) % len(self.prompts):
            raise ValueError(
                f"{len(self.moments)} photographs are not {len(self.prompts)} for each identity; give every identity "
                "one photograph per prompt."
            )

    def __len__(self) -> int:
        return len(self.moments) // len(self.prompts)


def space_keys(unet: "nn.Module", config: PopulationConfig) -> tuple[Key, ...]:
    """Return the flattened weights of a population on a UNet, which may be on the meta device."""
    pattern = re.compile(TARGETS[config.targets])
    shapes: dict[str, tuple[int, ...]] = {}
    for path, module in unet.named_modules():
        weight = getattr(module, "weight", None)
        if weight is None or not pattern.fullmatch(path):
            continue
        out, *rest = weight.shape
        shapes[f"unet.{path}.lora_A.weight"] = (config.rank, *rest)
        shapes[f"unet.{path}.lora_B.weight"] = (out, config.rank, *(1 for _ in rest[1:]))
    return key_order(shapes)


def initial_weights(keys: Sequence[Key], config: PopulationConfig) -> Tensor:
    """Return θ (d,) from which every identity starts: A random from the seed, B = 0; float32 on the CPU."""
    generator = torch.Generator().manual_seed(config.loop.seed)
    parts = []
    for key in keys:
        if ".lora_B." in key.name:
            parts.append(torch.zeros(key.size))
        elif config.initialisation == "normal":
            parts.append(torch.randn(key.shape, generator=generator).flatten() / config.rank)
        else:
            bound = 1 / math.sqrt(math.prod(key.shape[1:]))
            parts.append(torch.empty(key.size).uniform_(-bound, bound, generator=generator))
    return torch.cat(parts)


@dataclass(frozen=True)
class Draws:
    """The random numbers of one update, the same for every identity: b photographs, then b class images."""

    photographs: tuple[int, ...]
    class_images: tuple[int, ...]
    posterior: Tensor  # (b or 2b, 4, h, w): noise of the VAE's samples
    noise: Tensor  # (b or 2b, 4, h, w)
    timesteps: Tensor  # (b or 2b,)


def draw(
    index: int, generator: torch.Generator, *, photographs: int, class_images: int, batch: int, latent: Sequence[int], timesteps: int
) -> Draws:  # fmt: skip
    """Return the random numbers of update ``index`` (from 0); photographs and class images come in turn."""
    turn = range(index * batch, (index + 1) * batch)
    rows = 2 * batch if class_images else batch
    return Draws(
        photographs=tuple(place % photographs for place in turn),
        class_images=tuple(place % class_images for place in turn) if class_images else (),
        posterior=torch.randn(rows, *latent, generator=generator),
        noise=torch.randn(rows, *latent, generator=generator),
        timesteps=torch.randint(timesteps, (rows,), generator=generator),
    )


def train_identities(
    base: "Base", identities: Identities, config: PopulationConfig, *, prior: Moments | None = None, on_step: OnStep | None = None
) -> Tensor:  # fmt: skip
    """Train one LoRA per identity, all in the same forward passes; return their weights θ (n, d), float32, on the CPU.

    ``prior`` are class images of the base, needed if ``config.prior_weight`` is not 0. The result depends on the number
    of identities in a pass only by rounding. Raises ValueError if the loss of an identity is not finite.
    """
    assert (prior is not None) == bool(config.prior_weight), "class images go with prior preservation"
    assert base.dtype != torch.float16, (
        "a population has no loss scaling; load the base in float32 or bfloat16"
    )
    keys = space_keys(base.unet, config)
    start = initial_weights(keys, config).to(base.device)
    lora = BatchedLoRA(start.expand(len(identities), -1), keys, scale=config.scale)
    optimizer = torch.optim.AdamW([lora.theta], weight_decay=config.loop.weight_decay, fused=True)
    generator = torch.Generator().manual_seed(config.loop.seed)
    batch = _Batches(base, identities, config, prior)
    with lora.injected(base):
        for index in range(config.loop.steps):
            losses = batch.losses(index, generator)
            if not losses.isfinite().all():
                raise ValueError(
                    f"Training a population stopped at step {index + 1}: the loss of identity "
                    f"{int((~losses.isfinite()).nonzero()[0])} is not finite; use a lower learning rate."
                )
            losses.sum().backward()
            _clip(lora.collect(), config.loop.max_grad_norm)
            optimizer.param_groups[0]["lr"] = learning_rate_at(index, config.loop)
            optimizer.step()
            lora.distribute()
            if on_step is not None:
                on_step(index + 1, config.loop.steps)
    return lora.theta.detach().cpu()


class _Batches:
    """The rows of each update and their losses."""

    def __init__(
        self, base: "Base", identities: Identities, config: PopulationConfig, prior: Moments | None
    ) -> None:
        self.base, self.config, self.prior = base, config, prior
        self.count, self.photographs = len(identities), len(identities.prompts)
        shape = (self.count, self.photographs, *identities.moments.mean.shape[1:])
        self.mean = identities.moments.mean.view(shape)
        self.spread = (0.5 * identities.moments.logvar).exp().view(shape)
        self.contexts = base.encode_prompts([*identities.prompts, config.class_noun])  # (P + 1, T, C)
        self.alphas = base.alphas_cumprod

    def losses(self, index: int, generator: torch.Generator) -> Tensor:
        """Return the loss of each identity, (n,)."""
        drawn = draw(
            index, generator, photographs=self.photographs, class_images=len(self.prior) if self.prior else 0,
            batch=self.config.loop.batch_size, latent=self.mean.shape[2:], timesteps=len(self.alphas),
        )  # fmt: skip
        device, dtype, count = self.base.device, self.base.dtype, self.count
        latents = self._latents(drawn)  # (n, rows, 4, h, w)
        noisy = add_noise(
            latents.flatten(0, 1),
            drawn.noise.repeat(count, 1, 1, 1),
            self.alphas[drawn.timesteps].repeat(count),
        )
        places = [*drawn.photographs, *(self.photographs for _ in drawn.class_images)]
        noise_pred = self.base.unet(
            noisy.to(device, dtype), drawn.timesteps.repeat(count).to(device), self.contexts[places].repeat(count, 1, 1),
            return_dict=False,
        )[0]  # fmt: skip
        errors = (noise_pred.float().view(latents.shape) - drawn.noise.to(device)).square().flatten(2).mean(2)
        return (errors * self._weights(drawn).to(device)).sum(1)

    def _latents(self, drawn: Draws) -> Tensor:
        places, own = list(drawn.photographs), len(drawn.photographs)
        latents = self.mean[:, places] + self.spread[:, places] * drawn.posterior[:own]
        if self.prior is not None:
            chosen = list(drawn.class_images)
            spread = (0.5 * self.prior.logvar[chosen]).exp()
            pictures = self.prior.mean[chosen] + spread * drawn.posterior[own:]
            latents = torch.cat([latents, pictures.expand(len(latents), *pictures.shape)], 1)
        return latents * self.base.scaling_factor

    def _weights(self, drawn: Draws) -> Tensor:
        """Return the weight of each row's error, (rows,): a mean over the photographs plus λ times one over the class."""
        own, others = len(drawn.photographs), len(drawn.class_images)
        weights = torch.tensor([1.0 / own] * own + [self.config.prior_weight / max(1, others)] * others)
        if self.config.loop.snr_gamma:
            weights = weights * min_snr_weights(self.alphas, drawn.timesteps, self.config.loop.snr_gamma)
        return weights


def _clip(gradient: Tensor, limit: float) -> None:
    """Scale each identity's gradient (a row of (n, d)) to a norm of at most ``limit``; 0 means no limit."""
    if limit:
        gradient.mul_((limit / (gradient.norm(dim=1, keepdim=True) + 1e-6)).clamp(max=1.0))
