"""Stage 6: evaluate the base and its measuring models on held-out data: figures and a contact sheet."""

import logging
import time
from pathlib import Path

import torch
from PIL import Image

from pipelines.data.photographs import to_tensor
from pipelines.evaluation.embedded_encoders import Field, Instruments
from pipelines.models.base import Base
from recipes.captions import SCENE_PHRASES, phrases_of
from recipes.quality import (
    OTHER_RENDERS,
    REFERENCE_RENDERS,
    Reference,
    both_found,
    pair_prompt,
    pairs,
    sharpness,
)
from recipes.world import (
    KINDS,
    SCENES,
    Choice,
    Picture,
    Subject,
    attributes,
    caption,
    contact_sheet,
    draw,
    held_out,
    sample_picture,
    sample_subject,
)  # fmt: skip

logger = logging.getLogger(__name__)

STEPS = 25
SCHEDULER = "DPM++ 2M Karras"


def singles(stream: int, count: int) -> list[Picture]:
    """Return held-out pictures of one subject each, with the same distribution as in training."""
    found, index = [], 0
    while len(found) < count:
        picture = sample_picture(held_out(stream, index))
        index += 1
        if len(picture.placed) == 1:
            found.append(picture)
    return found


def psnr(pictures: torch.Tensor, decoded: torch.Tensor) -> float:
    """Return the mean peak signal-to-noise ratio in dB of (B, 3, H, W) pictures in [-1, 1]."""
    errors = (pictures - decoded.clamp(-1, 1)).square().mean((1, 2, 3))
    return float((10 * torch.log10(4.0 / errors)).mean())


@torch.no_grad()
def round_trip(base: Base, images: list[Image.Image]) -> torch.Tensor:
    """Return (B, 3, 128, 128): the pictures encoded and decoded by the autoencoder."""
    parts = []
    for first in range(0, len(images), 25):
        moments = base.encode_images(to_tensor(images[first : first + 25]))
        parts.append(base.decode(moments.mean * base.scaling_factor).clamp(-1, 1).cpu())
    return torch.cat(parts)


def photographs(folder: Path) -> list[Image.Image]:
    """Return every photograph below ``folder``, center-cropped to a square and reduced to 128 px."""
    cut = []
    for path in sorted(folder.rglob("*.jpg")):
        photo = Image.open(path).convert("RGB")
        side = min(photo.size)
        left, top = (photo.width - side) // 2, (photo.height - side) // 2
        cut.append(
            photo.crop((left, top, left + side, top + side)).resize((128, 128), Image.Resampling.LANCZOS)
        )
    return cut


def best_text(instruments: Instruments, seen: torch.Tensor, options: list[list[str]]) -> list[int]:
    """Return the best-matching option (mean embedding of its phrasings) for each picture embedding (B, D)."""
    anchors = torch.stack([instruments.clip_text(phrases).mean(0) for phrases in options])
    return (seen @ torch.nn.functional.normalize(anchors, dim=-1).T).argmax(1).tolist()


def kind_prompts() -> list[list[str]]:
    return [[f"a photo of a {kind}", f"a picture of a {kind}", kind] for kind in KINDS]


def scene_prompts(kind: str) -> list[list[str]]:
    return [[f"a photo of a {kind} {phrase}" for phrase in SCENE_PHRASES[scene]] for scene in SCENES]


def right_kinds_and_scenes(
    instruments: Instruments, pixels: torch.Tensor, pictures: list[Picture]
) -> tuple[list[bool], list[bool]]:
    """Classify with the small CLIP, zero-shot, whether the kind and the scene are the intended ones."""
    seen = torch.cat([instruments.clip_image(part) for part in pixels.split(50)])
    kinds = best_text(instruments, seen, kind_prompts())
    right_kind = [KINDS[k] == p.placed[0].subject.kind for k, p in zip(kinds, pictures, strict=True)]
    right_scene = []
    for row, picture in zip(seen, pictures, strict=True):
        scene = best_text(instruments, row[None], scene_prompts(picture.placed[0].subject.kind))[0]
        right_scene.append(SCENES[scene] == picture.scene)
    return right_kind, right_scene


def agrees(field: Field, read: float | str, word: str) -> bool:
    """Return whether a prediction agrees with the caption's word: the same choice, or the same half of the scale."""
    return read == word if field.values else (float(read) > 0.5) == (word == field.high)


def named_attributes(picture: Picture, text: str) -> dict[str, str]:
    """Return the attributes of the picture's only subject that ``text`` names."""
    placed = picture.placed[0]
    found = {}
    for name, word in attributes(placed.subject, placed.view).items():
        kind = placed.subject.kind
        if any(
            phrase.removeprefix("a ").removeprefix("an ") in text
            for phrase in (*phrases_of(kind, name, word), word)
        ):
            found[name] = word
    return found


def right_attributes(
    instruments: Instruments, pixels: torch.Tensor, pictures: list[Picture], named: list[dict[str, str]]
) -> list[bool]:
    """Return, for every named attribute of every picture, whether the reader predicts it."""
    verdicts = []
    for image, picture, wanted in zip(pixels, pictures, named, strict=True):
        kind = picture.placed[0].subject.kind
        fields = {field.name: field for field in instruments.layout.of(kind)}
        read = instruments.read(image[None], kind)[0]
        verdicts += [agrees(fields[name], read[name], word) for name, word in wanted.items()]
    return verdicts


def share(verdicts: list[bool]) -> float:
    return round(100.0 * sum(verdicts) / max(len(verdicts), 1), 1)


@torch.no_grad()
def measure_autoencoder(base: Base, photos: Path | None) -> dict[str, float]:
    """Measure the PSNR on 300 held-out renders, and on real photographs if a folder is given."""
    images = [draw(picture) for picture in singles(1, 300)]
    figures = {"vae_psnr_renders_db": round(psnr(to_tensor(images), round_trip(base, images)), 2)}
    if photos:
        real = photographs(photos)
        figures["vae_psnr_photographs_db"] = round(psnr(to_tensor(real), round_trip(base, real)), 2)
    return figures


@torch.no_grad()
def measure_instruments(base: Base, instruments: Instruments) -> dict[str, float]:
    """Measure zero-shot accuracy, retrieval and attributes on held-out renders after an autoencoder round trip."""
    pictures = singles(2, 300)
    pixels = round_trip(base, [draw(picture) for picture in pictures])
    kinds, scenes = right_kinds_and_scenes(instruments, pixels, pictures)
    named = [attributes(p.placed[0].subject, p.placed[0].view) for p in pictures]
    figures = {"clip_kind_percent": share(kinds), "clip_scene_percent": share(scenes)}
    figures["reader_attributes_percent"] = share(right_attributes(instruments, pixels, pictures, named))
    for label, kind in (("mixed", None), ("people", "person")):
        subjects = [sample_subject(held_out(3, i), kind) for i in range(100)]
        figures[f"identity_1_of_100_{label}_percent"] = share(_retrieved(base, instruments, subjects))
    return figures


def _retrieved(base: Base, instruments: Instruments, subjects: list[Subject]) -> list[bool]:
    """Return whether each subject's second picture (another scene, light, view) retrieves its first one among all."""
    sets = []
    for stream in (4, 5):
        pictures = [
            sample_picture(held_out(stream, i), Choice(subject=s, style="photo"))
            for i, s in enumerate(subjects)
        ]
        sets.append(instruments.identity(round_trip(base, [draw(p) for p in pictures])))
    nearest = (sets[1] @ sets[0].T).argmax(1).tolist()
    return [i == best for i, best in enumerate(nearest)]


@torch.no_grad()
def generate(
    base: Base, prompts: list[str], *, guidance_scale: float, seed: int = 0, batch: int = 20
) -> list[Image.Image]:
    """Generate one picture per prompt with ``STEPS`` steps, each from its own seed."""
    pipeline, images = base.pipeline(SCHEDULER), []
    side = base.size_px // base.vae_factor
    for first in range(0, len(prompts), batch):
        part = prompts[first : first + batch]
        noise = [
            torch.randn(4, side, side, generator=torch.Generator().manual_seed(seed + first + i))
            for i in range(len(part))
        ]
        images += pipeline(
            part,
            num_inference_steps=STEPS,
            guidance_scale=guidance_scale,
            latents=torch.stack(noise),
            output_type="pil",
        ).images
    return images


def reference_renders(base: Base, instruments: Instruments, count: int = REFERENCE_RENDERS) -> Reference:
    """Return the reference for generated pictures: held-out renders of one subject, after an autoencoder round trip."""
    return Reference.of(instruments, round_trip(base, [draw(picture) for picture in singles(10, count)]))


@torch.no_grad()
def measure_generation(
    base: Base,
    instruments: Instruments,
    *,
    guidance_scale: float,
    count: int = 500,
    reference: Reference | None = None,
) -> dict[str, float]:
    """Measure the accuracy of kind, scene and named attributes of pictures generated from held-out captions; with a
    reference, also their distance and sharpness.
    """
    pictures = singles(6, count)
    texts = [caption(picture, held_out(7, i)) for i, picture in enumerate(pictures)]
    pixels = to_tensor(generate(base, texts, guidance_scale=guidance_scale))
    kinds, scenes = right_kinds_and_scenes(instruments, pixels, pictures)
    told = [
        any(phrase in text for phrase in (*SCENE_PHRASES[p.scene], p.scene))
        for text, p in zip(texts, pictures, strict=True)
    ]
    named = [named_attributes(picture, text) for picture, text in zip(pictures, texts, strict=True)]
    attributes_right = right_attributes(instruments, pixels, pictures, named)
    figures = {
        "captions": count,
        "guidance_scale": guidance_scale,
        "right_kind_percent": share(kinds),
        "right_scene_percent": share([right for right, is_told in zip(scenes, told, strict=True) if is_told]),
        "scenes_named": sum(told),
        "named_attributes_percent": share(attributes_right),
        "attributes_named": len(attributes_right),
    }
    if reference:
        figures["distance"] = round(reference.distance(instruments, pixels), 3)
        figures["sharpness"] = round(sharpness(pixels) / reference.sharpness, 3)
    return figures


@torch.no_grad()
def measure_pairs(
    base: Base, instruments: Instruments, *, guidance_scale: float, count: int = 64
) -> dict[str, float]:
    """Return the share of generated two-subject pictures in which both kinds are found at the right position."""
    pictures = pairs(count)
    drawn = generate(base, [pair_prompt(picture) for picture in pictures], guidance_scale=guidance_scale)
    return {"pairs": count, "both_kinds_percent": share(both_found(instruments, to_tensor(drawn), pictures))}


@torch.no_grad()
def measure_renders(base: Base, instruments: Instruments, reference: Reference) -> dict[str, float]:
    """Measure the renderer's own pictures after an autoencoder round trip: distance, sharpness and pairs."""
    others = round_trip(base, [draw(picture) for picture in singles(11, OTHER_RENDERS)])
    pictures = pairs(256)
    seen = round_trip(base, [draw(picture) for picture in pictures])
    return {
        "distance": round(reference.distance(instruments, others), 3),
        "sharpness": round(sharpness(others) / reference.sharpness, 3),
        "both_kinds_percent": share(both_found(instruments, seen, pictures)),
    }


def picture_seconds(base: Base, *, guidance_scale: float) -> float:
    """Return the seconds for one picture (the fastest of three)."""
    generate(base, ["a photo of a dog"], guidance_scale=guidance_scale)
    times = []
    for _ in range(3):
        started = time.perf_counter()
        generate(base, ["a photo of a dog on the beach"], guidance_scale=guidance_scale)
        times.append(time.perf_counter() - started)
    return round(min(times), 2)


def sheet(base: Base, path: Path, *, guidance_scale: float) -> None:
    """Save a contact sheet: left the renders of held-out captions, right the base's pictures for the same captions."""
    pictures = singles(8, 32)
    texts = [caption(picture, held_out(9, i)) for i, picture in enumerate(pictures)]
    drawn = contact_sheet(pictures, 4, zoom=1)
    generated = generate(base, texts, guidance_scale=guidance_scale)
    whole = Image.new("RGB", (drawn.width * 2 + 24, drawn.height), "white")
    whole.paste(drawn, (0, 0))
    for place, image in enumerate(generated):
        whole.paste(image, (drawn.width + 24 + place % 4 * 128, place // 4 * 128))
    path.parent.mkdir(parents=True, exist_ok=True)
    whole.resize((whole.width, whole.height)).save(path)
