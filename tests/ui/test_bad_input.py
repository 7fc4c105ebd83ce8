"""Every known kind of invalid input gets its own error message, on the page and over the API, and changes no data."""

from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from pipelines.studio import Studio
from tests.bad_input import API, BAD, PAGE, Bad, Door, page
from ui import api, api_identities
from ui.html import BrowserCopies


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Studio, Client]]:
    """A Studio behind the named endpoints; no case loads its model."""
    studio, copies = Studio(tmp_path_factory.mktemp("served")), BrowserCopies()
    with gr.Blocks(analytics_enabled=False) as blocks:
        api.add(studio, copies)
        api_identities.add(studio, copies)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "localhost,127.0.0.1")
        _, url, _ = blocks.queue().launch(prevent_thread_lock=True, quiet=True, enable_monitoring=False)
        client = Client(url, verbose=False)
        yield studio, client
        client.close()
        blocks.close(verbose=False)
    copies.close()
    studio.close()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    studio = Studio(tmp_path_factory.mktemp("alone"))
    yield studio
    studio.close()


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: f"{bad.part}: {bad.what}".replace(" ", "-"))
def test_bad_input_gets_its_sentence(bad: Bad, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    if bad.part == API:
        studio, client = request.getfixturevalue("served")
        door, kind = Door(studio, tmp_path, client), AppError
    else:
        door, kind = Door(request.getfixturevalue("alone"), tmp_path), ValueError
    before = {run.id for run in door.studio.library.list_runs()}
    with pytest.raises(kind) as caught:
        bad.ask(door)
    said = str(caught.value)
    start, dots, end = bad.says.partition("...")
    assert said.startswith(start)
    assert said.endswith(end)
    assert dots or said == bad.says
    assert "\n" not in said
    assert said.endswith(".")
    made = [run.name for run in door.studio.library.list_runs() if run.id not in before]
    assert made in ([], ["Rex"])  # except Rex, which the case itself needs


def test_the_list_is_long_and_says_each_thing_once() -> None:
    assert len(BAD) >= 40
    assert len({(bad.part, bad.what) for bad in BAD}) == len(BAD)


def test_the_page_is_the_list() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m tests.bad_input"
