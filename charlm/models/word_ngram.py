"""N-gram counts of characters and words; no gradients.

    p(w) = (p_char(w) + p_word(w)) / 2

with the two experts of ngrams/word_ngram.py: p_char from the last n - 1 characters (as `ngram`), p_word from the
letters of the current word and the two words before it.

Shapes: V vocab_size, n order.
"""

from __future__ import annotations

from charlm.models.ngram import NGram
from charlm.ngrams.word_ngram import InterpolatedWordNGram


class WordNGram(NGram):
    """Predict each next character by n-gram counts of characters and words.

    Its state is that of `NGram` and that of `ngrams.word_contexts`, long, (B, 4).

    Args:
        vocab_size: V.
        order: n of the characters.
    """

    def __init__(self, vocab_size: int, order: int = 7) -> None:
        super().__init__(vocab_size, order)
        self.counts = InterpolatedWordNGram(vocab_size, order)
