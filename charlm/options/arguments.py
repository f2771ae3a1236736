"""Checks of arguments other than numbers: strings, choices, names of texts and of files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from charlm.errors import UsageError, did_you_mean, shown

MAX_PATH_BYTES = 4096


def checked_text(name: str, value: object) -> str:
    """Return an argument that is a string.

    Raises:
        UsageError: it is not a string.
    """
    if not isinstance(value, str):
        remedy = "; decode it first" if isinstance(value, bytes) else ""
        raise UsageError(f"{name} must be a string, got {shown(value)}{remedy}")
    return value


def checked_choice(name: str, value: object, choices: Sequence[str]) -> str:
    """Return an argument that is one of several strings.

    Raises:
        UsageError: it is not one of them.
    """
    if not isinstance(value, str) or value not in choices:
        hint = did_you_mean(value, choices) if isinstance(value, str) else ""
        raise UsageError(f"{name} must be one of {', '.join(choices)}, got {shown(value)}{hint}")
    return value


def checked_name(name: str, value: object) -> str:
    """Return an argument that is a string or a path, as a string.

    Raises:
        UsageError: it is neither.
    """
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str):
        raise UsageError(f"{name} must be a string or a path, got {shown(value)}")
    return text


def checked_path(name: str, value: object) -> Path:
    """Return an argument that names a file or folder as a path.

    Raises:
        UsageError: it is neither a string nor a path, or no file can have this name in one line.
    """
    text = checked_name(name, value)
    try:
        data = os.fsencode(text)
    except UnicodeEncodeError:
        data = b""
    if not 0 < len(data) <= MAX_PATH_BYTES or any(sign in data for sign in b"\0\n\r"):
        raise UsageError(f"{name} is {shown(text)}, not the name of a file; give a path")
    return Path(text)
