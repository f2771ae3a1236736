"""Corpus: one text, decoded, checked, encoded and split.

The split is contiguous: the first part trains, the next chooses (validation), the last tests. The vocabulary
comes from the training part alone; any other character is index 0 and is predicted like any other.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from charlm.errors import DataError
from charlm.vocab import Codes, Vocab

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
        codes: the whole text as indices, uint8 or int32, (N,).
        bounds: first and one-past-last position of each part.
    """

    name: str
    sha256: str
    vocab: Vocab
    codes: Codes
    bounds: dict[str, tuple[int, int]]

    def part(self, name: str) -> Codes:
        """Return the indices of one part: "train", "valid" or "test"."""
        first, stop = self.bounds[name]
        return self.codes[first:stop]


def decode(data: bytes, name: str) -> str:
    """Decode UTF-8, keeping byte order mark and line ends as they are.

    Raises:
        DataError: the bytes are not UTF-8; the message names the offset.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name}: not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}; "
            "convert the file, or train on its bytes with --bytes"
        ) from None


def bounds_of(n: int, split: str) -> dict[str, tuple[int, int]]:
    """Return first and one-past-last position of each part of a text of `n` characters."""
    cuts = [0, *(round(n * share) for share in np.cumsum(SPLITS[split])[:-1]), n]
    return {part: (cuts[i], cuts[i + 1]) for i, part in enumerate(PARTS)}


def make_corpus(
    data: bytes,
    name: str,
    split: str = "standard",
    as_bytes: bool = False,
    lower: bool = False,
    min_count: int = 1,
    vocab: Vocab | None = None,
    min_chars: int = MIN_CHARS,
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

    Raises:
        DataError: the text is empty, too short or not UTF-8.
    """
    sha256 = hashlib.sha256(data).hexdigest()
    if as_bytes:
        text, n = "", len(data)
    else:
        text = decode(data, name)
        text = text.lower() if lower else text
        n = len(text)
    if n < min_chars:
        what = "is empty" if n == 0 else f"has only {n} characters"
        raise DataError(f"{name}: the text {what}; at least {min_chars} are needed")

    bounds = bounds_of(n, split)
    if as_bytes:
        vocab = vocab or Vocab.of_bytes()
        codes = vocab.encode_bytes(data)
    else:
        vocab = vocab or Vocab.of_text(text[: bounds["train"][1]], min_count)
        codes = vocab.encode(text)
    return Corpus(name, sha256, vocab, codes, bounds)
