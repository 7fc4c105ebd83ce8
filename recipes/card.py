"""The model card of the embedded base."""

import json
from pathlib import Path

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
    ("picture_seconds", "One picture, 25 steps with guidance, on the machine that measured", "s"),
)

_TEXT = """\
# Atelier's embedded base

Stable Diffusion 1.x in small: the same classes, the same folder layout and the same 686 UNet tensor names, 128 x 128
pixels, 4 x 16 x 16 latents. It ships with the app so that everything works with no download and no GPU.

- **UNet** 4.4 M parameters, widths (32, 64, 80, 80), two layers per block, 2 heads; **text encoder** `CLIPTextModel`,
  3 layers of width 128, trained jointly; **autoencoder** `AutoencoderKL`, factor 8, 1.5 M parameters; a byte-pair
  vocabulary of its own, context of 40 tokens; the noise schedule of Stable Diffusion 1.x, epsilon prediction.
- **Made of** pictures drawn by `recipes/world.py` alone: people, dogs, cats, plush toys, teapots, towers and bridges in
  ten scenes, five lights and three styles. The autoencoder also saw crops of photographs that ship inside scikit-image
  and scikit-learn. No picture of a real person was used.
- **Made by** `python -m recipes.train_base` (resumable, seeded, two CPU cores are enough); the UNet of this release has
  had {unet_steps} updates.
- Beside it, in `assets/instruments`: a small CLIP, an identity encoder and a parameter reader. They measure, and were
  never used to train the base.

## Figures

`python -m recipes.train_base --stage evaluate --photos <folder>` on worlds no training picture comes from
(guidance {guidance_scale}, DPM++ 2M Karras, 25 steps, {captions} captions):

| what | measured |
|---|---|
{rows}

![Left: drawn by the illustrator. Right: drawn by the base after the same captions.](sheet.png)

## Limits

- It knows the illustrated world and nothing else; words outside its captions mean little to it.
- 128 pixels, and an autoencoder that keeps shapes and colours but no fine texture: a photograph survives as an
  impression.
- Adapters trained on it fit this base only.
"""


def write_card(folder: Path, figures: dict[str, float]) -> None:
    """Write ``README.md`` and ``figures.json`` into the base's folder."""
    rows = "\n".join(f"| {label} | {figures[key]} {unit} |" for key, label, unit in _ROWS if key in figures)
    text = _TEXT.format(
        rows=rows,
        guidance_scale=figures["guidance_scale"],
        captions=figures["captions"],
        unet_steps=figures["unet_steps"],
    )
    (folder / "README.md").write_text(text)
    (folder / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
