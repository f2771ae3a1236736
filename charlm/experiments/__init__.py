"""Studies on top of training: benchmark, lesson, learning-rate range test, evaluation, comparison of runs.

Read first: bench.py.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
