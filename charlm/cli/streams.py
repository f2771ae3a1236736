"""The standard streams of a command. Any of them may be closed, full, or in an encoding that lacks characters.

Standard output carries data: if it cannot be written, the command fails, after its work is saved. Standard error
carries messages and progress: it never ends a command.
"""

from __future__ import annotations

import codecs
import errno
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, TextIO, cast

from charlm.errors import OutputError
from charlm.messages import escaped, printable, say

ESCAPE = "charlm.escape"  # name of the error handler of encodings
CURSOR_UP = "\x1b[A"
KEPT_ERRORS = ("ignore", "replace", "backslashreplace", "xmlcharrefreplace", "namereplace")  # chosen by the user


class _Stream:
    """A text stream that is written through `write` and `flush`; the rest is that of the stream itself."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def isatty(self) -> bool:
        """Return whether the stream is a terminal; a closed one is none."""
        return not self._stream.closed and self._stream.isatty()

    def _discard(self) -> None:
        """Send what the buffer still holds to the null device: Python would fail at its end when it writes that."""
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)

    def finish(self) -> None:
        """Write what the buffer holds; what cannot be written is dropped."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._discard()


class _Output(_Stream):
    r"""Standard output: text with control characters escaped, and as `\uXXXX` what the encoding lacks.

    Args:
        stream: the stream itself.
        raw: keep control characters, unless the stream is a terminal.

    Attributes:
        lacking: whether the encoding lacked a character.
    """

    def __init__(self, stream: TextIO, raw: bool) -> None:
        super().__init__(stream)
        self.lacking = False
        self._raw = raw and not self.isatty()
        self._return = ""  # a carriage return at the end of a text, until it is known whether a line feed follows

    def write(self, text: str) -> int:
        """Write a text.

        Raises:
            OutputError: the stream is closed or full.
            SystemExit: its reader has closed the pipe, as with `| head`.
        """
        n = len(text)
        if not self._raw:
            text, self._return = self._return + text, ""
            if text.endswith("\r"):
                text, self._return = text[:-1], "\r"
            text = "\r\n".join(map(printable, text.split("\r\n")))
        self.write_styled(text)
        return n

    def write_styled(self, text: str) -> None:
        """Write a text with the command's own escape sequences; see `write`."""
        try:
            self._stream.write(self._encodable(text))
        except (OSError, ValueError) as error:
            self._fail(error)

    def write_bytes(self, data: bytes) -> None:
        """Write bytes as they are; see `write`."""
        try:
            self._stream.buffer.write(data)
            self._stream.buffer.flush()
        except (OSError, ValueError) as error:
            self._fail(error)

    def flush(self) -> None:
        """Write what the buffer holds; see `write`."""
        if self._stream.closed:
            return
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._fail(error)

    def finish(self) -> None:
        """Write a carriage return that was held back, and what the buffer holds."""
        if self._return and not self.closed:
            with suppress(OSError, ValueError):
                self._stream.write(escaped(self._return))
        super().finish()

    def _encodable(self, text: str) -> str:
        encoding = self._stream.encoding
        if encoding is None or self._stream.errors in KEPT_ERRORS:
            return text
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            self.lacking = True
            return text.encode(encoding, ESCAPE).decode(encoding)
        return text

    def _fail(self, error: Exception) -> NoReturn:
        if self._stream.closed:
            raise OutputError("standard output is closed; redirect it to a file, or to /dev/null") from None
        self._discard()
        if not isinstance(error, OSError):
            raise error
        if error.errno == errno.EPIPE:
            raise SystemExit(141) from None  # 128 + SIGPIPE
        raise OutputError(f"standard output: cannot be written: {error.strerror}") from None


class _Log(_Stream):
    """Standard error: what cannot be written is lost, and the command goes on."""

    def write(self, text: str) -> int:
        """Write a text, with control characters escaped: of carriage returns, all but one at its beginning."""
        start = text[: text.startswith("\r")]
        is_bar_move = not text.replace(CURSOR_UP, "")  # by tqdm, back from a bar below another one
        with suppress(OSError, ValueError):
            self._stream.write(text if is_bar_move else start + printable(text[len(start) :]))
        return len(text)

    def flush(self) -> None:
        """Write what the buffer holds."""
        with suppress(OSError, ValueError):
            self._stream.flush()


def _escape(error: UnicodeError) -> tuple[str, int]:
    """Replace what an encoding lacks; see `codecs.register_error`."""
    assert isinstance(error, UnicodeEncodeError)
    return "".join(map(escaped, error.object[error.start : error.end])), error.end


codecs.register_error(ESCAPE, _escape)


def _report_unless_reported(failed: threading.ExceptHookArgs) -> None:
    """Leave out the traceback of an OSError: the thread of a logger hands it to the main thread, which reports it."""
    if not issubclass(failed.exc_type, OSError):
        threading.__excepthook__(failed)


@contextmanager
def standard_streams(raw: bool) -> Iterator[None]:
    """Replace the standard streams for a command by those of this module.

    Args:
        raw: see `_Output`.
    """
    before = sys.stdin, sys.stdout, sys.stderr
    _open_closed_descriptors()
    # A closed stream is None. Reading from a file that is open for writing fails as reading a closed descriptor does.
    stdin = before[0] or open(os.open(os.devnull, os.O_WRONLY))
    stdout = before[1] or open(os.devnull, "w")
    if before[1] is None:
        stdout.close()
    stderr = before[2] or open(os.devnull, "w")
    output, log = _Output(stdout, raw), _Log(stderr)
    sys.stdin, sys.stdout, sys.stderr = stdin, cast(TextIO, output), cast(TextIO, log)
    report, threading.excepthook = threading.excepthook, _report_unless_reported
    try:
        yield
    finally:
        threading.excepthook = report
        output.finish()
        if output.lacking:
            say(f"standard output is {stdout.encoding}, which lacks characters: they are written as \\uXXXX; "
                "PYTHONIOENCODING=utf-8 writes them as they are")  # fmt: skip
        log.finish()
        sys.stdin, sys.stdout, sys.stderr = before
        for own, replaced in zip((stdin, stderr), (before[0], before[2]), strict=True):
            if replaced is None:
                own.close()


def _open_closed_descriptors() -> None:
    """Open the null device for each closed one of the descriptors 0, 1, 2.

    Otherwise the next file would get its number, and receive what a library prints there.
    """
    with suppress(OSError):
        while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(number, True)
        os.close(number)
