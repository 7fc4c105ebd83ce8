"""The door to everything drawn that is not a person: animals, plush toys, teapots, towers and bridges."""

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
    """Draw one thing of ``kind`` (a key of ``PARAMS``) with its contact shadow."""
    _ARTISTS[kind](canvas, identity, view)


def hidden(kind: str, identity: Identity, view: View) -> frozenset[str]:
    """The parameters that this individual's picture does not show: captions must not name them."""
    chosen = {p.name: p.values[int(identity[p.name])] for p in PARAMS[kind] if p.values}
    unseen = set()
    if view.wearable == "scarf":
        unseen |= {"collar", "bow"}
    if chosen.get("pattern") == "plain":
        unseen.add("markings")
    if chosen.get("species") == "frog":
        unseen.add("ear size")
    if chosen.get("species") == "monkey":
        unseen.add("patch")
    if chosen.get("type") in ("castle", "lighthouse"):
        unseen.add("levels")
    return frozenset(unseen & {p.name for p in PARAMS[kind]})
