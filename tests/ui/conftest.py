"""A page on a pretended Studio, served in this process; every look-up of a host that is not this machine is kept."""

import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import gradio as gr
import pytest
from fake_studio import FakeStudio
from PIL import Image

from ui.app import build
from ui.html import Handout
from ui.theme import look

PATIENCE_MS = 60_000
CHROMIUM_ARGS = ["--no-sandbox", "--disable-gpu", "--disable-extensions", "--disable-background-networking"]
DESKTOP = {"width": 1440, "height": 900}
LOCAL = ("localhost", "127.0.0.1", "::1", "0.0.0.0", "", None)
CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))),
    None,
)


def pytest_configure(config: pytest.Config) -> None:
    """Gradio leaves the event loop of the building thread, and its sockets, to the garbage collector."""
    for message in ("unclosed event loop", "unclosed <socket"):
        config.addinivalue_line("filterwarnings", f"ignore:{message}:ResourceWarning")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Keep with a failed test what its tabs show."""
    report = yield
    if report.when == "call" and report.failed:
        report.sections += [("The page", visitor.told()) for visitor in Visitor.present]
    return report


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
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGS)
        yield launched
        launched.close()


class Visitor:
    """One tab, with every request it makes and every error it prints."""

    present: ClassVar[list["Visitor"]] = []

    def __init__(
        self,
        browser: Any,
        url: str,
        *,
        viewport: dict[str, int] = DESKTOP,
        scheme: str = "light",
        tab: str = "train",
        query: str = "",
    ) -> None:
        Visitor.present.append(self)
        self.context = browser.new_context(viewport=viewport, color_scheme=scheme, reduced_motion="reduce")
        self.context.set_default_timeout(PATIENCE_MS)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.place = f"#page-{tab}"
        self.page.goto(f"{url}/{query}#{tab}")
        self.page.wait_for_selector(
            self.place if tab in ("library", "compare") else f"{self.place} .compare img"
        )

    def leave(self) -> None:
        """Close the tab."""
        Visitor.present.remove(self)
        self.context.close()

    def turn(self, tab: str) -> "Visitor":
        """Turn to another tab; what is done next is done there."""
        self.page.locator("#tabs [role=tab]").get_by_text(tab.capitalize(), exact=True).first.click()
        self.place = f"#page-{tab}"
        self.page.wait_for_selector(self.place)
        return self

    def see(self, selector: str, **options: Any) -> Any:
        """Wait until something is visible on the tab that was opened."""
        return self.page.wait_for_selector(f"{self.place} {selector}", **options)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something has come true on the server's side."""
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while not condition() and time.monotonic() < deadline:
            self.page.wait_for_timeout(50)
        assert condition()

    def press(self, name: str) -> None:
        """Press a button of the visible tab."""
        self.page.locator(f"{self.place} button:visible").get_by_text(name, exact=True).click()

    def choose(self, title: str) -> None:
        """Click 1, and wait until it is answered: its noun is in the form again, its shipped result shown."""
        noun = self.page.locator(self.place).get_by_label("What is it?")
        noun.fill("")
        self.page.locator(f"{self.place} button.example-card").filter(has_text=title).click()
        self.page.wait_for_function("(field) => field.value !== ''", arg=noun.element_handle())
        self.see(f".run-name:has-text('{title}, shipped')")

    def told(self) -> str:
        """Return what the page shows, for a test that failed."""
        words = self.page.locator("body").inner_text(timeout=5000).splitlines()
        return "\n".join([self.page.url, *self.errors, *(line for line in words if line.strip())])

    def step(self) -> int:
        """Return the step that the progress line shows."""
        found = re.search(r"Step\s*(\d+) / ", self.page.inner_text(f"{self.place} .figures"))
        return int(found[1]) if found else 0

    def wait_for_step(self, least: int) -> None:
        """Wait until the progress line shows at least this step."""
        self.page.wait_for_function(
            "([place, least]) => parseInt((document.querySelector(place + ' .figures dd') || {}).innerText) >= least",
            arg=[self.place, least],
        )


@pytest.fixture
def visit(browser: Any, served: Served) -> Iterator[Any]:
    visitors: list[Visitor] = []

    def enter(**options: Any) -> Visitor:
        visitors.append(Visitor(browser, served.url, **options))
        return visitors[-1]

    yield enter
    for visitor in visitors:
        visitor.leave()
    for row in reversed(served.studio.training.queue()):
        served.studio.training.stop(row["run"])


@pytest.fixture
def pace(served: Served, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set the seconds of a pretended step: slow enough to be seen on a busy machine, or never to end by itself."""
    return lambda step_s: monkeypatch.setattr(served.studio, "step_s", step_s)


@pytest.fixture
def photographs(tmp_path: Path) -> list[Path]:
    """Three pictures, one of them twice as wide as high."""
    paths = []
    for index, size in enumerate(((200, 200), (320, 160), (160, 220))):
        paths.append(tmp_path / f"photo-{index}.png")
        Image.linear_gradient("L").resize(size).convert("RGB").save(paths[-1])
    return paths
