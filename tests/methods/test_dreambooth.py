"""DreamBooth: prompts, order of photographs, class images, and views."""

import dataclasses
from pathlib import Path

import pytest
import torch

from pipelines.adapters import Full, LoRA
from pipelines.adapters.core import injected, save_adapter
from pipelines.config import DreamBoothConfig
from pipelines.data.photographs import Moments
from pipelines.data.subject import Subject
from pipelines.methods import dreambooth, subject
from pipelines.training.loop import Denoising, train

CONFIG = DreamBoothConfig(
    identifier="sks",
    class_noun="dog",
    steps=2,
    rank=2,
    class_images=3,
    batch_size=2,
    size_px=64,
    seed=9,
    prior_preservation=True,
)


def moments(count: int, *, value: float = 0.0) -> Moments:
    """Recognisable latents: picture i has the constant value + i, with almost no variance."""
    mean = (value + torch.arange(count, dtype=torch.float32)).view(-1, 1, 1, 1).expand(-1, 4, 8, 8).clone()
    return Moments(mean=mean, logvar=torch.full_like(mean, -60.0))


PHOTOS = Subject(
    identifier="sks",
    class_noun="dog",
    moments=moments(3),
    captions=("", "a {identifier} {class_noun} asleep", ""),
    names=("a", "b", "c"),
)
CLASS = moments(5, value=100.0)


def drawn(base, config: DreamBoothConfig, *, steps: int, class_moments: Moments | None = CLASS):
    draw = dreambooth.batches(base, [dataclasses.replace(PHOTOS, class_moments=class_moments)], config)
    generator = torch.Generator().manual_seed(0)
    return [draw(index, generator) for index in range(steps)]


def values(base, latents: torch.Tensor) -> list[int]:
    return (latents[:, 0, 0, 0] / base.scaling_factor).round().int().tolist()


def test_photos_come_first_and_as_many_class_images_after_them(base):
    (batch,) = drawn(base, CONFIG, steps=1)
    assert batch.groups == {"instance": slice(0, 2), "prior": slice(2, 4)}
    pictures = values(base, batch.latents)
    assert all(picture < 3 for picture in pictures[:2])
    assert all(picture >= 100 for picture in pictures[2:])
    expected = base.encode_prompts(["a photo of a sks dog", "a photo of a dog"])
    assert torch.equal(batch.prompts, expected[[0, 0, 1, 1]])


def test_every_photo_comes_once_per_deck_and_the_order_needs_no_state(base):
    steps = drawn(base, CONFIG, steps=6)
    photos = [picture for batch in steps for picture in values(base, batch.latents)[:2]]
    decks = [photos[start : start + 3] for start in range(0, 12, 3)]
    assert all(sorted(deck) == [0, 1, 2] for deck in decks)
    assert len({tuple(deck) for deck in decks}) > 1
    draw = dreambooth.batches(base, [dataclasses.replace(PHOTOS, class_moments=CLASS)], CONFIG)
    late = draw(5, torch.Generator().manual_seed(3))
    assert values(base, late.latents) == values(base, steps[5].latents)


def test_accumulation_draws_the_same_pictures(base):
    two_by_one = dataclasses.replace(CONFIG, batch_size=1, accumulation=2)
    (one,), (other,) = drawn(base, CONFIG, steps=1), drawn(base, two_by_one, steps=1)
    assert torch.equal(one.latents, other.latents)
    assert torch.equal(one.prompts, other.prompts)


def test_without_prior_preservation_there_is_only_the_instance_term(base):
    config = dataclasses.replace(CONFIG, prior_preservation=False)
    (batch,) = drawn(base, config, steps=1, class_moments=None)
    assert batch.groups == {"instance": slice(0, 2)}
    assert len(batch.latents) == len(batch.prompts) == 2


def test_captions_replace_the_prompt_where_there_is_one():
    assert subject.photo_prompts(PHOTOS, CONFIG) == ["a photo of a sks dog"] * 3
    config = dataclasses.replace(CONFIG, use_captions=True)
    assert subject.photo_prompts(PHOTOS, config)[1] == "a sks dog asleep"
    config = dataclasses.replace(CONFIG, auto_captions=True)
    assert subject.photo_prompts(PHOTOS, config)[1] == "a sks dog asleep"


def test_token_ids_are_kept_while_the_text_encoder_trains(base):
    (batch,) = drawn(base, dataclasses.replace(CONFIG, text_encoder=True), steps=1)
    assert not batch.prompts.is_floating_point()
    assert torch.equal(batch.prompts[0], base.token_ids(["a photo of a sks dog"])[0])


def test_the_adapter_is_what_the_form_says(base):
    lora = dreambooth.adapter(base, dataclasses.replace(CONFIG, text_encoder=True, alpha=8), ())
    assert isinstance(lora, LoRA)
    assert (lora.rank, lora.alpha, lora.text_encoder_rank, lora.seed) == (2, 8, 4, 9)
    assert dreambooth.adapter(base, CONFIG, ()).text_encoder_rank == 0
    assert isinstance(dreambooth.adapter(base, dataclasses.replace(CONFIG, weights="full"), ()), Full)


def test_min_snr_reaches_the_prior_half(base):
    noise_pred, noise = torch.ones(2, 4, 8, 8), torch.zeros(2, 4, 8, 8)
    denoising = Denoising(
        noise=noise,
        noise_pred=noise_pred,
        timesteps=torch.tensor([999, 1]),  # almost no signal, almost no noise
        latents=noise,
        groups={"instance": slice(0, 1), "prior": slice(1, 2)},
        alphas_cumprod=base.alphas_cumprod,
    )
    config = dataclasses.replace(CONFIG, prior_weight=1.0)
    plain = dreambooth.loss(denoising, None, config)
    weighted = dreambooth.loss(denoising, None, dataclasses.replace(config, snr_gamma=5.0))
    assert [float(term) for term in plain.values()] == [1.0, 1.0]
    assert float(weighted["instance"]) == pytest.approx(1.0)
    assert float(weighted["prior"]) < 0.01


def test_it_trains_through_the_loop(base):
    adapter = dreambooth.adapter(base, CONFIG, ())
    with injected(adapter, base):
        batches = dreambooth.batches(base, [dataclasses.replace(PHOTOS, class_moments=CLASS)], CONFIG)
        steps = list(train(base, adapter, batches, dreambooth.loss, CONFIG))
    assert [list(step.terms) for step in steps] == [["instance", "prior"]] * 2


@pytest.fixture
def quick_class_images(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(subject, "CLASS_STEPS", 1)
    monkeypatch.setattr(subject, "CLASS_BATCH", 2)
    monkeypatch.setattr(subject, "SHIPPED_CLASS_MOMENTS", tmp_path / "shipped")


@pytest.mark.usefixtures("quick_class_images")
def test_class_images_are_drawn_once_and_only_what_is_missing(base, tmp_path: Path):
    told: list[tuple[int, int]] = []
    first = subject.prior_moments(
        base, CONFIG, tmp_path / "cache", lambda done, total: told.append((done, total))
    )
    assert told == [(0, 3), (2, 3), (3, 3)]
    assert first.mean.shape == (3, 4, 8, 8)
    told.clear()
    again = subject.prior_moments(
        base, CONFIG, tmp_path / "cache", lambda done, total: told.append((done, total))
    )
    assert told == [(3, 3)]
    assert torch.equal(again.mean, first.mean)
    assert torch.equal(again.logvar, first.logvar)
    told.clear()
    more = dataclasses.replace(CONFIG, class_images=4)
    further = subject.prior_moments(
        base, more, tmp_path / "cache", lambda done, total: told.append((done, total))
    )
    assert told == [(3, 4), (4, 4)]
    assert torch.equal(further.mean[:3], first.mean)
    assert len({float(picture.sum()) for picture in further.mean}) == 4


@pytest.mark.usefixtures("quick_class_images")
def test_class_images_survive_a_stop_and_a_torn_file(base, tmp_path: Path):
    class Stopped(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done:
            raise Stopped

    with pytest.raises(Stopped):
        subject.prior_moments(base, CONFIG, tmp_path, stop)
    (file,) = tmp_path.glob("*.safetensors")
    told: list[int] = []
    whole = subject.prior_moments(base, CONFIG, tmp_path, lambda done, total: told.append(done))
    assert told == [2, 3]
    file.write_bytes(b"torn")
    assert torch.equal(subject.prior_moments(base, CONFIG, tmp_path).mean, whole.mean)


@pytest.mark.usefixtures("quick_class_images")
def test_class_images_that_overflowed_are_not_kept(base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def overflow(pixels: torch.Tensor) -> Moments:
        latents = torch.full((len(pixels), 4, 8, 8), float("nan"))
        return Moments(mean=latents, logvar=latents)

    monkeypatch.setattr(base, "encode_images", overflow)
    with pytest.raises(ValueError, match="load the base in float32"):
        subject.prior_moments(base, CONFIG, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("quick_class_images")
def test_class_images_of_another_class_or_base_are_other_files(base, tmp_path: Path):
    one = dataclasses.replace(CONFIG, class_images=1)
    subject.prior_moments(base, one, tmp_path)
    subject.prior_moments(base, dataclasses.replace(one, class_noun="cat"), tmp_path)
    subject.prior_moments(dataclasses.replace(base, hash="0" * 64), one, tmp_path)
    subject.prior_moments(base, dataclasses.replace(one, identifier="other", seed=1), tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 3


@pytest.mark.usefixtures("quick_class_images")
def test_shipped_class_images_are_found_first(base, tmp_path: Path):
    shipped = subject.prior_moments(base, CONFIG, tmp_path / "shipped")
    cache = tmp_path / "cache"
    assert torch.equal(subject.prior_moments(base, CONFIG, cache).mean, shipped.mean)
    assert not cache.exists()


class OneFile:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def file(self, name: str) -> Path:
        return self.folder / name


def test_it_shows_where_the_weights_moved(base, tmp_path: Path):
    assert dreambooth.views(OneFile(tmp_path)) == []
    adapter = LoRA(rank=3, alpha=6, targets="attention+conv")
    with injected(adapter, base), torch.no_grad():
        for parameter in adapter.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(0))
    save_adapter(tmp_path / "adapter.safetensors", adapter, extra={})
    (view,) = dreambooth.views(OneFile(tmp_path))
    assert list(view.values) == ["In0", "In1", "In2", "In3", "Mid", "Out0", "Out1", "Out2", "Out3"]
    changes = [change for key, change in adapter.changes(base) if key.startswith("unet.mid_block.")]
    expected = torch.cat([change.flatten() for change in changes]).norm()
    assert view.values["Mid"] == pytest.approx(float(expected), rel=1e-4)


def test_masks_weight_the_photos_cells_and_class_images_count_whole(base):
    masks = torch.zeros(3, 1, 64, 64)
    masks[:, :, :, :32] = 1
    masked = dataclasses.replace(PHOTOS, class_moments=CLASS, masks=masks)
    config = dataclasses.replace(CONFIG, background_weight=0.25)
    batch = dreambooth.batches(base, [masked], config)(0, torch.Generator().manual_seed(0))
    cells = batch.extra["cells"]
    assert cells.shape == (4, 1, 8, 8)
    assert (cells[:2, :, :, :4] == 1).all()
    assert (cells[:2, :, :, 4:] == 0.25).all()
    assert (cells[2:] == 1).all()


def test_what_lies_outside_of_the_mask_teaches_nothing(base):
    noise = torch.zeros(1, 4, 8, 8)
    pred = torch.ones(1, 4, 8, 8, requires_grad=True)
    cells = torch.zeros(1, 1, 8, 8)
    cells[..., :4] = 1
    config = dataclasses.replace(CONFIG, prior_preservation=False)
    denoising = Denoising(
        noise=noise,
        noise_pred=pred,
        timesteps=torch.tensor([500]),
        latents=noise,
        groups={"instance": slice(0, 1)},
        alphas_cumprod=base.alphas_cumprod,
        extra={"cells": cells},
    )
    (term,) = subject.loss(denoising, LoRA(rank=1), config).values()
    term.backward()
    assert pred.grad is not None
    assert (pred.grad[..., 4:] == 0).all()
    assert (pred.grad[..., :4] > 0).all()
