"""Trie of the k-grams of a text, k = 1..n: one sorted array of keys for each level.

The nodes of level k are the distinct k-grams, numbered in the order of their keys. Level 0 is the root, node 0:

    key = (node of the first k - 1 symbols) * V + last symbol

A child of a node is found by binary search, all children of a node are adjacent, and the node of the k-gram that ends
at a character follows from the node of the (k-1)-gram that ends one character before.

Shapes: N characters of text, U nodes of a level, B batch_size, T characters, V vocab_size, n order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlm.errors import DataError, UsageError

Ints = NDArray[np.int64]
MAX_ORDER = 32


class Level(NamedTuple):
    """The k-grams of one length.

    Attributes:
        keys: ascending, int64, (U,).
        counts: at least 1, int32, (U,).
    """

    keys: Ints
    counts: NDArray[np.int32]

    @classmethod
    def empty(cls) -> Level:
        """Return a level without nodes."""
        return cls(np.empty(0, np.int64), np.empty(0, np.int32))

    def check(self, n_keys: int, name: str) -> None:
        """Check a level that was read from a file.

        Args:
            n_keys: upper bound of the keys.
            name: for the message.

        Raises:
            ValueError: the arrays are not a level.
        """
        keys, counts = self
        if keys.dtype != np.int64 or counts.dtype != np.int32 or keys.ndim != 1 or keys.shape != counts.shape:
            raise ValueError(f"{name}: keys must be int64 and counts int32, both of one axis and of equal length")
        if len(keys) and not (keys[0] >= 0 and int(keys[-1]) < n_keys):
            raise ValueError(f"{name}: keys are out of range")
        if not ((keys[1:] > keys[:-1]).all() and (counts > 0).all()):
            raise ValueError(f"{name}: keys must ascend, and counts be at least 1")

    def find(self, keys: Ints) -> Ints:
        """Return the nodes that have these keys, -1 where there is none, int64, of the same shape."""
        if not len(self.keys):
            return np.full(keys.shape, -1)
        nodes = self.keys.searchsorted(keys)
        return np.where(self.keys.take(nodes, mode="clip") == keys, nodes, -1)


def count_levels(
    ids: NDArray[np.integer[Any]], vocab_size: int, order: int, n_known: int = 0
) -> Iterator[tuple[Level, NDArray[np.int32]]]:
    """Count the k-grams of a text, k = 1, ..., n.

    The positions of the text are sorted once by the n symbols that begin there, with one stable sort for each of these
    symbols from the last to the first; then equal k-grams are adjacent at every level. This needs some 30 bytes a
    character.

    Args:
        ids: the text as indices, (N,).
        vocab_size: V.
        order: n.
        n_known: k-grams that end within this number of first characters are listed with a count of 0.

    Yields:
        level: the k-grams and their counts.
        suffixes: the node of each k-gram without its first symbol, in level k - 1, int32, (U,).
    """
    n = len(ids)
    padded = np.zeros(n + order - 1, np.min_scalar_type(vocab_size))  # 0 follows the text; symbols are one higher
    padded[:n] = ids
    padded[:n] += 1
    place = np.arange(n, dtype=np.int32)
    for j in reversed(range(order)):
        place = place[np.argsort(padded[j:][place], kind="stable")]
    node = np.zeros(n, np.int32)  # of the (k-1)-gram that begins at each of `place`
    node_at = np.zeros(n + 1, np.int32)  # the same by position
    for k in range(1, order + 1):
        fits = place <= n - k
        place, node = place[fits], node[fits]
        symbol = padded[k - 1 :][place]
        is_new = np.ones(len(place), bool)
        is_new[1:] = (node[1:] != node[:-1]) | (symbol[1:] != symbol[:-1])
        first = np.flatnonzero(is_new)
        keys = node[first].astype(np.int64) * vocab_size + symbol[first].astype(np.int64) - 1
        counts = np.diff(first, append=len(place))
        if n_known:
            counts = np.add.reduceat(place > n_known - k, first, dtype=np.int32)
        yield Level(keys, counts.astype(np.int32)), node_at[place[first] + 1]
        node = np.cumsum(is_new, dtype=np.int32) - np.int32(1)
        node_at[place] = node


def merge_level(level: Level, added: Level) -> tuple[Level, Ints, Ints]:
    """Add the counts of two levels with the same parents.

    Returns:
        level: the keys of either, and the sums of their counts.
        inserted: where in the first level a node of the second was inserted, ascending.
        nodes: the number of each node of the second level in the result, (U,).
    """
    places = level.keys.searchsorted(added.keys)
    is_new = level.find(added.keys) < 0
    nodes, inserted = places + is_new.cumsum() - is_new, places[is_new]
    keys = np.insert(level.keys, inserted, added.keys[is_new])
    counts = np.insert(level.counts, inserted, 0)
    counts[nodes] += added.counts
    return Level(keys, counts), inserted, nodes


def merge_levels(levels: Sequence[Level], added: Sequence[Level], vocab_size: int) -> list[Level]:
    """Add the counts of two tries.

    Args:
        levels: levels 1, ..., n of one.
        added: levels 1, ..., n of the other.
        vocab_size: V.
    """
    inserted, nodes, merged = np.empty(0, np.int64), np.zeros(1, np.int64), []
    for level, more in zip(levels, added, strict=True):
        # Each node inserted above moves the keys of the children of later nodes.
        moves = np.bincount(level.keys.searchsorted(inserted * vocab_size), minlength=len(level.keys) + 1)
        keys = level.keys + moves[:-1].cumsum() * vocab_size
        parents = more.keys // vocab_size
        more_keys = more.keys + (nodes[parents] - parents) * vocab_size
        both, inserted, nodes = merge_level(Level(keys, level.counts), Level(more_keys, more.counts))
        merged.append(both)
    return merged


class Trie:
    """The k-grams of a text, k = 1..n.

    Args:
        vocab_size: V.
        order: n.
        continuation: below level n, count the different symbols before a k-gram (the beginning of a text is one)
            instead of its occurrences.

    Attributes:
        levels: the k-grams of length 1, ..., n; empty before `count` or `load`.

    Raises:
        UsageError: the order is too high.
    """

    def __init__(self, vocab_size: int, order: int, continuation: bool) -> None:
        if order > MAX_ORDER:
            raise UsageError(f"order must be at most {MAX_ORDER}, got {order}")
        self.vocab_size, self.order, self.continuation = vocab_size, order, continuation
        self.levels = [Level.empty()] * order

    @property
    def n_counts(self) -> int:
        """Number of counts."""
        return sum(len(level.keys) for level in self.levels)

    def count(self, ids: NDArray[np.integer[Any]]) -> None:
        """Count the k-grams of a text, replacing earlier counts.

        Args:
            ids: the text as indices, (N,).

        Raises:
            DataError: the text has fewer characters than the order, or 2^31 or more.
        """
        if not self.order <= len(ids) < 2**31:
            raise DataError(
                f"n-grams of order {self.order} need a text of at least {self.order} and fewer than 2^31 characters, "
                f"got {len(ids)}"
            )
        self.levels = [Level.empty()] * self.order
        self.update(ids, 0)

    def update(self, ids: NDArray[np.integer[Any]], n_known: int) -> None:
        """Add the k-grams of a text to the present counts.

        Args:
            ids: the text as indices, (N,).
            n_known: number of its first characters that are counted already.
        """
        first = max(0, n_known - self.order + 1)
        ids = ids[first:]
        found = list(count_levels(ids, self.vocab_size, self.order, n_known - first))
        added = [level for level, _ in found]
        if self.continuation:
            added = self._continuation_counts(ids, n_known, added, [suffixes for _, suffixes in found])
        self.levels = merge_levels(self.levels, added, self.vocab_size) if len(self.levels[0].keys) else added

    def _continuation_counts(
        self,
        ids: NDArray[np.integer[Any]],
        n_known: int,
        added: Sequence[Level],
        suffixes: Sequence[NDArray[np.int32]],
    ) -> list[Level]:
        """Replace the counts below level n by the number of symbols that have not stood before a k-gram so far."""
        counted, nodes = [], np.zeros(1, np.int64)  # the node of each added k-gram in this trie, -1 if there is none
        for k, (level, more) in enumerate(zip(self.levels, added, strict=True)):
            parents = more.keys // self.vocab_size
            nodes = level.find(more.keys + (nodes[parents] - parents) * self.vocab_size)
            if k:
                counts = np.bincount(suffixes[k][nodes < 0], minlength=len(added[k - 1].keys))
                counted.append(Level(added[k - 1].keys, counts.astype(np.int32)))
        node = 0
        for k, (level, char) in enumerate(zip(counted, ids.tolist(), strict=False), 1):
            node = int(level.keys.searchsorted(node * self.vocab_size + char))
            level.counts[node] += k > n_known  # the beginning of the text stands before its first k symbols
        return [*counted, added[-1]]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what a checkpoint stores, by name."""
        levels = enumerate(self.levels, 1)
        return {f"{name}_{k}": array for k, level in levels for name, array in level._asdict().items()}

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Replace the counts by stored ones.

        Args:
            arrays: by the names of `arrays`.

        Raises:
            ValueError: they are not valid counts of this order and vocabulary.
        """
        if arrays.keys() != self.arrays().keys():
            raise ValueError(f"counts missing or in excess: {', '.join(sorted(arrays.keys() ^ self.arrays().keys()))}")
        levels = [Level(arrays[f"keys_{k}"], arrays[f"counts_{k}"]) for k in range(1, self.order + 1)]
        n_parents = 1
        for k, level in enumerate(levels, 1):
            level.check(n_parents * self.vocab_size, f"level {k}")
            n_parents = len(level.keys)
        self.levels = levels

    def walk(self, chars: Ints) -> Ints:
        """Find the k-grams that end at each of the last T characters, k = 1..n-1.

        Args:
            chars: indices, int64, (B, n - 1 + T); -1 before the first one that is known.

        Returns:
            the node of each k-gram, -1 if there is none, int64, (n - 1, B, T).
        """
        n_before = self.order - 1
        nodes = np.empty((n_before, len(chars), chars.shape[1] - n_before), np.int64)
        found = np.zeros_like(chars)
        for k, level in enumerate(self.levels[:-1], 1):
            found = level.find(found[:, :-1] * self.vocab_size + chars[:, k:])  # -1 gives a key below all others
            nodes[k - 1] = found[:, n_before - k :]
        return nodes

    def walk_char(self, nodes: Sequence[int], char: int) -> list[int]:
        """Return the nodes after one more character, k = 1..n-1, from those before it; see `walk`."""
        found, before = [], [0, *nodes][: self.order - 1]
        for (keys, _), node in zip(self.levels, before, strict=False):
            key = node * self.vocab_size + char
            place = int(keys.searchsorted(key)) if node >= 0 else len(keys)
            found.append(place if place < len(keys) and keys[place] == key else -1)
        return found
