"""Whatever the pages ask of a Studio its services have, and the pages' pretended Studio promises nothing else."""

import ast
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.services.experiments import ExperimentService
from pipelines.services.generation import GenerationService
from pipelines.services.import_export import ImportExportService
from pipelines.services.inspection import InspectionService
from pipelines.services.library import LibraryService
from pipelines.services.training import TrainingService

ROOT = Path(__file__).resolve().parents[2]
SERVICES = {
    "training": TrainingService,
    "library": LibraryService,
    "generation": GenerationService,
    "inspection": InspectionService,
    "import_export": ImportExportService,
    "experiments": ExperimentService,
}


def asked_of_a_studio(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (service, method) for each ``studio.service.method`` that a file reads."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute):
            studio = node.value.value
            if "studio" in (getattr(studio, "id", ""), getattr(studio, "attr", "")):
                yield node.value.attr, node.attr


def test_pages_ask_only_for_what_the_services_have() -> None:
    asked = {found for path in (ROOT / "ui").rglob("*.py") for found in asked_of_a_studio(path)}
    assert {service for service, _ in asked} == set(SERVICES)
    assert not {(service, name) for service, name in asked if not hasattr(SERVICES[service], name)}


def test_the_pretended_experiments_take_what_the_real_ones_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "ui"))
    from fake_lab import FakeExperiments

    for name in ("start", "cost", "list", "status", "stop", "resume", "delete", "files"):
        real, fake = (inspect.signature(getattr(cls, name)) for cls in (ExperimentService, FakeExperiments))
        assert list(real.parameters) == list(fake.parameters), name
    sys.modules.pop("fake_lab", None)


def test_the_pretended_studio_takes_what_the_real_one_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "ui"))
    from fake_studio import FakeStudio

    for service, cls in SERVICES.items():
        for name in () if service == "experiments" else set(vars(cls)) & set(dir(FakeStudio)):
            if name.startswith("_"):
                continue
            promised = inspect.signature(getattr(cls, name)).parameters
            for word, parameter in inspect.signature(getattr(FakeStudio, name)).parameters.items():
                assert word in promised, f"{name}({word}=) is only the pretended Studio's"
                assert parameter.kind == promised[word].kind, f"{name}({word}) is given another way"
    sys.modules.pop("fake_studio", None)
