"""Pieces: several files and texts as one stream of bytes that can be read again and again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from charlm.errors import DataError, InputNotFoundError

N_PIECE = 1 << 20  # bytes read at a time: they stay in the processor's cache while they are worked on
N_WHOLE = 1 << 27  # the most bytes that are kept in memory, of what cannot be read twice


class ByteStream:
    """Files and texts, joined by line breaks, in pieces of some bytes.

    Nothing but one piece of a file is in memory. A file that changes between two iterations, or during one, is
    noticed by its `fingerprint`.

    Args:
        parts: paths of regular files, or texts themselves.
        n_piece: the most bytes in a piece.
    """

    def __init__(self, parts: Sequence[Path | bytes], n_piece: int = N_PIECE) -> None:
        self.parts, self.n_piece = list(parts), n_piece

    def __iter__(self) -> Iterator[bytes]:
        """Yield the bytes from the beginning.

        Raises:
            InputNotFoundError: a file cannot be read.
        """
        for i, part in enumerate(self.parts):
            if i > 0:
                yield b"\n"
            if isinstance(part, bytes):
                yield from (part[at : at + self.n_piece] for at in range(0, len(part), self.n_piece))
                continue
            try:
                with part.open("rb", buffering=0) as file:
                    while piece := file.read(self.n_piece):
                        yield piece
            except OSError as error:
                raise _unreadable(part, error) from None

    def place(self, offset: int) -> tuple[Path | bytes, int]:
        """Return the part in which a byte lies, and its offset there.

        Raises:
            InputNotFoundError: a file is not there any more.
        """
        for part in self.parts:
            n_bytes = ByteStream([part]).n_bytes
            if offset <= n_bytes or part is self.parts[-1]:
                break
            offset -= n_bytes + 1
        return part, offset

    @property
    def n_bytes(self) -> int:
        """How many bytes there are.

        Raises:
            InputNotFoundError: a file is not there any more.
        """
        sizes = [len(part) if isinstance(part, bytes) else _stat(part).st_size for part in self.parts]
        return sum(sizes) + max(0, len(sizes) - 1)

    @property
    def fingerprint(self) -> list[Any]:
        """What changes whenever the bytes do, without reading them: of a file, its place, size and times.

        Raises:
            InputNotFoundError: a file is not there any more.
        """
        fingerprints: list[Any] = []
        for part in self.parts:
            if isinstance(part, bytes):
                fingerprints.append(hashlib.sha256(part).hexdigest())
            else:
                s = _stat(part)  # st_ctime_ns, which cannot be set, tells of a change whose st_mtime_ns was set back
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
    """Read what can be read only once, as a pipe, to its end.

    Raises:
        DataError: it is too long to be kept in memory; some never end.
        InputNotFoundError: it cannot be read.
    """
    data = bytearray()
    try:
        while piece := file.read(N_PIECE):
            data += piece
            if len(data) > N_WHOLE:
                raise DataError(
                    f"{name}: cannot be read twice and is longer than {N_WHOLE >> 20} MB; "
                    "put its text into a file, and name that"
                )
    except OSError as error:
        raise _unreadable(Path(name), error) from None
    return bytes(data)
