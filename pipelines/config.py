"""All settings: frozen dataclasses with a default, bounds, a label and one line of help for each field.

Forms are generated from these fields and every value is checked here, so that the API has the same bounds as the
sliders. Nothing in this file needs torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pipelines.fields import (  # noqa: F401  # re-exported, so that settings are imported from one module
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
from pipelines.unet_blocks import GEOMETRY_LAYERS, MAX_BLOCK_RANK, PARTS, BlockPlan

if TYPE_CHECKING:
    from pipelines.runs.costs import Size

ASSETS = Path(__file__).resolve().parent.parent / "assets"
SCHEDULERS = ("DPM++ 2M Karras", "DDIM", "Euler a", "UniPC")
MAX_SEED = 2**32 - 1
MOST_COMPONENTS = 10_000  # of the authors' space; for costs, before a space is opened
MOST_VECTORS = 16  # the limit for the tokens of a learned embedding, too


@dataclass(frozen=True)
class SampleConfig(Checked):
    """How a picture is generated."""

    prompt: str = setting("", label="Prompt", help="Describes the picture.", advanced=False)
    negative_prompt: str = setting("", label="Negative prompt", help="What the picture should not show.")
    steps: int = setting(
        25, label="Steps", help="Denoising steps; more steps are slower and finer.", low=1, high=150, step=1
    )
    guidance_scale: float = setting(
        5.0,
        label="Guidance",
        help="How closely the prompt is followed; 1 disables guidance.",
        low=1,
        high=30,
        step=0.5,
    )
    seed: int = setting(
        0, label="Seed", help="The same seed gives the same picture.", low=0, high=MAX_SEED, step=1
    )
    count: int = setting(
        1, label="Pictures", help="Number of pictures; picture i uses seed + i.", low=1, high=16, step=1
    )
    scheduler: str = setting(
        SCHEDULERS[0], label="Sampler", help="The scheduler that solves the denoising.", choices=SCHEDULERS
    )
    size_px: int = setting(
        0,
        label="Size",
        help="Width and height in pixels; 0: the base model's own.",
        low=0,
        high=1024,
        step=64,
    )


@dataclass(frozen=True)
class LoopConfig(Checked):
    """The settings of the training loop, shared by all methods."""

    steps: int = setting(
        400,
        label="Steps",
        help="Number of training steps (adapter updates).",
        low=1,
        high=20_000,
        step=1,
        group="optimizer",
    )
    batch_size: int = setting(
        1,
        label="Photos per step",
        help="Batch size; larger is more stable and slower.",
        low=1,
        high=16,
        step=1,
        group="optimizer",
    )
    accumulation: int = setting(
        1,
        label="Accumulation",
        help="Gradient accumulation: batches per update; saves memory.",
        low=1,
        high=64,
        step=1,
        group="optimizer",
    )
    learning_rate: float = setting(
        1e-4,
        label="Learning rate",
        help="Step size of the optimizer.",
        low=1e-7,
        high=1e-1,
        group="optimizer",
    )
    schedule: str = setting(
        "constant",
        label="Schedule",
        help="Learning rate schedule.",
        choices=("constant", "cosine"),
        group="optimizer",
    )
    warmup_steps: int = setting(
        0,
        label="Warm-up",
        help="Warm-up steps until the full learning rate.",
        low=0,
        high=5_000,
        step=1,
        group="optimizer",
    )
    max_grad_norm: float = setting(
        1.0,
        label="Gradient clip",
        help="Maximum gradient norm; 0 disables clipping.",
        low=0,
        high=100,
        group="optimizer",
    )
    weight_decay: float = setting(
        1e-2, label="Weight decay", help="Weight decay of AdamW.", low=0, high=1, group="optimizer"
    )
    seed: int = setting(
        0,
        label="Seed",
        help="The same seed gives the same run.",
        low=0,
        high=MAX_SEED,
        step=1,
        group="optimizer",
    )
    snr_gamma: float = setting(
        0.0,
        label="Min-SNR gamma",
        help="Min-SNR loss weighting; 0 disables it.",
        low=0,
        high=100,
        group="optimizer",
    )
    gradient_checkpointing: bool = setting(
        False,
        label="Gradient checkpointing",
        help="Uses less memory and about a third more time.",
        group="optimizer",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warmup_steps > self.steps:
            raise ValueError(
                f"Warm-up takes {self.warmup_steps} steps but the run has only {self.steps}; use fewer warm-up steps."
            )


@dataclass(frozen=True)
class TrainConfig(LoopConfig):
    """The settings of all methods in addition to the loop's: samples, resolution, and what is saved."""

    size_px: int = setting(
        0,
        label="Training size",
        help="Width and height in pixels; 0: the base model's own.",
        low=0,
        high=768,
        step=64,
        group="data",
    )
    sample_prompts: tuple[str, ...] = setting(
        ("a photo",),
        label="Sample prompts",
        help="Prompts of the samples generated during training, one per line.",
        low=1,
        high=6,
        group="samples",
    )
    sample_every: int = setting(
        0,
        label="Sample every",
        help="Steps between two rows of samples; 0: automatic.",
        low=0,
        high=5_000,
        step=1,
        group="samples",
    )
    sample_seed: int = setting(
        0,
        label="Sample seed",
        help="Seed of all samples.",
        low=0,
        high=MAX_SEED,
        step=1,
        group="samples",
    )
    sample_steps: int = setting(
        20,
        label="Sample steps",
        help="Denoising steps per sample.",
        low=1,
        high=100,
        step=1,
        group="samples",
    )
    measure: bool = setting(
        True,
        label="Measure the result",
        help="Computes DINO, CLIP-I, CLIP-T, PRES and DIV at the end.",
        group="samples",
    )
    snapshots: int = setting(
        0,
        label="Earlier states kept",
        help="Number of evenly spaced earlier adapters to keep in addition to the final one; 0: none.",
        low=0,
        high=20,
        step=1,
        group="samples",
    )

    @property
    def snapshot_steps(self) -> tuple[int, ...]:
        """The steps after which a copy of the adapter is kept, evenly spaced before the last step."""
        parts = self.snapshots + 1
        between = {round(self.steps * part / parts) for part in range(1, parts)}
        return tuple(sorted(between - {0, self.steps}))

    @property
    def class_images_needed(self) -> int:
        """Number of class images per subject; 0 without prior preservation."""
        return 0

    @property
    def pictures_per_forward(self) -> int:
        """Pictures per forward pass: with prior preservation, as many class images as photographs."""
        return self.batch_size * (2 if self.class_images_needed else 1)

    @property
    def text_encoder_is_live(self) -> bool:
        """Whether prompts are encoded at every step, because the adapter changes the text encoder."""
        return False

    @property
    def usage_prompt(self) -> str:
        """The prompt to use the finished adapter with, placeholders filled in."""
        return self.words(self.sample_prompts[0])

    @property
    def sample_negative_prompt(self) -> str:
        """The negative prompt of the samples generated during training; "" for none."""
        return ""

    def words(self, template: str) -> str:
        """Return a prompt with this run's words filled in, if the method has any."""
        return template

    def trained_values(self, size: "Size") -> float:
        """Return the number of trained values, in millions, on a base of this size."""
        raise NotImplementedError

    def decomposition_mb(self, size: "Size") -> float:
        """Return the size in MB of the base's singular vectors.

        A run keeps them in memory; they are cached on disk once per base.
        """
        return 0.0


@dataclass(frozen=True)
class PhotosConfig(TrainConfig):
    """The settings of all methods that train on photographs of one or several subjects."""

    instance_prompt: str = setting(
        "a photo of a {identifier} {class_noun}",
        label="Photo prompt",
        help="Caption of photographs without their own caption.",
        group="data",
    )
    class_prompt: str = setting(
        "a photo of a {class_noun}",
        label="Class prompt",
        help="Prompt that generates the class images.",
        group="data",
    )
    use_captions: bool = setting(
        False,
        label="Use captions",
        help="Use each photograph's own caption instead of the photo prompt.",
        group="data",
    )
    auto_captions: bool = setting(
        False,
        label="Describe the photos",
        help="A photograph without a caption gets the photo prompt and CLIP's tags of the surroundings, "
        "so that the trigger word learns only the subject.",
        group="data",
    )
    mask_background: bool = setting(
        False,
        label="Mask the background",
        help="Train only on the subject. Photographs without a mask get an automatic one.",
        group="data",
    )
    background_weight: float = setting(
        0.0,
        label="Background weight",
        help="Loss weight of the background in photographs with a mask; 1: the same as the subject.",
        low=0,
        high=1,
        step=0.05,
        group="data",
        needs=("mask_background", "scenes"),
    )
    scenes: int = setting(
        0,
        label="Scenes per photo",
        help="The masked subject is cut out and placed in this many scenes generated by the base model, instead of the "
        "photograph's own background; 0: off.",
        low=0,
        high=16,
        step=1,
        group="data",
    )
    scene_prompts: tuple[str, ...] = setting(
        ("in the forest", "on a city street", "in the kitchen", "in a flower garden", "in the library"),
        label="Scenes",
        help="Text appended to the photo prompt for each scene, one per line.",
        low=1,
        high=12,
        group="data",
        needs=("scenes",),
    )

    @property
    def uses_masks(self) -> bool:
        """Whether every photograph needs a mask."""
        return self.mask_background or self.scenes > 0


@dataclass(frozen=True)
class SubjectConfig(PhotosConfig):
    """The settings of all methods that train on one subject: identifier and class noun."""

    identifier: str = setting(
        "sks", label="Trigger word", help="A rare word that will mean your subject.", advanced=False
    )
    class_noun: str = setting(
        "person", label="What is it?", help="The common word for its class.", advanced=False
    )
    sample_prompts: tuple[str, ...] = setting(
        ("a photo of a {identifier} {class_noun}", "a {identifier} {class_noun} on the beach"),
        label="Sample prompts",
        help="Prompts of the samples generated during training, one per line.",
        low=1,
        high=6,
        group="samples",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_words(self.identifier, self.class_noun, class_images=bool(self.class_images_needed))

    @property
    def usage_prompt(self) -> str:
        """The photo prompt with identifier and class noun filled in."""
        return self.words(self.instance_prompt)

    def words(self, template: str) -> str:
        """Return a prompt with the identifier and the class noun filled in, e.g. "a photo of a sks dog"."""
        return fill_words(template, identifier=self.identifier, class_noun=self.class_noun)


def check_words(identifier: str, class_noun: str, *, class_images: bool) -> None:
    """Raise ValueError if the words cannot name a subject, or if class images need a class noun and it is empty."""
    if not identifier and not class_noun:
        raise ValueError("Trigger word and class word are both empty; enter at least one of them.")
    for word, label in ((identifier, "The trigger word"), (class_noun, "The class word")):
        if not all(letter.isalnum() or letter in " -_<>'" for letter in word) or len(word) > 40:
            raise ValueError(f"{label} may have up to 40 letters, digits, spaces and hyphens, not {word!r}.")
    if class_images and not class_noun:
        raise ValueError(
            "Prior preservation needs a class word; enter one, or switch prior preservation off."
        )


@dataclass(frozen=True)
class TextEncoderConfig(Checked):
    """The setting of methods that can also train the text encoder."""

    text_encoder: bool = setting(
        False,
        label="Train the text encoder",
        help="Also adapts the meaning of words.",
        group="adapter",
    )

    @property
    def text_encoder_is_live(self) -> bool:
        """The value of the ``text_encoder`` setting."""
        return self.text_encoder


@dataclass(frozen=True)
class PriorConfig(Checked):
    """The settings of prior preservation (class images, DreamBooth's second loss term)."""

    prior_preservation: bool = setting(
        False,
        label="Prior preservation",
        help="Prevents the whole class from turning into your subject.",
        group="data",
    )
    prior_weight: float = setting(
        1.0,
        label="Prior weight",
        help="Loss weight of the class images.",
        low=0,
        high=10,
        step=0.1,
        group="data",
        needs=("prior_preservation",),
    )
    class_images: int = setting(
        64,
        label="Class images",
        help="Number of class images, generated by the base model before training.",
        low=1,
        high=1000,
        step=1,
        group="data",
        needs=("prior_preservation",),
    )

    @property
    def class_images_needed(self) -> int:
        """``class_images`` if prior preservation is on, else 0."""
        return self.class_images if self.prior_preservation else 0


@dataclass(frozen=True)
class DreamBoothConfig(PriorConfig, TextEncoderConfig, SubjectConfig):
    """DreamBooth: an identifier is bound to one subject, and the class noun keeps its meaning."""

    weights: str = setting(
        "lora",
        label="What is trained",
        help="A LoRA, or every weight of the UNet.",
        choices=("lora", "full"),
        group="adapter",
    )
    rank: int = setting(
        8,
        label="Rank",
        help="Rank of the LoRA; higher ranks store more detail.",
        low=1,
        high=128,
        step=1,
        group="adapter",
        needs=("weights=lora",),
    )
    alpha: float = setting(
        0.0,
        label="Alpha",
        help="LoRA alpha; the update is scaled by alpha / rank. 0: alpha = rank.",
        low=0,
        high=512,
        group="adapter",
        needs=("weights=lora",),
    )
    targets: str = setting(
        "attention",
        label="LoRA targets",
        help="Layers that get a LoRA.",
        choices=("attention", "attention+conv"),
        group="adapter",
        needs=("weights=lora",),
    )
    text_encoder_rank: int = setting(
        4,
        label="Text encoder rank",
        help="Rank of the text encoder's LoRA.",
        low=1,
        high=64,
        step=1,
        group="adapter",
        needs=("text_encoder",),
    )

    def trained_values(self, size: "Size") -> float:
        """Return the number of trained values in millions: all of the UNet, or the LoRA."""
        if self.weights == "full":
            return size.unet_values
        text = self.text_encoder_rank * size.text_rank_values if self.text_encoder else 0.0
        return self.rank * size.rank_values[self.targets] + text


@dataclass(frozen=True)
class BlockLoRAConfig(PriorConfig, TextEncoderConfig, SubjectConfig):
    """Block-wise LoRA (2403.07500): each block of the UNet has its own rank; 0 leaves it untrained."""

    part: str = setting(
        "all",
        label="Blocks",
        help="upper: In0 and Out3, middle: In1 and Out2, bottom: In2 and Out1.",
        choices=tuple(PARTS),
        group="adapter",
    )
    rank: int = setting(
        8,
        label="Rank in these blocks",
        help="For linear layers and 1x1 convolutions; 0: none.",
        low=0,
        high=MAX_BLOCK_RANK,
        step=1,
        group="adapter",
    )
    conv_rank: int = setting(
        4,
        label="Convolution rank in these blocks",
        help="For 3x3 convolutions (LoCon); 0: a LoRA of the attention layers only.",
        low=0,
        high=MAX_BLOCK_RANK,
        step=1,
        group="adapter",
    )
    ranks: str = setting(
        "",
        label="Rank of each block",
        help="Nine numbers for In0 to In3, Mid, Out0 to Out3, instead of the two fields above; empty: not used.",
        group="adapter",
    )
    conv_ranks: str = setting(
        "",
        label="Convolution rank of each block",
        help="Nine numbers in the same order; empty: not used.",
        group="adapter",
    )
    text_encoder_rank: int = setting(
        4,
        label="Text encoder rank",
        help="Rank of the text encoder's LoRA.",
        low=1,
        high=64,
        step=1,
        group="adapter",
        needs=("text_encoder",),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        plan = self.plan
        if not any(plan.ranks) and not any(plan.conv_ranks) and not self.text_encoder:
            raise ValueError(
                "Every block has rank 0, so nothing would be trained; set the rank of at least one block."
            )

    @property
    def plan(self) -> BlockPlan:
        """The rank and the convolution rank of every block."""
        return BlockPlan.of(self)

    def trained_values(self, size: "Size") -> float:
        """Return the number of trained values in millions, given the rank of each block."""
        text = self.text_encoder_rank * size.text_rank_values if self.text_encoder else 0.0
        return self.plan.values(size.block_values) + text


SPECTRAL_SUBSETS = (
    "UNet", "UNet-CA", "UNet-CA-KV", "UNet-1D", "UNet-2D", "UNet-4D",
    "Up-Blocks", "Down-Blocks", "Mid-Block", "Up-CA", "Down-CA", "Mid-CA",
)  # fmt: skip
SPECTRAL = "spectral"  # the adapter kind of spectral shifts
SPECTRAL_RANKS = ("all", "1", "4", "16", "64", "256")
KEPT_RANKS = tuple(map(int, SPECTRAL_RANKS[1:]))  # allowed ranks of a truncation


@dataclass(frozen=True)
class SVDiffConfig(PriorConfig, TextEncoderConfig, SubjectConfig):
    """SVDiff: only the singular values of the base's weights are trained."""

    subset: str = setting(
        "UNet",
        label="Trained weights",
        help="The paper's subsets; CA is cross-attention, KV its keys and values, 1D, 2D, 4D the weights' dimensions.",
        choices=SPECTRAL_SUBSETS,
        group="adapter",
    )
    singular_values: str = setting(
        SPECTRAL_RANKS[0],
        label="Singular values",
        help="Number of trained singular values per weight, the largest first; fewer make a smaller file.",
        choices=SPECTRAL_RANKS,
        group="adapter",
    )
    norm_learning_rate: float = setting(
        1e-6,
        label="Norm learning rate",
        help="Learning rate of the norm layers' gains, with the same schedule.",
        low=1e-9,
        high=1e-1,
        group="optimizer",
    )

    @property
    def rank(self) -> int:
        """Number of trained singular values per weight; 0: all."""
        return 0 if self.singular_values == SPECTRAL_RANKS[0] else int(self.singular_values)

    def trained_values(self, size: "Size") -> float:
        """Return the number of trained shifts in millions."""
        rank = SPECTRAL_RANKS.index(self.singular_values)
        return (size.shifts[self.subset][rank] + (size.text_shifts[rank] if self.text_encoder else 0)) / 1e6

    def decomposition_mb(self, size: "Size") -> float:
        """Return the size in MB of the singular vectors of the trained weights."""
        return size.factors_mb[self.subset] + (size.text_factors_mb if self.text_encoder else 0.0)


UNMIX_LAYERS = ("Out2", "In1+Out2", "In0+In1+Out2+Out3", "In2+Out1")


@dataclass(frozen=True)
class CutMixUnmixConfig(PriorConfig, TextEncoderConfig, PhotosConfig):
    """Cut-Mix-Unmix (SVDiff, section 3.3): two or three subjects are trained to appear in one picture without mixing."""

    weights: str = setting(
        "spectral",
        label="What is trained",
        help="Spectral shifts (SVDiff), a small LoRA, or every weight of the UNet.",
        choices=("spectral", "lora", "full"),
        group="adapter",
    )
    mix_probability: float = setting(
        0.6,
        label="Cut-Mix probability",
        help="Share of the steps that see two subjects side by side; 0 learns each subject alone.",
        low=0,
        high=1,
        step=0.05,
        group="data",
    )
    alone_first: float = setting(
        0.0,
        label="Alone first",
        help="Share of the steps, at the beginning, that see each subject alone, so that its words are bound to it.",
        low=0,
        high=0.9,
        step=0.05,
        group="data",
    )
    unmix_weight: float = setting(
        0.1,
        label="Unmix weight",
        help="How strongly the words of one subject are kept off the other's half; 0 is off.",
        low=0,
        high=100,
        group="optimizer",
    )
    unmix_layers: str = setting(
        UNMIX_LAYERS[0],
        label="Unmix layers",
        help="The blocks whose cross-attention is held to the halves.",
        choices=UNMIX_LAYERS,
        group="optimizer",
        needs=("unmix_weight",),
    )
    negative_prompt: str = setting(
        "collage, split screen, a seam in the middle",
        label="Negative prompt of the samples",
        help="Against seams, in every picture that is drawn while it learns; empty is none.",
        group="samples",
    )
    rank: int = setting(
        8,
        label="Rank",
        help="Width of the LoRA.",
        low=1,
        high=128,
        step=1,
        group="adapter",
        needs=("weights=lora",),
    )
    targets: str = setting(
        "attention",
        label="LoRA targets",
        help="Layers that get a LoRA.",
        choices=("attention", "attention+conv"),
        group="adapter",
        needs=("weights=lora",),
    )
    text_encoder_rank: int = setting(
        8,
        label="Text encoder rank",
        help="Rank of the text encoder's LoRA.",
        low=1,
        high=64,
        step=1,
        group="adapter",
    )
    norm_learning_rate: float = setting(
        1e-6,
        label="Norm learning rate",
        help="Of the norms' gains, with spectral shifts.",
        low=1e-9,
        high=1e-1,
        group="optimizer",
        needs=("weights=spectral",),
    )
    sample_prompts: tuple[str, ...] = setting(
        ("a photo of {each}", "{beside} on the beach", "a photo of {beside}"),
        label="Sample prompts",
        help="Drawn again and again while it learns. {all} and {beside} name the subjects together, {each} one by one.",
        low=1,
        high=6,
        group="samples",
    )

    @property
    def sample_negative_prompt(self) -> str:
        """The negative prompt, by default against visible seams."""
        return self.negative_prompt

    @property
    def usage_prompt(self) -> str:
        """The last sample prompt, which shows the subjects together."""
        return self.sample_prompts[-1]

    def trained_values(self, size: "Size") -> float:
        """Return the number of trained values in millions."""
        if self.weights == "full":
            return size.unet_values
        if self.weights == "lora":
            text = self.text_encoder_rank * size.text_rank_values if self.text_encoder else 0.0
            return self.rank * size.rank_values[self.targets] + text
        return (size.shifts["UNet"][0] + (size.text_shifts[0] if self.text_encoder else 0)) / 1e6

    def decomposition_mb(self, size: "Size") -> float:
        """Return the size in MB of the singular vectors of the trained weights, where there are any."""
        if self.weights != "spectral":
            return 0.0
        return size.factors_mb["UNet"] + (size.text_factors_mb if self.text_encoder else 0.0)


@dataclass(frozen=True)
class ImageEditConfig(TextEncoderConfig, TrainConfig):
    """Single-image editing (SVDiff, section 3.5): spectral shifts learn one photograph with a plain caption, λ = 0."""

    caption: str = setting(
        "a photo",
        label="Caption",
        help="What the photograph shows, in plain words; no trigger word.",
        advanced=False,
    )
    subset: str = setting(
        "UNet",
        label="Trained weights",
        help="The paper's subsets; CA is cross-attention, KV its keys and values, 1D, 2D, 4D the weights' dimensions.",
        choices=SPECTRAL_SUBSETS,
        group="adapter",
    )
    norm_learning_rate: float = setting(
        1e-6,
        label="Norm learning rate",
        help="Learning rate of the norm layers' gains, with the same schedule.",
        low=1e-9,
        high=1e-1,
        group="optimizer",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.caption:
            raise ValueError(
                "The caption is empty; describe the photograph in plain words, then train again."
            )

    @property
    def usage_prompt(self) -> str:
        """The caption."""
        return self.caption

    def words(self, template: str) -> str:
        """Return a prompt with the caption filled in."""
        return template.replace("{caption}", self.caption)

    def trained_values(self, size: "Size") -> float:
        """Return the number of trained shifts in millions."""
        return (size.shifts[self.subset][0] + (size.text_shifts[0] if self.text_encoder else 0)) / 1e6

    def decomposition_mb(self, size: "Size") -> float:
        """Return the size in MB of the singular vectors of the trained weights."""
        return size.factors_mb[self.subset] + (size.text_factors_mb if self.text_encoder else 0.0)


EDIT_STRIP = (0.0, 0.25, 0.5, 0.75, 1.0)  # values of "Keep or change" that are shown side by side
INVERTED_WITH = ("the edited caption", "the caption")


@dataclass(frozen=True)
class EditConfig(Checked):
    """How a photograph is edited with the run that learned it."""

    prompt: str = setting(
        "",
        label="Edited caption",
        help="The caption, changed to what the picture should show.",
        advanced=False,
    )
    change: float = setting(
        0.0,
        label="Keep or change",
        help="0 keeps the structure of the photograph, 1 starts from fresh noise.",
        low=0,
        high=1,
        step=0.05,
        advanced=False,
    )
    inverted_with: str = setting(
        INVERTED_WITH[0],
        label="Invert with",
        help="The words during the inversion. The paper uses the edited caption; then guidance 1 changes nothing.",
        choices=INVERTED_WITH,
    )
    guidance_scale: float = setting(
        3.0,
        label="Guidance",
        help="How strongly the edited caption is followed.",
        low=1,
        high=15,
        step=0.5,
    )
    steps: int = setting(
        25,
        label="Steps",
        help="Steps of the inversion and of the sampling; more steps reproduce the photograph better.",
        low=2,
        high=150,
        step=1,
    )
    negative_prompt: str = setting("", label="Negative prompt", help="What the picture should not show.")
    seed: int = setting(0, label="Seed", help="The seed of the fresh noise.", low=0, high=MAX_SEED, step=1)


MIX_STRIP = (0.0, 0.25, 0.5, 0.75, 1.0)  # from the first run alone to the second alone


@dataclass(frozen=True)
class MixConfig(Checked):
    """The proportions of two runs in a mix (SVDiff, section 3.3): addition, interpolation, style mixing by layers."""

    first: float = setting(
        0.5, label="First run", help="The share of the first run.", low=0, high=1.5, step=0.05, advanced=False
    )
    second: float = setting(
        0.5,
        label="Second run",
        help="The share of the second run.",
        low=0,
        high=1.5,
        step=0.05,
        advanced=False,
    )
    split: float = setting(
        0.0,
        label="Layer split",
        help="0 mixes all layers alike; at 1 the first run gives the geometry and the second the appearance.",
        low=0,
        high=1,
        step=0.05,
        advanced=False,
    )

    def at(self, key: str) -> tuple[float, float]:
        """Return the weights of both runs at a layer such as "unet.mid_block.attentions.0.proj_in"."""
        rest = 1.0 - self.split
        if f"{key}.".startswith(GEOMETRY_LAYERS):
            return self.first, self.second * rest
        return self.first * rest, self.second

    def between(self, share: float) -> "MixConfig":
        """Return the interpolation from the first run alone (0) to the second alone (1), with this layer split."""
        return MixConfig(first=1.0 - share, second=share, split=self.split)


@dataclass(frozen=True)
class TextualInversionConfig(SubjectConfig):
    """Textual inversion: only the embedding of the identifier is trained."""

    retired: ClassVar[
        Mapping[str, tuple[Any, ...]]
    ] = {  # saved by version 0.1, which did not let the user change them
        "text_encoder": (True,),
        "prior_preservation": (False,),
        "prior_weight": (),
        "class_images": (),
    }

    initializer: str = setting(
        "",
        label="Initial word",
        help="Word whose embedding the trigger word starts from; empty: the class word.",
        group="adapter",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.identifier:
            raise ValueError("Textual inversion needs a trigger word; enter one.")

    @property
    def text_encoder_is_live(self) -> bool:
        """Always true: the trained embedding is the input of the text encoder."""
        return True

    def trained_values(self, size: "Size") -> float:
        """Return the number of trained values in millions: one vector for each token."""
        return len(self.identifier.split()) * size.word_values


CLORA_TARGETS = ("cross-attention-kv", "cross-attention", "attention", "attention+conv")


@dataclass(frozen=True)
class CLoRAConfig(PriorConfig, SubjectConfig):
    """C-LoRA: concepts are learned one after another, and each is kept from overwriting the earlier ones."""

    instance_prompt: str = setting(
        "a photo of {identifier}",
        label="Photo prompt",
        help="Caption of photographs without their own caption. Without the class word, which every new concept would "
        "change.",
        group="data",
    )
    rank: int = setting(
        16,
        label="Rank",
        help="Rank of each concept's LoRA; higher ranks store more detail.",
        low=1,
        high=128,
        step=1,
        group="adapter",
        needs=("weights=lora",),
    )
    weights: str = setting(
        "lora",
        label="What is trained",
        help="lora: a LoRA of each concept; full: every entry of the trained layers, as Custom Diffusion; token: only the "
        "concept's word, as textual inversion.",
        choices=("lora", "full", "token"),
        group="adapter",
    )
    targets: str = setting(
        CLORA_TARGETS[0],
        label="Trained layers",
        help="The paper trains the keys and values of cross-attention; more layers store more of a concept and forget "
        "sooner.",
        choices=CLORA_TARGETS,
        group="adapter",
    )
    forgetting_weight: float = setting(
        1.0,
        label="Self-regularization",
        help="Weight of the term that keeps a concept off the weights that earlier concepts changed; 0: plain sequential "
        "LoRA.",
        low=0,
        high=1e6,
        group="optimizer",
    )
    token_learning_rate: float = setting(
        5e-4,
        label="Token learning rate",
        help="Learning rate of the concept's token, with the same schedule.",
        low=1e-9,
        high=1e-1,
        group="optimizer",
    )
    initializer: str = setting(
        "",
        label="Initial word",
        help="Word whose embedding the token starts from; empty: random, as in the paper.",
        group="adapter",
    )
    replay_images: int = setting(
        0,
        label="Replayed pictures",
        help="Generative replay: the earlier model draws this many pictures of each earlier concept, and half of the "
        "training is on them; 0: off.",
        low=0,
        high=64,
        step=1,
        group="data",
    )
    detach_start: bool = setting(
        False,
        label="Detach the start token",
        help="The start token's keys and values get no gradient, as in Custom Diffusion.",
        group="adapter",
    )
    learning_rate: float = setting(
        5e-4,
        label="Learning rate",
        help="Step size of the optimizer.",
        low=1e-7,
        high=1e-1,
        group="optimizer",
    )
    sample_prompts: tuple[str, ...] = setting(
        ("a photo of {identifier}", "a photo of {identifier} on the beach"),
        label="Sample prompts",
        help="Prompts of the samples generated during training, one per line.",
        low=1,
        high=6,
        group="samples",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.identifier:
            raise ValueError("A concept needs a trigger word; enter one.")
        if self.weights == "full" and self.targets == CLORA_TARGETS[-1]:
            raise ValueError(
                "Every entry of all attention and convolution layers is too much for each concept; "
                "train fewer layers, or a LoRA."
            )

    @property
    def text_encoder_is_live(self) -> bool:
        """Always true: the trained token is an input of the text encoder."""
        return True

    def trained_values(self, size: "Size") -> float:
        """Return the number of trained values of one concept in millions: its change of the UNet and its token."""
        change = {
            "lora": self.rank * size.rank_values[self.targets],
            "full": size.dense_values[self.targets],
            "token": 0.0,
        }
        return change[self.weights] + len(self.identifier.split()) * size.word_values


@dataclass(frozen=True)
class W2WInversionConfig(SubjectConfig):
    """w2w inversion: one photograph is turned into the coordinates of a weight space (2406.09413, section 3.4)."""

    space: str = setting(
        "faces", label="Weight space", help="The space whose coordinates are trained.", group="adapter"
    )
    components: int = setting(
        0,
        label="Components",
        help="Number of trained leading coordinates; 0: all. Fewer suit drawings, which are far from the population.",
        low=0,
        high=20_000,
        step=1,
        group="adapter",
    )
    distance_weight: float = setting(
        0.0,
        label="Distance weight",
        help="Loss weight of the squared distance from the population's mean, in its standard deviations.",
        low=0,
        high=10,
        group="optimizer",
    )

    def trained_values(self, size: "Size") -> float:
        """Return the number of trained values in millions: one per coordinate."""
        return (self.components or MOST_COMPONENTS) / 1e6
