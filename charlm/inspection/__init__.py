"""Looking into a trained model, and showing it to others.

Read first: page.py (a model as one HTML file). scores.py: bits of each
character of a text; totals.py: their sums and the surprising places. embedding.py: the embedding as a map.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
