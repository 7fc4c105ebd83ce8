"""Around a finished run, on the real base: its pictures are made again to the bit, its settings repeat it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from pipelines.base import Base
from pipelines.config import DreamBoothConfig, SampleConfig, from_dict
from pipelines.studio import Studio
from pipelines.workshop import Workshop

PATIENCE_S = 240
TINY = DreamBoothConfig(
    steps=2,
    learning_rate=1e-2,
    identifier="zwx",
    class_noun="dog",
    rank=2,
    prior_preservation=False,
    sample_prompts=("a photo of a {identifier} {class_noun}",),
    sample_steps=2,
    measure=False,
)
PICTURE = SampleConfig(prompt="a photo of a {identifier} {class_noun}", steps=2, seed=5, scheduler="Euler a")


@pytest.fixture(scope="module")
def photo_paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    for index, colour in enumerate(("firebrick", "seagreen")):
        picture = Image.new("RGB", (160, 140), "wheat")
        ImageDraw.Draw(picture).ellipse((20 + 10 * index, 20, 110, 120), fill=colour)
        picture.save(folder / f"photo-{index}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory, base: Base) -> Iterator[Studio]:
    shop = Workshop()
    shop._bases["embedded"] = base
    studio = Studio(tmp_path_factory.mktemp("data"), workshop=shop)
    yield studio
    studio.close()


@pytest.fixture(scope="module")
def run_id(studio: Studio, photo_paths: list[Path]) -> str:
    """A finished run that the tests here leave as it is."""
    run_id = studio.start("dreambooth", TINY, photo_paths, name="Rex")
    assert studio.wait(run_id, PATIENCE_S) == "done", studio.status(run_id)["error"]
    return run_id


def pixels(path: Path) -> bytes:
    with Image.open(path) as picture:
        return picture.convert("RGB").tobytes()


def draw_again(studio: Studio, path: Path) -> Path:
    told = studio.recall(path)
    (layer,) = told["stack"] or [{"run": None, "strength": 1.0}]
    config = from_dict(SampleConfig, told["sample"])
    (drawn,) = studio.generate(config, run_id=layer["run"], strength=layer["strength"], base=told["base"])
    return drawn


def test_every_picture_is_drawn_again_from_what_it_tells(studio: Studio, run_id: str) -> None:
    before, second, after, _ = studio.generate(
        replace(PICTURE, count=2), run_id=run_id, strength=0.7, before_after=True
    )
    assert studio.recall(before)["stack"] == []
    assert studio.recall(second)["sample"]["seed"] == 6
    samples = sorted((studio.store.get(run_id).path / "samples").glob("*.png"))
    for path in (before, second, after, samples[0], samples[-1]):
        assert pixels(draw_again(studio, path)) == pixels(path), path.name
    assert pixels(before) != pixels(after)
