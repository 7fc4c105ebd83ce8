"""Make README's picture: ``python -m recipes.make_readme``, from the shipped examples' finished runs."""

from pathlib import Path

from PIL import Image

from pipelines.config import ASSETS
from pipelines.data.subject import stored_photos

TILE_PX = 192
GAP_PX = 8


def row_of(folder: Path) -> list[Image.Image]:
    """Return two photographs, the sample before the first step and the last two samples of one example."""
    photos = [Image.open(path) for path in stored_photos(folder / "run")[:2]]
    samples = sorted((folder / "run" / "samples").glob("*.png"))
    first, last = samples[0].name.split("-")[0], samples[-1].name.split("-")[0]
    before = [Image.open(path) for path in samples if path.name.startswith(first)][-1:]
    after = [Image.open(path) for path in samples if path.name.startswith(last)][:2]
    return [*photos, *before, *after]


def main() -> None:
    """Write ``assets/readme.png`` with one row per example."""
    rows = [row_of(path.parent) for path in sorted((ASSETS / "examples").glob("*/example.json"))[:3]]
    width = max(len(row) for row in rows) * (TILE_PX + GAP_PX) - GAP_PX
    sheet = Image.new("RGB", (width, len(rows) * (TILE_PX + GAP_PX) - GAP_PX), "white")
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            tile = image.convert("RGB").resize((TILE_PX, TILE_PX), Image.Resampling.LANCZOS)
            sheet.paste(tile, (x * (TILE_PX + GAP_PX), y * (TILE_PX + GAP_PX)))
    sheet.save(ASSETS / "readme.png")


if __name__ == "__main__":
    main()
