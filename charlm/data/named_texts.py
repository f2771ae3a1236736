"""Sources of text: named texts, files, folders, standard input.

A named text is searched in `corpora/`, in the folders of CHARLM_CORPORA, in the user's cache folder and among the texts
that the user has added, then downloaded. Others need no file: they are generated, or ship with Python or Debian.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from charlm.data import debian_texts
from charlm.data.byte_stream import ByteStream, read_pipe
from charlm.data.download import FAILURES, download, reason
from charlm.data.text_table import TEXTS, NamedText
from charlm.data.user_texts import all_texts, user_folder
from charlm.errors import DataError, InputNotFoundError, OutputError, did_you_mean, shown
from charlm.files import atomic_write
from charlm.messages import say
from charlm.options.splits import STANDARD

__all__ = [
    "TEXTS",
    "NamedText",
    "all_texts",
    "cache_folder",
    "default_split",
    "joined_names",
    "open_texts",
    "search_path",
    "text_files",
]

MAX_NAME = 255  # characters; file systems allow no longer names
MAX_JOINED = 10  # names in that of a text; a checkpoint limits its length
DEFAULT_TEXT, FALLBACK_TEXT = "nietzsche", "python-docs"


def cache_folder() -> Path:
    """Return the user's cache folder for texts."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "charlm"


def search_path() -> list[Path]:
    """Return the folders that are searched for a named text, in order."""
    extra = [Path(folder) for folder in os.environ.get("CHARLM_CORPORA", "").split(os.pathsep) if folder]
    return [Path("corpora"), *extra, cache_folder(), user_folder()]


def describe(text: NamedText) -> dict[str, Any]:
    """Return the facts of a named text for `charlm corpora`, with its local file or the reason why there is none."""
    found = [str(f / text.file) for f in search_path() if (f / text.file).is_file()] if text.file else []
    missing = "not on this machine; downloaded when needed"
    if text.package is not None:
        found = [f"in the package {text.package}"] if debian_texts.is_installed(text.package) else []
        missing = f"not on this machine; apt-get install {text.package}"
    elif text.make is not None:
        found = ["generated when needed"]
    elif text.sha256 is None:
        found, missing = [], "not on this machine; `charlm corpora add` pins its SHA-256"
    return {
        "about": text.description,
        "source": text.source,
        "licence": text.licence,
        "n_bytes": text.n_bytes,
        "sha256": text.sha256,
        "split": text.split,
        "found": found[0] if found else None,
        "missing": None if found else missing,
    }


def default_split(sources: Sequence[str]) -> str:
    """Return the split of a single named text, else the standard split."""
    text = all_texts().get(sources[0].partition(":")[0]) if len(sources) == 1 else None
    return STANDARD if text is None or _has_text(Path(sources[0])) else text.split


def joined_names(sources: Sequence[str]) -> str:
    """Return the name of a text of several sources, for messages and checkpoints: the first ones, and how many more."""
    more = len(sources) - MAX_JOINED
    return " + ".join([*sources[:MAX_JOINED], *([f"{more:,} more"] if more > 0 else [])])


def open_texts(sources: Sequence[str], texts: Mapping[str, NamedText] | None = None) -> ByteStream:
    """Return the bytes of several sources as one stream, joined by line breaks; files are read when it is iterated.

    Args:
        sources: named texts, files, folders (their .txt files in order of name), or "-" for standard input.
        texts: the named texts; None for all of them.

    Raises:
        InputNotFoundError: a source does not exist or cannot be read; the message lists where it was searched.
        DataError: a folder without .txt files, a named text with a wrong SHA-256, or an endless pipe.
    """
    known = all_texts() if texts is None else texts
    return ByteStream([part for source in sources for part in _parts(source, known)])


def _parts(source: str, texts: Mapping[str, NamedText]) -> Sequence[Path | bytes]:
    name, _, argument = source.partition(":")
    if source == "-":
        return [read_pipe(sys.stdin.buffer, "-")]
    if not source:
        raise InputNotFoundError("the name of the text is empty; give a name of `charlm corpora`, a file or a folder")
    if name in texts and not _has_text(Path(source)):
        return [_read_named(name, texts[name], argument)]
    path = Path(source)
    if not _exists(path):
        hint = did_you_mean(source, texts)
        if len(source) > MAX_NAME or not source.isprintable():
            source = shown(source)
            hint = "; a text itself is charlm.train(text=...) in Python, or standard input with --corpus -"
        raise InputNotFoundError(f"{source}: no such file or folder, and no text of `charlm corpora`{hint}")
    if path.is_dir():
        return text_files(path)
    if path.is_file() and path.stat().st_size > 0:  # 0 for files of /proc
        return [path]
    try:
        with path.open("rb", buffering=0) as file:
            return [read_pipe(file, source)]
    except OSError as error:
        raise InputNotFoundError(f"{source}: cannot be read: {error.strerror}") from None


def text_files(folder: Path) -> list[Path]:
    """Return the .txt files of a folder and its subfolders in order of name.

    Raises:
        DataError: there are none.
    """
    files = sorted(file for file in folder.rglob("*.txt") if file.is_file())
    if not files:
        raise DataError(f"{folder}: this folder has no .txt files")
    return files


def _has_text(path: Path) -> bool:
    """Return whether a path is a file or a folder with .txt files; other folders do not hide a named text."""
    return _exists(path) and (not path.is_dir() or any(file.is_file() for file in path.rglob("*.txt")))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # e.g. the name is too long
        return False


def _read_named(name: str, text: NamedText, argument: str) -> Path | bytes:
    """Return the file of a named text, if its SHA-256 is correct, or the bytes of the text."""
    if argument and not text.takes_argument:
        raise DataError(f"{name}:{argument}: this text takes no argument; remove the colon and what follows")
    if text.make is not None:
        return text.make(argument).encode("utf-8")
    assert text.file is not None
    if text.sha256 is None:
        sources = text.source if text.n_files == 1 else "TRAIN VALID TEST"
        raise InputNotFoundError(
            f"{name}: not on this machine, and its SHA-256 is not known; "
            f"add it, which pins the hash: charlm corpora add {name} {sources}"
        )
    for folder in search_path():
        if (path := folder / text.file).is_file():
            return _checked_file(path, text)
    tried = ", ".join(str(folder) for folder in search_path())
    if text.is_added:
        raise InputNotFoundError(f"{name}: {text.file} is not in {tried}; add it again with `charlm corpora add`")
    try:
        return _download(text, cache_folder())
    except FAILURES as error:
        raise InputNotFoundError(
            f"{name}: {text.file} is not in {tried}, and {text.source} cannot be downloaded ({reason(error)}); "
            "put the file into corpora/ or choose another --corpus"
        ) from None


def _checked_file(path: Path, text: NamedText) -> Path:
    """Return a path after a check of the file.

    Raises:
        DataError: its SHA-256 is another one.
        InputNotFoundError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            _check_sha256(hashlib.file_digest(file, "sha256").hexdigest(), text, str(path))
    except OSError as error:
        raise InputNotFoundError(f"{path}: cannot be read: {error.strerror}") from None
    return path


def _check_sha256(found: str, text: NamedText, where: str) -> None:
    if found != text.sha256:
        raise DataError(
            f"{where}: not the expected text: SHA-256 {found[:12]}... instead of {str(text.sha256)[:12]}...; "
            "replace or delete the file"
        )


def _download(text: NamedText, folder: Path) -> bytes:
    """Download a text and save it in a folder if its SHA-256 matches.

    Raises:
        OSError, ValueError, HTTPException: the download failed.
        DataError: the download is too large or its SHA-256 differs.
    """
    assert text.file is not None and text.n_bytes is not None
    data = b"".join(download(text.source, text.file, text.n_bytes))
    _check_sha256(hashlib.sha256(data).hexdigest(), text, text.source)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(folder / text.file, data)
    except (OSError, OutputError) as error:  # the text can be used without the file
        say(f"{text.file} could not be saved for the next run: {error}")
    return data
