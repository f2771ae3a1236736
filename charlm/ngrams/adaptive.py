"""Adaptive interpolated n-grams of bytes: counts start empty and are updated after each byte.

The formula is that of interpolation.py with Kneser-Ney smoothing (char_ngram.py). The shortest context is empty and is
interpolated with p = 1 / 256. An update with symbol w and the contexts h_K, ..., h_0 begins with the longest context.
It adds 1 to the count of w after each context, and stops after the first one that had a count of w before. So a count
after the longest context is a number of occurrences, and a count after a shorter one the number of different symbols
before it. The discounts are estimated again every `REFIT_INTERVAL` bytes.

All arithmetic is that of integers and of +, -, *, / of float64, which IEEE 754 defines: it gives the same results on
every machine.

Shapes: K longest context, V = 256 symbols.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from charlm.ngrams.interpolation import discounts_of

N_SYMBOLS = 256
REFIT_INTERVAL = 256  # bytes between two estimates of the discounts
MAX_CONTEXTS = 1 << 20  # about 500 MB; beyond it all counts are dropped


class SymbolCounts:
    """Counts of the symbols after a context.

    Attributes:
        counts: by symbol.
        total: their sum.
        n: number of symbols with a count of 1, 2, and 3 or more, at 1, 2 and 3.
    """

    __slots__ = ("counts", "n", "total")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.total = 0
        self.n = [0, 0, 0, 0]


class AdaptiveNGram:
    """Counts of the bytes after contexts of up to K bytes.

    Most long contexts occur once. Such a context stores the byte that followed it instead of `SymbolCounts`.

    Args:
        n_context: K.
        max_contexts: greatest number of contexts.
    """

    def __init__(self, n_context: int, max_contexts: int = MAX_CONTEXTS) -> None:
        self.n_context, self.max_contexts = n_context, max_contexts
        self.reset()

    def reset(self) -> None:
        """Drop all counts."""
        self.contexts: dict[bytes, SymbolCounts | int] = {}
        # For each context length: how many counts are 0, 1, 2, 3, 4, and above.
        self.n = [[0] * 6 for _ in range(self.n_context + 1)]
        self.n_read = 0
        self._fit_discounts()

    def _fit_discounts(self) -> None:
        self.discounts = [discounts_of(n) for n in self.n]

    def probs(self, history: bytes) -> NDArray[np.float64]:
        """Return the probability of each byte, float64, (V,).

        Args:
            history: the bytes before it; the last K are used.
        """
        probs, factor = [0.0] * N_SYMBOLS, 1.0
        for k in range(min(self.n_context, len(history)), -1, -1):
            found = self.contexts.get(history[len(history) - k :])
            if found is None:
                continue
            _, d1, d2, d3 = self.discounts[k]
            if isinstance(found, int):
                probs[found] += factor * (1 - d1)
                factor *= d1
                continue
            weight = factor / found.total
            for symbol, count in found.counts.items():
                probs[symbol] += weight * (count - (d3 if count > 2 else d2 if count == 2 else d1))
            _, n1, n2, n3 = found.n
            factor = weight * (n1 * d1 + n2 * d2 + n3 * d3)
        return np.array(probs) + factor / N_SYMBOLS

    def read(self, history: bytes, symbol: int) -> None:
        """Count a byte.

        Args:
            history: the bytes before it.
            symbol: the byte.
        """
        for k in range(min(self.n_context, len(history)), -1, -1):
            if self._count(history[len(history) - k :], symbol, self.n[k]):
                break
        self.n_read += 1
        if len(self.contexts) > self.max_contexts:
            self.reset()
        elif self.n_read % REFIT_INTERVAL == 0:
            self._fit_discounts()

    def _count(self, context: bytes, symbol: int, n: list[int]) -> bool:
        """Count a symbol after a context; return whether it had a count before."""
        found = self.contexts.get(context)
        if found is None:
            self.contexts[context] = symbol
            n[1] += 1
            return False
        if isinstance(found, int):
            first, found = found, SymbolCounts()
            found.counts[first], found.total, found.n[1] = 1, 1, 1
            self.contexts[context] = found
        count = found.counts.get(symbol, 0)
        found.counts[symbol] = count + 1
        found.total += 1
        if count < 3:
            found.n[count] -= 1
            found.n[count + 1] += 1
        if count < 5:
            n[count] -= 1
            n[count + 1] += 1
        return count > 0
