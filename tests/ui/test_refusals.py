"""On every page, a wrong file, an empty choice and a refused start give one sentence and leave every button usable.

The tab Identity space needs an installed space and is tested in test_identity_space.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from conftest import Served, Visitor, clear

pytestmark = pytest.mark.browser
NO_PICTURE = "broken.png is not a JPEG, PNG or WebP picture"
Act = Callable[[Visitor], object]


@dataclass(frozen=True)
class Refusal:
    """Something that a page refuses: what the user does, and the beginning of the sentence."""

    tab: str
    what: str
    act: Act
    says: str


def upload(selector: str, name: str) -> Act:
    """Choose a file that is not what the field asks for."""
    return lambda visitor: visitor.page.set_input_files(f"{selector} input[type=file]", visitor.files[name])  # type: ignore[attr-defined]


def press(name: str) -> Act:
    return lambda visitor: visitor.press(name)


def emptied(label: str, button: str) -> Act:
    """Clear a field and press a button."""

    def act(visitor: Visitor) -> None:
        field = (
            visitor.page.locator(visitor.place).get_by_label(label, exact=True).locator("visible=true").first
        )
        field.fill("")
        field.blur()
        visitor.press(button)

    return act


def then(*acts: Act) -> Act:
    return lambda visitor: [act(visitor) for act in acts]


def mode(name: str) -> Act:
    """Choose a kind of comparison and wait for its form."""

    def act(visitor: Visitor) -> None:
        visitor.page.locator("#lab-mode").get_by_text(name, exact=True).click()
        visitor.see("#lab-start")

    return act


def own_style(visitor: Visitor) -> None:
    mode("Which blocks?")(visitor)
    visitor.page.get_by_label("Style", exact=True).click()
    visitor.page.get_by_role("option", name="Your own pictures").click()


REFUSALS = [
    Refusal("Start", "a wrong file", upload("#first-upload", "broken.png"), NO_PICTURE),
    Refusal("Start", "an empty choice", then(lambda visitor: named(visitor, ""), press("Personalize")), "The name is empty"),
    Refusal("Train", "a wrong file", upload("#upload", "broken.png"), NO_PICTURE),
    Refusal("Multi-subject", "an empty choice", emptied("What is it?", "Train together"), "Subject 1 has no class word"),
    Refusal("Continual", "an empty choice", emptied("Name", "Add concept"), "The new concept has no name"),
    Refusal("Edit", "a refused start", press("Learn this photograph"), "There is no photograph yet"),
    Refusal("Edit", "an empty choice", lambda visitor: mix(visitor), "There is no mix yet"),
    Refusal("Edit", "a wrong file", upload("#edit-upload", "broken.png"), NO_PICTURE),
    Refusal("Library", "a wrong file", upload("#import", "broken.safetensors"), "broken.safetensors"),
    Refusal("Library", "wrong settings", upload("#settings-in", "broken.json"), "This is not"),
    Refusal("Library", "an empty choice", press("Load"), "The Hub id is empty"),
    Refusal("Compare", "a wrong value", lambda visitor: seeds(visitor), "'soon' is not a seed"),
    Refusal("Compare", "an empty choice", then(press("Two runs in one row"), press("Add this row")), "A stack is made of"),
    Refusal(
        "Compare", "a wrong file and a refused start",
        then(own_style, upload("#lab-form", "broken.png"), press("Run the experiment")), NO_PICTURE,
    ),
]  # fmt: skip


def named(visitor: Visitor, word: str) -> None:
    visitor.page.locator("#first-noun").get_by_label("What is it?").fill(word)


def mix(visitor: Visitor) -> None:
    form = visitor.page.locator("#mixing-form")
    form.locator("button.label-wrap").get_by_text("Save as a run", exact=True).click()
    form.locator("button:not(.label-wrap):visible").get_by_text("Save as a run", exact=True).click()


def seeds(visitor: Visitor) -> None:
    visitor.page.locator("#across").get_by_text("Seeds", exact=True).click()
    field = visitor.page.get_by_label("Seeds, separated by commas")
    field.fill("0, soon")
    visitor.press("Compare")


@pytest.fixture(scope="module")
def visitor(browser: Any, served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visitor]:
    """One browser page for all of these tests."""
    folder = tmp_path_factory.mktemp("wrong")
    opened = Visitor(browser, served.url, tab="start")
    opened.files = {}  # type: ignore[attr-defined]
    for name in ("broken.png", "broken.safetensors", "broken.json"):
        (folder / name).write_bytes(b"\xff\xfe no such file at all")
        opened.files[name] = str(folder / name)  # type: ignore[attr-defined]
    yield opened
    opened.leave()
    clear(served.studio, served.model)


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda each: f"{each.tab}: {each.what}".replace(" ", "-"))
def test_a_refusal_is_one_sentence_and_every_button_stays_usable(
    refusal: Refusal, visitor: Visitor, served: Served
) -> None:
    visitor.errors.clear()
    if not visitor.place.endswith(refusal.tab.lower()):
        visitor.turn(refusal.tab.lower())
        visitor.page.wait_for_timeout(500)
    visitor.refuses(refusal.act, says=refusal.says)
    assert served.studio.training.queue() == []
    assert not visitor.errors
