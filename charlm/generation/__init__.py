"""A trained model in use: text generation and scoring.

Read first: sampler.py (one text, character by character), then language_model.py.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
