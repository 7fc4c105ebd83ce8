"""Inversion: only coordinates are trained, masks count, and a finished run is a point that can be edited."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from pipelines.adapters.core import injected
from pipelines.config import SampleConfig, W2WInversionConfig
from pipelines.data.photographs import Moments
from pipelines.data.subject import Subject
from pipelines.methods import w2w_inversion
from pipelines.models.base import Base
from pipelines.services.identity_space import CONSENT, Edit
from pipelines.studio import Studio
from pipelines.training.loop import Denoising, train
from pipelines.weightspace.index import own_spaces
from tests.tiny import draw_photos, finish, shop_with
from tests.weightspace.synthetic import synthetic_space

CONFIG = W2WInversionConfig(
    steps=3, learning_rate=0.05, weight_decay=0.0, max_grad_norm=0.0, space="toy", identifier="sks",
    class_noun="person", instance_prompt="sks person", sample_prompts=("sks person",), sample_steps=2, measure=False,
)  # fmt: skip


@pytest.fixture
def installed(base: Base, atelier_home: Path) -> Path:
    """Install the synthetic space in the user's data folder."""
    return synthetic_space(base).write(own_spaces())


def subject(base: Base, *, masks: torch.Tensor | None = None) -> Subject:
    side = base.size_px // base.vae_factor
    mean = torch.randn(1, 4, side, side, generator=torch.Generator().manual_seed(0)) / base.scaling_factor
    moments = Moments(mean=mean, logvar=torch.full_like(mean, -20.0))
    return Subject("sks", "person", ("a.png",), ("",), moments, masks=masks)


def steps_of(base: Base, config: W2WInversionConfig) -> tuple[list[dict[str, float]], torch.Tensor]:
    """Return the loss terms of a run on one picture, and its coordinates."""
    adapter = w2w_inversion.adapter(base, config, ())
    with injected(adapter, base):
        batches = w2w_inversion.batches(base, [subject(base)], config)
        terms = [step.terms for step in train(base, adapter, batches, w2w_inversion.loss, config)]
        return terms, adapter.beta


def test_only_coordinates_are_trained_and_the_seed_decides(base: Base, installed: Path) -> None:
    adapter = w2w_inversion.adapter(base, CONFIG, ())
    (group,) = adapter.parameter_groups()
    assert [parameter.shape for parameter in group.parameters] == [(6,)]
    assert group.rate == pytest.approx(float(synthetic_space(base).variance.mean().sqrt()), rel=1e-5)
    terms, beta = steps_of(base, CONFIG)
    again = steps_of(base, CONFIG)
    assert (again[0], again[1].tolist()) == (terms, beta.tolist())
    assert set(terms[0]) == {"instance"}
    assert beta.count_nonzero() == 6
    few = w2w_inversion.adapter(base, replace(CONFIG, components=2), ())
    assert few.parameters()[0].shape == (2,)


def test_the_distance_is_a_term_only_with_a_weight(base: Base, installed: Path) -> None:
    terms, _ = steps_of(base, replace(CONFIG, distance_weight=2.0, steps=2))
    assert set(terms[1]) == {"instance", "distance"}
    assert terms[0]["distance"] < terms[1]["distance"], "0 at the mean identity"


def test_the_loss_sees_the_mask_alone_and_is_not_scaled_by_it(base: Base, installed: Path) -> None:
    """A mask lies in [0, 1], as METHODS asks: 0 to 255 would scale the loss, and its outside counts nothing."""
    masks = torch.zeros(1, 1, 128, 128)
    masks[..., :64, :] = 1.0
    batch = w2w_inversion.batches(base, [subject(base, masks=masks)], CONFIG)(0, torch.Generator())
    cells = batch.extra["cells"]
    assert set(cells.unique().tolist()) == {0.0, 1.0}
    noise_pred = torch.zeros_like(batch.latents).requires_grad_(True)
    noise = torch.ones_like(batch.latents)
    seen = Denoising(
        noise=noise, noise_pred=noise_pred, timesteps=torch.tensor([10]), latents=batch.latents,
        groups=batch.groups, alphas_cumprod=base.alphas_cumprod, extra=batch.extra,
    )  # fmt: skip
    terms = w2w_inversion.loss(seen, w2w_inversion.adapter(base, CONFIG, ()), CONFIG)
    assert float(terms["instance"].detach()) == pytest.approx(1.0), (
        "the mean over the mask, whatever its size"
    )
    terms["instance"].backward()
    assert noise_pred.grad is not None
    outside = cells.expand_as(noise_pred) == 0
    assert noise_pred.grad[outside].count_nonzero() == 0
    assert noise_pred.grad[~outside].count_nonzero() > 0


def test_words_of_another_space_are_refused(base: Base, installed: Path) -> None:
    with pytest.raises(ValueError, match="was trained with the words 'sks person', not 'zwx dog'"):
        w2w_inversion.adapter(base, replace(CONFIG, identifier="zwx", class_noun="dog"), ())
    with pytest.raises(ValueError, match="no weight space 'elsewhere'"):
        w2w_inversion.adapter(base, replace(CONFIG, space="elsewhere"), ())


@pytest.fixture
def studio(base: Base, tmp_path: Path, installed: Path) -> Studio:
    return Studio(tmp_path / "home", devices=("cpu",), model_cache=shop_with(base))


def test_a_photograph_becomes_a_point_that_is_edited_saved_and_drawn(studio: Studio, tmp_path: Path) -> None:
    photo = draw_photos(tmp_path / "photos")[0]
    mask = tmp_path / "mask.png"
    Image.new("L", (160, 140), 255).save(mask)
    with pytest.raises(ValueError, match=CONSENT[:20]):
        studio.identities.invert("toy", photo, consent=False)
    few = {"steps": 2, "sample_steps": 2, "batch_size": 1}
    run_id = studio.identities.invert("toy", photo, mask=mask, consent=True, settings=few)
    assert finish(studio, run_id) == "done"
    status = studio.training.status(run_id)
    told = [event for event in status["events"] if event["kind"] == "distance"]
    assert [event["step"] for event in told] == [0, 1, 2]
    assert told[0]["value"] < 1e-3 < told[-1]["value"]
    assert "distance" in studio.inspection.views(run_id)[0]["lines"]
    point = studio.identities.of_run(run_id)
    edit = Edit({"beard": 1.5})
    config = SampleConfig(prompt="sks person", steps=2)
    drawing = studio.identities.draw(point, edit, config)
    saved = studio.identities.save(point, edit, name="With a beard", picture=drawing.path)
    assert studio.identities.of_run(saved).coordinates == studio.identities.edited(point, edit).coordinates
    again = studio.generation.generate(config, run_id=saved)[0]
    with Image.open(drawing.path) as one, Image.open(again) as other:
        differences = [abs(a - b) for a, b in zip(one.tobytes(), other.tobytes(), strict=True)]
    assert max(differences) <= 1, "a slider adds weights, a saved person computes them from its coordinates"
    card = next(card for card in studio.library.list_runs() if card.id == saved)
    assert (card.kind, card.trainable, card.name) == ("subspace", 6, "With a beard")
    path, told = studio.import_export.verified_export(saved, "peft")
    assert path.suffix == ".zip"
    assert told.startswith("256/256 keys")
    studio.close()


def test_a_style_run_is_drawn_with_a_person(studio: Studio, tmp_path: Path) -> None:
    from tests.tiny import TINY

    style = studio.training.start("dreambooth", TINY, draw_photos(tmp_path / "photos"))
    assert finish(studio, style) == "done"
    point = studio.identities.sample("toy", seed=1)
    config = SampleConfig(prompt="sks person", steps=2)
    alone = studio.identities.draw(point, Edit({}), config)
    together = studio.identities.draw(point, Edit({}), config, beside=[{"run": style, "strength": 1.0}])
    assert alone.path.read_bytes() != together.path.read_bytes()
    with pytest.raises(ValueError, match="is no identity of a weight space"):
        studio.identities.of_run(style)
    studio.close()
