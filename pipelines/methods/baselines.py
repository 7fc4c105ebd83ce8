"""What C-LoRA is compared with: other ways to learn the same concepts, as settings of the same method.

Does not import torch. The page's API and ``bench.continual`` use the same table.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pipelines.config import CLoRAConfig, from_dict, to_dict
from pipelines.methods.specs import preset, preset_names

METHOD = "c_lora"
MOST_STEPS = 20_000
TAKEN = ("weights", "targets", "learning_rate", "token_learning_rate")  # of a baseline's own preset

Order = Literal["sequence", "alone", "merged", "joint"]


@dataclass(frozen=True)
class Baseline:
    """One other way to learn a sequence of concepts.

    ``order``: "sequence" trains each concept on the one before; "alone" each on the base model, and concepts are drawn
    together as a stack; "merged" as well, and then merges them in closed form; "joint" trains all of them in one run.
    ``changes`` replace the sequence's own settings, before them those of ``TAKEN`` from the preset of this name.
    """

    label: str
    order: Order = "sequence"
    changes: Mapping[str, Any] = field(default_factory=dict)
    preset: str = ""


PLAIN = {"forgetting_weight": 0.0}
BASELINES: dict[str, Baseline] = {
    "sequential": Baseline("Sequential LoRA", changes=PLAIN),
    "custom": Baseline("Sequential Custom Diffusion", changes=PLAIN, preset="Custom Diffusion"),
    "merged": Baseline("Custom Diffusion, merged", "merged", changes=PLAIN, preset="Custom Diffusion"),
    "separate": Baseline("One LoRA for each concept", "alone", changes=PLAIN),
    "replay": Baseline("Generative replay", changes={**PLAIN, "replay_images": 4}),
    "inversion": Baseline("Textual inversion", changes=PLAIN, preset="Textual inversion"),
    "noun": Baseline(
        "C-LoRA, class word in the prompt",
        changes={"instance_prompt": "a photo of a {identifier} {class_noun}"},
    ),
    "word": Baseline("C-LoRA, token from the class word", changes={"initializer": "{class_noun}"}),
    "joint": Baseline("Joint training (upper bound)", "joint", changes=PLAIN),
}


def baseline(key: Any) -> Baseline:
    """Return a baseline by its key. Raises ValueError that lists the available ones for an unknown key."""
    if key not in BASELINES:
        raise ValueError(f"There is no baseline {str(key)[:40]!r}; choose one of {', '.join(BASELINES)}.")
    return BASELINES[key]


def baseline_config(chosen: Baseline, config: CLoRAConfig, *, family: str, concepts: int) -> CLoRAConfig:
    """Return the settings of a baseline for the same concept as ``config``.

    Joint training takes as many steps for each of its ``concepts`` as the sequence.
    """
    changes = dict(chosen.changes)
    if chosen.preset in preset_names(METHOD, family):
        own = to_dict(preset(METHOD, family, chosen.preset))
        changes = {name: own[name] for name in TAKEN} | changes
    if "initializer" in changes:
        changes["initializer"] = changes["initializer"].replace("{class_noun}", config.class_noun)
    if chosen.order == "joint":
        changes["steps"] = min(MOST_STEPS, config.steps * concepts)
    return from_dict(CLoRAConfig, {**to_dict(config), **changes})


def without_past(config: CLoRAConfig) -> dict[str, Any]:
    """Return the settings of a concept that is trained on the base model, without those that need earlier concepts.

    Two runs that are alike in them are the same run, so that all methods can share that of the first concept.
    """
    return {**to_dict(config), "forgetting_weight": CLoRAConfig().forgetting_weight, "replay_images": 0}
