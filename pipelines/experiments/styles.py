"""The styles that ship as pictures, for runs that learn a style: ``python -m recipes.style_pictures`` makes them."""

from __future__ import annotations

import json
from pathlib import Path

from pipelines.config import ASSETS

SHIPPED_STYLES = ASSETS / "styles"
CAPTIONS = "captions.json"


def style_folder(style: str) -> Path:
    """Return where the pictures of a style are shipped."""
    return SHIPPED_STYLES / style.replace(" ", "-")


def shipped_style(style: str) -> dict[Path, str]:
    """Return the pictures in a style, each with a caption that says what it shows and nothing of the style.

    Raises ValueError for a style that does not ship.
    """
    folder = style_folder(style)
    names = sorted(path.parent.name.replace("-", " ") for path in SHIPPED_STYLES.glob(f"*/{CAPTIONS}"))
    if style not in names:
        raise ValueError(f"There is no style {style[:40]!r}; choose one of {', '.join(names)}.")
    captions = json.loads((folder / CAPTIONS).read_text(encoding="utf-8"))
    return {folder / name: caption for name, caption in captions.items()}
