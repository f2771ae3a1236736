"""Vocab: text to indices and back.

A vocabulary is a list of symbols, either Unicode characters or bytes. Index 0 stands for padding and for any
unknown symbol. Shapes: N characters, V vocabulary size.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[Any]  # indices: uint8 for V <= 2^8, int16 for V <= 2^15, else int32
Codepoints = NDArray[Any]  # code points or byte values, uint8 or uint32
N_CODE_POINTS = 0x110000
BLOCK = 1 << 20  # characters of a text that are counted at a time
FLUSH = -1  # passed to a decoder at the end of the text
OTHER, LETTER, BLANK, BREAK = range(4)  # character classes


def code_points(text: str) -> Codepoints:
    """Return the Unicode code points of a text, uint8 if it is ASCII, else uint32, (N,)."""
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), dtype=np.uint8)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


def to_text(codepoints: Codepoints) -> str:
    """Return code points as text; byte values are decoded as Latin-1."""
    return codepoints.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")


class Vocab:
    """A vocabulary: the symbols of a model in the order of their indices.

    Args:
        codepoints: code points of the symbols, or byte values; the first gets index 1, repeated ones count once.
        is_bytes: symbols are the bytes of UTF-8 text.

    Attributes:
        dtype: of indices, the smallest of uint8, int16, int32 (PyTorch supports few operations on uint16).
    """

    def __init__(self, codepoints: Iterable[int], is_bytes: bool = False) -> None:
        self.codepoints = np.array(list(dict.fromkeys(codepoints)), dtype=np.uint32)
        self.is_bytes = is_bytes
        self.dtype: type = np.uint8 if len(self) <= 2**8 else np.int16 if len(self) <= 2**15 else np.int32
        self._index_of: Ids = np.zeros(N_CODE_POINTS, dtype=self.dtype)
        self._index_of[self.codepoints] = np.arange(1, len(self))

    @classmethod
    def of_bytes(cls) -> Vocab:
        """Return the vocabulary of all 256 bytes; no text has unknown symbols."""
        return cls(range(256), is_bytes=True)

    def __len__(self) -> int:
        """Return V, the number of indices including 0."""
        return len(self.codepoints) + 1

    def __eq__(self, other: object) -> bool:
        """Return whether both map every text to the same indices."""
        if not isinstance(other, Vocab):
            return NotImplemented
        return self.is_bytes == other.is_bytes and np.array_equal(self.codepoints, other.codepoints)

    __hash__ = None  # type: ignore[assignment]

    @property
    def symbols(self) -> str:
        """The symbols as a string in the order of their indices, from 1; bytes are decoded as Latin-1."""
        return to_text(self.codepoints)

    @property
    def bos_id(self) -> int:
        """Index that precedes the first character of a text: the line break's, or 0 if that is unknown."""
        return int(self._index_of[ord("\n")])

    @property
    def char_classes(self) -> NDArray[np.uint8]:
        """Class of each index, uint8, (V,): LETTER (also digits), BREAK (line break), BLANK (other white space), OTHER.

        Bytes beyond ASCII count as LETTER.
        """
        classes = np.full(len(self), OTHER, dtype=np.uint8)
        for index, symbol in enumerate(self.symbols, 1):
            if symbol.isalnum() or (self.is_bytes and not symbol.isascii()):
                classes[index] = LETTER
            elif symbol.isspace():
                classes[index] = BREAK if symbol == "\n" else BLANK
        return classes

    @property
    def lower(self) -> NDArray[np.int64]:
        """Index of the lower-case form of each symbol, int64, (V,); its own index if the vocabulary has none.

        Bytes beyond ASCII are their own.
        """
        index_of = {symbol: index for index, symbol in enumerate(self.symbols, 1)}
        folded = (symbol if self.is_bytes and not symbol.isascii() else symbol.lower() for symbol in index_of)
        return np.array([0, *map(index_of.get, folded, index_of.values())], np.int64)

    @cached_property
    def utf8_lengths(self) -> NDArray[np.int64]:
        """Length of each index in UTF-8, in bytes, int64, (V,); an unknown character counts as one byte.

        A model predicts only that a character is unknown, so more bytes would make its bits per byte too good.
        """
        if self.is_bytes:
            return np.ones(len(self), np.int64)
        points = np.concatenate([[0], self.codepoints])
        return np.int64(1) + (points > 0x7F) + (points > 0x7FF) + (points > 0xFFFF)

    def bytes_per_symbol(self, ids: Ids) -> float:
        """Return the mean of `utf8_lengths` over a text.

        Args:
            ids: the text as indices, at least one, (N,).
        """
        blocks = (ids[i : i + BLOCK] for i in range(0, len(ids), BLOCK))
        counts = sum(np.bincount(block, minlength=len(self)) for block in blocks)
        return float(counts @ self.utf8_lengths / len(ids))

    def encode(self, text: str) -> Ids:
        """Convert text to indices, (N,); unknown characters become 0."""
        if self.is_bytes:
            return self.encode_codepoints(np.frombuffer(text.encode("utf-8", "surrogatepass"), dtype=np.uint8))
        return self.encode_codepoints(code_points(text))

    def encode_codepoints(self, codepoints: Codepoints) -> Ids:
        """Convert code points or byte values to indices, (N,)."""
        if codepoints.dtype == self.dtype == np.uint8:  # much faster than indexing
            return np.frombuffer(bytearray(codepoints).translate(self._index_of[:256].tobytes()), dtype=np.uint8)
        return self._index_of[codepoints]

    def decoder(self) -> Callable[[int], str]:
        """Return an incremental decoder: a function from the next index to text.

        It returns an empty string while a character of several bytes is incomplete. Index 0 and invalid UTF-8 become
        U+FFFD. `FLUSH` returns the rest at the end of the text.
        """
        if not self.is_bytes:
            return (dict(enumerate("\ufffd" + self.symbols)) | {FLUSH: ""}).__getitem__
        utf8 = codecs.getincrementaldecoder("utf-8")("replace")

        def decode_next(index: int) -> str:
            if index != FLUSH and index != 0:
                return utf8.decode(bytes([index - 1]))
            rest = utf8.decode(b"", final=True)
            utf8.reset()
            return rest + ("\ufffd" if index == 0 else "")

        return decode_next

    def decode(self, indices: Iterable[int]) -> str:
        """Convert indices to text; index 0 and invalid UTF-8 become U+FFFD."""
        decode_next = self.decoder()
        return "".join(decode_next(int(index)) for index in indices) + decode_next(FLUSH)

    def unknown(self, text: str) -> str:
        """Return the distinct characters of `text` that are not in the vocabulary, sorted."""
        if self.is_bytes:
            return ""
        return "".join(char for char in sorted(set(text)) if not self._index_of[ord(char)])
