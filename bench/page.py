"""The page's latency and its cost while nothing happens: first paint and first picture after a cold start, response time
of every click that runs no model, and the processor time of open pages that show a finished run.

    python -m bench.page --json page.json

Starts the real program with an empty data folder and drives it in Chromium (needs playwright and a Chromium, as the
browser tests do). Response times are measured inside the page, from the click to the first frame that shows the result.
Processor time is read from /proc (Linux): of the server, and of the browser's processes that draw pages.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FIRST_SIGHT = "#first-showcase .compare img.after"
TARGETS = {  # floor, goal
    "installed to first paint, s": (5.0, 4.0),
    "finished before/after in sight, s": (7.0, 5.0),
    "reaction, ms": (100.0, 100.0),
    "idle, % of a core": (2.0, 2.0),
}
PATIENCE_S = 120
SETTLED_S = 15  # after the last click, until a page asks seldom

# Each: the tab, the element that is clicked (or typed into), and the condition that shows success.
SHOWN = "document.querySelector('{}')?.offsetParent != null"
REACTIONS: dict[str, tuple[str, str, str]] = {
    "turn to Train": ("start", "tab:train", SHOWN.format("#page-train")),
    "turn to Library": ("start", "tab:library", SHOWN.format("#page-library")),
    "turn to Compare": ("start", "tab:compare", SHOWN.format("#page-compare")),
    "choose an example": (
        "start", "#page-start .example-card:not(.chosen)",
        "document.querySelectorAll('#page-start .example-card')[{other}].classList.contains('chosen')",
    ),
    "open Advanced": ("train", "#advanced > button", "{toggled}"),
    "open a card": ("library", ".library-card:not(.chosen)", "{pressed}"),
    "search": ("library", "type:#library-head input, #library-head textarea", "{filtered}"),
}  # fmt: skip

CLICK = """
async ([selector, text, ready]) => {
  const node = [...document.querySelectorAll(selector)].find((each) => each.offsetParent !== null);
  const holds = new Function('node', 'before', 'return ' + ready);
  const before = {html: document.querySelector('#cards')?.innerHTML, open: node.getAttribute('class'),
                  value: node.dataset.value};
  const began = performance.now();
  if (text === null) node.click();
  else {
    const set = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(node), 'value').set;
    set.call(node, text);
    node.dispatchEvent(new Event('input', {bubbles: true}));
  }
  while (!holds(node, before)) {
    if (performance.now() - began > 20000) throw new Error('no reaction to ' + selector);
    await new Promise(requestAnimationFrame);
  }
  await new Promise(requestAnimationFrame);
  return performance.now() - began;
}
"""


@contextmanager
def program(home: Path) -> Iterator[tuple[str, float]]:
    """Run the app in a separate process; yield (address, time.monotonic() in seconds at its start)."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "app.py"), "--port", str(port)],
        cwd=ROOT, env=os.environ | {"ATELIER_HOME": str(home)}, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            try:
                with urllib.request.urlopen(url, timeout=5):
                    break
            except OSError:
                if process.poll() is not None or time.monotonic() - began > PATIENCE_S:
                    raise RuntimeError("app.py did not answer; start it by hand to see why.") from None
                time.sleep(0.02)
        yield url, began
    finally:
        process.terminate()
        process.wait(30)


def first_visit(browser: Any, home: Path) -> dict[str, float]:
    """Measure a cold start: first response, first contentful paint, finished before/after pictures; bytes and files."""
    with program(home) as (url, began):
        answered = time.monotonic() - began
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(url)
        page.wait_for_selector(FIRST_SIGHT)
        sight = time.monotonic() - began
        paint_ms, opened_ms, weight, files = page.evaluate(
            "() => { const all = performance.getEntriesByType('resource');"
            " return [performance.getEntriesByName('first-contentful-paint')[0].startTime, performance.now(),"
            " all.reduce((sum, each) => sum + each.transferSize, 0), all.length] }"
        )
        page.close()
        return {
            "server answers, s": answered,
            "installed to first paint, s": sight - (opened_ms - paint_ms) / 1000,
            "finished before/after in sight, s": sight,
            "page weight, MB": weight / 1e6,
            "files": files,
        }


def turn(page: Any, tab: str) -> None:
    page.locator("#tabs [role=tab]").get_by_text(tab.capitalize(), exact=True).first.click()
    page.wait_for_selector(f"#page-{tab}")
    page.wait_for_timeout(400)


def reaction(page: Any, name: str, turn_number: int) -> float:
    """Return the milliseconds from a click to the frame that shows its result."""
    tab, target, ready = REACTIONS[name]
    turn(page, tab)
    kind, _, rest = target.partition(":")
    text = None
    if kind == "tab":
        target = f"#tabs [role=tab][data-tab-id={rest}]"
    elif kind == "type":
        target, text = rest, "" if turn_number % 2 else "dog"
    other = page.evaluate(
        "[...document.querySelectorAll('#page-start .example-card')].findIndex(each => !each.classList.contains('chosen'))"
    )
    ready = (
        ready.replace("{other}", str(other))
        .replace("{toggled}", "node.getAttribute('class') !== before.open")
        .replace("{filtered}", "document.querySelector('#cards').innerHTML !== before.html")
        .replace(
            "{pressed}", "document.querySelector('.library-card.chosen')?.dataset.value === before.value"
        )
    )
    return page.evaluate(CLICK, [target, text, ready])


def idle(browser: Any, home: Path, *, tabs: int, seconds: float) -> dict[str, float]:
    """Return the processor time, in percent of a core, of the server and of a page, while ``tabs`` show a finished run."""
    with program(home) as (url, _):
        opened = [browser.new_page(viewport={"width": 1440, "height": 900}) for _ in range(tabs)]
        for page in opened:
            page.goto(f"{url}/#train")
            page.wait_for_selector("#page-train button.example-card")
            page.locator("#page-train button.example-card").first.click()
            page.wait_for_selector("#run-card .run-title:has-text('Finished')")
        opened[0].wait_for_timeout(1000 * SETTLED_S)
        before = cpu_seconds()
        opened[0].wait_for_timeout(1000 * seconds)
        after = cpu_seconds()
        for page in opened:
            page.close()
    spent = {kind: 100 * (after[kind] - before[kind]) / seconds for kind in after}
    return {
        f"idle, {tabs} open: server, %": spent["server"],
        f"idle, {tabs} open: each page, %": spent["renderer"] / tabs,
        f"idle, {tabs} open: compositor, %": spent["gpu-process"],
    }


def cpu_seconds() -> dict[str, float]:
    """Return the processor time so far of this process's children: the server, and the browser's pages and compositor."""
    children: dict[int, list[tuple[int, float, bytes]]] = {}
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with suppress(OSError):  # it has ended
                facts = (process / "stat").read_text().rpartition(")")[2].split()
                ticks = int(facts[11]) + int(facts[12])  # in user and kernel mode
                told = (
                    int(process.name),
                    ticks / os.sysconf("SC_CLK_TCK"),
                    (process / "cmdline").read_bytes(),
                )
                children.setdefault(int(facts[1]), []).append(told)
    spent: dict[str, float] = {"server": 0.0, "renderer": 0.0, "gpu-process": 0.0}
    pending = [os.getpid()]
    while pending:
        for number, seconds, command in children.get(pending.pop(), []):
            pending.append(number)
            kinds = [kind for kind in spent if f"--type={kind}".encode() in command]
            for kind in ["server"] if b"app.py" in command else kinds:
                spent[kind] += seconds
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--repeats", type=int, default=7, help="of every reaction, and of the cold start: a third"
    )
    parser.add_argument("--idle", type=float, default=20.0, help="seconds of each idle measurement")
    parser.add_argument("--chromium", default=os.environ.get("ATELIER_CHROMIUM") or shutil.which("chromium"))
    parser.add_argument("--json", type=Path, help="write everything here")
    args = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory(prefix="atelier-page-") as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=args.chromium, args=["--no-sandbox"])
        visits = [
            first_visit(browser, Path(folder) / str(number)) for number in range(max(1, args.repeats // 3))
        ]
        found = {name: median(visit[name] for visit in visits) for name in visits[0]}
        reactions: dict[str, list[float]] = {}
        with program(Path(folder) / "home") as (url, _):
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.goto(url)
            page.wait_for_selector(FIRST_SIGHT)
            for name in REACTIONS:
                reactions[name] = [reaction(page, name, number) for number in range(args.repeats)]
            page.close()
        for tabs in (1, 4):
            found |= idle(browser, Path(folder) / f"idle-{tabs}", tabs=tabs, seconds=args.idle)
        browser.close()
    for name, value in found.items():
        print(f"{name:<40}{value:>8.2f}")
    for name, times in reactions.items():
        print(f"reaction: {name:<30}{median(times):>8.0f} ms (slowest {max(times):.0f})")
    slowest = max(median(times) for times in reactions.values())
    print(f"slowest median reaction {slowest:.0f} ms")
    for name, (floor, goal) in TARGETS.items():
        print(f"floor and goal: {name:<38}{floor:>6g}{goal:>6g}")
    if args.json:
        args.json.write_text(json.dumps({"visit": found, "reactions_ms": reactions}, indent=1))


if __name__ == "__main__":
    main()
