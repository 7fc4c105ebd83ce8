"""Style training pictures of many subjects: ``python -m recipes.style_pictures`` makes the shipped ones.

Their styles are not in the base's training data. Captions describe the content of a picture but not its style, which
is left to the style's trigger word.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from pipelines.experiments.styles import CAPTIONS, SHIPPED_STYLES, style_folder
from recipes import world
from recipes.captions import SCENE_PHRASES

PICTURES = 12
SEED = world.HELD_OUT_FROM + 7_000


def style_pictures(style: str, folder: Path, *, count: int = PICTURES) -> dict[Path, str]:
    """Render ``count`` pictures, cycling through all kinds and scenes, and return each file with its caption.

    Raises ValueError for an unknown style.
    """
    if style not in world.STYLES:
        raise ValueError(f"There is no style {style[:40]!r}; choose one of {', '.join(world.STYLES)}.")
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(SEED + world.STYLES.index(style))
    told = {}
    for index in range(count):
        kind = world.KINDS[index % len(world.KINDS)]
        scene = world.SCENES[index % len(world.SCENES)]
        picture = world.sample_picture(rng, world.Choice(kind=kind, scene=scene, style=style))
        picture = replace(picture, placed=picture.placed[:1])  # the caption describes one subject only
        path = folder / f"{style.replace(' ', '-')}-{index:02d}.png"
        world.draw(picture).save(path)
        told[path] = f"a picture of a {kind} {SCENE_PHRASES[scene][0]}"
    return told


def main() -> None:
    """Write the shipped pictures as lossless WebP, with their captions."""
    shutil.rmtree(SHIPPED_STYLES, ignore_errors=True)
    for style in world.UNSEEN_STYLES:
        folder = style_folder(style)
        captions = {}
        for path, caption in style_pictures(style, folder).items():
            shipped = path.with_name(f"{path.stem[-2:]}.webp")
            with Image.open(path) as picture:
                picture.save(shipped, lossless=True, quality=100, method=6)
            path.unlink()
            captions[shipped.name] = caption
        told = json.dumps(captions, indent=1) + "\n"
        (folder / CAPTIONS).write_text(told, encoding="utf-8")
        print(
            f"{style}: {len(captions)} pictures, {sum(each.stat().st_size for each in folder.iterdir())} bytes"
        )


if __name__ == "__main__":
    main()
