"""Real tiny runs through the Studio: started, watched, interrupted, stopped, killed, resumed, used."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw
from safetensors import safe_open
from safetensors.torch import load_file

from pipelines.adapters.lora import LoRA
from pipelines.config import ASSETS, DreamBoothConfig, SampleConfig, to_dict
from pipelines.jobs.model_cache import ModelCache, TrainingSession
from pipelines.jobs.train_job import TrainJob
from pipelines.jobs.worker import Job
from pipelines.models.base import Base
from pipelines.studio import Studio
from recipes import make_examples

PATIENCE_S = 120
TINY = DreamBoothConfig(
    steps=4,
    batch_size=1,
    learning_rate=1e-3,
    identifier="zwx",
    class_noun="dog",
    rank=2,
    targets="attention",
    prior_preservation=False,
    sample_prompts=("a photo of a {identifier} {class_noun}",),
    sample_steps=2,
    measure=False,
)
PICTURE = SampleConfig(prompt="a photo of a {identifier} {class_noun}", steps=2, seed=5)


@pytest.fixture
def photo_paths(tmp_path: Path) -> list[Path]:
    """Three arbitrary photographs, 160 x 140 px."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for index, colour in enumerate(("firebrick", "seagreen", "slateblue")):
        picture = Image.new("RGB", (160, 140), "wheat")
        ImageDraw.Draw(picture).ellipse((20 + 10 * index, 20, 110, 120), fill=colour)
        picture.save(folder / f"photo-{index}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def model_cache() -> ModelCache:
    """One base for all tests of this module. Every run must leave its weights unchanged."""
    return ModelCache()


@pytest.fixture
def studio(tmp_path: Path, model_cache: ModelCache) -> Iterator[Studio]:
    studio = Studio(tmp_path / "data", model_cache=model_cache)
    yield studio
    studio.close()


def finish(studio: Studio, run_id: str) -> str:
    state = studio.training.wait(run_id, PATIENCE_S)
    status = studio.training.status(run_id)
    assert state != "failed", status["error"]
    return state


def same_adapter(studio: Studio, first: str, second: str) -> bool:
    one, two = (
        load_file(studio.resources.store.get(run_id).file("adapter.safetensors"))
        for run_id in (first, second)
    )
    return one.keys() == two.keys() and all(one[name].equal(two[name]) for name in one)


def kinds(studio: Studio, run_id: str) -> list[str]:
    return [event["kind"] for event in studio.training.status(run_id)["events"]]


def test_start_to_picture(studio: Studio, photo_paths: list[Path]) -> None:
    run_id = studio.training.start(
        "dreambooth", to_dict(replace(TINY, measure=True)), photo_paths, name="  my\x00 dog "
    )
    assert finish(studio, run_id) == "done"
    status = studio.training.status(run_id)
    assert (status["name"], status["step"], status["total"], status["next"]) == (
        "my dog",
        4,
        4,
        len(status["events"]),
    )
    seen = kinds(studio, run_id)
    assert seen[0] == "created"
    assert seen.index("sample") < seen.index("step")
    assert seen.count("step") == 4
    samples = [event for event in status["events"] if event["kind"] == "sample"]
    assert [event["step"] for event in samples] == [0, 1, 2, 3, 4]
    assert (samples[0]["label"], samples[-1]["label"]) == ("before", "after")
    assert {event["prompt"] for event in samples} == {"a photo of a zwx dog"}
    folder = Path(status["path"])
    for event in samples:
        with Image.open(folder / event["files"][0]) as picture:
            assert picture.size == (128, 128)
    for name in ("00.png", "01.png", "02.png"):
        with Image.open(folder / "photos" / "01" / name) as photo:
            assert photo.size == (128, 128)
            assert not photo.info
    with safe_open(folder / "adapter.safetensors", framework="pt") as file:
        header = file.metadata()
    assert json.loads(header["config"]) == studio.resources.store.get(run_id).config
    assert header["base_hash"] == status["base"]["hash"]
    assert (header["seed"], header["step"], header["prompt"]) == ("0", "4", "a photo of a zwx dog")
    assert "torch" in json.loads(header["versions"])
    assert len(studio.library.list_runs()) == 1

    before, after = studio.generation.generate(PICTURE, run_id=run_id, before_after=True)
    assert before.read_bytes() != after.read_bytes()
    with Image.open(before) as one, Image.open(after) as two:
        assert one.tobytes() != two.tobytes()
    assert not before.is_relative_to(studio.resources.root)


def test_a_new_program_sees_the_run_and_draws_the_same(studio: Studio, photo_paths: list[Path]) -> None:
    run_id = studio.training.start("dreambooth", TINY, photo_paths)
    finish(studio, run_id)
    (drawn,) = studio.generation.generate(PICTURE, run_id=run_id)
    later = Studio(studio.resources.root, model_cache=ModelCache())
    try:
        assert later.training.status(run_id)["state"] == "done"
        (again,) = later.generation.generate(PICTURE, run_id=run_id)
        with Image.open(drawn) as one, Image.open(again) as two:
            assert one.tobytes() == two.tobytes()
    finally:
        later.close()


def test_short_jobs_between_steps_leave_no_trace(studio: Studio, photo_paths: list[Path]) -> None:
    config = replace(TINY, steps=10, sample_every=10)
    alone = studio.training.start("dreambooth", config, photo_paths)
    finish(studio, alone)
    disturbed = studio.training.start("dreambooth", config, photo_paths)
    pictures = 0
    while studio.training.status(disturbed)["step"] < 1 and studio.training.status(disturbed)["state"] in (
        "queued",
        "running",
    ):
        time.sleep(0.01)
    while (
        studio.training.status(disturbed)["state"] == "running"
        and studio.training.status(disturbed)["step"] < 9
    ):
        studio.generation.generate(PICTURE, run_id=disturbed, before_after=True)
        studio.generation.generate(replace(PICTURE, prompt="a dog"), run_id=alone)
        pictures += 1
    assert pictures >= 2
    finish(studio, disturbed)
    assert same_adapter(studio, alone, disturbed)


def test_sample_now_draws_the_unfinished_adapter(studio: Studio, photo_paths: list[Path]) -> None:
    run_id = studio.training.start("dreambooth", replace(TINY, steps=40, sample_every=40), photo_paths)
    while studio.training.status(run_id)["step"] < 2:
        time.sleep(0.01)
    paths = studio.training.sample_now(run_id)
    assert len(paths) == 1
    assert [
        event["label"] for event in studio.training.status(run_id)["events"] if event["kind"] == "sample"
    ] == [
        "before",
        "now",
    ]
    studio.training.discard(run_id)
    studio.resources.worker.submit("after", lambda job: None).wait(PATIENCE_S)
    assert studio.library.list_runs() == []


def test_stop_keeps_and_train_more_goes_on_as_if_never_stopped(
    studio: Studio, photo_paths: list[Path]
) -> None:
    config = replace(TINY, steps=2000, sample_every=2000, warmup_steps=0)
    run_id = studio.training.start("dreambooth", config, photo_paths)
    while studio.training.status(run_id)["step"] < 2:
        time.sleep(0.01)
    studio.training.stop(run_id)
    assert finish(studio, run_id) == "stopped"
    reached = studio.training.status(run_id)["step"]
    assert 2 <= reached < 2000
    run = studio.resources.store.get(run_id)
    assert run.file("adapter.safetensors").is_file()
    assert studio.generation.generate(PICTURE, run_id=run_id)
    with pytest.raises(ValueError, match="cannot be stopped"):
        studio.training.stop(run_id)
    studio.training.train_more(run_id, 3)
    assert finish(studio, run_id) == "done"
    assert (studio.training.status(run_id)["step"], studio.training.status(run_id)["total"]) == (
        reached + 3,
        reached + 3,
    )


def test_more_steps_than_the_warm_up_that_was_cut_short(studio: Studio, photo_paths: list[Path]) -> None:
    config = replace(TINY, steps=2000, sample_every=2000, warmup_steps=1000)
    run_id = studio.training.start("dreambooth", config, photo_paths)
    while studio.training.status(run_id)["step"] < 1:
        time.sleep(0.01)
    studio.training.stop(run_id)
    finish(studio, run_id)
    studio.training.train_more(run_id, 1)
    assert finish(studio, run_id) == "done"


def test_a_name_given_while_the_run_is_prepared_stays(studio: Studio, photo_paths: list[Path]) -> None:
    release = threading.Event()
    studio.resources.worker.submit("before", lambda job: release.wait(PATIENCE_S))
    run_id = studio.training.start("dreambooth", TINY, photo_paths)
    studio.library.rename(run_id, "Rex")
    release.set()
    finish(studio, run_id)
    run = studio.resources.store.get(run_id)
    assert (run.name, bool(run.base["hash"])) == ("Rex", True)
    with safe_open(run.file("adapter.safetensors"), framework="pt") as file:
        assert file.metadata()["name"] == "Rex"


def test_what_is_handed_on_names_no_folder_of_this_machine(
    studio: Studio, photo_paths: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "private" / "my base"
    shutil.copytree(ASSETS / "base", folder)
    run_id = studio.training.start("dreambooth", replace(TINY, steps=1), photo_paths, base=str(folder))
    finish(studio, run_id)
    run = studio.resources.store.get(run_id)
    for name in ("adapter.safetensors", "card.md"):
        assert b"private" not in run.file(name).read_bytes()
    assert "my base" in run.file("card.md").read_text()
    assert b"private" not in studio.import_export.export(run_id, "kohya").read_bytes()
    assert b"private" not in studio.generation.generate(PICTURE, run_id=run_id)[0].read_bytes()


@pytest.mark.parametrize("before_after", [False, True])
def test_an_interrupted_picture_says_so(studio: Studio, photo_paths: list[Path], before_after: bool) -> None:
    run_id = studio.training.start("dreambooth", replace(TINY, steps=1), photo_paths)
    finish(studio, run_id)
    drawing = threading.Event()

    def watch(*_: object) -> None:
        if not drawing.is_set():
            drawing.set()
            studio.generation.interrupt()

    with pytest.raises(ValueError, match="interrupted"):
        studio.generation.generate(PICTURE, run_id=run_id, before_after=before_after, on_preview=watch)


def test_a_run_discarded_at_the_moment_it_ends_is_gone(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, photo_paths: list[Path]
) -> None:
    run_id = studio.training.start("dreambooth", replace(TINY, steps=1), photo_paths)
    cancel = studio.resources.worker.cancel

    def too_late(job: Job, *, keep: bool = True) -> None:
        job.wait(PATIENCE_S)
        cancel(job, keep=keep)

    monkeypatch.setattr(studio.resources.worker, "cancel", too_late)
    studio.training.stop(run_id, keep=False)
    assert studio.library.list_runs() == []


def test_the_base_in_training_is_the_one_that_pictures_are_drawn_with(base: Base) -> None:
    shop = (
        ModelCache()
    )  # an empty cache, as if the base was evicted in the meantime for other users' pictures
    with shop.training(TrainingSession(run_id="x", base=base, adapter=LoRA())):
        assert shop.base(base.spec) is base


def test_a_queued_run_is_discarded_or_stopped_at_once(studio: Studio, photo_paths: list[Path]) -> None:
    release = threading.Event()
    studio.resources.worker.submit("before", lambda job: release.wait(PATIENCE_S))
    kept, dropped = (studio.training.start("dreambooth", TINY, photo_paths) for _ in range(2))
    studio.training.discard(dropped)
    studio.training.stop(kept)
    assert [(run.id, run.state) for run in studio.library.list_runs()] == [(kept, "stopped")]
    release.set()
    studio.training.resume(kept)
    assert finish(studio, kept) == "done"


def test_no_memory_for_a_picture_is_told_in_a_sentence(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(ModelCache, "draw", fail)
    with pytest.raises(ValueError, match="ran out of memory"):
        studio.generation.generate(PICTURE)


def test_train_more_equals_a_longer_run(studio: Studio, photo_paths: list[Path]) -> None:
    whole = studio.training.start("dreambooth", replace(TINY, steps=6), photo_paths)
    parts = studio.training.start("dreambooth", replace(TINY, steps=3), photo_paths)
    finish(studio, whole)
    finish(studio, parts)
    studio.training.train_more(parts, 3)
    assert finish(studio, parts) == "done"
    assert studio.training.status(parts)["total"] == 6
    assert "resumed" in kinds(studio, parts)
    assert same_adapter(studio, whole, parts)


def test_a_discarded_extension_leaves_the_finished_run(studio: Studio, photo_paths: list[Path]) -> None:
    run_id = studio.training.start("dreambooth", replace(TINY, steps=2), photo_paths)
    finish(studio, run_id)
    run = studio.resources.store.get(run_id)

    def content() -> dict[str, bytes]:
        return {
            str(path.relative_to(run.path)): path.read_bytes()
            for path in run.path.rglob("*")
            if path.is_file() and path.name not in ("lock", "run.json")
        }

    finished, config = content(), run.config
    studio.training.train_more(run_id, 2000)
    while studio.training.status(run_id)["step"] < 4:
        time.sleep(0.01)
    studio.library.rename(run_id, "Rex")
    studio.training.save_now(run_id)
    assert content()["adapter.safetensors"] != finished["adapter.safetensors"]
    assert studio.training.discard(run_id)
    assert studio.training.wait(run_id, PATIENCE_S) == "done"
    now = studio.resources.store.get(run_id)
    assert (now.config, now.name, now.extended) == (config, "Rex", False)
    assert sorted(content()) == sorted(finished)
    assert [name for name, held in content().items() if held != finished[name]] == []
    studio.training.train_more(run_id, 1)
    assert finish(studio, run_id) == "done"
    assert not studio.resources.store.get(run_id).extended
    assert not studio.training.discard(run_id), "what is finished is deleted"
    assert studio.library.list_runs() == []


def test_an_extension_that_waits_or_has_failed_goes_back_as_well(
    studio: Studio, photo_paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = studio.training.start("dreambooth", replace(TINY, steps=2), photo_paths)
    finish(studio, run_id)
    release = threading.Event()
    studio.resources.worker.submit("before", lambda job: release.wait(PATIENCE_S))
    studio.training.train_more(run_id, 5)
    assert studio.training.discard(run_id)
    release.set()
    assert studio.training.status(run_id)["state"] == "done"
    with monkeypatch.context() as patch:
        patch.setattr(TrainJob, "perform", lambda self: (_ for _ in ()).throw(ValueError("no luck")))
        studio.training.train_more(run_id, 5)
        assert studio.training.wait(run_id, PATIENCE_S) == "failed"
    assert studio.training.discard(run_id)
    status = studio.training.status(run_id)
    assert (status["state"], status["step"], status["total"]) == ("done", 2, 2)


KILLED = """
import json, os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from pipelines.jobs import train_job as conduct
from pipelines.studio import Studio
conduct.CHECKPOINT_S = 0.0
save_checkpoint = conduct.save_checkpoint

def save_and_die(run, step):
    save_checkpoint(run, step)
    if step.index == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return 0.0

conduct.save_checkpoint = save_and_die
studio = Studio(Path(sys.argv[1]))
config = json.loads(sys.argv[2])
run_id = studio.training.start("dreambooth", config, [Path(path) for path in sys.argv[3:]])
studio.training.wait(run_id)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is a POSIX word")
def test_after_kill_minus_nine_a_run_resumes_on_the_same_random_stream(
    studio: Studio, photo_paths: list[Path]
) -> None:
    config = replace(TINY, steps=8, sample_every=8)
    whole = studio.training.start("dreambooth", config, photo_paths)
    finish(studio, whole)
    killed = subprocess.run(
        [
            sys.executable,
            "-c",
            KILLED,
            str(studio.resources.root),
            json.dumps(to_dict(config)),
            *map(str, photo_paths),
        ],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (run_id,) = [run.id for run in studio.library.list_runs() if run.id != whole]
    assert studio.training.status(run_id)["state"] == "interrupted"
    assert studio.training.status(run_id)["step"] == 3
    cut_off = studio.resources.store.get(run_id).path / ".checkpoint.safetensors.1.part"
    cut_off.touch()
    studio.training.resume(run_id)
    assert finish(studio, run_id) == "done"
    assert not cut_off.exists()
    assert same_adapter(studio, whole, run_id)


def test_prior_preservation_and_full_weights(studio: Studio, photo_paths: list[Path]) -> None:
    with_prior = replace(TINY, steps=2, prior_preservation=True, class_images=2, text_encoder=True)
    run_id = studio.training.start("dreambooth", with_prior, photo_paths)
    finish(studio, run_id)
    stages = {event["name"] for event in studio.training.status(run_id)["events"] if event["kind"] == "stage"}
    assert "Drawing class images" in stages
    steps = [event for event in studio.training.status(run_id)["events"] if event["kind"] == "step"]
    assert len(steps[0]["terms"]) == 2
    full = studio.training.start(
        "dreambooth", replace(TINY, steps=1, weights="full", learning_rate=1e-5), photo_paths
    )
    assert finish(studio, full) == "done"


def test_a_non_finite_loss_ends_in_a_sentence(studio: Studio, photo_paths: list[Path]) -> None:
    exploding = replace(
        TINY, steps=50, learning_rate=0.1, max_grad_norm=0, alpha=512, rank=1, sample_every=50
    )
    run_id = studio.training.start("dreambooth", exploding, photo_paths)
    state = studio.training.wait(run_id, PATIENCE_S)
    assert state == "failed"
    assert "lower learning rate" in studio.training.status(run_id)["error"]
    again = studio.training.start("dreambooth", TINY, photo_paths)
    assert finish(studio, again) == "done"


def test_bad_input_is_refused_before_a_run_exists(
    studio: Studio, photo_paths: list[Path], tmp_path: Path
) -> None:
    text = tmp_path / "words.png"
    text.write_text("not a picture")
    with pytest.raises(ValueError, match=r"words\.png"):
        studio.training.start("dreambooth", TINY, [*photo_paths, text])
    with pytest.raises(ValueError, match="photo"):
        studio.training.start("dreambooth", TINY, [])
    with pytest.raises(ValueError, match="too long"):
        studio.training.start("dreambooth", TINY, photo_paths, captions={"photo-2.png": "a" * 301})
    with pytest.raises(ValueError, match="Unknown setting"):
        studio.training.start("dreambooth", {"stepz": 1}, photo_paths)
    with pytest.raises(ValueError, match="no method"):
        studio.training.start("magic", {}, photo_paths)
    with pytest.raises(ValueError, match="no base"):
        studio.training.start("dreambooth", TINY, photo_paths, base="nowhere at all")
    with pytest.raises(ValueError, match="no run"):
        studio.generation.generate(PICTURE, run_id="../../etc")
    with pytest.raises(ValueError, match="prompt is empty"):
        studio.generation.generate(SampleConfig())
    with pytest.raises(ValueError, match="export format"):
        studio.import_export.export("x", "docx")
    assert studio.library.list_runs() == []
    assert not list(studio.resources.root.glob("runs/*"))


def test_preview_cost_bases_and_identifiers(studio: Studio, photo_paths: list[Path]) -> None:
    squares = studio.inspection.photos_preview(photo_paths, {"photo-0.png": (1.0, 0.0)})
    for path in squares:
        with Image.open(path) as square:
            assert square.size == (128, 128)
    cheap = studio.training.cost("dreambooth", TINY, 3)
    dear = studio.training.cost("dreambooth", replace(TINY, steps=400, weights="full"), 3)
    assert dear.seconds > cheap.seconds > 0
    assert dear.memory_mb > cheap.memory_mb > 0
    assert dear.disk_mb > cheap.disk_mb > 0
    assert studio.inspection.bases()[0].present
    words = [found["text"] for found in studio.inspection.identifiers()]
    assert len(words) > 3


def test_measured_speed_replaces_the_guess(studio: Studio, photo_paths: list[Path]) -> None:
    run_id = studio.training.start("dreambooth", TINY, photo_paths)
    finish(studio, run_id)
    speeds = json.loads((studio.resources.root / "speeds.json").read_text())
    assert set(speeds["embedded on cpu"]) == {"train_s", "sample_s", "start_s"}


def test_a_shipped_example_is_shown_and_drawn_with_but_never_changed(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assets = tmp_path / "assets"
    (folder,) = make_examples.make(
        assets / "examples", names=["florence"], trial=True, model_cache=studio.resources.model_cache()
    )
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 8e6
    monkeypatch.setattr("pipelines.runs.shipped.ASSETS", assets)
    before = sorted(folder.rglob("*"))
    (example,) = studio.library.examples()
    assert (example["name"], example["run"], len(example["photos"])) == ("florence", "example-florence", 4)
    status = studio.training.status(example["run"])
    assert (status["state"], status["step"]) == ("done", 2)
    assert studio.generation.generate(PICTURE, run_id=example["run"], before_after=True)
    assert studio.inspection.views(example["run"])
    for change in (
        studio.training.discard,
        studio.training.resume,
        lambda run_id: studio.training.train_more(run_id, 5),
    ):
        with pytest.raises(ValueError, match="shipped example"):
            change(example["run"])
    assert sorted(folder.rglob("*")) == before
    assert studio.library.list_runs() == []


def test_the_shipped_example_of_several_subjects_has_its_pictures(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assets = tmp_path / "assets"
    (folder,) = make_examples.make(
        assets / "examples", names=["together"], trial=True, model_cache=studio.resources.model_cache()
    )
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 8e6
    monkeypatch.setattr("pipelines.runs.shipped.ASSETS", assets)
    assert studio.library.examples(tab="train") == []
    (example,) = studio.library.examples(tab="multi_subject")
    shown = studio.library.kept_together(example["run"])
    assert [each.kind for each in shown] == ["together", "without", *["attention"] * 2, *["alone"] * 2]
    assert shown[0].prompt == "a photo of a zwx person beside a qev person"
    assert len(example["photos"]) == 8
    again = studio.training.again(example["run"], steps=1, warmup_steps=0)
    assert finish(studio, again) == "done"
    assert studio.training.status(again)["config"]["steps"] == 1


@pytest.mark.parametrize("format", ["safetensors", "diffusers", "peft", "kohya"])
def test_export(studio: Studio, photo_paths: list[Path], format: str) -> None:
    run_id = studio.training.start("dreambooth", replace(TINY, steps=1), photo_paths)
    finish(studio, run_id)
    path = studio.import_export.export(run_id, format)
    assert path.suffix == (".zip" if format == "peft" else ".safetensors")
    assert path.stat().st_size > 1000
    assert not path.is_relative_to(studio.resources.root)


def test_masks_of_photographs_are_found_and_outlined(studio: Studio, photo_paths: list[Path]) -> None:
    found = studio.inspection.masks(photo_paths)
    assert [each.name for each in found] == [path.name for path in photo_paths]
    for each in found:
        assert each.found
        with (
            Image.open(each.mask) as mask,
            Image.open(each.square) as square,
            Image.open(each.outlined) as seen,
        ):
            assert mask.size == square.size == seen.size
            assert mask.mode == "L"
            assert mask.getpixel((mask.width // 2, mask.height // 2)) == 255
            assert mask.getpixel((2, 2)) == 0


def test_masks_are_corrected_and_known_ones_stay(studio: Studio, photo_paths: list[Path]) -> None:
    told: list[tuple[int, int]] = []
    found = studio.inspection.masks(photo_paths, on_progress=lambda *counts: told.append(counts))
    assert told == [(place, len(photo_paths)) for place in range(len(photo_paths))]
    with Image.open(found[0].layer) as layer:
        layer.paste((255, 255, 255, 160), (0, 0, 30, 30))
        painted = studio.inspection.mask_painted(found[0], [layer])
    again = studio.inspection.masks(photo_paths, known={painted.name: painted})
    assert again[0] == painted
    whole = studio.inspection.mask_whole(painted)
    fresh = studio.inspection.mask_again(whole)
    corners = []
    for each in (found[0], painted, whole, fresh):
        with Image.open(each.mask) as mask:
            corners.append((mask.getpixel((2, 2)), mask.getpixel((mask.width - 2, 2))))
    assert corners == [(0, 0), (255, 0), (255, 255), (0, 0)]
