"""Corpus: one text, decoded, checked, encoded and split.

The parts are contiguous: training, validation, test; two splits rearrange the text first. The vocabulary is that of the
training part; any other character has index 0 and is predicted like the others. A large text is encoded once, into a
file of the user's cache folder, and is never in memory as a whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from charlm.data import cache
from charlm.data.arrangement import arrange
from charlm.data.byte_stream import ByteStream
from charlm.data.encoding import (
    NotUTF8Error,
    decode,
    decode_stream,
    first_occurrences,
    hash_while_reading,
    utf16_or_32,
    with_progress,
)
from charlm.data.vocab import Ids, Vocab
from charlm.errors import DataError
from charlm.messages import say
from charlm.options.splits import STANDARD, Bounds, Split, split_of

MMAP_THRESHOLD = 1 << 24  # bytes; longer texts are encoded into a file
HEAD_BYTES = 1 << 16  # of a file, from which its encoding is guessed
MIN_CHARS = 100
MAX_MEASURED = 1 << 24  # characters whose lines are measured


@dataclass(frozen=True, eq=False)
class Corpus:
    """A text as indices, with the bounds of its parts.

    Attributes:
        name: source of the text, for messages.
        sha256: SHA-256 of the bytes read, hexadecimal.
        vocab: vocabulary of the training part.
        ids: indices of the whole text, `vocab.dtype`, (N,); memory-mapped if the text is large.
        bounds: first and one-past-last position of each part in `ids`.
        split: name of the split.
    """

    name: str
    sha256: str
    vocab: Vocab
    ids: Ids
    bounds: Bounds
    split: str

    def part(self, name: str) -> Ids:
        """Return the indices of one part: "train", "valid" or "test"."""
        first, stop = self.bounds[name]
        return self.ids[first:stop]

    @property
    def has_held_out(self) -> bool:
        """Whether there is a validation or a test part."""
        return self.bounds["valid"][0] < self.bounds["test"][1]

    @cached_property
    def longest_line(self) -> int | None:
        """Length of the longest line in the last 16 million symbols of the training part; None without line breaks."""
        ids, line_break = self.part("train")[-MAX_MEASURED:], self.vocab.bos_id
        if not line_break or not len(breaks := np.flatnonzero(ids == line_break)):
            return None
        return int(np.diff(breaks, prepend=-1, append=len(ids)).max()) - 1


def make_corpus(
    data: bytes | ByteStream,
    name: str,
    split: str = STANDARD,
    as_bytes: bool = False,
    lower: bool = False,
    min_count: int = 1,
    vocab: Vocab | None = None,
    known: Vocab | None = None,
    min_chars: int = MIN_CHARS,
    mmap_threshold: int = MMAP_THRESHOLD,
) -> Corpus:
    """Decode, check, encode and split a text.

    Args:
        data: the text, UTF-8 unless `as_bytes`; a byte order mark at the start of a file is left out.
        name: source of the text, for messages.
        split: a name or proportions, see `options.splits`.
        as_bytes: use bytes instead of characters as symbols.
        lower: convert the text to lower case first.
        min_count: rarer characters of the training part are left out of the vocabulary.
        vocab: use this vocabulary; None to build one.
        known: begin a vocabulary that is built with the symbols of this one.
        min_chars: minimum length of the text in characters.
        mmap_threshold: bytes; a longer text from files is encoded into a file.

    Raises:
        UsageError: there is no such split.
        DataError: the text is empty, too short or not UTF-8, or changes while it is read.
        InputNotFoundError: a file cannot be read.
        OutputError: the file for the ids of a large text cannot be written.
    """
    stream = ByteStream([data]) if isinstance(data, bytes) else data
    vocab = Vocab.of_bytes() if as_bytes and vocab is None else vocab
    if not as_bytes:
        _warn_of_utf16(stream, name)
    parsed, original, bounds = split_of(split), None, None

    def encode(write: Callable[[Ids], object]) -> tuple[str, Vocab]:
        """Read the stream, pass its ids to `write` block by block, and return SHA-256 and vocabulary."""
        fingerprint, sha256, used = stream.fingerprint, hashlib.sha256(), vocab
        if used is None:
            blocks = with_progress(stream, stream.n_bytes, "reading")
            first, n = first_occurrences(decode_stream(blocks, name, as_bytes, lower), min_count)
            _check_length(n, min_chars, name)
            found = np.flatnonzero(first < (bounds or parsed.bounds(n))["train"][1]).tolist()
            used = Vocab([*(known.codepoints.tolist() if known else ()), *found])
        n = 0
        blocks = hash_while_reading(with_progress(stream, stream.n_bytes, "encoding"), sha256)
        for codepoints in decode_stream(blocks, name, as_bytes, lower):
            write(used.encode_codepoints(codepoints))
            n += len(codepoints)
        if stream.fingerprint != fingerprint:
            raise DataError(f"{name}: changed while it was read; try again when no program writes to it")
        _check_length(n, min_chars, name)
        return sha256.hexdigest(), used

    try:
        if parsed.order != "text":
            original, stream, bounds = _arranged(stream, name, parsed, as_bytes, lower, mmap_threshold)
        if any(isinstance(part, Path) for part in stream.parts) and stream.n_bytes >= mmap_threshold:
            source = {"fingerprint": stream.fingerprint, "lower": lower, "as_bytes": as_bytes}
            vocab_from = {"split": split, "min_count": min_count}
            vocab_from |= {"known": known.codepoints.tolist()} if known else {}
            sha256, used, ids = cache.load_or_encode(source, vocab_from, vocab, encode)
        else:
            blocks: list[Ids] = []
            sha256, used = encode(blocks.append)
            ids = np.concatenate(blocks)
    except NotUTF8Error as error:
        part, offset = stream.locate(error.offset)
        raise NotUTF8Error.at(str(part) if isinstance(part, Path) else name, error.byte, offset) from None
    return Corpus(name, original or sha256, used, ids, bounds or parsed.bounds(len(ids)), split)


def _arranged(
    stream: ByteStream, name: str, split: Split, as_bytes: bool, lower: bool, max_bytes: int
) -> tuple[str, ByteStream, Bounds]:
    """Return the SHA-256 of a text, the text in the order of a split, and the bounds of its parts.

    Raises:
        DataError: the text is too long to be rearranged in memory, or too short for a training part.
        NotUTF8Error: the bytes are not UTF-8.
    """
    if stream.n_bytes > max_bytes:
        raise DataError(f"{name}: {stream.n_bytes:,} bytes are too many for a split that rearranges the text")
    sha256 = hashlib.sha256()
    blocks = hash_while_reading(stream, sha256)
    text = b"".join(blocks).decode("latin-1") if as_bytes else "".join(decode(blocks, name))
    text, bounds = arrange(text.lower() if lower and not as_bytes else text, split)
    if bounds["train"][1] == 0:
        raise DataError(f"{name}: the text is too short for this split; take another --split")
    data = text.encode("latin-1" if as_bytes else "utf-8")
    return sha256.hexdigest(), ByteStream([data], stream.block_bytes), bounds


def _warn_of_utf16(stream: ByteStream, name: str) -> None:
    """Print a line on stderr for each part that is valid UTF-8, but only by accident."""
    for part in stream.parts:
        head = next(iter(ByteStream([part], HEAD_BYTES)), b"")
        if (found := utf16_or_32(head)) is not None:
            where = part if isinstance(part, Path) else name
            say(f"{where}: has the NUL bytes of {found}, not UTF-8; convert it: iconv -f {found} -t UTF-8")


def _check_length(n: int, min_chars: int, name: str) -> None:
    if n < min_chars:
        what = "is empty" if n == 0 else f"has only {n} characters"
        raise DataError(f"{name}: the text {what}; the minimum is {min_chars}")
