"""The measures of a result in one table: what each one means, and whether a higher or a lower value is better.

Does not import torch. The scores themselves are computed in :mod:`pipelines.evaluation.metrics`.
"""

from dataclasses import dataclass
from typing import Literal

ARROWS = {"high": "↑", "low": "↓", "": ""}


@dataclass(frozen=True)
class Measure:
    """One measure: its label, an explanation, whether a "high" or a "low" value is better (""), and the text of an axis."""

    short: str
    help: str
    better: Literal["high", "low", ""] = ""
    axis: str = ""

    @property
    def label(self) -> str:
        """The label with an arrow to the better values: "DINO ↑"."""
        return " ".join([self.short, ARROWS[self.better]]).strip()


DINO = "Mean cosine between the generated pictures and the photographs, by DINO's image encoder (1: the same picture)."
CLIP_I = "Mean cosine between the generated pictures and the photographs, by CLIP's image encoder."
CLIP_T = (
    "Mean cosine between each picture and its prompt, by CLIP. The trigger word is left out, since CLIP does not "
    "know it."
)
PRES = (
    "How similar pictures of the plain class, without the trigger word, are to the photographs. A high value means that "
    "the class has turned into the subject (Ruiz et al. 2022)."
)
DRIFT = "PRES minus the same score of the untouched base from the same noise: what the training added."
DIV = "Mean perceptual distance between pictures of one prompt; 0 means that all seeds give the same picture."

IDENTITY = "Similarity to the photographs on a scale: 0 is the untouched base, 1 the photographs."
STYLE = "Similarity to the style on a scale: 0 is the untouched base, 1 the pictures of the style."
LIKENESS = (
    "Similarity of the newest samples to the photographs on a scale: 0 is the base before the training, 1 the photographs "
    "among each other."
)

MEASURES: dict[str, Measure] = {
    "dino": Measure("DINO", DINO, "high", "similarity to the photographs, by DINO"),
    "clip_i": Measure("CLIP-I", CLIP_I, "high"),
    "clip_t": Measure("CLIP-T", CLIP_T, "high", "similarity to the prompt, by CLIP"),
    "pres": Measure("PRES", PRES, "low"),
    "drift": Measure("PRES drift", DRIFT, "low"),
    "div": Measure("DIV", DIV, "high"),
    "identity": Measure("Identity", IDENTITY, "high", "0: untouched base, 1: the photographs"),
    "style": Measure("Style", STYLE, "high", "0: untouched base, 1: the pictures of the style"),
    "likeness": Measure("Likeness", LIKENESS, "high"),
    "alike": Measure(
        "Alike", "Mean cosine between the pictures, by the identity encoder; 1 is the same person.", "high"
    ),
    "forgetting": Measure(
        "Average forgetting",
        "How much lower the similarity of a concept is after the last task than at its best, averaged over the earlier "
        "concepts; 0 is no forgetting.",
        "low",
    ),
    "trainable": Measure("Trained", "Number of trained values.", "low"),
    "bytes": Measure("File", "Size of the adapter's file.", "low"),
    "seconds": Measure("Time", "From the start of the run to the finished file.", "low"),
    "character_seconds": Measure("Character, time", "Time of the training steps of the character."),
    "style_seconds": Measure("Style, time", "Time of the training steps of the style."),
}
