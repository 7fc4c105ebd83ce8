"""The named endpoints, called with gradio_client against the server of the page."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Served, newest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[Client]:
    made = Client(served.url, verbose=False)
    yield made
    made.close()


def start(client: Client, photographs: list[Path], *, steps: int, **words: str) -> str:
    return client.predict(
        photos=[handle_file(str(path)) for path in photographs],
        class_noun=words.get("class_noun", "dog"),
        identifier="qev",
        method="dreambooth",
        preset_name="Quick",
        settings={"steps": steps, "warmup_steps": 0},
        api_name="/train_start",
    )


def until_finished(client: Client, run_id: str) -> dict:
    for _ in range(1200):
        status = client.predict(run_id=run_id, since=0, api_name="/train_status")
        if status["state"] not in ("queued", "running", "stopping"):
            return status
        time.sleep(0.05)
    pytest.fail("the run did not finish")


def test_a_run_from_photographs_to_export(client: Client, served: Served, photographs: list[Path]) -> None:
    run_id = start(client, photographs, steps=30)
    status = until_finished(client, run_id)
    assert status["state"] == "done"
    assert "path" not in status
    steps = [event for event in status["events"] if event["kind"] == "step"]
    assert len(steps) == 30
    assert (
        client.predict(run_id=run_id, since=len(status["events"]), api_name="/train_status")["events"] == []
    )
    assert run_id in [run["id"] for run in client.predict(api_name="/list_runs")]
    assert Path(client.predict(run_id=run_id, file_format="kohya", api_name="/export_run")).exists()
    whole = client.predict(run_id=run_id, file_format="diffusers", strength=0.5, api_name="/export_base")
    assert Path(whole).suffix == ".zip"
    run = newest(served.studio)
    assert (run.id, run.method, run.config["class_noun"]) == (run_id, "dreambooth", "dog")
    assert len(list((run.path / "photos").rglob("*.png"))) == 3


def test_a_run_is_stopped_and_kept(client: Client, photographs: list[Path], pace: Any) -> None:
    pace(0.05)
    run_id = start(client, photographs, steps=2000)
    assert client.predict(run_id=run_id, keep=True, api_name="/train_stop")["state"] == "stopping"
    assert until_finished(client, run_id)["state"] == "stopped"


def test_generate_returns_png_files(client: Client) -> None:
    made = client.predict(
        prompt="a person on the beach",
        run_id="",
        strength=1.0,
        settings={"seed": 5, "count": 2},
        api_name="/generate",
    )
    assert [picture["caption"] for picture in made] == ["seed 5", "seed 6"]
    with Image.open(made[0]["image"]) as picture:
        assert (picture.format, picture.size) == ("PNG", (128, 128))
        assert "atelier" in picture.info


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [({"steps": 10**9}, "the largest allowed"), ({"speed": 1}, "Unknown setting 'speed'")],
)
def test_bounds_hold_for_programs_too(client: Client, settings: dict, sentence: str) -> None:
    with pytest.raises(AppError, match=sentence):
        client.predict(prompt="x", run_id="", strength=1.0, settings=settings, api_name="/generate")


def test_without_photographs_nothing_starts(client: Client) -> None:
    with pytest.raises(AppError, match="no photograph"):
        start(client, [], steps=5)


def test_a_run_that_is_not_there_is_named(client: Client) -> None:
    with pytest.raises(AppError, match=r"There is no run '\.\./\.\./etc'"):
        client.predict(run_id="../../etc", since=0, api_name="/train_status")


def test_the_upload_of_a_text_is_refused(client: Client, tmp_path: Path) -> None:
    note = tmp_path / "note.png"
    note.write_text("not a picture")
    with pytest.raises(AppError):
        start(client, [note], steps=5)


def test_runs_are_compared_and_a_picture_is_recalled(client: Client, served: Served) -> None:
    example = served.studio.library.examples()[0]["run"]
    grid, table = client.predict(
        runs=[None, example], across="seeds", values=[3, 4], settings={"prompt": "a dog"}, api_name="/compare"
    )
    assert Path(grid).read_bytes().startswith(b"\x89PNG")
    assert Path(table).suffix == ".json"
    told = json.loads(Path(table).read_text())
    assert (told["across"], told["values"], told["config"]["prompt"]) == ("seeds", [3, 4], "a dog")
    assert [row["run"] for row in told["rows"]] == [None, example]
    stack = [{"run": example, "strength": 0.5}]
    _, table = client.predict(
        runs=[stack], across="strengths", values=[1], settings={"prompt": "a dog"}, api_name="/compare"
    )
    (row,) = json.loads(Path(table).read_text())["rows"]
    assert [(layer["run"], layer["strength"]) for layer in row["stack"]] == [(example, 0.5)]
    drawn = client.predict(
        prompt="a cat", run_id=example, strength=1.0, settings={"seed": 9}, api_name="/generate"
    )
    picture = drawn[0]["image"] if isinstance(drawn[0], dict) else drawn[0][0]
    told = client.predict(picture=handle_file(picture), api_name="/recall")
    assert (told["sample"]["prompt"], told["sample"]["seed"]) == ("a cat", 9)
    with pytest.raises(AppError, match="holds no settings"):
        client.predict(picture=handle_file(grid), api_name="/recall")
