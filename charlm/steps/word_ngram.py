"""Steps of `word-ngram`: beside the nodes of a trie, the letters of this word so far and the word before.

    b <- (b FACTOR + letter + 1) mod MODULUS; where a word ends, v <- b and b <- 0; where a mark stands, v <- mark + 1
    p = (p_ngram + p_word) / 2, where p_word goes on from p_ngram by what followed b, and by what followed v and b

models/word_ngram.py says more. Shapes: ... nothing for one text, B for many, V vocab_size, n order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlm.steps.base import Array, Char, Rows, Steps, Weights
from charlm.steps.ngram import Level, Smoothed, Trie, Whole, take_level, take_levels

OTHER, LETTER = 0, 1
MODULUS = 2**44 - 17
FACTOR, BEFORE = 262_139, 131_071


class Words:
    """A trie's walk, and the contexts of words.

    Args:
        trie: of the n-grams.
        kinds: of the symbols, uint8, (V,).
    """

    def __init__(self, trie: Trie, kinds: NDArray[np.uint8]) -> None:
        self.trie, self.kinds, self.kind_of = trie, kinds, kinds.tolist()

    @property
    def states(self) -> list[Whole]:
        """Return the nodes, and b and v."""
        return [*self.trie.states, self.words]

    def allocate(self, rows: Rows) -> None:
        """Make room for so many texts."""
        self.trie.allocate(rows)
        self.words = np.zeros((*rows, 2), np.int64)

    def step(self, char: Char) -> tuple[Whole, list[Any]]:
        """Return the nodes, (..., n - 1), and the contexts, of b, and of v and b, each one number or (B,)."""
        begun: Any
        before: Any
        if type(char) is int:
            begun, before = self.words.tolist()
            kind = self.kind_of[char]
            before = char + 1 if kind == OTHER else begun if kind != LETTER and begun else before
            begun = (begun * FACTOR + char + 1) % MODULUS if kind == LETTER else 0
            self.words[:] = begun, before
        else:
            begun, before = self.words.T.copy()
            kinds = self.kinds[char]
            ended = np.where((kinds != LETTER) & (begun != 0), begun, before)
            before = np.where(kinds == OTHER, char + 1, ended)
            begun = np.where(kinds == LETTER, (begun * FACTOR + char + 1) % MODULUS, 0)
            self.words[:, 0], self.words[:, 1] = begun, before
        return self.trie.step(char), [begun, (before * BEFORE + begun) % MODULUS]


class WordSmoothed(Smoothed):
    """From nodes and contexts to what is expected.

    Args:
        levels: 1, 2, ..., n of the n-grams.
        words: what followed b, and v and b.
        vocab_size: V.
    """

    def __init__(self, levels: Sequence[Level], words: Sequence[Level], vocab_size: int) -> None:
        super().__init__([*levels, *words], vocab_size, "kneser-ney")
        self.order = len(levels)

    def allocate(self, rows: Rows) -> None:
        """Make room for so many texts."""
        super().allocate(rows)
        self.logs = np.empty((*rows, 2 * self.vocab_size), np.float32)

    def both(self, found: tuple[Whole, list[Any]]) -> tuple[Any, Any]:
        """Return p_ngram and p_word, each (1, V), or (B, V)."""
        nodes, contexts = found
        by_chars = self.by_chars(nodes)
        return by_chars, self.probs((self.order, self.order + 1), [node + 1 for node in contexts], by_chars)

    def opinions(self, found: Any) -> Array:
        """Return the logarithms of both, one after the other, float, (..., 2 V)."""
        logs = self.logs if self.rows else self.logs[None]
        for i, probs in enumerate(self.both(found)):
            self.logarithm(probs, logs[:, i * self.vocab_size : (i + 1) * self.vocab_size])
        return self.logs

    def step(self, found: Any) -> Array:
        """Return the logits, float, (..., V)."""
        by_chars, by_words = self.both(found)
        self.logarithm((by_chars + by_words) / 2, self.logits if self.rows else self.logits[None])
        return self.logits


def take_words(weights: Weights, name: str) -> tuple[Words, WordSmoothed, int]:
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
    is_whole = weights.shape(f"{name}.kinds", 1) == (vocab_size,)
    kinds = weights.arrays.pop(f"{name}.kinds")
    if not is_whole or kinds.dtype != np.uint8 or kinds.max() > 2:
        raise ValueError("the kinds of symbols are not one of three for each")
    words = [take_level(weights, f"{name}.word_{{}}_{k}", MODULUS * vocab_size) for k in (1, 2)]
    trie = Trie(levels[:-1], vocab_size)
    return Words(trie, kinds), WordSmoothed(levels, words, vocab_size), len(levels)


def word_ngram(weights: Weights) -> Steps:
    """Prepare the steps of `word-ngram`."""
    words, head, order = take_words(weights, "head")
    return Steps([words], head, {"order": order})
