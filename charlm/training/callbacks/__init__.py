"""Additions to the training loop, one callback each.

Read first: `Callback` in ../loop.py, then measuring.py (values), reporting.py (where they are written) and steering.py
(gradient, learning rate, early stopping).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
