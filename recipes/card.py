"""The model card of the embedded base."""

import json
import math
from pathlib import Path
from typing import Any

from safetensors import safe_open

from recipes.picture import TOLD

_ROWS = (
    ("vae_psnr_renders_db", "Autoencoder, held-out renders", "dB PSNR"),
    ("vae_psnr_photographs_db", "Autoencoder, real photographs", "dB PSNR"),
    ("right_kind_percent", "Generated after held-out captions: right class", "%"),
    ("right_scene_percent", "... right scene (where the caption names it)", "%"),
    ("named_attributes_percent", "... named attributes", "%"),
    ("clip_kind_percent", "Small CLIP, zero-shot class on reconstructed renders", "%"),
    ("clip_scene_percent", "Small CLIP, zero-shot scene on reconstructed renders", "%"),
    ("identity_1_of_100_mixed_percent", "Identity encoder, 1 of 100, all kinds, other scene and pose", "%"),
    ("identity_1_of_100_people_percent", "Identity encoder, 1 of 100 people, other scene and pose", "%"),
    ("reader_attributes_percent", "Parameter reader, nameable attributes", "%"),
    ("distance", "Fréchet distance to held-out renders that went through the autoencoder", ""),
    ("both_kinds_percent", "Two side by side: both kinds found where they should stand", "%"),
    ("sharpness", "Differences between neighbouring pixels, as a share of the renders'", ""),
    ("picture_seconds", "One picture, 25 steps with guidance, on the machine that measured", "s"),
)

_TEXT = """\
# Atelier's embedded base

Stable Diffusion 1.x in small: the same classes, the same folder layout and the same 686 UNet tensor names, 128 x 128
pixels, 4 x 16 x 16 latents. It ships with the app so that everything works with no download and no GPU.

- **UNet** {parameters} M parameters, widths {widths}, two layers per block, 2 heads; **text encoder** `CLIPTextModel`,
  3 layers of width 128, trained jointly; **autoencoder** `AutoencoderKL`, factor 8, 1.5 M parameters; a byte-pair
  vocabulary of its own, context of 40 tokens; the noise schedule of Stable Diffusion 1.x, epsilon prediction.
- **Made of** pictures drawn by `recipes/world.py` alone: people, dogs, cats, plush toys, teapots, towers and bridges in
  ten scenes out of focus, five lights and three styles. Captions name the kind, the scene, the light, what is worn and
  a few attributes ({told}); everything else varies without being named. The
  autoencoder also saw crops of photographs that ship inside scikit-image and scikit-learn. No picture of a real person
  was used.
- **Made by** `python -m recipes.train_base` (resumable, seeded, two CPU cores are enough). The UNet of this release has
  had {unet_steps} updates of 64 pictures. It started from an earlier, narrower base of 17,200 updates.
- Beside it, in `assets/instruments`: a small CLIP, an identity encoder and a parameter reader. They measure, and were
  never used to train the base.

## Figures

`python -m recipes.train_base --stage evaluate --photos <folder>` on worlds no training picture comes from
(guidance {guidance_scale}, DPM++ 2M Karras, 25 steps, {captions} captions):

| what | this base | the base before | the illustrator's own pictures |
|---|---|---|---|
{rows}
{progress}
![Left: drawn by the illustrator. Right: drawn by the base after the same captions.](sheet.png)

## Limits

- It knows the illustrated world and nothing else; words outside its captions mean little to it.
- 128 pixels, and an autoencoder that keeps shapes and colours but no fine texture: a photograph survives as an
  impression.
- Adapters trained on it fit this base only.
"""


def write_card(folder: Path, figures: dict[str, Any]) -> None:
    """Write ``README.md`` and ``figures.json`` into the base's folder.

    ``figures["earlier"]`` and ``figures["renders"]`` hold the scores of another base and of the renderer's pictures,
    ``figures["progress"]`` the scores during training.
    """
    unet = json.loads((folder / "unet" / "config.json").read_text())
    text = _TEXT.format(
        rows=_table(figures),
        progress=_progress(figures.get("progress", [])),
        guidance_scale=figures["guidance_scale"],
        captions=figures["captions"],
        unet_steps=f"{figures['unet_steps']:,}",
        parameters=_millions(folder / "unet"),
        widths=tuple(unet["block_out_channels"]),
        told="; ".join(f"{kind}: {', '.join(names)}" for kind, names in TOLD.items()),
    )
    (folder / "README.md").write_text(text)
    (folder / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")


def _table(figures: dict[str, Any]) -> str:
    """Return a table with one row per figure; cells without a measurement are empty."""
    columns = (figures, figures.get("earlier", {}), figures.get("renders", {}))
    return "\n".join(
        f"| {label} | "
        + " | ".join(f"{column[key]} {unit}".strip() if key in column else "" for column in columns)
        + " |"
        for key, label, unit in _ROWS
        if key in figures
    )


def _progress(rows: list[dict[str, float]]) -> str:
    """Return a table of the scores after fewer training pictures, which shows whether more would still help."""
    if not rows:
        return ""
    lines = [
        f"| {row['pictures']:,} | {row['distance']} | {row['both_kinds_percent']} % | {row['sharpness']} | "
        f"{row['named_attributes_percent']} % |"
        for row in rows
    ]
    head = "| pictures seen | distance | two subjects | sharpness | named attributes |\n|---|---|---|---|---|"
    return (
        f"\nWhile it was trained, on {rows[-1]['captions']} captions:\n\n{head}\n" + "\n".join(lines) + "\n"
    )


def _millions(folder: Path) -> float:
    """Return the parameter count, in millions, of the safetensors files in ``folder``."""
    count = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            count += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    return round(count / 1e6, 1)
