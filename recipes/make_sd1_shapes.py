"""Write the shapes of Stable Diffusion 1.x's weights: ``python -m recipes.make_sd1_shapes``.

What a run will cost is computed from them where no weights are on this machine.
"""

import json
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

OUT = Path(__file__).resolve().parent.parent / "assets" / "sd1_config"


def shapes() -> dict[str, dict[str, list[int]]]:
    """Return for each part, "unet" and "text_encoder", the shape of every weight by its name in the part's file."""
    told = {part: json.loads((OUT / part / "config.json").read_text()) for part in ("unet", "text_encoder")}
    with torch.device("meta"):
        parts: dict[str, torch.nn.Module] = {
            "unet": UNet2DConditionModel.from_config(told["unet"]),
            "text_encoder": CLIPTextModel(CLIPTextConfig(**told["text_encoder"])),
        }
    return {
        name: {key.removeprefix("text_model."): list(weight.shape) for key, weight in part.named_parameters()}
        for name, part in parts.items()
    }


def main() -> None:
    """Write one file for each part, a weight in each line."""
    for part, named in shapes().items():
        lines = ",\n".join(
            f"{json.dumps(name)}: {json.dumps(shape)}" for name, shape in sorted(named.items())
        )
        (OUT / f"{part}_shapes.json").write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
        print(f"{len(named)} weights in {part}_shapes.json")


if __name__ == "__main__":
    main()
