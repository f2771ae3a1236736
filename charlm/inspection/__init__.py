"""Looking into a trained model, and showing it to others.

Read first: scores.py (bits of each character of a text, for totals.py and surprises.py), report.py (the sections of
`charlm inspect`) and page.py (a model as one HTML file that runs it).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
