"""Stage 1: the autoencoder. Crops of renders and of natural photographs; L1 + MSE + edge loss + small KL term."""

import logging
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image

from recipes.dataset import Pictures
from recipes.models import build_vae
from recipes.parallel import generator_of, members, share_gradients
from recipes.steps import Checkpoint, Log, MovingAverage, learning_rate

logger = logging.getLogger(__name__)

KL_WEIGHT = 3e-7
NATURAL_SHARE = 0.2
NOISE = 0.15  # maximum, relative to the latents' standard deviation


@cache
def natural_photographs() -> list[Image.Image]:
    """Return photographs shipped with scikit-image and scikit-learn (no portraits)."""
    import skimage.data
    import sklearn.datasets

    named = [
        skimage.data.chelsea(),
        skimage.data.coffee(),
        skimage.data.rocket(),
        *sklearn.datasets.load_sample_images().images,
    ]
    folder = Path(skimage.data.__file__).parent
    files = [
        "motorcycle_left.png",
        "brick.png",
        "grass.png",
        "gravel.png",
        "hubble_deep_field.jpg",
        "ihc.png",
    ]
    return [Image.fromarray(p) for p in named] + [Image.open(folder / f).convert("RGB") for f in files]


def natural_crops(
    photographs: list[Image.Image], count: int, size_px: int, generator: torch.Generator
) -> torch.Tensor:
    """Return (count, 3, size_px, size_px) uint8 crops with random position, scale, mirroring and channel order."""
    seed = int(torch.randint(0, 2**31, (1,), generator=generator))
    rng = np.random.default_rng(seed)
    crops = []
    for _ in range(count):
        # large colourful photographs are sampled more often than textures
        photograph = photographs[
            rng.integers(0, 6) if rng.random() < 0.75 else rng.integers(0, len(photographs))
        ]
        side = int(min(photograph.size) * rng.uniform(0.25, 1.0) * min(1.0, size_px / 96))
        left, top = (int(rng.integers(0, extent - side + 1)) for extent in photograph.size)
        crop = photograph.resize(
            (size_px, size_px),
            Image.Resampling.BILINEAR,
            (left, top, left + side, top + side),
            reducing_gap=2.0,
        )
        pixels = np.asarray(crop)[:, :: rng.choice((1, -1))][
            ..., rng.permutation(3) if rng.random() < 0.5 else [0, 1, 2]
        ]
        pixels = np.clip(pixels * rng.uniform(0.75, 1.2) + rng.uniform(-15, 25), 0, 255)
        crops.append(torch.from_numpy(pixels.astype(np.uint8)).permute(2, 0, 1))
    return torch.stack(crops)


def reconstruction_loss(decoded: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """Return L1 + 4 MSE + L1 of the differences between neighbours + L1 of the mean colour of every 8 x 8 patch.

    Both (B, 3, H, W) in [-1, 1]. Without the last term the four latent channels encode mainly brightness, and green is
    reconstructed as grey.
    """
    error = decoded - pixels
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    colours = F.avg_pool2d(error, 8).abs().mean()
    return error.abs().mean() + 4.0 * error.square().mean() + 0.5 * edges + 2.0 * colours


def train_vae(
    pictures: Pictures, folder: Path, *, steps: int, peak: float = 1e-3, save_every: int = 500
) -> None:
    """Train (or resume) up to ``steps`` steps in total; the last third uses whole pictures."""
    torch.manual_seed(0)
    vae = build_vae().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=peak, betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
    average = MovingAverage(vae.parameters(), 0.998)
    checkpoint = Checkpoint(folder / "vae.pt", modules={"vae": vae}, optimizer=optimizer, average=average)
    photographs = natural_photographs()
    log = Log("vae", total=steps, every=200)
    for step in range(checkpoint.load(), steps):
        size_px, batch = (64, 8) if step < steps * 2 // 3 else (128, 2)
        batch //= members()
        generator = generator_of(1, step)
        pixels = _batch(pictures, photographs, batch, size_px, generator)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, peak=peak, total=steps, decay_from=0.4)
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(pixels).latent_dist
            decoded = vae.decode(posterior.sample(generator)).sample
        loss = reconstruction_loss(decoded.float(), pixels)
        (loss + KL_WEIGHT * posterior.kl().float().mean()).backward()
        share_gradients(vae.parameters())
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update(step)
        mse = F.mse_loss(decoded.detach().float(), pixels)
        log(step, pictures=batch, loss=float(loss.detach()), psnr=float(10 * torch.log10(4.0 / mse)))
        if (step + 1) % save_every == 0 or step + 1 == steps:
            checkpoint.save(step + 1)


def _batch(
    pictures: Pictures, photographs, batch: int, size_px: int, generator: torch.Generator
) -> torch.Tensor:
    natural = int(torch.rand(batch, generator=generator).lt(NATURAL_SHARE).sum())
    parts = []
    if natural < batch:
        parts.append(pictures.random_crops(batch - natural, size_px, generator))
    if natural:
        parts.append(natural_crops(photographs, natural, size_px, generator))
    return as_images(torch.cat(parts))


def train_decoder(
    pictures: Pictures,
    latents: torch.Tensor,
    folder: Path,
    *,
    steps: int,
    batch: int = 4,
    peak: float = 5e-4,
    save_every: int = 200,
) -> None:
    """Train only the decoder (or resume), up to ``steps`` steps: latents do not change, and existing UNets stay valid.

    ``latents`` (N, C, h, w) are those of the first N pictures, unscaled. Noise is added to them (``NOISE``), because a
    diffusion model never generates them exactly.
    """
    torch.manual_seed(0)
    vae = load_vae(folder).train().to(memory_format=torch.channels_last)
    parameters = [*vae.post_quant_conv.parameters(), *vae.decoder.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=peak, betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
    average = MovingAverage(parameters, 0.998)
    modules = {"post_quant_conv": vae.post_quant_conv, "decoder": vae.decoder}
    checkpoint = Checkpoint(folder / "decoder.pt", modules=modules, optimizer=optimizer, average=average)
    deviation = latents[:2000].float().std((0, 2, 3), keepdim=True)
    log = Log("decoder", total=steps, every=100)
    batch //= members()
    for step in range(checkpoint.load(), steps):
        generator = generator_of(7, step)
        pixels, codes = _decoder_batch(vae, pictures, latents, batch, generator)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, peak=peak, total=steps, warmup=100, decay_from=0.3)
        codes = codes + _noise_like(codes, deviation, generator)
        with torch.autocast("cpu", torch.bfloat16):
            decoded = vae.decode(codes.contiguous(memory_format=torch.channels_last)).sample.float()
        loss = reconstruction_loss(decoded, pixels)
        loss.backward()
        share_gradients(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update(step)
        mse = F.mse_loss(decoded.detach(), pixels)
        log(step, pictures=batch, loss=float(loss.detach()), psnr=float(10 * torch.log10(4.0 / mse)))
        if (step + 1) % save_every == 0 or step + 1 == steps:
            checkpoint.save(step + 1)


@torch.no_grad()
def _decoder_batch(
    vae: AutoencoderKL, pictures: Pictures, latents: torch.Tensor, batch: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images (B, 3, H, W) and their latents (B, C, h, w), unscaled: renders and crops of natural photographs."""
    rows = torch.randint(0, len(latents), (batch,), generator=generator).tolist()
    pixels, codes = pictures.pixels(rows), latents[rows].float()
    natural = int(torch.rand(batch, generator=generator).lt(NATURAL_SHARE).sum())
    if natural:
        pixels[:natural] = natural_crops(natural_photographs(), natural, pixels.shape[-1], generator)
        with torch.autocast("cpu", torch.bfloat16):
            codes[:natural] = vae.encode(as_images(pixels[:natural])).latent_dist.mean.float()
    return as_images(pixels), codes


def _noise_like(codes: torch.Tensor, deviation: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return noise, at most ``NOISE`` times each channel's ``deviation``; its strength is constant within a picture."""
    amount = NOISE * torch.rand(len(codes), 1, 1, 1, generator=generator)
    return amount * deviation * torch.randn(codes.shape, generator=generator)


def as_images(pixels: torch.Tensor) -> torch.Tensor:
    """Convert uint8 (B, 3, H, W) to float32 in [-1, 1]."""
    return (pixels.float() / 127.5 - 1.0).contiguous(memory_format=torch.channels_last)


def load_vae(folder: Path) -> AutoencoderKL:
    """Return the averaged weights of the last checkpoint, with the decoder from ``decoder.pt`` if it exists."""
    vae = build_vae()
    state = torch.load(folder / "vae.pt", weights_only=True)
    vae.load_state_dict(state["modules"]["vae"])
    _copy_values(vae.parameters(), state["average"])
    if (folder / "decoder.pt").exists():
        average = torch.load(folder / "decoder.pt", weights_only=True)["average"]
        _copy_values([*vae.post_quant_conv.parameters(), *vae.decoder.parameters()], average)
    return vae.eval()


@torch.no_grad()
def _copy_values(parameters: Iterable[torch.nn.Parameter], values: list[torch.Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)
