"""Steps of what was read of late: how much of what was read last was also read so and so many characters ago.

    a_j <- 2 a_j + 1 mod 256 if the character that is read is the one j characters before it, else 0
    c_k(w) = how often w came after a j with a_j >= 2^k - 1: one bit for each character that agrees, eight at most

and, by words, how often w came after the same letters of a word, and after these and the same word before.
models/recent.py says what becomes of the counts. Shapes: ... nothing for one text, B for many, V vocab_size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.steps.base import Char, Rows

N_RECENT = 16384
SHORTEST, LONGEST = 3, 8
N_LENGTHS = LONGEST - SHORTEST + 1
N_BITS = np.array([bits.bit_count() for bits in range(256)])


class Recent:
    """The last characters, and how well what was read before each agrees with what was read last.

    Args:
        vocab_size: V.
    """

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size

    @property
    def states(self) -> list[NDArray[np.integer]]:
        """Return the last characters plus one, 0 where there was none, and how far each agrees, in bits."""
        return [self.read, self.agreed]

    def allocate(self, rows: Rows) -> None:
        """Make room for so many texts."""
        kind = np.min_scalar_type(self.vocab_size)
        self.read: NDArray[np.integer] = np.zeros((*rows, N_RECENT), kind)  # the oldest first
        self.agreed = np.zeros((*rows, N_RECENT), np.uint8)
        self.equal = np.empty((*rows, N_RECENT), np.bool_)
        self.n_texts = rows[0] if rows else 1

    def step(self, char: Char) -> NDArray[np.float64]:
        """Return the probability of each symbol after one more character, (1, V), or (B, V)."""
        read, agreed = self.read, self.agreed
        np.equal(read, np.asarray(char + 1, read.dtype)[..., None], out=self.equal)
        np.add(agreed, agreed, out=agreed)
        np.add(agreed, 1, out=agreed)
        np.multiply(agreed, self.equal, out=agreed)
        read[..., :-1] = read[..., 1:]  # now what came after a place stands at it
        read[..., -1] = char + 1
        place = np.flatnonzero(agreed >= 2**SHORTEST - 1)
        length, symbol = N_BITS[agreed.ravel()[place]] - SHORTEST, read.ravel()[place].astype(np.intp) - 1
        key = (length * self.n_texts + place // N_RECENT) * self.vocab_size + symbol
        shape = N_LENGTHS, self.n_texts, self.vocab_size
        counts = np.bincount(key, minlength=math.prod(shape)).reshape(shape)
        return followed(counts[::-1].cumsum(axis=0))  # the longest first; who agrees longer agrees


class RecentWords:
    """The contexts of words after the last characters.

    Args:
        recent: the last characters; it steps first.
    """

    def __init__(self, recent: Recent) -> None:
        self.recent = recent

    @property
    def states(self) -> list[NDArray[np.integer]]:
        """Return the contexts plus one, 0 where there was nothing."""
        return [self.contexts]

    def allocate(self, rows: Rows) -> None:
        """Make room for so many texts."""
        self.contexts = np.zeros((*rows, 2, N_RECENT), np.int64)  # the oldest first

    def step(self, contexts: Sequence[Any]) -> NDArray[np.float64]:
        """Return the probability of each symbol, (1, V), or (B, V), after contexts of b and v b."""
        begun, both = (np.asarray(context) + 1 for context in contexts)
        is_same = self.contexts[..., 1, :] == both[..., None]
        is_begun = (self.contexts[..., 0, :] == begun[..., None]) & (begun != 1)[..., None]
        self.contexts[..., :-1] = self.contexts[..., 1:]
        self.contexts[..., 0, -1], self.contexts[..., 1, -1] = begun, both
        n_texts, vocab_size = self.recent.n_texts, self.recent.vocab_size
        counts = np.empty((2, n_texts, vocab_size), np.int64)
        for by_each, agrees in zip(counts, (is_same, is_begun), strict=True):
            place = np.flatnonzero(agrees)
            symbol = self.recent.read.ravel()[place].astype(np.intp) - 1
            key = place // N_RECENT * vocab_size + symbol
            by_each[...] = np.bincount(key, minlength=by_each.size).reshape(by_each.shape)
        return followed(counts)


def followed(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the probability of each symbol, (B, V).

    Args:
        counts: of what came after each context, the longest first, (contexts, B, V).
    """
    n_kinds = np.count_nonzero(counts, axis=2)
    total = counts.sum(axis=2) + n_kinds
    unseen = total == 0
    total += unseen
    shares = np.ones((len(counts) + 1, counts.shape[1]))  # what longer contexts leave to each, and to chance
    np.cumprod((n_kinds + unseen) / total, axis=0, out=shares[1:])
    found: NDArray[np.float64] = (counts * (shares[:-1] / total)[..., None]).sum(axis=0)
    found += shares[-1][:, None] / counts.shape[2]
    return found
