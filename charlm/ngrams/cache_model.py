"""Cache model: next-character counts over the last 16,384 characters.

With c_k(w) the count of symbol w, in the last `WINDOW` characters, after occurrences of the last k characters, and d_k
the number of different w:

    p_k(w) = (c_k(w) + d_k p_{k-1}(w)) / (sum of c_k + d_k),    k = 3, ..., 8,    p_2(w) = 1 / V

Unseen contexts back off to the next shorter one. Contexts of 1 and 2 characters are left out: they are frequent, and
the counts of the training text estimate them better. The cache model of words has two contexts instead: b, the letters
of the current word, left out between words; and v b, with v the word before it (word_contexts.py).

Both models exist in two forms: for a batch of texts (`cache_probs`, `word_cache_probs`), and character by character for
one text (`CacheCounts`, `WordCacheCounts`).

A text that is being sampled repeats itself if the cache model reads what was sampled. So the last characters can be
left out of the counts: c_k(w) is then over the first R characters alone, those of a prompt.

References: Kuhn and De Mori (1990), A cache-based natural language model, IEEE Transactions on Pattern Analysis and
Machine Intelligence 12(6); Grave, Joulin, Usunier (2016), arXiv:1612.04426; smoothing, Witten and Bell (1991), see
interpolation.py.

Shapes: B batch_size, S + T characters, of which the last T are predicted from and the first R are counted, V
vocab_size, A positions, P pairs of a position and an earlier one, K contexts of a position.
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
N_BEFORE = WINDOW + MAX_CONTEXT - 1  # largest useful S: the window, and the context of its first character
MAX_PAIRS = 1 << 16  # per block, to limit memory: in a text of blanks all positions have the same context


def earlier_occurrences(
    contexts: Ints, n_read: int, vocab_size: int, window: int, max_pairs: int, n_counted: int | None = None
) -> Iterator[tuple[Ints, Ints, Ints]]:
    """Find, for each of the last T positions, the earlier positions with the same context, in blocks of positions.

    Args:
        contexts: context after each character as a number, -1 for none, int64, (B, S + T).
        n_read: T.
        vocab_size: V; each position counts as V pairs, since its result has length V.
        window: maximum distance to an earlier position.
        max_pairs: maximum number of pairs in a block; a block has at least one position.
        n_counted: R; None counts all.

    Yields:
        queries: positions in the flat text, ascending, int64, (A,).
        row: for each pair an index into `queries`, ascending, int64, (P,).
        earlier: for each pair the earlier position in the flat text, int64, (P,).
    """
    length = contexts.shape[1]
    n_counted = length if n_counted is None else n_counted
    if n_read == 1:  # comparing is faster than sorting
        begin, stop = max(0, length - 1 - window), max(0, n_counted - 1)
        row, column = np.nonzero((contexts[:, begin:stop] == contexts[:, -1:]) & (contexts[:, -1:] >= 0))
        yield np.arange(1, len(contexts) + 1) * length - 1, row, row * length + begin + column
        return
    flat, position = contexts.ravel(), np.arange(contexts.size)
    column = position % length
    # After sorting, equal contexts of one text are adjacent, in the order of the text.
    group = position // length * (contexts.max() + 2) + flat + 1
    order = np.argsort(group, kind="stable")
    group = group[order]
    key = np.cumsum(group != np.roll(group, 1)) * length + column[order]
    rank = np.empty_like(order)
    rank[order] = position
    queries = np.flatnonzero((column >= length - n_read) & (flat >= 0))
    first = key.searchsorted(key[rank[queries]] - np.minimum(column[queries], window))
    n_pairs = rank[queries] - first
    cuts = np.flatnonzero(np.diff((n_pairs + vocab_size).cumsum() // max_pairs)) + 1
    for block, begin, n in zip(*(np.split(part, cuts) for part in (queries, first, n_pairs)), strict=True):
        row = np.arange(len(block)).repeat(n)
        earlier = order[(begin - n.cumsum() + n)[row] + np.arange(len(row))]
        if n_counted < length:
            is_counted = earlier % length + 1 < n_counted
            row, earlier = row[is_counted], earlier[is_counted]
        yield block, row, earlier


def cache_probs(
    ids: Ints,
    n_read: int,
    vocab_size: int,
    window: int = WINDOW,
    max_pairs: int = MAX_PAIRS,
    n_counted: int | None = None,
) -> Floats:
    """Return the distribution after each of the last T characters by the cache model of characters, (B, T, V).

    Args:
        ids: character indices, int64, (B, S + T).
        n_read: T.
        vocab_size: V.
        window: length of the cache in characters.
        max_pairs: see `earlier_occurrences`.
        n_counted: R; None counts all.
    """
    (n_texts, length), flat = ids.shape, ids.ravel()
    probs = np.full((n_texts, n_read, vocab_size), 1 / vocab_size)
    if length < MIN_CONTEXT:
        return probs
    contexts = np.full_like(ids, -1)
    last = np.lib.stride_tricks.sliding_window_view(ids, MIN_CONTEXT, axis=1)
    contexts[:, MIN_CONTEXT - 1 :] = last @ vocab_size ** np.arange(MIN_CONTEXT)
    for queries, row, earlier in earlier_occurrences(contexts, n_read, vocab_size, window, max_pairs, n_counted):
        current, followers = queries[row], [(row, flat[earlier + 1])]
        for k in range(MIN_CONTEXT + 1, MAX_CONTEXT + 1):
            same = np.flatnonzero((earlier % length >= k - 1) & (flat[earlier - k + 1] == flat[current - k + 1]))
            row, current, earlier = row[same], current[same], earlier[same]
            followers.append((row, flat[earlier + 1]))
        counts = _count(followers, len(queries), vocab_size)
        probs[queries // length, queries % length - (length - n_read)] = interpolate_counts(counts)
    return probs


def word_cache_probs(
    ids: Ints,
    contexts: Ints,
    n_read: int,
    vocab_size: int,
    window: int = WINDOW,
    max_pairs: int = MAX_PAIRS,
    n_counted: int | None = None,
) -> Floats:
    """Return the distribution after each of the last T characters by the cache model of words, (B, T, V).

    Args:
        ids: character indices, int64, (B, S + T).
        contexts: b and v b after each character, see `word_contexts`, int64, (2, B, S + T).
        n_read: T.
        vocab_size: V.
        window: length of the cache in characters.
        max_pairs: see `earlier_occurrences`.
        n_counted: R; None counts all.
    """
    (n_texts, length), flat = ids.shape, ids.ravel()
    probs = np.full((n_texts, n_read, vocab_size), 1 / vocab_size)
    prefix, bigram = contexts
    shortest = np.where(prefix == 0, bigram, prefix)
    pairs = earlier_occurrences(shortest, n_read, vocab_size, window, max_pairs, n_counted)
    prefix, bigram = prefix.ravel(), bigram.ravel()
    for queries, row, earlier in pairs:
        symbol, current = flat[earlier + 1], queries[row]
        same_prefix, same_bigram = prefix[current] != 0, bigram[current] == bigram[earlier]
        counts = _count([(row[same], symbol[same]) for same in (same_prefix, same_bigram)], len(queries), vocab_size)
        probs[queries // length, queries % length - (length - n_read)] = interpolate_counts(counts)
    return probs


def _count(followers: Sequence[tuple[Ints | int, Ints]], n_rows: int, vocab_size: int) -> Ints:
    """Return the counts of each symbol, (K, A, V), from the rows and symbols after each of K contexts, both (P,)."""
    shape = len(followers), n_rows, vocab_size
    keys = [(k * n_rows + row) * vocab_size + symbol for k, (row, symbol) in enumerate(followers)]
    counts: Ints = np.bincount(np.concatenate(keys), minlength=math.prod(shape)).reshape(shape)
    return counts


class CacheCounts:
    """Cache model of characters, read character by character: one text.

    A step takes time proportional to the characters read, at most the window.

    Each earlier position has a mask of 8 bits. Its lowest k bits are set if the k characters before the position equal
    the last k characters read. With each character read:

        mask <- 2 mask + 1 mod 256 where the character before the position is the one that was read, else 0

    Args:
        vocab_size: V.
        window: length of the cache in characters.
    """

    def __init__(self, vocab_size: int, window: int = WINDOW) -> None:
        self.vocab_size, self.n_read = vocab_size, 0
        self._read: NDArray[np.integer] = np.zeros(window, np.min_scalar_type(vocab_size))  # plus one; the oldest first
        self._mask = np.zeros(window, np.uint8)
        self._equal = np.empty(window, np.bool_)

    def reset(self) -> None:
        """Forget all characters."""
        self.n_read = 0
        self._read.fill(0)
        self._mask.fill(0)

    def step(self, char: int, count: bool = True) -> Floats:
        """Return the distribution after one more character, (1, V), which is added to the counts if `count`."""
        self.n_read += 1
        read, mask, equal = (part[-self.n_read :] for part in (self._read, self._mask, self._equal))
        np.equal(read, read.dtype.type(char + 1), out=equal)
        np.add(mask, mask, out=mask)
        np.add(mask, 1, out=mask)
        np.multiply(mask, equal, out=mask)
        read[:-1] = read[1:]  # now the character after each position stands at it
        read[-1] = char + 1 if count else 0
        matches = np.flatnonzero((mask >= 2**MIN_CONTEXT - 1) & (read > 0))
        level, symbol = _LEVEL[mask[matches]], read[matches].astype(np.intp) - 1
        counts = np.bincount(level * self.vocab_size + symbol, minlength=N_LEVELS * self.vocab_size)
        counts = counts.reshape(N_LEVELS, 1, self.vocab_size)
        # A match of k characters is also a match of all shorter contexts.
        return interpolate_counts(counts[::-1].cumsum(axis=0)[::-1])


_LEVEL = np.array([mask.bit_count() - MIN_CONTEXT for mask in range(256)])  # 0 for 3 equal characters


class WordCacheCounts:
    """Cache model of words, read character by character: one text, with its last contexts in a ring buffer.

    Args:
        vocab_size: V.
        window: length of the cache in characters.
    """

    def __init__(self, vocab_size: int, window: int = WINDOW) -> None:
        self.vocab_size, self.n_read = vocab_size, 0
        self._symbol: NDArray[np.integer] = np.zeros(window, np.min_scalar_type(vocab_size))  # after each position
        self._shortest, self._bigram = np.full((2, window), -1)  # b, or v b between words; v b

    def reset(self) -> None:
        """Forget all characters."""
        self.n_read = 0
        self._shortest.fill(-1)

    def step(self, char: int, contexts: Sequence[int], count: bool = True) -> Floats:
        """Return the distribution after one more character and its contexts b and v b, (1, V).

        Args:
            char: its index.
            contexts: b and v b after it.
            count: add it to the counts.
        """
        prefix, bigram = contexts
        shortest, here = prefix or bigram, self.n_read % len(self._shortest)
        self._symbol[here - 1] = char
        if not count:
            self._shortest[here - 1] = -1
        matches = np.flatnonzero(self._shortest[: self.n_read] == shortest)
        symbol = self._symbol[matches].astype(np.intp)
        after_bigram = symbol[self._bigram[matches] == bigram]
        counts = _count([(0, symbol if prefix else symbol[:0]), (0, after_bigram)], 1, self.vocab_size)
        self._shortest[here], self._bigram[here] = shortest, bigram
        self.n_read += 1
        return interpolate_counts(counts)
