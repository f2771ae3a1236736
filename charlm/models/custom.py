"""Architectures from outside the package: a class in a file or module, and entry points of installed packages.

Code of a file is run only when a user names it, never because a checkpoint does.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from charlm.errors import InputNotFoundError, UsageError
from charlm.models.base import CharModel

GROUP = "charlm.models"  # of entry points: name = "package.module:Class"


def import_class(name: str) -> type[CharModel]:
    """Import an architecture, running the code of its file or module.

    Args:
        name: "path/to/mine.py:MyRNN", or "package.module:MyRNN".

    Raises:
        InputNotFoundError: there is no such file.
        UsageError: the code fails, or has no such class, or the class is no `CharModel`.
    """
    source, _, cls = name.rpartition(":")
    if source.endswith(".py") and not Path(source).is_file():
        raise InputNotFoundError(f"model {name}: there is no file {source}")
    try:
        found = getattr(_run_file(Path(source)) if source.endswith(".py") else importlib.import_module(source), cls)
    except Exception as error:
        raise UsageError(f"model {name}: cannot be imported: {type(error).__name__}: {error}") from error
    return _checked(name, found)


def installed() -> dict[str, EntryPoint]:
    """Return the architectures of installed packages by name, without importing them."""
    return {point.name: point for point in entry_points(group=GROUP)}


def import_installed(point: EntryPoint) -> type[CharModel]:
    """Import an architecture of an installed package.

    Raises:
        UsageError: see `import_class`.
    """
    try:
        found = point.load()
    except Exception as error:
        raise UsageError(f"model {point.name}: {point.value} cannot be imported: {error}") from error
    return _checked(point.name, found)


def _run_file(path: Path) -> object:
    """Return the module of a file, under a name of its own, so that it hides no other module."""
    spec = importlib.util.spec_from_file_location(f"charlm_file_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _checked(name: str, found: object) -> type[CharModel]:
    if not (isinstance(found, type) and issubclass(found, CharModel)):
        raise UsageError(f"model {name}: is not a subclass of charlm.models.CharModel")
    return found
