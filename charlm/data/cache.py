"""Cache: the ids of large texts, each in a memory-mapped file of the user's cache folder.

File layout: the ids, a JSON object that describes them, the length of the JSON in 8 bytes. A file is renamed to its
final name when it is complete and flushed. If two processes need the same text, one encodes it and the other waits.
Each text has one file: another split or a changed text replaces it; a training that has mapped the old file can still
read it.
"""

from __future__ import annotations

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
from filelock import FileLock, Timeout

from charlm.data.named_texts import cache_folder
from charlm.data.vocab import Ids, Vocab
from charlm.errors import OutputError
from charlm.files import fsync_dir

FORMAT = 2
CLOCK_TICK = 0.02  # seconds; file systems resolve times to 0.01 or better
WRITEBACK_BYTES = 1 << 23  # size of the blocks that are written to the disk
MAX_JSON_BYTES = 1 << 26
Encoded = tuple[str, Vocab, Ids]  # SHA-256, vocabulary, ids
Encode = Callable[[Callable[[Ids], object]], tuple[str, Vocab]]


def load_or_encode(source: dict[str, Any], vocab_from: dict[str, Any], vocab: Vocab | None, encode: Encode) -> Encoded:
    """Return the ids of a text from the cache; encode it first if it is missing or has changed.

    Args:
        source: `fingerprint` of the text's `ByteStream`, and the flags `lower` and `as_bytes`.
        vocab_from: options that determine the vocabulary; ignored if `vocab` is given.
        vocab: vocabulary; None to build it from the text.
        encode: passes the ids, block by block, to its argument; returns the text's SHA-256 and the vocabulary.

    Returns:
        SHA-256, vocabulary, and read-only, memory-mapped ids, (N,).

    Raises:
        OutputError: the file cannot be written.
    """
    names = [part[0] if isinstance(part, list) else part for part in source["fingerprint"]]
    key = hashlib.sha256(json.dumps([names, source["lower"], source["as_bytes"]]).encode()).hexdigest()[:24]
    path = cache_folder() / f"{key}.ids"
    expected = {"format": FORMAT, **source, "vocab_from": None if vocab else vocab_from}
    found = _open(path, expected, vocab)
    if found is not None:
        return found
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _exclusive_lock(path.with_suffix(".lock")):
            return _open(path, expected, vocab) or _write(path, expected, vocab, encode)
    except OSError as error:
        raise OutputError(
            f"{path.parent}: the encoded text cannot be written: {error.strerror}; "
            "choose another folder with XDG_CACHE_HOME"
        ) from None


def _write(path: Path, expected: dict[str, Any], vocab: Vocab | None, encode: Encode) -> Encoded:
    """Encode a text into its file."""
    part = path.with_suffix(".part")
    try:
        time.sleep(CLOCK_TICK)  # any later change of the text now changes its fingerprint
        with part.open("wb") as file:
            sha256, found = encode(partial(_append, file))
            described = {"n_bytes": file.tell(), "sha256": sha256, "codepoints": found.codepoints.tolist()}
            data = json.dumps(expected | described | {"is_bytes": found.is_bytes}).encode()
            file.write(data + len(data).to_bytes(8, "little"))
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    fsync_dir(path.parent)
    written = _open(path, expected, vocab or found)
    assert written is not None
    return written


def _append(file: BinaryIO, ids: Ids) -> None:
    """Write ids; start writing full blocks to the disk while the next ids are computed."""
    begin = file.tell()
    file.write(ids.data)
    first, stop = (at // WRITEBACK_BYTES * WRITEBACK_BYTES for at in (begin, file.tell()))
    if first < stop and hasattr(os, "posix_fadvise"):
        file.flush()
        os.posix_fadvise(file.fileno(), first, stop - first, os.POSIX_FADV_DONTNEED)


def _open(path: Path, expected: dict[str, Any], vocab: Vocab | None) -> Encoded | None:
    """Return the content of a file; None if it is missing, damaged, or differs from what is expected."""
    try:
        with path.open("rb") as file:
            stop = file.seek(-8, os.SEEK_END)
            n_json = int.from_bytes(file.read(8), "little")
            stop = file.seek(stop - min(n_json, MAX_JSON_BYTES))
            stored = json.loads(file.read(n_json))
            if any(stored[key] != value for key, value in expected.items() if key != "vocab_from" or vocab is None):
                return None
            found = Vocab(stored["codepoints"], stored["is_bytes"])
            if stored["n_bytes"] != stop or vocab not in (None, found):
                return None
            ids = np.memmap(file, found.dtype, "r", 0, (stop // np.dtype(found.dtype).itemsize,))
            return stored["sha256"], found, ids
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def _exclusive_lock(path: Path) -> Iterator[None]:
    """Hold a lock file, after waiting for the process that holds it; the OS releases it when a process dies."""
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        print("charlm: another process is encoding this text; waiting for it", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
