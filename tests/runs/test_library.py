"""Library cards: built quickly from run files alone; shipped examples are distinguished from the user's runs."""

import json
from pathlib import Path

import pytest
from PIL import Image

from pipelines.runs.library import Library, seconds_at_work
from pipelines.runs.store import Run, RunStore
from pipelines.studio import Studio

BASE = {"spec": "embedded", "family": "embedded", "hash": "00", "name": "Embedded base"}
WORDS = {"identifier": "zwx", "class_noun": "dog", "steps": 4}


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "data")


def finished(store: RunStore) -> Run:
    """Return a run whose second row of samples is the best."""
    run = store.create("dreambooth", WORDS, BASE, name="Rex")
    (run.path / "samples").mkdir()
    run.append("state", state="running", message="")
    for step, likeness in ((0, 0.9), (2, 0.6), (4, 0.4)):
        for index in range(2):
            name = f"samples/{step:06d}-{index}.png"
            Image.new("RGB", (8, 8)).save(run.file(name))
            run.append("sample", step=step, prompt="x", seed=0, files=[name], label="")
        run.append("similarity", step=step, identity={"value": likeness, "low": 0.0, "high": 1.0})
    header = json.dumps({"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}).encode()
    run.file("adapter.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(24))
    run.append("state", state="done", message="")
    return run


def test_a_card_tells_what_a_run_is(store: RunStore) -> None:
    run = finished(store)
    (card,) = Library(store).cards()
    assert (card.id, card.name, card.state, card.trigger) == (run.id, "Rex", "done", "zwx dog")
    assert card.thumbnail == str(run.file("samples/000002-0.png"))
    assert (card.trainable, card.shipped, card.base_name) == (6, False, "Embedded base")
    assert card.bytes == run.size() > 100
    assert card.created == run.created
    assert [*card.as_json()] == [
        "id", "name", "state", "method", "preset", "created", "identifier", "class_noun", "trigger", "base", "base_name", "notes",
        "shipped", "source", "origin", "thumbnail", "bytes", "seconds", "trainable", "kind",
    ]  # fmt: skip  # the JSON that API clients receive


def test_cards_follow_what_happens(store: RunStore) -> None:
    run = store.create("dreambooth", WORDS, BASE)
    library = Library(store)
    (card,) = library.cards()
    assert (card.thumbnail, card.trainable, card.seconds) == (None, None, 0.0)
    run.append("state", state="running", message="")
    assert library.cards()[0].state == "interrupted"
    store.note(run.id, "too dark")
    assert library.cards()[0].notes == "too dark"


def test_seconds_leave_the_time_between_two_goes_out() -> None:
    def at(t: float, state: str = "") -> dict:
        return {"t": t, "kind": "state", "state": state} if state else {"t": t, "kind": "step"}

    story = [
        at(0, "queued"),
        at(10, "running"),
        at(15),
        at(90, "queued"),
        at(100, "running"),
        at(130, "done"),
    ]
    assert seconds_at_work(story) == 35.0
    assert seconds_at_work(story[:3]) == 5.0
    assert seconds_at_work([]) == 0.0
    year = 365 * 24 * 3600.0
    set_back = [at(year, "running"), at(year + 5), at(9), at(20), at(25, "done")]
    assert seconds_at_work(set_back) == 5.0 + 11.0 + 5.0


def test_examples_are_cards_of_their_own(store: RunStore) -> None:
    library = Library(store)
    assert library.cards() == []
    shipped = library.cards(shipped=True)
    assert len(shipped) == len(library.examples()) > 0
    for card in shipped:
        assert card.shipped
        assert card.state == "done"
        assert Path(card.thumbnail).is_file()
        assert library.find(card.id).name == card.name
        assert card.trainable > 1000


def test_rename_note_and_delete(tmp_path: Path) -> None:
    studio = Studio(tmp_path / "data")
    try:
        run_id = finished(studio.resources.store).id
        studio.library.rename(run_id, "  Rex\x00 the dog ")
        studio.library.note(run_id, "the best so far")
        (card,) = studio.library.list_runs()
        assert (card.name, card.notes) == ("Rex the dog", "the best so far")
        with pytest.raises(ValueError, match="is empty; type one"):
            studio.library.rename(run_id, "  ")
        with studio.resources.store.get(run_id).hold(), pytest.raises(ValueError, match="still running"):
            studio.library.delete(run_id)
        studio.library.delete(run_id)
        assert studio.library.list_runs() == []
        with pytest.raises(ValueError, match="no run"):
            studio.library.delete(run_id)
        example = studio.library.examples()[0]["run"]
        for change in (
            studio.library.delete,
            lambda run_id: studio.library.rename(run_id, "x"),
            lambda run_id: studio.library.note(run_id, "x"),
        ):
            with pytest.raises(ValueError, match="shipped example"):
                change(example)
    finally:
        studio.close()


ODD_FIELDS = [
    {"name": None}, {"name": 5}, {"method": []}, {"config": []}, {"config": None}, {"config": "steps"}, {"base": None},
    {"base": []}, {"base": {}}, {"base": {"spec": None}}, {"base": {"spec": 3}}, {"created": None}, {"created": "now"},
    {"created": True}, {"note": 5}, {"versions": None}, {"versions": []}, {"format": None}, {"format": []}, {"parents": 3},
]  # fmt: skip
LACKING = ["name", "method", "config", "base", "created", "format"]
ODD_FILES = ["[]", "null", "3", '"text"', "", "{", '{"a"', "\x00" * 20, "[" * 100_000, '{"format": 1e999}']
ODD_EVENTS = [
    {"kind": "sample"}, {"kind": "sample", "t": 1}, {"kind": "sample", "t": 1, "step": None, "files": ["x"]},
    {"kind": "sample", "t": 1, "step": 1, "files": "x"}, {"kind": "sample", "t": 1, "step": 1, "files": [5]},
    {"kind": "state", "t": 1}, {"kind": "state", "t": None, "state": "done"}, {"kind": "state", "t": 1, "state": []},
    {"kind": "similarity", "t": 1}, {"kind": "similarity", "t": 1, "step": 1, "identity": []},
    {"kind": "similarity", "t": 1, "step": 1, "identity": {}}, {"kind": "step", "t": 1}, {"kind": 5, "t": 1}, {"t": 1},
]  # fmt: skip


def odd_runs(store: RunStore) -> list[str]:
    """Write one run folder per kind of corrupt run.json; return the names."""
    made = []
    for index in range(len(ODD_FIELDS) + len(LACKING) + len(ODD_FILES)):
        run = finished(store)
        path, told = run.path / "run.json", json.loads((run.path / "run.json").read_text())
        if index < len(ODD_FIELDS):
            path.write_text(json.dumps(told | ODD_FIELDS[index]))
        elif index < len(ODD_FIELDS) + len(LACKING):
            del told[LACKING[index - len(ODD_FIELDS)]]
            path.write_text(json.dumps(told))
        else:
            path.write_text(ODD_FILES[index - len(ODD_FIELDS) - len(LACKING)])
        made.append(run.id)
    return made


def test_a_broken_run_is_a_card_of_its_own_and_hides_no_other(store: RunStore) -> None:
    good = finished(store)
    odd = odd_runs(store)
    cards = {card.id: card for card in Library(store).cards()}
    assert set(cards) == {good.id, *odd}
    assert cards[good.id].state == "done"
    for name in odd:
        assert (cards[name].name, cards[name].state) == (name, "broken")
        assert name in cards[name].broken
        store.delete(name)
    assert [card.id for card in Library(store).cards()] == [good.id]


def test_events_without_their_fields_are_no_events(store: RunStore) -> None:
    run = finished(store)
    expected = Library(store).card(run)
    with (run.path / "events.jsonl").open("a") as stream:
        stream.writelines(json.dumps(event) + "\n" for event in ODD_EVENTS)
    told = Library(store).cards()[0]
    assert told.broken == ""
    assert (told.state, told.thumbnail, told.trainable) == (
        expected.state,
        expected.thumbnail,
        expected.trainable,
    )
