"""Properties of characters that a unit may detect: inside quotes, in a word, in the second half of a line.

Each is a truth value at each character, known once that character has been read.

Shapes: N characters.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Truth = NDArray[np.bool_]
OPENING, CLOSING = "([{", ")]}"
MAX_QUOTE_CHARS = 2000  # a quote that is not closed ends here, or at an empty line


def in_quotes(text: str) -> Truth:
    """Return whether a double quote is open after each character: straight ones in turn, curly ones by their kind."""
    inside, opened = np.zeros(len(text), bool), -1  # position of the open quote, -1 for none
    for i, char in enumerate(text):
        if char == '"':
            opened = i if opened < 0 else -1
        elif char == "“":
            opened = i
        elif char == "”" or (char == "\n" and text[i - 1 : i] == "\n") or i - opened > MAX_QUOTE_CHARS:
            opened = -1
        inside[i] = opened >= 0
    return inside


def bracket_depth(text: str) -> NDArray[np.int64]:
    """Return the number of open brackets after each character; an empty line closes all."""
    depths, depth = np.zeros(len(text), np.int64), 0
    for i, char in enumerate(text):
        if char in OPENING:
            depth += 1
        elif char in CLOSING:
            depth = max(0, depth - 1)
        elif char == "\n" and text[i - 1 : i] == "\n":
            depth = 0
        depths[i] = depth
    return depths


def column(text: str) -> NDArray[np.int64]:
    """Return the number of characters since the last line break, 0 at the line break itself."""
    positions = np.arange(len(text))
    is_break = np.array([char == "\n" for char in text], bool)
    last = np.maximum.accumulate(np.where(is_break, positions, -1))
    return positions - last


def late_in_line(text: str) -> Truth:
    """Return whether a line is more than half as long as the median line that is not empty."""
    lengths = [len(line) for line in text.split("\n") if line] or [0]
    return column(text) > float(np.median(lengths)) / 2


def word_position(text: str) -> NDArray[np.int64]:
    """Return the number of letters and digits since the last other character, 0 outside words."""
    positions = np.arange(len(text))
    is_letter = np.array([char.isalnum() for char in text], bool)
    return positions - np.maximum.accumulate(np.where(is_letter, -1, positions))


def _each(condition: Callable[[str], bool]) -> Callable[[str], Truth]:
    return lambda text: np.array([condition(char) for char in text], bool)


PROPERTIES: dict[str, Callable[[str], Truth]] = {
    "inside quotes": in_quotes,
    "inside brackets": lambda text: bracket_depth(text) > 0,
    "two brackets deep": lambda text: bracket_depth(text) > 1,
    "second half of a line": late_in_line,
    "in a word": lambda text: word_position(text) > 0,
    "after the third letter of a word": lambda text: word_position(text) > 3,
    "capital letter": _each(str.isupper),
    "after a blank": _each(str.isspace),
    "digit": _each(str.isdigit),
    "punctuation": _each(lambda char: not (char.isalnum() or char.isspace())),
}
