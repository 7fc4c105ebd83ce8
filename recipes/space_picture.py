"""Draw the person that the page shows first: ``python -m recipes.space_picture FOLDER``, with a space in the folder."""

import argparse
from pathlib import Path

from pipelines.adapters import Subspace
from pipelines.config import SampleConfig
from pipelines.models.base import Base, load_base
from pipelines.sampling.sample import sample
from pipelines.services.identity_space import FIRST, FIRST_PICTURE, FIRST_SAMPLER
from pipelines.weightspace import explore
from pipelines.weightspace.space import Space


def draw_first(folder: Path, base: Base) -> Path:
    """Write the picture of a space's first person beside its files and return its path."""
    space = Space.open(folder)
    space.check_base(base)
    beta = explore.sample(space, seed=FIRST, sampler=FIRST_SAMPLER)
    drawn = sample(base, [(Subspace.of(space, beta=beta), 1.0)], SampleConfig(prompt=space.manifest.prompt))
    path = folder / FIRST_PICTURE
    drawn.images[0].save(path)
    return path


def main() -> None:
    """Draw the picture of one space."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--base", default="embedded")
    args = parser.parse_args()
    draw_first(args.folder, load_base(args.base))


if __name__ == "__main__":
    main()
