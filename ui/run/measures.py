"""The name of a measure with an arrow to its better values, and a tooltip that says what it measures."""

from pipelines.evaluation.measures import ARROWS, MEASURES
from ui.html import Html, element

WAYS = {"high": "Higher is better.", "low": "Lower is better.", "": ""}


def measure(key: str) -> Html:
    """Return the name and the tooltip of a measure; a key without an entry is shown as it is."""
    known = MEASURES.get(key)
    return explained(known.short, known.help, better=known.better) if known else Html(element("span", key))


def explained(label: str, text: str, *, better: str = "") -> Html:
    """Return a label with a tooltip, which opens by pointer, keyboard and touch; ``better`` is "high", "low" or ""."""
    told = f"{WAYS[better]} {text}".strip()
    arrow = [element("span", ARROWS[better], class_="way", aria_hidden="true")] if better else []
    button = element("button", element("span", label), *arrow, type="button", aria_description=told)
    return element("span", button, element("span", told, class_="tip", aria_hidden="true"), class_="measure")
