"""Errors that a user can cause or fix, each with its exit code on the command line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MAX_WORD = 80  # characters that are compared with known words


class CharlmError(Exception):
    """Base class. The message is one line: what is wrong, where, and the remedy."""

    exit_code = 1


class UsageError(CharlmError):
    """An invalid option or argument."""

    exit_code = 2


class DataError(CharlmError):
    """A text or a file with unusable content."""

    exit_code = 65


class CheckpointError(DataError):
    """A checkpoint that is damaged, truncated, not from charlm, or of a newer format."""


class InputNotFoundError(CharlmError):
    """An input that does not exist or cannot be read."""

    exit_code = 66


class OutputError(CharlmError):
    """A file or folder that cannot be written."""

    exit_code = 74


class DivergedError(CharlmError):
    """A training whose loss or logits are not finite, or whose loss is worse than that of a uniform guess."""


class Interrupted(KeyboardInterrupt):
    """A signal that terminates the program.

    Args:
        number: number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean X?" for the most similar known word in any case, or an empty string."""
    words = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word[:MAX_WORD].lower(), list(words), n=1)
    return f"; did you mean {words[near[0]]!r}?" if near else ""


def shown(value: object, width: int = 60) -> str:
    """Return a value as code for a message, in one line and shortened."""
    try:
        text = repr(value)
    except ValueError:  # Python converts no integer of more than 4300 digits
        return "a number of thousands of digits"
    return text if len(text) <= width else f"{text[: width - 20]}...{text[-12:]} ({len(text):,} characters)"
