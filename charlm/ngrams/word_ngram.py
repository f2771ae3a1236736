"""Interpolated n-grams of words and characters: contexts are the letters of the current word and the words before it.

With b the letters of the current word so far, v the previous word or punctuation mark, and u the one before v:

    p(w | u, v, b) = (c(u v b w) - D + backoff(u v b) p(w | v, b)) / c(u v b)
    p(w | v, b) = (c(v b w) - D + backoff(v b) p(w | b)) / c(v b)
    p(w | b)    = (c(b w) - D + backoff(b) p_char(w)) / c(b), with p_char by the last n - 1 characters (char_ngram.py)

where c are counts, D is the discount of a count of 1, 2, and 3 or more, and backoff(h) the sum of D over the symbols
seen after h. Unseen contexts back off to the next shorter one. White space separates words and is not a word, so u, v
and b do not determine whether a line ends or a blank follows. The length l of the line does:

    p_word(w) = white * p(w | l)                                            for white space w
    p(w | l)  = (c(l w) - D + backoff(l) p(w | u, v, b) / white) / c(l)
    p_word(w) = p(w | u, v, b)                                              for any other w

with white the sum of p(w | u, v, b) over all white space w. A length that no white space followed in the text is
replaced by the nearest one, but not beyond the longest: nothing is known of longer lines. Within a run of blanks, b is
its length (word_contexts.py). The first two experts are p_char and p_word.

Each context h of folded words, which are in lower case (word_contexts.py), is one more expert:

    p_h(w) = (c(h w) - D + backoff(h) p_word(w)) / c(h)

In a product of experts with weights of either sign, the ratio of two of them, after a longer and a shorter context, is
the effect of the longer one.

References: contexts of words and of characters together, Teahan and Cleary (1997), Models of English text, DCC '97;
discounts, Chen and Goodman (1998), TR-10-98, Harvard.

Shapes: B batch_size, T characters, N characters of text, V vocab_size, n order, M positions, K experts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.data.vocab import BLANK, BREAK, OTHER
from charlm.ngrams.char_ngram import Contexts, InterpolatedNGram
from charlm.ngrams.interpolation import Floats, discounts, interpolate, interpolate_each, interpolation_terms
from charlm.ngrams.levels import Ints, Level, Span, count_keys, merge_level
from charlm.ngrams.word_contexts import (
    LENGTH,
    N_CONTEXTS,
    N_FOLDED_LEVELS,
    N_FOLDED_STATE,
    N_WORD_LEVELS,
    N_WORD_STATE,
    folded_contexts,
    folded_contexts_step,
    nearest_known,
    start_of_contexts,
    word_contexts,
    word_contexts_step,
)


class InterpolatedWordNGram(InterpolatedNGram):
    """Character and word n-grams as two experts, and one for each context of folded words.

    Args:
        vocab_size: V.
        order: n, of the characters.
        folded_words: with the experts of folded words.
        chunk_chars: characters per block of the count, to limit memory.

    Attributes:
        char_classes: class of each symbol, uint8, (V,).
        lower: index of the lower-case form of each symbol, int64, (V,).
        n_levels: number of contexts of words and of folded words.
        word_levels: counts of symbols after each of these contexts, but after l of white space only; keys are
            context * V + symbol.
    """

    def __init__(self, vocab_size: int, order: int, folded_words: bool = False, chunk_chars: int = 1 << 21) -> None:
        self.char_classes, self.lower = np.full(vocab_size, OTHER, np.uint8), np.arange(vocab_size)
        self.folded_words, self.n_levels = folded_words, N_WORD_LEVELS + N_FOLDED_LEVELS * folded_words
        self.n_experts = 2 + N_FOLDED_LEVELS * folded_words
        self.word_levels = [Level.empty()] * self.n_levels
        self.chunk_chars = chunk_chars
        super().__init__(vocab_size, order)

    @property
    def n_counts(self) -> int:
        """Number of counts."""
        return super().n_counts + sum(len(level.keys) for level in self.word_levels)

    def _fit_discounts(self) -> None:
        super()._fit_discounts()
        self._word_discounts = np.array([discounts(level.counts) for level in self.word_levels])
        self._white = np.flatnonzero(self.char_classes >= BLANK)
        self._class_of = self.char_classes.tolist()
        self._lower_of = self.lower.tolist()
        self._line_length = nearest_known(np.unique(self.word_levels[LENGTH].keys // self.vocab_size))

    @property
    def kind(self) -> tuple[Any, ...]:
        """Counts of one kind can be added; see `Trie.kind`."""
        return *super().kind, self.folded_words

    def count(
        self,
        ids: NDArray[np.integer[Any]],
        char_classes: NDArray[np.uint8] | None = None,
        lower: Ints | None = None,
    ) -> None:
        """Count a text, replacing earlier counts; see `InterpolatedNGram.count`.

        Without classes every symbol is a word, and without lower-case forms each is its own.
        """
        self.char_classes = np.full(self.vocab_size, OTHER, np.uint8) if char_classes is None else char_classes.copy()
        self.lower = np.arange(self.vocab_size) if lower is None else lower.copy()
        self.word_levels = [Level.empty()] * self.n_levels
        super().count(ids)

    def update(self, ids: NDArray[np.integer[Any]], n_known: int) -> None:
        """Add the counts of a text to the present ones; see `Trie.update`."""
        start, levels = start_of_contexts(self.char_classes[ids[:n_known]]), self.word_levels
        *_, state = self.initial_state(1)
        for begin in range(start, len(ids), self.chunk_chars):
            chars = ids[begin : begin + self.chunk_chars].astype(np.int64)
            contexts, state = self._word_contexts(chars[None], state)
            first, stop = max(begin, n_known - 1), min(begin + self.chunk_chars, len(ids) - 1)
            if first < stop:
                symbols = ids[first + 1 : stop + 1].astype(np.int64)
                levels = self._merged(levels, contexts[:, 0, first - begin : stop - begin], symbols)
        self.word_levels = levels
        super().update(ids, n_known)

    def _word_contexts(self, chars: Ints, state: Ints) -> tuple[Ints, Ints]:
        """Return the contexts of the levels after each character, int64, (levels, B, T), and the state; see `read`."""
        contexts, after = word_contexts(chars, self.char_classes, state[:, :N_WORD_STATE])
        if not self.folded_words:
            return contexts, after
        folded, after_folded = folded_contexts(chars, self.char_classes, self.lower, state[:, N_WORD_STATE:])
        return np.concatenate([contexts, folded]), np.column_stack([after, after_folded])

    def _merged(self, levels: list[Level], contexts: Ints, symbols: Ints) -> list[Level]:
        """Return levels with the counts of symbols, (T,), after contexts, (levels, T)."""
        merged = []
        for k, (level, context) in enumerate(zip(levels, contexts, strict=True)):
            keys = context * self.vocab_size + symbols
            if k == LENGTH:
                keys = keys[self.char_classes[symbols] >= BLANK]
            more = count_keys(keys)
            merged.append(merge_level(level, more)[0] if len(level.keys) else more)
        return merged

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what a checkpoint stores, by name."""
        levels = enumerate(self.word_levels, 1)
        words = {f"word_{name}_{k}": array for k, level in levels for name, array in level._asdict().items()}
        kinds = {"char_classes": self.char_classes} | ({"lower": self.lower} if self.folded_words else {})
        return super().arrays() | words | kinds

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Replace the counts by stored ones; see `Trie.load`."""
        names = [(f"word_keys_{k}", f"word_counts_{k}") for k in range(1, self.n_levels + 1)]
        try:
            levels = [Level(arrays[keys], arrays[counts]) for keys, counts in names]
            classes, lower = arrays["char_classes"], arrays["lower"] if self.folded_words else self.lower
        except KeyError as error:
            raise ValueError(f"counts of words miss {error}") from None
        if classes.dtype != np.uint8 or classes.shape != (self.vocab_size,) or (classes > BREAK).any():
            raise ValueError("char_classes must be one of 0, 1, 2, 3 for each symbol, uint8")
        if (
            lower.dtype != np.int64
            or lower.shape != (self.vocab_size,)
            or not ((lower >= 0) & (lower < self.vocab_size)).all()
        ):
            raise ValueError("lower must be the index of a symbol for each symbol, int64")
        for k, level in enumerate(levels, 1):
            level.check(N_CONTEXTS * self.vocab_size, f"level {k} of words")
        before = self.char_classes, self.lower, self.word_levels
        self.char_classes, self.lower, self.word_levels = classes, lower, levels
        try:
            super().load(arrays)
        except ValueError:
            self.char_classes, self.lower, self.word_levels = before
            raise

    def initial_state(self, n_texts: int) -> tuple[Ints, ...]:
        """Return the state before the first characters of B texts; see `read`."""
        n_words = N_WORD_STATE + N_FOLDED_STATE * self.folded_words
        return (*super().initial_state(n_texts), np.zeros((n_texts, n_words), np.int64))

    def read(self, chars: Ints, state: tuple[Ints, ...] | None = None) -> tuple[Ints, tuple[Ints, ...]]:
        """Find the contexts after each character of a batch of texts.

        Args:
            chars: indices, int64, (B, T).
            state: from the previous call; None before the first characters.

        Returns:
            contexts: the nodes of `InterpolatedNGram.read`, then the contexts of words, int64, (n - 1 + levels, B, T).
            state: that of `InterpolatedNGram.read`, and those of `word_contexts` and `folded_contexts`, (B, 4 or 9).
        """
        before_chars, before_words = self.initial_state(len(chars)) if state is None else state
        nodes, of_chars = super().read(chars, (before_chars,))
        words, of_words = self._word_contexts(chars, before_words)
        return np.concatenate([nodes, words]), (*of_chars, of_words)

    def step(self, char: int, state: Any = None) -> tuple[list[int], Any]:
        """Find the contexts after one character of one text; see `InterpolatedNGram.step`."""
        of_chars, of_words, of_folded = (None, (0,) * N_WORD_STATE, (0,) * N_FOLDED_STATE) if state is None else state
        nodes, of_chars = super().step(char, of_chars)
        words, of_words = word_contexts_step(char, self._class_of[char], of_words)
        if self.folded_words:
            folded, of_folded = folded_contexts_step(self._lower_of[char], self._class_of[char], of_folded)
            words += folded
        return nodes + words, (of_chars, of_words, of_folded)

    def expert_probs(self, contexts: Contexts) -> tuple[Floats, ...]:
        """Return p_char, p_word and those of folded words; see `InterpolatedNGram.expert_probs`."""
        (by_chars,) = super().expert_probs(contexts)
        contexts = contexts[self.order - 1 :]
        words, line, folded = slice(0, LENGTH), slice(LENGTH, LENGTH + 1), slice(N_WORD_LEVELS, self.n_levels)
        by_words = interpolate(by_chars, self._spans(words, contexts[words]), self._word_discounts[words])
        known, row = _distinct(self._line_length[contexts[LENGTH]])
        seen, rest = interpolation_terms(self._spans(line, [known]), self._word_discounts[line], self.vocab_size, 1)
        seen, by_space = (part.take(self._white, axis=1) for part in (seen, by_words))
        by_words[:, self._white] = by_space.sum(axis=1, keepdims=True) * seen[row] + rest[row, None] * by_space
        if not self.folded_words:
            return by_chars, by_words
        different, rows = zip(*map(_distinct, contexts[folded]), strict=True)
        each = interpolate_each(by_words, self._spans(folded, different), rows, self._word_discounts[folded])
        return by_chars, by_words, *each

    def _spans(self, levels: slice, contexts: Any) -> list[Span]:
        """Return the children of the contexts of some levels of words."""
        parts = zip(self.word_levels[levels], contexts, strict=True)
        return [level.span(context, self.vocab_size) for level, context in parts]


def _distinct(contexts: Any) -> tuple[Any, Any]:
    """Return the different contexts, ascending, and the index of each of M among them; for one context, it and 0."""
    return np.unique(contexts, return_inverse=True) if isinstance(contexts, np.ndarray) else (contexts, 0)
