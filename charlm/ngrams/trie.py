"""Trie of the k-grams of a text, k = 1..n, level by level (levels.py).

The node of the k-gram that ends at a character follows from the node of the (k-1)-gram that ends one character before.

Shapes: N characters of text, U nodes of a level, B batch_size, T characters, V vocab_size, n order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.errors import DataError
from charlm.ngrams.levels import Ints, Level, count_levels, merge_levels
from charlm.options.ranges import checked_number

COUNTS = "counts."  # prefix of the names of counts in a checkpoint


class Trie:
    """The k-grams of a text, k = 1..n.

    Args:
        vocab_size: V.
        order: n.
        continuation: continuation counts below level n: the number of different symbols that precede a k-gram (the
            beginning of a text counts as one) instead of its occurrences.

    Attributes:
        levels: the k-grams of length 1, ..., n; empty before `count` or `load`.

    Raises:
        UsageError: the order is out of range.
    """

    def __init__(self, vocab_size: int, order: int, continuation: bool) -> None:
        self.vocab_size, self.order, self.continuation = vocab_size, checked_number("order", order), continuation
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
        """Replace the counts below level n by the number of symbols that precede a k-gram for the first time."""
        counted, nodes = [], np.zeros(1, np.int64)  # the node of each added k-gram in this trie, -1 if there is none
        for k, (level, more) in enumerate(zip(self.levels, added, strict=True)):
            parents = more.keys // self.vocab_size
            nodes = level.find(more.keys + (nodes[parents] - parents) * self.vocab_size)
            if k:
                counts = np.bincount(suffixes[k][nodes < 0], minlength=len(added[k - 1].keys))
                counted.append(Level(added[k - 1].keys, counts.astype(np.int32)))
        node = 0
        for k, (level, char) in enumerate(zip(counted, ids[: len(counted)].tolist(), strict=False), 1):
            node = int(level.keys.searchsorted(node * self.vocab_size + char))
            level.counts[node] += k > n_known  # the beginning of the text precedes its first k symbols
        return [*counted, added[-1]]

    @property
    def kind(self) -> tuple[Any, ...]:
        """Counts of one kind can be added: class, order, and whether they are continuation counts."""
        return type(self), self.order, self.continuation

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
            raise ValueError(f"counts missing or unexpected: {', '.join(sorted(arrays.keys() ^ self.arrays().keys()))}")
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
            child = int(keys.searchsorted(key)) if node >= 0 else len(keys)
            found.append(child if child < len(keys) and keys[child] == key else -1)
        return found


def widened(
    arrays: Mapping[str, NDArray[Any]], n_old: int, char_classes: NDArray[np.uint8], lower: Ints
) -> dict[str, NDArray[Any]]:
    """Return stored counts for a vocabulary with further symbols after the present ones.

    Args:
        arrays: by the names of `Trie.arrays`.
        n_old: vocab_size of these counts.
        char_classes: class of each symbol of the new vocabulary, uint8, (V,).
        lower: index of the lower-case form of each, int64, (V,); symbols of the old vocabulary keep theirs.
    """
    vocab_size = len(char_classes)
    found = {
        name: array // n_old * vocab_size + array % n_old if "keys_" in name else array
        for name, array in arrays.items()
    }
    if "lower" in arrays:
        found["lower"] = np.concatenate([arrays["lower"], lower[n_old:]])
    return found | ({"char_classes": char_classes} if "char_classes" in arrays else {})
