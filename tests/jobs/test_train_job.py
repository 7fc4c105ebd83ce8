"""The events of a run contain the notes that the page shows."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.models.base import Base
from pipelines.studio import Studio
from tests.tiny import TINY, draw_photos, finish, shop_with


def test_what_the_user_should_know_is_told_once(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The encoders are missing, and a sample prompt is longer than the text encoder's limit."""
    cache = shop_with(base)
    monkeypatch.setattr(cache, "encoders", lambda family: None)
    studio = Studio(tmp_path / "studio", model_cache=cache)
    config = replace(TINY, measure=True, sample_prompts=("a " * 140 + "dog",), sample_every=1, sample_steps=1)
    try:
        run_id = studio.training.start("dreambooth", config, draw_photos(tmp_path / "photos"))
        assert finish(studio, run_id) == "done"
        events = studio.training.status(run_id)["events"]
    finally:
        studio.close()
    notes = [event["text"] for event in events if event["kind"] == "note"]
    assert len(notes) == 2, notes
    assert any("is not measured, because CLIP and DINO" in text for text in notes)
    assert any("longer" in text or "cut" in text for text in notes), notes
    assert not [event for event in events if event["kind"] == "metrics"]
