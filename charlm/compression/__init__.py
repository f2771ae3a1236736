"""Lossless compression: the probabilities of a model, and a range coder.

Read first: coding.py (characters to bits and back), then codec.py (a stream of bytes to a file). file_format.py: what
the file holds. predictors.py: the probabilities of the next character. quantization.py: probabilities to integers.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
