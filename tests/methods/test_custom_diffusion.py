"""Custom Diffusion: the closed-form merge fulfils its constraints and is optimal, and dense LoRAs train every entry."""

import pytest
import torch
from torch import Tensor

from pipelines.adapters import LoRA
from pipelines.adapters.core import injected
from pipelines.methods.custom_diffusion import constrained_merge, merged_changes, own_features

M, C, CAPTIONS = 5, 8, 40


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_merge_answers_the_targets_and_keeps_the_rest_best() -> None:
    """W' K_tgtᵀ = V_tgtᵀ, and no other solution of the constraint changes the captions' answers less."""
    weight, regular = random(M, C, seed=0), random(CAPTIONS, C, seed=1)
    targets, values = random(3, C, seed=2), random(3, M, seed=3)
    merged = constrained_merge(weight, regular=regular, targets=targets, values=values)
    torch.testing.assert_close(targets @ merged.T, values, rtol=1e-4, atol=1e-4)
    least = float(((merged - weight) @ regular.T).norm())
    _, _, rows = torch.linalg.svd(targets, full_matrices=True)
    for seed in range(20):
        other = merged + 0.1 * random(M, C - 3, seed=seed + 10) @ rows[3:]  # still fulfils the constraint
        torch.testing.assert_close(targets @ other.T, values, rtol=1e-3, atol=1e-3)
        assert float(((other - weight) @ regular.T).norm()) > least


def test_what_the_base_answers_already_changes_nothing() -> None:
    weight, regular, targets = random(M, C, seed=0), random(CAPTIONS, C, seed=1), random(3, C, seed=2)
    merged = constrained_merge(weight, regular=regular, targets=targets, values=targets @ weight.T)
    torch.testing.assert_close(merged, weight, rtol=0, atol=1e-5)


def test_repeated_targets_count_once_and_too_many_are_refused() -> None:
    weight, regular = random(M, C, seed=0), random(CAPTIONS, C, seed=1)
    targets, values = random(2, C, seed=2), random(2, M, seed=3)
    once = constrained_merge(weight, regular=regular, targets=targets, values=values)
    twice = [rows[[0, 1, 1, 0]] for rows in (targets, values)]
    again = constrained_merge(weight, regular=regular, targets=twice[0], values=twice[1])
    torch.testing.assert_close(again, once, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="too many to merge"):
        constrained_merge(
            weight, regular=regular, targets=random(C + 1, C, seed=0), values=random(C + 1, M, seed=0)
        )


@torch.no_grad()
def test_two_concepts_merged_on_the_base(base) -> None:
    """On the real layers, the merged weight gives each concept's words the keys of that concept's own weight."""
    words, changes = ("sks", "zwx"), []
    for seed, _ in enumerate(words):
        dense = LoRA(targets="attention", dense=True)
        with injected(dense, base):
            for number, parameter in enumerate(dense.parameters()):
                parameter.copy_(0.05 * random(*parameter.shape, seed=100 * seed + number))
        changes.append({name: change for name, change in dense.changes(base) if ".attn2.to_k" in name})
    features = [own_features(base, f"a photo of {word}", word) for word in words]
    assert [len(rows) for rows in features] == [2, 2], "the word and the end token"
    captions = [
        "a photo of a person",
        "a dog on the beach",
        "a red teapot in the kitchen",
        "a tower at night",
    ]
    merged = merged_changes(base, captions, list(zip(features, changes, strict=True)))
    assert merged.keys() == changes[0].keys()
    for name, change in merged.items():
        for rows, own in zip(features, changes, strict=True):
            torch.testing.assert_close(rows @ change.T, rows @ own[name].T, rtol=1e-2, atol=1e-3)
        everyday = base.encode_prompts(captions)[:, 1:5].flatten(0, 1).float()
        assert float((everyday @ change.T).norm()) < 0.5 * float((everyday @ changes[0][name].T).norm())
    with pytest.raises(ValueError, match="does not contain"):
        own_features(base, "a photo of a dog", "zwx")
