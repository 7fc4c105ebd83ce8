"""What the tab Identity space draws itself: the map, what the parameter reader saw, where a person lies, scenes."""

from collections.abc import Mapping, Sequence

from pipelines.services.identity_space import Drawing, Moved, Place, Scenes
from ui.html import BrowserCopies, Html, element
from ui.run import panels
from ui.run.measures import explained, measure

REACH = 3.5  # standard deviations from the centre of the map to its edge
SIDE = 320  # of the map, in its own units
MOST_MOVED = 8
DISTANCE = (
    "From the mean person, in standard deviations per component; the people of the space lie at about 1."
)
NOVELTY = "1 minus the largest cosine with a person of the space; 0 is one of them."
LEGEND = [
    element("li", element("i", class_=f"of-{class_}"), words)
    for class_, words in (
        ("here", "this person"), ("near", "nearest people of the space"), ("member", "other people of the space"),
    )
]  # fmt: skip
APPEARS_SCRIPT = """
const observer = new IntersectionObserver((entries) => {
  if (!entries.some((entry) => entry.isIntersecting)) return;
  observer.disconnect();
  trigger('appear', {value: ''});
});
observer.observe(element);
"""  # when the page is first seen, however it was reached
MAP_SCRIPT = f"""
element.addEventListener('click', (event) => {{
  const map = event.target.closest('svg');
  if (!map) return;
  const box = map.getBoundingClientRect(), reach = {REACH};
  const x = ((event.clientX - box.left) / box.width * 2 - 1) * reach;
  const y = (1 - (event.clientY - box.top) / box.height * 2) * reach;
  trigger('choose', {{value: x.toFixed(2) + ',' + y.toFixed(2)}});
}});
"""


def map_of(
    members: Sequence[tuple[float, float]], place: Place, trail: Sequence[tuple[float, float]]
) -> Html:
    """Return the plane of the first two components: the population, the nearest members, the trail and the point."""
    parts = [
        element("line", x1=SIDE / 2, y1=0, x2=SIDE / 2, y2=SIDE, class_="axis"),
        element("line", x1=0, y1=SIDE / 2, x2=SIDE, y2=SIDE / 2, class_="axis"),
        *(_dot(spot, radius=2.2, class_="member") for spot in members),
        *(_dot((x, y), radius=4, class_="near", title=name) for name, _, x, y in place.neighbours),
    ]
    if len(trail) > 1:
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(_at, trail))
        parts.append(element("polyline", points=points, class_="trail"))
        parts += [_dot(spot, radius=2.6, class_="past") for spot in trail[:-1]]
    parts.append(_dot((place.x, place.y), radius=6.5, class_="here", title="This person"))
    spoken = f"Map of the identities; this person is at {place.x:.1f}, {place.y:.1f} standard deviations."
    drawn = element(
        "svg", *parts, viewBox=f"0 0 {SIDE} {SIDE}", class_="space-map", role="img", aria_label=spoken
    )
    return Html(drawn + element("ul", *LEGEND, class_="legend"))


def _at(spot: tuple[float, float]) -> tuple[float, float]:
    """Return the drawing position of a place, kept inside the map."""
    x, y = (max(-REACH, min(REACH, value)) for value in spot)
    return SIDE * (0.5 + x / (2 * REACH)), SIDE * (0.5 - y / (2 * REACH))


def _dot(spot: tuple[float, float], *, radius: float, class_: str, title: str = "") -> Html:
    x, y = _at(spot)
    named = [element("title", title)] if title else []
    return element("circle", *named, cx=round(x, 1), cy=round(y, 1), r=radius, class_=class_)


def whereabouts(place: Place) -> Html:
    """Return the distance from the population, the novelty and the nearest members."""
    near = ", ".join(f"{name} ({cosine:.2f})" for name, cosine, *_ in place.neighbours[:3]) or "none"
    rows = (
        (explained("Distance", DISTANCE), f"{place.distance:.2f}"),
        (explained("Novelty", NOVELTY), f"{place.novelty:.2f}"),
        ("Nearest members", near),
    )
    return element(
        "dl",
        *(element("div", element("dt", name), element("dd", value)) for name, value in rows),
        class_="whereabouts",
    )


def moved_bars(found: Sequence[Moved], *, edited: Mapping[str, float], labels: Mapping[str, str]) -> Html:
    """Return how far each parameter differs from the unedited picture; edited ones are marked."""
    if not edited:
        return panels.hint("Move a slider: what it changed, and what else changed, appears here.")
    if not found:
        return panels.hint("This base model has no parameter reader, so what else changed is not measured.")
    wanted = {labels[name].lower() for name in edited} | {name.lower() for name in edited}
    rows = [
        element(
            "div",
            element("dt", each.name),
            element(
                "dd",
                element("i", style=f"width: {100 * min(abs(each.change), 1.0):.0f}%"),
                element("span", each.told),
            ),
            class_="meant" if any(each.name in word or word in each.name for word in wanted) else "",
        )
        for each in found[:MOST_MOVED]
    ]
    return element("dl", *rows, class_="bars moved")


def scenes_of(found: Scenes, *, copies: BrowserCopies) -> Html:
    """Return the pictures of one identity in several scenes, with how alike they are."""
    figures = [
        element(
            "figure",
            element("img", src=copies.enlarged(path, side_px=256), alt=prompt),
            element("figcaption", prompt),
        )
        for path, prompt in zip(found.paths, found.prompts, strict=True)
    ]
    told = (
        panels.hint("The identity encoder is not on this machine, so they are not compared.")
        if found.alike is None
        else element("p", measure("alike"), f" {found.alike:.2f}", class_="hint")
    )
    return Html(element("div", *figures, class_="mixes") + told)


def caption(
    drawing: Drawing, *, prompt: str, seed: int, origin: str, edits: Mapping[str, float], beside: str
) -> Html:
    """Return the caption below the picture."""
    told = ", ".join(f"{name} {amount:+.1f}" for name, amount in edits.items())
    facts = [
        ("Person", origin),
        *([("Edits", told)] if told else []),
        *([("With", beside)] if beside else []),
        ("Computed", f"{drawing.steps} steps in {drawing.seconds:.1f} s"),
    ]
    return panels.caption(prompt=prompt, seed=seed, facts=facts, notes=drawing.notes)
