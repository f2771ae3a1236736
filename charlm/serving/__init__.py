"""Serving: trained models behind OpenAI's completions protocol, over HTTP.

Read first: app.py (the addresses), completions.py (a request from JSON to its response), scheduler.py (the thread that
computes). lanes.py: one text. batch.py: many texts as one batch. guard.py: what is refused before anything is read.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
