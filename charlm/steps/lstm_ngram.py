"""Steps of `lstm-ngram`: counts read each character, and an LSTM what they then expect.

    e = (ln p + ln V) / 3, by n-grams, and once more by words
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
from charlm.steps.word_ngram import Words, take_words

SCALE = np.float32(3)


class Told(LSTM):
    """One layer; the first one is told what the counts expect."""

    def step(self, x: Any) -> Array:
        """Return h_t, (..., H), from a character and what is expected, (..., V), or from the layer below."""
        if self.table is not None:
            x, self.inputs[...] = x
        return super().step(x)


class Beside:
    """Counts, and the layers that are told.

    Args:
        reader: walks through the counts.
        counted: what they expect where it stands.
        n_expected: how many numbers that are.
        layers: of the LSTM.
    """

    def __init__(self, reader: Trie | Words, counted: Smoothed, n_expected: int, layers: Sequence[Layer]) -> None:
        self.reader, self.counted, self.n_expected, self.layers = reader, counted, n_expected, layers
        self.by_chance = np.float32(math.log(counted.vocab_size))

    @property
    def states(self) -> list[NDArray[Any]]:
        """Return the states of the counts and of all layers."""
        return [*self.reader.states, *(state for layer in self.layers for state in layer.states)]

    def allocate(self, rows: Rows) -> None:
        """Make room for so many texts."""
        self.reader.allocate(rows)
        self.counted.allocate(rows)
        for layer in self.layers:
            layer.allocate(rows)
        self.expected = np.empty((*rows, self.n_expected), np.float32)

    def step(self, char: Char) -> Array:
        """Return what the LSTM knows after one more character, (..., H)."""
        found: Any = self.reader.step(char)
        np.add(self.counted.opinions(found), self.by_chance, out=self.expected)
        np.divide(self.expected, SCALE, out=self.expected)
        x: Any = char, self.expected
        for layer in self.layers:
            x = layer.step(x)
        known: Array = x
        return known


def lstm_ngram(weights: Weights) -> Steps:
    """Prepare the steps of `lstm-ngram`."""
    words, vocab_size = "counts.head.kinds" in weights.arrays, weights.vocab_size
    reader: Trie | Words
    counted: Smoothed
    if words:
        reader, counted, order = take_words(weights, "counts.head")
    else:
        levels = take_levels(weights, "counts.head")
        reader, counted, order = Trie(levels[:-1], vocab_size), Smoothed(levels, vocab_size, "kneser-ney"), len(levels)
    n_expected = (2 if words else 1) * vocab_size
    layers, embed, options = layers_of(weights, Told.made, Told.n_gates, n_beside=n_expected)
    head, is_tied = head_of(weights, embed, options["n_hidden"])
    options |= {"tied": is_tied, "order": order, "words": words}
    return Steps([Beside(reader, counted, n_expected, layers)], head, options)
