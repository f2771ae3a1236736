"""Experts of `lstm-ngram`: n-grams of characters and words, and the cache models of both.

Each expert k predicts the next character w with p_k(w). A network reads

    e_k(w) = ln p_k(w) + ln V

so that 0 stands for the uniform distribution.

Shapes: B batch_size, T characters, S characters before them, K experts, V vocab_size.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from charlm.ngrams.cache_model import N_BEFORE, CacheCounts, WordCacheCounts, cache_probs, word_cache_probs
from charlm.ngrams.char_ngram import InterpolatedNGram
from charlm.ngrams.interpolation import safe_log
from charlm.ngrams.trie import Ints
from charlm.ngrams.word_ngram import InterpolatedWordNGram

Features = NDArray[np.float32]


def n_experts(counts: InterpolatedNGram, cache_model: bool) -> int:
    """Return K: the experts of the counts, and a cache model for each of them."""
    return counts.n_experts * (2 if cache_model else 1)


def _begun(counts: InterpolatedNGram) -> slice:
    """Return where b and v b are among the contexts of n-grams of words."""
    return slice(counts.order - 1, counts.order + 1)


def read_experts(
    counts: InterpolatedNGram, cache_model: bool, chars: Ints, state: tuple[Ints, ...] | None = None
) -> tuple[Features, tuple[Ints, ...]]:
    """Return e_k after each character of a batch of texts.

    Args:
        counts: n-grams.
        cache_model: use the cache models, too.
        chars: indices, int64, (B, T).
        state: from the previous call; None before the first characters.

    Returns:
        features: float32, (B, T, K, V).
        state: that of the counts; with cache models also the last characters, int64, (B, S), and with words their
            contexts b and v b, int64, (2, B, S).
    """
    n_state = counts.n_experts  # arrays in the state of the counts
    contexts, after = counts.read(chars, None if state is None else state[:n_state])
    (n_texts, n_read), vocab_size = chars.shape, counts.vocab_size
    features = np.empty((n_texts, n_read, n_experts(counts, cache_model), vocab_size), np.float32)
    features[:, :, : counts.n_experts] = counts.expert_log_probs(contexts)
    if cache_model:
        recent = [chars]
        if has_words := isinstance(counts, InterpolatedWordNGram):
            recent.append(contexts[_begun(counts)])
        if state is not None:
            recent = [np.concatenate(parts, axis=-1) for parts in zip(state[n_state:], recent, strict=True)]
        features[:, :, counts.n_experts] = safe_log(cache_probs(recent[0], n_read, vocab_size))
        if has_words:
            features[:, :, counts.n_experts + 1] = safe_log(word_cache_probs(recent[0], recent[1], n_read, vocab_size))
        after = (*after, *(part[..., -N_BEFORE:] for part in recent))
    features += math.log(vocab_size)
    return features, after


class ExpertReader:
    """The experts of one text, read character by character.

    Args:
        counts: n-grams.
        cache_model: use the cache models, too.
    """

    def __init__(self, counts: InterpolatedNGram, cache_model: bool) -> None:
        self.counts, self.state = counts, None
        self.cache = CacheCounts(counts.vocab_size) if cache_model else None
        has_words = isinstance(counts, InterpolatedWordNGram)
        self.word_cache = WordCacheCounts(counts.vocab_size) if cache_model and has_words else None
        self.features = np.empty((n_experts(counts, cache_model), counts.vocab_size), np.float32)
        self.log_vocab_size = np.float32(math.log(counts.vocab_size))

    def reset(self) -> None:
        """Forget all characters."""
        self.state = None
        for cache in (self.cache, self.word_cache):
            if cache:
                cache.reset()

    def step(self, char: int) -> Features:
        """Return e_k after one more character, (K, V); the next call overwrites it."""
        contexts, self.state = self.counts.step(char, self.state)
        probs = [*self.counts.expert_probs(contexts)]
        if self.cache:
            probs.append(self.cache.step(char))
        if self.word_cache:
            probs.append(self.word_cache.step(char, contexts[_begun(self.counts)]))
        for found, row in zip(probs, self.features, strict=True):
            row[:] = safe_log(found[0])
        self.features += self.log_vocab_size
        return self.features
