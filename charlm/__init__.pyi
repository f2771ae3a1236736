from .api import load, train
from .generation import LanguageModel
from .version import __version__

__all__ = ["LanguageModel", "__version__", "load", "train"]
