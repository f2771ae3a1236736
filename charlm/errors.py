"""The errors a user can cause or mend, each with the exit code of the command line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CharlmError(Exception):
    """Something went wrong; the message is one line: what, where, how to mend it."""

    exit_code = 1


class UsageError(CharlmError):
    """An option or an argument that cannot be meant."""

    exit_code = 2


class DataError(CharlmError):
    """A text or a file whose content cannot be used."""

    exit_code = 65


class CheckpointError(DataError):
    """A checkpoint that is damaged, cut off, foreign or of a newer format."""


class InputNotFoundError(CharlmError):
    """An input that does not exist or cannot be read."""

    exit_code = 66


class OutputError(CharlmError):
    """A file or folder that cannot be written."""

    exit_code = 74


class Interrupted(KeyboardInterrupt):
    """A signal that asks the program to end.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean X?" for the nearest known word, or an empty string."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
