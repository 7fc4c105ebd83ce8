"""The measures of a result: one table, an arrow to the better values, and a tooltip for keyboard, pointer and touch."""

from typing import Any

import pytest
from conftest import Served

from pipelines.evaluation.measures import ARROWS, MEASURES
from pipelines.experiments import block_comparison, method_comparison
from ui.run import cards
from ui.run import method_views as views
from ui.run.measures import measure
from ui.theme import ASSETS


def test_every_column_of_an_experiment_is_a_measure_of_the_table() -> None:
    for column in (*method_comparison.COLUMNS, *block_comparison.COLUMNS):
        known = MEASURES[column.key]
        assert (column.label, column.help) == (known.short, known.help)
        assert column.better in (known.better, ""), "a column may leave out the mark of its best value"
    assert all(MEASURES[each.key].axis for each in (method_comparison.DINO, method_comparison.CLIP_T))


@pytest.mark.parametrize("key", MEASURES)
def test_a_measure_has_its_arrow_and_its_explanation(key: str) -> None:
    known, shown = MEASURES[key], measure(key)
    assert known.help in shown.replace("&#x27;", "'")
    assert ("Higher is better." in shown, "Lower is better." in shown) == (
        known.better == "high",
        known.better == "low",
    )
    assert ARROWS[known.better] in shown
    assert known.label.startswith(known.short)


def test_a_comparison_names_its_measures_and_an_unknown_one_is_text() -> None:
    row = {"name": "Rex", "method": "svdiff", "metrics": {"dino": {"value": 0.5}, "<b>": {"value": 1.0}}}
    shown = cards.metrics([row])
    assert shown.count('class="measure"') == 3 + 1, "three costs and DINO"
    assert "&lt;b&gt;" in shown


def test_a_heat_map_tells_its_scale() -> None:
    view = {
        "kind": "heat",
        "title": "Map",
        "help": "",
        "rows": ["a"],
        "columns": ["x", "y"],
        "cells": [[0.25, None]],
    }
    shown = views.drawn([view])
    assert '<p class="ramp"><span>0</span>' in shown
    assert "<span>0.25</span><span>the stronger the colour, the larger the number; –: no value" in shown
    assert 'class="view"' in shown, "a narrow table shares its row"
    assert "<span>1</span>" in views.drawn([view | {"most": 1.0}]), "one scale for several tables"
    many = view | {"columns": list("abcdefghi"), "cells": [[0.5] * 9]}
    assert 'class="view wide"' in views.drawn([many])


def test_bars_have_a_scale_from_zero_to_the_longest() -> None:
    shown = views.drawn([{"kind": "bars", "title": "Bars", "help": "", "values": {"a": 1.0, "b": 4.0}}])
    assert "<span>0</span><span>2</span><span>4</span>" in shown


@pytest.mark.browser
def test_a_tooltip_opens_by_keyboard_and_pointer(visit: Any, served: Served) -> None:
    """In Compare's table: Tab reaches a measure, its tooltip is inside the window, and Escape closes it."""
    visitor = visit(tab="compare")
    page = visitor.page
    visitor.see("#grid-card .recorded .table .measure")
    first = page.locator("#grid-card .measure button").first
    first.focus()
    page.keyboard.press("Tab")
    second = page.locator("#grid-card .measure").nth(1)
    second.locator(".tip").wait_for(state="visible")
    box = second.locator(".tip").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= page.viewport_size["width"]
    told = second.locator("button").get_attribute("aria-description")
    assert told
    assert told == second.locator(".tip").inner_text()
    page.keyboard.press("Escape")
    second.locator(".tip").wait_for(state="hidden")
    last = page.locator("#grid-card .measure").last
    last.hover()
    last.locator(".tip").wait_for(state="visible")
    box = last.locator(".tip").bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= page.viewport_size["width"]
    assert not visitor.errors


@pytest.mark.browser
def test_a_tooltip_opens_by_touch_and_stays_inside_a_phone(browser: Any) -> None:
    style, script = ((ASSETS / name).read_text(encoding="utf-8") for name in ("app.css", "app.js"))
    context = browser.new_context(viewport={"width": 390, "height": 300}, has_touch=True)
    page = context.new_page()
    shown = f"<div style='overflow: auto; margin-left: 300px'>{measure('pres')}</div>"
    page.set_content(f"<style>{style}</style>{shown}<script>{script}</script>")
    tip = page.locator(".tip")
    assert not tip.is_visible()
    page.locator(".measure button").tap()
    tip.wait_for(state="visible")
    box = tip.bounding_box()
    context.close()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 390
