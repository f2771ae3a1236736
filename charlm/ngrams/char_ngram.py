"""Interpolated n-grams of characters, with Kneser-Ney or Witten-Bell smoothing.

The distribution after a context h uses the counts c(hw) of each symbol w after h. It is interpolated with that after
the next shorter context, down to the empty context and then to 1 / V for every index, 0 ("unknown") included;
interpolation.py has the formula.

    Witten-Bell: counts c(hw); each different symbol after h adds 1 to the back-off mass. Witten and Bell (1991), IEEE
                 Transactions on Information Theory 37(4), method C.
    Kneser-Ney:  counts c(hw) - D; each different symbol adds D to the back-off mass, with a discount D for counts of 1,
                 2, and 3 or more at each level. For all but the longest h, c(hw) is the number of different symbols
                 that precede hw in the text. Chen and Goodman (1998), An empirical study of smoothing techniques for
                 language modeling, TR-10-98, Harvard, "interpolated modified Kneser-Ney".

Shapes: B batch_size, T characters, V vocab_size, n order, C contexts of a position, M positions, K experts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.errors import UsageError
from charlm.ngrams.interpolation import Floats, discounts, interpolate, safe_log
from charlm.ngrams.levels import Ints, Span
from charlm.ngrams.trie import Trie

SMOOTHINGS = ("kneser-ney", "witten-bell")
CHUNK = 1024  # positions per block; temporary arrays should fit into the processor's cache
Contexts = Sequence[int] | Ints  # (C,) of one position, or (C, M)


class InterpolatedNGram(Trie):
    """Character n-grams as one expert: the distribution after the last n - 1 characters.

    Args:
        vocab_size: V.
        order: n.
        smoothing: one of `SMOOTHINGS`.

    Raises:
        UsageError: another smoothing, or too high an order.
    """

    n_experts: int = 1

    def __init__(self, vocab_size: int, order: int, smoothing: str = "kneser-ney") -> None:
        if smoothing not in SMOOTHINGS:
            raise UsageError(f"smoothing must be one of {', '.join(SMOOTHINGS)}, got {smoothing!r}")
        super().__init__(vocab_size, order, continuation=smoothing == "kneser-ney")
        self._fit_discounts()

    def _fit_discounts(self) -> None:
        self._discounts = np.ones((self.order, 4))
        if self.continuation:
            self._discounts[:] = [discounts(level.counts) for level in self.levels]
        uniform = np.full((1, self.vocab_size), 1 / self.vocab_size)
        sizes = [1, *(len(level.keys) for level in self.levels)]
        self._starts = [level.starts(n, self.vocab_size) for level, n in zip(self.levels, sizes, strict=False)]
        self._unigram = self._interpolate(uniform, slice(0, 1), [0])

    def _interpolate(self, lower: Floats, levels: slice, nodes: Any) -> Floats:
        """Return the distribution by the counts of some levels after nodes of the levels above; see `interpolate`."""
        parts = zip(self.levels[levels], self._starts[levels], nodes, strict=True)
        spans = [Span(level, node, starts[node], starts[node + 1]) for level, starts, node in parts]
        return interpolate(lower, spans, self._discounts[levels], self.continuation)

    def count(
        self,
        ids: NDArray[np.integer[Any]],
        char_classes: NDArray[np.uint8] | None = None,
        lower: Ints | None = None,
    ) -> None:
        """Count a text, replacing earlier counts.

        Args:
            ids: the text as indices, (N,).
            char_classes: class of each symbol, see `Vocab.char_classes`, uint8, (V,); only counts of words use it.
            lower: see `Vocab.lower`, int64, (V,); only counts of words in lower case use it.

        Raises:
            DataError: the text is too short or too long.
        """
        super().count(ids)

    def update(self, ids: NDArray[np.integer[Any]], n_known: int) -> None:
        """Add the counts of a text to the present ones; see `Trie.update`."""
        super().update(ids, n_known)
        self._fit_discounts()

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Replace the counts by stored ones; see `Trie.load`."""
        super().load(arrays)
        self._fit_discounts()

    def initial_state(self, n_texts: int) -> tuple[Ints, ...]:
        """Return the state before the first characters of B texts; see `read`."""
        return (np.full((n_texts, self.order - 1), -1),)

    def read(self, chars: Ints, state: tuple[Ints, ...] | None = None) -> tuple[Ints, tuple[Ints, ...]]:
        """Find the contexts after each character of a batch of texts.

        Args:
            chars: indices, int64, (B, T).
            state: from the previous call; None before the first characters.

        Returns:
            contexts: here the node of each k-gram, k = 1..n-1, -1 if it was never counted, int64, (C, B, T).
            state: the last n - 1 characters, -1 before the first, int64, (B, n - 1).
        """
        n_before = self.order - 1
        (before,) = self.initial_state(len(chars)) if state is None else state
        chars = np.concatenate([before, chars], axis=1)
        return self.walk(chars), (chars[:, chars.shape[1] - n_before :],)

    def step(self, char: int, state: Any = None) -> tuple[list[int], Any]:
        """Find the contexts after one character of one text.

        Args:
            char: its index.
            state: from the previous call; None before the first character.

        Returns:
            contexts: as of `read`, (C,).
            state: the same.
        """
        nodes = self.walk_char([-1] * (self.order - 1) if state is None else state, char)
        return nodes, nodes

    def expert_probs(self, contexts: Contexts) -> tuple[Floats, ...]:
        """Return the distribution of each of K experts, (M, V) or, if it does not depend on the contexts, (1, V).

        Args:
            contexts: as `read` (flattened) or `step` returns them.
        """
        if self.order == 1:
            return (self._unigram,)
        nodes = contexts[: self.order - 1]
        if not isinstance(nodes, np.ndarray) or self.order <= 3:
            return (self._interpolate(self._unigram, slice(1, None), nodes),)
        # The contexts of one and two characters are few: each pair of their nodes is interpolated once.
        pairs = nodes[0] * (len(self.levels[1].keys) + 1) + nodes[1]
        _, first, row = np.unique(pairs, return_index=True, return_inverse=True)
        lower = self._interpolate(self._unigram, slice(1, 3), nodes[:2, first])[row]
        return (self._interpolate(lower, slice(3, None), nodes[2:]),)

    def probs(self, contexts: Contexts) -> Floats:
        """Return the mean of the experts' distributions; see `expert_probs`."""
        experts = self.expert_probs(contexts)
        mean: Floats = sum(experts[1:], experts[0]) / len(experts)
        return mean

    def expert_log_probs(self, contexts: Ints) -> NDArray[np.float32]:
        """Return the logarithms of the experts' distributions, float32, (B, T, K, V), after contexts, (C, B, T)."""
        return self._log_in_chunks(self.expert_probs, contexts, self.n_experts)

    def log_probs(self, contexts: Ints) -> NDArray[np.float32]:
        """Return the logarithms of `probs`, float32, (B, T, V), after contexts, (C, B, T)."""
        found: NDArray[np.float32] = self._log_in_chunks(lambda part: (self.probs(part),), contexts, 1)[:, :, 0]
        return found

    def _log_in_chunks(
        self, distributions: Callable[[Ints], tuple[Floats, ...]], contexts: Ints, n: int
    ) -> NDArray[np.float32]:
        flat = contexts.reshape(len(contexts), math.prod(contexts.shape[1:]))
        found = np.empty((flat.shape[1], n, self.vocab_size), np.float32)
        for first in range(0, len(found), CHUNK):
            for k, probs in enumerate(distributions(flat[:, first : first + CHUNK])):
                found[first : first + CHUNK, k] = safe_log(probs)
        return found.reshape(*contexts.shape[1:], n, self.vocab_size)
