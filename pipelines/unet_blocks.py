"""The blocks of the Stable Diffusion 1.x UNet: the position of each layer, and lists of block weights. No torch.

Nine blocks (In0 to In3, Mid, Out0 to Out3: diffusers' down_blocks, mid_block, up_blocks) contain 25 positions, IN00 to
OUT11, which kohya's scripts and A1111's "LoRA block weight" use; A1111 adds BASE, the text encoder, before them.
"""

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Protocol, Self

BLOCKS: tuple[str, ...] = ("In0", "In1", "In2", "In3", "Mid", "Out0", "Out1", "Out2", "Out3")
# Block-wise LoRA (2403.07500): the parts of the UNet that can hold a style and a subject separately
PARTS: dict[str, tuple[str, ...]] = {
    "all": BLOCKS,
    "upper": ("In0", "Out3"),
    "middle": ("In1", "Out2"),
    "bottom": ("In2", "Out1"),
}
TEXT = "BASE"
POSITIONS = (*(f"IN{i:02d}" for i in range(12)), "M00", *(f"OUT{i:02d}" for i in range(12)))
WITHOUT_ATTENTION = {"IN00", "IN03", "IN06", "IN09", "IN10", "IN11", "OUT00", "OUT01", "OUT02"}
PLACE = re.compile(r"(down|up)_blocks\.([0-3])\.(resnets|attentions|downsamplers|upsamplers)\.(\d)\.")
THREE_BY_THREE = re.compile(r"(.+\.)?(conv1|conv2|conv|conv_in|conv_out)")
ONE_BY_ONE = re.compile(r".+\.(proj_in|proj_out|conv_shortcut)")
MAX_BLOCK_RANK = 128
MOST = 2.0  # the largest absolute strength of a block
LISTS = {  # number of values -> their positions
    9: BLOCKS,
    17: (TEXT, *(each for each in POSITIONS if each not in WITHOUT_ATTENTION)),
    25: POSITIONS,
    26: (TEXT, *POSITIONS),
}
XL_LISTS = (12, 20)
PROGRAMS = {  # a list's name in another program -> number of values, and whether it is for attention-only LoRAs
    "A1111, LoRA (17)": (17, True),
    "A1111, LoCon (26)": (26, False),
    "kohya (25)": (25, False),
}


def position(key: str) -> str:
    """Return BASE, or IN00 to OUT11, for a layer such as "unet.down_blocks.0.resnets.0.conv1" or its weight.

    Layers outside the blocks share a neighbour's position: conv_in and the time embedding IN00, conv_norm_out and
    conv_out OUT11. So every layer has a position, and a list of zeros gives the base model. Raises ValueError for a
    key that is not a layer of Stable Diffusion 1.x.
    """
    prefix, _, name = key.partition(".")
    if prefix == "text_encoder":
        return TEXT
    name = f"{name if prefix == 'unet' else key}."
    if name.startswith("mid_block."):
        return "M00"
    if place := PLACE.match(name):
        side, block, kind, index = place[1], int(place[2]), place[3], int(place[4])
        within = 2 if kind.endswith("samplers") else index  # an upsampler shares the position of resnet 2
        return f"{'IN' if side == 'down' else 'OUT'}{3 * block + within + (side == 'down'):02d}"
    if name.startswith(("conv_in.", "time_embedding.")):
        return "IN00"
    if name.startswith(("conv_norm_out.", "conv_out.")):
        return "OUT11"
    raise ValueError(f"{key} is not a layer of Stable Diffusion 1.x; choose an adapter made for it.")


def block(key: str) -> str:
    """Return the block In0 to Out3 of a layer; "" for layers outside the blocks and for the text encoder."""
    bare = key.removeprefix("unet.")
    if not bare.startswith(("down_blocks.", "mid_block.", "up_blocks.")):
        return ""
    return block_of(position(bare))


def block_of(place: str) -> str:
    """Return the block of one of the 25 positions; "" for IN00, which is outside the blocks."""
    if place == "M00":
        return "Mid"
    if place.startswith("IN"):
        return f"In{(int(place[2:]) - 1) // 3}" if place != "IN00" else ""
    return f"Out{int(place[3:]) // 3}"


def kernel(module: str) -> int:
    """Return a layer's kernel size: 3 or 1 for a convolution, 0 for a linear layer of the UNet or text encoder."""
    if THREE_BY_THREE.fullmatch(module):
        return 3
    return 1 if ONE_BY_ONE.fullmatch(module) else 0


@dataclass(frozen=True)
class BlockStrengths:
    """The strength of an adapter at BASE and each of the 25 positions; ``values`` has 26 numbers."""

    values: tuple[float, ...] = (1.0,) * 26

    def __post_init__(self) -> None:
        assert len(self.values) == 26

    @classmethod
    def of_blocks(cls, strengths: dict[str, float], *, text: float = 1.0) -> Self:
        """Build from one strength per named block; other blocks and layers outside the blocks get 1.

        Raises ValueError for an unknown block.
        """
        unknown = sorted(set(strengths) - set(BLOCKS))
        if unknown:
            raise ValueError(f"There is no block {unknown[0]!r}; the blocks are {', '.join(BLOCKS)}.")
        return cls((text, *(strengths.get(block_of(place), 1.0) for place in POSITIONS)))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a comma-separated list of 9 (In0 to Out3), 17 or 26 (A1111) or 25 (kohya) values; "" is all ones.

        A list of 17 has BASE and the positions with attention. As in A1111's extension, all other positions are 0; a
        LoRA of the attention layers has no weights there. Lists of 9 and 25 set the text encoder to 1. Raises
        ValueError for any other length or for a value that is not a number between -``MOST`` and ``MOST``.
        """
        numbers = [_number(entry) for entry in text.split(",")] if text.strip() else [1.0] * 26
        if len(numbers) in XL_LISTS:
            raise ValueError(
                f"A list of {len(numbers)} block weights is one for SDXL; for this base write 9, 17, 25 or 26 values."
            )
        if len(numbers) not in LISTS:
            raise ValueError(
                f"{len(numbers)} block weights fit no list; write 9 (In0 to Out3), 17 or 26 (A1111) or 25 (kohya) values."
            )
        told = dict(zip(LISTS[len(numbers)], numbers, strict=True))
        if len(numbers) == 9:
            return cls.of_blocks(told)
        rest = 0.0 if len(numbers) == 17 else 1.0
        return cls(tuple(told.get(place, rest) for place in (TEXT, *POSITIONS)))

    def format(self, count: int = 26, *, plain: bool = False) -> str:
        """Return a list of ``count`` values as text. Raises ValueError if that length cannot express the strengths.

        With ``plain``, only the positions of a LoRA of the attention layers (those in a list of 17) must match.
        """
        if count not in LISTS:
            raise ValueError(f"There is no list of {count} block weights; choose 9, 17, 25 or 26.")
        mine = dict(zip((TEXT, *POSITIONS), self.values, strict=True))
        by_block = {block_of(place): mine[place] for place in POSITIONS}
        text = ",".join(_written((mine | by_block)[place]) for place in LISTS[count])
        again = dict(zip(mine, type(self).parse(text).values, strict=True))
        if any(again[place] != mine[place] for place in (LISTS[17] if plain else mine)):
            raise ValueError(
                f"{count} values cannot express these block weights, but a list of 26 can; write the longer list."
            )
        return text

    def elsewhere(self) -> dict[str, str]:
        """Return the equivalent lists for other programs by :data:`PROGRAMS` name, if they can express the strengths."""
        found = {}
        for name, (count, plain) in PROGRAMS.items():
            with suppress(ValueError):
                found[name] = self.format(count, plain=plain)
        return found

    def times(self, strength: float) -> Self:
        """Return all strengths multiplied by ``strength``."""
        return type(self)(tuple(value * strength for value in self.values))

    def at(self, key: str) -> float:
        """Return the strength of a layer such as "unet.mid_block.resnets.0.conv1"."""
        place = position(key)
        return self.values[0 if place == TEXT else 1 + POSITIONS.index(place)]


class BlockSettings(Protocol):
    """The rank settings: one rank for a part of the UNet, or a list of nine ranks that replaces it."""

    @property
    def part(self) -> str: ...
    @property
    def rank(self) -> int: ...
    @property
    def conv_rank(self) -> int: ...
    @property
    def ranks(self) -> str: ...
    @property
    def conv_ranks(self) -> str: ...


@dataclass(frozen=True)
class BlockPlan:
    """A rank and a convolution rank for each block, In0 to Out3; 0 means that these layers are not trained.

    As in kohya's scripts, ``ranks`` applies to linear layers and 1x1 convolutions, ``conv_ranks`` to 3x3 convolutions.
    A block with a convolution rank is a LoCon: the linear layers and shortcuts of its resnets are trained, too.
    """

    ranks: tuple[int, ...]
    conv_ranks: tuple[int, ...]

    def __post_init__(self) -> None:
        assert len(self.ranks) == len(self.conv_ranks) == len(BLOCKS)

    @classmethod
    def of(cls, settings: BlockSettings) -> Self:
        """Return the plan for a method's settings. Raises ValueError for a list that is not nine valid ranks."""
        plan = cls.of_part(settings.part, rank=settings.rank, conv_rank=settings.conv_rank)
        own, own_conv = settings.ranks, settings.conv_ranks
        return cls(
            ranks=parse_ranks(own, label="Rank of each block") if own else plan.ranks,
            conv_ranks=parse_ranks(own_conv, label="Convolution rank of each block")
            if own_conv
            else plan.conv_ranks,
        )

    @classmethod
    def of_part(cls, part: str, *, rank: int, conv_rank: int) -> Self:
        """Build from the same ranks in each block of a part of the UNet, 0 elsewhere. ValueError for an unknown part."""
        if part not in PARTS:
            raise ValueError(f"There is no part {part!r} of the UNet; choose one of {', '.join(PARTS)}.")
        inside = [name in PARTS[part] for name in BLOCKS]
        return cls(tuple(rank * each for each in inside), tuple(conv_rank * each for each in inside))

    def values(self, per_rank: Mapping[str, tuple[float, float, float]]) -> float:
        """Return the number of trained values.

        ``per_rank`` gives the values per rank of each block: (attention, linear layers and shortcuts of the resnets,
        3x3 convolutions).
        """
        return sum(
            rank * (attention + (resnets if conv_rank else 0)) + conv_rank * kernels
            for (attention, resnets, kernels), rank, conv_rank in zip(
                (per_rank[name] for name in BLOCKS), self.ranks, self.conv_ranks, strict=True
            )
        )

    def rank_of(self, module: str) -> int:
        """Return the rank of a layer such as "mid_block.resnets.0.conv1"; 0 if it is not trained."""
        name = block(module)
        if not name:
            return 0
        rank, conv_rank = (ranks[BLOCKS.index(name)] for ranks in (self.ranks, self.conv_ranks))
        if kernel(module) == 3:
            return conv_rank
        return rank if ".attentions." in module or conv_rank else 0


def parse_ranks(text: str, *, label: str) -> tuple[int, ...]:
    """Parse nine comma-separated ranks, In0 to Out3. Raises ValueError for a wrong length or value."""
    entries = [entry.strip() for entry in text.split(",")]
    if len(entries) != len(BLOCKS):
        raise ValueError(f"{label} has {len(entries)} values; write nine, for {', '.join(BLOCKS)}.")
    wrong = [
        entry
        for entry in entries
        if not (entry.isascii() and entry.isdigit() and int(entry) <= MAX_BLOCK_RANK)
    ]
    if wrong:
        raise ValueError(
            f"{label} holds {wrong[0][:20]!r}; ranks are whole numbers from 0 to {MAX_BLOCK_RANK}."
        )
    return tuple(map(int, entries))


Strength = float | BlockStrengths


GEOMETRY_LAYERS = (  # P+/XTI's (16, down, 1) to (8, down, 0): these control geometry, all others appearance
    "unet.down_blocks.2.attentions.1.",
    "unet.mid_block.attentions.0.",
)


def strength_at(strength: Strength, key: str) -> float:
    """Return the strength at a layer, given one strength for all layers or one per position."""
    return strength.at(key) if isinstance(strength, BlockStrengths) else strength


def _written(value: float) -> str:
    """Return the ``:g`` text of a number if it is exact, else its ``repr``."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def _number(entry: str) -> float:
    try:
        value = float(entry)
    except ValueError:
        value = math.nan
    if not abs(value) <= MOST:
        raise ValueError(
            f"The block weight {entry.strip()[:20]!r} is not a number between -{MOST:g} and {MOST:g}; correct it."
        )
    return value


def _attention_modules(at: str) -> list[str]:
    """Return the twelve linear and 1x1 convolution modules of one Transformer2DModel."""
    block = f"{at}.transformer_blocks.0"
    heads = [
        f"{block}.{attn}.{to}" for attn in ("attn1", "attn2") for to in ("to_q", "to_k", "to_v", "to_out.0")
    ]
    return [f"{at}.proj_in", *heads, f"{block}.ff.net.0.proj", f"{block}.ff.net.2", f"{at}.proj_out"]


@cache
def unet_modules() -> tuple[str, ...]:
    """Return the diffusers names, without prefix, of all modules of the SD 1.x UNet that a LoRA can target.

    A shortcut convolution is listed for every resnet, although some do not exist, depending on the channel widths.
    """
    names = ["conv_in", "conv_out", "time_embedding.linear_1", "time_embedding.linear_2"]
    resnets = ["mid_block.resnets.0", "mid_block.resnets.1"]
    attentions = ["mid_block.attentions.0"]
    for block in range(4):
        resnets += [f"down_blocks.{block}.resnets.{i}" for i in range(2)]
        resnets += [f"up_blocks.{block}.resnets.{i}" for i in range(3)]
        attentions += [f"down_blocks.{block}.attentions.{i}" for i in range(2) if block < 3]
        attentions += [f"up_blocks.{block}.attentions.{i}" for i in range(3) if block > 0]
    names += [
        f"{at}.{part}" for at in resnets for part in ("conv1", "conv2", "conv_shortcut", "time_emb_proj")
    ]
    names += [f"down_blocks.{block}.downsamplers.0.conv" for block in range(3)]
    names += [f"up_blocks.{block}.upsamplers.0.conv" for block in range(3)]
    return tuple(names + [name for at in attentions for name in _attention_modules(at)])
