"""The library: the named corpora, and where the bytes of a text come from.

A named text is looked for in `corpora/`, in the folders of CHARLM_CORPORA, in the user's cache, and then downloaded;
two come without any file: one is spelled out by our own code, one ships with Python.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from charlm.data.byte_stream import ByteStream, read_pipe
from charlm.errors import DataError, InputNotFoundError, OutputError, did_you_mean
from charlm.files import atomic_write

TIMEOUT_SECONDS = 20
N_PIECE = 1 << 16  # bytes read at a time


@dataclass(frozen=True)
class NamedText:
    """A named corpus.

    Attributes:
        about: what it is, in a line.
        source: where it comes from.
        licence: under which it may be used.
        file: its file name; None for a text made by code.
        n_bytes: its size, and the most that is downloaded; None where it varies.
        sha256: of the file; None where it varies.
        make: returns the text; the argument is what follows a colon in the name, if anything does.
    """

    about: str
    source: str
    licence: str
    file: str | None = None
    n_bytes: int | None = None
    sha256: str | None = None
    make: Callable[[str], str] | None = None


def _below_thousand(n: int) -> str:
    ones = (
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen"
    ).split()
    tens = "twenty thirty forty fifty sixty seventy eighty ninety".split()
    words = [ones[n // 100], "hundred"] if n >= 100 else []
    rest = n % 100
    if rest >= 20:
        words.append(tens[rest // 10 - 2] + ("-" + ones[rest % 10] if rest % 10 else ""))
    elif rest or not words:
        words.append(ones[rest])
    return " ".join(words)


def spell(n: int) -> str:
    """Spell a number below 10^15 in English: 1042 is "one thousand forty-two"."""
    words, rest = [], n
    for scale, name in ((10**12, "trillion"), (10**9, "billion"), (10**6, "million"), (1000, "thousand")):
        if rest >= scale:
            words += [_below_thousand(rest // scale), name]
            rest %= scale
    if rest or not words:
        words.append(_below_thousand(rest))
    return " ".join(words)


def human_numbers(length: str = "") -> str:
    """Return the numbers from one to `length` (default 9999), spelled out, one a line.

    Raises:
        DataError: `length` is no number from 1 to 10^7.
    """
    if length and not (length.isdecimal() and 1 <= int(length) <= 10**7):
        raise DataError(f"human-numbers:{length}: give a number from 1 to 10000000 after the colon")
    return "".join(spell(n) + "\n" for n in range(1, int(length or 9999) + 1))


def python_docs(argument: str = "") -> str:
    """Return the English prose that Python's own `help()` shows, as this Python ships it.

    Raises:
        DataError: an argument; it takes none.
    """
    if argument:
        raise DataError(f"python-docs:{argument}: this text takes nothing after a colon")
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name].strip() for name in sorted(topics)) + "\n"


TEXTS: dict[str, NamedText] = {
    "nietzsche": NamedText(
        about="Friedrich Nietzsche in English: two books, the text of the Keras examples",
        source="https://s3.amazonaws.com/text-datasets/nietzsche.txt",
        licence="public domain (translations by Helen Zimmern and Alexander Harvey)",
        file="nietzsche.txt",
        n_bytes=600_901,
        sha256="23cf69874ab69d3d256099ab530ea4be24d47d9675b673bcc67cbcd6298ec647",
    ),
    "human-numbers": NamedText(
        about="one, two, three, ... spelled out; human-numbers:500 stops at five hundred",
        source="made by charlm",
        licence="CC0",
        n_bytes=345_500,
        sha256="7688a366e818b7cdf2edef795ac05490b2bf637d74d90880f46dae70f33ea117",
        make=human_numbers,
    ),
    "python-docs": NamedText(
        about="the reference prose of Python's help(); differs from one Python to the next",
        source="pydoc_data.topics of the running Python",
        licence="PSF licence",
        make=python_docs,
    ),
}
DEFAULT, FALLBACK = "nietzsche", "python-docs"


def cache_folder() -> Path:
    """Return the user's cache folder for texts."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "charlm"


def search_path() -> list[Path]:
    """Return the folders in which a named text is looked for, in order."""
    extra = [Path(folder) for folder in os.environ.get("CHARLM_CORPORA", "").split(os.pathsep) if folder]
    return [Path("corpora"), *extra, cache_folder()]


def open_texts(sources: Sequence[str]) -> ByteStream:
    """Return the bytes of some sources, joined by line breaks; files are read only when the pieces are.

    Args:
        sources: names of the library, files, folders (their .txt files in the order of their names), or "-".

    Raises:
        InputNotFoundError: one is not there or cannot be read; the message says what was tried.
        DataError: a folder without texts, a file of the library that is not what it should be, or a pipe without end.
    """
    return ByteStream([part for source in sources for part in _parts(source)])


def read(source: str) -> bytes:
    """Return the bytes of one source; see `open_texts`."""
    return b"".join(open_texts([source]))


def _parts(source: str) -> Sequence[Path | bytes]:
    name, _, argument = source.partition(":")
    if source == "-":
        return [read_pipe(sys.stdin.buffer, "-")]
    if not source:
        raise InputNotFoundError("a text needs a name; this one is empty")
    if name in TEXTS and not _exists(Path(source)):
        return [_read_named(name, argument)]
    path = Path(source)
    if not _exists(path):
        hint = did_you_mean(source, TEXTS)
        raise InputNotFoundError(f"{source}: no such file or folder, and no text of `charlm corpora`{hint}")
    if path.is_dir():
        files = sorted(file for file in path.rglob("*.txt") if file.is_file())
        if not files:
            raise DataError(f"{source}: this folder has no .txt files")
        return files
    if path.is_file() and path.stat().st_size > 0:  # files of /proc say 0
        return [path]
    try:
        with path.open("rb", buffering=0) as file:
            return [read_pipe(file, source)]
    except OSError as error:
        raise InputNotFoundError(f"{source}: cannot be read: {error.strerror}") from None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long, for instance
        return False


def _read_named(name: str, argument: str) -> bytes:
    text = TEXTS[name]
    if text.make is not None:
        return text.make(argument).encode("utf-8")
    assert text.file is not None
    if argument:
        raise DataError(f"{name}:{argument}: this text takes nothing after a colon")
    for folder in search_path():
        if (folder / text.file).is_file():
            return _checked((folder / text.file).read_bytes(), text, str(folder / text.file))
    try:
        return download(text, cache_folder())
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error) or type(error).__name__
        tried = ", ".join(str(folder) for folder in search_path())
        raise InputNotFoundError(
            f"{name}: {text.file} is not in {tried}, and {text.source} cannot be fetched ({reason}); "
            "put the file into corpora/ or name another --corpus"
        ) from None


def _checked(data: bytes, text: NamedText, where: str) -> bytes:
    found = hashlib.sha256(data).hexdigest()
    if found != text.sha256:
        raise DataError(
            f"{where}: is not the text that it is named for (SHA-256 {found[:12]}..., not {str(text.sha256)[:12]}...)"
        )
    return data


def download(text: NamedText, folder: Path) -> bytes:
    """Fetch a text over https and keep it in a folder; it gets its name there only when its SHA-256 fits.

    Raises:
        OSError, ValueError, HTTPException: it cannot be fetched.
        DataError: what came is too large or has another SHA-256.
    """
    assert text.file is not None and text.n_bytes is not None
    with urllib.request.urlopen(text.source, timeout=TIMEOUT_SECONDS) as response:
        if not response.url.startswith("https://"):
            raise ValueError(f"it leads to {response.url}, which is not https")
        data = bytearray()
        with tqdm(total=text.n_bytes, unit="B", unit_scale=True, desc=text.file, disable=None) as bar:
            while piece := response.read(N_PIECE):
                data += piece
                bar.update(len(piece))
                if len(data) > text.n_bytes:
                    raise DataError(f"{text.source}: is longer than the {text.n_bytes} bytes it should have")
    checked = _checked(bytes(data), text, text.source)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(folder / text.file, checked)
    except (OSError, OutputError) as error:  # the text is here all the same
        print(f"charlm: {text.file} is not kept for the next time: {error}", file=sys.stderr)
    return checked
