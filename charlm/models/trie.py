"""A trie: the k-grams of a text level by level, how often each occurs, and what follows it.

Level k has a node for every distinct k-gram, k = 1..n; level 0 is the root, node 0. The nodes of a level are
numbered in the order of their keys:

    key = (node of the first k - 1 symbols) * V + last symbol

So one sorted array of keys is all there is to a level. The child of a node by a symbol is one binary search away; all
children of a node lie side by side; and the node of the k-gram that ends at a character follows from the node of the
(k-1)-gram that ends one character before. Nothing is hashed, nothing is estimated.

Shapes: N characters of text, U nodes of a level, B batch_size, T characters, V vocab_size, n order, M, P any number.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.errors import DataError

Level = tuple[Tensor, Tensor]  # keys and counts


def find(keys: Tensor, wanted: Tensor) -> Tensor:
    """Return the places of `wanted` in the ascending `keys`, -1 where one is not there, long, of its shape."""
    wanted = wanted.contiguous()
    place = torch.searchsorted(keys, wanted)
    return torch.where(torch.searchsorted(keys, wanted, right=True) > place, place, -1)


def followers(level: Level, nodes: Tensor, vocab_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Find what follows contexts.

    Args:
        level: where they are nodes, with keys node * V + symbol.
        nodes: -1 has no children, long, (M,).
        vocab_size: V.

    Returns:
        row: for each child the place in `nodes` of its parent, long, (P,).
        symbol: by which it follows, long, (P,).
        count: int32, (P,).
    """
    keys, counts = level
    first = torch.searchsorted(keys, nodes * vocab_size)
    n_children = torch.searchsorted(keys, (nodes + 1) * vocab_size) - first
    row = torch.arange(len(nodes), device=nodes.device).repeat_interleave(n_children)
    place = torch.arange(len(row), device=nodes.device) + (first - n_children.cumsum(0) + n_children)[row]
    return row, keys[place] % vocab_size, counts[place]


def check_level(level: Level, n_keys: int, name: str) -> None:
    """Check what is to be taken over as a level.

    Args:
        level: from a file.
        n_keys: all keys are below it.
        name: for the message.

    Raises:
        ValueError: it is none.
    """
    keys, counts = level
    if (keys.dtype, counts.dtype) != (torch.int64, torch.int32) or keys.dim() != 1 or keys.shape != counts.shape:
        raise ValueError(f"{name} is not a list of int64 keys and one of as many int32 counts")
    if len(keys) and not (0 <= keys[0] and keys[-1] < n_keys):
        raise ValueError(f"{name} has keys out of their range")
    if not (keys[1:] > keys[:-1]).all() or not (counts > 0).all():
        raise ValueError(f"{name} has keys that do not ascend, or counts below 1")


def levels(codes: Tensor, vocab_size: int, order: int, n_known: int = 0) -> Iterator[Level]:
    """Yield keys and counts of level 1, 2, ..., n of a text.

    All places of the text are sorted once by the n symbols from there on, from the last symbol to the first with a
    stable sort; then equal k-grams are neighbours at every level. Some 26 bytes a character are needed for that.

    Args:
        codes: the text as indices, (N,).
        vocab_size: V.
        order: n.
        n_known: a k-gram that ends within so many of the first characters is given, but not counted.

    Yields:
        keys, int64, (U,), and counts, int32, (U,).
    """
    n = len(codes)
    padded = np.zeros(n + order - 1, dtype=np.min_scalar_type(vocab_size))  # 0 is the end, symbols are one higher
    padded[:n] = codes.numpy()
    padded[:n] += 1
    place = np.arange(n, dtype=np.int32)
    for j in reversed(range(order)):
        place = place[np.argsort(padded[j:][place], kind="stable")]
    node = np.zeros(n, dtype=np.int32)  # of the (k-1)-gram at each place
    for k in range(1, order + 1):
        fits = place <= n - k
        place, node = place[fits], node[fits]
        symbol = padded[k - 1 :][place]
        is_new = np.ones(len(place), dtype=bool)
        is_new[1:] = (node[1:] != node[:-1]) | (symbol[1:] != symbol[:-1])
        first = np.flatnonzero(is_new)
        keys = node[first].astype(np.int64) * vocab_size + symbol[first].astype(np.int64) - 1
        counts = np.add.reduceat(place > n_known - k, first, dtype=np.int32)
        yield torch.from_numpy(keys), torch.from_numpy(counts)
        node = np.cumsum(is_new, dtype=np.int32) - np.int32(1)


def merged(here: Sequence[Level], more: Sequence[Level], vocab_size: int) -> Iterator[Level]:
    """Yield level 1, 2, ... of what was counted here and there together.

    Args:
        here: levels 1, ..., n of a trie.
        more: those of another.
        vocab_size: V.

    Yields:
        keys, int64, (U,), and counts, int32, (U,).
    """
    node = more_node = torch.zeros(1, dtype=torch.int64)  # where each node of the level above went
    for (keys, counts), (more_keys, more_counts) in zip(here, more, strict=True):
        keys = node[keys // vocab_size] * vocab_size + keys % vocab_size
        more_keys = more_node[more_keys // vocab_size] * vocab_size + more_keys % vocab_size
        both: Tensor = torch.unique(torch.cat([keys, more_keys]))
        node, more_node = torch.searchsorted(both, keys), torch.searchsorted(both, more_keys)
        total = counts.new_zeros(len(both)).index_add_(0, node, counts).index_add_(0, more_node, more_counts)
        yield both, total


def neighbours(keys: Sequence[Tensor], vocab_size: int) -> Iterator[Tensor]:
    """Yield for level 1, ..., n - 1 how many different symbols stand before each k-gram.

    Before one that occurs at the beginning of the text alone stands nothing; it gets a 1, too.

    Args:
        keys: of level 1, ..., n, each int64, (U,).
        vocab_size: V.

    Yields:
        counts, int32, (U,).
    """
    shorter = torch.zeros_like(keys[0])  # node of each k-gram without its first symbol
    for here, longer in itertools.pairwise(keys):
        shorter = torch.searchsorted(here, shorter[longer // vocab_size] * vocab_size + longer % vocab_size)
        yield torch.bincount(shorter, minlength=len(here)).clamp(min=1).int()


class Trie(nn.Module):
    """The k-grams of a text, k = 1..n; none at all before `count` or `restore`.

    Args:
        vocab_size: V.
        order: n.
        by_neighbours: below level n, do not count how often a k-gram occurs but after how many symbols.
    """

    def __init__(self, vocab_size: int, order: int, by_neighbours: bool) -> None:
        super().__init__()
        self.vocab_size, self.order, self.by_neighbours = vocab_size, order, by_neighbours
        for k in range(1, order + 1):
            self.register_buffer(f"keys_{k}", torch.empty(0, dtype=torch.int64))
            self.register_buffer(f"counts_{k}", torch.empty(0, dtype=torch.int32))

    def level(self, k: int) -> Level:
        """Return keys, int64, (U,), and counts, int32, (U,), of the k-grams."""
        return self.get_buffer(f"keys_{k}"), self.get_buffer(f"counts_{k}")

    def count(self, codes: Tensor) -> None:
        """Count the k-grams of a text.

        Args:
            codes: the text as indices, (N,).

        Raises:
            DataError: the text has fewer characters than the order, or 2^31 or more.
        """
        if not self.order <= len(codes) < 2**31:
            raise DataError(f"{len(codes)} characters cannot be counted: at least {self.order}, and fewer than 2^31")
        self._counted(list(levels(codes.cpu(), self.vocab_size, self.order)))

    def count_on(self, codes: Tensor, n_known: int) -> None:
        """Count more: a text beside what was counted, or how it goes on.

        Args:
            codes: the text as indices, (N,).
            n_known: so many of its first characters were counted before.
        """
        first = max(0, n_known - self.order + 1)
        more = levels(codes[first:].cpu(), self.vocab_size, self.order, n_known - first)
        here = [(keys.cpu(), counts.cpu()) for keys, counts in map(self.level, range(1, self.order + 1))]
        self._counted(list(merged(here, list(more), self.vocab_size)))

    def _counted(self, found: list[Level]) -> None:
        """Take over levels 1, ..., n, each with the number of times that a k-gram occurs."""
        if self.by_neighbours:
            keys = [keys for keys, _ in found]
            found[:-1] = zip(keys, neighbours(keys, self.vocab_size), strict=False)
        self.replace(found)

    def restore(self, stored: Sequence[Level]) -> None:
        """Take over levels 1, ..., n that were stored.

        Raises:
            ValueError: they are no trie.
        """
        n_above = 1
        for k, level in enumerate(stored, 1):
            check_level(level, n_above * self.vocab_size, f"level {k}")
            n_above = len(level[0])
        self.replace(stored)

    def replace(self, found: Sequence[Level]) -> None:
        """Put levels 1, ..., n in the place of those there are."""
        device = self.level(1)[0].device
        for k, (keys, counts) in enumerate(found, 1):
            setattr(self, f"keys_{k}", keys.to(device))
            setattr(self, f"counts_{k}", counts.to(device))

    def walk(self, chars: Tensor) -> Tensor:
        """Find the k-grams that end at each character, k = 0..n-1.

        Args:
            chars: indices, long, (B, T); -1 before the first one that is known.

        Returns:
            nodes: the place of each k-gram in its level, -1 where the trie has none, long, (B, T, n).
        """
        nodes = [torch.zeros_like(chars)]
        for k in range(1, self.order):
            before = torch.zeros_like(chars) if k == 1 else F.pad(nodes[-1][:, :-1], (1, 0), value=-1)
            nodes.append(find(self.level(k)[0], before * self.vocab_size + chars))  # -1 gives a key below all others
        return torch.stack(nodes, dim=-1)
