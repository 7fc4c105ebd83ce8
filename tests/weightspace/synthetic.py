"""A small synthetic space on the embedded base: random low-dimensional weights with two planted attributes."""

import torch

from pipelines.adapters import LoRA
from pipelines.models.base import Base
from pipelines.weightspace.index import Attribute, Manifest, key_order
from pipelines.weightspace.space import Space

ATTRIBUTES = ("glasses", "beard")


def synthetic_space(base: Base, *, components: int = 6, population: int = 24, name: str = "toy") -> Space:
    """Return a space of rank-1 LoRAs on the attention layers of a base, with visible but small changes.

    Attribute 0 is the first coordinate and attribute 1 the second. The scores have mean 0 and falling variances.
    """
    adapter = LoRA(rank=1, alpha=1.0, targets="attention", seed=0)
    adapter.inject(base).remove()
    state = adapter.state_dict()
    keys = key_order({key: tuple(value.shape) for key, value in state.items()})
    generator = torch.Generator().manual_seed(3)
    size = keys[-1].offset + keys[-1].size
    basis = torch.linalg.qr(torch.randn(size, components, generator=generator))[0].T.contiguous()
    spread = torch.linspace(30.0, 10.0, components)
    scores = torch.randn(population, components, generator=generator) * spread
    scores -= scores.mean(0)
    vectors = torch.eye(components)[: len(ATTRIBUTES)]
    labels = (scores @ vectors.T > 0).float()
    attributes = tuple(
        Attribute(
            name=each, label=each.capitalize(), low=f"no {each}", high=each, spread=float((scores @ vector).std()),
            threshold=0.0, balanced_accuracy=1.0, components=components, share=float(labels[:, row].mean()),
        )
        for row, (each, vector) in enumerate(zip(ATTRIBUTES, vectors, strict=True))
    )  # fmt: skip
    manifest = Manifest(
        name=name, title="Toy faces", note="A synthetic space for tests.", base=base.name, base_hash=base.hash,
        family=base.family, prompt="sks person", identifier="sks", class_noun="person", rank=1, alpha=1.0,
        components=components, population=population, keys=keys, attributes=attributes,
        members=tuple(str(row) for row in range(population)), files={},
    )  # fmt: skip
    return Space(
        manifest=manifest,
        mean=torch.cat([state[key.name].flatten() for key in keys]),
        std=torch.full((size,), 0.02),
        basis=basis,
        variance=scores.var(0),
        scores=scores,
        labels=labels,
        vectors=vectors,
        readers=vectors.clone(),
    )
