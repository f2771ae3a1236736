from .byte_stream import ByteStream
from .corpus import Corpus, make_corpus
from .feeds import Chunks, Feed, Stream, Windows
from .named_texts import TEXTS, open_texts
from .vocab import Vocab

__all__ = [
    "TEXTS",
    "ByteStream",
    "Chunks",
    "Corpus",
    "Feed",
    "Stream",
    "Vocab",
    "Windows",
    "make_corpus",
    "open_texts",
]
