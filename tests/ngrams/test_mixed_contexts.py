"""Contexts of a context mixing model."""

import numpy as np
import pytest

from charlm.data.vocab import Vocab, code_points
from charlm.ngrams.mixed_contexts import read_contexts
from charlm.ngrams.symbol_tree import SymbolTree

VOCAB = Vocab(code_points("abcdeABCDE .,\n"))
TREE = SymbolTree(VOCAB.encode("abc, dea. Bed bad\ncab"), len(VOCAB))
LAST_1, LAST_4, LOWER_8, WORD, MARK, STEM, FIRST, AFTER, COLUMN = 0, 3, 6, 7, 10, 11, 13, 14, 18


def contexts_after(text):
    return read_contexts(VOCAB.encode(f"{text}a"), TREE, VOCAB)[0][-1]


@pytest.mark.parametrize(
    ("context", "text", "same", "other"),
    [
        (LAST_1, "ab", "cb", "bc"),
        (LAST_4, "eabcd", "babcd", "aabce"),
        (LOWER_8, "a\nBcdeabc", "eA bcdeABC", "eA bcdeABD"),
        (WORD, "abc dE", "cab\nDe", "abc ed"),
        (MARK, "a, b", "c, d b", "a. b"),
        (STEM, "abcde a", "abcd a", "abce a"),
        (FIRST, "e. ab c d", ", ab e d", ". ac c d"),
        (AFTER, "ab c ab ", "ab d ab c ab ", "ab d ab "),
        (COLUMN, "abc\nde", "a\nba", "abc"),
    ],
)
def test_a_context_is_the_same_after_texts_that_agree_in_it(context, text, same, other):
    contexts = [contexts_after(each)[context] for each in (text, same, other)]
    assert contexts[0] == contexts[1] != contexts[2]


def test_all_contexts_and_selectors_depend_on_the_text_before_alone():
    whole = read_contexts(VOCAB.encode("abc, dea. Bed bad\ncab"), TREE, VOCAB)
    for n in range(1, 21):
        part = read_contexts(VOCAB.encode("abc, dea. Bed bad\ncab"[:n]), TREE, VOCAB)
        assert all((short == long[:n]).all() for short, long in zip(part, whole, strict=True))


def test_symbols_beyond_ascii_and_bytes_have_contexts():
    for vocab in (Vocab(code_points("İ€ß\n")), Vocab(range(60, 70), is_bytes=True)):
        ids = np.arange(len(vocab))
        contexts, selectors = read_contexts(ids, SymbolTree(ids[:5], len(vocab)), vocab)
        assert contexts.shape == (len(vocab), 20) and selectors.shape == (len(vocab), 4) and (selectors >= 0).all()
