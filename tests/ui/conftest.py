"""A page on a pretended Studio, served in this process; every look-up of a host that is not this machine is kept."""

import os
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from fake_studio import FakeStudio
from PIL import Image

from ui.markup import Handout
from ui.theme import look
from ui.train import build

LOCAL = ("localhost", "127.0.0.1", "::1", "0.0.0.0", "", None)
CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))),
    None,
)


def pytest_configure(config: pytest.Config) -> None:
    """Gradio leaves the event loop of the building thread, and its sockets, to the garbage collector."""
    for message in ("unclosed event loop", "unclosed <socket"):
        config.addinivalue_line("filterwarnings", f"ignore:{message}:ResourceWarning")


@dataclass
class Served:
    """A running page: its address, its Studio, and the names of other machines that were looked up."""

    url: str
    studio: FakeStudio
    blocks: gr.Blocks
    strangers: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> FakeStudio:
    return FakeStudio(tmp_path_factory.mktemp("atelier"), examples=2)


@pytest.fixture(scope="session")
def handout() -> Iterator[Handout]:
    copies = Handout()
    yield copies
    copies.close()


@pytest.fixture(scope="session")
def served(studio: FakeStudio, handout: Handout) -> Iterator[Served]:
    """Serve the page for the whole session, as app.py does."""
    strangers: list[str] = []
    ask = socket.getaddrinfo

    def watched(host: Any, *others: Any, **options: Any) -> Any:
        if host not in LOCAL:
            strangers.append(str(host))
            raise socket.gaierror(f"{host} is not this machine")
        return ask(host, *others, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", watched)
        patch.setenv("NO_PROXY", "localhost,127.0.0.1")
        blocks = build(studio, handout)
        _, url, _ = blocks.queue(max_size=64).launch(
            **look(), prevent_thread_lock=True, quiet=True, allowed_paths=[str(handout.folder)],
            enable_monitoring=False, run_history=False, footer_links=["api", "settings"],
        )  # fmt: skip
        yield Served(url.rstrip("/"), studio, blocks, strangers)
        blocks.close(verbose=False)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium; without one its tests are skipped, or fail where ATELIER_REQUIRE_BROWSER is set."""
    required = os.environ.get("ATELIER_REQUIRE_BROWSER") == "1"
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sync_playwright = None
    if sync_playwright is None or CHROMIUM is None:
        if required:
            pytest.fail("ATELIER_REQUIRE_BROWSER is set, but Chromium or playwright is missing.")
        pytest.skip("no Chromium (or playwright) here: install them to run the browser tests")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def photographs(tmp_path: Path) -> list[Path]:
    """Three pictures, one of them twice as wide as high."""
    paths = []
    for index, size in enumerate(((200, 200), (320, 160), (160, 220))):
        paths.append(tmp_path / f"photo-{index}.png")
        Image.linear_gradient("L").resize(size).convert("RGB").save(paths[-1])
    return paths
