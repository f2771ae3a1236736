"""Cache: the ids of large texts, each in a memory-mapped file of the user's cache folder.

File layout: the ids, a JSON object that describes them, the CRC-32 of the JSON in 4 bytes, its length in 8. The JSON
has the CRC-32 of the ids; both are checked whenever a file is opened. A file is renamed to its final name when it is
complete and flushed. If two processes need the same text, one encodes it and the other waits. Each text has one file:
another split or a changed text replaces it; a training that has mapped the old file can still read it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock, Timeout

from charlm.data.encoding import with_progress
from charlm.data.named_texts import cache_folder
from charlm.data.vocab import Ids, Vocab
from charlm.errors import OutputError
from charlm.files import fsync_dir
from charlm.messages import say

FORMAT = 3
CLOCK_TICK = 0.02  # seconds; file systems resolve times to 0.01 or better
WRITEBACK_BYTES = 1 << 23  # size of the blocks that are written to the disk
MAX_JSON_BYTES = 1 << 26
END = struct.Struct("<IQ")  # CRC-32 and length of the JSON
BLOCK_BYTES = 1 << 20  # read at a time
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
    try:
        if (found := _open(path, expected, vocab)) is not None:
            return found
    except OSError as error:
        say(f"{path}: {error.strerror}; encoding the text again")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _exclusive_lock(path.with_suffix(".lock")):
            with suppress(OSError):  # another process may have written it
                if (found := _open(path, expected, vocab)) is not None:
                    return found
            return _write(path, expected, vocab, encode)
    except OSError as error:
        raise OutputError(
            f"{path.parent}: the encoded text cannot be written: {error.strerror}; "
            "choose another folder with XDG_CACHE_HOME"
        ) from None


def _write(path: Path, expected: dict[str, Any], vocab: Vocab | None, encode: Encode) -> Encoded:
    """Encode a text into its file."""
    part = path.with_suffix(".part")
    crc32 = 0

    def append(ids: Ids) -> None:
        nonlocal crc32
        crc32 = zlib.crc32(ids.data, crc32)
        _append(file, ids)

    try:
        time.sleep(CLOCK_TICK)  # any later change of the text now changes its fingerprint
        with part.open("wb") as file:
            sha256, found = encode(append)
            described = {"n_bytes": file.tell(), "crc32": crc32, "sha256": sha256}
            described |= {"codepoints": found.codepoints.tolist(), "is_bytes": found.is_bytes}
            data = json.dumps(expected | described).encode()
            file.write(data + END.pack(zlib.crc32(data), len(data)))
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
    """Return the content of a file; None if it is missing, or differs from what is expected.

    Raises:
        OSError: the file is damaged or cannot be read.
    """
    try:
        with path.open("rb", buffering=0) as file:
            stored, n_bytes = _read_description(file)
            if any(stored.get(key) != value for key, value in expected.items() if key != "vocab_from" or vocab is None):
                return None
            found = Vocab(stored["codepoints"], stored["is_bytes"])
            if vocab not in (None, found):
                return None
            if stored["n_bytes"] != n_bytes or stored["crc32"] != _crc32(file, n_bytes):
                raise OSError(errno.EIO, "damaged: the CRC-32 of its ids differs")
            ids = np.memmap(file, found.dtype, "r", 0, (n_bytes // np.dtype(found.dtype).itemsize,))
            return stored["sha256"], found, ids
    except (FileNotFoundError, NotADirectoryError):
        return None


def _read_description(file: FileIO) -> tuple[dict[str, Any], int]:
    """Return the JSON object of a file, and the size of the ids before it, bytes.

    Raises:
        OSError: the object does not have its checksum.
    """
    stop = file.seek(0, os.SEEK_END) - END.size
    file.seek(max(0, stop))
    crc32, n_json = END.unpack(file.read(END.size).ljust(END.size))
    if n_json <= min(stop, MAX_JSON_BYTES):
        n_bytes = file.seek(stop - n_json)
        data = file.read(n_json)
        if zlib.crc32(data) == crc32:
            stored: dict[str, Any] = json.loads(data)
            return stored, n_bytes
    raise OSError(errno.EIO, "damaged, or of an earlier version")


def _crc32(file: FileIO, n_bytes: int) -> int:
    """Return the CRC-32 of the first bytes of a file."""
    file.seek(0)
    sizes = (min(BLOCK_BYTES, n_bytes - at) for at in range(0, n_bytes, BLOCK_BYTES))
    crc32 = 0
    for block in with_progress(map(file.read, sizes), n_bytes, "checking"):
        crc32 = zlib.crc32(block, crc32)
    return crc32


@contextmanager
def _exclusive_lock(path: Path) -> Iterator[None]:
    """Hold a lock file, after waiting for the process that holds it; the OS releases it when a process dies."""
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        say("another process is encoding this text; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
