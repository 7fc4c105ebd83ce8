"""The part of the playground for a second run and for block weights."""

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

FIELDS = ("blocks", "second", "second_strength", "second_blocks")  # widgets that a picture depends on
ALONE: dict[str, Any] = {"blocks": "", "second": None, "second_strength": 1.0, "second_blocks": ""}
OWN = "your own"
CHOICES = [
    ("The whole adapter", "all"),
    *((f"Only the {part} blocks: {', '.join(PARTS[part])}", part) for part in PARTS if part != "all"),
    ("Custom weights", OWN),
]


def lay_out() -> dict[str, Any]:
    """Create the widgets in the current Blocks context and return them by name."""
    named: dict[str, Any] = {}
    with gr.Accordion("Block weights and a second run", open=False, elem_id="stacking") as named["stacking"]:
        named["part"] = gr.Dropdown(CHOICES, value="all", label="Blocks to apply")
        named["blocks"] = gr.Textbox(
            label="Block weights",
            info="9 values (In0 to In3, Mid, Out0 to Out3), 17 or 26 (A1111) or 25 (kohya); empty: 1 for all.",
            max_lines=2,
        )
        named["elsewhere"] = gr.HTML("")
        named["second"] = gr.Dropdown(
            [("None", "")], value="", label="Second run", info="For example a style for your character."
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
    """Handlers of these widgets; bound to the monitor whose run is shown."""

    def __init__(self, monitor: RunMonitor) -> None:
        self.monitor = monitor
        self.studio = monitor.studio

    def open(self, second: str | None) -> Values:
        """Update the choices of the second run; a deleted run is deselected."""
        choices = [("None", ""), *self.monitor.run_choices()]
        known = {run_id for _, run_id in choices}
        return {"second": gr.update(choices=choices, value=second if second in known else "")}

    def choose_part(self, part: str) -> Values:
        """Fill in the block weights of a part of the UNet."""
        if part == OWN:
            return {}
        weights = ",".join(str(int(name in PARTS[part])) for name in BLOCKS)
        return {"blocks": "" if part == "all" else weights}

    def elsewhere(self, blocks: str) -> Values:
        """Show the weights in the formats of other programs; nothing for an empty or invalid list."""
        try:
            lists = BlockStrengths.parse(blocks).elsewhere() if blocks.strip() else {}
        except ValueError:
            lists = {}
        rows = [element("li", f"{name}: ", element("code", text)) for name, text in lists.items()]
        return {"elsewhere": element("ul", *rows, class_="hint") if rows else Html("")}

    def contributions(self, shown: str, progress: Any, **fields: Any) -> Values:
        """Disable one block at a time and show how much each changes the picture."""
        if not shown:
            raise ValueError("Choose an example or train your own subject first.")
        found = self.studio.generation.contributions(
            shown, form.parse(SampleConfig, fields), progress=_reporting(progress)
        )
        text = f"Mean pixel change (0 to 1) when a block is disabled; seed {found['seed']}."
        drawn = unet_map(found["values"], title="Which blocks make the picture", text=text)
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
    """Return the stack of a picture for ``Studio.generation.generate``."""
    layers = [{"run": shown, "strength": float(strength), "blocks": blocks or ""}]
    if second:
        layers.append({"run": second, "strength": float(second_strength), "blocks": second_blocks or ""})
    return layers


def recalled(layers: list[Mapping[str, Any]]) -> Values:
    """Return the values of these widgets for a restored picture."""
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
    """Return a list of block weights as nine values if that is possible, else unchanged."""
    if not blocks:
        return ""
    try:
        return BlockStrengths.parse(blocks).format(9)
    except ValueError:
        return blocks


def _reporting(progress: Any) -> Any:
    def report(done: int, total: int) -> None:
        progress((done, total), desc="Disabling one block after the other", unit="pictures")

    return report
