"""Messages on stderr, and text with control characters escaped."""

from __future__ import annotations

import re
import sys
from contextlib import suppress

# C0 and C1 without tab and line feed, directions that reorder a line (bidi), and lone surrogates.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def escaped(char: str) -> str:
    r"""Return a character as `\uXXXX` (`\UXXXXXXXX` beyond the Basic Multilingual Plane)."""
    return f"\\u{ord(char):04x}" if ord(char) < 1 << 16 else f"\\U{ord(char):08x}"


def printable(text: str) -> str:
    """Return a text with its control characters escaped: they would move the cursor, or hide or reorder text."""
    return CONTROL.sub(lambda found: escaped(found[0]), text)


def say(message: str, start: str = "") -> None:
    """Print a message on stderr; one that cannot be written (a full disk, a closed terminal) is lost.

    Args:
        message: what is wrong, where, and the remedy.
        start: printed before it; a line break where a progress bar may stand.
    """
    if sys.stderr is not None:  # print would take standard output
        with suppress(OSError, ValueError):  # ValueError: it was closed
            print(f"{start}charlm: {printable(message)}", file=sys.stderr, flush=True)


def no_bars() -> bool | None:
    """Return the argument `disable` of a progress bar: None shows it on a terminal only; there may be no stderr."""
    return True if sys.stderr is None else None
