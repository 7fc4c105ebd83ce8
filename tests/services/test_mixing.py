"""Live mixes of two runs: the same weights as the arithmetic, only changed layers computed, and the mix as a run."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from pipelines.adapters import LoRA
from pipelines.adapters.core import Adapter
from pipelines.adapters.mixture import Mixture
from pipelines.adapters.spectral import Spectral
from pipelines.adapters.spectral_arithmetic import added, interpolated, style_mixed
from pipelines.config import MixConfig, SampleConfig
from pipelines.models.base import Base
from pipelines.studio import Studio
from tests.tiny import pixels, shop_with
from tests.tolerances import assert_close

ASKED = SampleConfig(prompt="a photo of a dog", steps=2, size_px=64)
STYLE = MixConfig(first=1.0, second=1.0, split=1.0)
MIX = MixConfig(first=0.75, second=0.5, split=0.25)


def moved(adapter: Adapter, base: Base, *, seed: int) -> Adapter:
    """Return an adapter with random trained values, not injected."""
    adapter.inject(base).remove()
    generator = torch.Generator().manual_seed(seed)
    for parameter in adapter.parameters():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
    return adapter


def pair(base: Base, kind: str) -> tuple[Adapter, Adapter]:
    if kind == "spectral":
        return moved(Spectral(subset="UNet-CA"), base, seed=1), moved(
            Spectral(subset="UNet-CA", rank=4), base, seed=2
        )
    return (
        moved(LoRA(rank=2, alpha=1.0), base, seed=1),
        moved(LoRA(rank=3, targets="attention+conv", text_encoder_rank=1), base, seed=2),
    )


def weights(mixture: Mixture, base: Base, mix: MixConfig) -> dict[str, Tensor]:
    mixture.set(mix)
    return dict(mixture.changes(base))


@pytest.mark.parametrize(
    ("mix", "state"),
    [
        (MixConfig(first=1.0, second=1.0), lambda one, other: added([(one, 1.0), (other, 1.0)])),
        (MixConfig(first=0.25, second=0.75), lambda one, other: interpolated(one, other, 0.25)),
        (STYLE, style_mixed),
    ],
    ids=["add", "interpolate", "style"],
)
def test_spectral_mixes_are_the_papers_three_combinations(base: Base, mix: MixConfig, state: object) -> None:
    first, second = pair(base, "spectral")
    mixture = Mixture(first, second, base)
    mixture.set(mix)
    whole = mixture.whole(base).state_dict()
    meant = state(first.state_dict(), second.state_dict())  # type: ignore[operator]
    assert whole.keys() == meant.keys()
    for name, delta in meant.items():
        assert_close(whole[name][: len(delta)], delta)


@pytest.mark.parametrize("kind", ["spectral", "lora"])
def test_the_saved_mix_changes_the_base_as_the_live_one(base: Base, kind: str) -> None:
    mixture = Mixture(*pair(base, kind), base)
    live = weights(mixture, base, MIX)
    whole = dict(mixture.whole(base).changes(base))
    assert live.keys() == whole.keys()
    for name, change in live.items():
        assert_close(whole[name], change)


def test_two_loras_add_up_layer_by_layer(base: Base) -> None:
    first, second = pair(base, "lora")
    one, other = dict(first.changes(base)), dict(second.changes(base))
    live = weights(Mixture(first, second, base), base, MIX)
    assert live.keys() == one.keys() | other.keys()
    for name, change in live.items():
        g, h = MIX.at(name.removesuffix(".weight"))
        parts = [weight * part[name] for weight, part in ((g, one), (h, other)) if name in part]
        assert_close(change, sum(parts, torch.zeros(())))


@pytest.mark.parametrize("kind", ["spectral", "lora"])
def test_only_layers_whose_proportions_changed_are_computed_again(base: Base, kind: str) -> None:
    first, second = pair(base, kind)
    mixture = Mixture(first, second, base)
    whole = weights(mixture, base, STYLE)
    assert mixture.computed == len(whole)
    weights(mixture, base, STYLE)
    assert mixture.computed == len(whole), "nothing changed"
    again = weights(mixture, base, MixConfig(first=0.5, second=1.0, split=1.0))
    geometry = [key for key in mixture.parts.keys if STYLE.at(key) == (1.0, 0.0)]
    assert 0 < len(geometry) < len(whole)
    assert mixture.computed == len(whole) + len(geometry), "the first run has only the geometry layers"
    fresh = weights(Mixture(first, second, base), base, MixConfig(first=0.5, second=1.0, split=1.0))
    assert again.keys() == fresh.keys()
    assert all(again[name].equal(fresh[name]) for name in fresh)


@pytest.fixture(scope="module")
def studio(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    made = Studio(tmp_path_factory.mktemp("mixing"), devices=("cpu",), model_cache=shop_with(base))
    yield made
    made.close()


@pytest.fixture(scope="module")
def runs(studio: Studio, base: Base) -> dict[str, list[str]]:
    """Return the ids of two runs of each kind."""
    keep = studio.resources.store.keep_adapter
    words = {"identifier": "zwx", "class_noun": "dog"}
    return {
        kind: [
            keep(one, base, config=words, name=f"{kind} {place}")
            for place, one in enumerate(pair(base, kind))
        ]
        for kind in ("spectral", "lora")
    }


@pytest.mark.parametrize("kind", ["spectral", "lora"])
def test_a_mix_is_drawn_stripped_and_saved(studio: Studio, runs: dict[str, list[str]], kind: str) -> None:
    pictures = studio.mixing.strip(runs[kind], MixConfig(), ASKED)
    alone = [pixels(studio.generation.generate(ASKED, run_id=run_id)[0]) for run_id in runs[kind]]
    assert [share for share, _ in pictures] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert [pixels(pictures[0][1]), pixels(pictures[-1][1])] == alone
    live = studio.mixing.draw(runs[kind], MIX, ASKED)
    drawn = live.stat().st_mtime_ns
    assert studio.mixing.draw(runs[kind], MIX, ASKED).stat().st_mtime_ns == drawn, "kept"
    assert "page Edit" in studio.generation.recall(live)["note"]
    saved = studio.mixing.save(runs[kind], MIX, name="Mixed")
    assert studio.resources.library.find(saved).name == "Mixed"
    again = studio.generation.generate(ASKED, run_id=saved)[0]
    gap = [abs(a - b) for a, b in zip(pixels(again), pixels(live), strict=True)]
    assert max(gap) <= 2, "the same picture up to rounding"


def test_runs_that_cannot_be_mixed_are_refused(studio: Studio, runs: dict[str, list[str]]) -> None:
    one, other = runs["spectral"]
    with pytest.raises(ValueError, match="takes two different runs"):
        studio.mixing.draw([one, one], MIX, ASKED)
    with pytest.raises(ValueError, match="two runs of SVDiff or two LoRAs"):
        studio.mixing.draw([one, runs["lora"][0]], MIX, ASKED)
    with pytest.raises(ValueError, match="prompt is empty"):
        studio.mixing.draw([one, other], MIX, SampleConfig())
