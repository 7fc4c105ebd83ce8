"""Write Stable Diffusion 1.x checkpoints in the original single-file (LDM) layout, to test the reader."""

import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from pipelines.config import ASSETS
from pipelines.formats import ldm_keys as ldm_names
from pipelines.models.base import SD1_CONFIG


def ldm_tensors(unet: Any, vae: Any, text_encoder: Any) -> dict[str, torch.Tensor]:
    """Return the tensors of all parts under their original names, with the position ids that old files contain."""
    tensors = dict(ldm_names.ldm_tensors(unet, vae, text_encoder))
    positions = torch.arange(text_encoder.config.max_position_embeddings)[None]
    tensors["cond_stage_model.transformer.text_model.embeddings.position_ids"] = positions
    return tensors


def write_checkpoint(path: Path, tensors: dict[str, torch.Tensor], **metadata: str) -> Path:
    """Write tensors as one .safetensors file."""
    save_file({name: value.contiguous() for name, value in tensors.items()}, path, metadata=metadata or None)
    return path


def narrow_sd1(folder: Path, *, layers: int = 1) -> dict[str, torch.Tensor]:
    """Write the configs of a narrow Stable Diffusion 1.x and return its tensors under LDM names."""
    shutil.copytree(ASSETS / "base" / "tokenizer", folder / "tokenizer")
    shutil.copytree(SD1_CONFIG / "scheduler", folder / "scheduler")
    unet_config = UNet2DConditionModel.load_config(SD1_CONFIG, subfolder="unet")
    vae_config = AutoencoderKL.load_config(SD1_CONFIG, subfolder="vae")
    text_config = CLIPTextConfig.from_pretrained(SD1_CONFIG, subfolder="text_encoder")
    text_config.num_hidden_layers = layers
    text_config.vocab_size = 4000
    text_config.intermediate_size = 128
    torch.manual_seed(0)
    unet = UNet2DConditionModel.from_config({**unet_config, "block_out_channels": (32, 64, 64, 64)})
    vae = AutoencoderKL.from_config({**vae_config, "block_out_channels": (32, 32, 64, 64)})
    text = CLIPTextModel(text_config)
    unet.save_config(folder / "unet")
    vae.save_config(folder / "vae")
    text_config.save_pretrained(folder / "text_encoder")
    return ldm_tensors(unet, vae, text)
