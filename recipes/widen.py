"""Initialise a wider UNet to (nearly) the same function as a trained narrow one.

Net2Net (Chen, Goodfellow, Shlens 2016, 1511.05641): each added channel copies another channel of the same
normalisation group. The layers that read both copies split the old weight between them in unequal parts, so that the
copies diverge during training. Without normalisation the function would be exactly the same; the normalisation
statistics count some channels of a group twice.
"""

import numpy as np
import torch
from diffusers import UNet2DConditionModel

RIDGE = 0.1  # keeps the fitted weights small enough for bfloat16
Channels = np.ndarray  # (new,) index of the old channel that each new channel copies


def copied(old: int, new: int, groups: int) -> Channels:
    """Extend each of ``groups`` equal groups of ``old`` channels to ``new / groups`` by repeating its first ones."""
    run, grown = old // groups, new // groups
    return np.concatenate([group * run + np.arange(grown) % run for group in range(groups)])


def joined(*spaces: Channels) -> Channels:
    """Return the channel indices of concatenated tensors."""
    starts = np.cumsum([0, *(space.max() + 1 for space in spaces)])
    return np.concatenate([space + start for space, start in zip(spaces, starts, strict=False)])


def shares(space: Channels, rng: np.random.Generator) -> np.ndarray:
    """Return (new,) positive shares; those of the copies of one channel sum to 1."""
    parts = rng.uniform(0.5, 1.0, len(space))
    return parts / np.bincount(space, parts)[space]


class Widening:
    """Fills a wide UNet, module by module, from a narrow one with the same architecture."""

    def __init__(self, narrow: UNet2DConditionModel, wide: UNet2DConditionModel, seed: int = 0) -> None:
        self.old, self.new = narrow.state_dict(), wide.state_dict()
        self.rng = np.random.default_rng(seed)
        self.heads = narrow.config.attention_head_dim
        groups = narrow.config.norm_num_groups
        pairs = zip(narrow.config.block_out_channels, wide.config.block_out_channels, strict=True)
        self.widths = [copied(a, b, groups) for a, b in pairs]
        self.time = copied(self.old["time_embedding.linear_2.bias"].numel(),
                           self.new["time_embedding.linear_2.bias"].numel(), 1)  # fmt: skip
        self.text = np.arange(narrow.config.cross_attention_dim)
        self.latent = np.arange(narrow.config.in_channels)

    def put(self, name: str, outputs: Channels, inputs: Channels | None = None, factor: float = 1.0) -> None:
        """Set the weight (and bias) ``name``; ``inputs`` None: one value per channel, as in normalisation layers."""
        weight = self.old[f"{name}.weight"][outputs]
        if inputs is not None:
            part = torch.from_numpy(shares(inputs, self.rng)).to(weight)
            weight = weight[:, inputs] * part.view(1, -1, *[1] * (weight.dim() - 2))
        self.new[f"{name}.weight"].copy_(weight * factor)
        if f"{name}.bias" in self.old:
            self.new[f"{name}.bias"].copy_(self.old[f"{name}.bias"][outputs] * factor)

    def resnet(self, name: str, inputs: Channels, outputs: Channels) -> None:
        self.put(f"{name}.norm1", inputs)
        self.put(f"{name}.conv1", outputs, inputs)
        self.put(f"{name}.time_emb_proj", outputs, self.time)
        self.put(f"{name}.norm2", outputs)
        self.put(f"{name}.conv2", outputs, outputs)
        if f"{name}.conv_shortcut.weight" in self.old:
            self.put(f"{name}.conv_shortcut", outputs, inputs)

    def attention(self, name: str, width: Channels, context: Channels) -> None:
        """Scale queries by the root of the head-size ratio, which scores are divided by; split keys like inputs."""
        head = copied(int(width.max()) + 1, len(width), self.heads)
        self.put(f"{name}.to_q", head, width, factor=float((len(head) / (head.max() + 1)) ** 0.5))
        self.put(f"{name}.to_k", head, context)
        self.new[f"{name}.to_k.weight"].mul_(
            torch.from_numpy(shares(head, self.rng)).to(self.new[f"{name}.to_k.weight"])[:, None]
        )
        self.put(f"{name}.to_v", head, context)
        self.put(f"{name}.to_out.0", width, head)

    def transformer(self, name: str, width: Channels) -> None:
        block = f"{name}.transformer_blocks.0"
        self.put(f"{name}.norm", width)
        self.put(f"{name}.proj_in", width, width)
        self.attention(f"{block}.attn1", width, width)
        self.attention(f"{block}.attn2", width, self.text)
        for number in (1, 2, 3):
            self.put(f"{block}.norm{number}", width)
        hidden = copied(4 * (int(width.max()) + 1), 4 * len(width), 1)
        self.put(f"{block}.ff.net.0.proj", joined(hidden, hidden), width)
        self.put(f"{block}.ff.net.2", width, hidden)
        self.put(f"{name}.proj_out", width, width)

    def ends(self) -> None:
        """Set the first and last convolutions and the time embedding, whose sines are fitted at every time step."""
        first = self.widths[0]
        self.put("conv_in", first, self.latent)
        self.put("conv_norm_out", first)
        self.put("conv_out", self.latent, first)
        old, new = (timestep_sines(size) for size in (int(first.max()) + 1, len(first)))
        wanted = old @ self.old["time_embedding.linear_1.weight"].double().T
        damped = new.T @ new + RIDGE * torch.eye(new.shape[1], dtype=torch.float64)
        fitted = torch.linalg.solve(damped, new.T @ wanted)
        self.new["time_embedding.linear_1.weight"].copy_(fitted.T[self.time])
        self.new["time_embedding.linear_1.bias"].copy_(self.old["time_embedding.linear_1.bias"][self.time])
        self.put("time_embedding.linear_2", self.time, self.time)

    @torch.no_grad()
    def fill(self) -> None:
        """Fill all tensors."""
        self.ends()
        for level, width in enumerate(self.widths):
            before = self.widths[max(level - 1, 0)]
            self.resnet(f"down_blocks.{level}.resnets.0", before, width)
            self.resnet(f"down_blocks.{level}.resnets.1", width, width)
            if level < 3:
                self.put(f"down_blocks.{level}.downsamplers.0.conv", width, width)
                for place in (0, 1):
                    self.transformer(f"down_blocks.{level}.attentions.{place}", width)
        last = self.widths[-1]
        for place in (0, 1):
            self.resnet(f"mid_block.resnets.{place}", last, last)
        self.transformer("mid_block.attentions.0", last)
        for level, width in enumerate(self.widths[::-1]):
            self.up_block(level, width)

    def up_block(self, level: int, width: Channels) -> None:
        reverse = self.widths[::-1]
        before, after = reverse[max(level - 1, 0)], reverse[min(level + 1, 3)]
        for place in range(3):
            hidden, skip = before if place == 0 else width, after if place == 2 else width
            self.resnet(f"up_blocks.{level}.resnets.{place}", joined(hidden, skip), width)
            if level > 0:
                self.transformer(f"up_blocks.{level}.attentions.{place}", width)
        if level < 3:
            self.put(f"up_blocks.{level}.upsamplers.0.conv", width, width)


def timestep_sines(size: int) -> torch.Tensor:
    """Return (1000, size) float64: diffusers' sinusoidal embedding of every time step, cosines first."""
    from diffusers.models.embeddings import get_timestep_embedding

    return get_timestep_embedding(
        torch.arange(1000), size, flip_sin_to_cos=True, downscale_freq_shift=0
    ).double()


def widen(narrow: UNet2DConditionModel, wide: UNet2DConditionModel) -> None:
    """Fill ``wide`` so that it computes nearly the same function as ``narrow``."""
    Widening(narrow, wide).fill()
