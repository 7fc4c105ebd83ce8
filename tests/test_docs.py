"""The documentation matches the code, and the repository contains no forbidden content."""

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import app
import run
from pipelines.methods.specs import METHODS

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAX_FILE_BYTES = 10_000_000
MAX_BASE_BYTES = 32_000_000
MACHINE_PATH = re.compile(rb"(?<![\w.}/-])/(?:work|root|tmp|home|Users)/\w")
PUBLIC_PARTS = (ast.FunctionDef, ast.ClassDef)


def tracked() -> list[Path]:
    """Return the files in the git index; outside a clone, every file that is not hidden or generated."""
    if (ROOT / ".git").exists():
        told = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
        found = [ROOT / name for name in told.stdout.split("\0") if name]
    else:
        found = [path for path in ROOT.rglob("*") if not _is_made(path.relative_to(ROOT))]
    return [path for path in found if path.is_file()]


def _is_made(path: Path) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in path.parts)


def section(title: str) -> str:
    """Return the text of a README section, up to the next heading."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found, f"README has no section {title!r}"
    return found[1]


def tree() -> dict[Path, str]:
    """Return README's file tree as path -> description."""
    drawing = re.search(r"```\n(.*?)```", section("The tree"), re.DOTALL)
    assert drawing, "README's tree is a code block"
    entries: dict[Path, str] = {}
    parent = Path()
    for line in drawing[1].splitlines():
        name, _, told = line.strip().partition(" ")
        if line.startswith(" "):
            entries[parent / name] = told.strip()
        else:
            parent = Path(name) if name.endswith("/") else Path()
            entries[Path(name)] = told.strip()
    return entries


def commands() -> list[list[str]]:
    """Return every call of run.py that README shows, split into words."""
    quoted = re.findall(r"python3 (run\.py[^`#\n]*)", README)
    return [line.split() for line in quoted]


PACKAGES = ("pipelines", "ui")  # the packages whose folders appear in README's tree


def folders() -> set[Path]:
    """Return every folder that contains a file of the repository."""
    files = [path.relative_to(ROOT) for path in tracked()]
    return {parent for path in files for parent in path.parents} - {Path()}


def test_the_tree_names_what_is_there() -> None:
    there = folders() | {path.relative_to(ROOT) for path in tracked()}
    for path, told in tree().items():
        assert path in there, f"README's tree names {path}, which is not there"
        assert told, f"README's tree says nothing about {path}"


def test_the_tree_leaves_nothing_out() -> None:
    top = {path for path in folders() if len(path.parts) == 1 and not path.name.startswith(".")}
    programs = {Path(path.name) for path in tracked() if path.parent == ROOT and path.suffix == ".py"}
    below = {path for path in folders() if len(path.parts) == 2 and path.parts[0] in PACKAGES}
    missing = {str(path) for path in (top | programs | below) - set(tree())}
    assert not missing, f"README's tree does not mention {', '.join(sorted(missing))}"


def test_the_tree_lists_the_modules_of_the_engine_beside_its_packages() -> None:
    listed = set(tree()[Path("pipelines")].partition(":")[2].replace(",", " ").split())
    there = {path.stem for path in tracked() if path.parent == ROOT / "pipelines" and path.suffix == ".py"}
    assert listed == there - {"__init__"}, "README's tree lists the modules of pipelines/"


def test_every_method_has_a_row() -> None:
    rows = [
        line.split("|")[1].strip().lower().replace("-", " ")
        for line in section("Methods").splitlines()
        if "|" in line
    ]
    for name in METHODS:
        word = name.replace("_", " ")
        assert any(row.startswith(word) for row in rows), f"README's method table has no row for {name}"


def test_the_two_commands_do_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = [words[:2] for words in commands()]
    assert ["run.py"] in shown
    assert ["run.py", "test"] in shown
    monkeypatch.setattr(run, "set_up", lambda requirements: requirements.read_text())
    for words in commands():
        line = what_it_runs(words, monkeypatch=monkeypatch)
        if "test" in words:
            assert line[1:3] == ["-m", "pytest"]
        else:
            assert Path(line[1]).is_file()
            monkeypatch.setattr(sys, "argv", line[1:])
            app.arguments()  # exits with an error if the program does not have a flag


def what_it_runs(words: list[str], *, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the command line that a call of run.py executes."""
    called: list[list[str]] = []

    def keep(line: list[object], **_: object) -> subprocess.CompletedProcess:
        called.append([str(word) for word in line])
        return subprocess.CompletedProcess(line, 0)

    monkeypatch.setattr(sys, "argv", words)
    with monkeypatch.context() as patched:
        patched.setattr(run.subprocess, "run", keep)
        assert run.main() == 0
    return called[0]


def test_every_module_that_is_called_exists() -> None:
    named = re.findall(r"python3? -m ([\w.]+)", README + (ROOT / "CONTRIBUTING.md").read_text())
    assert named
    for name in named:
        assert importlib.util.find_spec(name), f"python -m {name} is written of, but there is no such module"


def test_every_link_leads_somewhere() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert targets
    for target in targets:
        assert (ROOT / target).is_file(), f"README links to {target}, which is not there"


def test_the_changelog_keeps_a_place_for_what_comes() -> None:
    assert re.search(r"^## \[Unreleased\]$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_no_path_of_one_machine_is_written_down() -> None:
    for path in tracked():
        content = path.read_bytes()
        if b"\0" in content[:4096]:
            continue
        found = MACHINE_PATH.search(content)
        assert not found, f"{path.relative_to(ROOT)} holds the path {found[0]!r}..."


def test_files_are_small_enough_to_clone() -> None:
    heavy = [str(path) for path in tracked() if path.stat().st_size >= MAX_FILE_BYTES]
    assert not heavy, f"over 10 MB: {heavy}"
    base = ROOT / "assets" / "base"
    assert sum(path.stat().st_size for path in base.rglob("*") if path.is_file()) < MAX_BASE_BYTES


def test_every_public_module_and_its_parts_say_what_they_are() -> None:
    silent = []
    for path in sorted((ROOT / "pipelines").rglob("*.py")):
        module = ast.parse(path.read_text(encoding="utf-8"))
        parts = [node for node in module.body if isinstance(node, PUBLIC_PARTS) and node.name[0] != "_"]
        name = path.relative_to(ROOT)
        silent += [str(name)] if ast.get_docstring(module) is None else []
        silent += [f"{name}: {node.name}" for node in parts if ast.get_docstring(node) is None]
    assert not silent, f"without a docstring: {silent}"
