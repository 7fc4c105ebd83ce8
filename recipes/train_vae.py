"""Stage 1: the autoencoder. Crops of renders and of natural photographs, L1 + MSE + edges + a touch of KL."""

import logging
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


def natural_photographs() -> list[Image.Image]:
    """Photographs that ship inside scikit-image and scikit-learn (no portrait among them)."""
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
    """(count, 3, size_px, size_px) uint8: random places, scales, mirrorings and channel orders."""
    seed = int(torch.randint(0, 2**31, (1,), generator=generator))
    rng = np.random.default_rng(seed)
    crops = []
    for _ in range(count):
        # the big colourful ones more often than the textures
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
    """L1 + 4 MSE + L1 of the differences between neighbours + L1 of the mean colour of every 8 x 8 patch.

    Both (B, 3, H, W) in [-1, 1]. Without the last term the four latent channels spend themselves on light and dark,
    and green comes back grey.
    """
    error = decoded - pixels
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    colours = F.avg_pool2d(error, 8).abs().mean()
    return error.abs().mean() + 4.0 * error.square().mean() + 0.5 * edges + 2.0 * colours


def train_vae(
    pictures: Pictures, folder: Path, *, steps: int, peak: float = 1e-3, save_every: int = 500
) -> None:
    """Train (or go on) for ``steps`` steps in all; the last third on whole pictures."""
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
    pixels = torch.cat(parts)
    return (pixels.float() / 127.5 - 1.0).contiguous(memory_format=torch.channels_last)


def load_vae(folder: Path) -> AutoencoderKL:
    """The averaged weights of the last checkpoint."""
    vae = build_vae()
    state = torch.load(folder / "vae.pt", weights_only=True)
    vae.load_state_dict(state["modules"]["vae"])
    with torch.no_grad():
        for parameter, shadow in zip(vae.parameters(), state["average"], strict=True):
            parameter.copy_(shadow)
    return vae.eval()
