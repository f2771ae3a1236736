"""Steps of `lstm-ngram`: those of `awd-lstm` and of `ngram` side by side.

    ln p = ln((1 - share) p_lstm + share p_ngram)

Shapes: ... nothing for one text, B for many, V vocab_size, H n_hidden, n order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.steps.base import Array, Char, Layer, Rows, Steps, Weights
from charlm.steps.lstm import awd_lstm
from charlm.steps.ngram import Smoothed, Trie, take_levels

Both = tuple[Array, NDArray[np.int64]]  # features of the LSTM, (..., H), and nodes of the trie, (..., n - 1)


class Beside:
    """Layers from a character to features, and a trie that reads the same character.

    Args:
        layers: of the LSTM.
        trie: of the counts.
    """

    def __init__(self, layers: Sequence[Layer], trie: Trie) -> None:
        self.layers: list[Layer] = [*layers, trie]

    @property
    def states(self) -> list[NDArray[Any]]:
        """Return the states of all layers and the nodes."""
        return [state for layer in self.layers for state in layer.states]

    def allocate(self, rows: Rows) -> None:
        """Make room for so many texts."""
        for layer in self.layers:
            layer.allocate(rows)

    def step(self, char: Char) -> Both:
        """Return what both know after one more character."""
        *learned, trie = self.layers
        x: Any = char
        for layer in learned:
            x = layer.step(x)
        return x, trie.step(char)


class Mixed:
    """The mixture of what both predict.

    Args:
        learned: the head of the LSTM.
        counted: that of the counts.
        share: of the counts.
    """

    states: Sequence[Array] = ()

    def __init__(self, learned: Layer, counted: Smoothed, share: float) -> None:
        self.learned, self.counted = learned, counted
        self.of_learned, self.of_counted = np.float32(math.log1p(-share)), np.float32(math.log(share))

    def allocate(self, rows: Rows) -> None:
        """Make room for so many texts."""
        self.learned.allocate(rows)
        self.counted.allocate(rows)

    def step(self, known: Both) -> Array:
        """Return the logits, float, (..., V)."""
        learned: Array = self.learned.step(known[0])
        counted = self.counted.step(known[1])
        learned -= np.maximum.reduce(learned, axis=-1, keepdims=True)
        learned -= np.log(np.add.reduce(np.exp(learned), axis=-1, keepdims=True)) - self.of_learned
        counted += self.of_counted
        return np.logaddexp(learned, counted, out=learned)


def lstm_ngram(weights: Weights) -> Steps:
    """Prepare the steps of `lstm-ngram`."""
    share, levels = weights.told("share", float), take_levels(weights, "counts.head")
    if not 0 < share < 1:
        raise ValueError(f"share is {share}")
    lstm = awd_lstm(weights)
    trie, counted = Trie(levels[:-1], weights.vocab_size), Smoothed(levels, weights.vocab_size, "kneser-ney")
    options = {**lstm.options, "order": len(levels), "share": share}
    return Steps([Beside(lstm.layers, trie)], Mixed(lstm.head, counted, share), options)
