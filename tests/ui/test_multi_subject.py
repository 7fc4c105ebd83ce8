"""The tab Multi-subject: what its handlers pass to the Studio, and what they show of a run."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import newest
from PIL import Image

from pipelines.config import CutMixUnmixConfig, to_dict
from pipelines.data.cut_mix import EXPLICIT, VAGUE
from pipelines.data.subject import SubjectPhotos, read_subject
from pipelines.studio import Studio
from tests.tiny import draw_photos
from ui.html import BrowserCopies
from ui.run.monitor import RunMonitor
from ui.tabs.multi_subject.handlers import FIELDS, MOST, OWN, MultiSubjectHandlers

BASE = {"spec": "embedded", "family": "embedded", "hash": "", "name": "Embedded base"}


@pytest.fixture
def multi(studio: Studio, copies: BrowserCopies) -> MultiSubjectHandlers:
    return MultiSubjectHandlers(RunMonitor(studio, copies))


def opening(multi: MultiSubjectHandlers) -> dict[str, Any]:
    """Return the initial values of the widgets."""
    first = multi.presets()[0]
    values: dict[str, Any] = {"multi_base": next(iter(multi.bases)), "multi_preset": first}
    values |= multi.choose_preset(first)
    for place in range(MOST):
        source, noun, word = multi.opening(place)
        values |= {f"multi_source_{place}": source, f"multi_noun_{place}": noun, f"multi_word_{place}": word}
        values[f"multi_upload_{place}"] = None
    return values


@pytest.fixture
def started(multi: MultiSubjectHandlers, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, list[Any]]]:
    """Record what is passed to the Studio; no run starts."""
    found: list[tuple[Any, list[Any]]] = []

    def start(method: str, config: Any, *, subjects: list[SubjectPhotos], base: str) -> str:
        assert (method, base) == ("cut_mix_unmix", "embedded")
        found.append((config, subjects))
        return ""

    monkeypatch.setattr(multi.studio.training, "start", start)
    return found


def test_one_click_trains_two_people_with_words_of_their_own(
    multi: MultiSubjectHandlers, started: list[Any]
) -> None:
    values = multi.start(**opening(multi))
    ((config, (one, other)),) = started
    assert config == multi.config()
    assert one.class_noun == other.class_noun == "person"
    assert one.identifier != other.identifier
    assert one.photo_paths != other.photo_paths
    assert values["prompt"] == f"a photo of a {one.identifier} person beside a {other.identifier} person"
    assert "about" in multi.cost(**opening(multi))["multi_cost"]


def test_a_third_subject_is_uploaded_and_advanced_fields_count(
    multi: MultiSubjectHandlers, started: list[Any], tmp_path: Path
) -> None:
    photos = [str(path) for path in draw_photos(tmp_path / "photos")]
    third = {"multi_upload_2": photos, "multi_noun_2": "dog", "multi_word_2": "pll"}
    multi.start(**(opening(multi) | third | {f"{OWN}mix_probability": 0.25}))
    ((config, subjects),) = started
    assert config.mix_probability == 0.25
    assert [subject.class_noun for subject in subjects] == ["person", "person", "dog"]
    assert [str(path) for path in subjects[2].photo_paths] == photos


def test_one_subject_alone_is_refused(multi: MultiSubjectHandlers) -> None:
    alone = opening(multi) | {"multi_source_1": None}
    with pytest.raises(ValueError, match="needs two or three subjects"):
        multi.start(**alone)
    assert "needs two or three subjects" in multi.cost(**alone)["multi_cost"]


def test_the_words_of_a_chosen_example_are_filled_in(multi: MultiSubjectHandlers) -> None:
    name, example = next(iter(multi.examples.items()))
    values = multi.choose_source(1, f"example:{name}")
    assert (values["multi_noun_1"], values["multi_word_1"]) == (example["class_noun"], example["identifier"])
    assert set(multi.choose_preset(multi.presets()[-1])) == {OWN + field for field in FIELDS}


def test_a_run_shows_its_mixed_pictures_and_its_leakage(
    multi: MultiSubjectHandlers, studio: Studio, tmp_path: Path
) -> None:
    photos = draw_photos(tmp_path / "photos")
    run = studio.resources.store.create("cut_mix_unmix", to_dict(CutMixUnmixConfig()), BASE, name="Two")
    for place, words in enumerate((("zwx", "dog"), ("qev", "cat"))):
        read_subject(SubjectPhotos(*words, photos), size_px=64).write(run.path / "photos" / f"{place:02d}")
    (run.path / "mixed").mkdir()
    Image.new("RGB", (64, 64)).save(run.file("mixed/00.png"))
    prompt = "a photo of a zwx dog <and> a qev cat"
    told = [{"file": "mixed/00.png", "prompt": prompt, "left": "zwx dog", "right": "qev cat"}]
    run.file("mixed.json").write_text(json.dumps(told))
    for step, share in ((0, 0.5), (8, 0.125)):
        matrix = [[1 - share, share], [share, 1 - share]]
        run.append("leakage", step=step, subjects=["zwx dog", "qev cat"], matrix=matrix, own=[0.1, 0.1])
    one = studio.resources.store.create("dreambooth", {"identifier": "sks"}, BASE, name="Rex")
    read_subject(SubjectPhotos("sks", "dog", photos), size_px=64).write(one.path / "photos" / "01")
    offered = [value for _, value in multi.sources()]
    assert f"run:{one.id}" in offered, "a run of one subject lends its photographs"
    assert f"run:{run.id}" not in offered
    values = multi.watch(run.id)
    assert "&lt;and&gt;" in values["multi_mixes"]
    assert values["multi_mixes"].count("look0") == values["multi_mixes"].count("look1") == 1
    assert "after step 0" in values["multi_views"]
    assert "after step 8" in values["multi_views"]
    assert "zwx dog outside its half" in values["multi_views"]
    assert values["multi_run_part"]["visible"]
    offered = values["multi_prompt"]["choices"]
    assert "a photo of a zwx dog beside a qev cat" in offered
    wordings = [text.format(left="zwx dog", right="qev cat") for text in (*EXPLICIT, *VAGUE)]
    assert not set(offered) & set(wordings), "prompts that it was not trained with"
    sitting = multi.suggestions(["zwx dog", "qev cat"], "sd1")
    assert "a zwx dog sitting beside a qev cat in a park" in sitting


def test_without_a_run_the_page_asks_for_one(multi: MultiSubjectHandlers) -> None:
    multi.finished = {}
    assert "appear here" in multi.watch("")["multi_result"]
    with pytest.raises(ValueError, match="Train two or three subjects together first"):
        multi.generate("", "a dog", 0)


def test_uploaded_photographs_replace_the_source_and_its_words(
    multi: MultiSubjectHandlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [{"text": "zwx"}, {"text": "blk"}]
    monkeypatch.setattr(multi.studio.inspection, "identifiers", lambda base: found)
    values = multi.choose_upload(1, ["a.png"], "embedded", multi_word_0="zwx", multi_word_1="qev")
    assert values["multi_source_1"] is None
    assert (values["multi_noun_1"], values["multi_word_1"]) == ("", "blk"), "a word nobody else has"
    assert values["multi_mask_background"] is True


def test_a_visitor_trains_two_people_and_sees_them_together(visit: Any, studio: Studio) -> None:
    page = visit().turn("multi-subject")
    page.see("#multi-start")
    form = page.page.locator("#multi-card")
    form.get_by_text("Advanced", exact=True).click()
    form.get_by_label("Steps", exact=True).fill("2")
    form.get_by_label("Warm-up", exact=True).fill("0")
    page.press("Train together")
    page.see(".mixes .halves .look1")
    page.see("#multi-leakage td:has-text('0.')")
    page.until(lambda: newest(studio).state == "done")
    page.see("button:has-text('Train the same without Unmix')")
    page.press("Generate")
    page.until(lambda: bool(studio.library.kept_together(newest(studio).id)))
    for caption in ("Together", "zwx person, alone", "qev person, alone"):
        page.see(f".together figcaption:text-is('{caption}')")
    assert page.page.locator(".together figcaption:text-is('qev person')").count() == 1, "its attention"
    assert not page.errors
