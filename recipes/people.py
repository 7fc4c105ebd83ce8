"""People: head and shoulders, rendered from an identity (who) and a view (how they are seen)."""

from recipes.kit import Canvas, Identity, View
from recipes.person_clothes import CLOTHING, paint_clothing, paint_hat, paint_scarf
from recipes.person_face import (
    paint_beard,
    paint_brows,
    paint_earrings,
    paint_ears,
    paint_eyes,
    paint_face,
    paint_glasses,
    paint_moustache,
    paint_mouth,
    paint_nose,
    paint_wrinkles,
)
from recipes.person_hair import paint_hair_behind, paint_hair_front
from recipes.person_look import PARAMS, measure

EXPRESSIONS: tuple[str, ...] = ("calm", "smiling", "laughing", "serious", "surprised")

__all__ = ["CLOTHING", "EXPRESSIONS", "PARAMS", "draw", "hidden"]

_OVER_EARS = ("curly hair", "bob with a fringe", "long straight hair", "long wavy hair", "afro")


def _choice(identity: Identity, name: str) -> str:
    return next(param.values[int(identity[name])] for param in PARAMS if param.name == name)


def hidden(identity: Identity, view: View | None = None) -> frozenset[str]:
    """Return the parameters that cannot be seen (in ``view``) and are therefore not named or compared."""
    style, unseen = _choice(identity, "hair style"), set()
    if style == "bald":
        unseen.add("hair volume")
        if _choice(identity, "beard") in ("none", "stubble"):
            unseen.add("hair colour")
    if style in _OVER_EARS:
        unseen.add("ears")
    if _choice(identity, "glasses") == "sunglasses":
        unseen |= {"eye colour", "eye size", "eye spacing"}
    if _choice(identity, "beard") == "full beard":
        unseen |= {"jaw", "cheeks"}
    if view is not None and view.wearable == "hat":
        unseen |= {"hair style", "hair volume"}
    return frozenset(unseen)


def draw(canvas: Canvas, identity: Identity, view: View) -> None:
    """Draw the person onto ``canvas``."""
    look = measure(identity, view)
    paint_hair_behind(canvas, look)
    paint_clothing(canvas, look)
    if view.wearable == "scarf":
        paint_scarf(canvas, look)
    paint_ears(canvas, look)
    face = paint_face(canvas, look)
    paint_wrinkles(canvas, look)
    paint_eyes(canvas, look)
    paint_beard(canvas, look, face)
    paint_mouth(canvas, look)
    paint_moustache(canvas, look)
    paint_nose(canvas, look)
    paint_brows(canvas, look)
    paint_glasses(canvas, look)
    paint_hair_front(canvas, look)
    paint_earrings(canvas, look)
    if view.wearable == "hat":
        paint_hat(canvas, look)
