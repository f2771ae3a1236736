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

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from charlm.errors import DataError

Level = tuple[Tensor, Tensor]  # keys and counts


def find(keys: Tensor, wanted: Tensor) -> Tensor:
    """Return the places of `wanted` in the ascending `keys`, -1 where one is not there, long, of its shape."""
    wanted = wanted.contiguous()
    place = torch.searchsorted(keys, wanted)
    return torch.where(torch.searchsorted(keys, wanted, right=True) > place, place, -1)


def levels(codes: Tensor, vocab_size: int, order: int) -> Iterator[Level]:
    """Yield keys and counts of level 1, 2, ..., n of a text.

    All places of the text are sorted once by the n symbols from there on, from the last symbol to the first with a
    stable sort; then equal k-grams are neighbours at every level. Some 26 bytes a character are needed for that.

    Args:
        codes: the text as indices, (N,).
        vocab_size: V.
        order: n.

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
        counts = np.diff(first, append=len(place)).astype(np.int32)
        yield torch.from_numpy(keys), torch.from_numpy(counts)
        node = np.cumsum(is_new, dtype=np.int32) - np.int32(1)


def neighbours(keys: list[Tensor], vocab_size: int, codes: Tensor) -> Iterator[Tensor]:
    """Yield for level 1, ..., n - 1 how many different symbols stand before each k-gram.

    The beginning of the text counts as one of them, so that none has 0.

    Args:
        keys: of level 1, ..., n, each int64, (U,).
        vocab_size: V.
        codes: the text as indices, (N,).

    Yields:
        counts, int32, (U,).
    """
    node = torch.tensor(0)
    shorter = torch.zeros_like(keys[0])  # node of each k-gram without its first symbol
    for here, longer, symbol in zip(keys, keys[1:], codes[: len(keys)].tolist(), strict=False):
        shorter = torch.searchsorted(here, shorter[longer // vocab_size] * vocab_size + longer % vocab_size)
        counts = torch.bincount(shorter, minlength=len(here))
        node = torch.searchsorted(here, node * vocab_size + symbol)  # of the k-gram at the beginning
        counts[node] += 1
        yield counts.int()


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
        codes = codes.cpu()
        found = list(levels(codes, self.vocab_size, self.order))
        if self.by_neighbours:
            keys = [keys for keys, _ in found]
            found[:-1] = zip(keys, neighbours(keys, self.vocab_size, codes), strict=False)
        self.replace(found)

    def restore(self, stored: Sequence[Level]) -> None:
        """Take over levels 1, ..., n that were stored.

        Raises:
            ValueError: they are no trie.
        """
        n_above = 1
        for k, (keys, counts) in enumerate(stored, 1):
            if (
                (keys.dtype, counts.dtype) != (torch.int64, torch.int32)
                or keys.dim() != 1
                or keys.shape != counts.shape
            ):
                raise ValueError(f"level {k} is not a list of int64 keys and one of as many int32 counts")
            if len(keys) and not (0 <= keys[0] and keys[-1] < n_above * self.vocab_size):
                raise ValueError(f"level {k} has keys out of their range")
            if not (keys[1:] > keys[:-1]).all() or not (counts > 0).all():
                raise ValueError(f"level {k} has keys that do not ascend, or counts below 1")
            n_above = len(keys)
        self.replace(stored)

    def replace(self, found: Sequence[Level]) -> None:
        """Put levels 1, ..., n in the place of those there are."""
        device = self.level(1)[0].device
        for k, (keys, counts) in enumerate(found, 1):
            setattr(self, f"keys_{k}", keys.to(device))
            setattr(self, f"counts_{k}", counts.to(device))

    def walk(self, chars: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Find the k-grams that end at each character, k = 0..n-1.

        Args:
            chars: indices, long, (B, T).
            state: nodes at the character before, long, (B, n); None when nothing is known of what was before.

        Returns:
            nodes: the place of each k-gram in its level, -1 where the trie has none, long, (B, T, n).
            state: those at the last character, long, (B, n).
        """
        if state is None:
            state = chars.new_full((len(chars), self.order), -1)
            state[:, 0] = 0
        nodes = [torch.zeros_like(chars)]
        for k in range(1, self.order):
            before = torch.cat([state[:, k - 1 : k], nodes[-1][:, :-1]], dim=1)  # -1 gives a key below all others
            nodes.append(find(self.level(k)[0], before * self.vocab_size + chars))
        stacked = torch.stack(nodes, dim=-1)
        return stacked, stacked[:, -1]

    def followers(self, k: int, nodes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Find what follows k-grams.

        Args:
            k: level of the nodes, 0..n-1.
            nodes: -1 has no children, long, (M,).

        Returns:
            row: for each child the place in `nodes` of its parent, long, (P,).
            symbol: by which it follows, long, (P,).
            count: int32, (P,).
        """
        keys, counts = self.level(k + 1)
        first = torch.searchsorted(keys, nodes * self.vocab_size)
        n_children = torch.searchsorted(keys, (nodes + 1) * self.vocab_size) - first
        row = torch.arange(len(nodes), device=nodes.device).repeat_interleave(n_children)
        place = torch.arange(len(row), device=nodes.device) + (first - n_children.cumsum(0) + n_children)[row]
        return row, keys[place] % self.vocab_size, counts[place]
