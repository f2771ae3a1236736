"""Structure: import order, exports of the folders, docstrings, and what is imported without PyTorch and numpy."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import charlm

PACKAGE = Path(charlm.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
FOLDERS = sorted(f".{path.parent.name}" for path in PACKAGE.glob("*/__init__.pyi"))

# A file imports from its own folder and from those before it, nothing else.
ORDER = """
    errors version messages files options recipe recipes data ngrams cells models evaluation storage generation
    inspection compression serving training api experiments cli __init__ __main__
""".split()

NO_TORCH = """
    cells.* ngrams.* data.vocab data.corpus storage.checkpoint storage.migration storage.runs
    generation.sampler generation.generator generation.numpy_engine generation.numpy_recurrent generation.numpy_ngrams
""".split()


def folder_of(path):
    """Return the folder of a file, or the module's name if it is at the root."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(source):
    """Return the folders and root modules that a source text imports anywhere, except under TYPE_CHECKING."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body.clear()
    dotted = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            dotted += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno} is a relative import"
            dotted += [f"{node.module}.{alias.name}" for alias in node.names]
    parts = [name.split(".") for name in dotted]
    return {(part[1] if len(part) > 1 else "__init__") for part in parts if part[0] == "charlm"}


def python(code):
    """Run code in a fresh interpreter and return its output."""
    line = [sys.executable, "-c", code]
    return subprocess.run(line, capture_output=True, text=True, check=True, cwd=PACKAGE.parent).stdout


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path):
    folder = folder_of(path)
    for imported in imports_of(path.read_text("utf-8")):
        assert imported == folder or ORDER.index(imported) < ORDER.index(folder)


def test_imports_inside_functions_count_and_those_for_types_do_not():
    source = "import os, charlm\nif TYPE_CHECKING:\n    import charlm.api\ndef f():\n    from charlm import training\n"
    assert imports_of(source) == {"__init__", "training"}


def test_at_most_six_modules_are_at_the_root():
    assert len({path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}) <= 6


@pytest.mark.parametrize("folder", ["", ".models", ".training.callbacks", *FOLDERS])
def test_a_folder_exports_what_it_lists_with_docstrings(folder):
    module = importlib.import_module(f"charlm{folder}")
    exported = {name: getattr(module, name) for name in module.__all__}
    assert exported
    assert [name for name, value in exported.items() if callable(value) and not value.__doc__] == []


def test_every_public_module_class_and_function_has_a_docstring():
    missing = []
    for path in FILES:
        nodes = [ast.parse(path.read_text("utf-8"))]
        for node in nodes:
            if not ast.get_docstring(node):
                missing.append(f"{path}:{getattr(node, 'lineno', 1)}")
            if isinstance(node, ast.Module | ast.ClassDef):
                inner = [part for part in node.body if isinstance(part, ast.FunctionDef | ast.ClassDef)]
                nodes += [part for part in inner if not part.name.startswith("_")]
    assert missing == []


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="lode"):
        _ = charlm.lode


def test_numpy_parts_import_without_torch():
    found = {name: list(PACKAGE.glob(f"{name.replace('.', '/')}.py")) for name in NO_TORCH}
    assert all(found.values())
    files = sum(found.values(), [])
    modules = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in files]
    python(f"import sys, importlib; sys.modules['torch'] = None\nfor m in {modules}: importlib.import_module(m)")


def test_help_and_version_import_neither_torch_nor_numpy():
    code = """
import sys
sys.modules |= dict.fromkeys(["torch", "numpy", "tensorboard", "safetensors"])  # None: importing one fails
import charlm
from charlm.cli import main
assert "train" in dir(charlm)
codes = []
for line in (["--help"], ["--version"], ["train", "--help"], ["sample", "-h"], ["no-such-command"]):
    try:
        main(line)
    except SystemExit as stop:
        codes.append(stop.code)
print(codes)
"""
    assert python(code).splitlines()[-1] == "[0, 0, 0, 0, 2]"
