"""Added texts: copied into the user's data folder, and pinned by SHA-256 when they are first added.

NAME.txt is the text, NAME.json its record: source, licence, split, size and SHA-256. A named text of text_table.py
without a SHA-256 is added in the same way; its description is that of the table.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from charlm.data.download import FAILURES, download, reason
from charlm.data.text_table import TEXTS, NamedText
from charlm.errors import DataError, InputNotFoundError, OutputError, UsageError, shown
from charlm.files import atomic_open, atomic_write
from charlm.options.splits import STANDARD, split_of

MAX_BYTES = 1 << 30  # of an added text
BLOCK_BYTES = 1 << 20
MAX_RECORD_BYTES = 1 << 16
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)
MARK = b"\xef\xbb\xbf"  # byte order mark
CONTINUATION = bytes(range(0x80, 0xC0))  # bytes of UTF-8 that do not begin a character
SPACED = bytes.maketrans(b"_", b" ")
UNKNOWN = "not known"


def user_folder() -> Path:
    """Return the folder of added texts."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "charlm" / "texts"


def user_texts(folder: Path) -> dict[str, NamedText]:
    """Return the added texts by name, without those whose record is missing or invalid."""
    found = {path.stem: _read_record(path) for path in sorted(folder.glob("*.json")) if NAME.fullmatch(path.stem)}
    return {name: text for name, text in found.items() if text is not None}


def _read_record(path: Path) -> NamedText | None:
    known = TEXTS.get(path.stem)
    try:
        with path.open("rb") as file:
            record = json.loads(file.read(MAX_RECORD_BYTES))
        facts: dict[str, Any] = {key: str(record[key]) for key in ("source", "licence", "split", "sha256")}
        facts |= {"n_bytes": int(record["n_bytes"]), "file": f"{path.stem}.txt", "is_added": True}
        split_of(facts["split"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError, UsageError):
        return None
    if known is None:
        return NamedText(description=f"added by `charlm corpora add {path.stem}`", **facts)
    return None if known.is_pinned else replace(known, **facts)


def all_texts() -> dict[str, NamedText]:
    """Return the named texts, those of the package first."""
    return TEXTS | user_texts(user_folder())


def add_text(
    name: str,
    sources: Sequence[str],
    folder: Path,
    source: str | None = None,
    licence: str | None = None,
    split: str | None = None,
    texts: Mapping[str, NamedText] = TEXTS,
    max_bytes: int = MAX_BYTES,
) -> NamedText:
    """Copy a text into the user's folder, and pin its SHA-256.

    Args:
        name: of the text: lower-case letters, digits, `.`, `_` and `-`.
        sources: one https URL or file, or three for training, validation and test part; a gzip file or a zip archive
            of one file is unpacked.
        folder: of the added texts.
        source: origin of the text; None for the URL or file.
        licence: of the text; None if not known.
        split: default split; None for that of the table, of the three files, or else the standard one.
        texts: the named texts of the package.
        max_bytes: limit of the size.

    Raises:
        UsageError: an invalid name, split or number of sources.
        InputNotFoundError: a source does not exist or cannot be downloaded.
        DataError: the text is empty or too long, or its SHA-256 is not the pinned one.
        OutputError: the folder cannot be written.
    """
    known = texts.get(name)
    _check(name, known, sources, split)
    pinned = known.sha256 if known else None
    before = user_texts(folder).get(name)
    pinned = pinned or (before.sha256 if before else None)
    path, record = folder / f"{name}.txt", folder / f"{name}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be created: {error.strerror}") from None
    sha256, n_bytes = hashlib.sha256(), 0
    n_chars: list[int] = []
    with atomic_open(path) as write:
        for one in sources:
            n_chars.append(0)
            for block in _blocks(one, name, folder, max_bytes - n_bytes, spaced=known is not None and known.spaced):
                sha256.update(block)
                write(block)
                n_bytes += len(block)
                n_chars[-1] += len(block.translate(None, delete=CONTINUATION))
            if n_chars[-1] == 0:
                raise DataError(f"{one}: is empty; give a file with text")
        if pinned not in (None, sha256.hexdigest()):
            raise DataError(
                f"{' '.join(sources)}: SHA-256 {sha256.hexdigest()[:12]}... is not that of {name}, "
                f"{str(pinned)[:12]}...; take another name" + (f", or delete {record}" if before else "")
            )
    if split is None:
        split = "/".join(map(str, n_chars)) if len(sources) == 3 else known.split if known else None
    facts = {
        "source": source or (known.source if known else " ".join(sources)),
        "licence": licence or (known.licence if known else UNKNOWN),
        "split": split or STANDARD,
        "n_bytes": n_bytes,
        "sha256": sha256.hexdigest(),
    }
    atomic_write(record, json.dumps(facts, indent=1, ensure_ascii=False).encode(errors="replace"))
    found = user_texts(folder).get(name) or known
    assert found is not None
    return found


def _check(name: str, known: NamedText | None, sources: Sequence[str], split: str | None) -> None:
    """Check the arguments of `add_text`; whether the sources exist is checked later.

    Raises:
        UsageError: one of them is invalid.
    """
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{shown(name)}: the name of a text has at most 64 lower-case letters, digits, '.', '_' and '-', "
            "and begins with a letter or digit"
        )
    if known is not None and known.make is not None:
        raise UsageError(f"{name} is a text without a file ({known.source}); take another name")
    n_files = (known.n_files,) if known is not None else (1, 3)
    if len(sources) not in n_files:
        parts = "three files: training, validation and test part" if 3 in n_files else "one file"
        raise UsageError(
            f"{name}: {len(sources)} given, but a text is {'one file, or ' * (1 in n_files and 3 in n_files)}{parts}"
        )
    if split is not None:
        split_of(split)
    for one in sources:
        if "://" in one and not one.startswith("https://"):
            raise UsageError(f"{shown(one)}: only https URLs are downloaded; give one, or a file")


def _blocks(source: str, name: str, folder: Path, max_bytes: int, spaced: bool) -> Iterator[bytes]:
    """Yield the blocks of a URL or file, unpacked, without byte order mark.

    Args:
        source: URL or file.
        name: of the text, for the progress bar.
        folder: for the temporary file of a download.
        max_bytes: limit of the size.
        spaced: remove spaces, then replace `_` by spaces.

    Raises:
        InputNotFoundError: the source does not exist or cannot be downloaded.
        DataError: it is too long, a damaged archive, or an archive of several files.
    """
    n_bytes = 0
    with _opened(source, name, folder, max_bytes) as packed:
        try:
            with _unpacked(packed, source) as file:
                while block := file.read(BLOCK_BYTES):
                    n_bytes += len(block)
                    if n_bytes > max_bytes:
                        raise DataError(f"{source}: longer than the limit of {MAX_BYTES:,} bytes")
                    if n_bytes == len(block):
                        block = block.removeprefix(MARK)
                    yield block.translate(SPACED, delete=b" ") if spaced else block
        except (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise DataError(f"{source}: cannot be unpacked: {error}") from None


@contextmanager
def _opened(source: str, name: str, folder: Path, max_bytes: int) -> Iterator[IO[bytes]]:
    """Open a URL or file; a download is stored in an unnamed temporary file.

    Raises:
        InputNotFoundError: the source does not exist or cannot be downloaded.
        DataError: it is longer than `max_bytes`.
    """
    if "://" not in source:
        try:
            with Path(source).open("rb") as file:
                yield file
        except OSError as error:
            raise InputNotFoundError(f"{source}: cannot be read: {error.strerror}") from None
        return
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            for block in download(source, name, max_bytes):
                file.write(block)
        except FAILURES as error:
            raise InputNotFoundError(f"{source} cannot be downloaded ({reason(error)}); give a file") from None
        file.seek(0)
        yield file


@contextmanager
def _unpacked(file: IO[bytes], source: str) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """Open the only member of a zip archive, the contents of a gzip file, or any other file unchanged.

    Raises:
        DataError: the archive has no file or several.
    """
    magic = file.read(4)
    file.seek(0)
    if magic == b"PK\x03\x04":
        with zipfile.ZipFile(file) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            if len(members) != 1:
                raise DataError(f"{source}: has {len(members)} files; unpack it, and add one of them")
            with archive.open(members[0]) as member:
                yield member
    elif magic[:2] == b"\x1f\x8b":
        with gzip.open(file) as unpacked:
            yield unpacked
    else:
        yield file
