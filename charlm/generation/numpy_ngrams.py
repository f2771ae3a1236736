"""Numpy engines of the n-gram models: `ngram` and `word-ngram` for one text, `lstm-ngram` for one or many.

The counts and the cache models are those of `charlm.ngrams`, the LSTM is that of numpy_recurrent.py.

Shapes: ... nothing for one text, B for many; V vocab_size, H n_hidden, K experts.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, TypeVar, cast

import numpy as np

from charlm.cells import lstm_cell
from charlm.errors import UsageError
from charlm.generation.numpy_recurrent import RecurrentLayers, apply_head, take_head, take_layers
from charlm.generation.numpy_weights import Array, Weights
from charlm.generation.sampler import Stepper
from charlm.ngrams.char_ngram import InterpolatedNGram
from charlm.ngrams.experts import ExpertReader, Experts
from charlm.ngrams.interpolation import safe_log
from charlm.ngrams.trie import COUNTS
from charlm.ngrams.word_ngram import InterpolatedWordNGram

Counts = TypeVar("Counts", bound=InterpolatedNGram)


class NGramStepper(Stepper):
    """Counts of `ngram` or `word-ngram`: a `Stepper` for one text.

    Args:
        counts: of the training text.
        max_chars: number of last characters that the logits depend on; earlier ones are not read.
    """

    def __init__(self, counts: InterpolatedNGram, max_chars: int = sys.maxsize) -> None:
        self.counts, self.max_chars = counts, max_chars
        self.reset()

    def reset(self) -> None:
        """Forget all characters."""
        self.state: Any = None

    def fresh(self) -> NGramStepper:
        """Return another stepper of the same counts, in its initial state."""
        return NGramStepper(self.counts, self.max_chars)

    def read(self, chars: Sequence[Any]) -> Array:
        """Read characters, at least one, and return the logits of the next one, (V,)."""
        for char in chars[-self.max_chars :]:
            contexts, self.state = self.counts.step(char, self.state)
        return safe_log(self.counts.probs(contexts)[0]).astype(np.float32)


class LSTMNGramStepper(Stepper):
    """LSTM with n-gram experts: a `Stepper` for one text or many.

    The texts are one batch for the n-grams and for the LSTM; the cache models read them one by one.

    Args:
        experts: their features are inputs of the LSTM and terms of the logits.
        layers: embedding and LSTM, whose first layer also reads the experts.
        base_head: linear layers from hidden states to the LSTM's own logits.
        expert_weights: linear layer from hidden states to the weights of the experts, a matrix (H, K) and a bias (K,).

    Attributes:
        readers: one for each text, ExpertReader, (B,).
    """

    def __init__(
        self,
        experts: Experts,
        layers: RecurrentLayers,
        base_head: Sequence[tuple[Array, Array]],
        expert_weights: tuple[Array, Array],
    ) -> None:
        self.experts, self.readers, self.layers = experts, np.array([ExpertReader(experts)]), layers
        self.base_head, self.expert_weights = base_head, expert_weights

    @property
    def state(self) -> Any:
        """States of the LSTM, see `RecurrentLayers`, and readers of the experts."""
        return self.layers.states, self.readers

    @state.setter
    def state(self, state: Any) -> None:
        """Replace both."""
        self.layers.states, self.readers = state

    def reset(self) -> None:
        """Forget all characters."""
        self.readers = self.readers[:1]
        self.readers[0].reset()
        self.layers.reset()

    def fresh(self) -> LSTMNGramStepper:
        """Return another stepper of the same weights, in its initial state."""
        return LSTMNGramStepper(self.experts, self.layers.fresh(), self.base_head, self.expert_weights)

    def freeze_cache(self) -> None:
        """Count no further characters in the cache models until `reset`."""
        for reader in self.readers:
            reader.freeze()

    def read(self, chars: Sequence[Any]) -> Array:
        """Read characters, at least one, and return the logits of the next one, (..., V)."""
        with np.errstate(over="ignore"):  # see `cells.ops.sigmoid`
            for char in chars:
                features = self._expert_features(char)
                main = np.maximum(features[..., : self.experts.n_main, :], 0)
                inputs = main.reshape(*main.shape[:-2], -1)
                if self.experts.n_ratios:
                    ratios = np.array([reader.ratios for reader in self.readers]).reshape(features.shape[:-1])
                    inputs = np.concatenate([inputs, ratios], axis=-1)
                hidden = self.layers.step(char, inputs)
        expert_weights = apply_head([self.expert_weights], hidden)
        logits: Array = apply_head(self.base_head, hidden) + (expert_weights[..., None, :] @ features)[..., 0, :]
        return logits

    def _expert_features(self, char: Any) -> Array:
        """Return e_k after one more character of each text, (..., K, V); see `Stepper.read`."""
        n_texts = len(self.readers)
        if not isinstance(char, np.ndarray):
            if n_texts == 1:
                return cast(Array, self.readers[0].step(char))
            char = np.full(n_texts, char)
        if n_texts == 1 and len(char) > 1:  # the first characters after a common prompt
            self.readers = np.array([self.readers[0], *(self.readers[0].copy() for _ in char[1:])])
        if len(char) == 1:  # faster than a batch of one text
            return cast(Array, self.readers[0].step(char.item())[None])
        return ExpertReader.step_all(self.readers.tolist(), char.tolist())


def take_counts(weights: Weights, kind: type[Counts], **options: Any) -> Counts:
    """Take counts out of the weights, and their order out of the options.

    Args:
        weights: of the model.
        kind: class of the counts.
        options: further arguments of its constructor.

    Raises:
        ValueError: invalid options, or counts that do not fit them.
    """
    try:
        counts = kind(weights.vocab_size, weights.option("order", int), **options)
    except UsageError as error:
        raise ValueError(str(error)) from None
    names = [name for name in weights.arrays if name.startswith(COUNTS)]
    counts.load({name.removeprefix(COUNTS): weights.arrays.pop(name) for name in names})
    return counts


def ngram(weights: Weights) -> NGramStepper:
    """Build the engine of `ngram`."""
    counts = take_counts(weights, InterpolatedNGram, smoothing=weights.option("smoothing", str))
    return NGramStepper(counts, max_chars=max(1, counts.order - 1))


def word_ngram(weights: Weights) -> NGramStepper:
    """Build the engine of `word-ngram`."""
    return NGramStepper(take_counts(weights, InterpolatedWordNGram))


def lstm_ngram(weights: Weights) -> LSTMNGramStepper:
    """Build the engine of `lstm-ngram`."""
    # Files from before this option do not have it.
    folded_words = "folded_words" in weights.config and weights.option("folded_words", bool)
    if weights.option("words", bool):
        counts: InterpolatedNGram = take_counts(weights, InterpolatedWordNGram, folded_words=folded_words)
    else:
        counts = take_counts(weights, InterpolatedNGram)
    experts = Experts(counts, weights.option("cache_model", bool))
    layers, embed = take_layers(weights, lstm_cell, n_gates=4, n_states=2, n_extra=experts.n_inputs)
    base_head = take_head(weights, embed, layers.n_hidden, "head.base_head")
    expert_weights = weights.linear("head.expert_weights", layers.n_hidden, experts.n_experts)
    return LSTMNGramStepper(experts, layers, base_head, expert_weights)
