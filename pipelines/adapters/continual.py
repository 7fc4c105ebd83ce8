"""C-LoRA (Smith et al. 2023, 2304.06027): one LoRA and one token per concept, learned one concept after another.

W_t = W_init + Σ_{t'<t} B_t' A_t' + B_t A_t in PEFT's notation; the paper writes A_t B_t for the same product. Only the
last concept is trained. The earlier ones are folded into the base model's weights while the adapter is injected.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from pipelines.adapters.core import ParameterGroup, base_parameter, check_state
from pipelines.adapters.lora import LoRA
from pipelines.adapters.textual_inversion import TABLE, Words
from pipelines.models.targets import KEY_VALUE
from pipelines.unet_blocks import Strength, strength_at

if TYPE_CHECKING:
    from pipelines.models.base import Base

TOKEN = "token.delta"  # the key of a concept's embedding; see Words


@dataclass(frozen=True)
class Concept:
    """One concept of a sequence: its word, a single token, and its change of the UNet.

    Concepts that are learned together have several words, separated by spaces, and one change. ``weights`` is "lora",
    "full" (every entry of the layers, as Custom Diffusion) or "token" (no change, as textual inversion). ``run`` and
    ``name`` say where it was learned.
    """

    word: str
    rank: int = 16
    targets: str = "cross-attention-kv"
    run: str = ""
    name: str = ""
    weights: str = "lora"

    @property
    def words(self) -> list[str]:
        """The trigger words."""
        return self.word.split()

    def untrained(self, *, seed: int) -> LoRA:
        """Return the change of the UNet as a LoRA before training; without layers for "token"."""
        if self.weights == "token":
            return LoRA(ranks={})
        return LoRA(rank=self.rank, targets=self.targets, seed=seed, dense=self.weights == "full")


class Continual:
    """A sequence of concepts, the last of which is trained.

    ``initializer`` is the word that the new token starts from; "" starts it from random values at the scale of the
    embedding table. ``token_rate`` is the token's learning rate as a multiple of the run's. With ``detach_start`` the
    keys and values of the start token get no gradient (Custom Diffusion's training trick).
    """

    kind = "continual"

    def __init__(
        self,
        *,
        concepts: Sequence[Concept],
        seed: int = 0,
        initializer: str = "",
        token_rate: float = 1.0,
        detach_start: bool = False,
    ) -> None:
        words = [word for concept in concepts for word in concept.words]
        if not words:
            raise ValueError("A sequence needs at least one concept.")
        for word in words:
            if words.count(word) > 1:
                raise ValueError(
                    f"Two concepts of the sequence have the trigger word {word!r}; give each its own."
                )
        self.concepts = tuple(concepts)
        self.token_rate, self.detach_start = token_rate, detach_start
        self.base: Base | None = None
        self.base_hash = self.note = ""
        self._loras = [one.untrained(seed=seed) for one in concepts]
        self._words = [Words(words=one.word) for one in concepts[:-1]]
        self._words.append(Words(words=concepts[-1].word, initializer=initializer, seed=seed))
        self.forgetting_scale = 0.0  # see _scale_of
        self._past: dict[
            str, Tensor
        ] = {}  # Σ B A of the earlier concepts by "unet.<module>", in the weight's shape
        self._groups: list[
            tuple[list[str], Tensor]
        ] = []  # layers of one shape, and their past sums (layers, M, N)
        self._originals: list[tuple[nn.Parameter, Tensor]] = []
        self._built = False

    @classmethod
    def from_header(cls, header: Mapping[str, str]) -> Self:
        try:
            return cls(concepts=[Concept(**each) for each in json.loads(header["concepts"])])
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"The file's header does not describe a sequence of concepts ({error!r})."
            ) from error

    def header(self) -> dict[str, str]:
        trained = sum(parameter.numel() for parameter in self.parameters()) if self._built else 0
        told = [asdict(concept) for concept in self.concepts]
        return {"concepts": json.dumps(told, ensure_ascii=False), "trained_values": str(trained)}

    def inject(self, base: "Base") -> Self:
        assert self.base is None, "this sequence is live already"
        if not self._built:
            self._build(base)
        for words in self._words:
            words.inject(base)
        self._fold(base)
        self._loras[-1].inject(base)
        self._freeze()
        self.base = base
        return self

    def remove(self) -> None:
        assert self.base is not None, "this sequence is not live"
        self._loras[-1].remove()
        self._unfold()
        for words in self._words:
            words.remove()
        self.base = None

    def parameters(self) -> list[nn.Parameter]:
        """Return the tensors of the last concept; the earlier concepts are frozen."""
        return [*self._loras[-1].parameters(), *self._words[-1].parameters()]

    def parameter_groups(self) -> list[ParameterGroup]:
        token = ParameterGroup(self._words[-1].parameters(), rate=self.token_rate, weight_decay=0.0)
        change = self._loras[-1].parameters()
        return [ParameterGroup(change), token] if change else [token]

    def materialise(self) -> None:
        """Do nothing: the layers compute with the parameters directly."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return the factors and the embedding of every concept, as "1.unet.<module>.lora_A.weight" and "1.token.delta"."""
        state: dict[str, Tensor] = {}
        for place, (lora, words) in enumerate(zip(self._loras, self._words, strict=True), start=1):
            state |= {f"{place}.{name}": value for name, value in lora.state_dict().items()}
            state[f"{place}.{TOKEN}"] = words.state_dict()["delta"]
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        check_state(state, {name: value.shape for name, value in self.state_dict().items()})
        base = self.base
        if base is not None:
            self._unfold()
        for place, (lora, words) in enumerate(zip(self._loras, self._words, strict=True), start=1):
            own = f"{place}.unet."
            lora.load_state_dict(
                {
                    name.removeprefix(f"{place}."): value
                    for name, value in state.items()
                    if name.startswith(own)
                }
            )
            words.load_state_dict({"delta": state[f"{place}.{TOKEN}"]})
        self._sum_past()
        if base is not None:
            self._fold(base)

    @torch.no_grad()
    def changes(self, base: "Base", scale: Strength = 1.0) -> Iterator[tuple[str, Tensor]]:
        """Yield the sum of all concepts: scale·(S + B A) of each layer, and scale·δ in the rows of all tokens."""
        if not self._built:
            self._build(base)
        sums = {
            f"{key}.weight": at * past for key, past in self._past.items() if (at := strength_at(scale, key))
        }
        for name, change in self._loras[-1].changes(base, scale):
            sums[name] = sums[name] + change if name in sums else change
        yield from sorted(sums.items())
        if at := strength_at(scale, f"{TABLE}.weight"):
            table = torch.zeros_like(base_parameter(base, f"{TABLE}.weight").data, dtype=torch.float32)
            for words in self._words:
                ids, delta, _ = words._live()
                table[ids] = at * delta.detach()
            yield f"{TABLE}.weight", table

    def forgetting(self) -> Tensor:
        """Return L_forget = Σ_layers ‖S ∘ B_t A_t‖², a float32 scalar; S is the signed sum of the earlier concepts.

        It is exactly 0 for the first concept. The layers of one shape are computed together.
        """
        factors = self._loras[-1]._branches
        total = self._words[-1].parameters()[0].new_zeros(())
        for keys, past in self._groups:
            up = torch.stack([factors[key].up.flatten(1) for key in keys])
            down = torch.stack([factors[key].down.flatten(1) for key in keys])
            total = total + (past * torch.bmm(up, down)).square().sum()
        return total

    def past(self) -> dict[str, Tensor]:
        """Return S, the sum of the earlier concepts, by "unet.<module>"; {} for the first concept."""
        return self._past

    def deltas(self, base: "Base") -> list[dict[str, Tensor]]:
        """Return ΔW of each concept by "unet.<module>.weight", float32."""
        if not self._built:
            self._build(base)
        return [dict(lora.changes(base)) for lora in self._loras]

    def concatenated(self) -> dict[str, Tensor]:
        """Return all concepts as one LoRA: A of shape (Σr, in) and B of (out, Σr), so that B A is the sum; exact."""
        parts: dict[str, list[Tensor]] = {}
        for lora in self._loras:
            for name, value in lora.factors().items():
                parts.setdefault(name, []).append(value)
        return {name: torch.cat(values, dim=int("lora_B" in name)) for name, values in sorted(parts.items())}

    def vectors(self) -> dict[str, Tensor]:
        """Return the embedding of each word, (1, C) float32 on the CPU, as other programs store it."""
        return {
            word: row[None]
            for concept, words in zip(self.concepts, self._words, strict=True)
            for word, row in zip(concept.words, words.vectors(), strict=True)
        }

    def prefix(self, count: int, base: "Base") -> "Continual":
        """Return the sequence of the first ``count`` concepts, which is what this one was after learning them."""
        if not 1 <= count <= len(self.concepts):
            raise ValueError(
                f"This sequence has {len(self.concepts)} concepts; choose 1 to {len(self.concepts)}."
            )
        own = Continual(concepts=self.concepts[:count])
        own.inject(base).remove()
        places = {f"{place}." for place in range(1, count + 1)}
        state = self.state_dict()
        own.load_state_dict({k: v for k, v in state.items() if f"{k.partition('.')[0]}." in places})
        own.base_hash = self.base_hash
        return own

    def append(self, concept: Concept, base: "Base", **settings: Any) -> "Continual":
        """Return a new sequence that continues this one with an untrained concept; ``settings`` are the constructor's."""
        own = Continual(concepts=[*self.concepts, concept], **settings)
        own.inject(base).remove()
        own.load_state_dict({**own.state_dict(), **self.state_dict()})
        return own

    def _build(self, base: "Base") -> None:
        for word in (word for concept in self.concepts for word in concept.words):
            ids = base.tokenizer(word, add_special_tokens=False).input_ids
            if len(ids) != 1:
                raise ValueError(
                    f"{word!r} is {len(ids)} tokens of this base model, and a concept has exactly one; "
                    "choose one of the suggested trigger words."
                )
        for part in (*self._loras, *self._words):
            part.inject(base).remove()
        for key, branch in self._loras[-1]._branches.items() if self.detach_start else ():
            if key.endswith(KEY_VALUE):
                branch.wrapper.register_forward_hook(_detached_start)
        self.base_hash = base.hash
        self._built = True
        self._freeze()
        self._sum_past()

    def _freeze(self) -> None:
        """Freeze the earlier concepts, because injecting a LoRA makes its tensors trainable."""
        for part in (*self._loras[:-1], *self._words[:-1]):
            for parameter in part.parameters():
                parameter.requires_grad_(False)

    @torch.no_grad()
    def _sum_past(self) -> None:
        """Compute S once, and stack it by the layers' shapes for :meth:`forgetting`."""
        self._past = {}
        for lora in self._loras[:-1]:
            for key, branch in lora._branches.items():
                change = branch.scale * (branch.up.flatten(1) @ branch.down.flatten(1))
                shaped = change.view(branch.up.shape[0], *branch.down.shape[1:])
                self._past[key] = self._past[key] + shaped if key in self._past else shaped
        self.forgetting_scale = _scale_of(self._past, concepts=len(self.concepts) - 1)
        shared = [key for key in self._loras[-1]._branches if key in self._past]
        by_shape: dict[tuple[int, int], list[str]] = {}
        for key in shared:
            shape = self._past[key].shape
            by_shape.setdefault((shape[0], prod(shape[1:])), []).append(key)
        self._groups = [
            (keys, torch.stack([self._past[key].flatten(1) for key in keys])) for keys in by_shape.values()
        ]

    @torch.no_grad()
    def _fold(self, base: "Base") -> None:
        """Put W + S in place of W; the sum is computed in float32 and rounded once."""
        for key, past in self._past.items():
            parameter = base_parameter(base, f"{key}.weight")
            self._originals.append((parameter, parameter.data))
            parameter.data = (parameter.data.float() + past).to(parameter.dtype)

    def _unfold(self) -> None:
        """Put the base model's own tensors back."""
        while self._originals:
            parameter, data = self._originals.pop()
            parameter.data = data


def _scale_of(past: Mapping[str, Tensor], *, concepts: int) -> float:
    """Return n / e², by which ‖S ∘ Δ‖² becomes independent of the base model's size and scale; 0 without a past.

    n is the number of entries of S and e = ‖S‖² / ``concepts`` the energy of one earlier concept. With this factor,
    a new concept as large as an earlier one costs 1 for each earlier concept, if their entries are independent.
    """
    energy = sum(float(one.square().sum()) for one in past.values()) / max(1, concepts)
    return sum(one.numel() for one in past.values()) / energy**2 if energy else 0.0


def _detached_start(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    """Stop the gradient of the start token's key or value, (B, T, c); the values are unchanged."""
    return torch.cat([output[:, :1].detach(), output[:, 1:]], dim=1) if torch.is_grad_enabled() else output
