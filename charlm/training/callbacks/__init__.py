"""Additions to the training loop, one callback each.

Read first: `Callback` in ../loop.py, then measuring.py.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
