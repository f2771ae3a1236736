"""Character-level language models: train, compare, sample, score.

Read first: api.py (`load` and `train`). Folders, from the bottom up: data, ngrams, cells, models, evaluation, storage,
generation, training, experiments, cli. A folder imports only from itself and from those before it. Its `__init__.py`
states its content and exports its main names, which are imported on first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
