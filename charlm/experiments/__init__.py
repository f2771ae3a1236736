"""Studies on top of training: benchmark, lesson, learning-rate range test, evaluation, comparison of runs.

Read first: bench/, lesson.py. trained_models.py: models as `charlm eval` and `charlm sample` use them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
