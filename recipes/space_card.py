"""The card of a weight space: what it is, how much its components explain, how well its directions separate."""

import torch

from pipelines.weightspace.components import Components
from pipelines.weightspace.directions import SHARES, Directions, strongest
from pipelines.weightspace.population import PopulationConfig
from pipelines.weightspace.space import Space
from recipes.space_people import VIEWS

SAMPLES = 500

_TEXT = """\
# {title}

A weights2weights space (Dravid et al. 2024, 2406.09413): {population:,} identities, each a rank-{rank} LoRA
({targets}, {size:,} weights, scale {scale:g}), and their {components} leading principal components.

- **Base**: {base} (`{base_hash}`). The space works on this base only.
- **Prompt**: `{prompt}`
- {note}
- Each identity: {photographs} pictures, {steps} steps, learning rate {learning_rate:g} ({schedule}), the same
  initialisation and the same random numbers for all.

## Explained variance

| components | share of the variance |
|---|---|
{explained}

## Directions

A direction's reader is a linear classifier of the coordinates. It was fitted on {training:.0%} of the identities, chosen
on {validation:.0%}, and the balanced accuracy is that of the remaining {held_out:.0%}; people in the middle of a scale are
not counted. The components were computed from all identities, without labels. One unit of a slider is one standard
deviation of the population; the last column is the farthest identity.

| attribute | from | to | balanced accuracy | identities judged | classifier | components | farthest |
|---|---|---|---|---|---|---|---|
{directions}

Cosines of the two most similar pairs of directions: {pairs}.

## Sampling

β_k is drawn from a normal distribution with the population's mean and standard deviation, for each k independently;
{samples} samples against the population itself:

| | samples | population |
|---|---|---|
| distance from the mean identity, in standard deviations per component | {sample_size:.2f} | {member_size:.2f} |
| cosine with the nearest identity of the population (another one) | {sample_near:.2f} | {member_near:.2f} |
"""


def card(space: Space, found: Components, directions: Directions, config: PopulationConfig) -> str:
    """Return the card in Markdown, with figures computed from the space itself."""
    told = space.manifest
    return _TEXT.format(
        title=told.title, population=told.population, rank=told.rank, targets=config.targets, size=told.size,
        scale=told.scale, components=told.components, base=told.base, base_hash=told.base_hash[:12], prompt=told.prompt,
        note=told.note, photographs=VIEWS, steps=config.loop.steps, learning_rate=config.loop.learning_rate,
        schedule=config.loop.schedule, explained=_explained(found), directions=_directions(space, directions),
        pairs=_pairs(space), training=SHARES[0], validation=SHARES[1], held_out=SHARES[2], samples=SAMPLES,
        **_sampling(space),
    )  # fmt: skip


def _explained(found: Components) -> str:
    together = found.explained.cumsum(0)
    steps = sorted({*(m for m in (1, 2, 5, 10, 20, 50, 100, 200, 500) if m < len(together)), len(together)})
    return "\n".join(f"| {m} | {float(together[m - 1]):.1%} |" for m in steps)


def _directions(space: Space, directions: Directions) -> str:
    lines = []
    for row, each in enumerate(directions.attributes):
        farthest = strongest(space.scores, space.vectors[row]) / max(each.spread, 1e-12)
        accuracy = f"{each.balanced_accuracy:.1%}" if each.balanced_accuracy else "not measured"
        lines.append(
            f"| {each.label} | {each.low} | {each.high} | {accuracy} | {directions.held_out[row]} | "
            f"{directions.classifiers[row]} | {each.components} | {farthest:.1f} |"
        )
    return "\n".join(lines)


def _pairs(space: Space) -> str:
    cosines = space.vectors @ space.vectors.T
    names = [each.label for each in space.manifest.attributes]
    pairs = [
        (abs(float(cosines[a, b])), f"{names[a]} and {names[b]} {float(cosines[a, b]):.2f}")
        for a in range(len(names))
        for b in range(a)
    ]
    return ", ".join(text for _, text in sorted(pairs, reverse=True)[:2]) or "none"


def _sampling(space: Space) -> dict[str, float]:
    spread = space.scores.std(0)
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(SAMPLES, len(spread), generator=generator) * spread
    members = space.scores
    near = torch.nn.functional.cosine_similarity(samples[:, None], members[None], dim=2).max(1).values
    among = torch.nn.functional.cosine_similarity(members[:SAMPLES, None], members[None], dim=2)
    among[torch.arange(len(among)), torch.arange(len(among))] = -1
    return {
        "sample_size": float((samples / spread).square().mean(1).sqrt().mean()),
        "member_size": float((members / spread).square().mean(1).sqrt().mean()),
        "sample_near": float(near.mean()),
        "member_near": float(among.max(1).values.mean()),
    }
