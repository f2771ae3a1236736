"""Import of a folder of the package that needs an extra."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from charlm.errors import UsageError


def import_extra(folder: str, name: str, extra: str, packages: str) -> Any:
    """Return a folder of the package as a module.

    Args:
        folder: of charlm/.
        name: one of its names, whose import needs the extra.
        extra: of pyproject.toml.
        packages: what it installs, for the message.

    Raises:
        UsageError: the extra is not installed.
    """
    module = import_module(f"charlm.{folder}")
    try:
        getattr(module, name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("charlm"):
            raise
        raise UsageError(f"this command needs {packages}; pip install 'charlm-torch[{extra}]'") from None
    return module
