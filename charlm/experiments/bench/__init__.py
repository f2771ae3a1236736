"""Benchmark: models on one text under the one protocol, with one budget and several seeds, beside counting.

Read first: contest.py (the order of a benchmark), entry.py (names to recipes), rows.py (one training, one row),
tuning.py (with space.py and search.py), intervals.py. results.py is the file that holds everything, merging.py makes
one of several; tables.py, latex.py and figures.py show it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
