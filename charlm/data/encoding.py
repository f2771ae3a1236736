"""Encoding: a stream of bytes to code points, in constant memory.

The vocabulary comes from the training part, whose length is known only at the end of the text. If the vocabulary has to
be built, the text is therefore read twice: to find it, and to encode. Shapes: N characters of text.
"""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Iterable, Iterator
from typing import Self

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from charlm.data.vocab import N_CODE_POINTS, Codepoints, code_points
from charlm.errors import DataError
from charlm.messages import no_bars

NEVER = np.iinfo(np.int64).max
NUL_SHARE = 0.02  # of the bytes of a text in UTF-16, at least: the high bytes of its spaces and line breaks
SIGMA = "\u03a3"  # the only capital whose lower case depends on its neighbours


class NotUTF8Error(DataError):
    """Bytes that are not UTF-8.

    Attributes:
        byte: the first invalid byte.
        offset: its offset in the stream.
    """

    byte: int
    offset: int

    @classmethod
    def at(cls, name: str, byte: int, offset: int) -> Self:
        """Return the error for the source `name`."""
        what = f"{name}: not UTF-8: byte 0x{byte:02x} at offset {offset}"
        source = " from UTF-16" if offset == 0 and byte in (0xFE, 0xFF) else ""  # its byte order mark
        error = cls(f"{what}; convert the file{source}, or train on its bytes with --bytes")
        error.byte, error.offset = byte, offset
        return error


def decode(blocks: Iterable[bytes], name: str) -> Iterator[str]:
    """Decode UTF-8, without changing line ends, and without the byte order mark at the start of each file.

    Args:
        blocks: of a `ByteStream`: an empty block comes before each file but the first.
        name: source, for error messages.

    Raises:
        NotUTF8Error: the bytes are not UTF-8.
    """
    utf8 = codecs.getincrementaldecoder("utf-8-sig")()
    stop = 0  # offset behind the block
    try:
        for block in blocks:
            if not block:
                utf8.reset()
            stop += len(block)
            yield utf8.decode(block)
        yield utf8.getstate()[0].decode("utf-8")  # an incomplete character, or nothing
    except UnicodeDecodeError as error:
        offset = stop - len(error.object) + error.start
        raise NotUTF8Error.at(name, error.object[error.start], offset) from None


def utf16_or_32(head: bytes) -> str | None:
    """Return the encoding of a text that is valid UTF-8 but looks like UTF-16 or UTF-32 without byte order mark.

    In these, NUL bytes are at some offsets and hardly ever at others.

    Args:
        head: first bytes of the text.

    Returns:
        "UTF-16LE", "UTF-16BE", "UTF-32LE", "UTF-32BE", or None.
    """
    n_nul = [head[i::4].count(0) for i in range(4)]
    n_units = len(head) // 4
    if sum(n_nul) == len(head):
        return None
    if n_units and (min(n_nul[:2]) >= n_units or min(n_nul[2:]) >= n_units):
        return "UTF-32BE" if n_nul[0] >= n_units else "UTF-32LE"
    even, odd = n_nul[0] + n_nul[2], n_nul[1] + n_nul[3]
    if max(even, odd) < NUL_SHARE * len(head) or max(even, odd) < 10 * min(even, odd):
        return None
    return "UTF-16BE" if even > odd else "UTF-16LE"


def lower(texts: Iterable[str]) -> Iterator[str]:
    """Convert consecutive parts of a text to lower case; the result does not depend on where the text is cut.

    A capital sigma becomes a final sigma if a letter precedes and none follows it; apostrophes, full stops and accents
    in between do not count. Between parts, `before` records whether a letter precedes, and a sigma is `pending` until
    the symbols after it are known.
    """
    before, pending = "", ""
    for text in texts:
        text = pending + text
        cut = text.rfind(SIGMA)
        if cut < 0 or f"a{text[cut:]}".lower()[1] == f"a{text[cut:]}a".lower()[1]:
            cut = len(text)
        done, pending = text[:cut], text[cut:]
        lowered = (before + done + SIGMA).lower()  # the appended sigma shows whether a letter precedes it
        yield lowered[len(before) : -1]
        before = "" if lowered[-1] == "\u03c3" else "a"
    yield (before + pending).lower()[len(before) :]


def decode_stream(blocks: Iterable[bytes], name: str, as_bytes: bool, lower_case: bool) -> Iterator[Codepoints]:
    """Convert a stream of bytes to code points, or to byte values.

    Args:
        blocks: bytes of the text.
        name: source, for error messages.
        as_bytes: yield byte values instead of code points.
        lower_case: convert the text to lower case; ignored for bytes.

    Yields:
        code points or byte values, uint8 or uint32, (symbols of the block,).

    Raises:
        NotUTF8Error: the bytes are not UTF-8.
    """
    if as_bytes:
        yield from (np.frombuffer(block, dtype=np.uint8) for block in blocks)
        return
    texts = decode(blocks, name)
    yield from (code_points(text) for text in (lower(texts) if lower_case else texts))


def first_occurrences(codepoints: Iterable[Codepoints], min_count: int = 1) -> tuple[NDArray[np.int64], int]:
    """Return the position of each symbol's `min_count`-th occurrence, and the text's length.

    The vocabulary of the first n characters consists of the symbols whose position is below n.

    Args:
        codepoints: consecutive blocks of a text.
        min_count: at least 1.

    Returns:
        positions by code point, `NEVER` for less frequent symbols, int64, (N_CODE_POINTS,); and N.
    """
    found = np.full(N_CODE_POINTS, NEVER)
    missing = np.ones(N_CODE_POINTS, dtype=bool)
    counts = np.zeros(N_CODE_POINTS, dtype=np.int64)
    done, n = b"", 0  # byte values that were found; characters so far
    for block in codepoints:
        if block.dtype != np.uint8 or block.tobytes().translate(None, delete=done):
            positions = np.flatnonzero(missing[block])
            positions = positions[np.argsort(block[positions], kind="stable")]  # by symbol, then by position
            symbols, firsts, n_here = np.unique(block[positions], return_index=True, return_counts=True)
            enough = counts[symbols] + n_here >= min_count
            found[symbols[enough]] = n + positions[(firsts + min_count - 1 - counts[symbols])[enough]]
            counts[symbols] += n_here
            missing[symbols[enough]] = False
            done = bytes(np.flatnonzero(~missing[:256]).tolist())
        n += len(block)
    return found, n


def with_progress(blocks: Iterable[bytes], n_bytes: int, description: str) -> Iterator[bytes]:
    """Yield the blocks; show a progress bar on stderr if it is a terminal and reading takes over a second."""
    with tqdm(
        total=n_bytes,
        desc=description,
        unit="B",
        unit_scale=True,
        delay=1,
        leave=False,
        disable=no_bars(),
        dynamic_ncols=True,
    ) as bar:
        for block in blocks:
            yield block
            bar.update(len(block))


def hash_while_reading(blocks: Iterable[bytes], digest: hashlib._Hash) -> Iterator[bytes]:
    """Yield the blocks and update a digest with each."""
    for block in blocks:
        digest.update(block)
        yield block
