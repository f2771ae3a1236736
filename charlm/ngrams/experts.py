"""Experts of `lstm-ngram`: n-grams of characters and words, and the cache models of both.

Each expert k predicts the next character w with p_k(w). A network reads

    e_k(w) = ln p_k(w) + ln V

so that 0 is the uniform distribution. With folded words, there is one more expert for each of their contexts, after the
main ones (word_ngram.py). The network does not read their e_k, but a number for each of all K experts: r_k is e_k(w) of
the last character w, by the prediction before it.

Shapes: B batch_size, T characters, S characters before them, K experts, V vocab_size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.ngrams.cache_model import N_BEFORE, CacheCounts, WordCacheCounts, cache_probs, word_cache_probs
from charlm.ngrams.char_ngram import InterpolatedNGram
from charlm.ngrams.interpolation import Floats, safe_log
from charlm.ngrams.levels import Ints
from charlm.ngrams.word_ngram import InterpolatedWordNGram

Features = NDArray[np.float32]


class Experts:
    """The experts of a batch of texts.

    Args:
        counts: n-grams of characters, or of characters and words.
        cache_model: use the cache models, too.

    Attributes:
        n_experts: K: characters, words, cache of characters, cache of words, as far as used, and folded words.
        n_main: the same without folded words.
        n_kinds: 1 for characters, 2 for characters and words; `counts` and the cache models have as many main experts,
            and as many arrays in their states.
        n_ratios: number of r_k that a network reads: K with folded words, else 0.
        n_inputs: number of values that a network reads: e_k of the main experts, then r_k.
        of_counts: indices of the experts of `counts`.
        of_caches: indices of the cache models.
        words: slice of b and v b in the contexts of `counts`; None without words.
    """

    def __init__(self, counts: InterpolatedNGram, cache_model: bool) -> None:
        self.counts, self.cache_model = counts, cache_model
        has_words = isinstance(counts, InterpolatedWordNGram)
        self.words = slice(counts.order - 1, counts.order + 1) if has_words else None
        self.n_kinds = 2 if has_words else 1
        self.n_main = self.n_kinds * (2 if cache_model else 1)
        self.n_experts = self.n_main + counts.n_experts - self.n_kinds
        self.n_ratios = self.n_experts if self.n_main < self.n_experts else 0
        self.n_inputs = self.n_main * counts.vocab_size + self.n_ratios
        self.of_counts = [*range(self.n_kinds), *range(self.n_main, self.n_experts)]
        self.of_caches = list(range(self.n_kinds, self.n_main))

    def read(self, chars: Ints, state: tuple[Ints, ...] | None = None) -> tuple[Features, tuple[Ints, ...]]:
        """Return e_k after each character.

        Args:
            chars: indices, int64, (B, T).
            state: from the previous call; None before the first characters.

        Returns:
            features: float32, (B, T, K, V).
            state: state of the counts; with cache models, also the last characters, int64, (B, S); with cache models
                and words, also their contexts b and v b, int64, (2, B, S); after `freeze`, also R, how many of these
                characters the cache models count, int64, (1,).
        """
        k, n_read, vocab_size = self.n_kinds, chars.shape[1], self.counts.vocab_size
        contexts, after = self.counts.read(chars, None if state is None else state[:k])
        n_counted = int(state[-1][0]) if state is not None and len(state) > 2 * k else None
        features = np.empty((*chars.shape, self.n_experts, vocab_size), np.float32)
        features[:, :, self.of_counts] = self.counts.expert_log_probs(contexts)
        if self.cache_model:
            recent = [chars] if self.words is None else [chars, contexts[self.words]]
            if state is not None:
                before = state[k : 2 * k]
                recent = [np.concatenate(parts, axis=-1) for parts in zip(before, recent, strict=True)]
            features[:, :, k] = safe_log(cache_probs(recent[0], n_read, vocab_size, n_counted=n_counted))
            if self.words is not None:
                by_words = word_cache_probs(recent[0], recent[1], n_read, vocab_size, n_counted=n_counted)
                features[:, :, k + 1] = safe_log(by_words)
            after = (*after, *(part[..., -N_BEFORE:] for part in recent))
            if n_counted is not None:
                n_dropped = max(0, recent[0].shape[1] - N_BEFORE)
                after = (*after, np.array([max(0, n_counted - n_dropped)]))
        features += math.log(vocab_size)
        return features, after

    def freeze(self, state: tuple[Ints, ...] | None, n_texts: int) -> tuple[Ints, ...] | None:
        """Return a state after which the cache models count no further characters.

        Args:
            state: as `read` returns it; None before the first characters.
            n_texts: B.
        """
        if not self.cache_model:
            return state
        if state is None:
            recent = [np.empty((n_texts, 0), np.int64)]
            if self.words is not None:
                recent.append(np.empty((2, n_texts, 0), np.int64))
            state = (*self.counts.initial_state(n_texts), *recent)
        k = self.n_kinds
        is_frozen = len(state) > 2 * k
        return state if is_frozen else (*state, np.array([state[k].shape[1]]))


class ExpertReader:
    """The experts of one text, read character by character.

    Args:
        experts: see `Experts`.

    Attributes:
        features: e_k after the last character, 0 before the first one, float32, (K, V).
        ratios: r_k of the last character, float32, (K,).
    """

    def __init__(self, experts: Experts) -> None:
        self.experts, vocab_size = experts, experts.counts.vocab_size
        self.cache = CacheCounts(vocab_size) if experts.cache_model else None
        self.word_cache = WordCacheCounts(vocab_size) if experts.cache_model and experts.words else None
        self.features = np.zeros((experts.n_experts, vocab_size), np.float32)
        self.ratios = np.zeros(experts.n_experts, np.float32)
        self.log_vocab_size = np.float32(math.log(vocab_size))
        self.state: Any = None
        self.is_frozen = False

    def freeze(self) -> None:
        """Count no further characters in the cache models until `reset`."""
        self.is_frozen = True

    def reset(self) -> None:
        """Forget all characters."""
        self.state, self.is_frozen = None, False
        self.features[:] = 0
        for cache in (self.cache, self.word_cache):
            if cache:
                cache.reset()

    def copy(self) -> ExpertReader:
        """Return a reader that has read the same characters."""
        return deepcopy(self, {id(self.experts): self.experts})  # the counts are shared

    def step(self, char: int) -> Features:
        """Return e_k after one more character, (K, V); the next call overwrites it."""
        contexts, cached = self._read(char)
        probs = np.concatenate([*self.experts.counts.expert_probs(contexts), *cached])
        self.features[self.experts.of_counts + self.experts.of_caches] = safe_log(probs)
        self.features += self.log_vocab_size
        return self.features

    @staticmethod
    def step_all(readers: Sequence[ExpertReader], chars: Sequence[int]) -> Features:
        """Return e_k of several texts after one more character of each, (B, K, V).

        Args:
            readers: of the same experts, one for each text.
            chars: indices, one for each text.
        """
        experts = readers[0].experts
        contexts, cached = zip(*(reader._read(char) for reader, char in zip(readers, chars, strict=True)), strict=True)
        features = np.empty((len(readers), experts.n_experts, experts.counts.vocab_size), np.float32)
        for k, probs in zip(experts.of_counts, experts.counts.expert_probs(np.array(contexts).T), strict=True):
            features[:, k] = safe_log(probs)
        if experts.cache_model:
            features[:, experts.of_caches] = safe_log(np.concatenate(cached, axis=1).swapaxes(0, 1))
        features += readers[0].log_vocab_size
        for reader, row in zip(readers, features, strict=True):
            reader.features[:] = row
        return features

    def _read(self, char: int) -> tuple[Sequence[int], list[Floats]]:
        """Read a character; return the contexts after it, (C,), and the distributions of the cache models, (1, V)."""
        self.ratios = self.features[:, char].copy()
        contexts, self.state = self.experts.counts.step(char, self.state)
        cached = []
        if self.cache:
            cached.append(self.cache.step(char, not self.is_frozen))
        if self.word_cache and self.experts.words:
            cached.append(self.word_cache.step(char, contexts[self.experts.words], not self.is_frozen))
        return contexts, cached
