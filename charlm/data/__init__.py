"""From the bytes of a file to batches of indices.

A text goes through these files, in this order:

    named_texts.py    a name, file or folder to a stream of bytes; text_table.py: the names; user_texts.py: texts
                      that the user has added; generated_texts.py, synthetic_texts.py and debian_texts.py: texts
                      without a file; download.py
    byte_stream.py    a stream of bytes that can be read repeatedly
    encoding.py       bytes to code points
    vocab.py          code points to indices and back
    arrangement.py    the order in which some splits cut a text
    corpus.py         the indices of a text, split into training, validation and test part; read this first
    cache.py          the indices of a large text in a memory-mapped file
    feeds.py          indices to batches: windows, chunks or a stream
    permutation.py    the shuffled order of windows and chunks
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
