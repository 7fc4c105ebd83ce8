"""The walls: pages know no torch, the engine knows no page, and every setting is read by somebody."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from pipelines.config import METHOD_CONFIGS, SampleConfig

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "diffusers", "transformers", "peft")
EVERY_UI_MODULE = """
import importlib, pkgutil, ui
found = [module.name for module in pkgutil.walk_packages(ui.__path__, "ui.")]
assert len(found) > 25 and "ui.tabs.compare.experiment_handlers" in found, found
for name in found:
    importlib.import_module(name)
"""


def imported(path: Path) -> Iterator[str]:
    """Yield the top-level names of everything a file imports, inside functions as well."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize(
    ("folder", "banned"),
    [
        ("ui", (*HEAVY, "recipes", "bench")),
        ("pipelines", ("gradio", "gradio_client", "ui", "app", "recipes", "bench")),
    ],
)
def test_no_file_imports_over_the_wall(folder: str, banned: tuple[str, ...]) -> None:
    for path in sorted((ROOT / folder).rglob("*.py")):
        over = set(imported(path)) & set(banned)
        assert not over, f"{path.relative_to(ROOT)} imports {', '.join(sorted(over))}"


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import pipelines.studio", (*HEAVY, "gradio")),
        ("import pipelines.config, pipelines.files, pipelines.jobs.worker, pipelines.runs.store, pipelines.runs.costs", (*HEAVY, "gradio", "numpy")),
        (EVERY_UI_MODULE, (*HEAVY, "recipes")),
    ],
    ids=["studio", "torch-free ground", "ui"],
)  # fmt: skip
def test_what_an_import_brings_along(statement: str, absent: tuple[str, ...]) -> None:
    script = f"{statement}\nimport sys\nprint([name for name in {absent!r} if name in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == "[]"


def test_every_config_field_has_a_reader() -> None:
    read = {
        node.attr
        for folder in ("pipelines", "ui")
        for path in (ROOT / folder).rglob("*.py")
        if path != ROOT / "pipelines" / "config.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    for cls in (SampleConfig, *METHOD_CONFIGS.values()):
        unread = [item.name for item in fields(cls) if item.name not in read]
        assert not unread, f"nobody reads {unread} of {cls.__name__}"
