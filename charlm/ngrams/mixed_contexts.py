"""Contexts of a context mixing model: characters, words, word and symbol classes, columns, skips, what followed before.

Each context is a number (a hash) after each character; two positions with the same number share their counts. White
space is one symbol and letters are in lower case in the contexts of words. Notation: b letters of the current word, v
u t the last, second last and third last word or mark, s the word that followed v the last time.

Selectors are small numbers, which choose sets of weights.

Reference: Mahoney (2005), Adaptive weighing of context models for lossless data compression, CS-2005-16, Florida Tech.
"""

from __future__ import annotations

from collections.abc import Sequence

from charlm.data.vocab import BLANK, BREAK, LETTER
from charlm.ngrams.symbol_tree import SymbolTree

STEM = 4  # letters


class ContextReader:
    """Contexts and selectors of one text, character by character.

    Args:
        tree: of the symbols.
        char_classes: class of each symbol, see `Vocab.char_classes`.
        folded: for each symbol the index of its lower-case form.
    """

    def __init__(self, tree: SymbolTree, char_classes: Sequence[int], folded: Sequence[int]) -> None:
        self.base = len(folded) + 2
        self.classes, self.folded = list(char_classes), list(folded)
        self.coarse, self.fine = tree.groups(3), tree.groups(4)
        self.recent = self.plain = self.coarse_kinds = self.fine_kinds = 0
        self.prefix = self.stem_prefix = self.stem = self.mark = self.first_word = self.last = 0
        self.words = (0, 0, 0)  # v, u, t
        self.n_letters = self.last_length = self.column = 0
        self.after_word: dict[int, int] = {}
        self.after_pair: dict[int, int] = {}

    def step(self, char: int) -> tuple[list[int], list[int]]:
        """Return the contexts, 22 integers of 64 bits, and the selectors after one more character."""
        base, kind, letter = self.base, self.classes[char], self.folded[char] + 2
        pair = self.recent % base**2
        self.after_pair[pair] = self.after_pair.get(pair, 0) * base % base**2 + char + 2
        self.recent = (self.recent * base + char + 2) % base**6
        self.plain = (self.plain * base + (1 if kind in (BLANK, BREAK) else letter)) % base**8
        self.coarse_kinds = (self.coarse_kinds << 3 | self.coarse[char]) & (1 << 36) - 1
        self.fine_kinds = (self.fine_kinds << 4 | self.fine[char]) & (1 << 32) - 1
        if kind == LETTER:
            self.prefix = hash((self.prefix, letter))
            self.n_letters += 1
            self.stem_prefix = self.prefix if self.n_letters <= STEM else self.stem_prefix
        else:
            if self.n_letters:
                self._end_word(self.prefix, self.stem_prefix, self.n_letters)
                self.first_word = self.first_word or self.prefix
            self.prefix = self.stem_prefix = self.n_letters = 0
            if kind not in (BLANK, BREAK):
                self._end_word(letter, letter, 0)
                self.mark, self.first_word = letter, 0
        self.column = 0 if kind == BREAK else self.column + 1
        return self.now()

    def now(self) -> tuple[list[int], list[int]]:
        """Return the contexts and the selectors after the last character."""
        return self._contexts(), self._selectors()

    def _end_word(self, word: int, stem: int, length: int) -> None:
        self.after_word[self.words[0]] = word
        self.words, self.stem, self.last_length = (word, *self.words[:2]), stem, length

    def _contexts(self) -> list[int]:
        base, recent, plain, last = self.base, self.recent, self.plain, self.plain % self.base
        begun, (v, u, t) = (self.prefix, last), self.words
        contexts = [
            *((j, recent % base**j) for j in range(1, 7)),
            (8, plain),
            (9, *begun),
            (10, *begun, u),
            (11, *begun, v, u),
            (12, *begun, self.mark),
            (13, *begun, self.stem),
            (14, *begun, u, t),
            (15, *begun, self.first_word),
            (16, *begun, self.after_word.get(v, 0)),
            (17, v, self.n_letters == 0),
            (18, self.fine_kinds),
            (19, self.coarse_kinds),
            (20, recent // base % base**3),
            (21, self.column, self.n_letters == 0),
            (22, self.mark, self.n_letters, recent % base**2),
            (23, self.after_pair.get(recent % base**2, 0), recent % base),
        ]
        return list(map(hash, contexts))

    def _selectors(self) -> list[int]:
        return [
            self.recent % self.base,
            min(self.n_letters, 15) * 4 + min(self.last_length, 3),
            self.mark * 9 + min(self.n_letters, 8),
            self.fine_kinds % 16**3,
        ]
