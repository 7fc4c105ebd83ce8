"""The UNet as a diagram of its blocks: down blocks on the left, middle block below, up blocks on the right."""

from collections.abc import Mapping

from ui.html import Html, element

LEVELS = (("In0", "Out3"), ("In1", "Out2"), ("In2", "Out1"), ("In3", "Out0"))
MIDDLE = "Mid"


def unet_map(values: Mapping[str, float], *, title: str, text: str) -> Html:
    """Return the nine blocks with their numbers, each coloured in proportion to the largest.

    ``values`` has In0 to In3, Mid and Out0 to Out3, none below 0; ``text`` explains the numbers.
    """
    most = max(values.values(), default=0.0)
    rows = [name for level in LEVELS for name in level]
    cells = [_cell(name, values[name], most=most, wide=False) for name in rows]
    cells.append(_cell(MIDDLE, values[MIDDLE], most=most, wide=True))
    largest = max(values, key=lambda name: values[name])
    spoken = f"{title}: largest in {largest}" if most > 0 else f"{title}: zero in every block"
    sides = [
        element("span", words, class_="unet-side", aria_hidden="true")
        for words in ("Input side ↓", "Output side ↑")
    ]
    scale = [element("span", "0"), element("i", aria_hidden="true"), element("span", f"{most:.3f}")]
    return element(
        "figure",
        element("h3", title),
        element("figcaption", text, class_="hint"),
        element("div", *sides, *cells, class_="unet-map", role="group", aria_label=spoken),
        element(
            "p", *scale, element("span", "the stronger the colour, the larger the number"), class_="ramp"
        ),
        class_="unet-figure view",
    )


def _cell(name: str, value: float, *, most: float, wide: bool) -> Html:
    share = value / most if most > 0 else 0.0
    return element(
        "div",
        element("span", name, class_="unet-name"),
        element("span", f"{value:.3f}", class_="unet-value"),
        style=f"--share:{100 * share:.0f}%",
        class_="unet-block wide" if wide else "unet-block",
    )
