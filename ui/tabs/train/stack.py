"""The part of the playground where a run meets another one, and where each of its blocks has a weight of its own."""

from collections.abc import Mapping
from typing import Any

import gradio as gr

from pipelines.config import SampleConfig
from pipelines.unet_blocks import BLOCKS, PARTS, BlockStrengths
from ui import forms as form
from ui.html import Html, element
from ui.run import panels
from ui.run.monitor import EMPTY_UNET_MAP, RunMonitor, Values
from ui.run.unet_diagram import unet_map

FIELDS = ("blocks", "second", "second_strength", "second_blocks")  # what a picture takes from here
OWN = "your own"
CHOICES = [
    ("The whole adapter", "all"),
    *((f"Only the {part} blocks: {', '.join(PARTS[part])}", part) for part in PARTS if part != "all"),
    ("Weights of your own", OWN),
]


def lay_out() -> dict[str, Any]:
    """Create the widgets, in the current Blocks context, under their names."""
    named: dict[str, Any] = {}
    with gr.Accordion("Block weights and a second run", open=False, elem_id="stacking") as named["stacking"]:
        named["part"] = gr.Dropdown(CHOICES, value="all", label="Blocks to apply")
        named["blocks"] = gr.Textbox(
            label="Block weights",
            info="9 values (In0 to In3, Mid, Out0 to Out3), 17 or 26 of A1111, 25 of kohya; empty is 1 for all.",
            max_lines=2,
        )
        named["elsewhere"] = gr.HTML("")
        named["second"] = gr.Dropdown(
            [("None", "")], value="", label="A second run", info="A style for your character, for example."
        )
        named["second_strength"] = gr.Slider(
            0,
            2.0,
            value=1.0,
            step=0.05,
            label="Strength of the second run",
            info="Multiplies its block weights.",
        )
        named["second_blocks"] = gr.Textbox(label="Block weights of the second run", max_lines=2)
        named["ask_blocks"] = gr.Button("Which blocks make the picture?", size="md")
        named["unet_map"] = gr.HTML(panels.hint(EMPTY_UNET_MAP), elem_id="unet-map")
    return named


class Layers:
    """Puts a stack together, bound to the monitor whose run is shown."""

    def __init__(self, monitor: RunMonitor) -> None:
        self.monitor = monitor
        self.studio = monitor.studio

    def open(self, second: str | None) -> Values:
        """Offer the runs there are; one that is gone is let go."""
        choices = [("None", ""), *self.monitor.run_choices()]
        known = {run_id for _, run_id in choices}
        return {"second": gr.update(choices=choices, value=second if second in known else "")}

    def choose_part(self, part: str) -> Values:
        """Fill in the weights of a part of the UNet."""
        if part == OWN:
            return {}
        weights = ",".join(str(int(name in PARTS[part])) for name in BLOCKS)
        return {"blocks": "" if part == "all" else weights}

    def elsewhere(self, blocks: str) -> Values:
        """Show the weights as other programs write them; nothing for none, or for what is no list yet."""
        try:
            lists = BlockStrengths.parse(blocks).elsewhere() if blocks.strip() else {}
        except ValueError:
            lists = {}
        rows = [element("li", f"{name}: ", element("code", text)) for name, text in lists.items()]
        return {"elsewhere": element("ul", *rows, class_="hint") if rows else Html("")}

    def contributions(self, shown: str, progress: Any, **fields: Any) -> Values:
        """Silence one block after the other, and draw how much of the picture each of them makes."""
        if not shown:
            raise ValueError("Choose an example or train your own subject first.")
        found = self.studio.generation.contributions(
            shown, form.parse(SampleConfig, fields), progress=_told(progress)
        )
        told = f"Mean change of a pixel, of 1, when a block is silenced; seed {found['seed']}."
        drawn = unet_map(found["values"], title="Which blocks make the picture", told=told)
        return {"drawn": {"result": [shown]}, "unet_map": drawn}


def stack(
    shown: str,
    strength: float,
    *,
    blocks: str,
    second: str | None,
    second_strength: float,
    second_blocks: str,
) -> list[dict[str, Any]]:
    """Return the layers of a picture as ``Studio.generation.generate`` takes them."""
    layers = [{"run": shown, "strength": float(strength), "blocks": blocks or ""}]
    if second:
        layers.append({"run": second, "strength": float(second_strength), "blocks": second_blocks or ""})
    return layers


def recalled(layers: list[Mapping[str, Any]]) -> Values:
    """Return what a recalled picture had in these fields."""
    first, second = [*layers, {}, {}][:2]
    return {
        "part": OWN if first.get("blocks") else "all",
        "blocks": shortest(first.get("blocks", "")),
        "second": gr.update(
            choices=[("None", ""), *([(second["name"], second["run"])] if second else [])],
            value=second.get("run", ""),
        ),
        "second_strength": second.get("strength", 1.0),
        "second_blocks": shortest(second.get("blocks", "")),
        "unet_map": panels.hint(EMPTY_UNET_MAP),
    }


def shortest(blocks: str) -> str:
    """Return a list of block weights as the nine of our blocks where they can say it."""
    if not blocks:
        return ""
    try:
        return BlockStrengths.parse(blocks).format(9)
    except ValueError:
        return blocks


def _told(progress: Any) -> Any:
    def tell(done: int, total: int) -> None:
        progress((done, total), desc="Silencing one block after the other", unit="pictures")

    return tell
