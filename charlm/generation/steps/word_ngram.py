"""Steps of `word-ngram`: beside the nodes of a trie, the letters of this word so far, the words before, and the line.

    b <- (b FACTOR + letter + 1) mod MODULUS; where a word ends, u <- v, v <- b and b <- 0; where a mark stands, u <- v
        and v <- mark + 1
    v b is b xor h(v), and u v b is b xor h(v xor h(u)), with h(x) = (x SPREAD mod 2^64) / 2^20
    l <- l + 1; where a line ends, l <- 0
    p = (p_ngram + p_word) / 2, where p_word goes on from p_ngram by what followed b, v b, and u v b; l says which
        white space it is

models/word_ngram.py says more. Shapes: ... nothing for one text, B for many, V vocab_size, n order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.generation.steps.base import Array, Char, Rows, Steps, Weights
from charlm.generation.steps.ngram import InterpolatedNGram, Level, Trie, Whole, take_level, take_levels

OTHER, LETTER, BLANK, BREAK = range(4)
N_WORD_LEVELS, MAX_LENGTH = 4, 255
N_CONTEXTS = 2**44
MODULUS, FACTOR = 2**44 - 17, 262_139
SPREAD = 6_364_136_223_846_793_005


class Words:
    """A trie's walk, and the contexts of words.

    Args:
        trie: of the n-grams.
        char_classes: of the symbols, uint8, (V,).
    """

    def __init__(self, trie: Trie, char_classes: NDArray[np.uint8]) -> None:
        self.trie, self.char_classes, self.kind_of = trie, char_classes, char_classes.tolist()

    @property
    def states(self) -> list[Whole]:
        """Return the nodes, and b, v, u and l."""
        return [*self.trie.states, self.words]

    def allocate(self, rows: Rows) -> None:
        """Make room for so many texts."""
        self.trie.allocate(rows)
        self.words = np.zeros((*rows, N_WORD_LEVELS), np.int64)

    def step(self, char: Char) -> tuple[Whole, list[Any]]:
        """Return the nodes, (..., n - 1), and contexts: of b, v b, u v b, and l, each one number or (B,)."""
        begun: Any
        before: Any
        further: Any
        length: Any
        if type(char) is int:
            begun, before, further, length = self.words.tolist()
            kind = self.kind_of[char]
            length = 0 if kind == BREAK else min(length + 1, MAX_LENGTH)
            if kind == LETTER:
                begun = (begun * FACTOR + char + 1) % MODULUS
            else:
                if begun:
                    further, before, begun = before, begun, 0
                if kind == OTHER:
                    further, before = before, char + 1
            self.words[:] = begun, before, further, length
        else:
            begun, before, further, length = self.words.T.copy()
            char_classes = self.char_classes[char]
            length = np.where(char_classes == BREAK, 0, np.minimum(length + 1, MAX_LENGTH))
            ends, is_mark = (char_classes != LETTER) & (begun != 0), char_classes == OTHER
            further, before = np.where(ends, before, further), np.where(ends, begun, before)
            further, before = np.where(is_mark, before, further), np.where(is_mark, char + 1, before)
            begun = np.where(char_classes == LETTER, (begun * FACTOR + char + 1) % MODULUS, 0)
            self.words[:] = np.stack([begun, before, further, length], axis=1)
        both, three = begun ^ spread(before), begun ^ spread(before ^ spread(further))
        return self.trie.step(char), [begun, both, three, length]


def spread(words: Any) -> Any:
    """Return h of a number, or of an array of int64: below 2^44, and what was near to another no longer is."""
    return words * SPREAD >> 20 & N_CONTEXTS - 1


class InterpolatedWordNGram(InterpolatedNGram):
    """From nodes and contexts to what is expected.

    Args:
        levels: 1, 2, ..., n of the n-grams.
        words: what followed b, v b, u v b, and, of white space, l.
        is_white: whether a symbol is white space, bool, (V,).
    """

    def __init__(self, levels: Sequence[Level], words: Sequence[Level], is_white: NDArray[np.bool_]) -> None:
        super().__init__([*levels, *words], len(is_white), "kneser-ney")
        self.order, self.is_white = len(levels), is_white

    def both(self, found: tuple[Whole, list[Any]]) -> tuple[Any, Any]:
        """Return p_ngram and p_word, each (1, V), or (B, V)."""
        nodes, contexts = found
        *of_words, length = (context + 1 for context in contexts)
        by_chars = self.by_chars(nodes)
        by_words = self.probs(range(self.order, self.order + len(of_words)), of_words, by_chars)
        white = (by_words * self.is_white).sum(axis=1, keepdims=True)
        by_length = by_words * self.is_white / np.maximum(white, np.finfo(np.float64).tiny)
        by_length = self.probs([self.order + len(of_words)], [length], by_length)
        return by_chars, np.where(self.is_white, white * by_length, by_words)

    def expert_log_probs(self, found: Any, out: Array) -> None:
        """Write the logarithms of both into the first two of K opinions, float, (B, K, V)."""
        for i, probs in enumerate(self.both(found)):
            self.safe_log(probs, out[:, i])

    def step(self, found: Any) -> Array:
        """Return the logits, float, (..., V)."""
        by_chars, by_words = self.both(found)
        self.safe_log((by_chars + by_words) / 2, self.logits if self.rows else self.logits[None])
        return self.logits


def take_words(weights: Weights, name: str) -> tuple[Words, InterpolatedWordNGram, int]:
    """Take counts of characters and of words out of the weights.

    Args:
        weights: of the model.
        name: of the counts in it.

    Returns:
        what walks, what it then expects, and n.

    Raises:
        ValueError: they do not hold together.
    """
    vocab_size, levels = weights.vocab_size, take_levels(weights, name)
    is_whole = weights.shape(f"{name}.char_classes", 1) == (vocab_size,)
    char_classes = weights.arrays.pop(f"{name}.char_classes")
    if not is_whole or char_classes.dtype != np.uint8 or char_classes.max() > BREAK:
        raise ValueError("the kinds of symbols are not one of four for each")
    words = [take_level(weights, f"{name}.word_{{}}_{k}", N_CONTEXTS * vocab_size) for k in range(1, N_WORD_LEVELS + 1)]
    trie = Trie(levels[:-1], vocab_size)
    return Words(trie, char_classes), InterpolatedWordNGram(levels, words, char_classes >= BLANK), len(levels)


def word_ngram(weights: Weights) -> Steps:
    """Prepare the steps of `word-ngram`."""
    words, head, order = take_words(weights, "counts")
    return Steps([words], head, {"order": order})
