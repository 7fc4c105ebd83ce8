"""Captions as tag lists on the page, on the pretended Studio, without a browser."""

from pathlib import Path

import pytest
from fake_studio import FakeStudio

from ui.html import Handout
from ui.run.monitor import RunMonitor
from ui.tabs.train.captions import Tagging, tag_list
from ui.tabs.train.handlers import TrainHandlers


@pytest.fixture
def monitor(studio: FakeStudio, handout: Handout) -> RunMonitor:
    return RunMonitor(studio, handout)


@pytest.fixture
def source(photographs: list[Path]) -> dict:
    return {"title": "", "files": [str(path) for path in photographs], "crops": {}, "captions": {}}


def test_what_is_seen_becomes_captions_that_can_be_changed_together(
    monitor: RunMonitor, source: dict
) -> None:
    tagging, words = Tagging(monitor), "{identifier} {class_noun}"
    seen = tagging.see(source, 1, "embedded", " dog ", False)
    assert seen["source"]["captions"] == {
        f"photo-{index}.png": f"{words}, beach, dog {index}" for index in range(len(source["files"]))
    }
    assert seen["photo_caption"] == f"{words}, beach, dog 1"
    assert tagging.show(seen["source"])["common_tags"] == f"{words}, beach"
    changed = tagging.change_common(seen["source"], 0, f"{words}, winter")
    assert changed["source"]["captions"]["photo-0.png"] == f"{words}, winter, dog 0"
    shown = tagging.show(changed["source"])
    assert shown["common_tags"] == f"{words}, winter"
    assert f"winter × {len(source['files'])}" in shown["tag_list"]
    assert "dog 0 × 1" in shown["tag_list"]
    own = tagging.see(source, 0, "embedded", "dog", True)
    assert all("fluffy fur" in text for text in own["source"]["captions"].values())


def test_nothing_is_shown_before_there_are_captions(monitor: RunMonitor, source: dict) -> None:
    tagging = Tagging(monitor)
    assert tagging.show(None) == tagging.show(source) == {"common_tags": "", "tag_list": ""}
    with pytest.raises(ValueError, match="photographs first"):
        tagging.see(None, 0, "embedded", "dog", False)
    assert tagging.change_common(None, 0, "x") == {}
    one = source | {"captions": {"photo-1.png": "zul dog asleep"}}
    changed = tagging.change_common(one, 1, "snow")["source"]["captions"]
    assert changed["photo-1.png"] == "snow, zul dog asleep"
    assert changed["photo-0.png"] == "snow, {identifier} {class_noun}"
    assert "&lt;b&gt;" in tag_list({"a": "<b>"})


def test_repeats_and_captions_reach_the_run(monitor: RunMonitor, studio: FakeStudio, source: dict) -> None:
    tagging, train = Tagging(monitor), TrainHandlers(monitor)
    source = tagging.see(source, 0, "embedded", "dog", False)["source"]
    source = tagging.repeat(source, 1, 25)["source"]
    assert tagging.choose(source, 1) == {"photo_repeats": 25}
    assert tagging.choose(source, 0) == {"photo_repeats": 1}
    values = train.start(source, "dreambooth/Quick", "embedded", identifier="zul", class_noun="dog", steps=1)
    captions, repeats = [facts for name, facts in studio.calls if name == "captions"][-1]
    assert (captions, repeats) == (source["captions"], {"photo-1.png": 25})
    assert studio.training.status(values["shown"])["config"]["use_captions"]
    assert tagging.repeat(source, 1, 1)["source"]["repeats"] == {}
    assert tagging.repeat(None, 0, 2) == {}
    while studio.training.status(values["shown"])["state"] in ("queued", "running"):
        pass
    studio.library.delete(values["shown"])


def test_repeats_that_were_read_in_go_to_the_photographs(
    monitor: RunMonitor, photographs: list[Path]
) -> None:
    held = {"captions": {}, "repeats": {"01.png": 4}}
    chosen = TrainHandlers(monitor).choose_files([str(path) for path in photographs], None, "embedded", held)
    assert chosen["source"]["repeats"] == {photographs[1].name: 4}
