"""Screenshots of every page, light and dark, 1440 and 390 px wide: ``python -m tests.ui.screens --out DIR``.

The page runs on a real Studio with the embedded base and an empty data folder; the experiments are short.
The transfer size of the page and the time to first paint are printed.
"""

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))  # conftest is in the same folder

from conftest import CHROMIUM, CHROMIUM_ARGS

from pipelines.data.subject import SubjectPhotos
from pipelines.methods.specs import preset, preset_names
from pipelines.studio import Studio
from ui.app import build
from ui.html import BrowserCopies
from ui.theme import look

log = logging.getLogger("screens")
WIDTHS = {"desktop": {"width": 1440, "height": 900}, "phone": {"width": 390, "height": 844}}
SCHEMES = ("light", "dark")
PATIENCE_MS = 90_000
LONG_MS = 900_000  # of a short experiment


def main() -> None:
    """Parse the command line and take the screenshots."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the PNG files")
    parser.add_argument("--only", default="", help="take only pages whose name contains this")
    wanted = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    log.setLevel(logging.INFO)
    wanted.out.mkdir(parents=True, exist_ok=True)
    with served() as (url, studio), chromium() as browser:
        log.info("%s", first_paint(browser, url))
        context = browser.new_context(reduced_motion="reduce")
        context.set_default_timeout(PATIENCE_MS)
        for name, visit in VISITS.items():
            if wanted.only in name:
                page = context.new_page()
                page.set_viewport_size(WIDTHS["desktop"])
                visit(page, url, studio)
                take(page, name, out=wanted.out)
                page.close()
                call_off(studio)


def take(page: Any, name: str, *, out: Path) -> None:
    """Take a screenshot of a page in each of the four combinations."""
    for width, viewport in WIDTHS.items():
        for scheme in SCHEMES:
            page.set_viewport_size(viewport)
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            page.wait_for_timeout(900)
            page.screenshot(path=out / f"{name}-{width}-{scheme}.png", full_page=True)
            log.info("%s %s %s", name, width, scheme)


@contextmanager
def served() -> Iterator[tuple[str, Studio]]:
    """Serve the page on a Studio that has only the shipped examples."""
    copies = BrowserCopies()
    with tempfile.TemporaryDirectory() as folder:
        studio = Studio(Path(folder))
        blocks = build(studio, copies)
        _, url, _ = blocks.queue(max_size=64).launch(
            **look(), prevent_thread_lock=True, quiet=True, allowed_paths=[str(copies.folder)],
            enable_monitoring=False, run_history=False, footer_links=["api", "settings"],
        )  # fmt: skip
        yield url.rstrip("/"), studio
        blocks.close(verbose=False)
        studio.close()
        copies.close()


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGS)
        yield browser
        browser.close()


def first_paint(browser: Any, url: str) -> str:
    """Return the transfer size of a first visit and the times to first paint and first comparison."""
    page = browser.new_page()
    page.set_default_timeout(PATIENCE_MS)
    began = time.monotonic()
    page.goto(url)
    page.wait_for_selector(".compare img")
    seconds = time.monotonic() - began
    paint_ms, weight, count = page.evaluate(
        "() => { const all = performance.getEntriesByType('resource');"
        " const paint = performance.getEntriesByName('first-contentful-paint')[0];"
        " return [paint ? paint.startTime : 0, all.reduce((sum, each) => sum + each.transferSize, 0), all.length] }"
    )
    page.close()
    return f"first paint {paint_ms:.0f} ms, first comparison {seconds:.1f} s, {weight / 1e6:.1f} MB in {count} files"


def _open(page: Any, url: str, *, tab: str = "", query: str = "") -> None:
    page.goto(f"{url}/{query}{'#' + tab.lower() if tab else ''}")
    page.wait_for_selector(f"[role=tab].selected:has-text('{tab or 'Start'}')")


def start(page: Any, url: str, studio: Studio) -> None:
    """The page Start, after its first paint."""
    _open(page, url)
    page.wait_for_selector("#first-showcase .compare img.after")


def start_played(page: Any, url: str, studio: Studio) -> None:
    """A finished example, and a picture generated with it."""
    start(page, url, studio)
    page.locator("#page-start button.example-card").nth(1).click()
    page.wait_for_selector("#first-run .run-title:has-text('Finished')")
    page.locator("#first-play button.primary").click()
    page.wait_for_selector("#first-result .compare .tag")


def train(page: Any, url: str, studio: Studio) -> None:
    """A finished run with its curves, samples and playground."""
    _open(page, url, tab="Train")
    page.locator("#page-train button.example-card").first.click()
    page.wait_for_selector("#run-card .strip img")
    page.wait_for_selector("#run-card .curve.smooth")


def train_at_work(page: Any, url: str, studio: Studio) -> None:
    """A running run and two queued runs."""
    _open(page, url, tab="Train")
    page.click("#personalize")
    for _ in range(2):
        page.wait_for_selector("#stop-row button:has-text('Add to the queue')")
        page.get_by_role("button", name="Add to the queue").click()
        page.wait_for_timeout(600)
    page.wait_for_selector("#run-card .queue td")
    page.wait_for_timeout(4000)


def call_off(studio: Studio) -> None:
    """Discard the runs that the last screenshot left in the queue."""
    for row in reversed(studio.training.queue()):
        studio.training.stop(row.run, keep=False)


def talk(page: Any, url: str, studio: Studio) -> None:
    """The first page in presentation mode."""
    _open(page, url, query="?presentation=1")
    page.locator("#page-start button.example-card").nth(1).click()
    page.wait_for_selector("#first-run .run-title:has-text('Finished')")


def library(page: Any, url: str, studio: Studio) -> None:
    """The library, with one card open."""
    _open(page, url, tab="Library")
    page.wait_for_selector(".library-card")
    page.locator(".library-card").nth(1).click()
    page.wait_for_selector("#detail .facts img")


def compare_first(page: Any, url: str, studio: Studio) -> None:
    """Compare before anything was compared: the recorded experiment."""
    _open(page, url, tab="Compare")
    page.wait_for_selector("#grid-card .recorded td img")


def compare(page: Any, url: str, studio: Studio) -> None:
    """A comparison of two runs and the base, with three prompts."""
    _open(page, url, tab="Compare")
    page.locator("#page-compare button.primary").click()
    page.wait_for_selector("#grid-card:not(:has(.recorded)) td img")


def what_changed(page: Any, url: str, studio: Studio) -> None:
    """The wide views of a short run of SVDiff."""
    _train(studio, "svdiff")
    _open(page, url, tab="Library")
    page.locator(".library-card", has_text="SVDiff").first.click()
    page.get_by_role("button", name="What changed").click()
    page.wait_for_selector("#moved .heat td")
    page.evaluate("scrollTo(0, 0)")


def multi_subject(page: Any, url: str, studio: Studio) -> None:
    """Multi-subject: the shipped example, or a short run if none is installed."""
    if not studio.library.examples(tab="multi_subject"):
        _train(studio, "cut_mix_unmix", subjects=2)
    _open(page, url, tab="Multi-subject")
    page.get_by_label("Show run").locator("visible=true").click()
    page.get_by_role("option").first.click()
    page.wait_for_selector("#multi-mixes img")
    if not page.locator("#multi-play .together img").count():
        page.locator("#multi-generate").click()
    page.wait_for_selector("#multi-play .together img")


def continual(page: Any, url: str, studio: Studio) -> None:
    """Continual: the shipped sequence, or a short one if none is installed."""
    if not studio.sequences.list():
        first = _train(studio, "c_lora")
        _train(studio, "c_lora", parents=[first])
    _open(page, url, tab="Continual")
    page.wait_for_selector("#continual-grid img")
    page.wait_for_selector("#continual-entries img")


def identity_space(page: Any, url: str, studio: Studio) -> None:
    """Identity space: a person of the shipped space, or the command that builds one."""
    _open(page, url, tab="Identity space")
    page.wait_for_selector("#space-picture img, #space-none .compare.empty")
    page.wait_for_timeout(4000)


def edit(page: Any, url: str, studio: Studio) -> None:
    """Edit: the shipped edit."""
    _open(page, url, tab="Edit")
    page.wait_for_selector("#edit-showcase img")


def _train(studio: Studio, method: str, *, subjects: int = 1, parents: Sequence[str] = ()) -> str:
    """Train a short run on the photographs of examples and return its id."""
    config = preset(method, "embedded", preset_names(method, "embedded")[0])
    config = replace(config, steps=12, warmup_steps=0, measure=False, sample_steps=6)
    known = studio.library.examples(tab="train")[len(parents) :][:subjects]
    name = " and ".join(each["title"] for each in known)
    if subjects > 1:
        told = [SubjectPhotos(each["identifier"], each["class_noun"], each["photos"]) for each in known]
        run_id = studio.training.start(method, config, subjects=told, name=name)
    else:
        config = replace(config, identifier=known[0]["identifier"], class_noun=known[0]["class_noun"])
        run_id = studio.training.start(method, config, known[0]["photos"], parents=list(parents), name=name)
    studio.training.wait(run_id)
    return run_id


def which_method(page: Any, url: str, studio: Studio) -> None:
    """A finished experiment with every method."""
    _experiment(page, url, mode="Which method?")


def which_blocks(page: Any, url: str, studio: Studio) -> None:
    """A finished experiment on blocks, with a character and a style."""
    _experiment(page, url, mode="Which blocks?")


def which_method_at_work(page: Any, url: str, studio: Studio) -> None:
    """The experiment on methods while it is running."""
    _start_experiment(page, url, mode="Which method?")
    page.wait_for_selector("#lab-card .scatter circle", timeout=LONG_MS)


def _experiment(page: Any, url: str, *, mode: str) -> None:
    _start_experiment(page, url, mode=mode)
    page.wait_for_selector("#lab-card .run-title:has-text('Finished')", timeout=LONG_MS)
    page.wait_for_selector("#lab-card .pictures td img")


def _start_experiment(page: Any, url: str, *, mode: str) -> None:
    _open(page, url, tab="Compare")
    page.get_by_text(mode, exact=True).click()
    page.wait_for_selector("#lab-form .cost span")
    form = page.locator("#lab-form")
    form.get_by_role("button", name="Advanced").click()
    for label, value in (("Training steps", "60"), ("Seeds per prompt", "1")):
        form.get_by_label(label).locator("visible=true").first.fill(value)
    page.locator("#lab-start").click()


VISITS = {
    "start": start, "start-played": start_played, "train": train, "train-at-work": train_at_work, "library": library,
    "multi-subject": multi_subject, "continual": continual, "identity-space": identity_space, "edit": edit,
    "what-changed": what_changed, "compare-first": compare_first, "compare": compare, "which-method": which_method, "which-blocks": which_blocks,
    "which-method-at-work": which_method_at_work, "talk": talk,
}  # fmt: skip

if __name__ == "__main__":
    main()
