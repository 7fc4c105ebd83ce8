"""Every setting of the program: frozen dataclasses with default, bounds, label and one line of help.

Forms are generated from these fields and every value is checked here, so that a client of the API meets
the same bounds as the sliders show. Nothing in this file needs torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pipelines.fields import (  # noqa: F401  # whoever needs a setting finds all about it in this module
    MAX_TEXT,
    Checked,
    Setting,
    clean_text,
    fill_words,
    from_dict,
    real_number,
    setting,
    to_dict,
    whole_number,
)
from pipelines.unet_blocks import MAX_BLOCK_RANK, PARTS, BlockPlan

if TYPE_CHECKING:
    from pipelines.runs.costs import Size

ASSETS = Path(__file__).resolve().parent.parent / "assets"
SCHEDULERS = ("DPM++ 2M Karras", "DDIM", "Euler a", "UniPC")
MAX_SEED = 2**32 - 1
MOST_VECTORS = 16  # and tokens, of a word that is learned


@dataclass(frozen=True)
class SampleConfig(Checked):
    """How a picture is made."""

    prompt: str = setting("", label="Prompt", help="What the picture shows.", advanced=False)
    negative_prompt: str = setting("", label="Negative prompt", help="What the picture should not show.")
    steps: int = setting(
        25, label="Steps", help="Denoising steps; more is slower and finer.", low=1, high=150, step=1
    )
    guidance_scale: float = setting(
        5.0,
        label="Guidance",
        help="How strictly the prompt is followed; 1 is not at all.",
        low=1,
        high=30,
        step=0.5,
    )
    seed: int = setting(
        0, label="Seed", help="The same seed draws the same picture.", low=0, high=MAX_SEED, step=1
    )
    count: int = setting(
        1, label="Pictures", help="How many; picture i uses seed + i.", low=1, high=16, step=1
    )
    scheduler: str = setting(
        SCHEDULERS[0], label="Sampler", help="The solver of the denoising.", choices=SCHEDULERS
    )
    size_px: int = setting(
        0, label="Size", help="Pixels of a side; 0 is the base's own.", low=0, high=1024, step=64
    )


@dataclass(frozen=True)
class LoopConfig(Checked):
    """What the training loop itself reads, whatever the method."""

    steps: int = setting(400, label="Steps", help="Updates of the adapter.", low=1, high=20_000, step=1)
    batch_size: int = setting(
        1, label="Photos per step", help="More is steadier and slower.", low=1, high=16, step=1
    )
    accumulation: int = setting(
        1,
        label="Accumulation",
        help="Batches added up before one update; saves memory.",
        low=1,
        high=64,
        step=1,
    )
    learning_rate: float = setting(
        1e-4, label="Learning rate", help="Size of an update.", low=1e-7, high=1e-1
    )
    schedule: str = setting(
        "constant", label="Schedule", help="How the learning rate moves.", choices=("constant", "cosine")
    )
    warmup_steps: int = setting(
        0, label="Warm-up", help="Steps until the full learning rate is reached.", low=0, high=5_000, step=1
    )
    max_grad_norm: float = setting(
        1.0, label="Gradient clip", help="Largest gradient norm; 0 is no clipping.", low=0, high=100
    )
    weight_decay: float = setting(
        1e-2, label="Weight decay", help="AdamW's pull towards zero.", low=0, high=1
    )
    seed: int = setting(
        0, label="Seed", help="The same seed gives the same run.", low=0, high=MAX_SEED, step=1
    )
    snr_gamma: float = setting(
        0.0,
        label="Min-SNR gamma",
        help="Weights noise levels by capped signal-to-noise; 0 is off.",
        low=0,
        high=100,
    )
    gradient_checkpointing: bool = setting(
        False, label="Gradient checkpointing", help="Less memory for about a third more time."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warmup_steps > self.steps:
            raise ValueError(
                f"Warm-up takes {self.warmup_steps} steps but the run has only {self.steps}; shorten it."
            )


@dataclass(frozen=True)
class TrainConfig(LoopConfig):
    """What every method has beside the loop: samples on the way, the size of its pictures, and what is kept."""

    size_px: int = setting(
        0, label="Training size", help="Pixels of a side; 0 is the base's own.", low=0, high=768, step=64
    )
    sample_prompts: tuple[str, ...] = setting(
        ("a photo",), label="Sample prompts", help="Drawn again and again while it learns.", low=1, high=6
    )
    sample_every: int = setting(
        0,
        label="Sample every",
        help="Steps between two rows of samples; 0 chooses.",
        low=0,
        high=5_000,
        step=1,
    )
    sample_seed: int = setting(
        0, label="Sample seed", help="The seed of every sample row.", low=0, high=MAX_SEED, step=1
    )
    sample_steps: int = setting(
        20, label="Sample steps", help="Denoising steps of a sample.", low=1, high=100, step=1
    )
    measure: bool = setting(
        True, label="Measure the result", help="Scores likeness, wording and variety at the end."
    )
    snapshots: int = setting(
        0,
        label="Earlier states kept",
        help="How many states of the adapter on the way are kept beside the last, evenly; 0 is none.",
        low=0,
        high=20,
        step=1,
    )

    @property
    def snapshot_steps(self) -> tuple[int, ...]:
        """The steps after which the adapter is kept as it is then, evenly before the last one."""
        parts = self.snapshots + 1
        between = {round(self.steps * part / parts) for part in range(1, parts)}
        return tuple(sorted(between - {0, self.steps}))

    @property
    def class_images_needed(self) -> int:
        """How many pictures of its class each subject needs; 0 without prior preservation."""
        return 0

    @property
    def pictures_per_forward(self) -> int:
        """Pictures of one forward pass: class images come in equal number beside the photographs."""
        return self.batch_size * (2 if self.class_images_needed else 1)

    @property
    def text_encoder_is_live(self) -> bool:
        """Whether prompts go through the text encoder at every step, because the adapter changes it."""
        return False

    @property
    def usage_prompt(self) -> str:
        """The prompt that shows the finished adapter, its words filled in."""
        return self.words(self.sample_prompts[0])

    @property
    def sample_negative_prompt(self) -> str:
        """What no sample shows, as far as the method knows; "" is nothing."""
        return ""

    def words(self, template: str) -> str:
        """Return a prompt with this run's words filled in, where the method has any."""
        return template

    def trained_values(self, size: "Size") -> float:
        """Return the millions of values that a run trains on a base of this size."""
        raise NotImplementedError

    def decomposition_mb(self, size: "Size") -> float:
        """Return the megabytes of the base's singular vectors that a run holds, and caches once for each base."""
        return 0.0


@dataclass(frozen=True)
class PhotosConfig(TrainConfig):
    """What every method that learns from photographs has, of one subject or of several: their prompts."""

    instance_prompt: str = setting(
        "a photo of a {identifier} {class_noun}",
        label="Photo prompt",
        help="What every photo is captioned with.",
    )
    class_prompt: str = setting(
        "a photo of a {class_noun}", label="Class prompt", help="What the class images are made with."
    )
    use_captions: bool = setting(
        False, label="Use captions", help="Each photo's own caption instead of the prompt."
    )
    auto_captions: bool = setting(
        False,
        label="Describe the photos",
        help="A photo without a caption gets the photo prompt and what CLIP sees around the subject, "
        "so that only the subject goes into the rare word.",
    )
    mask_background: bool = setting(
        False,
        label="Mask the background",
        help="Only the subject is learned. A photo without a mask gets one that is found automatically.",
    )
    background_weight: float = setting(
        0.0,
        label="Background weight",
        help="How much the background counts where a photo has a mask; 1 is as much as the subject.",
        low=0,
        high=1,
        step=0.05,
    )
    scenes: int = setting(
        0,
        label="Scenes per photo",
        help="The masked subject is cut out and set into so many scenes that the base draws, instead of the photo's "
        "own background; 0 is off.",
        low=0,
        high=16,
        step=1,
    )
    scene_prompts: tuple[str, ...] = setting(
        ("in the forest", "on a city street", "in the kitchen", "in a flower garden", "in the library"),
        label="Scenes",
        help="Where the subject is set, in words that follow the photo prompt.",
        low=1,
        high=12,
    )

    @property
    def uses_masks(self) -> bool:
        """Whether every photograph needs a mask."""
        return self.mask_background or self.scenes > 0


@dataclass(frozen=True)
class SubjectConfig(PhotosConfig):
    """What every method that learns one subject has: its two words."""

    identifier: str = setting(
        "sks", label="Rare word", help="The word that will mean your subject.", advanced=False
    )
    class_noun: str = setting(
        "person", label="What is it?", help="The plain word for its class.", advanced=False
    )
    sample_prompts: tuple[str, ...] = setting(
        ("a photo of a {identifier} {class_noun}", "a {identifier} {class_noun} on the beach"),
        label="Sample prompts",
        help="Drawn again and again while it learns.",
        low=1,
        high=6,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_words(self.identifier, self.class_noun, class_images=bool(self.class_images_needed))

    @property
    def usage_prompt(self) -> str:
        """The photo prompt, its words filled in."""
        return self.words(self.instance_prompt)

    def words(self, template: str) -> str:
        """Return a prompt with this run's rare word and class word filled in, e.g. "a photo of a sks dog"."""
        return fill_words(template, identifier=self.identifier, class_noun=self.class_noun)


def check_words(identifier: str, class_noun: str, *, class_images: bool) -> None:
    """Raise ValueError unless the two words can name a subject, and its class where class images are drawn."""
    if not identifier and not class_noun:
        raise ValueError("Say what it is: without a rare word and a class word nothing can be learned.")
    for word, label in ((identifier, "The rare word"), (class_noun, "The class word")):
        if not all(letter.isalnum() or letter in " -_<>'" for letter in word) or len(word) > 40:
            raise ValueError(f"{label} may hold up to 40 letters, digits, spaces and hyphens, not {word!r}.")
    if class_images and not class_noun:
        raise ValueError("Prior preservation needs a class word; type one, or switch prior preservation off.")


@dataclass(frozen=True)
class TextEncoderConfig(Checked):
    """For methods that train the text encoder on request."""

    text_encoder: bool = setting(
        False, label="Train the text encoder", help="Lets the words change their meaning, too."
    )

    @property
    def text_encoder_is_live(self) -> bool:
        """As asked."""
        return self.text_encoder


@dataclass(frozen=True)
class PriorConfig(Checked):
    """For methods that can hold the class by pictures of it (prior preservation, DreamBooth's second term)."""

    prior_preservation: bool = setting(
        False, label="Prior preservation", help="Keeps the class from turning into your subject."
    )
    prior_weight: float = setting(
        1.0, label="Prior weight", help="How much the class images count.", low=0, high=10, step=0.1
    )
    class_images: int = setting(
        64,
        label="Class images",
        help="How many pictures of the class the base draws first.",
        low=1,
        high=1000,
        step=1,
    )

    @property
    def class_images_needed(self) -> int:
        """``class_images`` where prior preservation is on."""
        return self.class_images if self.prior_preservation else 0


@dataclass(frozen=True)
class DreamBoothConfig(PriorConfig, TextEncoderConfig, SubjectConfig):
    """DreamBooth: a rare word learns to mean one subject, while the class keeps its meaning."""

    weights: str = setting(
        "lora",
        label="What is trained",
        help="A small LoRA, or every weight of the UNet.",
        choices=("lora", "full"),
    )
    rank: int = setting(
        8, label="Rank", help="Width of the LoRA; more remembers more.", low=1, high=128, step=1
    )
    alpha: float = setting(
        0.0, label="Alpha", help="LoRA scale times rank; 0 is the rank itself.", low=0, high=512
    )
    targets: str = setting(
        "attention",
        label="LoRA targets",
        help="Which layers get a LoRA.",
        choices=("attention", "attention+conv"),
    )
    text_encoder_rank: int = setting(
        4, label="Text encoder rank", help="Width of the text encoder's LoRA.", low=1, high=64, step=1
    )

    def trained_values(self, size: "Size") -> float:
        """Return the millions of values that a run trains: all of the UNet's, or those of the LoRA."""
        if self.weights == "full":
            return size.unet_values
        text = self.text_encoder_rank * size.text_rank_values if self.text_encoder else 0.0
        return self.rank * size.rank_values[self.targets] + text


@dataclass(frozen=True)
class BlockLoRAConfig(PriorConfig, TextEncoderConfig, SubjectConfig):
    """Block-wise LoRA (2403.07500): each block of the UNet has its own rank, or is left as it is."""

    part: str = setting(
        "all",
        label="Blocks",
        help="upper: In0 and Out3, middle: In1 and Out2, bottom: In2 and Out1.",
        choices=tuple(PARTS),
    )
    rank: int = setting(
        8,
        label="Rank in these blocks",
        help="Of linear layers and 1x1 convolutions; 0 is none.",
        low=0,
        high=MAX_BLOCK_RANK,
        step=1,
    )
    conv_rank: int = setting(
        4,
        label="Convolution rank in these blocks",
        help="Of 3x3 convolutions (LoCon); 0 is a LoRA of the attention alone.",
        low=0,
        high=MAX_BLOCK_RANK,
        step=1,
    )
    ranks: str = setting(
        "",
        label="Rank of each block",
        help="Nine numbers, In0 to In3, Mid, Out0 to Out3, instead of the two above; empty leaves those.",
    )
    conv_ranks: str = setting(
        "", label="Convolution rank of each block", help="Nine numbers in the same order; empty leaves those."
    )
    text_encoder_rank: int = setting(
        4, label="Text encoder rank", help="Width of the text encoder's LoRA.", low=1, high=64, step=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        plan = self.plan
        if not any(plan.ranks) and not any(plan.conv_ranks) and not self.text_encoder:
            raise ValueError("Every block has rank 0, so nothing would be learned; give one of them a rank.")

    @property
    def plan(self) -> BlockPlan:
        """The rank and the convolution rank of every block."""
        return BlockPlan.of(self)

    def trained_values(self, size: "Size") -> float:
        """Return the millions of values that a run trains, each block at its own rank."""
        text = self.text_encoder_rank * size.text_rank_values if self.text_encoder else 0.0
        return self.plan.values(size.block_values) + text


SPECTRAL_SUBSETS = (
    "UNet", "UNet-CA", "UNet-CA-KV", "UNet-1D", "UNet-2D", "UNet-4D",
    "Up-Blocks", "Down-Blocks", "Mid-Block", "Up-CA", "Down-CA", "Mid-CA",
)  # fmt: skip
SPECTRAL_RANKS = ("all", "1", "4", "16", "64", "256")


@dataclass(frozen=True)
class SVDiffConfig(PriorConfig, TextEncoderConfig, SubjectConfig):
    """SVDiff: only the singular values of the base's weights move."""

    subset: str = setting(
        "UNet",
        label="Which weights",
        help="The paper's subsets; CA is cross-attention, KV its keys and values, 1D, 2D, 4D the weights' dimensions.",
        choices=SPECTRAL_SUBSETS,
    )
    singular_values: str = setting(
        SPECTRAL_RANKS[0],
        label="Singular values",
        help="How many of each weight move, the largest first; fewer is a smaller file.",
        choices=SPECTRAL_RANKS,
    )
    norm_learning_rate: float = setting(
        1e-6,
        label="Norm learning rate",
        help="Of the norms' gains; follows the same schedule.",
        low=1e-9,
        high=1e-1,
    )

    @property
    def rank(self) -> int:
        """How many singular values of each weight move; 0 is all of them."""
        return 0 if self.singular_values == SPECTRAL_RANKS[0] else int(self.singular_values)

    def trained_values(self, size: "Size") -> float:
        """Return the millions of shifts that a run trains."""
        rank = SPECTRAL_RANKS.index(self.singular_values)
        return (size.shifts[self.subset][rank] + (size.text_shifts[rank] if self.text_encoder else 0)) / 1e6

    def decomposition_mb(self, size: "Size") -> float:
        """Return what the singular vectors of all weights take."""
        return size.factors_mb


UNMIX_LAYERS = ("In0+In1+Out2+Out3", "In1+Out2", "In2+Out1")


@dataclass(frozen=True)
class CutMixUnmixConfig(PriorConfig, TextEncoderConfig, PhotosConfig):
    """Cut-Mix-Unmix (SVDiff, section 3.3): two or three subjects learn to stand in one picture, each itself."""

    weights: str = setting(
        "spectral",
        label="What is trained",
        help="Spectral shifts (SVDiff), a small LoRA, or every weight of the UNet.",
        choices=("spectral", "lora", "full"),
    )
    mix_probability: float = setting(
        0.6,
        label="Cut-Mix probability",
        help="Share of the steps that see two subjects side by side; 0 learns each subject alone.",
        low=0,
        high=1,
        step=0.05,
    )
    unmix_weight: float = setting(
        0.1,
        label="Unmix weight",
        help="How strongly the words of one subject are kept off the other's half; 0 is off.",
        low=0,
        high=100,
    )
    unmix_layers: str = setting(
        UNMIX_LAYERS[0],
        label="Unmix layers",
        help="The blocks whose cross-attention is held to the halves.",
        choices=UNMIX_LAYERS,
    )
    negative_prompt: str = setting(
        "collage, split screen, a seam in the middle",
        label="Negative prompt of the samples",
        help="Against seams, in every picture that is drawn while it learns; empty is none.",
    )
    rank: int = setting(8, label="Rank", help="Width of the LoRA.", low=1, high=128, step=1)
    norm_learning_rate: float = setting(
        1e-6,
        label="Norm learning rate",
        help="Of the norms' gains, with spectral shifts.",
        low=1e-9,
        high=1e-1,
    )
    sample_prompts: tuple[str, ...] = setting(
        ("a photo of {each}", "{beside} on the beach", "a photo of {beside}"),
        label="Sample prompts",
        help="Drawn again and again while it learns. {all} and {beside} name the subjects together, {each} one by one.",
        low=1,
        high=6,
    )

    @property
    def sample_negative_prompt(self) -> str:
        """The negative prompt against seams."""
        return self.negative_prompt

    @property
    def usage_prompt(self) -> str:
        """The last sample prompt, which shows the subjects together."""
        return self.sample_prompts[-1]

    def trained_values(self, size: "Size") -> float:
        """Return the millions of values that a run trains."""
        if self.weights == "full":
            return size.unet_values
        if self.weights == "lora":
            return self.rank * size.rank_values["attention"]
        return (size.shifts["UNet"][0] + (size.text_shifts[0] if self.text_encoder else 0)) / 1e6

    def decomposition_mb(self, size: "Size") -> float:
        """Return what the singular vectors of all weights take, where they are needed."""
        return size.factors_mb if self.weights == "spectral" else 0.0


@dataclass(frozen=True)
class TextualInversionConfig(SubjectConfig):
    """Textual inversion: the embedding of the rare word is all that learns."""

    retired: ClassVar[Mapping[str, tuple[Any, ...]]] = {  # written until 0.1, when they could not be chosen
        "text_encoder": (True,),
        "prior_preservation": (False,),
        "prior_weight": (),
        "class_images": (),
    }

    initializer: str = setting(
        "",
        label="Begins as",
        help="The word whose meaning the rare word has at first; empty is the class word.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.identifier:
            raise ValueError("Textual inversion needs a rare word that can learn; type one.")

    @property
    def text_encoder_is_live(self) -> bool:
        """Always: the word's vectors enter the text encoder at its first layer."""
        return True

    def trained_values(self, size: "Size") -> float:
        """Return the millions of values that a run trains: one vector for each word."""
        return len(self.identifier.split()) * size.word_values
