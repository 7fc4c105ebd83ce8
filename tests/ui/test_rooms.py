"""The handlers of every page on the real Studio with a fake UNet, without a server or a browser."""

import json
import pickle
import random
import re
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import clear, finished_run, newest
from PIL import Image

from pipelines.config import DreamBoothConfig, SampleConfig, SVDiffConfig, to_dict
from pipelines.data.subject import stored_subjects
from pipelines.methods.specs import preset
from pipelines.runs.status import QueueRow
from pipelines.studio import Studio
from pipelines.unet_blocks import BlockStrengths
from tests.fake_model import FakeModelCache
from ui.html import BrowserCopies
from ui.run import cards, panels
from ui.run.cards import MIXES
from ui.run.monitor import RunMonitor
from ui.run.replay import LONGEST_WAIT_S, Replay, clock, playable, replayed
from ui.run.state import RunView, fold
from ui.tabs.compare import rows
from ui.tabs.compare.tab import CompareHandlers, parsed
from ui.tabs.library.handlers import LibraryHandlers
from ui.tabs.train.handlers import TrainHandlers, suited_steps
from ui.tabs.train.photos import photo_names
from ui.tabs.train.playground_handlers import PlaygroundHandlers
from ui.wiring import WATCHED

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def monitor(studio: Studio, copies: BrowserCopies) -> RunMonitor:
    return RunMonitor(studio, copies)


@pytest.fixture
def playground(monitor: RunMonitor) -> PlaygroundHandlers:
    return PlaygroundHandlers(monitor)


@pytest.fixture
def shelf(monitor: RunMonitor, playground: PlaygroundHandlers) -> LibraryHandlers:
    return LibraryHandlers(monitor, playground)


@pytest.fixture(scope="module")
def kept() -> set[str]:
    """The ids of the runs that several tests use; all other runs are deleted after each test."""
    return set()


@pytest.fixture
def own(studio: Studio, lora_file: Path, kept: set[str]) -> str:
    """A finished run of the user; it is created again only after a test that deletes it."""
    there = [row.id for row in studio.library.list_runs() if row.name == "Rex"]
    run_id = there[0] if there else studio.import_export.import_lora(lora_file, name="Rex")
    kept.add(run_id)
    return run_id


@pytest.fixture(scope="module")
def shifts(studio: Studio, kept: set[str]) -> tuple[str, str]:
    """Two finished runs whose adapters are spectral shifts."""
    made = [
        finished_run(studio, "svdiff", name=name, seed=seed) for seed, name in enumerate(("<b>Bello", "Max"))
    ]
    kept.update(made)
    return made[0], made[1]


@pytest.fixture(autouse=True)
def _nothing_left(studio: Studio, model: FakeModelCache, kept: set[str]) -> Iterator[None]:
    yield
    clear(studio, model, keep=kept)


def example(monitor: RunMonitor) -> str:
    return next(iter(monitor.examples.values()))["run"]


# Replay


def test_the_clock_of_a_replay_skips_long_waits() -> None:
    moments = clock([{"t": 10.0}, {"t": 10.5}, {"t": 5000.0}, {"t": 4999.0}])
    assert moments == [0.0, 0.5, 0.5 + LONGEST_WAIT_S, 0.5 + LONGEST_WAIT_S]


def test_a_replay_shows_what_had_happened_by_then_and_ends() -> None:
    steps = [
        {
            "t": 100.0 + index,
            "kind": "step",
            "step": index,
            "total": 3,
            "seconds": 1.0,
            "terms": {"loss": 0.1},
        }
        for index in range(1, 4)
    ]
    status = {"id": "x", "state": "done", "path": "/nowhere", "config": {"steps": 3}, "events": steps}
    early, over = replayed(status, Replay("x", 4.0, began=50.0), now=50.3)
    assert (fold(early).state, fold(early).step, over) == ("replaying", 2, False)
    assert early["eta_s"] == pytest.approx((2.0 - 1.2) / 4)
    late, over = replayed(status, Replay("x", 4.0, began=50.0), now=51.0)
    assert (late["state"], fold(late).step, over) == ("done", 3, True)
    assert replayed(status, Replay("x", 0.0, began=50.0), now=50.0)[1], "at once"
    assert playable(status)
    assert not playable({"events": [{"kind": "created"}]})


def test_a_run_is_played_and_ended(monitor: RunMonitor) -> None:
    run_id = example(monitor)
    values = monitor.play(run_id, 4.0)
    assert (values["replay"].run, values["shown"]) == (run_id, run_id)
    assert "Replay" in values["progress"]
    assert values["replaying_row"]["visible"]
    assert set(values) <= set(WATCHED)
    assert not monitor.end_replay(run_id)["replaying_row"]["visible"]


def test_a_file_from_elsewhere_has_nothing_to_play(monitor: RunMonitor, own: str) -> None:
    with pytest.raises(ValueError, match="no steps to replay"):
        monitor.play(own, 4.0)


# Timer ticks


def test_a_tick_touches_nothing_where_nothing_is_new(monitor: RunMonitor, own: str) -> None:
    drawn = monitor.show_run(own)["drawn"]
    assert monitor.tick(own, drawn, 3) == {}
    assert monitor.tick("", {}, 3) == {}


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_order_of_the_answers_the_page_comes_to_show_the_chosen_run(
    monitor: RunMonitor, own: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, page, under_way = random.Random(seed), {"drawn": {}}, []
    line: list[QueueRow] = []
    row = QueueRow(run=own, owner="", name="Rex", state="running", position=0)
    monkeypatch.setattr(monitor.studio.training, "queue", lambda: line)

    def arrive(answer: dict[str, Any]) -> None:
        page["drawn"] = json.loads(json.dumps(page["drawn"] | answer.pop("drawn", {})))
        page.update(answer)

    for _ in range(12):
        line = [row] * rng.randrange(2)  # so that some responses contain only the queue
        shown = rng.choice([own, example(monitor)])
        under_way.append(
            monitor.show_run(shown) if rng.random() < 0.3 else monitor.watch(shown, page["drawn"])
        )
        if rng.random() < 0.6:
            arrive(under_way.pop(rng.randrange(len(under_way))))
    while under_way:
        arrive(under_way.pop(rng.randrange(len(under_way))))
    arrive(monitor.watch(shown, page["drawn"]))
    assert monitor.tick(shown, page["drawn"], 3) == {}
    whole = monitor.watch(shown, {})
    assert {name: page[name] for name in whole} == whole


def test_nothing_of_a_run_that_is_gone_is_left_on_the_stage(monitor: RunMonitor) -> None:
    gone = monitor.watch("no-such-run", {"state": ["no-such-run", "done"]})
    assert (gone["shown"], gone["photos"], gone["strip"], gone["caption"]) == ("", "", "", "")
    assert "This run has been deleted" in gone["compare"]
    assert set(gone) <= set(WATCHED)


def test_a_tick_draws_figures_and_only_announces_the_rest(monitor: RunMonitor, own: str) -> None:
    drawn = monitor.show_run(own)["drawn"]
    grown = monitor.tick(own, drawn | {"progress": []}, 3)
    assert set(grown) == {"drawn", "progress"}
    assert monitor.tick(own, drawn | {"samples": []}, 3) == {"news": 4}
    assert monitor.tick("no-such-run", {}, 3) == {"news": 4}


# Presentation mode


def test_a_talk_goes_on_with_a_recording(monitor: RunMonitor, studio: Studio) -> None:
    run = studio.resources.store.create(
        "dreambooth", {"class_noun": "dog", "steps": 9}, {"spec": "embedded"}, name="Rex"
    )
    run.append("state", state="failed", message="The loss is no number any more.")
    plain = monitor.watch(run.id, {})
    assert "Try again" in str(plain["resume"])
    assert "What next" in plain["advice"]
    talk = monitor.watch(run.id, {}, None, True)
    assert talk["shown"] == monitor.examples["biscuit"]["run"], "the example of the same class"
    assert "recording" in talk["advice"]
    assert "The loss is no number" in talk["advice"]
    studio.library.delete(run.id)


def test_a_talk_survives_a_refused_start(monitor: RunMonitor) -> None:
    train = TrainHandlers(monitor)
    base = next(iter(train.bases))
    with pytest.raises(ValueError, match="Choose an example"):
        train.start(None, "dreambooth/Quick", base, presentation=False)
    assert "recording" in train.start(None, "dreambooth/Quick", base, presentation=True)["advice"]


# Training


def test_captions_of_photographs_reach_the_run(
    monitor: RunMonitor, studio: Studio, photographs: list[Path]
) -> None:
    train = TrainHandlers(monitor)
    source = {"title": "", "files": [str(path) for path in photographs], "crops": {}, "captions": {}}
    photos = train.photos
    source = photos.caption(source, "photo-1.png", " a zul dog asleep ")["source"]
    assert source["captions"] == {"photo-1.png": "a zul dog asleep"}
    assert photos.choose(source, "photo-1.png")["photo_caption"] == "a zul dog asleep"
    assert photos.caption(source, "photo-1.png", "")["source"]["captions"] == {}
    values = train.start(source, "dreambooth/Quick", "embedded", identifier="zul", class_noun="dog", steps=1)
    run = studio.resources.library.find(values["shown"])
    assert run.config["use_captions"]
    (subject,) = stored_subjects(run.path, run.config)
    assert subject.captions["01.png"] == "a zul dog asleep"
    assert not any(subject.captions.get(name) for name in ("00.png", "02.png"))


def test_one_more_photograph_leaves_what_was_said_of_the_others(
    monitor: RunMonitor, photographs: list[Path]
) -> None:
    train = TrainHandlers(monitor)
    files = [str(path) for path in photographs]
    source = train.choose_files(files[:2], None, "embedded")["source"] | {"repeats": {"photo-1.png": 3}}
    source = train.photos.caption(source, "photo-0.png", "a zul dog asleep")["source"]
    source = train.photos.crop(source, "photo-1.png", 0.5)["source"]
    assert source["crops"] == {"photo-1.png": (0.5, 0.0)}, "along the longer side"
    added = train.choose_files(files[2:], source, "embedded")["source"]
    assert photo_names(added) == ["photo-0.png", "photo-1.png", "photo-2.png"]
    for what in ("crops", "captions", "repeats"):
        assert added[what] == source[what]
    left = train.remove_photo(added, "photo-0.png", "photo-1.png")
    assert "photo_row" not in left, "the chosen one is still there"
    assert (left["source"]["crops"], left["source"]["captions"]) == (source["crops"], {})
    left = train.remove_photo(left["source"], "photo-1.png", "photo-1.png")
    assert (left["photo"], left["source"]["repeats"]) == ("", {})
    assert train.remove_photo(left["source"], "photo-2.png", "")["source"] is None
    with pytest.raises(ValueError, match="no longer here"):
        train.remove_photo(left["source"], "photo-0.png", "")


def test_steps_suit_the_number_of_photographs() -> None:
    assert [suited_steps(200, photos=photos) for photos in (1, 4, 8, 20)] == [150, 200, 300, 400]


def test_other_photographs_change_the_steps_and_no_other_setting(monitor: RunMonitor) -> None:
    train = TrainHandlers(monitor)
    usual = preset("dreambooth", "embedded", "Quick").steps
    assert train.suit(
        "dreambooth/Quick",
        "embedded",
        {"title": "Ada", "files": [f"{index}.png" for index in range(8)]},
        None,
    ) == {"steps": round(1.5 * usual)}
    assert train.suit("dreambooth/Quick", "embedded", {"title": "Ada", "files": ["x.png"] * 4}, None) == {
        "steps": usual
    }
    assert (
        train.suit(
            "dreambooth/Quick",
            "embedded",
            {"title": "Ada", "files": [f"{index}.png" for index in range(8)]},
            {"captions": {}},
        )
        == {}
    )


def test_rare_words_are_offered_and_one_is_taken_only_where_none_is(monitor: RunMonitor) -> None:
    train = TrainHandlers(monitor)
    assert (
        train.identifiers("embedded", None)["identifier"]["value"]
        in train.identifiers("embedded", "zw")["identifier"]["choices"]
    )
    assert "value" not in train.identifiers("embedded", "zw")["identifier"]


def test_a_subject_gets_a_rare_word_that_no_run_has(
    monitor: RunMonitor, studio: Studio, photographs: list[Path]
) -> None:
    train = TrainHandlers(monitor)
    first = train.identifiers("embedded", None)["identifier"]["value"]
    assert first not in {example["identifier"] for example in studio.library.examples(tab="train")}
    source = {"title": "", "files": [str(path) for path in photographs], "crops": {}, "captions": {}}
    words = {"identifier": first.upper(), "class_noun": "dog", "steps": 1}
    run_id = train.start(source, "dreambooth/Quick", "embedded", **words)["shown"]
    second = train.identifiers("embedded", None)["identifier"]["value"]
    assert second != first
    train.start(source, "dreambooth/Quick", "embedded", **words | {"identifier": None})
    assert newest(studio).config["identifier"] == second, "also where the word was still being looked for"
    studio.training.wait(run_id)
    studio.library.delete(run_id)
    assert train.identifiers("embedded", None)["identifier"]["value"] == first, (
        "a run's word is free again without it"
    )


def test_a_reload_puts_the_run_at_work_into_the_form(
    monitor: RunMonitor, studio: Studio, photographs: list[Path], pace: Any
) -> None:
    pace(0.2)
    train = TrainHandlers(monitor)
    assert set(train.attach()) == {"runs"}, "without a run the form stays as the page opens"
    config = DreamBoothConfig(steps=500, identifier="kaq", class_noun="teapot")
    own = studio.training.start("dreambooth", config, photographs, name="kaq teapot")
    values = train.attach()
    assert (values["shown"], values["class_noun"], values["identifier"]) == (own, "teapot", "kaq")
    assert values["source"] is None, "nobody trains the first example by mistake"
    assert values["example_ada"]["elem_classes"] == ["example-card"]
    studio.training.stop(own, keep=False)
    while studio.training.queue():
        time.sleep(0.02)
    biscuit = next(example for example in studio.library.examples() if example["name"] == "biscuit")
    config = DreamBoothConfig(steps=500, identifier=biscuit["identifier"], class_noun="dog")
    studio.training.start("dreambooth", config, biscuit["photos"], name="Biscuit")
    values = train.attach()
    assert (values["source"]["title"], values["example_biscuit"]["elem_classes"]) == (
        "Biscuit",
        ["example-card", "chosen"],
    )


def test_other_photographs_get_another_rare_word(monitor: RunMonitor, photographs: list[Path]) -> None:
    train = TrainHandlers(monitor)
    files = [str(path) for path in photographs]
    source = train.choose_files(files, train.source_of("ada"), "embedded")["source"]
    assert "identifier" not in train.choose_files(files, source, "embedded"), "one more of the same subject"
    assert train.choose_files(files, None, "embedded")["identifier"] is None, "after all were left out"
    assert "identifier" not in train.choose_files(files, None, "embedded", {"captions": {}}), (
        "settings keep theirs"
    )


def test_the_line_is_shown_and_can_be_changed(
    monitor: RunMonitor, studio: Studio, photographs: list[Path], pace: Any
) -> None:
    pace(0.2)
    config = DreamBoothConfig(steps=500)
    first, second, third = [
        studio.training.start("dreambooth", config, photographs, name=name) for name in "ABC"
    ]
    assert "number 2 in the queue" in monitor.watch(third, {})["progress"]
    line = monitor.watch(first, {})["queue"]
    assert line.count("<tr") == 4
    assert f'data-value="{third}:1"' in line
    moved = monitor.move(first, f"{third}:1")["queue"]
    assert moved.index(third) < moved.index(second)
    left = monitor.leave(first, second)["queue"]
    assert second not in left
    assert second not in [row.id for row in studio.library.list_runs()]


def test_nobody_in_line_shows_no_line() -> None:
    assert panels.queue([], shown="") == ""
    working = QueueRow(
        run="a", owner="", name=HOSTILE, state="running", position=0, device="cpu", seconds_left=3
    )
    assert panels.queue([working], shown="a") == ""
    waiting = replace(working, run="b", state="queued", position=1)
    assert HOSTILE not in panels.queue([working, waiting], shown="a")


# The Library


def test_a_search_finds_by_every_word(shelf: LibraryHandlers, own: str) -> None:
    assert [row.id for row in shelf.rows("rex zwx")] == [own]
    assert shelf.rows("rex nonsense") == []
    assert "No run matches" in shelf.browse("nonsense", "")["cards"]
    assert f"{len(shelf.studio.library.list_runs(shipped=True))} runs" in shelf.browse("", "")["found"]


def test_a_run_is_named_noted_and_deleted(shelf: LibraryHandlers, own: str, studio: Studio) -> None:
    values = shelf.save(own, HOSTILE, "for the talk", "")
    assert HOSTILE not in values["cards"] + values["facts"]
    assert values["notes"]["value"] == "for the talk"
    assert [row.id for row in shelf.rows("talk")] == [own]
    asked = shelf.ask_delete(own)
    assert asked["confirm_row"]["visible"]
    assert "cannot be undone" in asked["question"]
    gone = shelf.delete(own, "", own)
    assert gone["shown"] == "", "the monitor lets go of it"
    with pytest.raises(ValueError, match="There is no run"):
        studio.training.status(own)


def test_a_shipped_example_is_looked_at_only(shelf: LibraryHandlers, monitor: RunMonitor) -> None:
    values = shelf.detail(example(monitor))
    assert not values["name"]["interactive"]
    assert not values["delete"]["visible"]
    assert values["lib_replay"]["visible"]
    with pytest.raises(ValueError, match="cannot be changed"):
        shelf.save(example(monitor), "x", "", "")


def test_an_interrupted_run_can_be_resumed_from_its_card(shelf: LibraryHandlers, studio: Studio) -> None:
    run = studio.resources.store.create(
        "dreambooth", {"class_noun": "dog", "steps": 9}, {"spec": "embedded"}, name="Cut"
    )
    run.append("state", state="running", message="")
    assert "Interrupted" in shelf.browse("cut", "")["cards"]
    assert shelf.detail(run.id)["lib_resume"]["visible"]
    studio.library.delete(run.id)


def test_the_header_of_a_file_is_read_before_it_is_taken_in(
    shelf: LibraryHandlers, lora_file: Path, tmp_path: Path
) -> None:
    facts = shelf.studio.import_export.inspect_lora(lora_file)
    values = shelf.inspect(str(lora_file))
    assert facts["trigger"] == "zwx dog"
    for told in ("kohya", str(facts["keys"]), str(facts["rank"]), facts["trigger"]):
        assert told in values["lora_facts"]
    assert values["add_row"]["visible"]
    pickled = tmp_path / "rex.bin"
    pickled.write_bytes(pickle.dumps({}))
    with pytest.raises(ValueError, match="can run any program"):
        shelf.inspect(str(pickled))
    assert not shelf.inspect(None)["add_row"]["visible"]


def test_an_export_is_read_back(shelf: LibraryHandlers, monitor: RunMonitor) -> None:
    values = shelf.export(example(monitor), "kohya", 16)
    assert re.search(r"(\d+)/\1 keys, largest difference", values["verified"])
    assert Path(values["lib_exported"]["value"]).is_file()


def test_shifts_leave_as_a_lora_of_a_chosen_rank(
    shelf: LibraryHandlers, studio: Studio, monitor: RunMonitor, shifts: tuple[str, str]
) -> None:
    shown = shelf.detail(shifts[0])
    assert shown["lib_rank"]["visible"]
    assert "svdiff" in [value for _, value in shown["lib_format"]["choices"]]
    assert "rank-5" in shelf.export(shifts[0], "kohya", 5)["verified"]
    shown = shelf.detail(finished_run(studio, weights="full"))
    assert shown["lib_rank"]["visible"]
    assert "svdiff" not in [value for _, value in shown["lib_format"]["choices"]]
    plain = shelf.detail(example(monitor))
    assert not plain["lib_rank"]["visible"]
    assert "svdiff" not in [value for _, value in plain["lib_format"]["choices"]]


def test_what_moved_is_drawn(
    shelf: LibraryHandlers, studio: Studio, monitor: RunMonitor, shifts: tuple[str, str]
) -> None:
    first, second = shifts
    values = shelf.moved(first)
    assert values["shift_row"]["visible"]
    assert "unet.conv_in" in values["layer"]["choices"]
    assert values["alike"]["choices"][0] == ("Max", second)
    for view in studio.inspection.views(first):
        assert view["title"] in values["views"]
        for number in [*view["values"].values(), *(each for row in view["cells"] for each in row)][:20]:
            assert number is None or f">{number:.3g}<" in values["views"], "every value stands as text, too"
    assert "polyline" in shelf.spectrum(first, "unet.conv_in")["spectrum"]
    assert shelf.spectrum(first, "")["spectrum"] == ""
    alike = shelf.likeness(first, [second])["likeness"]
    assert (alike.count("&lt;b&gt;Bello"), alike.count("<b>")) == (2, 0)
    for cell in (cell for row in studio.inspection.correlation(shifts)["cells"] for cell in row):
        assert f">{cell:.3g}</td>" in alike
    plain = shelf.moved(example(monitor))
    assert not plain["shift_row"]["visible"]


def test_shifts_are_combined_into_a_new_run(
    shelf: LibraryHandlers, studio: Studio, monitor: RunMonitor, shifts: tuple[str, str]
) -> None:
    first, second = shifts
    assert not shelf.detail(example(monitor))["combine_row"]["visible"]
    shown = shelf.detail(first)
    assert shown["combine_row"]["visible"]
    assert shown["mix_with"]["choices"][0] == ("Max", second)
    asked = {how: shelf.mixing(how) for _, how in MIXES}
    assert [how for how in asked if asked[how]["mix_share"]["visible"]] == ["interpolate"]
    assert [how for how in asked if asked[how]["mix_rank"]["visible"]] == ["truncate"]
    with pytest.raises(ValueError, match="takes 2 to 8 runs"):
        shelf.combine(first, "", "add", None, 0.5, 16)
    both = studio.resources.library.find(shelf.combine(first, "", "interpolate", second, 0.25, 16)["chosen"])
    alone = studio.resources.library.find(shelf.combine(first, "", "truncate", second, 0.25, 4)["chosen"])
    assert both.config["file"] == "interpolate: <b>Bello, Max"
    assert alone.config["file"] == "truncate: <b>Bello"


def test_settings_of_another_method_bring_its_fields(
    shelf: LibraryHandlers, monitor: RunMonitor, tmp_path: Path
) -> None:
    path = tmp_path / "run.json"
    told = {"atelier": 1, "method": "svdiff", "config": to_dict(SVDiffConfig(subset="UNet-CA"))}
    path.write_text(json.dumps(told))
    values = shelf.read_settings(str(path), "embedded")
    assert (values["svdiff_subset"], values["method"], values["plan"]["value"]) == (
        "UNet-CA", "svdiff", "svdiff/Quick",
    )  # fmt: skip
    assert (values["own_svdiff"]["visible"], values["own_dreambooth"]["visible"]) == (True, False)


def test_a_plan_shows_the_fields_of_its_method(monitor: RunMonitor, photographs: list[Path]) -> None:
    train = TrainHandlers(monitor)
    values = train.choose_plan("svdiff/Quick", "embedded", None)
    assert values["own_svdiff"]["visible"]
    assert values["svdiff_subset"] == preset("svdiff", "embedded").subset
    source = {"title": "", "files": [str(photographs[0])], "crops": {}, "captions": {}}
    fields = {"class_noun": "dog", "identifier": "zul"} | {
        name: value for name, value in values.items() if not name.startswith("own_")
    }
    told = train.cost(source, "svdiff/Quick", "embedded", **fields)["cost"]
    assert "a file of" in told
    values = train.start(source, "svdiff/Quick", "embedded", **fields | {"steps": 1, "warmup_steps": 0})
    assert monitor.studio.training.status(values["shown"])["config"]["subset"] == "UNet"


def test_settings_go_out_and_come_in(shelf: LibraryHandlers, monitor: RunMonitor, tmp_path: Path) -> None:
    values = shelf.detail(example(monitor))
    assert "python -m pipelines.cli" in values["command"]
    saved = Path(values["settings_out"]["value"])
    told = json.loads(saved.read_text())
    path = tmp_path / "run.json"
    path.write_text(json.dumps(told | {"config": told["config"] | {"steps": 77}}))
    values = shelf.read_settings(str(path), "embedded")
    assert (values["steps"], values["tabs"].selected) == (77, "train")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not a text file"):
        shelf.read_settings(str(path), "embedded")
    path.write_text("[]")
    with pytest.raises(ValueError, match="not Atelier settings"):
        shelf.read_settings(str(path), "embedded")


def test_settings_that_were_read_in_outlive_the_photographs_added_next(
    shelf: LibraryHandlers, monitor: RunMonitor, tmp_path: Path
) -> None:
    train, own = TrainHandlers(monitor), example(monitor)
    photos = monitor.studio.library.examples()[0]["photos"]
    told = monitor.studio.library.settings(own) | {"captions": {"01.png": "a zwx dog asleep"}}
    path = tmp_path / "run.json"
    path.write_text(json.dumps(told))
    values = shelf.read_settings(str(path), "embedded", None)
    held = values["imported"]
    assert "source" not in values
    assert held["captions"] == {"01.png": "a zwx dog asleep"}
    files = [str(photo) for photo in photos[:2]]
    example_before = train.source_of(next(iter(train.examples)))
    values = train.choose_files(files, example_before, "embedded", held)
    assert "class_noun" not in values, "the words of the settings stay"
    assert values["source"]["captions"] == {photos[1].name: "a zwx dog asleep"}, "the second photograph's"
    assert train.suit("dreambooth/Quick", "embedded", values["source"], held) == {}
    assert train.suit("dreambooth/Quick", "embedded", values["source"], None)["steps"] > 0
    uploaded = {"title": "", "files": files, "crops": {}, "captions": {}}
    values = shelf.read_settings(str(path), "embedded", uploaded)
    assert values["source"]["captions"] == {photos[1].name: "a zwx dog asleep"}
    assert train.choose_example(next(iter(train.examples)))["imported"] is None


def test_the_shelf_is_drawn_anew_when_a_run_changes_its_state(monitor: RunMonitor, own: str) -> None:
    values = monitor.show_run(own)
    assert values["seen"][:2] == [own, "done"]
    assert "seen" not in monitor.watch(own, values["drawn"]), "nothing has changed"


def test_the_shelf_is_drawn_before_anybody_has_searched(shelf: LibraryHandlers, own: str) -> None:
    assert own in shelf.browse(None, "")["cards"], "a field on a page not opened yet holds nothing"


def test_a_hub_id_is_asked_for_in_a_sentence(shelf: LibraryHandlers) -> None:
    with pytest.raises(ValueError, match="someone/something"):
        shelf.from_hub("  ", "")
    with pytest.raises(ValueError, match="ATELIER_HUB"):
        shelf.from_hub("someone/rex", "")


@pytest.mark.parametrize(
    ("count", "text"),
    [(12, "12 B"), (1500, "1.5 kB"), (511_000, "511 kB"), (3_300_000, "3.3 MB"), (4e9, "4.0 GB")],
)
def test_sizes_are_said_as_a_person_would(count: float, text: str) -> None:
    assert cards.size_of(count) == text


def test_a_run_becomes_a_base_that_is_read_back(
    shelf: LibraryHandlers, monitor: RunMonitor, studio: Studio
) -> None:
    values = shelf.merge(example(monitor), "diffusers", 0.8)
    assert re.search(r"(\d+)/\1 tensors, largest difference 0", values["merged"])
    with zipfile.ZipFile(values["merged_file"]["value"]) as merged:
        assert any(name.endswith("/model_index.json") for name in merged.namelist())
    opened = shelf.detail(example(monitor))
    assert (opened["merged"], opened["merged_file"]["visible"]) == ("", False), "another run starts afresh"


# Compare


@pytest.mark.parametrize(
    ("across", "values", "found"),
    [("prompts", "a\n\n b ", ["a", "b"]), ("seeds", "0, 1\n2", [0, 1, 2]), ("strengths", "0,.5", [0.0, 0.5])],
)
def test_columns_are_read_as_typed(across: str, values: str, found: list) -> None:
    assert parsed(values, across=across) == found


def test_a_comparison_draws_every_cell_and_its_table(
    shelf: LibraryHandlers, monitor: RunMonitor, studio: Studio
) -> None:
    comparison, progress = CompareHandlers(shelf), []
    values = comparison.compare(
        ["", example(monitor)], "strengths", "0, 1", "a photo of a {identifier} {class_noun}",
        lambda *args, **words: progress.append(args[0]), seed=3, steps=1,
    )  # fmt: skip
    assert values["grid"].count("<img") == 4
    assert "Untouched base, strength 1" in values["grid"], "every picture has words"
    alike = studio.training.status(example(monitor))["events"]
    alike = next(event for event in reversed(alike) if event["kind"] == "similarity")["identity"]
    assert f"{alike['low']:.2f} to {alike['high']:.2f}" in values["metrics"]
    assert progress[-1] == (4, 4)
    assert Path(values["grid_png"]).suffix == ".png"
    told = json.loads(Path(values["grid_json"]).read_text())
    assert (told["across"], told["values"], told["config"]["seed"]) == ("strengths", [0, 1], 3)
    assert [row["run"] for row in told["rows"]] == [None, example(monitor)]
    assert [cell["stack"][0]["strength"] for cell in told["cells"][1]] == [0, 1]


def test_two_runs_become_one_row_that_is_kept(
    shelf: LibraryHandlers, monitor: RunMonitor, studio: Studio
) -> None:
    comparison = CompareHandlers(shelf)
    first, second = (each["run"] for each in studio.library.examples()[:2])
    parts = {
        "stack_first": first,
        "stack_first_strength": 1,
        "stack_second_strength": 0.5,
        "stack_part": "upper",
    }
    made = comparison.add_stack(["", first], **parts, stack_second=second)["compared"]
    row = made["value"][-1]
    assert made["value"] == ["", first, row]
    assert dict((value, label) for label, value in made["choices"])[row].endswith("at 0.5, by blocks")
    assert (
        comparison.add_stack(made["value"], **parts, stack_second=second)["compared"]["value"]
        == made["value"]
    )
    turned = shelf.to_compare(second, made["value"])["compared"]
    assert turned["value"] == ["", first, row, second]
    assert row in [value for _, value in turned["choices"]]
    assert "" not in [run for _, run in comparison.offer()["stack_first"]["choices"]]
    drawn = comparison.compare(
        ["", row], "second", "0, 1", "a photo of a {class_noun}", lambda *_, **__: None
    )
    assert "second run at 1" in drawn["grid"]
    base, stack = json.loads(Path(drawn["grid_json"]).read_text())["rows"]
    assert base["stack"] == []
    assert [layer["strength"] for layer in stack["stack"]] == [1.0, 0.5]
    assert stack["stack"][1]["blocks"] == BlockStrengths.parse("1,0,0,0,0,0,0,0,1").format(26)
    gone = rows.choices({"": "Untouched base", first: "Ada"}, [row])
    assert [value for _, value in gone] == ["", first], "a stack goes with its run"
    with pytest.raises(ValueError, match="choose both"):
        comparison.add_stack([], **parts, stack_second=None)


def test_what_cannot_be_compared_is_said(shelf: LibraryHandlers) -> None:
    comparison = CompareHandlers(shelf)
    with pytest.raises(ValueError, match="No row is chosen"):
        comparison.compare([], "seeds", "0", "x", print)
    with pytest.raises(ValueError, match="'soon' is not a seed"):
        comparison.compare([""], "seeds", "0, soon", "x", print)


# Recall


def test_a_picture_restores_what_it_was_made_with(
    playground: PlaygroundHandlers, monitor: RunMonitor, studio: Studio
) -> None:
    config = SampleConfig(prompt="a zwx person on the beach", seed=41, steps=12, guidance_scale=3.5)
    (path,) = studio.generation.generate(config, run_id=example(monitor), strength=0.75)
    values = playground.recall(str(path))
    assert (values["prompt"], values["seed"]) == ("a zwx person on the beach", 41)
    assert (values["play_steps"], values["play_guidance_scale"], values["strength"]) == (12, 3.5, 0.75)
    assert values["shown"] == example(monitor)
    assert "seed 41" in values["recalled"]
    (base_alone,) = studio.generation.generate(config)
    assert playground.recall(str(base_alone))["strength"] == 0.0


def test_a_picture_of_a_kept_state_is_drawn_with_it_until_the_page_turns(
    playground: PlaygroundHandlers, monitor: RunMonitor, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id, config = example(monitor), SampleConfig(prompt="a zwx person", steps=2)
    (path,) = studio.generation.generate(config, run_id=run_id)
    found = studio.generation.recall(path)
    found |= {"stack": [found["stack"][0] | {"step": 5}], "note": "x.png will differ."}
    monkeypatch.setattr(playground.studio.generation, "recall", lambda path: found)
    with pytest.warns(UserWarning, match="will differ"):
        values = playground.recall(str(path))
    assert values["recalled_steps"] == {run_id: 5}
    assert "after step 5" in values["recalled"]
    with pytest.raises(ValueError, match="keeps no state after step 5"):
        playground.generate(run_id, 1.0, recalled_steps={run_id: 5}, prompt="a zwx person")
    assert monitor.show_run(run_id)["recalled_steps"] == {}


def test_a_picture_whose_run_is_gone_still_tells_its_settings(
    playground: PlaygroundHandlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(path: Path) -> dict:
        error = ValueError("The run 'Rex' is gone.")
        error.recalled = {
            "sample": {"prompt": "a zul dog", "seed": 5},
            "stack": [{"run": "gone", "name": "Rex", "strength": 1.0}],
            "base": "embedded",
            "base_name": "Embedded base",
        }
        raise error

    monkeypatch.setattr(playground.studio.generation, "recall", gone)
    with pytest.warns(UserWarning, match="is gone"):  # the page's warning, when no page is open
        values = playground.recall("/somewhere/picture.png")
    assert (values["prompt"], values["seed"]) == ("a zul dog", 5)
    assert "shown" not in values


def test_another_picture_is_refused_in_a_sentence(playground: PlaygroundHandlers, tmp_path: Path) -> None:
    path = tmp_path / "holiday.png"
    Image.new("RGB", (8, 8)).save(path)
    with pytest.raises(ValueError, match="holds no settings"):
        playground.recall(str(path))


def test_the_speakers_cue_names_the_next_step() -> None:
    assert "Choose" in panels.guide(1)
    assert "Press Personalize" in panels.guide(3)


def test_advice_is_given_where_it_is_needed() -> None:
    assert panels.advice(RunView(id="x", state="done")) == ""
    assert "last checkpoint" in panels.advice(RunView(id="x", state="interrupted"))
    assert "from its photographs" in panels.advice(RunView(id="x", state="failed"))
