"""Conversion of Stable Diffusion 1.x tensor names to those of the original single-file checkpoints ("LDM")."""

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from pipelines.models.inspection import LDM_PREFIXES

if TYPE_CHECKING:
    from torch import Tensor

Rules = tuple[tuple[str, str | Callable[[re.Match], str]], ...]

UNET_NAMES: Rules = (
    (r"^time_embedding\.linear_1\.", "time_embed.0."),
    (r"^time_embedding\.linear_2\.", "time_embed.2."),
    (r"^conv_in\.", "input_blocks.0.0."),
    (r"^conv_norm_out\.", "out.0."),
    (r"^conv_out\.", "out.2."),
    (r"^mid_block\.resnets\.0\.", "middle_block.0."),
    (r"^mid_block\.attentions\.0\.", "middle_block.1."),
    (r"^mid_block\.resnets\.1\.", "middle_block.2."),
    (r"^down_blocks\.(\d)\.downsamplers\.0\.conv\.", lambda m: f"input_blocks.{3 * int(m[1]) + 3}.0.op."),
    (
        r"^up_blocks\.0\.upsamplers\.0\.",
        "output_blocks.2.1.",
    ),  # the first up block has no attention
    (r"^up_blocks\.(\d)\.upsamplers\.0\.", lambda m: f"output_blocks.{3 * int(m[1]) + 2}.2."),
    (r"^down_blocks\.(\d)\.resnets\.(\d)\.", lambda m: f"input_blocks.{3 * int(m[1]) + int(m[2]) + 1}.0."),
    (r"^down_blocks\.(\d)\.attentions\.(\d)\.", lambda m: f"input_blocks.{3 * int(m[1]) + int(m[2]) + 1}.1."),
    (r"^up_blocks\.(\d)\.resnets\.(\d)\.", lambda m: f"output_blocks.{3 * int(m[1]) + int(m[2])}.0."),
    (r"^up_blocks\.(\d)\.attentions\.(\d)\.", lambda m: f"output_blocks.{3 * int(m[1]) + int(m[2])}.1."),
)
RESNET_NAMES: Rules = (
    (r"\.norm1\.", ".in_layers.0."),
    (r"\.conv1\.", ".in_layers.2."),
    (r"\.norm2\.", ".out_layers.0."),
    (r"\.conv2\.", ".out_layers.3."),
    (r"\.time_emb_proj\.", ".emb_layers.1."),
    (r"\.conv_shortcut\.", ".skip_connection."),
)
VAE_NAMES: Rules = (
    (r"\.mid_block\.attentions\.0\.group_norm\.", ".mid.attn_1.norm."),
    (r"\.mid_block\.attentions\.0\.to_out\.0\.", ".mid.attn_1.proj_out."),
    (r"\.mid_block\.attentions\.0\.to_([qkv])\.", r".mid.attn_1.\1."),
    (r"\.mid_block\.resnets\.(\d)\.", lambda m: f".mid.block_{int(m[1]) + 1}."),
    (r"\.down_blocks\.(\d)\.resnets\.", r".down.\1.block."),
    (r"\.down_blocks\.(\d)\.downsamplers\.0\.", r".down.\1.downsample."),
    (r"\.up_blocks\.(\d)\.resnets\.", lambda m: f".up.{3 - int(m[1])}.block."),
    (r"\.up_blocks\.(\d)\.upsamplers\.0\.", lambda m: f".up.{3 - int(m[1])}.upsample."),
    (r"\.conv_norm_out\.", ".norm_out."),
    (r"\.conv_shortcut\.", ".nin_shortcut."),
)


def ldm_tensors(unet: Any, vae: Any, text_encoder: Any) -> Iterator[tuple[str, "Tensor"]]:
    """Yield all tensors under LDM names; the VAE's attention weights (C, C) become 1x1 convolutions (C, C, 1, 1)."""
    to_unet, to_text, to_vae = LDM_PREFIXES
    for name, value in unet.state_dict().items():
        plain = _renamed(name, UNET_NAMES)
        yield to_unet + (plain if ".transformer_blocks." in plain else _renamed(plain, RESNET_NAMES)), value
    for name, value in text_encoder.state_dict().items():
        yield f"{to_text}text_model.{name.removeprefix('text_model.')}", value
    for name, value in vae.state_dict().items():
        convolution = ".mid_block.attentions." in name and value.ndim == 2
        yield to_vae + _renamed(name, VAE_NAMES), value[:, :, None, None] if convolution else value


def _renamed(name: str, rules: Rules) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name
