"""The house rules that a machine can check, over whatever modules and components there are."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import byrote
from byrote.registry import ROOMS, Component, discover

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "byrote"
MODULES = sorted(PACKAGE.rglob("*.py"))
HEAVY = {"accelerate", "datasets", "peft", "plotly", "sklearn", "torch", "transformers"}
MAX_LINES = 400

# Who may import whom. A room that is not named here is an island: types and registry only.
FOUNDATION = {"types", "network", "cache", "gaussian", "_version"}
ISLAND = FOUNDATION | {"registry", "writing"}
ANY_ROOM = {path.stem for path in PACKAGE.iterdir()}
ARROWS = {
    "types": set(),
    "registry": FOUNDATION,
    "writing": FOUNDATION | {"registry"},
    "study": ISLAND | {"claims"},
    "training": ISLAND | {"objectives"},
    "generation": ISLAND | {"objectives"},
    "gradients": ISLAND | {"objectives"},
    "target": ISLAND
    | {
        "objectives",
        "generation",
        "gradients",
        "vocabulary",
    },  # tokens and alignment are made once, for training and scoring
    "report": ISLAND | {"statistics", "store", "claims"},
    "runner": ANY_ROOM - {"cli", "console", "__main__"},
    "console": ANY_ROOM - {"cli", "__main__"},  # what the command line prints
    "cli": ANY_ROOM,
    "__main__": ANY_ROOM,
}

Import = ast.Import | ast.ImportFrom


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def modules_named(node: Import) -> list[str]:
    """The modules an import statement names; `from byrote import x` names byrote.x."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    module = node.module or ""
    return [f"byrote.{alias.name}" for alias in node.names] if module == "byrote" else [module]


def every_import(tree: ast.AST) -> Iterator[Import]:
    return (node for node in ast.walk(tree) if isinstance(node, Import))


def imports_at_start(body: list[ast.stmt]) -> Iterator[Import]:
    """Imports that run when the module is imported: not those of functions or of `if TYPE_CHECKING`."""
    for node in body:
        if isinstance(node, Import):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from imports_at_start(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for part in ("body", "orelse", "finalbody", "handlers"):
                for inner in getattr(node, part, []):
                    yield from imports_at_start(inner.body if isinstance(inner, ast.ExceptHandler) else [inner])


def wrong_arrows(path: Path, source: str) -> list[str]:
    """The imports of a module that go against the direction, as "line: module"."""
    room, wrong = room_of(path), []
    allowed = ARROWS.get(room, ISLAND) | {room}
    for node in every_import(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level:
            wrong.append(f"{node.lineno}: a relative import")
            continue
        for module in modules_named(node):
            package, _, rest = module.partition(".")
            imported = "_version" if rest == "__version__" else rest.split(".")[0]
            if package == "byrote" and imported not in allowed:
                wrong.append(f"{node.lineno}: {module}")
    return wrong


def heavy_at_start(source: str) -> list[str]:
    tree = ast.parse(source)
    named = [module for node in imports_at_start(tree.body) for module in modules_named(node)]
    return [module for module in named if module.split(".")[0] in HEAVY]


def kept_files() -> list[Path]:
    """The files of the repository: those git tracks, or all but hidden ones where there is no git."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        paths = [path for path in ROOT.rglob("*") if not any(p[0] == "." for p in path.relative_to(ROOT).parts)]
    return [path for path in paths if path.is_file()]


def components() -> list[tuple[str, type[Component]]]:
    return [(room, component) for room in ROOMS for component in discover(room).values()]


# The door (`byrote/__init__.py`) is lazy and names whatever is public; it is checked further below.
@pytest.mark.parametrize("path", [p for p in MODULES if p != PACKAGE / "__init__.py"], ids=lambda p: p.stem)
def test_imports_follow_the_direction(path: Path) -> None:
    assert wrong_arrows(path, path.read_text()) == []


def test_a_wrong_arrow_would_be_seen() -> None:
    path = PACKAGE / "statistics" / "roc.py"
    inside = "def f():\n    from byrote.store import x\n"
    typed = "if TYPE_CHECKING:\n    from byrote import attacks\n"
    assert wrong_arrows(path, inside) == ["2: byrote.store"]
    assert wrong_arrows(path, typed) == ["2: byrote.attacks"]
    assert wrong_arrows(path, "from .interval import x\n") == ["1: a relative import"]
    down = "import byrote.types\nfrom byrote.statistics.null import x\nfrom byrote import registry\n"
    assert wrong_arrows(path, down) == []
    assert wrong_arrows(PACKAGE / "types.py", "from byrote.registry import make\n") == ["1: byrote.registry"]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.stem)
def test_heavy_packages_are_imported_where_they_are_used(path: Path) -> None:
    assert heavy_at_start(path.read_text()) == []


def test_a_heavy_import_at_the_start_would_be_seen() -> None:
    assert heavy_at_start("try:\n    import torch.nn\nexcept ImportError:\n    import peft\n") == ["torch.nn", "peft"]
    assert heavy_at_start("class A:\n    from transformers import x\n") == ["transformers"]
    assert heavy_at_start("def f():\n    import torch\nif TYPE_CHECKING:\n    import torch\n") == []


def test_importing_every_module_leaves_torch_out() -> None:
    names = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in MODULES]
    names = [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]
    code = (
        "import sys, importlib\n"
        "from byrote.registry import ROOMS, discover\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "for room in ROOMS: discover(room)\n"
        f"print([name for name in {sorted(HEAVY)!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_files_stay_short() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in kept_files()
        if path.suffix == ".py" and (lines := len(path.read_text().splitlines())) > MAX_LINES
    }
    assert long == {}


@pytest.mark.parametrize(("room", "component"), components(), ids=lambda value: getattr(value, "name", value))
def test_components_are_documented_and_cite_their_paper(room: str, component: type[Component]) -> None:
    words = component.__doc__ or ""
    assert component.summary(), "a component's docstring is its documentation"
    if room in ("method", "attack"):
        assert re.search(r"[A-Z][\w-]+\D* (19|20)\d\d\b", words), "cite author and year"
        assert re.search(r"\b\d{4}\.\d{4,5}\b", words), "cite the arXiv id"


def test_the_public_door() -> None:
    assert byrote.__all__ == sorted(byrote.__all__)
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    # What type checkers see, what the door opens, and what it lists are the same names.
    typed = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in every_import(block)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert {*typed, "__version__"} == set(byrote.__all__) == set(dir(byrote))
    for name, module in typed.items():
        assert getattr(byrote, name) is getattr(import_module(module or ""), name)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = byrote.nonsense


def test_no_file_names_a_path_of_one_machine() -> None:
    private = re.compile(rb"(?<![\w.])/" + rb"(?:work|tmp/dl|root|home/\w+)/")
    found = {}
    for path in kept_files():
        content = path.read_bytes()
        if b"\0" not in content and (match := private.search(content)):
            found[str(path.relative_to(ROOT))] = match.group().decode()
    assert found == {}
