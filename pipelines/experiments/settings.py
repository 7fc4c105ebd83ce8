"""The settings of both kinds of experiments. This module does not need torch."""

from dataclasses import dataclass
from typing import Any

from pipelines.config import MAX_SEED, Checked, setting

SUBJECT, STYLE = "{subject}", "{style}"  # placeholders that each row replaces with its own words
SCENES = ("on the beach", "in the forest", "in the library")


@dataclass(frozen=True)
class ExperimentConfig(Checked):
    """The settings of every experiment: how its runs are trained, and the prompts to measure."""

    preset: str = setting(
        "Quick",
        label="Preset",
        help="Used for each method; a method without a preset of that name uses its first one.",
        advanced=False,
    )
    prompts: tuple[str, ...] = setting(
        (f"a photo of a {SUBJECT}", *(f"a photo of a {SUBJECT} {scene}" for scene in SCENES)),
        label="Prompts",
        help="One per line; {subject} is replaced by each row's own words.",
        low=1,
        high=8,
    )
    seeds: int = setting(
        2,
        label="Seeds per prompt",
        help="Pictures per prompt; diversity (DIV) needs at least two.",
        low=1,
        high=8,
        step=1,
    )
    seed: int = setting(
        0,
        label="First seed",
        help="The same for all runs, for training and for generation.",
        low=0,
        high=MAX_SEED,
        step=1,
    )
    sample_steps: int = setting(
        20, label="Sampling steps", help="Denoising steps of the measured pictures.", low=1, high=100, step=1
    )
    steps: int = setting(
        0, label="Training steps", help="For every run; 0: as in the preset.", low=0, high=20_000, step=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for prompt in self.prompts:
            if SUBJECT not in prompt:
                raise ValueError(
                    f"The prompt {prompt[:60]!r} does not contain {SUBJECT}, so it cannot show the subject; add it."
                )


@dataclass(frozen=True)
class MethodsConfig(ExperimentConfig):
    """ "Which method?": all methods of one subject on the same photographs."""

    methods: tuple[str, ...] = setting(
        (),
        label="Methods",
        help="The methods to compare; none: all.",
        high=8,
        advanced=False,
    )
    snapshots: int = setting(
        3,
        label="Earlier states",
        help="Number of evenly spaced earlier adapters per run that are also measured.",
        low=0,
        high=8,
        step=1,
    )


@dataclass(frozen=True)
class BlocksConfig(ExperimentConfig):
    """ "Which blocks?": a character and a style, each in all blocks of the UNet or in some of them."""

    prompts: tuple[str, ...] = setting(
        (
            f"a picture of a {SUBJECT}{STYLE}",
            *(f"a picture of a {SUBJECT} {scene}{STYLE}" for scene in SCENES),
        ),
        label="Prompts",
        help="One per line; {subject} and {style} are replaced by each row's own words.",
        low=1,
        high=8,
    )
    rank: int = setting(16, label="Rank", help="LoRA rank in the trained blocks.", low=1, high=128, step=1)
    conv_rank: int = setting(
        8,
        label="Convolution rank",
        help="In the same blocks; 0: a LoRA of the attention layers only.",
        low=0,
        high=128,
        step=1,
    )
    character_strength: float = setting(
        1.0, label="Strength of the character", help="Used when both are applied.", low=0, high=2, step=0.05
    )
    style_strength: float = setting(
        1.0, label="Strength of the style", help="Used when both are applied.", low=0, high=2, step=0.05
    )


def filled(prompt: str, *, subject: str, style: str = "") -> str:
    """Replace the placeholders of a prompt by a row's words; ``style`` is, for example, ", qev style" or ""."""
    return " ".join(prompt.replace(SUBJECT, subject).replace(STYLE, style).split())


CONFIGS: dict[str, type[ExperimentConfig]] = {"methods": MethodsConfig, "blocks": BlocksConfig}


def config_class(kind: Any) -> type[ExperimentConfig]:
    """Return the config class of a kind of experiment. Raises ValueError naming the known kinds."""
    if kind not in CONFIGS:
        raise ValueError(f"There is no experiment {str(kind)[:40]!r}; choose one of {', '.join(CONFIGS)}.")
    return CONFIGS[kind]
