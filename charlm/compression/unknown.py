"""Characters outside a model's vocabulary, coded as an escape (index 0) followed by the character itself.

With e the estimated rate of such characters, the model's probabilities p become (1 - e) p, and e is added to that of
index 0. After n characters, m of them unknown, e = (m + 1/2) / (n + 1) (Krichevsky and Trofimov 1981). In a text of n
known characters this costs some 0.5 log2(3 n) bits. The character itself is coded by its count c among the unknown ones
so far: c / (m + d), with d the number of different ones; a new one has d / (m + d) (1 for the first), and follows as a
code point, all of which are equally probable (Witten and Bell 1991, method C).

Bytes that are not UTF-8 are characters, too: byte b is U+DC00 + b (Python's `surrogateescape`, PEP 383).

Shapes: M characters, V vocab_size.
"""

from __future__ import annotations

import numpy as np

from charlm.compression.quantization import BITS, Floats, cost_in_bits, quantized
from charlm.compression.range_coder import Coder
from charlm.data.vocab import N_CODE_POINTS, Vocab

MAX_COUNTED = 1 << 14  # different characters that are counted; further ones are always coded as new


class UnknownCharacters:
    """Rate and counts of the characters outside a vocabulary, updated after each coded character.

    Args:
        vocab: of the model.

    Attributes:
        n_read: characters so far.
        n_unknown: those outside the vocabulary.
        bits: their cost, escapes included.
    """

    def __init__(self, vocab: Vocab) -> None:
        self.size = 256 if vocab.is_bytes else N_CODE_POINTS
        self.can_occur = len(vocab.codepoints) < self.size
        self.n_read, self.n_unknown, self.bits = 0, 0, 0.0
        self.points: list[int] = []  # distinct code points
        self.counts: list[int] = []  # of each of them
        self.index: dict[int, int] = {}

    def mix(self, probs: Floats) -> Floats:
        """Return the probabilities with the rate of unknown characters added to index 0, (M, V)."""
        if not self.can_occur:
            return probs
        rate = (self.n_unknown + 0.5) / (self.n_read + 1)
        mixed = probs * (1 - rate)
        mixed[:, 0] += rate
        return mixed

    def code(self, coder: Coder, point: int | None) -> int:
        """Code an unknown character, and count it.

        Args:
            coder: encoder or decoder.
            point: code point (or byte) for an encoder; None for a decoder.

        Returns:
            the code point.
        """
        if self.points:  # otherwise the character is certainly new
            counts = np.array([[len(self.points), *self.counts]], dtype=np.float64)
            weights = quantized(counts / counts.sum())
            symbol = None if point is None else np.array([self.index.get(point, 0)], dtype=np.int32)
            found = int(coder.code(weights, symbol)[0])
            self.bits += cost_in_bits(weights[0], found)
            if found:
                self.counts[found - 1] += 1
                return self.points[found - 1]
        point = coder.code_uniform(self.size, point)
        self.bits += np.log2(self.size)
        if len(self.points) < MAX_COUNTED and point not in self.index:
            self.points.append(point)
            self.index[point] = len(self.points)
            self.counts.append(1)
        return point

    def count(self, weights: Floats, ids: np.ndarray) -> None:
        """Count characters after they were coded.

        Args:
            weights: quantised probabilities with which they were coded, (M, V).
            ids: of the characters, (M,).
        """
        self.n_read += len(ids)
        if ids.all():
            return
        rows = np.flatnonzero(ids == 0)
        self.n_unknown += len(rows)
        self.bits += float((BITS - np.log2(weights[rows, 0] + 1)).sum())
