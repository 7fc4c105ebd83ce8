"""Stages 2 to 4: the vocabulary, the cached latents, and the UNet trained jointly with its text encoder."""

import json
import logging
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from transformers import CLIPTokenizer

from pipelines.losses import min_snr_weights
from recipes.dataset import CAPTIONS, SHARD, Pictures, captions_of
from recipes.models import CONTEXT_TOKENS, build_scheduler, build_text_encoder, build_unet, train_tokenizer
from recipes.parallel import generator_of, members, rank, share_gradients, wait_for_all
from recipes.steps import Checkpoint, Log, MovingAverage, learning_rate
from recipes.train_vae import load_vae
from recipes.world import RARE_TOKENS

logger = logging.getLogger(__name__)

DROP_CAPTION = 0.1
MIN_SNR_GAMMA = 5.0


def general_english() -> list[str]:
    """Plain English prose that ships with Python (its language reference), so that a user's words are not spelled out."""
    from pydoc_data import topics

    return [" ".join(text.split()) for text in topics.topics.values()]


def make_tokenizer(folder: Path, count: int) -> CLIPTokenizer:
    """The vocabulary of the first ``count`` pictures' captions and general English; every rare token is a single token."""
    if not (folder / "tokenizer_config.json").exists():
        captions = (text for index in range(count) for text in captions_of(index))
        tokenizer = train_tokenizer([*captions, *general_english()], folder)
        split_up = [token for token in RARE_TOKENS if len(tokenizer.tokenize(token)) != 1]
        logger.info("vocabulary: %d tokens, rare tokens split up: %s", len(tokenizer), split_up)
    return CLIPTokenizer.from_pretrained(folder)


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    """(B, CONTEXT_TOKENS) token ids, padded and cut like the pipeline does it."""
    return tokenizer(
        texts, padding="max_length", max_length=CONTEXT_TOKENS, truncation=True, return_tensors="pt"
    ).input_ids


def cache_tokens(tokenizer: CLIPTokenizer, path: Path, count: int) -> np.ndarray:
    """(count, CAPTIONS, CONTEXT_TOKENS) uint16 token ids."""
    if not path.exists() or len(np.load(path, mmap_mode="r")) < count:
        rows = []
        for first in range(0, count, SHARD):
            texts = [text for index in range(first, first + SHARD) for text in captions_of(index)]
            rows.append(tokenize(tokenizer, texts).numpy().astype(np.uint16).reshape(SHARD, CAPTIONS, -1))
        np.save(path, np.concatenate(rows))
    return np.load(path)[:count]


@torch.no_grad()
def cache_latents(pictures: Pictures, folder: Path, count: int) -> torch.Tensor:
    """(count, 4, 16, 16) float16 posterior means of the finished autoencoder, unscaled; one file per shard.

    Parallel processes share the missing shards among them.
    """
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{shard:04d}.npy" for shard in range(count // SHARD)]
    missing = [shard for shard, path in enumerate(paths) if not path.exists()]
    if missing:
        vae = load_vae(folder.parent).to(memory_format=torch.channels_last)
    for shard in missing[rank() :: members()]:
        pixels = pictures.pixels(list(range(shard * SHARD, (shard + 1) * SHARD)))
        means = torch.cat([_encode(vae, part) for part in pixels.split(50)])
        temporary = paths[shard].with_suffix(".tmp.npy")
        np.save(temporary, means.half().numpy())
        temporary.rename(paths[shard])
        logger.info("latents: shard %d of %d", shard + 1, len(paths))
    wait_for_all()
    return torch.cat([torch.from_numpy(np.load(path)) for path in paths])


def _encode(vae: AutoencoderKL, pixels: torch.Tensor) -> torch.Tensor:
    """uint8 (B, 3, H, W) to posterior means, float32."""
    images = (pixels.float() / 127.5 - 1.0).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        return vae.encode(images).latent_dist.mean.float()


def measure_scaling(latents: torch.Tensor, path: Path) -> float:
    """1 / standard deviation of the latents, so that scaled latents have unit variance (as SD's 0.18215 does)."""
    if not path.exists():
        path.write_text(json.dumps({"scaling_factor": round(1.0 / float(latents[:4000].float().std()), 5)}))
    return json.loads(path.read_text())["scaling_factor"]


def train_unet(
    latents: torch.Tensor, tokens: np.ndarray, tokenizer: CLIPTokenizer, folder: Path, *, steps: int, scaling: float,
    batch: int = 32, peak: float = 8e-4, save_every: int = 250,
) -> None:  # fmt: skip
    """Epsilon prediction with Min-SNR weights, captions dropped for guidance, an average of the weights kept."""
    torch.manual_seed(0)
    unet, text_encoder = build_unet(), build_text_encoder(tokenizer)
    parameters = [*unet.parameters(), *text_encoder.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=peak, betas=(0.9, 0.99), weight_decay=1e-3, fused=True)
    average = MovingAverage(parameters, 0.9995)
    modules = {"unet": unet, "text_encoder": text_encoder}
    checkpoint = Checkpoint(folder / "unet.pt", modules=modules, optimizer=optimizer, average=average)
    batch //= members()
    alphas = build_scheduler().alphas_cumprod
    empty = tokenize(tokenizer, [""])[0]
    log = Log("unet", total=steps)
    for step in range(checkpoint.load(), steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, peak=peak, total=steps, decay_from=0.6)
        generator = generator_of(2, step)
        clean, ids = _batch(latents, tokens, empty, batch, generator)
        noise = torch.randn(clean.shape, generator=generator)
        timesteps = torch.randint(0, 1000, (batch,), generator=generator)
        signal = alphas[timesteps].view(-1, 1, 1, 1)
        noisy = signal.sqrt() * clean * scaling + (1.0 - signal).sqrt() * noise
        noise_pred = unet(noisy, timesteps, text_encoder(ids).last_hidden_state).sample
        errors = (noise_pred - noise).square().mean((1, 2, 3))
        loss = (errors * min_snr_weights(alphas, timesteps, MIN_SNR_GAMMA)).mean()
        loss.backward()
        share_gradients(parameters)
        norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update(step)
        log(
            step,
            pictures=batch,
            loss=float(loss.detach()),
            error=float(errors.detach().mean()),
            norm=float(norm),
        )
        if (step + 1) % save_every == 0 or step + 1 == steps:
            checkpoint.save(step + 1)


def _batch(
    latents, tokens, empty, batch: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    rows = torch.randint(0, len(latents), (batch,), generator=generator)
    which = torch.randint(0, CAPTIONS, (batch,), generator=generator)
    ids = torch.from_numpy(tokens[rows.numpy(), which.numpy()].astype(np.int64))
    dropped = torch.rand(batch, generator=generator) < DROP_CAPTION
    ids[dropped] = empty
    return latents[rows].float(), ids


def load_unet(folder: Path, tokenizer: CLIPTokenizer):
    """The averaged UNet and text encoder of the last checkpoint."""
    unet, text_encoder = build_unet(), build_text_encoder(tokenizer)
    state = torch.load(folder / "unet.pt", weights_only=True)
    with torch.no_grad():
        for parameter, shadow in zip(
            [*unet.parameters(), *text_encoder.parameters()], state["average"], strict=True
        ):
            parameter.copy_(shadow)
    return unet.eval(), text_encoder.eval(), state["step"]
