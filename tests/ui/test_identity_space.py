"""The tab Identity space: in a browser with a synthetic space, and its handlers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Served, Visitor
from PIL import Image

from pipelines.models.base import Base
from pipelines.services.identity_space import BUILD, Point
from pipelines.studio import Studio
from pipelines.weightspace.index import own_spaces
from tests.weightspace.synthetic import synthetic_space
from ui.app import build
from ui.html import BrowserCopies
from ui.run.monitor import RunMonitor
from ui.tabs.identity_space.handlers import EDITS, IdentityHandlers
from ui.theme import look

PICTURE = "#space-picture img"


@pytest.fixture
def installed(base: Base, atelier_home: Path) -> Path:
    return synthetic_space(base).write(own_spaces())


@pytest.fixture
def identities(installed: Path, studio: Studio, copies: BrowserCopies) -> IdentityHandlers:
    return IdentityHandlers(RunMonitor(studio, copies))


def drawn(identities: IdentityHandlers, values: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """Return what the picture's event answers for the page's values."""
    asked = {
        "space_history": {}, "space_before": {}, "space_prompt": "sks person", "space_seed": 0,
        "space_debias": False, "space_delay": 1000, "space_beside": "", "space_beside_strength": 1.0,
        "space_full": True, **dict.fromkeys(EDITS, 0.0),
    }  # fmt: skip
    taken = {"space_point": values["space_point"]} | asked | changed
    return identities.draw(**taken)


def number(identities: IdentityHandlers, value: int = 1) -> dict[str, Any]:
    return identities.number(value, "toy", 1.0, "plain", True, 0)


def test_a_number_is_a_person_and_sliders_start_at_zero(identities: IdentityHandlers) -> None:
    one, same, other = number(identities), number(identities), number(identities, 2)
    assert one["space_point"]["packed"] == same["space_point"]["packed"] != other["space_point"]["packed"]
    assert one["space_point"]["n"] != same["space_point"]["n"], "so that the picture is drawn again"
    assert all(one[name] == 0.0 for name in EDITS)
    assert identities.open({"space": "toy"}, "toy") == {}, "a person who is there stays"


def test_a_slider_compares_with_the_person_before_the_edit(identities: IdentityHandlers) -> None:
    person = number(identities)
    first = drawn(identities, person)
    assert "This person" in first["space_picture"]
    memory = {name: first[name] for name in ("space_before", "space_history")}
    preview = drawn(identities, person, **memory, **{EDITS[0]: 2.0}, space_full=False)
    assert set(preview) == {"space_picture"}
    edited = drawn(identities, person, **memory, **{EDITS[0]: 2.0})
    assert "Before the edit" in edited["space_picture"]
    assert edited["space_before"] == first["space_before"], "it is not drawn again"
    assert edited["space_drawn"]["before"] == first["space_drawn"]["after"]
    assert len(edited["space_history"]["steps"]) == 2
    back = identities.undo(edited["space_history"])
    assert back[EDITS[0]] == 0.0
    assert identities.redo(back["space_history"])[EDITS[0]] == 2.0
    with pytest.raises(ValueError, match="nothing to undo"):
        identities.undo(back["space_history"])


def test_measuring_shows_the_place_and_what_moved(identities: IdentityHandlers) -> None:
    person = number(identities)
    first = drawn(identities, person)
    edits = dict.fromkeys(EDITS, 0.0) | {EDITS[1]: 3.0}
    edited = drawn(
        identities,
        person,
        space_before=first["space_before"],
        space_history=first["space_history"],
        **{EDITS[1]: 3.0},
    )
    told = identities.measure(
        person["space_point"], edited["space_history"], edited["space_drawn"], False, **edits
    )
    assert told["space_map"].count('class="member"') == 24
    assert 'class="trail"' in told["space_map"]
    assert "Nearest members" in told["space_where"]
    assert "→" in told["space_moved"]


def test_walking_and_combining_move_the_point(identities: IdentityHandlers) -> None:
    person, edits = number(identities)["space_point"], dict.fromkeys(EDITS, 0.0)
    walked = identities.walk_to("1.5,-2.0", person, False, **edits)["space_point"]
    place = identities.studio.identities.place(Point.unpacked("toy", walked["packed"], ""))
    assert (place.x, place.y) == (pytest.approx(1.5, abs=1e-4), pytest.approx(-2.0, abs=1e-4))
    run_id = identities.studio.identities.save(Point.unpacked("toy", walked["packed"], "Walked"), _no_edit())
    halfway = identities.combine(person, False, "interpolate", run_id, None, 0.5, **edits)["space_point"]
    spot = identities.studio.identities.place(Point.unpacked("toy", halfway["packed"], ""))
    start = identities.studio.identities.place(Point.unpacked("toy", person["packed"], ""))
    assert spot.x == pytest.approx((start.x + 1.5) / 2, abs=1e-4)
    with pytest.raises(ValueError, match="takes 3 people, not 2"):
        identities.combine(person, False, "analogy", run_id, None, 0.5, **edits)


def _no_edit() -> Any:
    from pipelines.services.identity_space import Edit

    return Edit({})


def test_a_person_is_saved_once_and_exported(identities: IdentityHandlers) -> None:
    person = number(identities, 77)
    edits = dict.fromkeys(EDITS, 0.0)
    given = (person["space_point"], "", False, {})
    told = identities.save(*given, **edits)
    assert "Saved to the Library" in told["space_kept"]
    count = len(identities.identities())
    exported = identities.export(*given, "kohya", **edits)
    assert exported["space_file"]["value"].endswith("kohya.safetensors")
    assert "256/256 keys" in exported["space_kept"]
    assert len(identities.identities()) == count, "the same person is not saved twice"


def test_a_photograph_needs_consent_and_a_picture(identities: IdentityHandlers) -> None:
    with pytest.raises(ValueError, match="There is no photograph"):
        identities.invert(None, True, "Quick", "toy")
    photo = {"background": Image.new("RGBA", (64, 64), "red"), "layers": [], "composite": None}
    with pytest.raises(ValueError, match="confirm that you may use this photograph"):
        identities.invert(photo, False, "Quick", "toy")


def test_without_a_space_the_page_says_how_to_build_one(
    studio: Studio, copies: BrowserCopies, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.services.identity_space.listed", lambda: ())
    blocks = build(studio, copies)
    values = [each["props"].get("value") for each in blocks.get_config_file()["components"]]
    assert any(isinstance(value, str) and BUILD in value for value in values)


@pytest.fixture
def page(
    installed: Path,
    served: Served,
    copies: BrowserCopies,
    browser: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Visitor]:
    """Serve a page of its own, because a page reads the installed spaces when it is built."""
    # a server that closes deletes its copies; one of the same content may be shown by the session's server
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    blocks = build(served.studio, copies)
    _, url, _ = blocks.queue().launch(
        **look(), prevent_thread_lock=True, quiet=True, allowed_paths=[str(copies.folder)],
        enable_monitoring=False, run_history=False,
    )  # fmt: skip
    visitor = Visitor(browser, url.rstrip("/"), tab="train")
    yield visitor
    visitor.leave()
    blocks.close(verbose=False)


@pytest.mark.browser
def test_a_visitor_meets_a_person_and_moves_a_slider(page: Visitor) -> None:
    tab = page.page
    tab.locator("#tabs [role=tab]").get_by_text("Identity space", exact=True).first.click()
    page.place = "#page-identity-space"
    page.see(f"{PICTURE}")
    page.see("#space-map svg .here")
    slider = tab.locator("#space-edit-0 input[type=range]")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    tab.mouse.move(box["x"] + box["width"] / 2, middle)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] * 0.8, middle, steps=4)
    page.see("#space-picture .tag:has-text('Preview')")
    tab.mouse.up()
    page.see("#space-picture .tag:has-text('After')")
    page.see(".bars.moved")
    assert float(slider.input_value()) > 1
    page.press("Undo")
    page.see("#space-picture .tag:has-text('This person')")
    assert float(slider.input_value()) == 0
    tab.locator("#space-map svg").click(position={"x": 40, "y": 40})
    page.see("#space-map svg .trail")
    page.press("Draw four scenes")
    page.see("#space-scenes-card .mixes figure:nth-child(4) img")
    assert not page.errors
