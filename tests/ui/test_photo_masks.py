"""Masks on the page, on a real Studio with a fake UNet: detected when shown, corrected, and used by the run."""

from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from conftest import PATIENCE_MS, Served, newest
from PIL import Image, ImageDraw

from pipelines.data.subject import stored_masks, stored_scenes, stored_subjects
from pipelines.studio import Studio
from ui.html import BrowserCopies
from ui.run.monitor import RunMonitor
from ui.tabs.train.handlers import TrainHandlers
from ui.tabs.train.masks import CLOSED, NOT_FOUND, Masks, masks_of
from ui.tabs.train.photos import photo_names
from ui.tabs.train.tab import MASKING

OWN = {"mask_background": True, "background_weight": 0.2, "scenes": 6}
AS_PRESET = {"mask_background": False, "background_weight": 0.0, "scenes": 0}
FIELDS = {
    "steps": 2, "warmup_steps": 0, "measure": False, "sample_steps": 1, "class_noun": "ball", "identifier": "zwx",
    "auto_captions": False,
}  # fmt: skip


@pytest.fixture
def monitor(studio: Studio, copies: BrowserCopies) -> RunMonitor:
    return RunMonitor(studio, copies)


@pytest.fixture
def balls(tmp_path: Path) -> list[Path]:
    """Two photographs of a red ball on a noisy meadow, the second one in landscape format."""
    paths = []
    for index, size in enumerate(((200, 200), (320, 200))):
        ground = np.random.default_rng(index).normal((60, 140, 70), 25, (size[1], size[0], 3))
        picture = Image.fromarray(ground.clip(0, 255).astype(np.uint8))
        middle = size[0] / 2
        ImageDraw.Draw(picture).ellipse([middle - 45, 55, middle + 45, 145], fill=(190, 40, 50))
        paths.append(tmp_path / f"ball-{index}.png")
        picture.save(paths[-1])
    return paths


def own(paths: list[Path]) -> dict[str, Any]:
    return {"title": "", "files": [str(path) for path in paths], "crops": {}, "captions": {}, "masks": {}}


def stroke(layer: Path) -> Image.Image:
    """Return the editor's value after a stroke in the corner."""
    with Image.open(layer) as painted:
        ImageDraw.Draw(painted).rectangle([0, 0, 60, 60], fill=(255, 64, 32, 140))
        return painted


def test_masks_are_found_only_where_they_are_used_or_looked_at(
    monitor: RunMonitor, studio: Studio, balls: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    masks, asked = Masks(monitor), []
    find = studio.inspection.masks
    monkeypatch.setattr(
        studio.inspection, "masks", lambda *given, **more: asked.append(more) or find(*given, **more)
    )
    source = own(balls)
    assert masks.refresh(source, CLOSED) == {}
    told: list[tuple[int, int]] = []
    seen = masks.expand(source, CLOSED, "", lambda counts, **_: told.append(counts))
    assert told == [(0, 2), (1, 2)]
    assert [*seen["found_masks"]["photos"]] == [path.name for path in balls]
    assert masks.refresh(source | {"captions": {"x": "y"}}, seen["found_masks"]) == {}, "nothing to be found"
    moved = source | {"crops": {"ball-1.png": (1.0, 0.0)}}
    known = [*masks.refresh(moved, seen["found_masks"])["found_masks"]["photos"]]
    assert known == [path.name for path in balls]
    assert [*asked[-1]["known"]] == ["ball-0.png"], "the other one has another square"
    closed = masks.collapse(seen["found_masks"])["found_masks"]
    assert masks.refresh(moved, closed) == {}
    used = masks.refresh(source, CLOSED, True)["found_masks"]
    assert [*used["photos"]] == [path.name for path in balls], "the run will use them"
    assert masks.refresh(None, seen["found_masks"])["found_masks"]["photos"] == {}


def test_a_mask_that_is_not_found_says_so(monitor: RunMonitor, tmp_path: Path) -> None:
    Image.new("RGB", (100, 100), "grey").save(tmp_path / "fog.png")
    masks = Masks(monitor)
    source = own([tmp_path / "fog.png"])
    seen = masks.expand(source, CLOSED, "fog.png")
    assert NOT_FOUND in seen["mask_told"]
    drawn = TrainHandlers(monitor).photos.draw(source, seen["found_masks"])["tiles"]
    assert "Photograph fog.png, no outline found" in drawn
    with pytest.raises(ValueError, match="open it again"):
        masks.whole(source, seen["found_masks"], "mist.png")


def test_a_corrected_mask_is_what_the_run_learns_from(
    monitor: RunMonitor, studio: Studio, balls: list[Path]
) -> None:
    masks, train = Masks(monitor), TrainHandlers(monitor)
    source = own(balls)
    found = masks.expand(source, CLOSED, "")["found_masks"]
    editor = masks.choose(found, "ball-0.png")["mask_editor"]
    assert [Path(editor["background"]).is_file(), len(editor["layers"])] == [True, 1]
    layer = found["photos"]["ball-0.png"][1].layer
    applied = masks.apply(source, found, "ball-0.png", {"layers": [stroke(layer)]})
    assert applied["mask_background"] is True
    drawn = train.photos.draw(applied["source"], applied["found_masks"])["tiles"]
    assert drawn.count("-outlined.png") + drawn.count(".outlined.png") == 2
    assert "Photograph ball-0.png, mask corrected" in drawn
    source, found = applied["source"], applied["found_masks"]
    train.start(source, "dreambooth/Quick", "embedded", found_masks=found, **FIELDS, **OWN | {"scenes": 1})
    run = newest(studio)
    assert studio.training.wait(run.id, PATIENCE_MS / 1000) == "done"
    corners = []
    for path in stored_masks(run.path).values():
        with Image.open(path) as mask:
            corners.append((mask.getpixel((5, 5)), mask.getpixel((64, 64)), mask.getpixel((122, 122))))
    assert corners == [(255, 255, 0), (0, 255, 0)]
    assert len(stored_scenes(run.path)) == 2
    wall = str(monitor.watch(run.id, {})["photos"])
    assert wall.count("-outlined.png") == 2
    assert "Placed in scenes" in wall
    assert masks.again(source, found, "ball-0.png")["found_masks"]["photos"]["ball-0.png"][1].found
    with pytest.raises(ValueError, match="Nothing is left of the mask"):
        masks.apply(source, found, "ball-0.png", {"layers": []})


def test_without_the_mask_setting_no_mask_is_used(
    monitor: RunMonitor, studio: Studio, balls: list[Path]
) -> None:
    masks, train = Masks(monitor), TrainHandlers(monitor)
    found = masks.expand(own(balls), CLOSED, "")["found_masks"]
    applied = masks.whole(own(balls), found, "ball-0.png")
    train.start(
        applied["source"], "dreambooth/Quick", "embedded", found_masks=applied["found_masks"], **FIELDS, **AS_PRESET
    )  # fmt: skip
    assert stored_masks(newest(studio).path) == {}


def test_another_crop_drops_the_corrected_mask_in_a_sentence(
    monitor: RunMonitor, balls: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(gr, "Info", lambda text, **_: told.append(text))
    masks, train = Masks(monitor), TrainHandlers(monitor)
    found = masks.expand(own(balls), CLOSED, "")["found_masks"]
    applied = masks.whole(own(balls), found, "ball-1.png")
    moved = train.photos.crop(applied["source"], "ball-1.png", 1.0)["source"]
    assert moved["masks"] == {}
    assert told == ["ball-1.png is cropped anew, so its corrected mask is dropped and found again."]
    assert [*masks_of(moved, applied["found_masks"])] == ["ball-0.png"], "the shown one is of another square"


def test_corrected_masks_stay_with_the_very_same_photographs(
    monitor: RunMonitor, balls: list[Path], tmp_path: Path
) -> None:
    masks, train = Masks(monitor), TrainHandlers(monitor)
    found = masks.expand(own(balls), CLOSED, "")["found_masks"]
    source = masks.whole(own(balls), found, "ball-0.png")["source"]
    (tmp_path / "more").mkdir()
    other = tmp_path / "more" / "ball-0.png"
    Image.open(balls[1]).save(other)
    more = train.choose_files([str(other)], source, "embedded")["source"]
    assert photo_names(more) == ["ball-0.png", "ball-1.png", "ball-0-2.png"], "the same name, another picture"
    assert [*more["masks"]] == ["ball-0.png"]
    left = train.remove_photo(more, "ball-0.png", "")["source"]
    assert left["masks"] == {}


def test_own_photographs_are_masked_unless_the_user_said_otherwise(
    monitor: RunMonitor, balls: list[Path]
) -> None:
    train, source = TrainHandlers(monitor), own(balls)
    asked = ("dreambooth/Quick", "embedded")
    first = train.suit(*asked, source, None, False, **AS_PRESET)
    assert {name: first[name] for name in MASKING} == OWN
    assert first["suits_own"] is True
    assert not {*train.suit(*asked, source, None, True, **OWN | {"scenes": 0})} & {*MASKING}
    said = train.suit(*asked, source, None, False, **AS_PRESET | {"scenes": 3})
    assert "scenes" not in said, "what the user has set stays"
    back = train.suit(*asked, train.source_of("biscuit"), None, True, **OWN)
    assert {name: back[name] for name in MASKING} == AS_PRESET
    assert train.suit(*asked, source, {"captions": {}}, False, **AS_PRESET) == {}
    for plan in ("svdiff/Quick", "textual_inversion/Quick", "block_lora/Quick"):
        chosen = train.choose_plan(plan, "embedded", source)
        assert {name: chosen[name] for name in MASKING} == OWN
    assert train.choose_plan("dreambooth/Quick", "embedded", train.source_of("biscuit"))["scenes"] == 0
    real = next(spec for spec, facts in train.bases.items() if facts.family == "sd1")
    assert {name: train.choose_base(real, "dreambooth", source)[name] for name in MASKING} == AS_PRESET


def test_the_page_says_what_the_embedded_base_can_do_with_photographs(
    monitor: RunMonitor, balls: list[Path]
) -> None:
    train = TrainHandlers(monitor)
    taken = train.choose_files([str(path) for path in balls], None, "embedded")
    assert "a sketch of 128 pixels" in taken["limits"]
    assert taken["limits_row"]["visible"] is True
    assert train.choose_example("biscuit")["limits_row"]["visible"] is False
    real = next(spec for spec, facts in train.bases.items() if facts.family == "sd1")
    assert train.choose_base(real, "dreambooth", own(balls))["limits_row"]["visible"] is False


@pytest.mark.browser
def test_a_stroke_of_the_brush_reaches_the_run(visit: Any, served: Served, balls: list[Path]) -> None:
    visitor = visit()
    page = visitor.page
    page.set_input_files("#upload input[type=file]", [str(path) for path in balls])
    visitor.see(".tile img")
    page.get_by_label("What is it?").locator("visible=true").fill("ball")
    page.locator(".tile [data-act=choose]").first.click()
    visitor.see("#photo-detail")
    page.locator("#masks").get_by_text("Mask", exact=True).click()
    box = visitor.see("#mask-editor canvas").bounding_box()
    visitor.see("#masks :text('ball-0.png')")
    page.wait_for_timeout(1500)  # the canvas has no event for the end of its rendering
    page.locator("#mask-editor").scroll_into_view_if_needed()
    box = page.locator("#mask-editor canvas").first.bounding_box()
    side = min(box["width"], box["height"])
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 0.35 * side, middle[1], steps=8)
    page.mouse.up()
    page.locator("#masks").get_by_role("button", name="Apply").click()
    visitor.see("#masks :text('Applied')")
    visitor.see(".tile .marks :text('◐')")
    page.click("#personalize")
    visitor.until(lambda: bool(stored_subjects(newest(served.studio).path, {})))
    visitor.see(".run-title:has-text('Finished')")
    run = newest(served.studio)
    assert {name: run.config[name] for name in MASKING} == OWN
    with Image.open(next(iter(stored_masks(run.path).values()))) as mask:
        assert mask.getpixel((100, 64)) == 255, "the stroke"
        assert mask.getpixel((100, 30)) == 0
    assert not {*visitor.errors} - {"No draw texture found for layer"}, (
        "Gradio's editor says that of a new layer"
    )
