"""The metrics of the DreamBooth paper (subject similarity, prompt similarity, diversity) for any pair of encoders.

For SD 1.x the encoders are CLIP ViT-B/32 and DINO ViT-S/16. For the embedded base model they are its own encoders,
whose scores are only comparable with each other. A raw cosine has no meaningful zero, so a similarity is also reported
as (score - base model) / (real photographs - base model), with a confidence interval.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from pipelines.data.photographs import to_tensor

if TYPE_CHECKING:
    from pipelines.evaluation.embedded_encoders import Instruments

BATCH = 32
BOOTSTRAP_DRAWS = 1000
SMALLEST_SPAN = 1e-3  # of cosines; a smaller difference of two means is noise
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# These commits contain model.safetensors; the heads of the branches contain only pickles.
CLIP_REPOSITORY = ("openai/clip-vit-base-patch32", "c237dc49a33fc61debc9276459120b7eac67e7ef")
DINO_REPOSITORY = ("facebook/dino-vits16", "a7a4d161f5c0bd70478c05ca5777ec7cd8848021")


class Encoder(Protocol):
    """Maps pictures, and for some encoders also texts, to unit vectors in one space."""

    name: str
    scale: float  # factor for cosines before a softmax over texts; 1 for encoders without text

    def image_features(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Return (N, D) float32 unit rows."""
        ...

    def text_features(self, texts: Sequence[str]) -> torch.Tensor | None:
        """Return (N, D) float32 unit rows; None for an encoder without text."""
        ...

    def layers(self, images: Sequence[Image.Image]) -> list[torch.Tensor]:
        """Return features at several depths, each (N, C, positions)."""
        ...


@dataclass(frozen=True)
class Encoders:
    """``clip`` encodes pictures and text; ``identity`` distinguishes subjects (the role of DINO)."""

    clip: Encoder
    identity: Encoder

    @property
    def names(self) -> dict[str, str]:
        return {"clip": self.clip.name, "identity": self.identity.name}


@dataclass(frozen=True)
class Interval:
    """A mean and the central 95 % of its bootstrap distribution."""

    value: float
    low: float
    high: float


# ---- encoders -------------------------------------------------------------------------------------------------------


def load_encoders(family: str, *, device: str = "cpu") -> Encoders:
    """Load the encoders for a base model family ("embedded" or "sd1"); those for sd1 are downloaded from the Hub once.

    Raises ValueError when they are neither cached locally nor downloadable."""
    if family == "embedded":
        from pipelines.evaluation.embedded_encoders import Instruments

        instruments = Instruments()
        return Encoders(clip=InstrumentClip(instruments), identity=InstrumentIdentity(instruments))
    return Encoders(
        clip=HubClip(*CLIP_REPOSITORY, device=device), identity=HubDino(*DINO_REPOSITORY, device=device)
    )


class InstrumentClip:
    """The small CLIP for the embedded base model."""

    name = "Atelier's small CLIP"

    def __init__(self, instruments: Instruments) -> None:
        self.instruments = instruments
        self.scale = float(instruments.clip.log_scale.detach().exp())

    def image_features(self, images: Sequence[Image.Image]) -> torch.Tensor:
        return torch.cat([self.instruments.clip_image(pixels) for pixels in _instrument_batches(images)])

    def text_features(self, texts: Sequence[str]) -> torch.Tensor | None:
        return self.instruments.clip_text(list(texts))

    def layers(self, images: Sequence[Image.Image]) -> list[torch.Tensor]:
        return _trunk_layers(self.instruments.clip.image.trunk, images)


class InstrumentIdentity:
    """The identity encoder for the embedded base model."""

    name = "Atelier's identity encoder"
    scale = 1.0

    def __init__(self, instruments: Instruments) -> None:
        self.instruments = instruments

    def image_features(self, images: Sequence[Image.Image]) -> torch.Tensor:
        return torch.cat([self.instruments.identity(pixels) for pixels in _instrument_batches(images)])

    def text_features(self, texts: Sequence[str]) -> torch.Tensor | None:
        return None

    def layers(self, images: Sequence[Image.Image]) -> list[torch.Tensor]:
        return _trunk_layers(self.instruments.features, images)


def _trunk_layers(
    trunk: Callable[[torch.Tensor], list[torch.Tensor]], images: Sequence[Image.Image]
) -> list[torch.Tensor]:
    batches = [trunk(pixels) for pixels in _instrument_batches(images)]
    return [torch.cat(depth).flatten(2) for depth in zip(*batches, strict=True)]


def _instrument_batches(images: Sequence[Image.Image]) -> Iterator[torch.Tensor]:
    for chunk in _chunks(images):
        yield to_tensor(
            [image.convert("RGB").resize((128, 128), Image.Resampling.LANCZOS) for image in chunk]
        )


class HubClip:
    """OpenAI's CLIP; ``repository`` may also be a local folder, with ``revision`` None."""

    name = "CLIP ViT-B/32"

    def __init__(self, repository: str, revision: str | None, *, device: str = "cpu") -> None:
        from transformers import CLIPModel, CLIPTokenizer

        self.device = device
        self.model = _from_hub(CLIPModel, repository, revision, use_safetensors=True).to(device).eval()
        self.tokenizer = _from_hub(CLIPTokenizer, repository, revision)
        self.size_px = self.model.config.vision_config.image_size
        self.scale = float(self.model.logit_scale.detach().exp())

    def _pixels(self, images: Sequence[Image.Image]) -> torch.Tensor:
        return _standardised(
            images, shorter_px=self.size_px, crop_px=self.size_px, mean=CLIP_MEAN, std=CLIP_STD
        )

    @torch.no_grad()
    def image_features(self, images: Sequence[Image.Image]) -> torch.Tensor:
        rows = []
        for chunk in _chunks(images):
            seen = self.model.vision_model(pixel_values=self._pixels(chunk).to(self.device)).pooler_output
            rows.append(self.model.visual_projection(seen).float().cpu())
        return F.normalize(torch.cat(rows), dim=-1)

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> torch.Tensor | None:
        length = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(
            list(texts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        ).to(self.device)
        read = self.model.text_model(**tokens).pooler_output
        return F.normalize(self.model.text_projection(read).float().cpu(), dim=-1)

    @torch.no_grad()
    def layers(self, images: Sequence[Image.Image]) -> list[torch.Tensor]:
        batches = [
            self.model.vision_model(
                pixel_values=self._pixels(chunk).to(self.device), output_hidden_states=True
            ).hidden_states
            for chunk in _chunks(images)
        ]
        return _depths(batches)


class HubDino:
    """DINO's ViT-S/16, represented by its CLS token (384 numbers); ``repository`` may also be a local folder."""

    name = "DINO ViT-S/16"
    scale = 1.0

    def __init__(self, repository: str, revision: str | None, *, device: str = "cpu") -> None:
        from transformers import ViTModel

        self.device = device
        loaded = _from_hub(ViTModel, repository, revision, use_safetensors=True, add_pooling_layer=False)
        self.model = loaded.to(device).eval()
        self.size_px = self.model.config.image_size

    def _hidden(self, images: Sequence[Image.Image], *, every: bool) -> Any:
        """Return hidden states. As in DINO's evaluation, bicubic resizing is to 8/7 of the crop (256 for 224)."""
        pixels = _standardised(
            images,
            shorter_px=self.size_px * 8 // 7,
            crop_px=self.size_px,
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
        )
        return self.model(pixel_values=pixels.to(self.device), output_hidden_states=every)

    @torch.no_grad()
    def image_features(self, images: Sequence[Image.Image]) -> torch.Tensor:
        rows = [self._hidden(chunk, every=False).last_hidden_state[:, 0] for chunk in _chunks(images)]
        return F.normalize(torch.cat(rows).float().cpu(), dim=-1)

    def text_features(self, texts: Sequence[str]) -> torch.Tensor | None:
        return None

    @torch.no_grad()
    def layers(self, images: Sequence[Image.Image]) -> list[torch.Tensor]:
        return _depths([self._hidden(chunk, every=True).hidden_states for chunk in _chunks(images)])


def _from_hub(cls: Any, repository: str, revision: str | None, **options: Any) -> Any:
    try:
        return cls.from_pretrained(repository, revision=revision, **options)
    except OSError as error:
        raise ValueError(
            f"The measuring model {repository} is not on this machine and could not be downloaded; connect to the internet once so that "
            "it can be stored, or turn off measuring."
        ) from error


def _standardised(
    images: Sequence[Image.Image],
    *,
    shorter_px: int,
    crop_px: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> torch.Tensor:
    """Return (N, 3, crop, crop): shorter side resized (bicubic), centre cropped, channels standardised."""
    cropped = []
    for image in images:
        scale = shorter_px / min(image.size)
        size = max(shorter_px, round(image.width * scale)), max(shorter_px, round(image.height * scale))
        resized = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
        left, top = (size[0] - crop_px) // 2, (size[1] - crop_px) // 2
        cropped.append(resized.crop((left, top, left + crop_px, top + crop_px)))
    pixels = (to_tensor(cropped) + 1) / 2
    return (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def _depths(batches: Sequence[Sequence[torch.Tensor]]) -> list[torch.Tensor]:
    """Return four evenly spaced depths of a transformer's hidden states (N, T, C), as (N, C, T)."""
    count = len(batches[0]) - 1
    chosen = sorted({max(1, round(count * part / 4)) for part in (1, 2, 3, 4)})
    return [
        torch.cat([states[depth].float().cpu() for states in batches]).transpose(1, 2) for depth in chosen
    ]


def _chunks(images: Sequence[Image.Image]) -> Iterator[Sequence[Image.Image]]:
    if not images:
        raise ValueError("There are no pictures to measure; generate or upload some first.")
    return (images[start : start + BATCH] for start in range(0, len(images), BATCH))


# ---- scores ---------------------------------------------------------------------------------------------------------


def pairwise(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """Return the cosines (N, M) of unit rows (N, D) and (M, D)."""
    return ours @ theirs.T


def among(rows: torch.Tensor) -> torch.Tensor:
    """Return the cosines of all pairs of different rows, (N (N - 1) / 2,). Raises ValueError for N < 2."""
    if len(rows) < 2:
        raise ValueError(
            "Measuring the similarity among pictures needs at least two of them; add another photograph."
        )
    first, second = torch.triu_indices(len(rows), len(rows), offset=1)
    return pairwise(rows, rows)[first, second]


def dino(encoders: Encoders, generated: Sequence[Image.Image], real: Sequence[Image.Image]) -> float:
    """Return the identity encoder's mean cosine over all pairs of generated and real pictures of the subject."""
    features = encoders.identity.image_features
    return float(pairwise(features(generated), features(real)).mean())


def clip_i(encoders: Encoders, generated: Sequence[Image.Image], real: Sequence[Image.Image]) -> float:
    """Return the same score as :func:`dino`, computed with CLIP's image encoder."""
    features = encoders.clip.image_features
    return float(pairwise(features(generated), features(real)).mean())


def clip_t(
    encoders: Encoders, generated: Sequence[Image.Image], prompts: Sequence[str], *, identifier: str = ""
) -> float:
    """Return the mean raw cosine of each picture with its prompt.

    The identifier is removed from the prompt, because CLIP does not know that word.
    """
    return float(prompt_scores(encoders, generated, prompts, identifier=identifier).mean())


def prompt_scores(
    encoders: Encoders, generated: Sequence[Image.Image], prompts: Sequence[str], *, identifier: str = ""
) -> torch.Tensor:
    """Return (N,) raw cosines of picture i with prompt i, without the identifier."""
    words = [without_identifier(prompt, identifier) for prompt in prompts]
    texts = encoders.clip.text_features(words)
    assert texts is not None, "a CLIP reads words"
    images = encoders.clip.image_features(generated)
    if len(texts) != len(images):
        raise ValueError(f"There are {len(images)} pictures but {len(texts)} prompts; give one for each.")
    return (images * texts).sum(1)


def without_identifier(prompt: str, identifier: str) -> str:
    """Remove the identifier: "a photo of a sks dog" -> "a photo of a dog". Its words must be adjacent."""
    words, rare, kept = prompt.split(), identifier.split(), []
    bare = [word.strip(",.;:!?") for word in words]
    place = 0
    while place < len(words):
        if rare and bare[place : place + len(rare)] == rare:
            place += len(rare)
        else:
            kept.append(words[place])
            place += 1
    return " ".join(kept)


def pres(encoders: Encoders, class_pictures: Sequence[Image.Image], real: Sequence[Image.Image]) -> float:
    """Return how similar pictures of "a [class]" are to the subject; a high value indicates class drift."""
    return dino(encoders, class_pictures, real)


def div(encoders: Encoders, pictures: Sequence[Image.Image]) -> float:
    """Return the mean perceptual distance over all pairs of pictures of one prompt; 0 means identical pictures."""
    if len(pictures) < 2:
        raise ValueError("Diversity needs at least two pictures of the same prompt; raise the count.")
    depths = encoders.identity.layers(pictures)
    first, second = torch.triu_indices(len(pictures), len(pictures), offset=1)
    return float(_distance([depth[first] for depth in depths], [depth[second] for depth in depths]).mean())


def _distance(ours: Sequence[torch.Tensor], theirs: Sequence[torch.Tensor]) -> torch.Tensor:
    apart = [
        (F.normalize(mine, dim=1) - F.normalize(yours, dim=1)).square().sum(1).mean(1) / 2
        for mine, yours in zip(ours, theirs, strict=True)
    ]
    return torch.stack(apart).mean(0)


def real_images(encoders: Encoders, photos: Sequence[Image.Image]) -> dict[str, float]:
    """Return the "real images" row: the photographs' scores against each other, excluding self-pairs."""
    return {
        "dino": float(among(encoders.identity.image_features(photos)).mean()),
        "clip_i": float(among(encoders.clip.image_features(photos)).mean()),
    }


# ---- intervals ------------------------------------------------------------------------------------------------------


def interval(scores: torch.Tensor, *, seed: int = 0) -> Interval:
    """Return the mean of one score per picture, (N,), with its bootstrap interval."""
    draws = _bootstrap(scores, np.random.default_rng(seed))
    return _interval(float(scores.double().mean()), draws)


def normalised_score(
    scores: torch.Tensor, *, base: torch.Tensor, reference: torch.Tensor, seed: int = 0
) -> Interval | None:
    """Return (score - base) / (reference - base) of mean scores: 0 is the base model, 1 is the reference.

    Each input has shape (N,). The bootstrap interval resamples all three. Returns None when the reference's mean is
    not above the base model's, because the scale is then undefined."""
    rng = np.random.default_rng(seed)
    ours, zero, one = (float(values.double().mean()) for values in (scores, base, reference))
    if one - zero < SMALLEST_SPAN:
        return None
    drawn, drawn_zero, drawn_one = (_bootstrap(values, rng) for values in (scores, base, reference))
    span = np.maximum(drawn_one - drawn_zero, SMALLEST_SPAN)
    return _interval((ours - zero) / (one - zero), (drawn - drawn_zero) / span)


def _bootstrap(values: torch.Tensor, rng: np.random.Generator) -> np.ndarray:
    """Return (draws,) means of resampled values."""
    numbers = values.detach().double().cpu().numpy()
    return numbers[rng.integers(len(numbers), size=(BOOTSTRAP_DRAWS, len(numbers)))].mean(1)


def _interval(value: float, draws: np.ndarray) -> Interval:
    low, high = np.quantile(draws, (0.025, 0.975))
    return Interval(value=value, low=float(low), high=float(high))


# ---- one run --------------------------------------------------------------------------------------------------------


class Similarity:
    """The similarity of a run's sample pictures to its photographs, on a scale from base model (0) to photographs (1).

    It is created once per run from the photographs and the pictures of step 0. Each :meth:`event` then costs one
    encoder pass.
    """

    def __init__(
        self,
        encoders: Encoders,
        *,
        photos: Sequence[Image.Image],
        base_pictures: Sequence[Image.Image],
        identifier: str = "",
    ) -> None:
        self.encoders, self.identifier = encoders, identifier
        self.photos = encoders.identity.image_features(photos)  # (P, D)
        self.zero = self._likeness(base_pictures)
        real = among(self.photos) if len(photos) > 1 else torch.ones(1)
        # With one photograph, or photographs less alike than step 0's pictures, 1 means an identical picture.
        self.one = real if real.mean() - self.zero.mean() > SMALLEST_SPAN else torch.ones(1)

    def _likeness(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        """Return (N,): the mean cosine of each picture with the photographs."""
        return pairwise(self.encoders.identity.image_features(pictures), self.photos).mean(1)

    def event(self, pictures: Sequence[Image.Image], prompts: Sequence[str]) -> dict[str, dict[str, float]]:
        """Return the fields of a `similarity` event: identity (0 base model, 1 photographs) and prompt (raw CLIP-T)."""
        likeness = self._likeness(pictures)
        identity = normalised_score(likeness, base=self.zero, reference=self.one) or interval(likeness)
        words = prompt_scores(self.encoders, pictures, prompts, identifier=self.identifier)
        return {"identity": asdict(identity), "prompt": asdict(interval(words))}


def measure(
    encoders: Encoders,
    *,
    photos: Sequence[Image.Image],
    generated: Sequence[Image.Image],
    prompts: Sequence[str],
    class_pictures: Sequence[Image.Image] = (),
    same_prompt: Sequence[Image.Image] = (),
    identifier: str = "",
) -> dict[str, Any]:
    """Return a run's scores for `metrics.json`. PRES needs class pictures, DIV several pictures of one prompt."""
    scores: dict[str, Any] = {
        "encoders": encoders.names,
        "dino": dino(encoders, generated, photos),
        "clip_i": clip_i(encoders, generated, photos),
        "clip_t": clip_t(encoders, generated, prompts, identifier=identifier),
    }
    if len(photos) > 1:
        scores["real_images"] = real_images(encoders, photos)
    if class_pictures:
        scores["pres"] = pres(encoders, class_pictures, photos)
    if len(same_prompt) > 1:
        scores["div"] = div(encoders, same_prompt)
    return scores
