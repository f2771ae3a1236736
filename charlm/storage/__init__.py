"""Checkpoint files and run folders.

Read first: checkpoint.py.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
