"""Match model (as in lpaq, Mahoney 2007): prediction of the byte that followed the last occurrence of a context.

If the last M bytes occurred before, the match model predicts the byte w that followed them. A match grows with each
correct prediction, and ends with the first wrong one. The probability p(w) of another model is replaced by c, and the
probabilities of all other bytes are scaled by (1 - c) / (1 - p(w)). Predictions are divided into classes by the length
of the match and by p(w). c is the share of correct predictions in the class, with the prior p(w) and prior weight k:

    c = (correct + k p(w)) / (predictions + k)

It predicts repeated passages that are longer than the contexts of n-grams, such as the lines of a log. As in
adaptive.py, all arithmetic is that of integers and of +, -, *, / of float64.

Shapes: V = 256 symbols.
"""

from __future__ import annotations

from array import array
from bisect import bisect

import numpy as np
from numpy.typing import NDArray

LENGTHS = (8, 12, 16, 24, 32, 64, 256)  # bounds of the classes of match lengths, in bytes
PROBS = (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 0.99)  # bounds of the classes of p(w)
N_PRIOR = 2.0  # k
MAX_PREDICTIONS = 1000  # in a class; beyond it both counts are halved, so that c adapts to the text
MAX_FOUND = 32  # longest length that is determined for a new match, in bytes
HASH = 0x9E3779B97F4A7C15  # odd, 2^64 / golden ratio
N_SLOTS, PAGE_SLOTS = 1 << 20, 1 << 10  # of the hash table, of a page
MAX_TEXT = 1 << 22  # bytes


class MatchModel:
    """Longest match of one text with its past.

    Args:
        n_context: M, the shortest match.
        max_text: bytes, at which the text is dropped.
    """

    def __init__(self, n_context: int, max_text: int = MAX_TEXT) -> None:
        self.n_context, self.max_text = n_context, max_text
        classes = (len(LENGTHS) + 1) * (len(PROBS) + 1)
        self.correct, self.predictions = [0.0] * classes, [0.0] * classes
        self._drop_text()

    def _drop_text(self) -> None:
        self.text = bytearray()
        # Positions after the last occurrence of a context, in pages that exist once a position is stored there.
        self.pages: list[array[int] | None] = [None] * (N_SLOTS // PAGE_SLOTS)
        self.length, self.position = 0, 0  # of the match (0: there is none); of the predicted byte

    def mix(self, probs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probabilities of another model with those of the match mixed in, float64, (V,)."""
        if not self.length:
            return probs
        predicted = self.text[self.position]
        prob = float(probs[predicted])
        self.match_class = bisect(LENGTHS, self.length) * (len(PROBS) + 1) + bisect(PROBS, prob)
        if prob >= 1:
            return probs
        confidence = (self.correct[self.match_class] + N_PRIOR * prob) / (self.predictions[self.match_class] + N_PRIOR)
        mixed = probs * ((1 - confidence) / (1 - prob))
        mixed[predicted] = confidence
        return mixed

    def read(self, symbol: int) -> None:
        """Read a byte; `mix` must have been called before."""
        if self.length:
            self._count(self.text[self.position] == symbol)
        self.text.append(symbol)
        if len(self.text) >= self.max_text:
            self._drop_text()
        elif len(self.text) >= self.n_context:
            self._find()

    def _count(self, is_correct: bool) -> None:
        """Count a prediction, and end the match if it was wrong."""
        self.correct[self.match_class] += is_correct
        self.predictions[self.match_class] += 1
        if self.predictions[self.match_class] > MAX_PREDICTIONS:
            self.correct[self.match_class] /= 2
            self.predictions[self.match_class] /= 2
        self.position, self.length = (self.position + 1, self.length + 1) if is_correct else (0, 0)

    def _find(self) -> None:
        """Without a match, look up the last occurrence of the context; then store the position of this one."""
        text, n = self.text, len(self.text)
        context = text[-self.n_context :]
        page, slot = divmod(int.from_bytes(context, "little") * HASH >> 32 & N_SLOTS - 1, PAGE_SLOTS)
        if (positions := self.pages[page]) is None:
            positions = self.pages[page] = array("i", [0]) * PAGE_SLOTS
        if not self.length:
            self.position = positions[slot]
            if text.startswith(context, max(self.position - self.n_context, 0), self.position):
                self.length, limit = self.n_context, min(MAX_FOUND, self.position)
                while self.length < limit and text[self.position - 1 - self.length] == text[n - 1 - self.length]:
                    self.length += 1
        positions[slot] = n
