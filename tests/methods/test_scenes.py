"""Photographs pasted into scenes: generated once, stored, described in the caption, and used for training."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.data.subject import stored_masks, stored_scenes, stored_subjects
from pipelines.methods.scenes import PER_PROMPT, composites, scene_pictures
from pipelines.studio import Studio
from tests.tiny import PATIENCE_S, TINY, draw_photos, shop_with

IN_SCENES = replace(TINY, scenes=3, scene_prompts=("on the beach",), sample_steps=1)


def test_scenes_are_drawn_once_and_kept(base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.methods.scenes.STEPS", 1)
    told: list[tuple[int, int]] = []
    first = scene_pictures(base, IN_SCENES, tmp_path, lambda done, total: told.append((done, total)))
    assert told == [(0, PER_PROMPT), (1, PER_PROMPT)]
    assert [prompt for prompt, _ in first] == ["on the beach"] * PER_PROMPT
    again = scene_pictures(base, IN_SCENES, tmp_path, lambda done, total: told.append((done, total)))
    assert len(told) == PER_PROMPT, "the second time nothing is drawn"
    assert [picture.tobytes() for _, picture in again] == [picture.tobytes() for _, picture in first]


def test_every_photo_is_set_into_so_many_scenes_and_says_so(base, tmp_path: Path) -> None:
    from PIL import Image

    photos, masks = [Image.new("RGB", (64, 64), "red")] * 2, [Image.new("L", (64, 64), 255)] * 2
    scenes = [("on the beach", Image.new("RGB", (64, 64), "blue"))]
    made = composites(photos, masks, scenes, IN_SCENES)
    assert len(made) == 6
    assert {caption for _, _, caption in made} == {f"{TINY.instance_prompt} on the beach"}


def test_a_run_learns_from_its_photographs_in_scenes(
    base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo_paths = draw_photos(tmp_path / "photos")
    monkeypatch.setattr("pipelines.methods.scenes.STEPS", 1)
    studio = Studio(tmp_path / "home", model_cache=shop_with(base))
    try:
        run_id = studio.training.start("dreambooth", IN_SCENES, photo_paths)
        assert studio.training.wait(run_id, PATIENCE_S) == "done"
        folder = studio.resources.store.get(run_id).path
        (subject,) = stored_subjects(folder, {})
        assert len(subject.masks) == len(subject.photos) == len(photo_paths)
        assert stored_masks(folder) == dict(zip(subject.photos, subject.masks, strict=True))
        assert [path.name for path in stored_scenes(folder)] == [path.name for path in subject.photos]
        stages = [
            event["name"] for event in studio.training.status(run_id)["events"] if event["kind"] == "stage"
        ]
        assert "Drawing scenes" in stages
        assert list((tmp_path / "home" / "scenes").glob("*.png"))
    finally:
        studio.close()
