"""Counts of character and word contexts, in numpy, and the distributions interpolated from them.

Read first: interpolation.py (the formula), then trie.py (counts of one text) and char_ngram.py.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
