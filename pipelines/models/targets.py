"""Which weights an adapter trains, by their names and shapes; needs no torch.

A module path is that of diffusers' UNet or transformers' CLIP text encoder, without a prefix ("mid_block.resnets.0.conv1").
"""

from collections.abc import Callable, Sequence
from math import prod

ATTENTION = r"attn[12]\.(to_q|to_k|to_v|to_out\.0)"
TRANSFORMER = rf"proj_in|proj_out|{ATTENTION}|ff\.net\.(0\.proj|2)"
RESNET = r"resnets\.\d+\.(conv1|conv2|conv_shortcut|time_emb_proj)|(downsamplers|upsamplers)\.0\.conv"
LORA_TARGETS = {  # full-match patterns on the UNet's module paths
    "cross-attention-kv": r".*\.attn2\.to_[kv]",  # as Custom Diffusion and C-LoRA: 32 layers in SD 1.x
    "cross-attention": r".*\.attn2\.(to_q|to_k|to_v|to_out\.0)",
    "attention": rf".*\.({ATTENTION})",
    "attention+conv": rf".*\.({TRANSFORMER}|{RESNET})",  # as LoCon: all 278 layers in the blocks of SD 1.x
}
LORA_TEXT_TARGETS = r".*\.self_attn\.(q_proj|k_proj|v_proj|out_proj)"

CROSS = ".attn2.to_"
KEY_VALUE = (".attn2.to_k", ".attn2.to_v")
SPECTRAL_TARGETS: dict[str, Callable[[str, int], bool]] = {  # SVDiff's ablation: (module path, dimensions of the weight)
    "UNet": lambda path, dimensions: True,
    "UNet-CA": lambda path, dimensions: CROSS in path,
    "UNet-CA-KV": lambda path, dimensions: path.endswith(KEY_VALUE),
    "UNet-1D": lambda path, dimensions: dimensions == 1,
    "UNet-2D": lambda path, dimensions: dimensions == 2,
    "UNet-4D": lambda path, dimensions: dimensions == 4,
    "Up-Blocks": lambda path, dimensions: path.startswith("up_blocks."),
    "Down-Blocks": lambda path, dimensions: path.startswith("down_blocks."),
    "Mid-Block": lambda path, dimensions: path.startswith("mid_block."),
    "Up-CA": lambda path, dimensions: path.startswith("up_blocks.") and CROSS in path,
    "Down-CA": lambda path, dimensions: path.startswith("down_blocks.") and CROSS in path,
    "Mid-CA": lambda path, dimensions: path.startswith("mid_block.") and CROSS in path,
}  # fmt: skip


def matrix_shape(shape: Sequence[int]) -> tuple[int, int]:
    """Return (M, N) of a weight read as a matrix: (c_out, everything else)."""
    return shape[0], prod(shape[1:])


def shift_size(shape: Sequence[int], rank: int = 0) -> int:
    """Return the number of trained values: the first ``rank`` (0: all) singular values, or all gains of a norm."""
    if len(shape) == 1:
        return shape[0]
    size = min(matrix_shape(shape))
    return min(size, rank) if rank else size
