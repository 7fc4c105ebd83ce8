"""Pictures of many subjects in one style, to learn it from: ``python -m recipes.style_pictures --style "pixel mosaic"``.

The base never saw "stained glass" and "pixel mosaic". Captions say what a picture shows and nothing of its style, which
is left to the style's own rare word.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

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
    """Write the pictures of a style and a sheet of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--style", default=world.UNSEEN_STYLES[0], choices=world.STYLES)
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    options = parser.parse_args()
    for path, caption in style_pictures(options.style, options.out).items():
        with Image.open(path) as picture:
            print(path.name, picture.size, caption)


if __name__ == "__main__":
    main()
