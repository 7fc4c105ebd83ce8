"""Entry point for everything that is not a person: animals, plush toys, teapots, towers and bridges."""

from collections.abc import Callable

from recipes.animals import CAT_PARAMS, DOG_PARAMS, draw_cat, draw_dog
from recipes.bridges import BRIDGE_PARAMS, draw_bridge
from recipes.kit import Canvas, Identity, Param, View
from recipes.plush import PLUSH_PARAMS, draw_plush
from recipes.teapots import TEAPOT_PARAMS, draw_teapot
from recipes.towers import TOWER_PARAMS, draw_tower

PARAMS: dict[str, tuple[Param, ...]] = {
    "dog": DOG_PARAMS,
    "cat": CAT_PARAMS,
    "plush toy": PLUSH_PARAMS,
    "teapot": TEAPOT_PARAMS,
    "tower": TOWER_PARAMS,
    "bridge": BRIDGE_PARAMS,
}
_ARTISTS: dict[str, Callable[[Canvas, Identity, View], None]] = {
    "dog": draw_dog,
    "cat": draw_cat,
    "plush toy": draw_plush,
    "teapot": draw_teapot,
    "tower": draw_tower,
    "bridge": draw_bridge,
}


def draw(canvas: Canvas, kind: str, identity: Identity, view: View) -> None:
    """Draw one object of ``kind`` (a key of ``PARAMS``) with its contact shadow."""
    _ARTISTS[kind](canvas, identity, view)


def hidden(kind: str, identity: Identity, view: View | None = None) -> frozenset[str]:
    """Return the parameters that cannot be seen (in ``view``) and are therefore not named or compared."""
    chosen = {p.name: p.values[int(identity[p.name])] for p in PARAMS[kind] if p.values}
    built, unseen = chosen.get("type"), set()
    if view is not None and view.wearable == "scarf":
        unseen |= {"collar", "bow"}
    if chosen.get("pattern") == "plain":
        unseen.add("markings")
    if chosen.get("species") == "frog":
        unseen.add("ear size")
    if chosen.get("species") == "monkey":
        unseen.add("patch")
    if kind == "bridge" and built not in ("suspension", "cable-stayed"):
        unseen |= {"tower top", "tower height"}
    if kind == "bridge" and built != "arch":
        unseen.add("rise")
    if kind == "tower" and built not in ("pagoda", "skyscraper"):
        unseen.add("levels")
    if built == "skyscraper":
        unseen.add("roof")
    return frozenset(unseen & {p.name for p in PARAMS[kind]})
