"""Cache: large texts as indices, each in a file of the user's cache folder, made once and memory-mapped.

A file is the indices, then what is known of them as JSON, then the length of that in 8 bytes. It gets its name when it
is whole and on the disk. Of two processes that want the same text, one encodes and the other waits. A text has one
file: another split, or a changed text, takes its place; a training that still reads the old one keeps it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from charlm.data.named_texts import cache_folder
from charlm.data.vocab import Ids, Vocab
from charlm.errors import OutputError
from charlm.files import fsync_dir

FORMAT = 1
TICK = 0.02  # seconds; clocks of file systems are no finer than 0.01
N_AHEAD = 1 << 23  # bytes that are handed to the disk at once
MAX_JSON = 1 << 26  # bytes
Found = tuple[str, Vocab, Ids]  # SHA-256, vocabulary, indices
Encode = Callable[[Callable[[Ids], object]], tuple[str, Vocab]]


def load_or_encode(text: dict[str, Any], made_for: dict[str, Any], vocab: Vocab | None, encode: Encode) -> Found:
    """Return a text as indices, from the cache if it is there as it is wanted, and as the text is now.

    Args:
        text: the `fingerprint` of its `ByteStream`, and how it is read.
        made_for: how its vocabulary is found, where none is given.
        vocab: the vocabulary; None for the one that is found.
        encode: calls its argument with the indices of one piece after another, and returns the text's SHA-256 and
            the vocabulary.

    Returns:
        SHA-256, vocabulary, and the indices, memory-mapped, (N,); writing to them is an error.

    Raises:
        OutputError: the file cannot be written.
    """
    places = [part[0] if isinstance(part, list) else part for part in text["stamp"]]
    key = hashlib.sha256(json.dumps([places, text["lower"], text["as_bytes"]]).encode()).hexdigest()[:24]
    path = cache_folder() / f"{key}.codes"
    about = {"format": FORMAT, **text, "made_for": None if vocab else made_for}
    try:
        with path.open("rb") as file:
            found = _read(file, about, vocab)
    except OSError:
        found = None
    if found is not None:
        return found
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _make(path, about, vocab, encode)
    except OSError as error:
        raise OutputError(
            f"{path.parent}: the encoded text cannot be written: {error.strerror}; XDG_CACHE_HOME names another place"
        ) from None


def _make(path: Path, about: dict[str, Any], vocab: Vocab | None, encode: Encode) -> Found:
    """Encode a text into its file, unless another process does."""
    part = path.with_suffix(".part")
    with exclusive_lock(part) as file:
        try:
            if path.exists():
                with path.open("rb") as other:
                    found = _read(other, about, vocab)
                if found is not None:  # another process has made it in the meantime
                    part.unlink()
                    return found
            time.sleep(TICK)  # whatever is written to the text from now on changes its stamp
            file.truncate()
            sha256, known = encode(partial(_put, file))
            told = {"n_bytes": file.tell(), "sha256": sha256, "points": known.codepoints.tolist()}
            data = json.dumps(about | told | {"is_bytes": known.is_bytes}).encode()
            file.write(data + len(data).to_bytes(8, "little"))
            file.flush()
            os.fsync(file.fileno())
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        fsync_dir(path.parent)
        found = _read(file, about, vocab or known)
    assert found is not None
    return found


def _put(file: BinaryIO, ids: Ids) -> None:
    """Write indices, and have the disk begin with them while the next ones are made."""
    begin = file.tell()
    file.write(ids.data)
    first, stop = (at // N_AHEAD * N_AHEAD for at in (begin, file.tell()))
    if first < stop and hasattr(os, "posix_fadvise"):
        file.flush()
        os.posix_fadvise(file.fileno(), first, stop - first, os.POSIX_FADV_DONTNEED)


def _read(file: BinaryIO, about: dict[str, Any], vocab: Vocab | None) -> Found | None:
    """Return what is in a file; None where it is not what is wanted, or damaged."""
    try:
        stop = file.seek(-8, os.SEEK_END)
        n_json = int.from_bytes(file.read(8), "little")
        stop = file.seek(stop - min(n_json, MAX_JSON))
        told = json.loads(file.read(n_json))
        if any(told[name] != value for name, value in about.items() if name != "made_for" or vocab is None):
            return None
        known = Vocab(told["points"], told["is_bytes"])
        if told["n_bytes"] != stop or vocab not in (None, known):
            return None
        return told["sha256"], known, np.memmap(file, known.dtype, "r", 0, (stop // np.dtype(known.dtype).itemsize,))
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def exclusive_lock(path: Path) -> Iterator[BinaryIO]:
    """Open a file that is open like this in no other process; wait as long as it is."""
    while True:
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print("charlm: another process is encoding this text; waiting for it", file=sys.stderr)
                fcntl.flock(file, fcntl.LOCK_EX)
            try:
                if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
                    yield file
                    return
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)  # closing is not enough: a memory map keeps the file open
