"""The main use case with the real program: a fresh data folder, two clicks, a personalized picture."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser
ROOT = Path(__file__).resolve().parent.parent.parent
START_S = 120  # generous, because a shared machine may be busy
TRAINING_MS = 420_000


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Start app.py as a user does and return its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # one thread: another test process may be driving a browser with timeouts at the same time
    environment = os.environ | {"ATELIER_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "app.py"), "--port", str(port)],
        cwd=ROOT, env=environment, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(url, process=process)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(url: str, *, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "app.py has ended"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"app.py did not answer within {START_S} s")


def test_two_clicks(browser: Any, address: str) -> None:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(60_000)
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(address)
    page.wait_for_selector("#first-showcase .compare img.after")
    page.locator("#page-start button.example-card").nth(1).click()
    page.wait_for_selector("#first-run .run-title:has-text('Finished')")
    page.wait_for_selector("#first-run .strip img")
    page.click("#first-personalize")
    page.wait_for_selector("#first-run .run-title:has-text('Training')", timeout=TRAINING_MS)
    page.wait_for_selector("#first-run .run-title:has-text('Finished')", timeout=TRAINING_MS)
    after = page.wait_for_selector("#first-showcase .compare .tag.right:has-text('After')")
    assert after.inner_text() == "After"
    assert page.locator("#first-run .strip img").count() >= 4
    assert page.evaluate("document.querySelector('#first-showcase img.after').naturalWidth") > 0
    page.get_by_role("tab", name="Train").click()
    page.wait_for_selector("#run-card .curve.smooth")
    assert all(url.startswith((address, "data:", "blob:")) for url in requests)
    page.close()
