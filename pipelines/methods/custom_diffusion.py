"""Custom Diffusion (Kumari et al. 2022, 2212.04488): merges separately trained concepts in closed form.

Each concept has trained its own keys and values W_j of cross-attention. For every such layer the merged weight W'
keeps what the base model's W answers to ordinary captions, and answers each concept's words as the concept's own W_j:

    W' = argmin ‖(W' - W) K_regᵀ‖_F   subject to   W' K_tgtᵀ = V_tgtᵀ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from pipelines.models.base import Base

RIDGE = 1e-6  # of the mean diagonal of K_regᵀ K_reg, which a short list of captions may leave singular
SURE = 1e-9  # relative size below which a constraint repeats the others


def constrained_merge(weight: Tensor, *, regular: Tensor, targets: Tensor, values: Tensor) -> Tensor:
    """Return W' (M, C) for W (M, C), captions' features K_reg (R, C), targets K_tgt (n, C) and V_tgt (n, M).

    With C = K_regᵀ K_reg and d = K_tgt C⁻¹, Lagrange's method gives W' = W + (V_tgt - K_tgt Wᵀ)ᵀ (d K_tgtᵀ)⁻¹ d.
    Repeated targets count once; where two of them ask for different values, W' gives their mean. Computed in float64,
    returned as float32. Raises ValueError for more targets than W has inputs.
    """
    if len(targets) > weight.shape[1]:
        raise ValueError(
            f"{len(targets)} words are too many to merge on a base with {weight.shape[1]} numbers per word; "
            "merge fewer concepts."
        )
    own, known, keys, wanted = (each.double() for each in (weight, regular, targets, values))
    gram = known.T @ known
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    directions = torch.linalg.solve(gram + ridge, keys.T).T  # d, (n, C)
    inverse = torch.linalg.pinv(directions @ keys.T, rtol=SURE, hermitian=True)
    return (own + (wanted - keys @ own.T).T @ inverse @ directions).float()


def own_features(base: Base, prompt: str, word: str) -> Tensor:
    """Return the text features of a prompt from a word to the end token, (n, C) float32.

    The text encoder is causal, so these are the features that depend on the word; the padding after the end token is
    left out. Raises ValueError if the prompt does not contain the word.
    """
    ids = base.token_ids([prompt])[0]
    wanted = base.tokenizer(word, add_special_tokens=False).input_ids
    begins = [place for place in range(len(ids)) if ids[place : place + len(wanted)].tolist() == wanted]
    if not wanted or not begins:
        raise ValueError(f"The prompt {prompt!r} does not contain {word!r}; put the trigger word in it.")
    end = int((ids == base.tokenizer.eos_token_id).nonzero()[0])
    return base.encode_prompts([prompt])[0, begins[0] : end + 1].float()


def merged_changes(
    base: Base,
    captions: Sequence[str],
    concepts: Sequence[tuple[Tensor, Mapping[str, Tensor]]],
) -> dict[str, Tensor]:
    """Return W' - W by "unet.<module>.weight", float32 (M, C), for every layer that a concept has changed.

    ``concepts`` are (features (n, C) of :func:`own_features`, the concept's own W_j - W by the same keys). ``captions``
    are ordinary captions, whose features are K_reg; the padding is left out.
    """
    from pipelines.adapters.core import base_parameter

    kept = base.token_ids(list(captions)) != base.tokenizer.eos_token_id
    regular = base.encode_prompts(list(captions))[kept.to(base.device)].float()
    keys = torch.cat([features for features, _ in concepts])
    merged: dict[str, Tensor] = {}
    for name in sorted({name for _, changes in concepts for name in changes}):
        weight = base_parameter(base, name).data.float()
        values = [
            features @ (weight + changes[name] if name in changes else weight).T
            for features, changes in concepts
        ]
        whole = constrained_merge(weight, regular=regular, targets=keys, values=torch.cat(values))
        merged[name] = whole - weight
    return merged
