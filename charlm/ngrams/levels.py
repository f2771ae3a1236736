"""The levels of a trie: the k-grams of a text, how often each occurs, and what follows it.

Level k has a node for every distinct k-gram, k = 1..n; level 0 is the root, node 0. The nodes of a level are
numbered in the order of their keys:

    key = (node of the first k - 1 symbols) * V + last symbol

So one sorted array of keys is all there is to a level. The child of a node by a symbol is one binary search away; all
children of a node lie side by side; and the node of the k-gram that ends at a character follows from the node of the
(k-1)-gram that ends one character before. Nothing is hashed, nothing is estimated.

Shapes: N characters of text, U nodes of a level, V vocab_size, n order, M, P any number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

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


def levels(ids: Tensor, vocab_size: int, order: int, n_known: int = 0) -> Iterator[Level]:
    """Yield keys and counts of level 1, 2, ..., n of a text.

    All places of the text are sorted once by the n symbols from there on, from the last symbol to the first with a
    stable sort; then equal k-grams are neighbours at every level. Some 26 bytes a character are needed for that.

    Args:
        ids: the text as indices, (N,).
        vocab_size: V.
        order: n.
        n_known: a k-gram that ends within so many of the first characters is given, but not counted.

    Yields:
        keys, int64, (U,), and counts, int32, (U,).
    """
    n = len(ids)
    padded = np.zeros(n + order - 1, dtype=np.min_scalar_type(vocab_size))  # 0 is the end, symbols are one higher
    padded[:n] = ids.numpy()
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


def merge_level(level: Level, more: Level) -> tuple[Level, Tensor, Tensor]:
    """Add one level's counts to another's, in a time that grows with their keys' number alone.

    Args:
        level: keys, int64, (U,), and counts, int32, (U,).
        more: keys, int64, (P,), some of which may be in `level`, too, and counts, int32, (P,).

    Returns:
        both: the keys of either, and the counts.
        here: the place there of each key of `level`, long, (U,).
        there: of each of `more`, long, (P,).
    """
    (keys, counts), (more_keys, more_counts) = level, more
    if not len(keys):
        return more, keys, torch.arange(len(more_keys))
    place, is_new = torch.searchsorted(keys, more_keys), find(keys, more_keys) < 0
    n_before = torch.bincount(place[is_new], minlength=len(keys) + 1).cumsum(0)
    here = torch.arange(len(keys)) + n_before[:-1]
    there = place + is_new.cumsum(0) - is_new.long()
    n = len(keys) + int(n_before[-1])
    both, total = keys.new_empty(n), counts.new_zeros(n)
    both[here], both[there], total[here] = keys, more_keys, counts
    return (both, total.index_add_(0, there, more_counts)), here, there


def merge_levels(here: Sequence[Level], more: Sequence[Level], vocab_size: int) -> Iterator[Level]:
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
        both, node, more_node = merge_level((keys, counts), (more_keys, more_counts))
        yield both


def continuation_counts(here: Sequence[Tensor], more: Sequence[Tensor], vocab_size: int) -> Iterator[Tensor]:
    """Yield for level 1, ..., n - 1 how many symbols stand before each k-gram there that did not do so here.

    Args:
        here: the keys of level 1, ..., n of a trie, each int64, (U,).
        more: those of another.
        vocab_size: V.

    Yields:
        counts for the k-grams of `more`, int32, (U,).
    """
    known = torch.zeros(1, dtype=torch.int64)  # where each k-gram of `more` is here, -1 where it is not
    shorter, suffixes = torch.zeros_like(more[0]), None  # node of each without its first symbol, among the suffixes
    for keys, more_keys in zip(here, more, strict=True):
        above, symbol = more_keys // vocab_size, more_keys % vocab_size
        known = find(keys, known[above] * vocab_size + symbol)
        if suffixes is not None:
            shorter = torch.searchsorted(suffixes, shorter[above] * vocab_size + symbol)
            yield torch.bincount(shorter[known < 0], minlength=len(suffixes)).int()
        suffixes = more_keys
