"""Encoding: a stream of bytes to indices, in memory that does not grow with the text.

A vocabulary comes from the training part, and how long that is, is known at the text's end. So a text whose
vocabulary is to be found is read twice: once to find it, once to encode. Shapes: N characters of text.
"""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Iterable, Iterator
from typing import Self

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from charlm.data.byte_stream import ByteStream
from charlm.data.vocab import N_CODE_POINTS, Codepoints, code_points
from charlm.errors import DataError

NEVER = np.iinfo(np.int64).max
SIGMA = "\u03a3"  # the one capital whose lower case depends on what stands around it


class NotUTF8Error(DataError):
    """Bytes that are no text.

    Attributes:
        byte: the first that is wrong.
        offset: where it is.
    """

    byte: int
    offset: int

    @classmethod
    def at(cls, name: str, byte: int, offset: int) -> Self:
        """Return the error for bytes that came from `name`."""
        what = f"{name}: not UTF-8: byte 0x{byte:02x} at offset {offset}"
        error = cls(f"{what}; convert the file, or train on its bytes with --bytes")
        error.byte, error.offset = byte, offset
        return error


def decode(pieces: Iterable[bytes], name: str) -> Iterator[str]:
    """Decode UTF-8, keeping byte order mark and line ends as they are.

    Raises:
        NotUTF8Error: the bytes are not UTF-8.
    """
    utf8 = codecs.getincrementaldecoder("utf-8")()
    offset = 0  # of the first byte that is not decoded yet
    try:
        for piece in pieces:
            held_back = len(utf8.getstate()[0])
            text = utf8.decode(piece)
            offset += held_back + len(piece) - len(utf8.getstate()[0])
            yield text
        yield utf8.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise NotUTF8Error.at(name, error.object[error.start], offset + error.start) from None


def lower(texts: Iterable[str]) -> Iterator[str]:
    """Turn a text that comes in pieces into lower case, as if it came in one.

    A capital sigma becomes the letter's form for the end of a word where a letter stands before it and none after;
    apostrophes, full stops and accents do not count. So a piece must know whether a letter stands before it, and a
    sigma waits until it is known what comes after.
    """
    before, held_back = "", ""
    for text in texts:
        text = held_back + text
        cut = text.rfind(SIGMA)
        if cut < 0 or f"a{text[cut:]}".lower()[1] == f"a{text[cut:]}a".lower()[1]:
            cut = len(text)
        done, held_back = text[:cut], text[cut:]
        lowered = (before + done + SIGMA).lower()  # the last one tells whether a letter stands before it
        yield lowered[len(before) : -1]
        before = "" if lowered[-1] == "\u03c3" else "a"
    yield (before + held_back).lower()[len(before) :]


def decode_stream(pieces: Iterable[bytes], name: str, as_bytes: bool, lower_case: bool) -> Iterator[Codepoints]:
    """Turn a stream of bytes into its symbols.

    Args:
        pieces: of the text.
        name: where it came from, for messages.
        as_bytes: the symbols are bytes instead of characters.
        lower_case: turn characters into lower case.

    Yields:
        code points, or bytes, (characters of the piece,).

    Raises:
        DataError: the text is not UTF-8.
    """
    if as_bytes:
        yield from (np.frombuffer(piece, dtype=np.uint8) for piece in pieces)
        return
    texts = decode(pieces, name)
    yield from (code_points(text) for text in (lower(texts) if lower_case else texts))


def first_occurrences(codepoints: Iterable[Codepoints], min_count: int = 1) -> tuple[NDArray[np.int64], int]:
    """Find where each symbol occurs for the `min_count`-th time: it is in the vocabulary of a part that goes so far.

    Args:
        codepoints: a text in pieces.
        min_count: at least 1.

    Returns:
        positions by code point, `NEVER` for a symbol that is not so frequent, int64; and N.
    """
    reached = np.full(N_CODE_POINTS, NEVER)
    missing = np.ones(N_CODE_POINTS, dtype=bool)
    counts = np.zeros(N_CODE_POINTS, dtype=np.int64)
    done, n = b"", 0  # bytes that need not be looked for any more
    for piece in codepoints:
        if piece.dtype != np.uint8 or piece.tobytes().translate(None, delete=done):
            places = np.flatnonzero(missing[piece])
            places = places[np.argsort(piece[places], kind="stable")]  # by symbol, and then by place
            symbols, firsts, n_here = np.unique(piece[places], return_index=True, return_counts=True)
            enough = counts[symbols] + n_here >= min_count
            reached[symbols[enough]] = n + places[(firsts + min_count - 1 - counts[symbols])[enough]]
            counts[symbols] += n_here
            missing[symbols[enough]] = False
            done = bytes(np.flatnonzero(~missing[:256]).tolist())
        n += len(piece)
    return reached, n


def with_progress(pieces: ByteStream, what: str) -> Iterator[bytes]:
    """Yield the pieces under a progress bar on stderr, if it is a terminal and they take more than a second."""
    with tqdm(
        total=pieces.n_bytes,
        desc=what,
        unit="B",
        unit_scale=True,
        delay=1,
        leave=False,
        disable=None,
        dynamic_ncols=True,
    ) as bar:
        for piece in pieces:
            yield piece
            bar.update(len(piece))


def hash_while_reading(pieces: Iterable[bytes], digest: hashlib._Hash) -> Iterator[bytes]:
    """Yield the pieces, and tell a digest of them."""
    for piece in pieces:
        digest.update(piece)
        yield piece
