"""A user's own presets: saved, listed, used and deleted; bad names and damaged files are refused in a sentence."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.config import DreamBoothConfig, SVDiffConfig
from pipelines.runs.presets import PresetStore

OWN = DreamBoothConfig(
    steps=77, rank=3, identifier="zwx", class_noun="dog", sample_prompts=("a {identifier}",)
)


@pytest.fixture
def store(tmp_path: Path) -> PresetStore:
    return PresetStore(tmp_path)


def test_a_preset_is_what_was_saved_without_the_words_of_the_subject(store: PresetStore) -> None:
    assert store.names("dreambooth", "embedded") == []
    assert store.save("dreambooth", "embedded", "  My  dog ", OWN) == "My dog"
    found = store.read("dreambooth", "embedded", "My dog")
    usual = DreamBoothConfig()
    assert found == replace(OWN, identifier=usual.identifier, class_noun=usual.class_noun)
    store.save("dreambooth", "embedded", "another", OWN)
    assert store.names("dreambooth", "embedded") == ["another", "My dog"]
    assert store.names("dreambooth", "sd1") == store.names("svdiff", "embedded") == []
    store.save("svdiff", "embedded", "My dog", SVDiffConfig(steps=5))
    assert store.read("svdiff", "embedded", "My dog").steps == 5, "another method has its own names"
    store.delete("dreambooth", "embedded", "My dog")
    assert store.names("dreambooth", "embedded") == ["another"]
    assert store.names("svdiff", "embedded") == ["My dog"]
    with pytest.raises(ValueError, match="There is no preset 'My dog' any more"):
        store.read("dreambooth", "embedded", "My dog")
    with pytest.raises(ValueError, match="There is no preset"):
        store.delete("dreambooth", "embedded", "My dog")


@pytest.mark.parametrize(
    "name", ["", " ", "../up", "a/b", "a" * 41, ".hidden", "own:x", "<b>", "-x", "x " * 30]
)
def test_a_name_that_is_none_is_refused(store: PresetStore, name: str) -> None:
    with pytest.raises(ValueError, match=r"A preset's name has 1 to 40"):
        store.save("dreambooth", "embedded", name, OWN)
    assert not store.folder.exists()


def test_a_name_is_given_once(store: PresetStore) -> None:
    store.save("dreambooth", "embedded", "Träume 2", OWN)
    for name, same in (("träume 2", "Träume 2"), ("quick", "Quick")):
        with pytest.raises(ValueError, match=f"already a preset '{same}' of this method"):
            store.save("dreambooth", "embedded", name, replace(OWN, steps=5))
    assert store.read("dreambooth", "embedded", "Träume 2").steps == 77


def test_owners_do_not_see_each_other(tmp_path: Path) -> None:
    mine, yours = PresetStore(tmp_path, owner="one"), PresetStore(tmp_path, owner="two")
    mine.save("dreambooth", "embedded", "Portrait", OWN)
    assert yours.names("dreambooth", "embedded") == []
    yours.save("dreambooth", "embedded", "Portrait", replace(OWN, steps=5))
    yours.delete("dreambooth", "embedded", "Portrait")
    assert mine.read("dreambooth", "embedded", "Portrait").steps == 77


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "is damaged; delete it"),
        ("[]", "is damaged; delete it"),
        ({"settings": []}, "is damaged; delete it"),
        ({"format": 9}, "has format 9 and this version reads 1"),
        ({"settings": {"speed": 1}}, "The preset 'Rex' cannot be used: Unknown setting 'speed'"),
        ({"settings": {"steps": 0}}, "The preset 'Rex' cannot be used: Steps is 0"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_sentence(
    store: PresetStore, content: str | dict, sentence: str
) -> None:
    store.save("dreambooth", "embedded", "Rex", OWN)
    store.save("dreambooth", "embedded", "Ada", OWN)
    path = next(store.folder.glob("*rex*"))
    told = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(content if isinstance(content, str) else json.dumps(told | content), encoding="utf-8")
    with pytest.raises(ValueError, match=sentence):
        store.read("dreambooth", "embedded", "Rex")
    assert "Ada" in store.names("dreambooth", "embedded"), "the others stay usable"
    store.delete("dreambooth", "embedded", "Rex")
    assert store.save("dreambooth", "embedded", "Rex", OWN) == "Rex"
