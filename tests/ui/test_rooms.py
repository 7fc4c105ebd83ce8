"""What the pages of the house do, handler by handler, on the pretended Studio: no server, no browser."""

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from fake_studio import FakeStudio
from PIL import Image

from pipelines.config import DreamBoothConfig, SampleConfig, SVDiffConfig, to_dict
from pipelines.methods.specs import preset
from ui.html import Handout
from ui.run import cards, panels
from ui.run.cards import MIXES
from ui.run.monitor import RunMonitor
from ui.run.replay import LONGEST_WAIT_S, Replay, clock, playable, replayed
from ui.run.state import RunView, fold
from ui.tabs.compare import rows
from ui.tabs.compare.tab import CompareHandlers, parsed
from ui.tabs.library.handlers import LibraryHandlers
from ui.tabs.train.handlers import TrainHandlers, suited_steps
from ui.tabs.train.playground_handlers import PlaygroundHandlers
from ui.wiring import WATCHED

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def monitor(studio: FakeStudio, handout: Handout) -> RunMonitor:
    return RunMonitor(studio, handout)


@pytest.fixture
def playground(monitor: RunMonitor) -> PlaygroundHandlers:
    return PlaygroundHandlers(monitor)


@pytest.fixture
def shelf(monitor: RunMonitor, playground: PlaygroundHandlers) -> LibraryHandlers:
    return LibraryHandlers(monitor, playground)


@pytest.fixture
def own(studio: FakeStudio) -> Any:
    """The visitor's only run, finished; deleted afterwards if the test has not."""
    for row in studio.library.list_runs():  # what browser tests left behind
        studio.library.delete(row["id"])
    run_id = studio.import_export.import_lora(Path("rex.safetensors"), name="Rex")
    yield run_id
    if run_id in [row["id"] for row in studio.library.list_runs()]:
        studio.library.delete(run_id)


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
    with pytest.raises(ValueError, match="no steps to play"):
        monitor.play(own, 4.0)


# A tick


def test_a_tick_touches_nothing_where_nothing_is_new(monitor: RunMonitor, own: str) -> None:
    drawn = monitor.show_run(own)["drawn"]
    assert monitor.tick(own, drawn, 3) == {}
    assert monitor.tick("", {}, 3) == {}


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_order_of_the_answers_the_page_comes_to_show_the_chosen_run(
    monitor: RunMonitor, own: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, page, under_way = random.Random(seed), {"drawn": {}}, []
    line: list[dict[str, Any]] = []
    row = {"run": own, "name": "Rex", "state": "running", "position": 0, "device": "", "seconds_left": None}
    monkeypatch.setattr(monitor.studio, "queue", lambda: line)

    def arrive(answer: dict[str, Any]) -> None:
        page["drawn"] = json.loads(json.dumps(page["drawn"] | answer.pop("drawn", {})))
        page.update(answer)

    for _ in range(12):
        line = [row] * rng.randrange(2)  # so that some answers draw the queue alone
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


def test_a_talk_goes_on_with_a_recording(monitor: RunMonitor, studio: FakeStudio) -> None:
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
    monitor: RunMonitor, studio: FakeStudio, photographs: list[Path]
) -> None:
    train = TrainHandlers(monitor)
    source = {"title": "", "files": [str(path) for path in photographs], "crops": {}, "captions": {}}
    source = train.caption(source, 1, " a zul dog asleep ")["source"]
    assert source["captions"] == {"photo-1.png": "a zul dog asleep"}
    shown = train.choose_photo(source, 1)
    assert shown["photo_caption"]["value"] == "a zul dog asleep"
    assert train.caption(source, 1, "")["source"]["captions"] == {}
    values = train.start(source, "dreambooth/Quick", "embedded", identifier="zul", class_noun="dog", steps=1)
    config = studio.training.status(values["shown"])["config"]
    assert config["use_captions"]
    wait_until_idle(studio)
    studio.library.delete(values["shown"])


def test_runs_of_one_name_are_told_apart_by_their_time() -> None:
    rows = [
        {"id": str(index), "name": name, "created": 60.0 * index}
        for index, name in enumerate(("Rex", "Rex", "Ada"))
    ]
    first, second, ada = cards.told_apart(rows).values()
    assert first != second
    assert first.startswith("Rex (")
    assert ada == "Ada"


def test_one_more_photograph_leaves_what_was_said_of_the_others(
    monitor: RunMonitor, photographs: list[Path]
) -> None:
    train = TrainHandlers(monitor)
    files = [str(path) for path in photographs]
    source = {"title": "", "files": files[:2], "crops": {}, "captions": {}, "repeats": {"photo-1.png": 3}}
    source = train.nudge(train.caption(source, 0, "a zul dog asleep")["source"], "embedded", 1, 0.5, 0.0)[
        "source"
    ]
    added = train.choose_files(files, source, "embedded")["source"]
    for what in ("crops", "captions", "repeats"):
        assert added[what] == source[what]
    left = train.choose_files(files[1:], added, "embedded")["source"]
    assert (left["crops"], left["captions"]) == (source["crops"], {})


def test_steps_suit_the_number_of_photographs() -> None:
    assert [suited_steps(200, photos=photos) for photos in (1, 4, 8, 20)] == [150, 200, 300, 400]


def test_other_photographs_change_the_steps_and_no_other_setting(monitor: RunMonitor) -> None:
    train = TrainHandlers(monitor)
    usual = preset("dreambooth", "embedded", "Quick").steps
    assert train.suit("dreambooth/Quick", "embedded", {"files": ["x.png"] * 8}, None) == {
        "steps": round(1.5 * usual)
    }
    assert train.suit("dreambooth/Quick", "embedded", {"files": ["x.png"] * 4}, None) == {"steps": usual}
    assert train.suit("dreambooth/Quick", "embedded", {"files": ["x.png"] * 8}, {"captions": {}}) == {}


def test_rare_words_are_offered_and_one_is_taken_only_where_none_is(monitor: RunMonitor) -> None:
    train = TrainHandlers(monitor)
    assert (
        train.identifiers("embedded", None)["identifier"]["value"]
        in train.identifiers("embedded", "zw")["identifier"]["choices"]
    )
    assert "value" not in train.identifiers("embedded", "zw")["identifier"]


def test_a_subject_gets_a_rare_word_that_no_run_has(
    monitor: RunMonitor, studio: FakeStudio, photographs: list[Path]
) -> None:
    train = TrainHandlers(monitor)
    first = train.identifiers("embedded", None)["identifier"]["value"]
    assert first not in {example["identifier"] for example in studio.library.examples()}
    source = {"title": "", "files": [str(path) for path in photographs], "crops": {}, "captions": {}}
    words = {"identifier": first.upper(), "class_noun": "dog", "steps": 1}
    run_id = train.start(source, "dreambooth/Quick", "embedded", **words)["shown"]
    wait_until_idle(studio)
    second = train.identifiers("embedded", None)["identifier"]["value"]
    assert second != first
    config = studio.training.status(
        train.start(source, "dreambooth/Quick", "embedded", **words | {"identifier": None})["shown"]
    )
    assert config["config"]["identifier"] == second, "also where the word was still being looked for"
    wait_until_idle(studio)
    studio.library.delete(run_id)
    assert train.identifiers("embedded", None)["identifier"]["value"] == first, (
        "a run's word is free again without it"
    )


def test_a_reload_puts_the_run_at_work_into_the_form(
    monitor: RunMonitor, studio: FakeStudio, photographs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studio, "step_s", 0.2)
    train = TrainHandlers(monitor)
    assert set(train.attach()) == {"runs"}, "without a run the form stays as the page opens"
    config = DreamBoothConfig(steps=500, identifier="kaq", class_noun="teapot")
    own = studio.training.start("dreambooth", config, photographs, name="kaq teapot")
    values = train.attach()
    assert (values["shown"], values["class_noun"], values["identifier"]) == (own, "teapot", "kaq")
    assert values["source"] is None, "nobody trains the first example by mistake"
    assert values["example_ada"]["elem_classes"] == ["example-card"]
    studio.training.stop(own, keep=False)
    wait_until_idle(studio)
    biscuit = next(example for example in studio.library.examples() if example["name"] == "biscuit")
    config = DreamBoothConfig(steps=500, identifier=biscuit["identifier"], class_noun="dog")
    run_id = studio.training.start("dreambooth", config, biscuit["photos"], name="Biscuit")
    values = train.attach()
    assert (values["source"]["title"], values["example_biscuit"]["elem_classes"]) == (
        "Biscuit",
        ["example-card", "chosen"],
    )
    studio.training.stop(run_id, keep=False)
    wait_until_idle(studio)


def test_other_photographs_get_another_rare_word(monitor: RunMonitor, photographs: list[Path]) -> None:
    train = TrainHandlers(monitor)
    files = [str(path) for path in photographs]
    source = train.choose_files(files, train.source_of("ada"), "embedded")["source"]
    assert "identifier" not in train.choose_files(files, source, "embedded"), "one more of the same subject"
    emptied = train.choose_files(None, source, "embedded")["source"]
    assert train.choose_files(files, emptied, "embedded")["identifier"] is None
    assert "identifier" not in train.choose_files(files, None, "embedded", {"captions": {}}), (
        "settings keep theirs"
    )


def wait_until_idle(studio: FakeStudio) -> None:
    deadline = time.monotonic() + 30
    while studio.training.queue() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not studio.training.queue()


def test_the_line_is_shown_and_can_be_changed(
    monitor: RunMonitor, studio: FakeStudio, photographs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studio, "step_s", 0.2)
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
    assert second not in [row["id"] for row in studio.library.list_runs()]
    for run_id in (third, first):
        studio.training.stop(run_id, keep=False)
    wait_until_idle(studio)


def test_nobody_in_line_shows_no_line() -> None:
    assert panels.queue([], shown="") == ""
    working = {
        "run": "a",
        "name": HOSTILE,
        "state": "running",
        "position": 0,
        "device": "cpu",
        "seconds_left": 3,
    }
    assert panels.queue([working], shown="a") == ""
    waiting = working | {"run": "b", "state": "queued", "position": 1}
    assert HOSTILE not in panels.queue([working, waiting], shown="a")


# The Library


def test_a_search_finds_by_every_word(shelf: LibraryHandlers, own: str) -> None:
    assert [row["id"] for row in shelf.rows("rex zul")] == [own]
    assert shelf.rows("rex nonsense") == []
    assert "Nothing here matches" in shelf.browse("nonsense", "")["cards"]
    assert "3 runs" in shelf.browse("", "")["found"]


def test_a_run_is_named_noted_and_deleted(shelf: LibraryHandlers, own: str, studio: FakeStudio) -> None:
    values = shelf.save(own, HOSTILE, "for the talk", "")
    assert HOSTILE not in values["cards"] + values["facts"]
    assert values["notes"]["value"] == "for the talk"
    assert [row["id"] for row in shelf.rows("talk")] == [own]
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


def test_an_interrupted_run_can_be_resumed_from_its_card(shelf: LibraryHandlers, studio: FakeStudio) -> None:
    run = studio.resources.store.create(
        "dreambooth", {"class_noun": "dog", "steps": 9}, {"spec": "embedded"}, name="Cut"
    )
    run.append("state", state="running", message="")
    assert "Interrupted" in shelf.browse("cut", "")["cards"]
    assert shelf.detail(run.id)["lib_resume"]["visible"]
    studio.library.delete(run.id)


def test_the_header_of_a_file_is_read_before_it_is_taken_in(shelf: LibraryHandlers) -> None:
    values = shelf.inspect("/somewhere/rex.safetensors")
    assert all(word in values["lora_facts"] for word in ("kohya", "128", "16", "zul dog"))
    assert values["add_row"]["visible"]
    with pytest.raises(ValueError, match="can run any program"):
        shelf.inspect("/somewhere/rex.bin")
    assert not shelf.inspect(None)["add_row"]["visible"]


def test_an_export_is_read_back(shelf: LibraryHandlers, monitor: RunMonitor) -> None:
    values = shelf.export(example(monitor), "kohya", 16)
    assert "128/128 keys, largest difference 0" in values["verified"]
    assert Path(values["lib_exported"]["value"]).is_file()


def test_shifts_leave_as_a_lora_of_a_chosen_rank(
    shelf: LibraryHandlers, studio: FakeStudio, monitor: RunMonitor
) -> None:
    run = studio.resources.store.create("svdiff", {"class_noun": "dog"}, {"spec": "embedded"}, name="Rex")
    run.append("state", state="done", message="")
    shown = shelf.detail(run.id)
    assert shown["lib_rank"]["visible"]
    assert "svdiff" in [value for _, value in shown["lib_format"]["choices"]]
    assert "rank 5" in shelf.export(run.id, "kohya", 5)["verified"]
    full = studio.resources.store.create("dreambooth", {"weights": "full"}, {"spec": "embedded"}, name="Max")
    full.append("state", state="done", message="")
    shown = shelf.detail(full.id)
    assert shown["lib_rank"]["visible"]
    assert "svdiff" not in [value for _, value in shown["lib_format"]["choices"]]
    studio.library.delete(full.id)
    plain = shelf.detail(example(monitor))
    assert not plain["lib_rank"]["visible"]
    assert "svdiff" not in [value for _, value in plain["lib_format"]["choices"]]
    studio.library.delete(run.id)


def test_what_moved_is_drawn(shelf: LibraryHandlers, studio: FakeStudio, monitor: RunMonitor) -> None:
    runs = []
    for name in ("Rex", "Max"):
        runs.append(
            studio.resources.store.create("svdiff", {"class_noun": "dog"}, {"spec": "embedded"}, name=name)
        )
        runs[-1].append("state", state="done", message="")
    values = shelf.moved(runs[0].id)
    assert values["shift_row"]["visible"]
    assert values["layer"]["choices"] == ["unet.conv_in"]
    assert values["alike"]["choices"] == [("Max", runs[1].id)]
    assert "&lt;b&gt;Mid" in values["views"], "escaped"
    assert values["views"].count("<td") == 5, "two by two cells and the corner"
    assert "0.125" in values["views"]
    assert "0.25" in values["views"], "bars have their numbers, too"
    assert "polyline" in shelf.spectrum(runs[0].id, "unet.conv_in")["spectrum"]
    assert shelf.spectrum(runs[0].id, "")["spectrum"] == ""
    alike = shelf.likeness(runs[0].id, [runs[1].id])["likeness"]
    assert (alike.count("Rex"), alike.count("0.25</td>")) == (2, 2)
    plain = shelf.moved(example(monitor))
    assert not plain["shift_row"]["visible"]
    for run in runs:
        studio.library.delete(run.id)


def test_shifts_are_combined_into_a_new_run(
    shelf: LibraryHandlers, studio: FakeStudio, monitor: RunMonitor
) -> None:
    runs = [
        studio.resources.store.create("svdiff", {"class_noun": "dog"}, {"spec": "embedded"}, name=name)
        for name in ("Rex", "Max")
    ]
    for run in runs:
        run.append("state", state="done", message="")
    assert not shelf.detail(example(monitor))["combine_row"]["visible"]
    shown = shelf.detail(runs[0].id)
    assert shown["combine_row"]["visible"]
    assert shown["mix_with"]["choices"] == [("Max", runs[1].id)]
    asked = {how: shelf.mixing(how) for _, how in MIXES}
    assert [how for how in asked if asked[how]["mix_share"]["visible"]] == ["interpolate"]
    assert [how for how in asked if asked[how]["mix_rank"]["visible"]] == ["truncate"]
    with pytest.raises(ValueError, match="takes 2 runs"):
        shelf.combine(runs[0].id, "", "add", None, 0.5, 16)
    made = [
        shelf.combine(runs[0].id, "", "interpolate", runs[1].id, 0.25, 16)["chosen"],
        shelf.combine(runs[0].id, "", "truncate", runs[1].id, 0.25, 4)["chosen"],
    ]
    both, alone = [call[1] for call in studio.calls if call[0] == "combine"][-2:]
    assert both == ([runs[0].id, runs[1].id], "interpolate", 0.25, 16)
    assert alone == ([runs[0].id], "truncate", 0.25, 4)
    for run_id in (*made, *(run.id for run in runs)):
        studio.library.delete(run_id)


def test_settings_of_another_method_bring_its_fields(
    shelf: LibraryHandlers, monitor: RunMonitor, tmp_path: Path
) -> None:
    path = tmp_path / "run.json"
    told = {"atelier": 1, "method": "svdiff", "config": to_dict(SVDiffConfig(subset="UNet-CA"))}
    path.write_text(json.dumps(told))
    values = shelf.read_settings(str(path), "embedded")
    assert (values["svdiff_subset"], values["plan"]) == ("UNet-CA", "svdiff/Quick")
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
    config = monitor.studio.training.status(values["shown"])["config"]
    assert config["subset"] == "UNet"
    wait_until_idle(monitor.studio)
    monitor.studio.library.delete(values["shown"])


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
    with pytest.raises(ValueError, match="no text"):
        shelf.read_settings(str(path), "embedded")
    path.write_text("[]")
    with pytest.raises(ValueError, match="not the settings"):
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


def test_a_hub_id_is_asked_for_in_a_sentence(shelf: LibraryHandlers, studio: FakeStudio) -> None:
    with pytest.raises(ValueError, match="someone/something"):
        shelf.from_hub("  ", "")
    values = shelf.from_hub("someone/rex", "")
    assert values["name"]["value"] == "rex"
    studio.library.delete(values["chosen"])


@pytest.mark.parametrize(
    ("count", "text"),
    [(12, "12 B"), (1500, "1.5 kB"), (511_000, "511 kB"), (3_300_000, "3.3 MB"), (4e9, "4.0 GB")],
)
def test_sizes_are_said_as_a_person_would(count: float, text: str) -> None:
    assert cards.size_of(count) == text


def test_a_run_becomes_a_base_that_is_read_back(
    shelf: LibraryHandlers, monitor: RunMonitor, studio: FakeStudio
) -> None:
    values = shelf.merge(example(monitor), "diffusers", 0.8)
    assert "1130/1130 tensors, largest difference 0" in values["merged"]
    assert Path(values["merged_file"]["value"]).suffix == ".zip"
    assert studio.calls[-1] == ("merge_into_base", (example(monitor), "diffusers", 0.8))
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
    shelf: LibraryHandlers, monitor: RunMonitor, studio: FakeStudio
) -> None:
    comparison, told = CompareHandlers(shelf), []
    values = comparison.compare(
        ["", example(monitor)], "strengths", "0, 1", "a photo of a {identifier} {class_noun}",
        lambda *args, **words: told.append(args[0]), seed=3,
    )  # fmt: skip
    assert values["grid"].count("<img") == 4
    assert "Untouched base, strength 1" in values["grid"], "every picture has words"
    assert "0.56 to 0.67" in values["metrics"]
    assert told[-1] == (4, 4)
    assert Path(values["grid_png"]).suffix == ".png"
    runs, across, columns, config = (
        studio.calls[-1][1]
        if studio.calls[-1][0] == "compare"
        else next(facts for name, facts in reversed(studio.calls) if name == "compare")
    )
    assert (runs, across, columns, config.seed) == ((None, example(monitor)), "strengths", (0.0, 1.0), 3)


def test_two_runs_become_one_row_that_is_kept(
    shelf: LibraryHandlers, monitor: RunMonitor, studio: FakeStudio
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
    asked = next(facts for name, facts in reversed(studio.calls) if name == "compare")[0]
    assert asked[0] is None
    assert [layer["strength"] for layer in asked[1]] == [1.0, 0.5]
    assert asked[1][1]["blocks"] == "1,0,0,0,0,0,0,0,1"
    gone = rows.choices({"": "Untouched base", first: "Ada"}, [row])
    assert [value for _, value in gone] == ["", first], "a stack goes with its run"
    with pytest.raises(ValueError, match="choose both"):
        comparison.add_stack([], **parts, stack_second=None)


def test_what_cannot_be_compared_is_said(shelf: LibraryHandlers) -> None:
    comparison = CompareHandlers(shelf)
    with pytest.raises(ValueError, match="Nothing is chosen"):
        comparison.compare([], "seeds", "0", "x", print)
    with pytest.raises(ValueError, match="'soon' is no seed"):
        comparison.compare([""], "seeds", "0, soon", "x", print)


# Recall


def test_a_picture_restores_what_it_was_made_with(
    playground: PlaygroundHandlers, monitor: RunMonitor, studio: FakeStudio
) -> None:
    config = SampleConfig(prompt="a zul person on the beach", seed=41, steps=12, guidance_scale=3.5)
    path = studio.draw(config, run_id=example(monitor), strength=0.75)
    values = playground.recall(str(path))
    assert (values["prompt"], values["seed"]) == ("a zul person on the beach", 41)
    assert (values["play_steps"], values["play_guidance_scale"], values["strength"]) == (12, 3.5, 0.75)
    assert values["shown"] == example(monitor)
    assert "seed 41" in values["recalled"]
    base_alone = studio.draw(config, run_id=None, strength=0.0)
    assert playground.recall(str(base_alone))["strength"] == 0.0


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

    monkeypatch.setattr(playground.studio, "recall", gone)
    with pytest.warns(UserWarning, match="is gone"):  # the page's warning, where there is no page
        values = playground.recall("/somewhere/picture.png")
    assert (values["prompt"], values["seed"]) == ("a zul dog", 5)
    assert "shown" not in values


def test_another_picture_is_refused_in_a_sentence(playground: PlaygroundHandlers, tmp_path: Path) -> None:
    path = tmp_path / "holiday.png"
    Image.new("RGB", (8, 8)).save(path)
    with pytest.raises(ValueError, match="carries no settings"):
        playground.recall(str(path))


def test_the_guide_says_where_we_are() -> None:
    assert panels.guide(3).count("✓") == 2
    assert panels.guide(3).count('aria-current="step"') == 1


def test_advice_is_given_where_it_is_needed() -> None:
    assert panels.advice(RunView(id="x", state="done")) == ""
    assert "last checkpoint" in panels.advice(RunView(id="x", state="interrupted"))
    assert "from its photographs" in panels.advice(RunView(id="x", state="failed"))
