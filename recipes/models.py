"""The embedded base's models: a small Stable Diffusion 1.x with the same classes and the same 686 UNet tensor names."""

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

CONTEXT_TOKENS = 40
TEXT_WIDTH = 128
VOCABULARY = 3_000
LATENT_PX = 16
START, END = "<|startoftext|>", "<|endoftext|>"


def build_unet() -> UNet2DConditionModel:
    """Build a UNet of 6.7 M parameters. The last two widths are equal, so that shortcut convolutions match SD 1.x."""
    return UNet2DConditionModel(
        sample_size=LATENT_PX,
        in_channels=4,
        out_channels=4,
        layers_per_block=2,
        block_out_channels=(48, 80, 96, 96),
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=2,  # diffusers' name for the number of heads; more heads cost 1.7x on a CPU
        norm_num_groups=8,
    )


def build_vae() -> AutoencoderKL:
    """Build a VAE with factor 8 and 4 latent channels. ``scaling_factor`` is measured after training."""
    return AutoencoderKL(
        sample_size=128,
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=(12, 24, 48, 96),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=4,
        scaling_factor=0.18215,
    )


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            attn_implementation="eager",  # takes a third of the time in bfloat16 on a CPU
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=CONTEXT_TOKENS,
            hidden_act="quick_gelu",
            projection_dim=TEXT_WIDTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_scheduler() -> DDIMScheduler:
    """Return the noise schedule of Stable Diffusion 1.x."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="epsilon",
    )


def train_tokenizer(texts: Iterable[str], folder: Path) -> CLIPTokenizer:
    """Train a byte-pair encoding like CLIP's (lower case, ``</w>`` at word ends, merges in order of frequency)."""
    bpe = Tokenizer(models.BPE(unk_token=END, end_of_word_suffix="</w>"))
    bpe.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(_clip_pattern(), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 258, min_frequency=2, initial_alphabet=alphabet, end_of_word_suffix="</w>"
    )
    bpe.train_from_iterator(texts, trainer)
    learned = json.loads(bpe.to_str())["model"]
    merges = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in learned["merges"]]
    names = alphabet + [letter + "</w>" for letter in alphabet] + ["".join(m) for m in merges] + [START, END]
    vocabulary = {name: index for index, name in enumerate(dict.fromkeys(names))}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    tokenizer = CLIPTokenizer(
        vocab=vocabulary, merges=merges, bos_token=START, eos_token=END, unk_token=END, pad_token=END,
        model_max_length=CONTEXT_TOKENS,
    )  # fmt: skip
    tokenizer.save_pretrained(folder)
    return CLIPTokenizer.from_pretrained(folder)


def _clip_pattern():
    from tokenizers import Regex

    return Regex(r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+""")


def assemble(tokenizer, text_encoder, vae, unet) -> StableDiffusionPipeline:
    """Return the models as a diffusers pipeline without a safety checker."""
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save_base(pipeline: StableDiffusionPipeline, folder: Path, facts: dict) -> None:
    """Write a plain diffusers folder in float16 and ``atelier.json`` (additional facts about this base for the app)."""
    pipeline.to(torch.float16)
    pipeline.save_pretrained(folder, safe_serialization=True)
    pipeline.to(torch.float32)
    config = (
        folder / "text_encoder" / "config.json"
    )  # transformers loads in the dtype stored here, diffusers in float32
    config.write_text(json.dumps(json.loads(config.read_text()) | {"dtype": "float32"}, indent=2) + "\n")
    (folder / "atelier.json").write_text(json.dumps(facts, indent=1) + "\n")
