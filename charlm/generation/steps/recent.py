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

from charlm.generation.steps.base import Char, Rows

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
    """What was read of late, by words: the last contexts, in a ring, and what came after each.

    Args:
        vocab_size: V.
    """

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size

    @property
    def states(self) -> list[NDArray[np.integer]]:
        """Return how many were read, what came after, b plus one, or that of v b in its place, and v b."""
        return [self.n_read, self.read, self.first, self.both]

    def allocate(self, rows: Rows) -> None:
        """Make room for so many texts."""
        self.n_read = np.zeros(1, np.int64)
        self.read: NDArray[np.integer] = np.zeros((*rows, N_RECENT), np.min_scalar_type(self.vocab_size))
        self.first, self.both = np.zeros((2, *rows, N_RECENT), np.int64)

    def step(self, char: Char, contexts: Sequence[Any]) -> NDArray[np.float64]:
        """Return the probability of each symbol, (1, V), or (B, V), after a character and contexts of b and of v b."""
        begun, both = (np.asarray(context) for context in contexts)
        first, here = np.where(begun == 0, both, begun) + 1, self.n_read[0] % N_RECENT
        self.read[..., here - 1] = char  # after the context before
        place = np.flatnonzero(self.first == first[..., None])
        symbol, row = self.read.ravel()[place].astype(np.intp), place // N_RECENT
        is_same = self.both.ravel()[place] == both.ravel()[row]
        is_begun = begun.ravel()[row] != 0
        shape = both.size, self.vocab_size
        key = row * self.vocab_size + symbol
        counts = [np.bincount(key[level], minlength=math.prod(shape)).reshape(shape) for level in (is_same, is_begun)]
        self.first[..., here], self.both[..., here] = first, both
        self.n_read += 1
        return followed(np.stack(counts))


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
