"""The page, served in this process by a real Studio with a fake UNet. DNS look-ups of other hosts are recorded."""

import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import gradio as gr
import pytest
from PIL import Image

from pipelines.methods.specs import preset
from pipelines.runs.store import Run
from pipelines.studio import Studio
from tests.fake_model import FakeModelCache
from ui.app import build
from ui.html import BrowserCopies
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
    """Ignore Gradio's ResourceWarnings: its event loop and sockets are closed only by the garbage collector."""
    for message in ("unclosed event loop", "unclosed <socket"):
        config.addinivalue_line("filterwarnings", f"ignore:{message}:ResourceWarning")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Attach the visible text of all open tabs to the report of a failed test."""
    report = yield
    if report.when == "call" and report.failed:
        report.sections += [("The page", visitor.told()) for visitor in Visitor.present]
    return report


@dataclass
class Served:
    """A running page: its address, its Studio, and the names of other hosts that were looked up."""

    url: str
    studio: Studio
    model: FakeModelCache
    blocks: gr.Blocks
    strangers: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def model() -> FakeModelCache:
    return FakeModelCache()


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory, model: FakeModelCache) -> Iterator[Studio]:
    """A real Studio; only the UNet of its model is fake."""
    made = Studio(tmp_path_factory.mktemp("atelier"), devices=("cpu",), model_cache=model)
    yield made
    model.step_s = 0.0
    made.close()


def clear(studio: Studio, model: FakeModelCache, *, keep: Collection[str] = ()) -> None:
    """Stop running jobs, wait for them, and delete every run except those in ``keep``."""
    model.step_s, model.fail_at, model.fail_kind = 0.0, 0, ""
    for run in studio.resources.store.list():
        if run.id not in keep:
            with suppress(ValueError):  # already deleted
                studio.training.discard(run.id)
                studio.training.wait(run.id, PATIENCE_MS / 1000)


def newest(studio: Studio) -> Run:
    """Return the most recently started run."""
    return studio.resources.store.list()[0]


def finished_run(studio: Studio, method: str = "dreambooth", *, steps: int = 2, **settings: Any) -> str:
    """Train on the first example's photographs and return the id of the finished run."""
    settings = {"steps": steps, "warmup_steps": 0, "measure": False, "sample_steps": 1} | settings
    name = settings.pop("name", "Rex")
    config = replace(preset(method, "embedded"), identifier="zwx", class_noun="dog", **settings)
    run_id = studio.training.start(method, config, studio.library.examples()[0]["photos"], name=name)
    assert studio.training.wait(run_id, PATIENCE_MS / 1000) == "done", studio.training.status(run_id)["error"]
    return run_id


@pytest.fixture(autouse=True, scope="module")
def _nothing_is_left(studio: Studio, model: FakeModelCache) -> Iterator[None]:
    """Delete the runs of a test module at its end."""
    yield
    clear(studio, model)


@pytest.fixture(scope="session")
def lora_file(studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return rex.safetensors: a LoRA in kohya's format with "zwx dog" in its metadata."""
    run_id = finished_run(studio, rank=2)
    file = studio.import_export.export(run_id, "kohya").rename(
        tmp_path_factory.mktemp("elsewhere") / "rex.safetensors"
    )
    studio.library.delete(run_id)
    return file


@pytest.fixture(scope="session")
def copies() -> Iterator[BrowserCopies]:
    made = BrowserCopies()
    yield made
    made.close()


@pytest.fixture(scope="session")
def served(studio: Studio, model: FakeModelCache, copies: BrowserCopies) -> Iterator[Served]:
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
        blocks = build(studio, copies)
        _, url, _ = blocks.queue(max_size=64).launch(
            **look(), prevent_thread_lock=True, quiet=True, allowed_paths=[str(copies.folder)],
            enable_monitoring=False, run_history=False, footer_links=["api", "settings"],
        )  # fmt: skip
        yield Served(url.rstrip("/"), studio, model, blocks, strangers)
        blocks.close(verbose=False)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium. If there is none, its tests are skipped, or fail if ATELIER_REQUIRE_BROWSER is set."""
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


# The buttons of a page that are visible and enabled, but that a click in their middle does not reach.
COVERED = """
(place) => [...document.querySelectorAll(place + ' button')]
  .filter((each) => each.offsetParent && !each.disabled && each.getBoundingClientRect().width > 0)
  .filter((each) => {
    each.scrollIntoView({block: 'center', behavior: 'instant'});
    const box = each.getBoundingClientRect();
    const hit = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
    return !hit || !(each.contains(hit) || hit.closest('button')?.contains(each));  // Gradio nests some
  })
  .map((each) => each.getAttribute('aria-label') || each.innerText)
"""


class Visitor:
    """One browser tab, with the requests it makes and the errors it logs."""

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
        """Switch to another tab of the page; later calls refer to that tab."""
        self.page.locator("#tabs [role=tab]").get_by_text(tab.capitalize(), exact=True).first.click()
        self.place = f"#page-{tab}"
        self.page.wait_for_selector(self.place)
        return self

    def see(self, selector: str, **options: Any) -> Any:
        """Wait until an element is visible on the current tab."""
        return self.page.wait_for_selector(f"{self.place} {selector}", **options)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition on the server is true."""
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while not condition() and time.monotonic() < deadline:
            self.page.wait_for_timeout(50)
        assert condition()

    def press(self, name: str) -> None:
        """Press a button of the visible tab."""
        self.page.locator(f"{self.place} button:visible").get_by_text(name, exact=True).click()

    def refuses(self, act: Callable[["Visitor"], object], *, says: str) -> None:
        """Do something that the page refuses: one notice says why, and every button can still be pressed."""
        disabled = self.page.locator(f"{self.place} button[disabled]:visible").count()
        act(self)
        notice = self.page.wait_for_selector(f".toast-body:has-text({json.dumps(says)})")
        self.page.wait_for_timeout(200)
        assert self.page.locator(".toast-body").count() == 1
        assert "Traceback" not in notice.inner_text()
        self.page.locator(".toast-close").click()
        self.page.wait_for_selector(".toast-body", state="detached")
        assert self.page.evaluate(COVERED, self.place) == []
        assert self.page.locator(f"{self.place} button[disabled]:visible").count() == disabled
        assert not self.page.locator(f"{self.place} .error:visible").count()

    def choose(self, title: str) -> None:
        """Select an example and wait until the form shows its class noun and the page shows its shipped result."""
        noun = self.page.locator(self.place).get_by_label("What is it?")
        noun.fill("")
        self.page.locator(f"{self.place} button.example-card").filter(has_text=title).click()
        self.page.wait_for_function("(field) => field.value !== ''", arg=noun.element_handle())
        self.see(f".run-title:has-text('Finished'):has(.run-name:text-is('{title}'))")

    def told(self) -> str:
        """Return the visible text of the page, for the report of a failed test."""
        from playwright.sync_api import Error as PlaywrightError

        try:
            words = self.page.locator("body").inner_text(timeout=5000).splitlines()
        except PlaywrightError as error:  # an error in a report must not end the test session
            return f"the page does not answer: {error}"
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
    clear(served.studio, served.model)


@pytest.fixture
def pace(model: FakeModelCache) -> Iterator[Any]:
    """Set the minimum duration of a training step: long enough to be observed, or so long that it never ends."""
    yield lambda step_s: setattr(model, "step_s", step_s)
    model.step_s = 0.0


@pytest.fixture
def photographs(tmp_path: Path) -> list[Path]:
    """Three pictures, one of them twice as wide as high."""
    paths = []
    for index, size in enumerate(((200, 200), (320, 160), (160, 220))):
        paths.append(tmp_path / f"photo-{index}.png")
        Image.linear_gradient("L").resize(size).convert("RGB").save(paths[-1])
    return paths
