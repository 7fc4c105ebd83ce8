"""Import rules: ui does not import torch, pipelines does not import gradio, and every config field is read."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.config import SampleConfig
from pipelines.methods.specs import METHODS

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "diffusers", "transformers", "peft")
CONFIG = ("config", "settings", "used")  # variable names of configs in pipelines
GROUND = {  # modules in a later package's folder that earlier layers import
    "methods.specs": "methods.specs",
    "weightspace.index": "weightspace.index",
    "weightspace.space": "weightspace.index",
}
# A package may import from its own layer and earlier layers, never from a later one.
LAYERS = (
    ("config", "fields", "files", "archives", "unet_blocks", "methods.specs"),
    ("data", "models", "weightspace.index"),
    ("adapters",),
    ("evaluation", "runs"),
    ("formats", "sampling", "training"),
    ("weightspace",),
    ("methods",),
    ("jobs",),
    ("experiments",),
    ("services",),
    ("studio",),
    ("cli", "ui"),
)
EVERY_UI_MODULE = """
import importlib, pkgutil, ui
found = [module.name for module in pkgutil.walk_packages(ui.__path__, "ui.")]
assert len(found) > 25 and "ui.tabs.compare.experiment_handlers" in found, found
for name in found:
    importlib.import_module(name)
"""


def imported(path: Path) -> Iterator[str]:
    """Yield the top-level names of all imports of a file, including imports inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def module_graph() -> dict[str, set[str]]:
    """Return the imports between our modules, including those inside functions but not those for type checking only."""
    paths = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for folder in ("pipelines", "ui")
        for path in (ROOT / folder).rglob("*.py")
    }
    graph: dict[str, set[str]] = {}
    for module, path in paths.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for_types = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            for statement in node.body
            for inner in ast.walk(statement)
        }
        named: set[str] = set()
        for node in ast.walk(tree):
            if id(node) in for_types:
                continue
            if isinstance(node, ast.Import):
                named |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                whole = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
                named |= {each if each in paths else node.module for each in whole.values()}
        graph[module] = (named & paths.keys()) - {module}
    return graph


def package_of(module: str) -> str:
    """Return the node of a module in the import diagram of CONTRIBUTING.md."""
    parts = module.split(".")
    if parts[0] == "ui":
        return "ui"
    return GROUND.get(".".join(parts[1:]), parts[1])


def package_graph() -> dict[str, set[str]]:
    graph: dict[str, set[str]] = {}
    for module, others in module_graph().items():
        if module not in ("pipelines", "ui"):
            package = package_of(module)
            graph.setdefault(package, set()).update({package_of(other) for other in others} - {package})
    return graph


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    found, pending = set(), [*graph[start]]
    while pending:
        node = pending.pop()
        if node not in found:
            found.add(node)
            pending += graph[node]
    return found


@pytest.mark.parametrize("graph", [module_graph(), package_graph()], ids=["modules", "packages"])
def test_imports_have_no_circle(graph: dict[str, set[str]]) -> None:
    circles = {node for node in graph if node in reachable(graph, node)}
    assert not circles, f"imports go round in a circle through {', '.join(sorted(circles))}"


def test_imports_follow_the_layers() -> None:
    rank = {package: place for place, layer in enumerate(LAYERS) for package in layer}
    graph = package_graph()
    assert graph.keys() == rank.keys()
    against = [(a, b) for a in graph for b in graph[a] if rank[b] > rank[a]]
    assert not against, f"imports of a later layer: {against}"


def test_contributing_draws_the_imports() -> None:
    """The diagram contains every import between packages that is not implied transitively by others."""
    graph = package_graph()
    reach = {package: reachable(graph, package) for package in graph}
    drawn = {
        f"{package} --> {other}"
        for package in graph
        for other in graph[package]
        if not any(other in reach[between] for between in graph[package] - {other})
    }
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    picture = text.partition("```mermaid\nflowchart TD\n")[2].partition("```")[0]
    assert {line.strip() for line in picture.splitlines()} == drawn, "\n".join(sorted(drawn))


@pytest.mark.parametrize(
    ("folder", "banned"),
    [
        ("ui", (*HEAVY, "recipes", "bench")),
        ("pipelines", ("gradio", "gradio_client", "ui", "app", "recipes", "bench")),
    ],
)
def test_no_file_imports_over_the_wall(folder: str, banned: tuple[str, ...]) -> None:
    paths = sorted((ROOT / folder).rglob("*.py"))
    assert paths, f"there is no {folder}/"
    for path in paths:
        over = set(imported(path)) & set(banned)
        assert not over, f"{path.relative_to(ROOT)} imports {', '.join(sorted(over))}"


BUILT_PAGE = """
import tempfile
from pathlib import Path
from pipelines.studio import Studio
from ui.app import build
from ui.html import BrowserCopies
with tempfile.TemporaryDirectory() as folder:
    build(Studio(Path(folder)), BrowserCopies())
"""


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import pipelines.studio", (*HEAVY, "gradio")),
        ("import pipelines.weightspace.index, pipelines.config, pipelines.files, pipelines.jobs.worker, pipelines.runs.store, pipelines.runs.costs", (*HEAVY, "gradio", "numpy")),
        (EVERY_UI_MODULE, (*HEAVY, "recipes")),
        (BUILT_PAGE, (*HEAVY, "recipes")),
    ],
    ids=["studio", "torch-free ground", "ui", "a built page with its examples"],
)  # fmt: skip
def test_what_an_import_brings_along(statement: str, absent: tuple[str, ...]) -> None:
    script = f"{statement}\nimport sys\nprint([name for name in {absent!r} if name in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == "[]"


def attributes_of(tree: ast.AST, receivers: tuple[str, ...]) -> set[str]:
    """Return the attributes read from objects with one of these names: ``config.rank``, ``self.config.rank``."""
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Load)
        and getattr(node.value, "id", getattr(node.value, "attr", "")) in receivers
    }


def parsed(module: str) -> ast.Module:
    return ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))


def read_by_its_class(cls: type) -> set[str]:
    """Return the fields that a config's own properties and methods read; validation does not count."""
    (body,) = (node for node in parsed(cls.__module__).body if getattr(node, "name", "") == cls.__name__)
    methods = [node for node in ast.walk(body) if isinstance(node, ast.FunctionDef)]
    return {
        name
        for method in methods
        if method.name != "__post_init__"
        for name in attributes_of(method, ("self",))
    }


@pytest.mark.parametrize("cls", [SampleConfig, *(spec.config for spec in METHODS.values())])
def test_every_config_field_has_a_reader(cls: type) -> None:
    """A method's own fields are read in its own module or class, all other fields anywhere in pipelines.

    Only objects with a config's name count: an attribute of the same name on another object is not a read.
    """
    own = [spec for spec in METHODS.values() if spec.config is cls]
    anywhere = {
        name
        for path in (ROOT / "pipelines").rglob("*.py")
        for name in attributes_of(ast.parse(path.read_text(encoding="utf-8")), CONFIG)
    }
    for owner in cls.__mro__:
        declared = [name for name in vars(owner).get("__annotations__", {}) if name in vars(owner)]
        if not declared or owner.__module__ == "pipelines.fields":
            continue
        if own and owner is cls:
            read = attributes_of(parsed(own[0].implementation), CONFIG)
            read |= attributes_of(parsed("pipelines.unet_blocks"), CONFIG)  # reads the ranks of a block plan
        else:
            read = anywhere
        overridden = {name for name in declared if hasattr(super(owner, owner), name)} & anywhere
        known = read | overridden | read_by_its_class(owner) | {"retired"}
        unread = [name for name in declared if name not in known]
        assert not unread, f"nobody reads {unread} of {owner.__name__}"
