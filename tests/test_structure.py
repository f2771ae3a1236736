"""Imports point downwards, public names are complete and described, files are short, `--help` is light."""

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import charlm

PACKAGE = Path(charlm.__file__).parent
FILES = sorted(path for path in PACKAGE.rglob("*.py"))

# A module imports from the rows above its own, from its own folder, and from what BESIDE names in its own row.
ROWS = [
    ["errors", "files", "vocab", "pieces", "library", "encode", "cache", "corpus", "shuffle", "feeds"]
    + ["models", "steps", "draw", "crew", "schedules", "recipe", "plots"],
    ["metrics", "sample", "references", "weights"],
    ["dynamic", "processes"],
    ["fit", "counting", "launch", "tuning"],
    ["checkpoint", "callbacks", "runs", "resume"],
    ["writer", "language_model", "mixture", "choices", "trainer", "training", "api", "lesson", "lr_find", "bench"],
    ["cli"],
]
BESIDE = {
    "library": {"pieces"},
    "encode": {"pieces", "vocab"},
    "cache": {"library", "vocab"},
    "corpus": {"vocab", "pieces", "encode", "cache"},
    "feeds": {"shuffle", "vocab"},
    "crew": {"draw"},
    "counting": {"fit"},
    "language_model": {"writer"},
    "mixture": {"language_model"},
    "trainer": {"choices", "language_model"},
    "training": {"choices", "language_model", "trainer"},
    "api": {"choices", "language_model", "training"},
    "lesson": {"language_model", "choices", "training", "api"},
    "lr_find": {"choices", "trainer"},
    "bench": {"choices", "language_model", "training"},
}
GROUND = {"errors", "files"}  # any module of the first row may import these
ROW_OF = {module: i for i, row in enumerate(ROWS) for module in row}


def name_of(path):
    """Return the module or folder of charlm to which a file belongs: "fit", "models", ..."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path):
    """Return the modules and folders of charlm that a file imports, lazily or not, except for types."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body.clear()
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            dotted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} is a relative import"
            dotted = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        parts = [name.split(".") for name in dotted]
        found |= {part[1] for part in parts if part[0] == "charlm" and len(part) > 1}
    return found - {"__version__"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path):
    name = name_of(path)
    if name in ("__init__", "__main__", "recipes"):
        assert imports_of(path) <= {"__init__": {"api", "language_model"}, "__main__": {"cli"}}.get(name, set())
        return
    lower = {module for row in ROWS[: ROW_OF[name]] for module in row}
    allowed = lower | BESIDE.get(name, set()) | {name} | (GROUND if ROW_OF[name] == 0 else set())
    assert imports_of(path) <= allowed


def test_every_module_has_its_row():
    assert {name_of(path) for path in FILES} == {*ROW_OF, "__init__", "__main__", "recipes"}


def test_an_import_that_points_upwards_would_be_found(tmp_path):
    (tmp_path / "x.py").write_text("import os\ndef f():\n    from charlm import fit\n    import charlm.cli.options\n")
    assert imports_of(tmp_path / "x.py") == {"fit", "cli"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_is_public_is_described(path):
    tree = ast.parse(path.read_text("utf-8"))
    nodes = [tree]
    for node in nodes:
        assert ast.get_docstring(node), f"{path}:{getattr(node, 'lineno', 1)} has no docstring"
        if isinstance(node, ast.Module | ast.ClassDef):
            char_classes = ast.FunctionDef | ast.ClassDef
            nodes += [
                inner for inner in node.body if isinstance(inner, char_classes) and not inner.name.startswith("_")
            ]


@pytest.mark.parametrize("name", charlm.__all__)
def test_a_public_name_can_be_imported(name):
    assert getattr(charlm, name).__doc__


@pytest.mark.parametrize("package", ["charlm.training.callbacks", "charlm.models", "charlm.generation.steps"])
def test_a_folder_exports_what_it_lists(package):
    module = importlib.import_module(package)
    assert [name for name in module.__all__ if not hasattr(module, name)] == []


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = charlm.lode


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_is_short(path):
    assert len(path.read_text("utf-8").splitlines()) <= 260


def test_help_and_version_import_neither_torch_nor_numpy():
    code = """
import json, sys
from charlm.cli import main
heavy = {}
for line in (["--help"], ["--version"], ["train", "--help"], ["sample", "-h"], ["no-such-command"]):
    try:
        main(line)
    except SystemExit:
        heavy[" ".join(line)] = sorted({"torch", "numpy", "tensorboard", "safetensors"} & set(sys.modules))
print(json.dumps(heavy))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    heavy = json.loads(done.stdout.splitlines()[-1])
    assert len(heavy) == 5
    assert [line for line, modules in heavy.items() if modules] == []
