from .cache_model import CacheCounts
from .trie import Trie

__all__ = [
    "CacheCounts",
    "Trie",
]
