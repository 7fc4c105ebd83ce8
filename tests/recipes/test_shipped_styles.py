"""The shipped style pictures equal the output of the renderer and do not need it at run time."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.experiments.styles import SHIPPED_STYLES, shipped_style
from recipes.style_pictures import style_pictures
from recipes.world import UNSEEN_STYLES
from ui.tabs.compare.experiment_handlers import OWN_STYLE, STYLES, ExperimentHandlers


@pytest.mark.parametrize("style", UNSEEN_STYLES)
def test_the_shipped_pictures_are_drawn_by_their_recipe(style: str, tmp_path: Path) -> None:
    shipped = shipped_style(style)
    assert len(shipped) == 12
    assert all(style.split()[-1] not in caption for caption in shipped.values())
    for (path, caption), (drawn, told) in zip(
        shipped.items(), style_pictures(style, tmp_path, count=2).items(), strict=False
    ):
        assert caption == told
        assert np.array_equal(np.asarray(Image.open(path).convert("RGB")), np.asarray(Image.open(drawn)))


def test_they_are_small_and_every_style_of_the_page_ships(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "recipes", None)  # simulate an installation without the recipes package
    assert sum(path.stat().st_size for path in SHIPPED_STYLES.rglob("*") if path.is_file()) < 1_000_000
    for _, style in STYLES:
        found = ExperimentHandlers._style_of(None, style, None)  # type: ignore[arg-type]
        assert (found["style_paths"] == []) == (style == OWN_STYLE)


def test_a_style_that_does_not_ship_is_refused() -> None:
    with pytest.raises(
        ValueError, match="There is no style 'cubism'; choose one of pixel mosaic, stained glass"
    ):
        shipped_style("cubism")
