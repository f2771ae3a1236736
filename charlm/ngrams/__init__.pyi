from .char_ngram import InterpolatedNGram
from .trie import Trie
from .word_ngram import InterpolatedWordNGram

__all__ = [
    "InterpolatedNGram",
    "InterpolatedWordNGram",
    "Trie",
]
