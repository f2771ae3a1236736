"""Contexts of a context mixing model: characters, words and their stems, groups of symbols, the column.

A context is a number (a hash) made of the text before a character; positions with the same number share their
statistics. A selector is a small number of the same kind, which chooses a set of weights. In the contexts of words, a
word is a run of letters or one mark, letters are in lower case, and white space is one symbol.

Reference: Mahoney (2005), Adaptive weighing of context models for lossless data compression, CS-2005-16, Florida Tech.

Shapes: N characters, K contexts.
"""

from __future__ import annotations

import numpy as np

from charlm.data.vocab import BLANK, BREAK, LETTER, Vocab
from charlm.ngrams.levels import Ints
from charlm.ngrams.symbol_tree import SymbolTree

STEM = 4  # letters
GROUP_BITS = 4
SPACE = 1  # number of a blank or line break; that of symbol i is i + 2, and 0 stands for the beginning of the text


def read_contexts(ids: Ints, tree: SymbolTree, vocab: Vocab) -> tuple[Ints, Ints]:
    """Return the contexts, int64, (N, K), and the selectors, (N, selectors), before each character of a text, (N,)."""
    reader = ContextReader(tree, vocab)
    contexts = np.empty((len(ids), len(reader.contexts())), np.int64)
    selectors = np.empty((len(ids), len(reader.selectors())), np.int64)
    for position, char in enumerate(ids.tolist()):
        contexts[position], selectors[position] = reader.contexts(), reader.selectors()
        reader.read(char)
    return contexts, selectors


class ContextReader:
    """Contexts and selectors of one text, character by character.

    Args:
        tree: of the symbols; its groups are classes of symbols.
        vocab: of the text.
    """

    def __init__(self, tree: SymbolTree, vocab: Vocab) -> None:
        self.base, self.classes = len(vocab) + 2, vocab.char_classes.tolist()
        self.lower = vocab.lower.tolist()
        self.groups = tree.groups(GROUP_BITS)
        # The last 6 characters, the last 8 in lower case, the groups of the last 8.
        self.chars = self.lower_chars = self.last_groups = 0
        # The current word and its first letters, the first letters of the last word, the last mark, the word after it.
        self.word = self.beginning = self.last_stem = self.last_mark = self.first_word = 0
        self.last_words = 0, 0, 0  # the last one first
        self.n_letters = self.last_n_letters = self.column = 0
        self.after_word: dict[int, int] = {}  # the word that followed a word the last time

    def read(self, char: int) -> None:
        """Read one more character."""
        base, char_class, lower = self.base, self.classes[char], self.lower[char] + 2
        is_space = char_class in (BLANK, BREAK)
        self.chars = (self.chars * base + char + 2) % base**6
        self.lower_chars = (self.lower_chars * base + (SPACE if is_space else lower)) % base**8
        self.last_groups = (self.last_groups << GROUP_BITS | self.groups[char]) % (1 << 8 * GROUP_BITS)
        if char_class == LETTER:
            self.word = hash((self.word, lower))
            self.n_letters += 1
            if self.n_letters <= STEM:
                self.beginning = self.word
        else:
            if self.n_letters:
                self._end_word(self.word, self.beginning, self.n_letters)
                self.first_word = self.first_word or self.word
            if not is_space:
                self._end_word(lower, lower, 0)
                self.last_mark, self.first_word = lower, 0
            self.word = self.beginning = self.n_letters = 0
        self.column = 0 if char_class == BREAK else self.column + 1

    def _end_word(self, word: int, stem: int, n_letters: int) -> None:
        self.after_word[self.last_words[0]] = word
        self.last_words, self.last_stem, self.last_n_letters = (word, *self.last_words[:2]), stem, n_letters

    def contexts(self) -> list[int]:
        """Return the contexts before the next character, K integers of 64 bits."""
        base, chars = self.base, self.chars
        word = self.word, self.lower_chars % base  # between two words, the second tells what was there
        last, second, third = self.last_words
        is_between = self.n_letters == 0
        contexts = [
            *(chars % base**order for order in range(1, 7)),
            self.lower_chars,
            word,
            (word, second),
            (word, last, second),
            (word, self.last_mark),
            (word, self.last_stem),
            (word, second, third),
            (word, self.first_word),
            (word, self.after_word.get(last, 0)),
            (last, is_between),
            self.last_groups,
            chars // base % base**3,  # a skip: all but the last of four
            (self.column, is_between),
            (self.last_mark, self.n_letters, chars % base**2),
        ]
        return [hash(context) for context in contexts]

    def selectors(self) -> list[int]:
        """Return the selectors before the next character; the first is the last character."""
        return [
            self.chars % self.base,
            min(self.n_letters, 15) * 4 + min(self.last_n_letters, 3),
            self.last_mark * 9 + min(self.n_letters, 8),
            self.last_groups % (1 << 3 * GROUP_BITS),
        ]
