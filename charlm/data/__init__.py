"""From the bytes of a file to batches of indices.

Read first: vocab.py (characters and indices), corpus.py (a text and its parts), feeds.py (batches).
The way of a text: named_texts → byte_stream → encoding → corpus (cache for large texts) → feeds.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
