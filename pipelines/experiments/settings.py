"""What can be asked of an experiment: the settings of both kinds. Nothing here needs torch."""

from dataclasses import dataclass
from typing import Any

from pipelines.config import MAX_SEED, Checked, setting

SUBJECT, STYLE = "{subject}", "{style}"  # what each row fills in with words of its own
SCENES = ("on the beach", "in the forest", "in the library")


@dataclass(frozen=True)
class ExperimentConfig(Checked):
    """What every experiment has: how its runs learn, and what they are asked to draw."""

    preset: str = setting(
        "Quick",
        label="Preset",
        help="Of each method; where a method has none of that name, its first.",
        advanced=False,
    )
    prompts: tuple[str, ...] = setting(
        (f"a photo of a {SUBJECT}", *(f"a photo of a {SUBJECT} {scene}" for scene in SCENES)),
        label="Prompts",
        help="One per line; {subject} becomes each row's own words.",
        low=1,
        high=8,
    )
    seeds: int = setting(
        2, label="Seeds per prompt", help="Pictures of each prompt; variety needs two.", low=1, high=8, step=1
    )
    seed: int = setting(
        0,
        label="First seed",
        help="The same for all, in training and in drawing.",
        low=0,
        high=MAX_SEED,
        step=1,
    )
    sample_steps: int = setting(
        20, label="Steps of a picture", help="Denoising steps of what is measured.", low=1, high=100, step=1
    )
    steps: int = setting(
        0, label="Training steps", help="Of every run; 0 is the preset's own.", low=0, high=20_000, step=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for prompt in self.prompts:
            if SUBJECT not in prompt:
                raise ValueError(
                    f"The prompt {prompt[:60]!r} has no {SUBJECT} in it, so it could not show the subject; put it in."
                )


@dataclass(frozen=True)
class MethodsConfig(ExperimentConfig):
    """Which method: every way to learn one subject, on the same photographs."""

    methods: tuple[str, ...] = setting(
        (),
        label="Methods",
        help="Those that are compared; none chosen is all of them.",
        high=8,
        advanced=False,
    )
    snapshots: int = setting(
        3,
        label="Earlier states",
        help="Of each run, evenly along it, that are measured, too.",
        low=0,
        high=8,
        step=1,
    )


@dataclass(frozen=True)
class BlocksConfig(ExperimentConfig):
    """Which blocks: a character and a style, each in all blocks of the UNet or in some."""

    prompts: tuple[str, ...] = setting(
        (
            f"a picture of a {SUBJECT}{STYLE}",
            *(f"a picture of a {SUBJECT} {scene}{STYLE}" for scene in SCENES),
        ),
        label="Prompts",
        help="One per line; {subject} and {style} become each row's own words.",
        low=1,
        high=8,
    )
    rank: int = setting(16, label="Rank", help="In the blocks that are trained.", low=1, high=128, step=1)
    conv_rank: int = setting(
        8,
        label="Convolution rank",
        help="In the same blocks; 0 is a LoRA of the attention alone.",
        low=0,
        high=128,
        step=1,
    )
    character_strength: float = setting(
        1.0, label="Strength of the character", help="Where both are applied.", low=0, high=2, step=0.05
    )
    style_strength: float = setting(
        1.0, label="Strength of the style", help="Where both are applied.", low=0, high=2, step=0.05
    )


def filled(prompt: str, *, subject: str, style: str = "") -> str:
    """Return a prompt with a row's own words in it; ``style`` follows as ", qev style", "" leaves no gap."""
    return " ".join(prompt.replace(SUBJECT, subject).replace(STYLE, style).split())


CONFIGS: dict[str, type[ExperimentConfig]] = {"methods": MethodsConfig, "blocks": BlocksConfig}


def config_class(kind: Any) -> type[ExperimentConfig]:
    """Return the config class of a kind of experiment. ValueError naming those there are."""
    if kind not in CONFIGS:
        raise ValueError(f"There is no experiment {str(kind)[:40]!r}; choose one of {', '.join(CONFIGS)}.")
    return CONFIGS[kind]
