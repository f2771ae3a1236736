"""Character-level language models: train, compare, sample, score.

Read first: api.py (`load` and `train`). The folders, from the bottom up: data, ngrams, cells, models, evaluation,
storage, generation, training, experiments, cli. A folder imports only from those before it; its `__init__.py` says
what it holds and imports it when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
