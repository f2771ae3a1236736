"""ByteStream: files and byte strings as one stream of bytes that can be read repeatedly."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from charlm.errors import DataError, InputNotFoundError

BLOCK_BYTES = 1 << 20  # a block fits into the processor's cache
MAX_PIPE_BYTES = 1 << 27  # maximum size of a pipe, which is read into memory


class ByteStream:
    """Files and byte strings, joined by line breaks, read in blocks.

    Only one block of a file is in memory. `fingerprint` detects a file that changes between or during iterations.

    Args:
        parts: paths of regular files, or byte strings.
        block_bytes: maximum size of a block.
    """

    def __init__(self, parts: Sequence[Path | bytes], block_bytes: int = BLOCK_BYTES) -> None:
        self.parts, self.block_bytes = list(parts), block_bytes

    def __iter__(self) -> Iterator[bytes]:
        """Yield the blocks from the beginning, and an empty block before each part but the first.

        Raises:
            InputNotFoundError: a file cannot be read.
        """
        for i, part in enumerate(self.parts):
            if i > 0:
                yield from (b"\n", b"")
            if isinstance(part, bytes):
                yield from (part[at : at + self.block_bytes] for at in range(0, len(part), self.block_bytes))
                continue
            try:
                with part.open("rb", buffering=0) as file:
                    while block := file.read(self.block_bytes):
                        yield block
            except OSError as error:
                raise _unreadable(part, error) from None

    def locate(self, offset: int) -> tuple[Path | bytes, int]:
        """Return the part that contains the byte at an offset of the stream, and the byte's offset in that part.

        Raises:
            InputNotFoundError: a file no longer exists.
        """
        for part in self.parts:
            n_bytes = ByteStream([part]).n_bytes
            if offset <= n_bytes or part is self.parts[-1]:
                break
            offset -= n_bytes + 1
        return part, offset

    @property
    def n_bytes(self) -> int:
        """Length of the stream in bytes.

        Raises:
            InputNotFoundError: a file no longer exists.
        """
        sizes = [len(part) if isinstance(part, bytes) else _stat(part).st_size for part in self.parts]
        return sum(sizes) + max(0, len(sizes) - 1)

    @property
    def fingerprint(self) -> list[Any]:
        """A value that changes whenever the bytes do: path, inode, size and times of a file, SHA-256 of a byte string.

        Raises:
            InputNotFoundError: a file no longer exists.
        """
        fingerprints: list[Any] = []
        for part in self.parts:
            if isinstance(part, bytes):
                fingerprints.append(hashlib.sha256(part).hexdigest())
            else:
                s = _stat(part)  # st_ctime_ns, which cannot be set, reveals a change whose st_mtime_ns was set back
                fingerprints.append([str(part.resolve()), s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns])
        return fingerprints


def _unreadable(path: Path, error: OSError) -> InputNotFoundError:
    return InputNotFoundError(f"{path}: cannot be read: {error.strerror}")


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise _unreadable(path, error) from None


def read_pipe(file: BinaryIO, name: str) -> bytes:
    """Read a source that can be read only once, such as a pipe, to its end.

    Raises:
        DataError: it is longer than `MAX_PIPE_BYTES`, possibly endless.
        InputNotFoundError: it cannot be read.
    """
    data = bytearray()
    try:
        while block := file.read(BLOCK_BYTES):
            data += block
            if len(data) > MAX_PIPE_BYTES:
                raise DataError(
                    f"{name}: cannot be read twice and is longer than {MAX_PIPE_BYTES >> 20} MB; "
                    "save its text to a file and name that file"
                )
    except OSError as error:
        raise _unreadable(Path(name), error) from None
    return bytes(data)
