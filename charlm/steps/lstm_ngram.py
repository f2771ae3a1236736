"""Steps of `lstm-ngram`: a trie reads each character, and an LSTM what the trie then expects.

    e = (ln p_ngram + ln V) / 3
    h = lstm([embedding; e])
    logits = W h + b

Shapes: ... nothing for one text, B for many, V vocab_size, H n_hidden, n order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.steps.base import Array, Char, Layer, Rows, Steps, Weights
from charlm.steps.lstm import LSTM
from charlm.steps.ngram import Smoothed, Trie, take_levels
from charlm.steps.stacked import head_of, layers_of

SCALE = np.float32(3)


class Told(LSTM):
    """One layer; the first one is told what the counts expect."""

    def step(self, x: Any) -> Array:
        """Return h_t, (..., H), from a character and what is expected, (..., V), or from the layer below."""
        if self.table is not None:
            x, self.inputs[...] = x
        return super().step(x)


class Beside:
    """A trie, and the layers that are told.

    Args:
        trie: of the counts.
        counted: what they expect at a node.
        layers: of the LSTM.
    """

    def __init__(self, trie: Trie, counted: Smoothed, layers: Sequence[Layer]) -> None:
        self.trie, self.counted, self.layers = trie, counted, layers
        self.by_chance = np.float32(math.log(trie.vocab_size))

    @property
    def states(self) -> list[NDArray[Any]]:
        """Return the nodes and the states of all layers."""
        return [*self.trie.states, *(state for layer in self.layers for state in layer.states)]

    def allocate(self, rows: Rows) -> None:
        """Make room for so many texts."""
        self.trie.allocate(rows)
        self.counted.allocate(rows)
        for layer in self.layers:
            layer.allocate(rows)
        self.expected = np.empty((*rows, self.trie.vocab_size), np.float32)

    def step(self, char: Char) -> Array:
        """Return what the LSTM knows after one more character, (..., H)."""
        np.add(self.counted.step(self.trie.step(char)), self.by_chance, out=self.expected)
        np.divide(self.expected, SCALE, out=self.expected)
        x: Any = char, self.expected
        for layer in self.layers:
            x = layer.step(x)
        known: Array = x
        return known


def lstm_ngram(weights: Weights) -> Steps:
    """Prepare the steps of `lstm-ngram`."""
    levels, vocab_size = take_levels(weights, "counts.head"), weights.vocab_size
    layers, embed, options = layers_of(weights, Told.made, Told.n_gates, n_beside=vocab_size)
    trie, counted = Trie(levels[:-1], vocab_size), Smoothed(levels, vocab_size, "kneser-ney")
    head, is_tied = head_of(weights, embed, options["n_hidden"])
    return Steps([Beside(trie, counted, layers)], head, {**options, "tied": is_tied, "order": len(levels)})
