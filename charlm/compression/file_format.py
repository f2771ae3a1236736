r"""The format of a compressed file. Integers are little-endian.

    magic      8 bytes, \x93CLM\r\n\x1a\n
    header     uint32 length, JSON (fields of `Header`), uint32 CRC-32 of all bytes before it
    blocks     uint32 number of characters, uint32 number of payload bytes, uint32 CRC-32 of all decompressed bytes
               up to the end of this block, payload, uint32 CRC-32 of the block
    end        a block of 0 characters, whose payload is the uint64 number of decompressed bytes

Nothing follows the end. Format 2 differs from 1 only in the predictions of a model with a window in several lanes
(coding.py); such files alone are written as format 2, and both are read.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any, BinaryIO, NamedTuple

from charlm.errors import DataError
from charlm.options.ranges import RANGES

MAGIC = b"\x93CLM\r\n\x1a\n"
FORMAT = 1
LANES_FORMAT = 2  # of a model with a window in several lanes
NO_MODEL = "none"
LANE_CHARS = 1 << 14  # characters of a block for each lane
MIN_BLOCK_CHARS = 1 << 17
MAX_SYMBOL_BITS = 72  # an escape and a new character (24 bits each), its code point (21 bits), rounded up
MAX_HEADER_BYTES = 1 << 14
_UINT32 = struct.Struct("<I")
_BLOCK = struct.Struct("<III")
_TOTAL = struct.Struct("<Q")


def max_block_chars(n_lanes: int) -> int:
    """Return the number of characters of each block but the last; it grows with the number of lanes."""
    return max(MIN_BLOCK_CHARS, n_lanes * LANE_CHARS)


@dataclass(frozen=True)
class Header:
    """Header of a compressed file.

    Attributes:
        model: SHA-256 of the model's file, or `NO_MODEL`.
        blocks: number of parts in lockstep.
        dynamic: characters between two updates of a model's counts; 0 for a static model.
        fingerprint: of the arithmetic, see `predictors.fingerprint`.
        versions: of charlm and its numeric libraries, for messages.
        format: version of the format.
    """

    model: str
    blocks: int
    dynamic: int
    fingerprint: str
    versions: dict[str, str]
    format: int = FORMAT

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            ValueError: an invalid value.
        """
        if not re.fullmatch(rf"[0-9a-f]{{64}}|{NO_MODEL}", self.model) or not re.fullmatch(
            "[0-9a-f]{16}", self.fingerprint
        ):
            raise ValueError("model or fingerprint is not a hash")
        if type(self.blocks) is not int or not RANGES["blocks"].contains(self.blocks):
            raise ValueError("blocks is out of range")
        if type(self.dynamic) is not int or not 0 <= self.dynamic < 1 << 32:
            raise ValueError("dynamic is out of range")
        if not all(isinstance(part, str) and part.isprintable() for pair in self.versions.items() for part in pair):
            raise ValueError("versions are not printable text")


class Block(NamedTuple):
    """A block whose own CRC-32 has been checked.

    Attributes:
        n_chars: 0 for the end.
        crc: CRC-32 of all decompressed bytes up to its end.
        payload: of the range coder; at the end, the number of decompressed bytes.
    """

    n_chars: int
    crc: int
    payload: bytes


def header_bytes(header: Header) -> bytes:
    """Return the beginning of a file."""
    text = json.dumps(asdict(header), separators=(",", ":")).encode()
    data = MAGIC + _UINT32.pack(len(text)) + text
    return data + _UINT32.pack(zlib.crc32(data))


def block_bytes(block: Block) -> bytes:
    """Return the bytes of a block."""
    data = _BLOCK.pack(block.n_chars, len(block.payload), block.crc) + block.payload
    return data + _UINT32.pack(zlib.crc32(data))


def end_bytes(n_bytes: int, crc: int) -> bytes:
    """Return the end of a file.

    Args:
        n_bytes: decompressed bytes.
        crc: CRC-32 of them.
    """
    return block_bytes(Block(0, crc, _TOTAL.pack(n_bytes)))


class Reader:
    """A compressed file, read and checked part by part.

    Args:
        file: open for reading.
        name: for messages.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.file, self.name = file, name

    def header(self) -> Header:
        """Read the header.

        Raises:
            DataError: not a file of `charlm compress`, of a newer format, damaged or truncated.
        """
        start = self.file.read(len(MAGIC))
        if start != MAGIC:
            raise DataError(f"{self.name}: is not a file of `charlm compress`")
        start += (length := self._read(_UINT32.size))
        (n_bytes,) = _UINT32.unpack(length)
        if n_bytes > MAX_HEADER_BYTES:
            raise self._damaged("its header")
        start += (text := self._read(n_bytes))
        self._check(start, "its header")
        try:
            values: dict[str, Any] = json.loads(text)
            if values["format"] not in (FORMAT, LANES_FORMAT):
                raise DataError(
                    f"{self.name}: has format {values['format']!r}; this charlm reads {FORMAT} and {LANES_FORMAT}; "
                    "upgrade charlm"
                )
            if values.keys() != {key.name for key in fields(Header)}:
                raise ValueError("fields missing or unexpected")
            return Header(**values)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise self._damaged("its header") from None

    def block(self, max_chars: int) -> Block:
        """Read the next block.

        Args:
            max_chars: limit of its characters.

        Raises:
            DataError: it is damaged or truncated.
        """
        start = self._read(_BLOCK.size)
        n_chars, n_bytes, crc = _BLOCK.unpack(start)
        max_bytes = _TOTAL.size if n_chars == 0 else n_chars * MAX_SYMBOL_BITS // 8 + 8
        if n_chars > max_chars or n_bytes > max_bytes or n_bytes % 4:
            raise self._damaged("a block")
        payload = self._read(n_bytes)
        self._check(start + payload, "a block")
        return Block(n_chars, crc, payload)

    def check_end(self, end: Block, n_bytes: int, crc: int) -> None:
        """Check the end of the file.

        Args:
            end: the last block.
            n_bytes: decompressed bytes.
            crc: CRC-32 of them.

        Raises:
            DataError: blocks are missing, or bytes follow.
        """
        if end.payload != _TOTAL.pack(n_bytes) or end.crc != crc:
            raise self._damaged("its end")
        if self.file.read(1):
            raise DataError(f"{self.name}: bytes follow its end; use another copy, or cut them off")

    def _read(self, n_bytes: int) -> bytes:
        data = self.file.read(n_bytes)
        if len(data) < n_bytes:
            raise DataError(f"{self.name}: is truncated; use another copy")
        return data

    def _check(self, data: bytes, what: str) -> None:
        if self._read(_UINT32.size) != _UINT32.pack(zlib.crc32(data)):
            raise self._damaged(what)

    def _damaged(self, what: str) -> DataError:
        return DataError(f"{self.name}: {what} is damaged; use another copy")


Write = Callable[[bytes], Any]
