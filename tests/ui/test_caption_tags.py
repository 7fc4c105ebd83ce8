"""Captions as tag lists on the page, without a browser, on a real Studio with a fake UNet."""

from pathlib import Path

import pytest

from pipelines.data.subject import stored_subjects
from pipelines.studio import Studio
from ui.html import BrowserCopies
from ui.run.monitor import RunMonitor
from ui.tabs.train.captions import Tagging, tag_list
from ui.tabs.train.handlers import TrainHandlers


@pytest.fixture
def monitor(studio: Studio, copies: BrowserCopies) -> RunMonitor:
    return RunMonitor(studio, copies)


@pytest.fixture
def source(studio: Studio) -> dict:
    """Two photographs of Biscuit and one of Ada; CLIP assigns different tags to each."""
    examples = {example["name"]: example["photos"] for example in studio.library.examples()}
    files = [*examples["biscuit"][:2], examples["ada"][3]]
    return {"title": "", "files": [str(path) for path in files], "crops": {}, "captions": {}}


def test_what_is_seen_becomes_captions_that_can_be_changed_together(
    monitor: RunMonitor, studio: Studio, source: dict
) -> None:
    tagging, words = Tagging(monitor), "{identifier} {class_noun}"
    tags = studio.inspection.tags([Path(file) for file in source["files"]], kind="dog")
    assert len({tuple(told) for told in tags.values()}) > 1
    seen = tagging.see(source, "01.png", "embedded", " dog ", False)
    assert seen["source"]["captions"] == {name: ", ".join([words, *told]) for name, told in tags.items()}
    assert seen["photo_caption"] == seen["source"]["captions"]["01.png"]
    shared = [tag for tag in tags["00.png"] if all(tag in told for told in tags.values())]
    alone = next(tag for tag in tags["03.png"] if tag not in tags["00.png"] + tags["01.png"])
    assert tagging.show(seen["source"])["common_tags"] == ", ".join([words, *shared])
    changed = tagging.change_common(seen["source"], "00.png", f"{words}, winter")
    rest = [tag for tag in tags["00.png"] if tag not in shared]
    assert changed["source"]["captions"]["00.png"] == ", ".join([words, "winter", *rest])
    shown = tagging.show(changed["source"])
    assert shown["common_tags"] == f"{words}, winter"
    assert f"winter × {len(source['files'])}" in shown["tag_list"]
    assert f"{alone} × 1" in shown["tag_list"]
    own = tagging.see(source, "00.png", "embedded", "dog", True)["source"]["captions"]
    more = studio.inspection.tags([Path(file) for file in source["files"]], kind="dog", with_subject=True)
    assert own == {name: ", ".join([words, *told]) for name, told in more.items()}
    assert own != seen["source"]["captions"]


def test_nothing_is_shown_before_there_are_captions(monitor: RunMonitor, source: dict) -> None:
    tagging = Tagging(monitor)
    assert tagging.show(None) == tagging.show(source) == {"common_tags": "", "tag_list": ""}
    with pytest.raises(ValueError, match="photographs first"):
        tagging.see(None, "", "embedded", "dog", False)
    assert tagging.change_common(None, "", "x") == {}
    one = source | {"captions": {"01.png": "zul dog asleep"}}
    changed = tagging.change_common(one, "01.png", "snow")["source"]["captions"]
    assert changed["01.png"] == "snow, zul dog asleep"
    assert changed["00.png"] == "snow, {identifier} {class_noun}"
    assert "&lt;b&gt;" in tag_list({"a": "<b>"})


def test_repeats_and_captions_reach_the_run(monitor: RunMonitor, studio: Studio, source: dict) -> None:
    tagging, train = Tagging(monitor), TrainHandlers(monitor)
    source = tagging.see(source, "00.png", "embedded", "dog", False)["source"]
    photos = train.photos
    source = photos.repeat(source, "01.png", 25)["source"]
    assert photos.choose(source, "01.png")["photo_repeats"] == 25
    assert photos.choose(source, "00.png")["photo_repeats"] == 1
    values = train.start(source, "dreambooth/Quick", "embedded", identifier="zul", class_noun="dog", steps=1)
    run = studio.resources.library.find(values["shown"])
    assert run.config["use_captions"]
    (subject,) = stored_subjects(run.path, run.config)
    assert list(subject.captions.values()) == list(source["captions"].values())
    assert [subject.repeats.get(path.name, 1) for path in subject.photos] == [1, 25, 1]
    assert photos.repeat(source, "01.png", 1)["source"]["repeats"] == {}
    assert photos.repeat(None, "00.png", 2) == {}
    studio.training.discard(run.id)


def test_repeats_that_were_read_in_go_to_the_photographs(
    monitor: RunMonitor, photographs: list[Path]
) -> None:
    held = {"captions": {}, "repeats": {"01.png": 4}}
    chosen = TrainHandlers(monitor).choose_files([str(path) for path in photographs], None, "embedded", held)
    assert chosen["source"]["repeats"] == {photographs[1].name: 4}
