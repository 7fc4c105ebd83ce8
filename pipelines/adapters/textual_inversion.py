"""Textual inversion (Gal et al. 2022, 2208.01618) as an adapter: only a word's embedding is trained.

The word is an identifier from the existing vocabulary, so the tokenizer is unchanged. For each of its tokens, row e of
the token embedding becomes e + δ. At δ = 0 the base model is unchanged, bit for bit.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.adapters.core import ParameterGroup, base_parameter, check_state, parent_of, unwrapped
from pipelines.config import MOST_VECTORS
from pipelines.unet_blocks import Strength, strength_at

if TYPE_CHECKING:
    from pipelines.models.base import Base

TABLE = "text_encoder.embeddings.token_embedding"


class Words:
    """δ of shape (n, C), one row per token of ``words``.

    e + δ is initialised to the mean embedding of the tokens of ``initializer``; if that is "", to random rows with the
    mean and the standard deviation of the embedding table when ``seed`` is given, else δ starts at 0.
    """

    kind = "words"

    def __init__(self, *, words: str, initializer: str = "", seed: int | None = None) -> None:
        if not words.strip():
            raise ValueError("There is no trigger word; enter a rare one.")
        self.words, self.initializer, self.seed = words, initializer, seed
        self.base: Base | None = None
        self.base_hash = self.note = ""
        self._ids: Tensor | None = None  # (n,)
        self._own: Tensor | None = None  # (n, C): the base model's rows
        self._delta: nn.Parameter | None = None

    @classmethod
    def from_header(cls, header: Mapping[str, str]) -> Self:
        try:
            return cls(words=header["words"])
        except KeyError as error:
            raise ValueError(f"The file's header does not say which word it learned ({error!r}).") from error

    def header(self) -> dict[str, str]:
        return {"words": self.words}

    def inject(self, base: "Base") -> Self:
        assert self.base is None, "this word is live already"
        if self._delta is None:
            self._build(base)
            self.base_hash = base.hash
        layer = _table(base)
        lookup = layer.__dict__.setdefault("forward", Lookup(layer))
        if not isinstance(lookup, Lookup):
            raise ValueError(
                "An embedding cannot be live together with spectral shifts of the text encoder; "
                "merge them, or remove the other one first."
            )
        lookup.live.append(self)
        self.base = base
        return self

    def remove(self) -> None:
        assert self.base is not None, "this word is not live"
        layer = _table(self.base)
        lookup = layer.__dict__["forward"]
        lookup.live.remove(self)
        if not lookup.live:
            del layer.__dict__["forward"]
        self.base = None

    def parameters(self) -> list[nn.Parameter]:
        return [self._live()[1]]

    def parameter_groups(self) -> list[ParameterGroup]:
        return [ParameterGroup(self.parameters())]

    def materialise(self) -> None:
        """Do nothing: the changed rows are computed at lookup."""

    def state_dict(self) -> dict[str, Tensor]:
        return {"delta": self._live()[1].detach().to("cpu", copy=True)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        delta = self._live()[1]
        check_state(state, {"delta": delta.shape})
        with torch.no_grad():
            delta.copy_(state["delta"])

    def vectors(self) -> Tensor:
        """Return the learned rows e + δ, (n, C) float32 on the CPU, as other programs store them."""
        _, delta, own = self._live()
        return (own + delta.detach()).cpu()

    @torch.no_grad()
    def learn(self, vectors: Tensor) -> None:
        """Set δ from learned rows e + δ, (n, C), as returned by :meth:`vectors`."""
        _, delta, own = self._live()
        check_state({"vectors": vectors}, {"vectors": delta.shape})
        delta.copy_(vectors.to(own.device) - own)

    @torch.no_grad()
    def changes(self, base: "Base", scale: Strength = 1.0) -> Iterator[tuple[str, Tensor]]:
        """Yield the token embedding's change (vocabulary, C): sδ in the word's rows, 0 elsewhere; s = ``scale``."""
        key = f"{TABLE}.weight"
        if self._delta is None:
            self.inject(base).remove()
        if at := strength_at(scale, key):
            ids, delta, _ = self._live()
            change = torch.zeros_like(base_parameter(base, key).data, dtype=torch.float32)
            change[ids] = at * delta.detach()
            yield key, change

    def _live(self) -> tuple[Tensor, nn.Parameter, Tensor]:
        """Return (token ids, δ, the base model's rows)."""
        assert self._ids is not None, "inject comes first"
        assert self._delta is not None
        assert self._own is not None
        return self._ids, self._delta, self._own

    def _build(self, base: "Base") -> None:
        weight = base_parameter(base, f"{TABLE}.weight").data.float()
        ids = token_ids(base, self.words)
        if len(ids) > MOST_VECTORS:
            raise ValueError(
                f"{self.words!r} has {len(ids)} tokens; a trigger word for textual inversion has at most {MOST_VECTORS}."
            )
        self._ids = torch.tensor(ids, device=weight.device)
        self._own = weight[self._ids]
        start = self._own
        if self.initializer:
            start = weight[token_ids(base, self.initializer)].mean(dim=0).expand_as(self._own)
        elif self.seed is not None:
            start = random_rows(weight, len(ids), seed=self.seed)
        self._delta = nn.Parameter(start - self._own)


def random_rows(table: Tensor, count: int, *, seed: int) -> Tensor:
    """Return ``count`` random rows (count, C) of the scale of an embedding table (vocabulary, C), float32.

    Each dimension is normal with the mean and the standard deviation of that column of the table.
    """
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, table.shape[1], generator=generator).to(table.device)
    return table.mean(dim=0) + table.std(dim=0) * noise


def token_ids(base: "Base", text: str) -> list[int]:
    """Return the distinct token ids of a text in order, without the start and end tokens."""
    return list(dict.fromkeys(base.tokenizer(text, add_special_tokens=False).input_ids))


def _table(base: "Base") -> nn.Embedding:
    parent, name = parent_of(base, TABLE)
    layer = unwrapped(parent.get_submodule(name))
    assert isinstance(layer, nn.Embedding)
    return layer


class Lookup:
    """Replaces the token embedding's forward: the rows of ``ids`` (B, T), plus δ at the positions of words' tokens."""

    def __init__(self, layer: nn.Embedding) -> None:
        self.layer = layer
        self.live: list[Words] = []

    def __call__(self, ids: Tensor) -> Tensor:
        rows = F.embedding(ids, self.layer.weight)
        changed = rows.float()
        for words in self.live:
            own_ids, delta, _ = words._live()
            match = (ids[..., None] == own_ids).to(delta.dtype)  # (B, T, n), at most one of them 1
            changed = changed + match @ delta
        return changed.to(rows.dtype)
