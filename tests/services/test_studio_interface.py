"""The one door: whatever the pages ask of a Studio it has, and the pages' pretended Studio promises nothing else."""

import ast
import inspect
import sys
from pathlib import Path

import pytest

from pipelines.experiments.manager import Experiments
from pipelines.studio import Studio

ROOT = Path(__file__).resolve().parents[2]
PUBLIC = {name for name in dir(Studio) if not name.startswith("_")}


def asked_of_a_studio(path: Path) -> set[str]:
    """The attributes that a file reads of something called studio."""
    return {
        node.attr
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and (
            (isinstance(node.value, ast.Name) and node.value.id == "studio")
            or (isinstance(node.value, ast.Attribute) and node.value.attr == "studio")
        )
    }


@pytest.mark.parametrize("path", sorted((ROOT / "ui").glob("*.py")), ids=lambda path: path.name)
def test_pages_ask_only_for_what_the_door_has(path: Path) -> None:
    assert asked_of_a_studio(path) <= PUBLIC


def test_pages_ask_only_for_what_experiments_have() -> None:
    asked = {
        node.attr
        for path in (ROOT / "ui").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Attribute)
        and node.value.attr == "experiments"
    }
    assert asked
    assert asked <= {name for name in dir(Experiments) if not name.startswith("_")}


def test_the_pretended_experiments_take_what_the_real_ones_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "ui"))
    from fake_lab import FakeExperiments

    for name in ("start", "cost", "list", "status", "stop", "resume", "delete", "files"):
        real, fake = (inspect.signature(getattr(cls, name)) for cls in (Experiments, FakeExperiments))
        assert list(real.parameters) == list(fake.parameters), name
    sys.modules.pop("fake_lab", None)


def test_the_pretended_studio_takes_what_the_real_one_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "ui"))
    from fake_studio import FakeStudio

    for name in PUBLIC & set(dir(FakeStudio)):
        real, fake = (getattr(cls, name) for cls in (Studio, FakeStudio))
        if not callable(real):
            continue
        promised = inspect.signature(real).parameters
        for word, parameter in inspect.signature(fake).parameters.items():
            assert word in promised, f"{name}({word}=) is only the pretended Studio's"
            assert parameter.kind == promised[word].kind, f"{name}({word}) is given another way"
    sys.modules.pop("fake_studio", None)
