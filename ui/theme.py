"""The Gradio theme: warm paper, ink and one terracotta accent, with fonts that Gradio ships."""

from base64 import b64encode
from pathlib import Path
from typing import Any

from gradio import I18n
from gradio.themes import Base
from gradio.themes.utils import colors, fonts, sizes

TERRACOTTA = colors.Color(
    name="terracotta",
    c50="#fdf5f0",
    c100="#fae6db",
    c200="#f3ccb8",
    c300="#e9ab8c",
    c400="#dc8560",
    c500="#c9643c",
    c600="#b04f2a",
    c700="#8f3f22",
    c800="#73341e",
    c900="#5d2c1b",
    c950="#33160c",
)
PAPER = colors.Color(
    name="paper",
    c50="#faf8f4",
    c100="#f3efe8",
    c200="#e6e0d5",
    c300="#d3cbbd",
    c400="#a89e8e",
    c500="#7c7366",
    c600="#5d564c",
    c700="#453f38",
    c800="#2b2824",
    c900="#1d1b18",
    c950="#141210",
)


ASSETS = Path(__file__).resolve().parent.parent / "assets"


class ShippedFont(fonts.Font):
    """A font embedded in the stylesheet, because Gradio ships no complete serif font."""

    def __init__(self, name: str, files: dict[int, str]) -> None:
        super().__init__(name)
        self.files = files

    def stylesheet(self) -> dict[str, str | None]:
        """Return one @font-face per weight."""
        faces = [
            f"@font-face {{ font-family: '{self.name}'; font-weight: {weight}; font-display: swap; "
            f"src: url('data:font/woff2;base64,{b64encode((ASSETS / 'fonts' / file).read_bytes()).decode()}') format('woff2'); }}"
            for weight, file in self.files.items()
        ]
        return {"url": None, "css": "\n".join(faces)}


def look() -> dict[str, Any]:
    """Return the arguments of ``launch`` for theme, CSS and fonts."""
    script, styles = ((ASSETS / name).read_text(encoding="utf-8") for name in ("app.js", "head.css"))
    return {
        "theme": theme(),
        "css_paths": [ASSETS / "app.css"],
        "favicon_path": ASSETS / "icon.svg",
        "i18n": I18n(en={"common.upload": "Add files"}),  # Gradio has no option for the text of this button
        "head": f"<script>{script}</script><style>{styles}</style>",
    }


def theme() -> Base:
    """Return the theme. All fonts are local.

    Some fonts bundled with Gradio contain only a few letters; these two are complete in the weights used. Lora is listed
    here so that its font faces are written; app.css uses it for headings and prompts.
    """
    base = Base(
        primary_hue=TERRACOTTA,
        secondary_hue=TERRACOTTA,
        neutral_hue=PAPER,
        radius_size=sizes.radius_lg,
        spacing_size=sizes.spacing_md,
        text_size=sizes.text_md,
        font=(
            fonts.LocalFont("Source Sans Pro", weights=(400, 700)),
            ShippedFont("Lora", {400: "Lora-Regular.woff2", 600: "Lora-SemiBold.woff2"}),
            "system-ui",
            "sans-serif",
        ),
        font_mono=(fonts.LocalFont("IBM Plex Mono", weights=(400, 700)), "ui-monospace", "monospace"),
    )
    return base.set(**_surfaces(), **_controls())  # in one call, because each call resets all other values


def _surfaces() -> dict[str, Any]:
    """Colours of the page, cards and text."""
    return dict(
        body_background_fill="*neutral_100",
        body_background_fill_dark="*neutral_950",
        body_text_color="*neutral_900",
        body_text_color_dark="*neutral_100",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        background_fill_primary="#ffffff",
        background_fill_primary_dark="*neutral_900",
        background_fill_secondary="*neutral_50",
        background_fill_secondary_dark="*neutral_900",
        border_color_primary="*neutral_200",
        border_color_primary_dark="#3a352f",
        block_background_fill="transparent",
        block_background_fill_dark="transparent",
        block_border_width="0px",
        block_shadow="none",
        block_padding="0px",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_border_width="0px",
        block_label_text_color="*neutral_600",
        block_label_text_color_dark="*neutral_400",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_300",
        block_title_text_weight="700",
        block_title_text_size="*text_sm",
        block_info_text_color="*neutral_500",
        block_info_text_color_dark="*neutral_400",
        block_info_text_size="*text_sm",
        layout_gap="14px",
        form_gap_width="0px",
        shadow_drop="none",
        shadow_drop_lg="none",
    )


def _controls() -> dict[str, Any]:
    """Fields, buttons and sliders."""
    return dict(
        input_background_fill="*neutral_50",
        input_background_fill_dark="#24211d",
        input_background_fill_focus="#ffffff",
        input_background_fill_focus_dark="#2a2621",
        input_border_color="*neutral_200",
        input_border_color_dark="#3a352f",
        input_border_color_focus="*primary_400",
        input_border_color_focus_dark="*primary_400",
        input_border_width="1px",
        input_shadow="none",
        input_shadow_focus="inset 0 0 0 2px var(--accent)",  # inside, so that no container cuts it off
        input_radius="10px",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_500",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#ffffff",
        button_primary_border_color="*primary_600",
        button_secondary_background_fill="#ffffff",
        button_secondary_background_fill_dark="#2a2621",
        button_secondary_background_fill_hover="*neutral_100",
        button_secondary_background_fill_hover_dark="#35302a",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="#463f37",
        button_secondary_text_color="*neutral_800",
        button_secondary_text_color_dark="*neutral_100",
        button_border_width="1px",
        button_large_radius="12px",
        button_large_text_weight="700",
        button_medium_radius="10px",
        button_small_radius="9px",
        slider_color="*primary_600",
        slider_color_dark="*primary_400",
        loader_color="*primary_500",
        color_accent_soft="*primary_50",
        color_accent_soft_dark="#2f1d14",
    )
