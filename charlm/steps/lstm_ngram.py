"""Steps of `lstm-ngram`: counts read each character, and an LSTM what they then expect.

    e_k = (ln p_k + ln V) / 3, by n-grams, by words, and by what was read of late
    h = lstm([embedding; e_1, ..., e_K])
    q = softmax(W h + b + 3 (g_1 e_1 + ... + g_K e_K)),    g = W_g h + b_g
    p = m_0 q + m_1 p_1 + ... + m_K p_K,                   m = softmax(W_m h + b_m)

Shapes: ... nothing for one text, B for many, V vocab_size, H n_hidden, K opinions, n order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.steps.base import Array, Char, Layer, Linear, Rows, Steps, Weights
from charlm.steps.lstm import LSTM
from charlm.steps.ngram import Smoothed, Trie, take_levels
from charlm.steps.recent import Recent
from charlm.steps.stacked import head_of, layers_of
from charlm.steps.word_ngram import Words, take_words

SCALE = np.float32(3)


class Told(LSTM):
    """One layer; the first one is told what the counts expect."""

    def step(self, x: Any) -> Array:
        """Return h_t, (..., H), from a character and what is expected, (..., K V), or from the layer below."""
        if self.table is not None:
            x, self.inputs[...] = x
        return super().step(x)


class Beside:
    """Counts, and the layers that are told.

    Args:
        reader: walks through the counts.
        counted: what they expect where it stands.
        n_counted: how many numbers that are.
        recent: what was read of late, or None.
        layers: of the LSTM.
    """

    def __init__(
        self, reader: Trie | Words, counted: Smoothed, n_counted: int, recent: Recent | None, layers: Sequence[Layer]
    ) -> None:
        self.reader, self.counted, self.n_counted, self.recent, self.layers = reader, counted, n_counted, recent, layers
        self.n_expected = n_counted + (counted.vocab_size if recent else 0)
        self.by_chance = np.float32(math.log(counted.vocab_size))

    @property
    def states(self) -> list[NDArray[Any]]:
        """Return the states of the counts and of all layers."""
        of_layers = [state for layer in self.layers for state in layer.states]
        return [*self.reader.states, *(self.recent.states if self.recent else ()), *of_layers]

    def allocate(self, rows: Rows) -> None:
        """Make room for so many texts."""
        self.reader.allocate(rows)
        self.counted.allocate(rows)
        if self.recent:
            self.recent.allocate(rows)
        for layer in self.layers:
            layer.allocate(rows)
        self.expected = np.empty((*rows, self.n_expected), np.float32)

    def step(self, char: Char) -> tuple[Array, Array]:
        """Return what the LSTM knows after one more character, (..., H), and what is expected, (..., K V)."""
        found: Any = self.reader.step(char)
        self.expected[..., : self.n_counted] = self.counted.opinions(found)
        if self.recent:
            of_late = self.expected[..., self.n_counted :]
            self.counted.logarithm(self.recent.step(char), of_late if self.counted.rows else of_late[None])
        np.add(self.expected, self.by_chance, out=self.expected)
        np.divide(self.expected, SCALE, out=self.expected)
        x: Any = char, self.expected
        for layer in self.layers:
            x = layer.step(x)
        return x, self.expected


def log_softmax_(logits: Array) -> Array:
    """Turn logits, (..., N), into logarithms of probabilities in place, and return them."""
    np.subtract(logits, logits.max(axis=-1, keepdims=True), out=logits)
    np.subtract(logits, np.log(np.exp(logits).sum(axis=-1, keepdims=True)), out=logits)
    return logits


class Corrected:
    """From what the LSTM knows, and what is expected, to the logits.

    Args:
        own: from what the LSTM knows to logits of its own.
        trust: from the same to 3 g.
        share: from the same to m, before the softmax.
        vocab_size: V.
    """

    states: Sequence[Array] = ()

    def __init__(self, own: Linear, trust: Linear, share: Linear, vocab_size: int) -> None:
        self.own, self.trust, self.share, self.vocab_size = own, trust, share, vocab_size
        self.by_chance = np.float32(math.log(vocab_size))

    def allocate(self, rows: Rows) -> None:
        """Make room for so many texts."""
        for layer in (self.own, self.trust, self.share):
            layer.allocate(rows)
        n_opinions = self.trust.products[-1][0].shape[1]
        self.by_each = np.empty((*rows, 1 + n_opinions, self.vocab_size), np.float32)

    def step(self, x: tuple[Array, Array]) -> Array:
        """Return the logits, which are ln p, float, (..., V)."""
        hidden, by_each = x[0], self.by_each
        expected = x[1].reshape(by_each[..., 1:, :].shape)  # (..., K, V)
        logits = self.own.step(hidden)
        np.add(logits, np.matmul(self.trust.step(hidden)[..., None, :], expected)[..., 0, :], out=logits)
        by_each[..., 0, :] = log_softmax_(logits)
        np.multiply(expected, SCALE, out=by_each[..., 1:, :])
        np.subtract(by_each[..., 1:, :], self.by_chance, out=by_each[..., 1:, :])
        np.add(by_each, log_softmax_(self.share.step(hidden))[..., None], out=by_each)
        most = by_each.max(axis=-2)
        np.subtract(by_each, most[..., None, :], out=by_each)
        np.exp(by_each, out=by_each)
        np.log(by_each.sum(axis=-2), out=logits)
        np.add(logits, most, out=logits)
        return logits


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
    n_counted = 2 if words else 1
    recent = weights.shape("head.trust.weight", 2)[0] == n_counted + 1
    n_opinions = n_counted + recent
    layers, embed, options = layers_of(weights, Told.made, Told.n_gates, n_beside=n_opinions * vocab_size)
    own, is_tied = head_of(weights, embed, options["n_hidden"], "head.own")
    weight, bias = weights.linear("head.trust", options["n_hidden"], n_opinions)
    share = Linear(weights.linear("head.share", options["n_hidden"], 1 + n_opinions))
    head = Corrected(own, Linear((SCALE * weight, SCALE * bias)), share, vocab_size)
    options |= {"tied": is_tied, "order": order, "words": words, "recent": recent}
    late = Recent(vocab_size) if recent else None
    return Steps([Beside(reader, counted, n_counted * vocab_size, late, layers)], head, options)
