"""Cache model: next-character counts over the last 16,384 characters.

With c_k(w) how often, in the last `WINDOW` characters, w came after the k characters that were read last, and d_k the
number of different w:

    p_k(w) = (c_k(w) + d_k p_{k-1}(w)) / (sum of c_k + d_k),    k = 3, ..., 8,    p_2(w) = 1 / V

Unseen contexts back off to the next shorter one. Contexts of 1 and 2 characters are left out: they are so frequent that
the counts of the training text are the better estimate. The cache model of words has two contexts instead: b, the
letters of the present word, left out between words; and v b, with v the word before it (word_contexts.py).

References: Kuhn and De Mori (1990), A cache-based natural language model, IEEE Transactions on Pattern Analysis and
Machine Intelligence 12(6); Grave, Joulin, Usunier (2016), arXiv:1612.04426; smoothing, Witten and Bell (1991), see
interpolation.py.

Shapes: B batch_size, S + T characters, of which the last T are predicted from, V vocab_size, A positions, P pairs of
a position and an earlier one, K contexts of a position.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from charlm.ngrams.interpolation import Floats, interpolate_counts
from charlm.ngrams.levels import Ints

WINDOW = 16384  # characters
MIN_CONTEXT, MAX_CONTEXT = 3, 8  # k
N_LEVELS = MAX_CONTEXT - MIN_CONTEXT + 1
N_BEFORE = WINDOW + MAX_CONTEXT - 1  # S that is enough: the context of the first character of the window, too
MAX_PAIRS = 1 << 16  # at once, which limits memory: between blanks every position has the same context


def earlier_occurrences(
    contexts: Ints, n_read: int, vocab_size: int, window: int, max_pairs: int
) -> Iterator[tuple[Ints, Ints, Ints]]:
    """Find the earlier positions with the same context, for some positions at a time.

    Args:
        contexts: a number after each character, -1 without a context, int64, (B, S + T).
        n_read: T.
        vocab_size: V; each position counts as V pairs, since it needs an array of this length.
        window: how far back.
        max_pairs: at once; at least those of one position.

    Yields:
        asked: positions in the flat text, ascending, int64, (A,).
        row: for each pair an index of `asked`, ascending, int64, (P,).
        then: for each pair an earlier position in the flat text, int64, (P,).
    """
    length = contexts.shape[1]
    if n_read == 1:  # comparing is faster than sorting
        last, earlier = contexts[:, -1:], contexts[:, max(0, length - 1 - window) : -1]
        row, column = np.nonzero((earlier == last) & (last >= 0))
        yield np.arange(1, len(contexts) + 1) * length - 1, row, (row + 1) * length - 1 - earlier.shape[1] + column
        return
    flat, place = contexts.ravel(), np.arange(contexts.size)
    column = place % length
    # Equal contexts of one text are adjacent, in the order of the text.
    group = place // length * (contexts.max() + 2) + flat + 1
    order = np.argsort(group, kind="stable")
    group = group[order]
    key = np.cumsum(group != np.roll(group, 1)) * length + column[order]
    rank = np.empty_like(order)
    rank[order] = place
    asked = np.flatnonzero((column >= length - n_read) & (flat >= 0))
    first = key.searchsorted(key[rank[asked]] - np.minimum(column[asked], window))
    n_pairs = rank[asked] - first
    cuts = np.flatnonzero(np.diff((n_pairs + vocab_size).cumsum() // max_pairs)) + 1
    for some, begin, n in zip(*(np.split(part, cuts) for part in (asked, first, n_pairs)), strict=True):
        row = np.arange(len(some)).repeat(n)
        yield some, row, order[(begin - n.cumsum() + n)[row] + np.arange(len(row))]


def cache_probs(ids: Ints, n_read: int, vocab_size: int, window: int = WINDOW, max_pairs: int = MAX_PAIRS) -> Floats:
    """Return the distribution after each of the last T characters by the cache model of characters, (B, T, V).

    Args:
        ids: character indices, int64, (B, S + T).
        n_read: T.
        vocab_size: V.
        window: characters that are remembered.
        max_pairs: see `earlier_occurrences`.
    """
    (n_texts, length), flat = ids.shape, ids.ravel()
    probs = np.full((n_texts, n_read, vocab_size), 1 / vocab_size)
    if length < MIN_CONTEXT:
        return probs
    contexts = np.full_like(ids, -1)
    last = np.lib.stride_tricks.sliding_window_view(ids, MIN_CONTEXT, axis=1)
    contexts[:, MIN_CONTEXT - 1 :] = last @ vocab_size ** np.arange(MIN_CONTEXT)
    for asked, row, then in earlier_occurrences(contexts, n_read, vocab_size, window, max_pairs):
        now, found = asked[row], [(row, flat[then + 1])]
        for k in range(MIN_CONTEXT + 1, MAX_CONTEXT + 1):
            same = np.flatnonzero((then % length >= k - 1) & (flat[then - k + 1] == flat[now - k + 1]))
            row, now, then = row[same], now[same], then[same]
            found.append((row, flat[then + 1]))
        counts = _count(found, len(asked), vocab_size)
        probs[asked // length, asked % length - (length - n_read)] = interpolate_counts(counts)
    return probs


def word_cache_probs(
    ids: Ints, contexts: Ints, n_read: int, vocab_size: int, window: int = WINDOW, max_pairs: int = MAX_PAIRS
) -> Floats:
    """Return the distribution after each of the last T characters by the cache model of words, (B, T, V).

    Args:
        ids: character indices, int64, (B, S + T).
        contexts: b and v b after each character, see `word_contexts`, int64, (2, B, S + T).
        n_read: T.
        vocab_size: V.
        window: characters that are remembered.
        max_pairs: see `earlier_occurrences`.
    """
    (n_texts, length), flat = ids.shape, ids.ravel()
    probs = np.full((n_texts, n_read, vocab_size), 1 / vocab_size)
    begun, both = contexts
    pairs = earlier_occurrences(np.where(begun == 0, both, begun), n_read, vocab_size, window, max_pairs)
    begun, both = begun.ravel(), both.ravel()
    for asked, row, then in pairs:
        symbol, now = flat[then + 1], asked[row]
        is_begun, is_same = begun[now] != 0, both[now] == both[then]
        counts = _count([(row[kept], symbol[kept]) for kept in (is_begun, is_same)], len(asked), vocab_size)
        probs[asked // length, asked % length - (length - n_read)] = interpolate_counts(counts)
    return probs


def _count(found: Sequence[tuple[Ints | int, Ints]], n_rows: int, vocab_size: int) -> Ints:
    """Return how often each symbol followed, (K, A, V), from rows and symbols of each of K contexts, both (P,)."""
    shape = len(found), n_rows, vocab_size
    keys = [(k * n_rows + row) * vocab_size + symbol for k, (row, symbol) in enumerate(found)]
    counts: Ints = np.bincount(np.concatenate(keys), minlength=math.prod(shape)).reshape(shape)
    return counts


class CacheCounts:
    """Cache model of characters, read character by character: one text, in time that grows with the window alone.

    Each earlier position holds one bit for each of the last 8 characters that is the same as before that position:

        a <- 2 a + 1 mod 256 where the character before the position is the one that was read, else 0

    Args:
        vocab_size: V.
        window: characters that are remembered.
    """

    def __init__(self, vocab_size: int, window: int = WINDOW) -> None:
        self.vocab_size = vocab_size
        self._read: NDArray[np.integer] = np.zeros(window, np.min_scalar_type(vocab_size))  # plus one; the oldest first
        self._agreed = np.zeros(window, np.uint8)
        self._equal = np.empty(window, np.bool_)

    def reset(self) -> None:
        """Forget all characters."""
        self._read.fill(0)
        self._agreed.fill(0)

    def step(self, char: int) -> Floats:
        """Return the distribution after one more character, (1, V)."""
        read, agreed = self._read, self._agreed
        np.equal(read, read.dtype.type(char + 1), out=self._equal)
        np.add(agreed, agreed, out=agreed)
        np.add(agreed, 1, out=agreed)
        np.multiply(agreed, self._equal, out=agreed)
        read[:-1] = read[1:]  # now the character after each position stands at it
        read[-1] = char + 1
        place = np.flatnonzero(agreed >= 2**MIN_CONTEXT - 1)
        level, symbol = _LEVEL[agreed[place]], read[place].astype(np.intp) - 1
        counts = np.bincount(level * self.vocab_size + symbol, minlength=N_LEVELS * self.vocab_size)
        counts = counts.reshape(N_LEVELS, 1, self.vocab_size)
        # A context of k characters agrees wherever a longer one does.
        return interpolate_counts(counts[::-1].cumsum(axis=0)[::-1])


_LEVEL = np.array([bits.bit_count() - MIN_CONTEXT for bits in range(256)])  # 0 for 3 equal characters


class WordCacheCounts:
    """Cache model of words, read character by character: one text, whose last contexts lie in a ring.

    Args:
        vocab_size: V.
        window: characters that are remembered.
    """

    def __init__(self, vocab_size: int, window: int = WINDOW) -> None:
        self.vocab_size, self.n_read = vocab_size, 0
        self._symbol: NDArray[np.integer] = np.zeros(window, np.min_scalar_type(vocab_size))  # after each position
        self._first, self._both = np.full((2, window), -1)  # b, or v b between words; v b

    def reset(self) -> None:
        """Forget all characters."""
        self.n_read = 0
        self._first.fill(-1)

    def step(self, char: int, contexts: Sequence[int]) -> Floats:
        """Return the distribution after one more character and its contexts b and v b, (1, V)."""
        begun, both = contexts
        first, here = begun or both, self.n_read % len(self._first)
        self._symbol[here - 1] = char
        place = np.flatnonzero(self._first == first)
        symbol = self._symbol[place].astype(np.intp)
        same = symbol[self._both[place] == both]
        counts = _count([(0, symbol if begun else symbol[:0]), (0, same)], 1, self.vocab_size)
        self._first[here], self._both[here] = first, both
        self.n_read += 1
        return interpolate_counts(counts)
