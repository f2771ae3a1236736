"""A trie: the k-grams of a text level by level, as levels.py has them; counted, counted on, walked.

Shapes: N characters of text, U nodes of a level, B batch_size, T characters, V vocab_size, n order.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charlm.errors import DataError
from charlm.ngrams.levels import Level, check_level, continuation_counts, find, levels, merge_levels


class Trie(nn.Module):
    """The k-grams of a text, k = 1..n; none at all before `count` or `restore`.

    Args:
        vocab_size: V.
        order: n.
        by_neighbours: below level n, do not count how often a k-gram occurs but after how many different symbols; the
            beginning of a text is one.
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

    def count(self, ids: Tensor) -> None:
        """Count the k-grams of a text.

        Args:
            ids: the text as indices, (N,).

        Raises:
            DataError: the text has fewer characters than the order, or 2^31 or more.
        """
        if not self.order <= len(ids) < 2**31:
            raise DataError(f"{len(ids)} characters cannot be counted: at least {self.order}, and fewer than 2^31")
        nothing = torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int32)
        self.replace([nothing] * self.order)
        self.update_counts(ids, 0)

    def update_counts(self, ids: Tensor, n_known: int) -> None:
        """Count more: a text beside what was counted, or how it goes on.

        Args:
            ids: the text as indices, (N,).
            n_known: so many of its first characters were counted before.
        """
        first = max(0, n_known - self.order + 1)
        ids = ids[first:].cpu()
        here = [(keys.cpu(), counts.cpu()) for keys, counts in map(self.level, range(1, self.order + 1))]
        more = list(levels(ids, self.vocab_size, self.order, n_known - first))
        if self.by_neighbours:
            keys = [keys for keys, _ in more]
            counts = list(continuation_counts([keys for keys, _ in here], keys, self.vocab_size))
            node = 0  # of the first k symbols: before these stands the beginning of the text
            for k in range(1, min(self.order, len(ids) + 1)):
                node = int(torch.searchsorted(keys[k - 1], node * self.vocab_size + int(ids[k - 1])))
                counts[k - 1][node] += k > n_known
            more[:-1] = zip(keys, counts, strict=False)
        self.replace(list(merge_levels(here, more, self.vocab_size)))

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
