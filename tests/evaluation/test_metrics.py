"""Metrics: extreme values of each score with a hand-computable encoder, and the real encoders at small size."""

import json
import math
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer, ViTConfig, ViTModel

from pipelines.config import ASSETS
from pipelines.evaluation.metrics import (
    CLIP_REPOSITORY,
    DINO_REPOSITORY,
    Encoders,
    HubClip,
    HubDino,
    InstrumentClip,
    InstrumentIdentity,
    Similarity,
    among,
    clip_i,
    clip_t,
    dino,
    div,
    interval,
    load_encoders,
    measure,
    normalised_score,
    pres,
    real_images,
    without_identifier,
)

WORDS = {"red": 0, "green": 1, "blue": 2}


class ColourEncoder:
    """Encode pictures and colour words as unit vectors of their mean colour, for scores known by hand."""

    name = "colours"
    scale = 1.0

    def image_features(self, images: Sequence[Image.Image]) -> torch.Tensor:
        return F.normalize(torch.stack([depth.mean(1) for depth in self._places(images)]), dim=-1)

    def text_features(self, texts: Sequence[str]) -> torch.Tensor | None:
        rows = torch.zeros(len(texts), 3)
        for row, text in zip(rows, texts, strict=True):
            for word in text.split():
                row[WORDS.get(word, slice(0, 0))] += 1
        return F.normalize(rows, dim=-1)

    def layers(self, images: Sequence[Image.Image]) -> list[torch.Tensor]:
        places = torch.stack(self._places(images))
        return [places, places.flip(1)]

    def _places(self, images: Sequence[Image.Image]) -> list[torch.Tensor]:
        return [torch.from_numpy(np.asarray(image, dtype=np.float32)).reshape(-1, 3).T for image in images]


@pytest.fixture
def encoders() -> Encoders:
    return Encoders(clip=ColourEncoder(), identity=ColourEncoder())


def flat(*colour: int) -> Image.Image:
    return Image.new("RGB", (8, 8), colour)  # type: ignore[arg-type]


RED, GREEN, YELLOW = flat(200, 0, 0), flat(0, 200, 0), flat(200, 200, 0)


def noise(seed: int, *, size: tuple[int, int] = (40, 30)) -> Image.Image:
    levels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(levels)


# ---- hand-computed scores -----------------------------------------------------------------------------------------


def test_identical_pictures_score_one(encoders: Encoders) -> None:
    assert dino(encoders, [RED, RED], [RED]) == pytest.approx(1)
    assert clip_i(encoders, [RED, RED], [RED]) == pytest.approx(1)


def test_all_pairs_count_equally(encoders: Encoders) -> None:
    assert dino(encoders, [RED, GREEN], [RED, YELLOW]) == pytest.approx((1 + 0 + 2 * math.sqrt(0.5)) / 4)


def test_a_set_with_itself_leaves_out_self_pairs(encoders: Encoders) -> None:
    assert real_images(encoders, [RED, GREEN])["dino"] == pytest.approx(0)
    assert real_images(encoders, [RED, RED])["clip_i"] == pytest.approx(1)
    assert real_images(encoders, [noise(1), noise(2), noise(3)])["dino"] < 1
    with pytest.raises(ValueError, match="at least two"):
        real_images(encoders, [RED])


def test_pres_of_the_subject_itself_is_the_real_images_row(encoders: Encoders) -> None:
    photos = [RED, YELLOW, noise(1)]
    features = encoders.identity.image_features(photos)
    count = len(photos)
    without_self = (pres(encoders, photos, photos) * count**2 - count) / (count * (count - 1))
    assert without_self == pytest.approx(float(among(features).mean()), abs=1e-6)
    assert without_self == pytest.approx(real_images(encoders, photos)["dino"], abs=1e-6)


def test_div_is_nothing_for_one_picture_repeated(encoders: Encoders) -> None:
    assert div(encoders, [noise(1)] * 3) == pytest.approx(0, abs=1e-6)
    assert div(encoders, [RED, RED, GREEN]) == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="at least two"):
        div(encoders, [RED])


def test_clip_t_pairs_each_picture_with_its_prompt(encoders: Encoders) -> None:
    assert clip_t(encoders, [RED, GREEN], ["a red dog", "a green dog"]) == pytest.approx(1)
    assert clip_t(encoders, [RED, GREEN], ["a red dog", "a blue dog"]) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="2 pictures but 1 prompts"):
        clip_t(encoders, [RED, GREEN], ["a red dog"])


def test_identifier_is_taken_out_of_the_prompt(encoders: Encoders) -> None:
    assert without_identifier("a photo of a sks dog, sks.", "sks") == "a photo of a dog,"
    assert without_identifier("a photo of a dog", "") == "a photo of a dog"
    several = "a photo of pll qev, ktn dog with a qev"
    assert without_identifier(several, "pll qev ktn") == "a photo of dog with a qev"
    assert without_identifier("pll", "pll qev") == "pll"
    assert clip_t(encoders, [RED], ["a blue red dog"], identifier="blue") == pytest.approx(1)


# ---- confidence intervals -----------------------------------------------------------------------------------------


def test_normalised_score_has_a_zero_and_a_one() -> None:
    base, reference = torch.full((6,), 0.4), torch.full((6,), 0.8)
    for value, expected in ((0.4, 0.0), (0.6, 0.5), (0.8, 1.0)):
        found = normalised_score(torch.full((5,), value), base=base, reference=reference)
        assert found is not None
        assert (found.value, found.low, found.high) == pytest.approx((expected,) * 3, abs=1e-6)


def test_normalised_score_needs_a_span() -> None:
    assert normalised_score(torch.ones(3), base=torch.ones(3), reference=torch.ones(3)) is None


def test_interval_holds_the_mean_and_narrows_with_more_pictures() -> None:
    generator = torch.Generator().manual_seed(0)
    few, many = torch.randn(10, generator=generator), torch.randn(1000, generator=generator)
    wide, narrow = interval(few), interval(many)
    assert wide.low < wide.value < wide.high
    assert narrow.high - narrow.low < (wide.high - wide.low) / 3
    assert interval(few) == wide


def test_similarity_runs_from_the_untouched_base_to_the_photographs(encoders: Encoders) -> None:
    photos, before = [YELLOW, flat(200, 180, 0)], [GREEN, flat(0, 180, 40)]
    similarity = Similarity(encoders, photos=photos, base_pictures=before, identifier="sks")
    prompts = ["a sks red", "a sks green"]
    zero = similarity.event(before, prompts)["identity"]
    one = similarity.event(photos, prompts)["identity"]
    assert zero["value"] == pytest.approx(0, abs=1e-6)
    assert one["value"] == pytest.approx(1, abs=0.01)
    assert zero["low"] <= zero["value"] <= zero["high"]
    json.dumps(similarity.event(photos, prompts), allow_nan=False)


def test_similarity_of_one_photograph_ends_at_the_very_same_picture(encoders: Encoders) -> None:
    similarity = Similarity(encoders, photos=[RED], base_pictures=[GREEN, YELLOW])
    assert similarity.event([RED], ["red"])["identity"]["value"] == pytest.approx(1)


def test_report_names_its_encoders_and_leaves_out_what_it_cannot_know(encoders: Encoders) -> None:
    short = measure(encoders, photos=[RED], generated=[RED], prompts=["red"])
    assert short.keys() == {"encoders", "dino", "clip_i", "clip_t"}
    assert short["encoders"] == {"clip": "colours", "identity": "colours"}
    full = measure(
        encoders,
        photos=[RED, YELLOW],
        generated=[RED],
        prompts=["red"],
        class_pictures=[GREEN],
        same_prompt=[RED, RED],
    )
    assert full.keys() == short.keys() | {"real_images", "pres", "div"}
    json.dumps(full, allow_nan=False)
    assert not any("lpips" in name.lower() for name in full)


# ---- real encoders --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toy_encoders(tmp_path_factory: pytest.TempPathFactory) -> Encoders:
    """The Hub encoders' classes with random weights: two layers, 32 px input."""
    folder = tmp_path_factory.mktemp("encoders")
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(ASSETS / "base" / "tokenizer")
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 2}
    text = {**small, "vocab_size": len(tokenizer), "max_position_embeddings": 20}
    text |= {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id}
    vision = {**small, "image_size": 32, "patch_size": 8}
    clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
    clip.save_pretrained(folder / "clip")
    tokenizer.save_pretrained(folder / "clip")
    ViTModel(ViTConfig(**vision), add_pooling_layer=False).save_pretrained(folder / "dino")
    return Encoders(clip=HubClip(str(folder / "clip"), None), identity=HubDino(str(folder / "dino"), None))


def test_dino_sees_the_middle_of_a_picture_resized_to_eight_sevenths_of_its_input(
    toy_encoders: Encoders,
) -> None:
    """DINO's evaluation resizes to 256 px and crops to 224. Here: 36 px to 32, 2 px cut on each side."""
    plain, edge, inside = (np.full((36, 36, 3), 90, dtype=np.uint8) for _ in range(3))
    edge[:2], edge[-2:], edge[:, :2], edge[:, -2:] = 255, 255, 255, 255
    inside[2:3] = 255
    rows = toy_encoders.identity.image_features([Image.fromarray(each) for each in (plain, edge, inside)])
    assert torch.equal(rows[0], rows[1])
    assert not torch.allclose(rows[0], rows[2], atol=1e-4)


@pytest.mark.parametrize("role", ["clip", "identity"])
def test_hub_encoders_give_unit_rows_and_layers(toy_encoders: Encoders, role: str) -> None:
    encoder = getattr(toy_encoders, role)
    images = [noise(1), noise(2, size=(17, 90)), noise(3)]
    rows = encoder.image_features(images)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(rows[:1], encoder.image_features(images[:1]), rtol=1e-4, atol=1e-5)
    layers = encoder.layers(images)
    assert [tuple(layer.shape) for layer in layers] == [(3, 32, 17)] * 4
    assert (encoder.text_features(["a dog"]) is None) == (role == "identity")


def test_hub_clip_features_are_those_of_transformers_own_method(toy_encoders: Encoders) -> None:
    clip = toy_encoders.clip
    assert isinstance(clip, HubClip)
    texts = ["a photo of a dog", "a person in the kitchen"]
    tokens = clip.tokenizer(texts, padding="max_length", max_length=20, return_tensors="pt")
    with torch.no_grad():
        output = clip.model(**tokens, pixel_values=clip._pixels([noise(1), noise(2)]))
    torch.testing.assert_close(clip.text_features(texts), output.text_embeds, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        clip.image_features([noise(1), noise(2)]), output.image_embeds, rtol=1e-4, atol=1e-5
    )


def test_hub_encoders_do_the_whole_report(toy_encoders: Encoders) -> None:
    photos, generated = [noise(1), noise(2)], [noise(3), noise(4)]
    scores = measure(
        toy_encoders, photos=photos, generated=generated, prompts=["a dog"] * 2, class_pictures=photos,
        same_prompt=[noise(5)] * 2, identifier="sks",
    )  # fmt: skip
    assert scores["div"] == pytest.approx(0, abs=1e-5)
    assert -1 <= scores["clip_t"] <= 1


def test_hub_repositories_are_pinned_to_commits() -> None:
    for _, revision in (CLIP_REPOSITORY, DINO_REPOSITORY):
        assert len(revision) == 40
        int(revision, 16)


def test_absent_encoders_are_told_in_a_sentence() -> None:
    with pytest.raises(ValueError, match="not on this machine"):
        load_encoders("sd1")


class RandomInstruments:
    """The four methods of the instruments, with random features instead of trained weights."""

    clip = SimpleNamespace(log_scale=torch.tensor(0.0))

    def clip_image(self, pixels: torch.Tensor) -> torch.Tensor:
        assert pixels.shape[1:] == (3, 128, 128)
        return F.normalize(pixels.mean((2, 3)), dim=-1)

    def clip_text(self, texts: list[str]) -> torch.Tensor:
        return F.normalize(torch.ones(len(texts), 3), dim=-1)

    def identity(self, pixels: torch.Tensor) -> torch.Tensor:
        return F.normalize(pixels[:, :, ::32, ::32].flatten(1), dim=-1)

    def features(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        return [F.avg_pool2d(pixels, 32), F.avg_pool2d(pixels, 64)]


def test_instruments_measure_pictures_of_any_size() -> None:
    instruments = RandomInstruments()
    encoders = Encoders(clip=InstrumentClip(instruments), identity=InstrumentIdentity(instruments))  # type: ignore[arg-type]
    images = [noise(seed) for seed in range(35)]  # more pictures than one batch holds
    assert encoders.identity.image_features(images).shape == (35, 48)
    assert [tuple(layer.shape) for layer in encoders.identity.layers(images)] == [(35, 3, 16), (35, 3, 4)]
    assert dino(encoders, images[:1], images[:1]) == pytest.approx(1)
    assert div(encoders, images[:2]) > 0
