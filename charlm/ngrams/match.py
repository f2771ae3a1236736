"""Match model (as in lpaq, Mahoney 2007): the byte that followed the last occurrence of the present context.

Where the last M bytes occurred before, the byte w that followed them is predicted until it is wrong. Other
probabilities p(w) of it become c, and those of the other bytes are scaled by (1 - c) / (1 - p(w)). c is the share of
right predictions among those of similar p(w) and of a similar length of the match:

    c = (right + k p(w)) / (predictions + k)

Long repeated passages, such as the lines of a log, exceed the contexts of n-grams. As in adaptive.py, all arithmetic is
that of integers and of +, -, *, / of float64.

Shapes: V = 256 symbols.
"""

from __future__ import annotations

from array import array
from bisect import bisect

import numpy as np
from numpy.typing import NDArray

LENGTHS = (8, 12, 16, 24, 32, 64, 256)  # bounds of classes of lengths, in bytes
PROBS = (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 0.99)  # bounds of classes of probabilities
N_PRIOR = 2.0  # k
MAX_PREDICTIONS = 1000  # of a class; beyond it both counts are halved, so that c follows the text
MAX_FOUND = 32  # bytes of a new match that are compared
HASH = 0x9E3779B97F4A7C15  # odd, 2^64 / golden ratio
N_SLOTS = 1 << 20  # of the hash table
MAX_TEXT = 1 << 22


class MatchModel:
    """Longest match of one text with its past.

    Args:
        n_context: M, the shortest match.
        max_text: bytes; then the text is dropped.
    """

    def __init__(self, n_context: int, max_text: int = MAX_TEXT) -> None:
        self.n_context, self.max_text = n_context, max_text
        classes = (len(LENGTHS) + 1) * (len(PROBS) + 1)
        self.right, self.predictions = [0.0] * classes, [0.0] * classes
        self._drop_text()

    def _drop_text(self) -> None:
        self.text = bytearray()
        self.slots = array("i", [0]) * N_SLOTS  # position after the last occurrence of a context
        self.length, self.position = 0, 0  # of the match, and where the predicted byte is

    def mix(self, probs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probabilities of the next byte, float64, (V,), from those of another model."""
        if not self.length:
            return probs
        predicted = self.text[self.position]
        prob = float(probs[predicted])
        self.prob_class = bisect(LENGTHS, self.length) * (len(PROBS) + 1) + bisect(PROBS, prob)
        if prob >= 1:
            return probs
        confidence = (self.right[self.prob_class] + N_PRIOR * prob) / (self.predictions[self.prob_class] + N_PRIOR)
        mixed = probs * ((1 - confidence) / (1 - prob))
        mixed[predicted] = confidence
        return mixed

    def read(self, symbol: int) -> None:
        """Read a byte, after `mix`."""
        if self.length:
            self._count(self.text[self.position] == symbol)
        self.text.append(symbol)
        if len(self.text) >= self.max_text:
            self._drop_text()
        elif len(self.text) >= self.n_context:
            self._find()

    def _count(self, is_right: bool) -> None:
        """Count a prediction, and end the match if it was wrong."""
        self.right[self.prob_class] += is_right
        self.predictions[self.prob_class] += 1
        if self.predictions[self.prob_class] > MAX_PREDICTIONS:
            self.right[self.prob_class] /= 2
            self.predictions[self.prob_class] /= 2
        self.position, self.length = (self.position + 1, self.length + 1) if is_right else (0, 0)

    def _find(self) -> None:
        """Look for the last occurrence of the present context unless there is a match, and note where it is now."""
        text, n = self.text, len(self.text)
        context = text[-self.n_context :]
        slot = int.from_bytes(context, "little") * HASH >> 32 & N_SLOTS - 1
        if not self.length:
            self.position = self.slots[slot]
            if text.startswith(context, max(self.position - self.n_context, 0), self.position):
                self.length, limit = self.n_context, min(MAX_FOUND, self.position)
                while self.length < limit and text[self.position - 1 - self.length] == text[n - 1 - self.length]:
                    self.length += 1
        self.slots[slot] = n
