"""Operations on a finished run, with the real base: pictures are reproduced exactly, and settings repeat the run."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines import cli as command
from pipelines.config import SampleConfig, from_dict
from pipelines.models.base import Base
from pipelines.studio import Studio
from tests.tiny import TINY, draw_photos, finish, pixels, same_tensors, shop_with

PICTURE = SampleConfig(prompt="a photo of a {identifier} {class_noun}", steps=2, seed=5, scheduler="Euler a")


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory, base: Base) -> Iterator[Studio]:
    studio = Studio(tmp_path_factory.mktemp("data"), model_cache=shop_with(base))
    yield studio
    studio.close()


@pytest.fixture(scope="module")
def run_id(studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A finished run; tests must not modify it."""
    run_id = studio.training.start(
        "dreambooth", TINY, draw_photos(tmp_path_factory.mktemp("photos")), name="Rex"
    )
    assert finish(studio, run_id) == "done"
    return run_id


def draw_again(studio: Studio, path: Path) -> Path:
    told = studio.generation.recall(path)
    stack = [{name: value for name, value in layer.items() if name != "name"} for layer in told["stack"]]
    config = from_dict(SampleConfig, told["sample"])
    (drawn,) = studio.generation.generate(config, stack=stack, base=told["base"])
    return drawn


def test_every_picture_is_drawn_again_from_what_it_tells(studio: Studio, run_id: str) -> None:
    before, second, after, _ = studio.generation.generate(
        replace(PICTURE, count=2), run_id=run_id, strength=0.7, before_after=True
    )
    assert studio.generation.recall(before)["stack"] == []
    assert studio.generation.recall(second)["sample"]["seed"] == 6
    samples = sorted((studio.resources.store.get(run_id).path / "samples").glob("*.png"))
    for path in (before, second, after, samples[0], samples[-1]):
        assert pixels(draw_again(studio, path)) == pixels(path), path.name
    assert pixels(before) != pixels(after)


def test_pictures_of_a_run_that_was_trained_further(studio: Studio, tmp_path: Path) -> None:
    """A sample of a stored snapshot is reproduced with that snapshot. A missing snapshot gives an error message."""
    config = replace(TINY, steps=2, sample_every=1, snapshots=1)
    run_id = studio.training.start("dreambooth", config, draw_photos(tmp_path / "photos"), name="Bello")
    assert finish(studio, run_id) == "done"
    run = studio.resources.store.get(run_id)
    (finished,) = studio.generation.generate(PICTURE, run_id=run_id)
    middle = run.file("samples/000001-0.png")
    assert studio.generation.recall(middle)["stack"][0]["step"] == 1
    assert pixels(draw_again(studio, middle)) == pixels(middle)
    again = draw_again(studio, draw_again(studio, middle))  # it stores the snapshot, too
    assert pixels(again) == pixels(middle)
    assert pixels(draw_again(studio, finished)) == pixels(finished)

    studio.training.train_more(run_id, 1)
    assert finish(studio, run_id) == "done"
    told = studio.generation.recall(finished)
    assert "'Bello' as it was after step 2, which is not kept" in told["note"]
    assert "step" not in told["stack"][0]
    assert pixels(draw_again(studio, middle)) == pixels(middle)
    with pytest.raises(ValueError, match="keeps no state after step 7"):
        studio.generation.generate(PICTURE, stack=[{"run": run_id, "step": 7}])


def test_the_command_line_repeats_the_run(
    studio: Studio, run_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = studio.library.settings(run_id)
    (tmp_path / "run.json").write_text(json.dumps(settings))
    photos = [str(studio.resources.store.get(run_id).path / "photos" / name) for name in settings["photos"]]
    out = tmp_path / "out"
    assert command.main(["--settings", str(tmp_path / "run.json"), "--out", str(out), *photos]) == 0
    told = capsys.readouterr()
    assert told.out.endswith("done\n")
    assert "step 2/2" in told.err
    trained = studio.resources.store.get(run_id).file("adapter.safetensors")
    assert same_tensors(trained, out / "adapter.safetensors")
    assert pixels(out / "samples" / "000002-0.png") == pixels(
        studio.resources.store.get(run_id).file("samples/000002-0.png")
    )
    assert json.loads((out / "run.json").read_text())["config"] == settings["config"]


def test_a_comparison_is_made_of_the_pictures_one_would_draw_alone(studio: Studio, run_id: str) -> None:
    told: list[tuple[int, int]] = []
    found = studio.generation.compare(
        [None, run_id], across="seeds", values=[5, 6], config=PICTURE, progress=lambda *now: told.append(now)
    )
    assert told[0] == (0, 4)
    assert told[-1] == (4, 4)
    base, rex = found["cells"]
    (alone,) = studio.generation.generate(replace(PICTURE, seed=6), run_id=run_id)
    assert pixels(rex[1]) == pixels(alone) != pixels(rex[0])
    assert studio.generation.recall(base[0])["sample"]["prompt"] == "a photo of a dog"
    assert pixels(draw_again(studio, rex[1])) == pixels(rex[1])
    untouched, trained = found["rows"]
    assert untouched["run"] is None
    assert trained["trainable"] == studio.library.list_runs()[-1].trainable > 0
    assert trained["seconds"] > 0


def test_what_is_worth_knowing_of_a_picture_is_said_once(studio: Studio) -> None:
    notes: list[str] = []
    asked = SampleConfig(prompt="a b c d " * 36, steps=2)
    studio.generation.generate(asked, run_id="example-ada", before_after=True, on_note=notes.append)
    assert len(notes) == 1
    assert notes[0].startswith("The prompt is longer than the")
