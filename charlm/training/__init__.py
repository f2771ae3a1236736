"""From a recipe and a text to a trained model.

Read first: loop.py (`fit` and `train_epoch`), then session.py (`train`, which builds what a recipe names).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
