"""Corpus: one text, decoded, checked, encoded and split.

A large text is encoded once, into a file of the user's cache folder, and never whole in memory.

The split is contiguous: the first part trains, the next chooses (validation), the last tests. The vocabulary
comes from the training part alone; any other character is index 0 and is predicted like any other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from charlm.data import cache
from charlm.data.byte_stream import ByteStream
from charlm.data.encoding import NotUTF8Error, decode_stream, first_occurrences, hash_while_reading, with_progress
from charlm.data.vocab import Ids, Vocab
from charlm.errors import DataError

MMAP_THRESHOLD = 1 << 24  # bytes from which on a text is encoded into a file
PARTS = ("train", "valid", "test")

# Shares of the text for train, validation and test. "random20" holds out a random fifth of the *windows* of one
# undivided text (their characters overlap those that train), as the lesson did: the feed draws them. "nanogpt" is
# that of nanoGPT's character data, but for rounding: it has no test part.
SPLITS: dict[str, tuple[float, float, float]] = {
    "standard": (0.8, 0.1, 0.1),
    "tail20": (0.8, 0.2, 0.0),
    "nanogpt": (0.9, 0.1, 0.0),
    "random20": (1.0, 0.0, 0.0),
    "all": (1.0, 0.0, 0.0),
}

MIN_CHARS = 100


@dataclass(frozen=True, eq=False)
class Corpus:
    """A text as indices with the bounds of its parts.

    Attributes:
        name: where the text came from, for people.
        sha256: SHA-256 of the bytes as they were read, hexadecimal.
        vocab: the vocabulary.
        ids: the whole text as indices, of the vocabulary's `dtype`, (N,); of a large text a file, memory-mapped.
        bounds: first and one-past-last position of each part.
    """

    name: str
    sha256: str
    vocab: Vocab
    ids: Ids
    bounds: dict[str, tuple[int, int]]

    def part(self, name: str) -> Ids:
        """Return the indices of one part: "train", "valid" or "test"."""
        first, stop = self.bounds[name]
        return self.ids[first:stop]


def split_bounds(n: int, split: str) -> dict[str, tuple[int, int]]:
    """Return first and one-past-last position of each part of a text of `n` characters."""
    cuts = [0, *(round(n * share) for share in np.cumsum(SPLITS[split])[:-1]), n]
    return {part: (cuts[i], cuts[i + 1]) for i, part in enumerate(PARTS)}


def make_corpus(
    data: bytes | ByteStream,
    name: str,
    split: str = "standard",
    as_bytes: bool = False,
    lower: bool = False,
    min_count: int = 1,
    vocab: Vocab | None = None,
    min_chars: int = MIN_CHARS,
    mmap_threshold: int = MMAP_THRESHOLD,
) -> Corpus:
    """Decode, check, encode and split one text.

    Args:
        data: the text, UTF-8, or anything with `as_bytes`.
        name: where it came from, for messages.
        split: a key of `SPLITS`.
        as_bytes: the symbols are bytes instead of characters.
        lower: turn the text into lower case first.
        min_count: characters seen fewer times in the training part are left out of the vocabulary.
        vocab: use this vocabulary instead of making one.
        min_chars: the fewest characters that make a text.
        mmap_threshold: bytes from which on a text that lies in files is encoded into a file.

    Raises:
        DataError: the text is empty, too short or not UTF-8, or it changes while it is read.
        InputNotFoundError: a file cannot be read.
        OutputError: there is no place for the file of a large text.
    """
    pieces = ByteStream([data]) if isinstance(data, bytes) else data
    given = Vocab.of_bytes() if as_bytes and vocab is None else vocab

    def encode(put: Callable[[Ids], object]) -> tuple[str, Vocab]:
        fingerprint, sha256, n = pieces.fingerprint, hashlib.sha256(), 0
        known = given
        if known is None:
            reached, n = first_occurrences(
                decode_stream(with_progress(pieces, "reading"), name, as_bytes, lower), min_count
            )
            _check_length(n, min_chars, name)
            known = Vocab(np.flatnonzero(reached < split_bounds(n, split)["train"][1]).tolist())
        n = 0
        for codepoints in decode_stream(
            hash_while_reading(with_progress(pieces, "encoding"), sha256), name, as_bytes, lower
        ):
            put(known.encode_points(codepoints))
            n += len(codepoints)
        if pieces.fingerprint != fingerprint:
            raise DataError(f"{name}: changed while it was read; try again when nothing writes to it")
        _check_length(n, min_chars, name)
        return sha256.hexdigest(), known

    try:
        if any(isinstance(part, Path) for part in pieces.parts) and pieces.n_bytes >= mmap_threshold:
            text = {"stamp": pieces.fingerprint, "lower": lower, "as_bytes": as_bytes}
            sha256, known, ids = cache.load_or_encode(text, {"split": split, "min_count": min_count}, given, encode)
        else:
            whole: list[Ids] = []
            sha256, known = encode(whole.append)
            ids = np.concatenate(whole)
    except NotUTF8Error as error:
        part, offset = pieces.place(error.offset)
        raise NotUTF8Error.at(str(part) if isinstance(part, Path) else name, error.byte, offset) from None
    return Corpus(name, sha256, known, ids, split_bounds(len(ids), split))


def _check_length(n: int, min_chars: int, name: str) -> None:
    if n < min_chars:
        what = "is empty" if n == 0 else f"has only {n} characters"
        raise DataError(f"{name}: the text {what}; at least {min_chars} are needed")
