"""Counts of character and word contexts, in numpy, and the distributions interpolated from them.

Read first: interpolation.py (the formula), then char_ngram.py. The counts of a text: levels.py, trie.py. Contexts of
words: word_contexts.py, word_ngram.py. Counts of recent text: cache_model.py. All of them as experts of `lstm-ngram`:
experts.py. Context mixing: symbol_tree.py, mixed_contexts.py.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
