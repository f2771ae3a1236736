"""Levels of a trie: sorted keys and counts of all k-grams of one length.

The nodes of level k are the distinct k-grams, numbered in the order of their keys. Level 0 is the root, node 0:

    key = (node of the first k - 1 symbols) * V + last symbol

A child of a node is found by binary search, and all children of a node are adjacent.

Shapes: N characters of text, U nodes of a level, V vocab_size, n order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


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

    def span(self, parents: Any, vocab_size: int) -> Span:
        """Find the children of a parent, int, or of M parents, int64, (M,); the search is faster if they ascend."""
        first = self.keys.searchsorted(parents * vocab_size)
        return Span(self, parents, first, self.keys.searchsorted((parents + 1) * vocab_size))

    def starts(self, n_parents: int, vocab_size: int) -> NDArray[Any]:
        """Return the first child of each of P parents, then U, the end of the last one's, and 0, (P + 2,).

        The children of node i are those from starts[i] to starts[i + 1]; there are none for i = -1.
        """
        found: NDArray[Any] = np.zeros(n_parents + 2, np.int32 if len(self.keys) < 2**31 else np.int64)
        np.cumsum(np.bincount(self.keys // vocab_size, minlength=n_parents), out=found[1:-1])
        return found


class Span(NamedTuple):
    """The children of one parent, or of M.

    Attributes:
        level: the level of the children.
        parents: their nodes in the level above, int or int64, (M,).
        first: the first child of each.
        stop: the last child of each, plus one.
    """

    level: Level
    parents: Any
    first: Any
    stop: Any


def count_keys(keys: Ints) -> Level:
    """Return the level of some keys, int64, (N,), by the number of times each occurs."""
    if keys.max(initial=0) < len(keys):  # counting is faster than sorting
        n = np.bincount(keys)
        found = np.flatnonzero(n)
        return Level(found, n[found].astype(np.int32))
    found, n = np.unique(keys, return_counts=True)
    return Level(found, n.astype(np.int32))


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
    positions = np.arange(n, dtype=np.int32)
    for j in reversed(range(order)):
        positions = positions[np.argsort(padded[j:][positions], kind="stable")]
    node = np.zeros(n, np.int32)  # of the (k-1)-gram that begins at each position
    node_at = np.zeros(n + 1, np.int32)  # the same by position
    for k in range(1, order + 1):
        fits = positions <= n - k
        positions, node = positions[fits], node[fits]
        symbol = padded[k - 1 :][positions]
        is_new = np.ones(len(positions), bool)
        is_new[1:] = (node[1:] != node[:-1]) | (symbol[1:] != symbol[:-1])
        first = np.flatnonzero(is_new)
        keys = node[first].astype(np.int64) * vocab_size + symbol[first].astype(np.int64) - 1
        counts = np.diff(first, append=len(positions))
        if n_known:
            counts = np.add.reduceat(positions > n_known - k, first, dtype=np.int32)
        yield Level(keys, counts.astype(np.int32)), node_at[positions[first] + 1]
        node = np.cumsum(is_new, dtype=np.int32) - np.int32(1)
        node_at[positions] = node


def merge_level(level: Level, added: Level) -> tuple[Level, Ints, Ints]:
    """Add the counts of two levels with the same parents.

    Returns:
        level: the keys of either, and the sums of their counts.
        inserted: where in the first level a node of the second was inserted, ascending.
        nodes: the number of each node of the second level in the result, (U,).
    """
    slots = level.keys.searchsorted(added.keys)
    is_new = level.find(added.keys) < 0
    nodes, inserted = slots + is_new.cumsum() - is_new, slots[is_new]
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
        # A node inserted into the level above increases the parent numbers, and so the keys, of all later children.
        moves = np.bincount(level.keys.searchsorted(inserted * vocab_size), minlength=len(level.keys) + 1)
        keys = level.keys + moves[:-1].cumsum() * vocab_size
        parents = more.keys // vocab_size
        more_keys = more.keys + (nodes[parents] - parents) * vocab_size
        both, inserted, nodes = merge_level(Level(keys, level.counts), Level(more_keys, more.counts))
        merged.append(both)
    return merged
