"""Stages 2 to 4: the vocabulary, the cached latents, and the UNet trained jointly with its text encoder."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from recipes.dataset import CAPTIONS, SHARD, Pictures, captions_of
from recipes.half import HalfCopies
from recipes.judge import Lesson
from recipes.models import CONTEXT_TOKENS, build_scheduler, build_text_encoder, build_unet, train_tokenizer
from recipes.muon import MuonWithAdamW
from recipes.parallel import generator_of, members, rank, share_gradients, wait_for_all
from recipes.steps import Checkpoint, Log, MovingAverage, learning_rate
from recipes.train_vae import load_vae
from recipes.widen import widen
from recipes.world import RARE_TOKENS

logger = logging.getLogger(__name__)

DROP_CAPTION = 0.1
MOST_SNR = 5.0
MOST_WEIGHT = 20.0
LESSON_WEIGHT = 0.2


def general_english() -> list[str]:
    """Return English prose shipped with Python (language reference), so that common words become single tokens."""
    from pydoc_data import topics

    return [" ".join(text.split()) for text in topics.topics.values()]


def make_tokenizer(folder: Path, count: int) -> CLIPTokenizer:
    """Train the vocabulary on the captions of ``count`` pictures and general English; each rare token is one token."""
    if not (folder / "tokenizer_config.json").exists():
        captions = (text for index in range(count) for text in captions_of(index))
        tokenizer = train_tokenizer([*captions, *general_english()], folder)
        split_up = [token for token in RARE_TOKENS if len(tokenizer.tokenize(token)) != 1]
        logger.info("vocabulary: %d tokens, rare tokens split up: %s", len(tokenizer), split_up)
    return CLIPTokenizer.from_pretrained(folder)


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    """Return (B, CONTEXT_TOKENS) token ids, padded and truncated as in the pipeline."""
    return tokenizer(
        texts, padding="max_length", max_length=CONTEXT_TOKENS, truncation=True, return_tensors="pt"
    ).input_ids


def cache_tokens(tokenizer: CLIPTokenizer, path: Path, count: int) -> np.ndarray:
    """Return (count, CAPTIONS, CONTEXT_TOKENS) uint16 token ids."""
    if not path.exists() or len(np.load(path, mmap_mode="r")) < count:
        rows = []
        for first in range(0, count, SHARD):
            texts = [text for index in range(first, first + SHARD) for text in captions_of(index)]
            rows.append(tokenize(tokenizer, texts).numpy().astype(np.uint16).reshape(SHARD, CAPTIONS, -1))
        np.save(path, np.concatenate(rows))
    return np.load(path)[:count]


@torch.no_grad()
def cache_latents(pictures: Pictures, folder: Path, count: int) -> torch.Tensor:
    """Return (count, 4, 16, 16) float16 posterior means of the finished autoencoder, unscaled; one file per shard.

    Parallel processes divide the missing shards among themselves.
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
    """Encode uint8 (B, 3, H, W) to posterior means, float32."""
    images = (pixels.float() / 127.5 - 1.0).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        return vae.encode(images).latent_dist.mean.float()


def measure_scaling(latents: torch.Tensor, path: Path) -> float:
    """Return 1 / standard deviation of the latents, so that scaled latents have unit variance (like SD's 0.18215)."""
    if not path.exists():
        path.write_text(json.dumps({"scaling_factor": round(1.0 / float(latents[:4000].float().std()), 5)}))
    return json.loads(path.read_text())["scaling_factor"]


def start_from(base: Path, unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> None:
    """Load both from an earlier base's diffusers folder; a wider UNet is initialised to nearly the same function."""
    earlier = UNet2DConditionModel.from_pretrained(base / "unet")
    if earlier.config.block_out_channels == unet.config.block_out_channels:
        unet.load_state_dict(earlier.state_dict())
    else:
        widen(earlier, unet)
    text_encoder.load_state_dict(CLIPTextModel.from_pretrained(base / "text_encoder").state_dict())


def train_unet(
    latents: torch.Tensor, tokens: np.ndarray, tokenizer: CLIPTokenizer, folder: Path, *, steps: int, scaling: float,
    start: Path | None = None, lesson: Lesson | None = None, progress: Callable[..., None] | None = None, batch: int = 64, peak: float = 6e-4, save_every: int = 100,
    measure_every: int = 6_400,
) -> None:  # fmt: skip
    """Train noise prediction (``noise_weights``) in bfloat16, with caption dropout for guidance and weight averaging.

    ``start``: an earlier base to initialise from. ``lesson``: an additional loss on the attributes captions name.
    ``progress`` is called every ``measure_every`` steps with the averaged UNet and text encoder.
    """
    torch.manual_seed(0)
    unet, text_encoder = build_unet(), build_text_encoder(tokenizer)
    if start:
        start_from(start, unet, text_encoder)
    parameters = [*unet.parameters(), *text_encoder.parameters()]
    optimizer = MuonWithAdamW(unet, text_encoder.parameters(), rate=peak)
    average = MovingAverage(parameters, 0.999)
    modules = {"unet": unet, "text_encoder": text_encoder}
    checkpoint = Checkpoint(folder / "unet.pt", modules=modules, optimizer=optimizer, average=average)
    first = checkpoint.load()
    halves = HalfCopies(unet=unet.to(memory_format=torch.channels_last), text_encoder=text_encoder)
    batch //= members()
    empty = tokenize(tokenizer, [""])[0]
    log = Log("unet", total=steps)
    for step in range(first, steps):
        optimizer.set_rate(learning_rate(step, peak=peak, total=steps, warmup=100, decay_from=0.8))
        generator = generator_of(2, step)
        rows, which, ids = _batch(tokens, empty, batch, generator)
        guess = guess_noise(halves.copies, latents[rows].float() * scaling, ids, generator)
        loss = (guess.errors * noise_weights(guess.signal)).mean()
        said = (
            lesson(guess.clean_pred, rows, which, guess.timesteps, generator)
            if lesson
            else loss.new_zeros(())
        )
        (loss + LESSON_WEIGHT * said).backward()
        halves.pull_gradients()
        share_gradients(parameters)
        norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        halves.push_values()
        average.update(step)
        log(
            step,
            pictures=batch,
            loss=float(loss.detach()),
            error=float(guess.errors.detach().mean()),
            said=float(said.detach()),
            norm=float(norm),
        )
        if (step + 1) % save_every == 0 or step + 1 == steps:
            checkpoint.save(step + 1)
        if progress and rank() == 0 and (step + 1) % measure_every == 0:
            average.swap()
            progress(unet, text_encoder, step=step + 1, pictures=(step + 1) * batch * members())
            average.swap()


@dataclass(frozen=True)
class Guess:
    """The UNet's predictions for a batch."""

    errors: torch.Tensor  # (B,) mean squared errors of the predicted noise
    clean_pred: torch.Tensor  # (B, C, h, w) clean latents computed from the predicted noise
    timesteps: torch.Tensor  # (B,)
    signal: torch.Tensor  # (B,) their ᾱ


def guess_noise(
    copies: dict[str, torch.nn.Module], clean: torch.Tensor, ids: torch.Tensor, generator: torch.Generator
) -> Guess:
    """Add noise to scaled latents ``clean`` (B, C, h, w) at random time steps and predict it, conditioned on the
    captions' token ``ids`` (B, T); ``copies`` compute in bfloat16.
    """
    noise = torch.randn(clean.shape, generator=generator)
    timesteps = torch.randint(0, 1000, (len(clean),), generator=generator)
    signal = build_scheduler().alphas_cumprod[timesteps]
    kept = signal.view(-1, 1, 1, 1)
    noisy = kept.sqrt() * clean + (1.0 - kept).sqrt() * noise
    context = copies["text_encoder"](ids).last_hidden_state
    half = noisy.to(torch.bfloat16, memory_format=torch.channels_last)
    noise_pred = copies["unet"](half, timesteps, context).sample.float()
    clean_pred = (noisy - (1.0 - kept).sqrt() * noise_pred) / kept.sqrt()
    return Guess((noise_pred - noise).square().mean((1, 2, 3)), clean_pred, timesteps, signal)


def noise_weights(signal: torch.Tensor) -> torch.Tensor:
    """Return min(SNR + 1, 5) / SNR, at most 20, for noise prediction; ``signal`` is ᾱ_t.

    The weights equal Min-SNR (Hang et al. 2023) at low noise and v-prediction at high noise. Layout and colours, which
    depend on the caption, are decided at high noise, where plain noise prediction has little weight.
    """
    snr = signal / (1.0 - signal)
    return ((snr + 1.0).clamp(max=MOST_SNR) / snr).clamp(max=MOST_WEIGHT)


def _batch(
    tokens, empty, batch: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return row indices, the index of each row's caption (-1: none) and its token ids."""
    rows = torch.randint(0, len(tokens), (batch,), generator=generator)
    which = torch.randint(0, CAPTIONS, (batch,), generator=generator)
    ids = torch.from_numpy(tokens[rows.numpy(), which.numpy()].astype(np.int64))
    dropped = torch.rand(batch, generator=generator) < DROP_CAPTION
    ids[dropped] = empty
    return rows, which.where(~dropped, -1), ids


def load_unet(folder: Path, tokenizer: CLIPTokenizer):
    """Return the averaged UNet and text encoder of the last checkpoint."""
    unet, text_encoder = build_unet(), build_text_encoder(tokenizer)
    state = torch.load(folder / "unet.pt", weights_only=True)
    with torch.no_grad():
        for parameter, shadow in zip(
            [*unet.parameters(), *text_encoder.parameters()], state["average"], strict=True
        ):
            parameter.copy_(shadow)
    return unet.eval(), text_encoder.eval(), state["step"]
