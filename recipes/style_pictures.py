"""Pictures of many subjects in one style, to learn it from: ``python -m recipes.style_pictures`` makes those that ship.

They are in the styles that the base never saw. Captions say what a picture shows and nothing of its style, which is
left to the style's own rare word.
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
    """Draw ``count`` pictures, every kind and every scene in turn, and return each file with its caption.

    Raises ValueError for a style that the illustrator does not have.
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
        picture = replace(picture, placed=picture.placed[:1])  # a caption of one subject is true
        path = folder / f"{style.replace(' ', '-')}-{index:02d}.png"
        world.draw(picture).save(path)
        told[path] = f"a picture of a {kind} {SCENE_PHRASES[scene][0]}"
    return told


def main() -> None:
    """Write the pictures that ship as lossless WebP, with their captions."""
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
