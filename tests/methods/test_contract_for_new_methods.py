"""A new method needs only a module, a config and a spec: toy versions of future methods run through the Studio."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.adapters.core import read_tensors
from pipelines.config import to_dict
from pipelines.data.subject import SubjectPhotos, stored_subjects
from pipelines.methods.core import Method, Prepares, RecordsAttention
from pipelines.methods.specs import METHODS
from pipelines.models.base import Base
from pipelines.runs.costs import SIZES
from pipelines.studio import Studio
from tests.methods.toys import no_photos, sequence, two_subjects
from tests.tiny import TINY, draw_photos, finish, shop_with
from ui import forms

TOYS = {module.SPEC.name: module.SPEC for module in (two_subjects, sequence, no_photos)}
ROOT = Path(__file__).resolve().parents[2]
QUICK: dict[str, Any] = {"steps": 2, "learning_rate": 1e-2, "sample_steps": 1, "measure": False}


@pytest.fixture
def studio(base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    for name, spec in TOYS.items():
        monkeypatch.setitem(METHODS, name, spec)
    studio = Studio(tmp_path / "studio", model_cache=shop_with(base))
    yield studio
    studio.close()


def terms(studio: Studio, run_id: str) -> set[str]:
    steps = [each for each in studio.training.status(run_id)["events"] if each["kind"] == "step"]
    return {name for step in steps for name in step["terms"]}


@pytest.mark.parametrize("name", [*METHODS, *TOYS])
def test_every_method_has_what_the_contract_names(name: str) -> None:
    spec = (METHODS | TOYS)[name]
    method: Method = spec.load()
    for part in ("adapter", "batches", "loss", "views"):
        assert callable(getattr(method, part)), part
    assert isinstance(method, Prepares) == bool(spec.preparing)
    for size in SIZES.values():
        assert spec.config().trained_values(size) > 0, "its cost can be told"
    assert isinstance(two_subjects, RecordsAttention)


def test_the_engine_and_the_page_name_a_method_in_its_module_its_config_and_its_spec() -> None:
    named = re.compile(r'"textual_inversion"|TextualInversionConfig|methods[./]textual_inversion')
    found = {
        path.relative_to(ROOT).as_posix()
        for folder in ("pipelines", "ui")
        for path in (ROOT / folder).rglob("*.py")
        if named.search(path.read_text(encoding="utf-8"))
    }
    assert found == {
        "pipelines/config.py", "pipelines/methods/specs.py", "pipelines/methods/textual_inversion.py",
    }  # fmt: skip


def test_several_subjects_with_a_loss_on_attention(studio: Studio, tmp_path: Path) -> None:
    """Both subjects have pixels, captions, repeats and masks; both loss terms are plotted; the form is method-specific."""
    paths = draw_photos(tmp_path / "photos")
    mask = tmp_path / "mask.png"
    Image.new("L", (160, 140), 255).save(mask)
    rex = SubjectPhotos(
        "zwx", "dog", paths, captions={paths[0].name: "a {identifier}"}, repeats={paths[0].name: 3}
    )
    tom = SubjectPhotos("qev", "cat", paths[1:], masks={paths[1].name: mask})
    config = two_subjects.TwoSubjectsConfig(**QUICK, use_captions=True, accumulation=2)
    run_id = studio.training.start("two_subjects", config, subjects=[rex, tom])
    assert finish(studio, run_id) == "done"
    assert terms(studio, run_id) == {"instance", "attention"}
    assert [view["title"] for view in studio.inspection.views(run_id)] == ["Subjects"]
    run = studio.resources.store.get(run_id)
    first, second = stored_subjects(run.path, run.config)
    assert (first.identifier, first.class_noun, len(first.photos), len(first.masks)) == ("zwx", "dog", 2, 0)
    assert (second.identifier, len(second.photos), len(second.masks)) == ("qev", 1, 1)
    assert (first.captions["00.png"], first.repeats["00.png"], dict(second.repeats)) == (
        "a {identifier}",
        3,
        {},
    )
    assert run.name == "zwx dog and qev cat"
    assert studio.resources.library.card(run).trigger == "zwx dog, qev cat"
    assert studio.training.cost("two_subjects", config, 3).seconds > 0
    rows = forms.own_rows("toys")
    widgets = {name: widget for row in rows.values() for name, widget in row.widgets.items()}
    assert widgets["attention_weight"] == "two_subjects_attention_weight"
    for subjects, sentence in (
        ([rex], "learns from at least 2 subjects"),
        ([rex, replace(tom, identifier="x; rm")], "letters, digits"),
        ([rex, replace(tom, masks={"nobody.png": mask})], "no such photograph"),
    ):
        with pytest.raises(ValueError, match=sentence):
            studio.training.start("two_subjects", config, subjects=subjects)
    with pytest.raises(ValueError, match="several subjects"):
        studio.library.settings(run_id)


def test_a_mask_is_cut_as_its_photograph(studio: Studio, tmp_path: Path) -> None:
    (photo, _), mask = draw_photos(tmp_path / "photos"), tmp_path / "mask.png"
    side = Image.new("L", (160, 140))
    side.paste(255, (0, 0, 20, 140))  # cropped away, unless the crop is moved to the left
    side.save(mask)
    seen = {}
    for across in (-1.0, 1.0):
        run_id = studio.training.start(
            "dreambooth", TINY, [photo], crops={photo.name: (across, 0.0)}, masks={photo.name: mask}
        )
        assert finish(studio, run_id) == "done"
        (stored,) = stored_subjects(studio.resources.store.get(run_id).path, {})
        with Image.open(stored.masks[0]) as cut:
            seen[across] = cut.getextrema()[1]
    assert seen == {-1.0: 255, 1.0: 0}
    Image.new("L", (99, 90)).save(mask)
    with pytest.raises(ValueError, match="another size than the photograph"):
        studio.training.start("dreambooth", TINY, [photo], masks={photo.name: mask})


def test_a_sequence_stands_on_its_parents(studio: Studio, tmp_path: Path) -> None:
    photos = draw_photos(tmp_path / "photos")
    config = sequence.SequenceConfig(**QUICK, identifier="zwx", class_noun="dog")
    first = studio.training.start("sequence", config, photos)
    with pytest.raises(ValueError, match="has no finished adapter yet"):
        studio.training.start("sequence", config, photos, parents=[first])
    assert finish(studio, first) == "done"
    still = replace(config, steps=1, learning_rate=1e-7, weight_decay=0.0, identifier="qev")
    second = studio.training.start("sequence", still, photos, parents=[first])
    assert finish(studio, second) == "done"
    run, parent = (studio.resources.store.get(run_id) for run_id in (second, first))
    assert json.loads(run.file("run.json").read_text())["parents"] == [first]
    assert (run.parents, parent.parents) == ([first], [])
    begun, ended = (read_tensors(each.file("adapter.safetensors"))[0] for each in (parent, run))
    assert max(float((begun[name] - ended[name]).abs().max()) for name in begun) <= 2e-7, (
        "it went on from there"
    )
    with pytest.raises(ValueError, match="does not build on other runs"):
        studio.training.start("dreambooth", TINY, photos, parents=[first])
    parent.base |= {"spec": "someone/another"}
    parent.save()
    with pytest.raises(ValueError, match=r"trained on another base \(someone/another\)"):
        studio.training.start("sequence", still, photos, parents=[first])
    studio.training.discard(first)
    with pytest.raises(ValueError, match="There is no run"):
        studio.training.start("sequence", still, photos, parents=[first])


def test_a_method_without_photographs(studio: Studio, tmp_path: Path) -> None:
    config = no_photos.NoPhotosConfig(**QUICK)
    run_id = studio.training.start("no_photos", to_dict(config), name="Nobody")
    assert finish(studio, run_id) == "done"
    assert terms(studio, run_id) == {"noise"}
    run = studio.resources.store.get(run_id)
    assert not (run.path / "photos").exists()
    assert "a photo" in run.file("card.md").read_text()
    with pytest.raises(ValueError, match="learns from no photographs"):
        studio.training.start("no_photos", config, draw_photos(tmp_path / "photos"))
