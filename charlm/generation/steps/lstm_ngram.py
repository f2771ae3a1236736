"""Steps of `lstm-ngram`: counts read each character, and an LSTM what they then expect.

    e_k = max(0, ln p_k + ln V), by n-grams and words, and by the characters and words that were read of late
    h = lstm([embedding; e_1, ..., e_K])
    p = softmax(W h + b + g_1 ln p_1 + ... + g_K ln p_K),    g = W_g h + b_g

Shapes: ... nothing for one text, B for many, V vocab_size, H n_hidden, K opinions, n order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.generation.steps.base import Array, Char, Layer, Linear, Rows, Steps, Weights
from charlm.generation.steps.lstm import LSTM
from charlm.generation.steps.ngram import InterpolatedNGram, Trie, take_levels
from charlm.generation.steps.recent import Recent, RecentWords
from charlm.generation.steps.stacked import head_of, layers_of
from charlm.generation.steps.word_ngram import Words, take_words


class Told(LSTM):
    """One layer; the first one is told what the counts expect."""

    def step(self, x: Any) -> Array:
        """Return h_t, (..., H), from a character and what is expected, (..., K V), or from the layer below."""
        if self.table is not None:
            x, expected = x
            np.maximum(expected, 0, out=self.inputs)
        return super().step(x)


class Beside:
    """Counts, and the layers that are told.

    Args:
        reader: walks through the counts.
        counted: what they expect where it stands.
        n_counted: how many opinions that are.
        recent: what was read of late, or None.
        layers: of the LSTM.
    """

    def __init__(
        self,
        reader: Trie | Words,
        counted: InterpolatedNGram,
        n_counted: int,
        recent: Recent | None,
        layers: Sequence[Layer],
    ) -> None:
        self.reader, self.counted, self.n_counted, self.recent, self.layers = reader, counted, n_counted, recent, layers
        self.recent_words = RecentWords(recent.vocab_size) if recent and n_counted > 1 else None
        self.by_chance = np.float32(math.log(counted.vocab_size))

    @property
    def states(self) -> list[NDArray[Any]]:
        """Return the states of the counts and of all layers."""
        of_layers = [state for layer in self.layers for state in layer.states]
        of_late = [state for late in (self.recent, self.recent_words) if late for state in late.states]
        return [*self.reader.states, *of_late, *of_layers]

    def allocate(self, rows: Rows) -> None:
        """Make room for so many texts."""
        self.reader.allocate(rows)
        self.counted.allocate(rows)
        for late in (self.recent, self.recent_words):
            if late:
                late.allocate(rows)
        for layer in self.layers:
            layer.allocate(rows)
        n_experts = self.n_counted * (2 if self.recent else 1)
        self.expected = np.empty((*rows, n_experts, self.counted.vocab_size), np.float32)

    def step(self, char: Char) -> tuple[Array, Array]:
        """Return what the LSTM knows after one more character, (..., H), and ln p_k + ln V, (..., K, V)."""
        found: Any = self.reader.step(char)
        expected = self.expected if self.counted.rows else self.expected[None]
        self.counted.expert_log_probs(found, expected)
        if self.recent:
            self.counted.safe_log(self.recent.step(char), expected[:, self.n_counted])
        if self.recent_words:
            self.counted.safe_log(self.recent_words.step(char, found[1][:2]), expected[:, self.n_counted + 1])
        np.add(expected, self.by_chance, out=expected)
        x: Any = char, self.expected.reshape(*self.expected.shape[:-2], -1)
        for layer in self.layers:
            x = layer.step(x)
        return x, self.expected


class ExpertHead:
    """From what the LSTM knows, and what is expected, to the logits.

    Args:
        own: from what the LSTM knows to logits of its own.
        trust: from the same to g.
    """

    states: Sequence[Array] = ()

    def __init__(self, own: Linear, trust: Linear) -> None:
        self.own, self.trust = own, trust

    def allocate(self, rows: Rows) -> None:
        """Make room for so many texts."""
        for layer in (self.own, self.trust):
            layer.allocate(rows)

    def step(self, x: tuple[Array, Array]) -> Array:
        """Return the logits, float, (..., V)."""
        hidden, expected = x
        logits = self.own.step(hidden)
        np.add(logits, np.matmul(self.trust.step(hidden)[..., None, :], expected)[..., 0, :], out=logits)
        return logits


def lstm_ngram(weights: Weights) -> Steps:
    """Prepare the steps of `lstm-ngram`."""
    words, vocab_size = "counts.char_classes" in weights.arrays, weights.vocab_size
    reader: Trie | Words
    counted: InterpolatedNGram
    if words:
        reader, counted, order = take_words(weights, "counts")
    else:
        levels = take_levels(weights, "counts")
        reader, counted, order = (
            Trie(levels[:-1], vocab_size),
            InterpolatedNGram(levels, vocab_size, "kneser-ney"),
            len(levels),
        )
    n_counted = 2 if words else 1
    n_experts = weights.shape("head.expert_weights.weight", 2)[0]
    recent = n_experts == 2 * n_counted
    layers, embed, options = layers_of(weights, Told.made, Told.n_gates, n_beside=n_experts * vocab_size)
    own, is_tied = head_of(weights, embed, options["n_hidden"], "head.base_head")
    trust = Linear(weights.linear("head.expert_weights", options["n_hidden"], n_experts))
    head = ExpertHead(own, trust)
    options |= {"tied": is_tied, "order": order, "words": words, "cache_model": recent}
    late = Recent(vocab_size) if recent else None
    return Steps([Beside(reader, counted, n_counted, late, layers)], head, options)
