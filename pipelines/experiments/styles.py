"""The shipped pictures of styles, for runs that learn a style; made by ``python -m recipes.style_pictures``."""

from __future__ import annotations

import json
from pathlib import Path

from pipelines.config import ASSETS

SHIPPED_STYLES = ASSETS / "styles"
CAPTIONS = "captions.json"


def style_folder(style: str) -> Path:
    """Return the folder of a style's shipped pictures."""
    return SHIPPED_STYLES / style.replace(" ", "-")


def shipped_style(style: str) -> dict[Path, str]:
    """Return the pictures of a style, each with a caption that describes its content and not the style.

    Raises ValueError for a style that is not shipped.
    """
    folder = style_folder(style)
    names = sorted(path.parent.name.replace("-", " ") for path in SHIPPED_STYLES.glob(f"*/{CAPTIONS}"))
    if style not in names:
        raise ValueError(f"There is no style {style[:40]!r}; choose one of {', '.join(names)}.")
    captions = json.loads((folder / CAPTIONS).read_text(encoding="utf-8"))
    return {folder / name: caption for name, caption in captions.items()}
